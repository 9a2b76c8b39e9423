//! From options to what shards serve by, at the start and again whenever the configuration is read anew.
//!
//! A new configuration is made ready whole, or refused whole, before any shard sees of it; then every shard is handed the
//! same [`Setting`]. What has not changed is carried over: TLS with its tickets, connections to upstreams, addresses,
//! credentials.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::certificates::{self, Serving, Watched};
use super::clients;
use super::{Gate, Options, StartError};
use crate::clock;
use crate::creds::CredentialOptions;
use crate::creds::store::{Kept, Statuses, Store};
use crate::link::KernelTls;
use crate::net::kernel;
use crate::net::resolve::{Addresses, Resolver};
use crate::policy::route::RouteTable;
use crate::proxy::identity::Known;
use crate::proxy::upstream::UpstreamOptions;
use crate::server::{AccessLog, logging, preflight};
use crate::sign::credentials::Slot;
use crate::tls;
use crate::tls::certificate::Print;
use crate::tls::config::{ClientConfig, Records, TlsConfigError};
use crate::worker::setting::{Reached, Setting};

/// Reads the configuration once more: the options and warnings, or everything that is wrong with it.
pub type Reread = dyn FnMut() -> Result<(Options, Vec<String>), Vec<String>>;

/// What a gate was told, and what has been made of it.
pub(super) struct Desk {
    pub(super) options: Options,
    pub(super) serving: Option<Serving>,
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) statuses: Statuses,
    pub(super) setting: Arc<Setting>,
    /// Who protects records, in words.
    pub(super) records: String,
    upstreams: Vec<Upstream>,
    upstreams_ever: u64,
    resolver: Resolver,
    store: Option<Store>,
}

#[derive(Clone)]
struct Upstream {
    options: UpstreamOptions,
    /// What the file of its authorities held.
    roots: Option<Print>,
    reached: Reached,
}

impl Upstream {
    /// The same with the authorities that its file names now, or as it is if they cannot be used: `kept` is told why.
    fn renewed(&self, ever: &mut u64, kept: &mut Vec<TlsConfigError>) -> Self {
        let (Some(options), Some(before)) = (&self.options.tls, &self.reached.tls) else { return self.clone() };
        match tls::config::client(options) {
            Ok(tls) if before.trusts_same(&tls) => Self { roots: tls.file(), ..self.clone() },
            Ok(tls) => {
                *ever += 1;
                Self { roots: tls.file(), reached: Reached { id: *ever, tls: Some(tls) }, ..self.clone() }
            }
            Err(error) => {
                kept.push(error);
                self.clone()
            }
        }
    }
}

impl Desk {
    /// Makes everything ready for the first time.
    pub(super) fn open(options: Options) -> Result<Self, StartError> {
        let (resolver, addresses) = Resolver::start(&[], RESOLVE_EVERY).map_err(StartError::Resolver)?;
        let nothing = Setting {
            tls: None,
            authorities: 0,
            routes: Arc::new(RouteTable::new(Vec::new())),
            upstreams: Vec::new(),
            addresses,
            timeouts: options.timeouts.clone(),
            limits: options.limits.clone(),
            splice: options.splice,
            kernel_tls: None,
            known: None,
        };
        let mut desk = Self {
            options: options.clone(),
            serving: None,
            slots: Vec::new(),
            statuses: Statuses::default(),
            setting: Arc::new(nothing),
            records: String::new(),
            upstreams: Vec::new(),
            upstreams_ever: 0,
            resolver,
            store: None,
        };
        let protection = desk.protection(&options);
        desk.take(options, Some(protection))?;
        Ok(desk)
    }

