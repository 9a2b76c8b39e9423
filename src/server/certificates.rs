//! The gate's certificates: loaded, watched for being replaced, and complained about before they end.
//!
//! Whoever renews them writes files, one after the other or by turning a link, and tells nobody. So the files are read
//! every few seconds, a few kilobytes each: that works on every file system, for links to links, and where times of files
//! are set back. A file system may take for ever to answer, so a thread of its own reads them, and nobody waits for it. What
//! has changed is taken once it has stayed the same between two looks, and only if it is whole: a certificate whose key has
//! not come yet is left alone until it has, and holds nothing else up.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{io, thread};

use crate::clock::{self, Instant};
use crate::server::Gate;
use crate::server::signals::News;
use crate::tls::certificate::Print;
use crate::tls::config::{self, Authorities, Pair, ServerConfig, ServerOptions, TlsConfigError};

/// How often files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often certificates that are about to end, and files that cannot be used, are named.
const TELL_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a look may take until that is said.
const SLOW_AFTER: Duration = Duration::from_secs(30);

/// TLS towards clients, and what it was made of.
pub(super) struct Serving {
    options: ServerOptions,
    pairs: Vec<Pair>,
    authorities: Option<Authorities>,
    /// Another number for other authorities.
    pub(super) generation: u64,
    pub(super) config: Arc<ServerConfig>,
}

impl Serving {
    /// Loads what `options` name. What has not changed since `before` is the same as before: with it stay the keys that
    /// tickets are sealed with, and with other authorities they must not.
    pub(super) fn load(options: &ServerOptions, before: Option<&Self>) -> Result<Self, TlsConfigError> {
        let pairs = options.identities.iter().map(Pair::load).collect::<Result<_, _>>()?;
        let authorities = options.client_ca.as_deref().map(Authorities::load).transpose()?;
        Self::of(options, pairs, authorities, before)
    }

    /// Loads the same files once more. Those that cannot be used stay as they are: `kept` is told why.
    pub(super) fn renew(&self, kept: &mut Vec<TlsConfigError>) -> Result<Self, TlsConfigError> {
        let mut keep = |error| kept.push(error);
        let identities = self.options.identities.iter().zip(&self.pairs);
        let pairs = identities.map(|(identity, pair)| Pair::load(identity).map_err(&mut keep).unwrap_or(pair.clone()));
        let pairs = pairs.collect();
        let authorities = match (self.options.client_ca.as_deref(), &self.authorities) {
            (Some(file), Some(before)) => Some(Authorities::load(file).map_err(keep).unwrap_or(before.clone())),
            _ => None,
        };
        Self::of(&self.options, pairs, authorities, Some(self))
    }

    fn of(
        options: &ServerOptions,
        pairs: Vec<Pair>,
        authorities: Option<Authorities>,
        before: Option<&Self>,
    ) -> Result<Self, TlsConfigError> {
        let vouching = authorities.as_ref().map(Authorities::print);
        let is_same = |before: &&Self| {
            before.options == *options
                && before.pairs.iter().map(Pair::print).eq(pairs.iter().map(Pair::print))
                && before.authorities.as_ref().map(Authorities::print) == vouching
        };
        let config = match before.filter(is_same) {
            Some(same) => Arc::clone(&same.config),
            None => config::server_of(options, &pairs, authorities.as_ref())?,
        };
        let generation = before.map_or(0, |before| {
            before.generation + u64::from(before.authorities.as_ref().map(Authorities::print) != vouching)
        });
        Ok(Self { options: options.clone(), pairs, authorities, generation, config })
    }

    /// Says which certificates are about to end, or have ended.
    pub(super) fn tell(&self) {
        let now = clock::unix_seconds();
        for (identity, pair) in self.options.identities.iter().zip(&self.pairs) {
            let file = identity.certificate.display();
            match pair.certificate().trouble(now) {
                Some(trouble) if trouble.is_expired => tracing::error!("the certificate {file} {}", trouble.text),
                Some(trouble) => tracing::warn!("the certificate {file} {}", trouble.text),
                None => {}
            }
        }
    }

    fn expired(&self) -> usize {
        let now = clock::unix_seconds();
        let troubles = self.pairs.iter().filter_map(|pair| pair.certificate().trouble(now));
        troubles.filter(|trouble| trouble.is_expired).count()
    }

    /// Its files, those that belong together in one.
    pub(super) fn watched(&self) -> impl Iterator<Item = Watched> {
        let identities = self.options.identities.iter().zip(&self.pairs);
        let pairs = identities.map(|(identity, pair)| Watched {
            files: vec![identity.certificate.clone(), identity.private_key.clone()],
            print: pair.print(),
        });
        let authorities = self.options.client_ca.iter().zip(&self.authorities);
        let authorities = authorities.map(|(file, used)| Watched { files: vec![file.clone()], print: used.print() });
        pairs.chain(authorities)
    }
}

/// Files that belong together, and what is in use of them.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) files: Vec<PathBuf>,
    pub(super) print: Print,
}

/// Looks at the files of a gate, again and again.
pub(super) struct Watch {
    desk: Arc<Desk>,
    tell_at: Instant,
    expired: usize,
    /// Why files are not in use that have changed.
    refused: Vec<String>,
    is_slow: bool,
}

