//! The process: bind, start the shards, be ready, drain.

pub mod admin;
pub mod certificates;
pub mod clients;
pub mod logging;
pub mod notify;
pub mod preflight;
pub mod reload;
pub mod signals;
pub mod watch;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use crate::access::AccessSink;
use crate::clock;
use crate::creds::{self, CredentialOptions};
use crate::link::KernelTls;
use crate::net::inherit::Inherited;
use crate::net::kernel::Unavailable;
use crate::net::listen::Bound;
use crate::net::runtime;
use crate::pipe::Splice;
use crate::policy::route::Route;
use crate::proxy::upstream::UpstreamOptions;
use crate::proxy::{Limits, Timeouts};
use crate::server::admin::{Admin, Health};
use crate::server::clients::{ClientOptions, SecretError};
use crate::server::logging::{AccessLogger, Level, Levels};
use crate::server::notify::Notifier;
use crate::server::reload::{Desk, Reread};
use crate::server::signals::{Signal, Signals};
use crate::server::watch::Watch;
use crate::sign::credentials::Slot;
use crate::tls::config::{Kernel, Records, ServerOptions, TlsConfigError};
use crate::worker::balance::Balance;
use crate::worker::heart::Heart;
use crate::worker::setting::Mailbox;
use crate::worker::{self, Plan, Stop};

/// Everything a gate needs to run, checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// TLS listeners.
    pub https: Vec<SocketAddr>,
    /// Plain listeners.
    pub http: Vec<SocketAddr>,
    /// Health, and later metrics.
    pub admin: Option<SocketAddr>,
    /// Certificates; present whenever `https` is not empty.
    pub tls: Option<ServerOptions>,
    /// Whether the kernel may be left TLS records.
    pub kernel: Kernel,
    /// Number of shards; `None` for one per allowed core.
    pub workers: Option<usize>,
    /// Whether each shard is pinned to its core.
    pub pin: bool,
    /// Routes, in configuration order.
    pub routes: Vec<Route>,
    /// Who may use routes that sign anew.
    pub clients: Vec<ClientOptions>,
    /// Credentials of the gate's own.
    pub credentials: Vec<CredentialOptions>,
    /// Upstreams the routes point at.
    pub upstreams: Vec<UpstreamOptions>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// When bodies between plain connections go through pipes.
    pub splice: Splice,
    /// Where access records go.
    pub access_log: AccessLog,
    /// What the process says of itself.
    pub log_level: Level,
}

/// Where access records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(std::path::PathBuf),
}

/// A running gate.
pub struct Gate {
    desk: Desk,
    mailboxes: Vec<Arc<Mailbox>>,
    levels: Option<Levels>,
    https: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    shards: Vec<JoinHandle<io::Result<usize>>>,
    stops: Vec<Arc<Stop>>,
    hearts: Vec<Arc<Heart>>,
    admin: Option<Admin>,
    health: Arc<Health>,
    balance: Option<Arc<Balance>>,
    access: AccessLogger,
}

impl Gate {
    /// Starts a gate and returns once every shard accepts connections.
    ///
    /// # Errors
    /// The first thing that is wrong, with its likely cause; nothing is left running then.
    pub fn start(options: Options) -> Result<Self, StartError> {
        Self::start_with(options, Inherited::default())
    }

