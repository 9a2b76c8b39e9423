//! The process: bind, start the shards, be ready, drain.

pub mod admin;
pub mod logging;
pub mod signals;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::access::AccessSink;
use crate::clock;
use crate::net::resolve::Resolver;
use crate::net::{listen, runtime};
use crate::pipe::Splice;
use crate::policy::route::{Route, RouteTable};
use crate::proxy::upstream::UpstreamOptions;
use crate::proxy::{Limits, Timeouts};
use crate::server::admin::{Admin, Health};
use crate::server::logging::AccessLogger;
use crate::server::signals::{Signal, Signals};
use crate::tls;
use crate::tls::config::{ServerConfig, ServerOptions, TlsConfigError};
use crate::worker::balance::Balance;
use crate::worker::{self, Plan};

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
    /// Number of shards; `None` for one per allowed core.
    pub workers: Option<usize>,
    /// Whether each shard is pinned to its core.
    pub pin: bool,
    /// Routes, in configuration order.
    pub routes: Vec<Route>,
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
    https: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    shards: Vec<JoinHandle<io::Result<()>>>,
    stops: Vec<Arc<Notify>>,
    admin: Option<Admin>,
    health: Arc<Health>,
    balance: Option<Arc<Balance>>,
    access: AccessLogger,
    _resolver: Resolver,
}

impl Gate {
    /// Starts a gate and returns once every shard accepts connections.
    ///
    /// # Errors
    /// The first thing that is wrong, with its likely cause; nothing is left running then.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let cores = runtime::allowed_cores();
        let count = options.workers.unwrap_or(cores.len()).max(1);
        if let Err(error) = runtime::raise_descriptor_limit() {
            tracing::warn!(%error, "cannot raise the number of open files; many connections may not fit");
        }
        let tls = match &options.tls {
            Some(tls) if !options.https.is_empty() => Some(tls::config::server(tls)?),
            _ => None,
        };
        let upstream_tls =
            options.upstreams.iter().map(|upstream| upstream.tls.as_ref().map(tls::config::client).transpose());
        let upstream_tls = upstream_tls.collect::<Result<Vec<_>, _>>()?;
        let names: Vec<_> = options.upstreams.iter().map(|upstream| upstream.connect.clone()).collect();
        let (resolver, addresses) = Resolver::start(&names, RESOLVE_EVERY).map_err(StartError::Resolver)?;
        if !resolver.wait_first(FIRST_ANSWERS) {
            tracing::warn!("not every upstream name has an address yet; starting without");
        }
        let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let https = bind_all(&options.https, tls.as_ref(), &mut sockets)?;
        let http = bind_all(&options.http, None, &mut sockets)?;
        let (access, logger) = AccessLogger::start(options.access_log).map_err(StartError::AccessLog)?;
        let health = Arc::new(Health::default());
        let balance = (count > 1).then(|| Balance::new(count, options.limits.connections_max));
        let routes = Arc::new(RouteTable::new(options.routes));
        let start_id = clock::now().wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64) << 8;
        let (ready, is_ready) = mpsc::channel();
        let mut gate = Self {
            https,
            http,
            shards: Vec::new(),
            stops: Vec::new(),
            admin: None,
            health,
            balance: balance.clone(),
            access: logger,
            _resolver: resolver,
        };
        let started = gate.start_shards(sockets, |number, listeners, stop| Plan {
            number,
            core: options.pin.then(|| cores[number % cores.len()]),
            listeners,
            routes: Arc::clone(&routes),
            upstreams: upstream_tls.clone(),
            addresses: Arc::clone(&addresses),
            timeouts: options.timeouts.clone(),
            limits: options.limits.clone(),
            splice: options.splice,
            balance: balance.clone(),
            access: access.another(),
            start_id,
            ready: ready.clone(),
            stop,
        });
        drop(ready);
        let admin = |gate: &Self| {
            let admin = options.admin.map(|address| Admin::start(address, Arc::clone(&gate.health)));
            admin.transpose().map_err(StartError::Admin)
        };
        // A shard that cannot start drops its end of the channel without a word.
        let outcome = match started {
            Ok(()) if is_ready.iter().take(count).count() < count => {
                Err(StartError::Shard(io::ErrorKind::Other.into()))
            }
            Ok(()) => admin(&gate),
            Err(error) => Err(StartError::Shard(error)),
        };
        match outcome {
            Ok(admin) => gate.admin = admin,
            Err(error) => return Err(gate.stop().map_or_else(StartError::Shard, |()| error)),
        }
        Ok(gate)
    }

    fn start_shards<S: AccessSink + Send + 'static>(
        &mut self,
        sockets: Vec<Vec<Listening>>,
        plan: impl Fn(usize, Vec<Listening>, Arc<Notify>) -> Plan<S>,
    ) -> io::Result<()> {
        for (number, listeners) in sockets.into_iter().enumerate() {
            let stop = Arc::new(Notify::new());
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

    /// Opens the access log anew, after somebody has moved the file away.
    pub fn reopen_log(&self) {
        self.access.reopen();
    }

    /// Stops accepting, lets transfers finish within `timeouts.drain`, writes the last records.
    ///
    /// # Errors
    /// The first shard that ended in an error.
    pub fn stop(self) -> io::Result<()> {
        self.health.set_draining();
        for stop in &self.stops {
            stop.notify_one();
        }
        let mut result = Ok(());
        for shard in self.shards {
            let ended = shard.join().unwrap_or_else(|_| Err(io::Error::other("a shard panicked")));
            result = result.and(ended);
        }
        if let Some(admin) = self.admin {
            admin.stop();
        }
        self.access.finish();
        result
    }
}

/// Runs a gate until the process is told to stop.
///
/// # Errors
/// Why it could not start, or what a shard died of.
pub fn run(options: Options) -> Result<(), StartError> {
    logging::init_tracing();
    let mut signals = Signals::install().map_err(StartError::Signals)?;
    let upstream_tls = options.upstreams.iter().find_map(|upstream| upstream.tls.as_ref());
    let records = options.tls.as_ref().map(|tls| tls.records).or(upstream_tls.map(|tls| tls.records));
    let gate = Gate::start(options)?;
    if let Some(records) = records {
        tracing::info!(?records, "TLS 1.3 records are protected");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), https = ?gate.https, http = ?gate.http, "filmgate is ready");
    while signals.wait() == Signal::Reopen {
        gate.reopen_log();
    }
    tracing::info!("stopping: transfers may finish, new connections are not taken");
    signals.stop_at_once_next_time();
    gate.stop().map_err(StartError::Shard)
}