/// What the thread is to look at.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: Vec<Watched>,
    /// When the look began that goes on.
    looking_since: Option<Instant>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Begins to look at the files of `gate`; `news` hears when they have changed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(gate: &Gate, news: News) -> io::Result<Self> {
        let expired = gate.desk.serving.as_ref().map_or(0, Serving::expired);
        if let Some(serving) = gate.desk.serving.as_ref().filter(|_| expired > 0) {
            serving.tell();
        }
        let desk = Arc::new(Desk::default());
        let watch = Self {
            desk: Arc::clone(&desk),
            tell_at: clock::mono() + TELL_EVERY,
            expired,
            refused: Vec::new(),
            is_slow: false,
        };
        watch.follow(gate);
        // Nobody waits for its end: it may be where no answer comes from.
        let looked_at = Arc::downgrade(&desk);
        thread::Builder::new().name("certificates".to_owned()).spawn(move || look_again(&looked_at, &news))?;
        Ok(watch)
    }

    /// Looks at the files of `gate` from now on, as they are in use now.
    pub(super) fn follow(&self, gate: &Gate) {
        self.desk.lock().watched = gate.desk.watched();
    }

    /// Whether files have changed that cannot be used.
    pub(super) fn refuses(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Takes certificates, if they `have_changed`, and names those that are about to end.
    pub(super) fn attend(&mut self, gate: &mut Gate, have_changed: bool) {
        let now = clock::mono();
        let is_time = now >= self.tell_at;
        if is_time {
            self.tell_at = now + TELL_EVERY;
        }
        if have_changed || (is_time && self.refuses()) {
            self.renew(gate, is_time);
        }
        let since = self.desk.lock().looking_since;
        let is_slow = since.is_some_and(|since| now.saturating_duration_since(since) >= SLOW_AFTER);
        if is_slow && !self.is_slow {
            tracing::warn!(
                "the files of certificates cannot be looked at: where they are, nothing answers; a reload would wait for that"
            );
        }
        self.is_slow = is_slow;
        let Some(serving) = &gate.desk.serving else { return };
        let expired = serving.expired();
        if is_time || expired > self.expired {
            serving.tell();
        }
        self.expired = expired;
    }

    fn renew(&mut self, gate: &mut Gate, is_time: bool) {
        let (has_changed, kept) = gate.renew_certificates();
        let refused: Vec<_> = kept.iter().map(ToString::to_string).collect();
        for error in refused.iter().filter(|error| is_time || !self.refused.contains(error)) {
            tracing::error!("certificates have changed, and those in use are kept: {error}");
        }
        self.refused = refused;
        if has_changed {
            tracing::info!("certificates have changed: new connections see the new ones");
            if let Some(serving) = &gate.desk.serving {
                serving.tell();
            }
        }
        self.follow(gate);
    }
}

fn look_again(desk: &Weak<Desk>, news: &News) {
    let mut eye = Eye::default();
    loop {
        thread::sleep(LOOK_EVERY);
        let Some(desk) = desk.upgrade() else { return };
        let watched = {
            let mut state = desk.lock();
            state.looking_since = Some(clock::mono());
            state.watched.clone()
        };
        let found = watched.iter().map(|watched| {
            let print = Print::of(watched.files.iter().map(PathBuf::as_path));
            (watched.files.clone(), print.map_err(|error| error.to_string()))
        });
        let found = found.collect();
        desk.lock().looking_since = None;
        if eye.sees_news(&watched, found) {
            news.files_have_changed();
        }
    }
}

/// What was seen.
#[derive(Default)]
struct Eye {
    /// The last time, if that is not what is in use.
    found: Option<Found>,
    /// What was told of.
    told: Option<Found>,
}

type Found = Vec<(Vec<PathBuf>, Result<Print, String>)>;

impl Eye {
    /// Whether what is `found` of the `watched` files is to be told: that they have changed, once they have stayed the same
    /// for two looks, and that they are back.
    fn sees_news(&mut self, watched: &[Watched], found: Found) -> bool {
        if found.iter().zip(watched).all(|((_, found), watched)| *found == Ok(watched.print)) {
            self.found = None;
            return self.told.take().is_some();
        }
        let is_settled = self.found.as_ref() == Some(&found);
        let is_told = self.told.as_ref() == Some(&found);
        if !is_settled {
            // Somebody may be writing them.
            self.found = Some(found);
            return false;
        }
        if !is_told {
            self.told = Some(found);
        }
        !is_told
    }
}

/// The file of `roots` that an upstream is trusted by.
pub(super) fn watched_roots(file: &Path, roots: Print) -> Watched {
    Watched { files: vec![file.to_owned()], print: roots }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_told_once_it_has_settled_and_once_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let print = |name: &str| Print::of([file(name).as_path()]);
        for name in ["a", "b"] {
            std::fs::write(file(name), name).unwrap();
        }
        let mut watched: Vec<_> = ["a", "b"]
            .map(|name| Watched { files: vec![file(name)], print: print(name).unwrap() })
            .into_iter()
            .collect();
        let look = |watched: &[Watched]| -> Found {
            let print = |file: &PathBuf| Print::of([file.as_path()]).map_err(|error| error.to_string());
            watched.iter().map(|watched| (watched.files.clone(), print(&watched.files[0]))).collect()
        };
        let mut eye = Eye::default();
        let mut sees = |watched: &[Watched]| eye.sees_news(watched, look(watched));
        assert!(!sees(&watched) && !sees(&watched));
        std::fs::remove_file(file("a")).unwrap();
        assert!(!sees(&watched) && sees(&watched), "what is gone is news as well");
        assert!(!sees(&watched) && !sees(&watched));
        std::fs::write(file("b"), "new").unwrap();
        assert!(!sees(&watched));
        std::fs::write(file("b"), "newer").unwrap();
        assert!(!sees(&watched), "it is being written");
        assert!(sees(&watched) && !sees(&watched));
        watched[1].print = print("b").unwrap();
        assert!(!sees(&watched), "one is in use, and of the other it was said");
        std::fs::write(file("a"), "a").unwrap();
        assert!(sees(&watched), "all is well again");
        assert!(!sees(&watched));
    }
}