    /// As [`start`](Self::start), with listening sockets that the service manager has left.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(options: Options, mut inherited: Inherited) -> Result<Self, StartError> {
        let cores = runtime::allowed_cores();
        let count = preflight::workers(&options);
        preflight::enough_to_start(&options, count).map_err(StartError::Descriptors)?;
        if let Err(error) = runtime::raise_descriptor_limit() {
            tracing::warn!(%error, "cannot raise the number of open files; many connections may not fit");
        }
        let desk = Desk::open(options)?;
        let options = desk.options.clone();
        let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        // First of all addresses: nobody comes to the others while this one may be missing.
        let admin = options.admin.map(Admin::bind).transpose().map_err(StartError::Admin)?;
        let https = bind_all(&options.https, true, &mut sockets, &mut inherited)?;
        let http = bind_all(&options.http, false, &mut sockets, &mut inherited)?;
        if !inherited.left().is_empty() {
            tracing::warn!(at = ?inherited.left(), "the service manager listens there for filmgate, and [listen] does not");
        }
        let (access, logger) = AccessLogger::start(options.access_log).map_err(StartError::AccessLog)?;
        let health = Arc::new(Health::new(desk.statuses.clone(), [https.as_slice(), &http].concat()));
        let balance = (count > 1).then(|| Balance::new(count, options.limits.connections_max));
        let start_id = clock::now().wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64) << 8;
        let (ready, is_ready) = mpsc::channel();
        let setting = Arc::clone(&desk.setting);
        let mailboxes: Vec<Arc<Mailbox>> = (0..count).map(|_| Arc::default()).collect();
        let mut gate = Self {
            desk,
            mailboxes: mailboxes.clone(),
            levels: None,
            https,
            http,
            shards: Vec::new(),
            stops: Vec::new(),
            hearts: (0..count).map(|_| Arc::default()).collect(),
            admin: None,
            health,
            balance: balance.clone(),
            access: logger,
        };
        let hearts = gate.hearts.clone();
        let started = gate.start_shards(sockets, |number, listeners, stop| Plan {
            number,
            core: options.pin.then(|| cores[number % cores.len()]),
            listeners,
            setting: Arc::clone(&setting),
            mailbox: Arc::clone(&mailboxes[number]),
            balance: balance.clone(),
            access: access.another(),
            start_id,
            ready: ready.clone(),
            heart: Arc::clone(&hearts[number]),
            stop,
        });
        drop(ready);
        // A shard that cannot start drops its end of the channel without a word.
        let outcome = match (started, admin) {
            (Ok(()), _) if is_ready.iter().take(count).count() < count => {
                Err(StartError::Shard(io::ErrorKind::Other.into()))
            }
            (Ok(()), None) => Ok(None),
            (Ok(()), Some(listener)) => {
                Admin::start(listener, Arc::clone(&gate.health)).map(Some).map_err(StartError::Admin)
            }
            (Err(error), _) => Err(StartError::Shard(error)),
        };
        match outcome {
            Ok(admin) => gate.admin = admin,
            Err(error) => return Err(gate.end(true).map_or_else(StartError::Shard, |_| error)),
        }
        Ok(gate)
    }

    fn start_shards<S: AccessSink + Send + 'static>(
        &mut self,
        sockets: Vec<Vec<Listening>>,
        plan: impl Fn(usize, Vec<Listening>, Arc<Stop>) -> Plan<S>,
    ) -> io::Result<()> {
        for (number, listeners) in sockets.into_iter().enumerate() {
            let stop = Arc::new(Stop::default());
            let plan = plan(number, listeners, Arc::clone(&stop));
            let thread = std::thread::Builder::new().name(format!("shard-{number}"));
            self.shards.push(thread.spawn(move || worker::run(plan))?);
            self.stops.push(stop);
        }
        Ok(())
    }

    /// Where it listens with TLS.
    #[must_use]
    pub fn https_addrs(&self) -> &[SocketAddr] {
        &self.https
    }

    /// Who protects the records of TLS 1.3, and why not the kernel.
    #[must_use]
    pub fn records(&self) -> &str {
        &self.desk.records
    }

    /// What it signs with, in the order of the configuration.
    #[must_use]
    pub fn credentials(&self) -> &[Arc<Slot>] {
        &self.desk.slots
    }

    /// Where it listens without TLS.
    #[must_use]
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Client connections of each shard. Empty when there is only one, which has nobody to show them to.
    #[must_use]
    pub fn connections(&self) -> Vec<usize> {
        self.balance.as_ref().map(|balance| balance.connections()).unwrap_or_default()
    }

    /// The heart of each shard.
    #[must_use]
    pub fn hearts(&self) -> &[Arc<Heart>] {
        &self.hearts
    }

    /// A shard that has ended, which none does before it is told to.
    #[must_use]
    pub fn ended_shard(&self) -> Option<usize> {
        self.shards.iter().position(JoinHandle::is_finished)
    }

    /// Opens the access log anew, after somebody has moved the file away.
    pub fn reopen_log(&self) {
        self.access.reopen();
    }

    /// Stops accepting, lets transfers finish within `timeouts.drain`, breaks off the others, writes the last records.
    /// Returns how many connections were broken off.
    ///
    /// # Errors
    /// The first shard that ended in an error.
    pub fn stop(self) -> io::Result<usize> {
        self.end(false)
    }

    fn end(self, at_once: bool) -> io::Result<usize> {
        self.health.set_draining();
        for stop in &self.stops {
            stop.ask(at_once);
        }
        let mut result = Ok(0);
        for shard in self.shards {
            let ended = shard.join().unwrap_or_else(|_| Err(io::Error::other("a shard panicked")));
            result = result.and_then(|cut| ended.map(|more| cut + more));
        }
        if let Some(admin) = self.admin {
            admin.stop();
        }
        self.access.finish();
        result
    }
}

