//! The gate's certificates: loaded, watched for being replaced, and complained about before they end.
//!
//! Whoever renews them writes files, one after the other or by turning a link, and tells nobody. So the files are read
//! every few seconds, a few kilobytes each: that works on every file system, for links to links, and where times of files
//! are set back. What has changed is taken once it has stayed the same between two looks, and only if it is whole: a
//! certificate whose key has not come yet is left alone until it has.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::server::Gate;
use crate::tls::certificate::{Certificate, Print};
use crate::tls::config::{self, ServerConfig, ServerOptions, TlsConfigError};

/// How often files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often certificates that are about to end are named.
const TELL_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// TLS towards clients, and what it was made of.
pub(super) struct Serving {
    options: ServerOptions,
    files: Print,
    authorities: Option<Print>,
    /// Another number for other authorities.
    pub(super) generation: u64,
    pub(super) config: Arc<ServerConfig>,
    certificates: Vec<Certificate>,
}

impl Serving {
    /// Loads what `options` name. What has not changed since `before` is the same as before: with it stay the keys that
    /// tickets are sealed with, and with other authorities they must not.
    pub(super) fn load(options: &ServerOptions, before: Option<&Self>) -> Result<Self, TlsConfigError> {
        // Read first: if a file changes now, the print is the older one and the next look finds the difference.
        let files = Print::of(options.files())?;
        let authorities = options.client_ca.as_deref().map(|file| Print::of([file])).transpose()?;
        let same = before.filter(|before| before.files == files && before.options == *options);
        let config = match same {
            Some(same) => Arc::clone(&same.config),
            None => config::server(options)?,
        };
        let certificates = options.identities.iter().map(|identity| Certificate::read(&identity.certificate));
        let certificates = certificates.collect::<Result<_, _>>()?;
        let generation = before.map_or(0, |before| before.generation + u64::from(before.authorities != authorities));
        Ok(Self { options: options.clone(), files, authorities, generation, config, certificates })
    }

    /// Says which certificates are about to end, or have ended.
    pub(super) fn tell(&self) {
        let now = clock::unix_seconds();
        for (identity, certificate) in self.options.identities.iter().zip(&self.certificates) {
            let file = identity.certificate.display();
            match certificate.trouble(now) {
                Some(trouble) if trouble.is_expired => tracing::error!("the certificate {file} {}", trouble.text),
                Some(trouble) => tracing::warn!("the certificate {file} {}", trouble.text),
                None => {}
            }
        }
    }

    fn expired(&self) -> usize {
        let now = clock::unix_seconds();
        let troubles = self.certificates.iter().filter_map(|certificate| certificate.trouble(now));
        troubles.filter(|trouble| trouble.is_expired).count()
    }
}

/// Looks at the files of a gate, again and again.
pub(super) struct Watch {
    look_at: Instant,
    tell_at: Instant,
    expired: usize,
    /// What was found the last time, if that is not what is in use.
    found: Option<Found>,
    /// What was found and complained about.
    refused: Option<Found>,
}

type Found = Result<Print, String>;

impl Watch {
    pub(super) fn new(gate: &Gate) -> Self {
        let now = clock::mono();
        let expired = gate.desk.serving.as_ref().map_or(0, Serving::expired);
        if let Some(serving) = gate.desk.serving.as_ref().filter(|_| expired > 0) {
            serving.tell();
        }
        Self { look_at: now + LOOK_EVERY, tell_at: now + TELL_EVERY, expired, found: None, refused: None }
    }

    /// How long until the next look.
    pub(super) fn patience(&self) -> Duration {
        self.look_at.saturating_duration_since(clock::mono())
    }

    /// Looks, if it is time to: takes new certificates, and names those that are about to end.
    pub(super) fn look(&mut self, gate: &mut Gate) {
        let now = clock::mono();
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        self.look_at_files(gate);
        let Some(serving) = &gate.desk.serving else { return };
        let expired = serving.expired();
        if now >= self.tell_at || expired > self.expired {
            self.tell_at = now + TELL_EVERY;
            serving.tell();
        }
        self.expired = expired;
    }

    fn look_at_files(&mut self, gate: &mut Gate) {
        let found: Found = gate.desk.print().map_err(|error| error.to_string());
        if found.as_ref().is_ok_and(|found| *found == gate.desk.files) {
            (self.found, self.refused) = (None, None);
            return;
        }
        if self.found.as_ref() != Some(&found) {
            // Somebody may be writing them.
            self.found = Some(found);
            return;
        }
        let outcome = match &found {
            Ok(_) => gate.renew_certificates().map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        match outcome {
            Ok(()) => {
                tracing::info!("certificates have changed: new connections see the new ones");
                if let Some(serving) = &gate.desk.serving {
                    serving.tell();
                }
                (self.found, self.refused) = (None, None);
            }
            Err(error) if self.refused.as_ref() != Some(&found) => {
                tracing::error!("certificates have changed, and those in use are kept: {error}");
                self.refused = Some(found);
            }
            Err(_) => {}
        }
    }
}

/// What a gate watches: files in the order of its options.
pub(super) fn print<'p>(
    tls: Option<&'p ServerOptions>,
    roots: impl Iterator<Item = &'p Path>,
) -> Result<Print, TlsConfigError> {
    Print::of(tls.into_iter().flat_map(ServerOptions::files).chain(roots))
}