    /// Makes `options` ready and puts them in the place of those before. Nothing has changed if that fails.
    /// `protection`, if given, is who protects records from now on.
    pub(super) fn take(
        &mut self,
        options: Options,
        protection: Option<(Option<KernelTls>, String)>,
    ) -> Result<(), StartError> {
        let serving = self.serve(&options)?;
        let (upstreams, upstreams_ever) = self.reach(&options)?;
        let keyring = clients::keyring(&options.clients).map_err(StartError::Clients)?;
        let kept = self.credentials(options.credentials.clone())?;
        let slots = kept.as_ref().map(Kept::slots).unwrap_or_default();
        if let (Some(store), Some(kept)) = (&self.store, &kept) {
            let is_over = kept.wait_first(FIRST_CREDENTIALS);
            if let Some(lost) = store.lost_with(kept) {
                return Err(StartError::Credentials(lost));
            }
            if !is_over {
                tracing::warn!("not all credentials are there yet; going on without");
            }
        }
        // Whatever can go wrong has not when the first of these is done.
        let addresses = self.addresses(&options)?;
        if let (Some(store), Some(kept)) = (&self.store, kept) {
            store.keep(kept);
        }
        let known = Known {
            clients: Arc::new(clients::clients(&options.clients)),
            keyring: Arc::new(keyring),
            credentials: slots.clone(),
        };
        let kernel_tls = protection.as_ref().map_or(self.setting.kernel_tls, |(kernel_tls, _)| *kernel_tls);
        self.setting = Arc::new(Setting {
            tls: serving.as_ref().map(|serving| Arc::clone(&serving.config)),
            authorities: serving.as_ref().map_or(0, |serving| serving.generation),
            routes: Arc::new(RouteTable::new(options.routes.clone())),
            upstreams: upstreams.iter().map(|upstream| upstream.reached.clone()).collect(),
            addresses,
            timeouts: options.timeouts.clone(),
            limits: options.limits.clone(),
            splice: options.splice,
            kernel_tls,
            known: (!slots.is_empty()).then_some(known),
        });
        (self.serving, self.slots, self.options) = (serving, slots, options);
        (self.upstreams, self.upstreams_ever) = (upstreams, upstreams_ever);
        if let Some((_, records)) = protection {
            self.records = records;
        }
        Ok(())
    }

    /// Reads certificates and authorities once more, of the options there are. What cannot be used stays as it is. Whether
    /// anything is another now, and why what stays does.
    pub(super) fn renew_certificates(&mut self) -> (bool, Vec<TlsConfigError>) {
        let mut kept = Vec::new();
        let serving = match self.serving.as_ref().map(|serving| serving.renew(&mut kept)).transpose() {
            Ok(serving) => serving,
            Err(error) => {
                kept.push(error);
                return (false, kept);
            }
        };
        let mut ever = self.upstreams_ever;
        let upstreams: Vec<_> = self.upstreams.iter().map(|upstream| upstream.renewed(&mut ever, &mut kept)).collect();
        let config = serving.as_ref().map(|serving| Arc::clone(&serving.config));
        let has_changed = ever != self.upstreams_ever
            || config.as_ref().map(Arc::as_ptr) != self.setting.tls.as_ref().map(Arc::as_ptr);
        if has_changed {
            self.setting = Arc::new(Setting {
                tls: config,
                authorities: serving.as_ref().map_or(0, |serving| serving.generation),
                upstreams: upstreams.iter().map(|upstream| upstream.reached.clone()).collect(),
                ..Setting::clone(&self.setting)
            });
        }
        (self.serving, self.upstreams, self.upstreams_ever) = (serving, upstreams, ever);
        (has_changed, kept)
    }