/// Runs a gate until the process is told to stop. `reread` reads the configuration anew when it is told to.
///
/// # Errors
/// Why it could not start, or what a shard died of.
pub fn run(options: Options, reread: &mut Reread) -> Result<(), StartError> {
    let levels = logging::init_tracing(options.log_level);
    // Before anything else is opened: they are known by their numbers.
    let inherited = Inherited::take();
    let notifier = Notifier::from_environment();
    let mut signals = Signals::install().map_err(StartError::Signals)?;
    let routes = options.routes.len();
    preflight::tell(&preflight::standing(&options, clock::now().wall));
    let mut gate = Gate::start_with(options, inherited)?;
    gate.levels = levels;
    let mut certificates = certificates::Watch::start(&gate, signals.news()).map_err(StartError::Watch)?;
    tracing::info!("{}", gate.records());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), https = ?gate.https, http = ?gate.http, "filmgate is ready");
    let watch = Watch::start(&notifier, notify::watchdog_interval(), gate.hearts().to_vec(), routes);
    let watch = watch.map_err(StartError::Watch)?;
    let mut ended = None;
    loop {
        let signal = signals.wait_for(certificates::LOOK_EVERY);
        match signal {
            Some(Signal::Stop) => break,
            Some(Signal::Reload) => {
                notifier.reloading();
                gate.reopen_log();
                let outcome = reload::reload(&mut gate, reread);
                watch.set_reloaded(gate.desk.options.routes.len(), outcome.err());
                notifier.ready(&watch.status());
                certificates.follow(&gate);
            }
            Some(Signal::Files) | None => {}
        }
        certificates.attend(&mut gate, signal == Some(Signal::Files));
        watch.set_certificates_refused(certificates.refuses());
        if let (None, Some(shard)) = (ended, gate.ended_shard()) {
            tracing::error!(shard, "a shard has ended early, and the others serve its clients: restart the service");
            ended = Some(shard);
        }
    }
    let drain = gate.desk.options.timeouts.drain;
    notifier.stopping(drain.saturating_add(STOP_WAIT));
    watch.set_draining();
    tracing::info!(?drain, "stopping: transfers may finish, new connections are not taken");
    match gate.stop().map_err(StartError::Shard)? {
        0 => tracing::info!("stopped: all connections have ended"),
        cut => tracing::warn!(cut, ?drain, "stopped: broke off connections that did not end within timeouts.drain"),
    }
    Ok(())
}

/// What the kernel is asked to do of TLS, and who protects records in words. `probe` finds out what it can do.
fn protection(
    records: Option<Records>,
    kernel: Kernel,
    probe: impl FnOnce() -> Result<KernelTls, Unavailable>,
) -> (Option<KernelTls>, String) {
    let own = "TLS 1.3 records are protected by filmgate";
    match (records, kernel) {
        (None, _) => (None, "no side speaks TLS".to_owned()),
        (Some(Records::Library), _) => (None, "TLS 1.3 records are protected by rustls".to_owned()),
        (Some(Records::Own), Kernel::Off) => (None, format!("{own}: tls.kernel is \"off\"")),
        (Some(Records::Own), Kernel::Auto) => match probe() {
            Ok(found) => (Some(found), format!("TLS 1.3 records are protected by the kernel ({found})")),
            Err(why) => (None, format!("{own}; {why}")),
        },
    }
}

/// A listening socket, and whether TLS is spoken there.
type Listening = (Bound, bool);