/// A listening socket and the TLS it speaks.
type Listening = (TcpListener, Option<Arc<ServerConfig>>);

/// Binds every address once for each shard and returns where that came to be.
fn bind_all(
    addresses: &[SocketAddr],
    tls: Option<&Arc<ServerConfig>>,
    sockets: &mut [Vec<Listening>],
) -> Result<Vec<SocketAddr>, StartError> {
    let mut bound = Vec::new();
    for address in addresses {
        let listeners = listen::bind_shards(*address, sockets.len()).map_err(StartError::Listen)?;
        bound.extend(listeners.first().and_then(|first| first.local_addr().ok()));
        for (listener, shard) in listeners.into_iter().zip(sockets.iter_mut()) {
            shard.push((listener, tls.cloned()));
        }
    }
    Ok(bound)
}

/// Why a gate did not start, or did not end well.
#[derive(Debug)]
pub enum StartError {
    /// A certificate, key or CA file.
    Tls(TlsConfigError),
    /// A listening address.
    Listen(io::Error),
    /// The admin address.
    Admin(io::Error),
    /// The access log.
    AccessLog(io::Error),
    /// The threads that look names up.
    Resolver(io::Error),
    /// Signal handlers.
    Signals(io::Error),
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
            Self::Listen(error) => write!(f, "{error}"),
            Self::Admin(error) => write!(f, "listen.admin: {error}"),
            Self::AccessLog(error) => write!(f, "access-log.file cannot be opened: {error}"),
            Self::Resolver(error) => write!(f, "upstream names cannot be looked up: {error}"),
            Self::Signals(error) => write!(f, "signal handlers cannot be installed: {error}"),
            Self::Shard(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// How long a start waits for upstream names; a gate whose names do not resolve yet starts all the same.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);

/// How often upstream names are resolved again. S3's answers live for a few seconds and rotate; asking more often than
/// this only spreads connections a little wider.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