    /// The files of certificates and authorities, as they are in use.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let roots = self.upstreams.iter().filter_map(|upstream| {
            Some(certificates::watched_roots(upstream.options.tls.as_ref()?.ca_file.as_deref()?, upstream.roots?))
        });
        self.serving.iter().flat_map(Serving::watched).chain(roots).collect()
    }

    /// Who is to protect records.
    pub(super) fn protection(&self, options: &Options) -> (Option<KernelTls>, String) {
        super::protection(records(options), options.kernel, kernel::probe)
    }

    fn serve(&self, options: &Options) -> Result<Option<Serving>, TlsConfigError> {
        match &options.tls {
            Some(tls) if !options.https.is_empty() => Serving::load(tls, self.serving.as_ref()).map(Some),
            _ => Ok(None),
        }
    }

    /// How upstreams are reached, and how many there have ever been. One that is reached as before is the same.
    fn reach(&self, options: &Options) -> Result<(Vec<Upstream>, u64), TlsConfigError> {
        let mut ever = self.upstreams_ever;
        let mut taken: Vec<u64> = Vec::new();
        let upstreams = options.upstreams.iter().map(|options| {
            let tls = options.tls.as_ref().map(tls::config::client).transpose()?;
            let is_same = |other: &&Upstream| {
                let trusts_same = match (&other.reached.tls, &tls) {
                    (Some(one), Some(other)) => one.trusts_same(other),
                    (None, None) => true,
                    _ => false,
                };
                trusts_same && other.options == *options && !taken.contains(&other.reached.id)
            };
            let roots = tls.as_ref().and_then(ClientConfig::file);
            let same = self.upstreams.iter().find(is_same).cloned();
            let upstream = same.map(|same| Upstream { roots, ..same }).unwrap_or_else(|| {
                ever += 1;
                Upstream { options: options.clone(), roots, reached: Reached { id: ever, tls } }
            });
            taken.push(upstream.reached.id);
            Ok(upstream)
        });
        let upstreams = upstreams.collect::<Result<_, TlsConfigError>>()?;
        Ok((upstreams, ever))
    }

    /// Begins to ask for what is new. The thread that does it is there once there was something to ask for.
    fn credentials(&mut self, credentials: Vec<CredentialOptions>) -> Result<Option<Kept>, StartError> {
        if self.store.is_none() && !credentials.is_empty() {
            let (store, _) = Store::start_with(Vec::new(), self.statuses.clone()).map_err(StartError::Credentials)?;
            self.store = Some(store);
        }
        self.store.as_ref().map(|store| store.also(credentials).map_err(StartError::Credentials)).transpose()
    }

    fn addresses(&self, options: &Options) -> Result<Arc<Addresses>, StartError> {
        let names = preflight::names(&options.upstreams);
        if self.upstreams.iter().map(|upstream| &upstream.options.connect).eq(&names) {
            return Ok(Arc::clone(&self.setting.addresses));
        }
        let addresses = self.resolver.follow(&names).map_err(StartError::Resolver)?;
        if !self.resolver.wait_first(FIRST_ANSWERS) {
            preflight::tell(&preflight::unresolved(options, &addresses));
        }
        Ok(addresses)
    }
}

/// Who is to protect records of TLS 1.3, if there is any TLS.
fn records(options: &Options) -> Option<Records> {
    let upstream = options.upstreams.iter().find_map(|upstream| upstream.tls.as_ref());
    options.tls.as_ref().map(|tls| tls.records).or(upstream.map(|tls| tls.records))
}