/// Binds every address once for each shard and returns where that came to be.
fn bind_all(
    addresses: &[SocketAddr],
    is_tls: bool,
    sockets: &mut [Vec<Listening>],
    inherited: &mut Inherited,
) -> Result<Vec<SocketAddr>, StartError> {
    let mut bound = Vec::new();
    for address in addresses {
        let listeners = inherited.bind_shards(*address, sockets.len());
        let listeners = listeners.map_err(|error| StartError::Listen(with_left(error, &inherited.left())))?;
        bound.extend(listeners.first().and_then(|first| first.local_addr().ok()));
        for (listener, shard) in listeners.into_iter().zip(sockets.iter_mut()) {
            shard.push((listener, is_tls));
        }
    }
    Ok(bound)
}

/// A socket of the service manager's may be what is in the way.
fn with_left(error: io::Error, left: &[SocketAddr]) -> io::Error {
    if left.is_empty() {
        return error;
    }
    let left: Vec<_> = left.iter().map(ToString::to_string).collect();
    let left = left.join(" and ");
    io::Error::new(
        error.kind(),
        format!("{error}; filmgate.socket listens at {left}, and [listen] has to name just the same addresses"),
    )
}

/// Why a gate did not start, or did not end well.
#[derive(Debug)]
pub enum StartError {
    /// A certificate, key or CA file.
    Tls(TlsConfigError),
    /// The limit of open descriptors.
    Descriptors(io::Error),
    /// A listening address.
    Listen(io::Error),
    /// The admin address.
    Admin(io::Error),
    /// The access log.
    AccessLog(io::Error),
    /// The threads that look names up.
    Resolver(io::Error),
    /// Credentials that cannot be asked for.
    Credentials(creds::StartError),
    /// Secrets of clients.
    Clients(Vec<SecretError>),
    /// Signal handlers.
    Signals(io::Error),
    /// A thread that watches the shards, or files.
    Watch(io::Error),
    /// A shard's thread or ring.
    Shard(io::Error),
}

impl From<TlsConfigError> for StartError {
    fn from(error: TlsConfigError) -> Self {
        Self::Tls(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => write!(f, "{error}"),
            Self::Listen(error) | Self::Descriptors(error) => write!(f, "{error}"),
            Self::Admin(error) => write!(f, "listen.admin: {error}"),
            Self::AccessLog(error) => write!(f, "access-log.file cannot be opened: {error}"),
            Self::Resolver(error) => write!(f, "upstream names cannot be looked up: {error}"),
            Self::Credentials(error) => write!(f, "{error}"),
            Self::Clients(errors) => {
                let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&errors.join("; "))
            }
            Self::Signals(error) => write!(f, "signal handlers cannot be installed: {error}"),
            Self::Watch(error) => write!(f, "shards and certificates cannot be watched: {error}"),
            Self::Shard(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What the service manager is asked for beyond `timeouts.drain`: connections that were broken off take a moment to end.
const STOP_WAIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_only_when_its_answer_counts() {
        let asked = || panic!("asked");
        for (records, kernel, said) in [
            (None, Kernel::Auto, "no side speaks TLS"),
            (Some(Records::Library), Kernel::Auto, "by rustls"),
            (Some(Records::Own), Kernel::Off, "by filmgate: tls.kernel is \"off\""),
        ] {
            let (kernel_tls, text) = protection(records, kernel, asked);
            assert!(kernel_tls.is_none() && text.contains(said), "{text}");
        }
    }

    #[test]
    fn who_protects_records_is_said_with_the_reason() {
        let found = KernelTls { aes_128_gcm: true, ..KernelTls::default() };
        let (kernel_tls, text) = protection(Some(Records::Own), Kernel::Auto, || Ok(found));
        assert_eq!(
            (kernel_tls, text.as_str()),
            (Some(found), "TLS 1.3 records are protected by the kernel (AES-128-GCM)")
        );
        let (kernel_tls, text) = protection(Some(Records::Own), Kernel::Auto, || Err(Unavailable::NotLoaded));
        assert!(kernel_tls.is_none() && text.contains("by filmgate; ") && text.contains("modprobe tls"), "{text}");
    }
}