impl Gate {
    /// Serves by `options` from now on: every exchange that begins when this returns, and none that began before. A shard
    /// that was too busy to take them is named in the log, and takes them later.
    /// Returns the keys whose new values need a restart; there the old ones stay.
    ///
    /// # Errors
    /// What is wrong with them. Then nothing changes.
    pub fn reload(&mut self, mut options: Options) -> Result<Vec<&'static str>, StartError> {
        let stay = self.keep_fixed(&mut options);
        let protects = |options: &Options| (options.kernel, records(options));
        let has_changed = protects(&options) != protects(&self.desk.options);
        let protection = has_changed.then(|| self.desk.protection(&options));
        let access_log = options.access_log.clone();
        let moved = access_log != self.desk.options.access_log;
        let moved = moved.then(|| logging::open(access_log)).transpose().map_err(StartError::AccessLog)?;
        self.desk.take(options, protection)?;
        if let Some(moved) = moved {
            self.access.redirect(moved);
        }
        if let Some(levels) = &self.levels {
            levels.set(self.desk.options.log_level);
        }
        if let Some(balance) = &self.balance {
            balance.set_connections_max(self.desk.setting.limits.connections_max);
        }
        self.hand_out();
        Ok(stay)
    }

    /// Reads certificates and authorities once more and serves by them from now on. What cannot be used stays as it is.
    /// Returns whether anything is another now, and why what stays does.
    pub fn renew_certificates(&mut self) -> (bool, Vec<TlsConfigError>) {
        let (has_changed, kept) = self.desk.renew_certificates();
        if has_changed {
            self.hand_out();
        }
        (has_changed, kept)
    }

    /// Hands the setting to every shard and waits until all serve by it.
    fn hand_out(&self) {
        let (taken, all_taken) = mpsc::channel();
        // One that has ended looks for no letters.
        let alive = self.mailboxes.iter().zip(&self.shards).filter(|(_, shard)| !shard.is_finished());
        for (mailbox, _) in alive {
            mailbox.post(Arc::clone(&self.desk.setting), taken.clone());
        }
        drop(taken);
        // Nothing is ever sent: the end of the channel is the end of the last letter.
        if all_taken.recv_timeout(TAKEN_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(
                "not all shards have taken the new configuration yet: one is busy, and will as soon as it goes on"
            );
        }
    }

    /// Puts back what only a restart can change, and names it.
    fn keep_fixed(&self, options: &mut Options) -> Vec<&'static str> {
        let old = &self.desk.options;
        let mut stay = Vec::new();
        let mut fixed = |key, has_changed: bool| {
            if has_changed {
                stay.push(key);
            }
        };
        fixed("listen.https", options.https != old.https);
        fixed("listen.http", options.http != old.http);
        fixed("listen.admin", options.admin != old.admin);
        fixed("workers.count", options.workers != old.workers);
        fixed("workers.pin", options.pin != old.pin);
        let is_off = |log: &AccessLog| *log == AccessLog::Off;
        let is_turned = is_off(&options.access_log) != is_off(&old.access_log);
        fixed("access-log.file", is_turned);
        if is_turned {
            options.access_log = old.access_log.clone();
        }
        // Listeners for HTTPS that are to go need their certificate until they do.
        let needs_tls = options.tls.is_none() && !old.https.is_empty();
        fixed("tls", needs_tls);
        if needs_tls {
            options.tls.clone_from(&old.tls);
        }
        options.https.clone_from(&old.https);
        options.http.clone_from(&old.http);
        (options.admin, options.workers, options.pin) = (old.admin, old.workers, old.pin);
        stay
    }
}

/// Reads the configuration anew and has `gate` serve by it. Says so, or why not.
///
/// # Errors
/// A line for the status of the service: the configuration was refused.
pub(super) fn reload(gate: &mut Gate, reread: &mut Reread) -> Result<(), &'static str> {
    let refuse = |reasons: &[String]| {
        tracing::error!("{REFUSED}: {} problem(s)", reasons.len());
        for reason in reasons {
            tracing::error!("{reason}");
        }
        Err(REFUSED)
    };
    let (options, warnings) = match reread() {
        Ok(read) => read,
        Err(problems) => return refuse(&problems),
    };
    preflight::tell(&preflight::standing(&options, clock::now().wall));
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match gate.reload(options) {
        Ok(stay) => {
            if !stay.is_empty() {
                tracing::warn!("these need a restart and stay as they are: {}", stay.join(", "));
            }
            tracing::info!(routes = gate.desk.options.routes.len(), "the configuration was read anew and is in force");
            Ok(())
        }
        Err(error) => refuse(&[error.to_string()]),
    }
}

const REFUSED: &str = "the new configuration is refused, the one before keeps serving";

/// How long a start waits for upstream names; a gate whose names do not resolve yet starts all the same.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);

/// How long a start waits for credentials; the same holds for them.
const FIRST_CREDENTIALS: Duration = Duration::from_secs(5);

/// How long a shard may take until it looks into its mailbox.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// How often upstream names are resolved again. S3's answers live for a few seconds and rotate; asking more often than
/// this only spreads connections a little wider.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
