//! Addresses of the upstreams, kept fresh in the background.
//!
//! Threads of their own ask the system's resolver (getaddrinfo: /etc/hosts, nsswitch, search domains, whatever the
//! administrator expects to count). The data threads only ever look at a finished list and never wait.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::{self, Instant};
use crate::limits;

/// What is known about one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Where it can be reached, at most [`limits::UPSTREAM_ADDRESSES_MAX`], no duplicates. Answers of the last minutes
    /// are in it as well as the newest: S3 names a few out of many, others every time.
    pub addresses: Vec<SocketAddr>,
    /// Why the last resolution of one of its names failed; the addresses are then those of the last good one.
    pub error: Option<String>,
}

/// The addresses of all upstreams.
#[derive(Debug)]
pub struct Addresses {
    upstreams: Vec<ArcSwap<Resolved>>,
}

impl Addresses {
    /// Addresses that never change, one list an upstream.
    #[must_use]
    pub fn fixed(upstreams: Vec<Vec<SocketAddr>>) -> Self {
        let upstreams = upstreams.into_iter();
        let resolved = upstreams.map(|addresses| ArcSwap::from_pointee(Resolved { addresses, error: None }));
        Self { upstreams: resolved.collect() }
    }

    /// What is known now about the upstream with this index. Never waits.
    ///
    /// # Panics
    /// When there is no such upstream.
    #[must_use]
    pub fn snapshot(&self, upstream: usize) -> Arc<Resolved> {
        self.upstreams[upstream].load_full()
    }
}

/// Answers a name with its addresses, as long as it takes.
pub type Lookup = Box<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The background threads. They end after this is dropped, each when its present lookup does.
pub struct Resolver {
    shared: Arc<Shared>,
}

impl Resolver {
    /// Begins to resolve the names of all upstreams, each given as its hosts (names or literal addresses) and ports, and
    /// does so again every `interval`, sooner after a failure. Literal addresses are known at once and never looked up.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(upstreams: &[Vec<(String, u16)>], interval: Duration) -> io::Result<(Self, Arc<Addresses>)> {
        Self::start_with(upstreams, interval, Box::new(ask_system))
    }

    /// As [`start`](Self::start) with another source of addresses.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_with(
        upstreams: &[Vec<(String, u16)>],
        interval: Duration,
        lookup: Lookup,
    ) -> io::Result<(Self, Arc<Addresses>)> {
        let book = Book::new(upstreams, clock::mono());
        let addresses = Arc::new(Addresses {
            upstreams: (0..upstreams.len()).map(|i| ArcSwap::from_pointee(book.resolved(i))).collect(),
        });
        let state = State { book, addresses: Arc::clone(&addresses), threads: 0, stopped: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            lookup,
            interval: interval.max(INTERVAL_MIN),
        });
        let resolver = Self { shared };
        {
            let mut state = resolver.shared.lock();
            let names = state.book.names.len();
            resolver.man(&mut state, names)?;
        }
        Ok((resolver, addresses))
    }

    /// Resolves the names of these upstreams from now on instead. What is known of names that stay is kept; the addresses
    /// that were returned before are no longer kept fresh.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn follow(&self, upstreams: &[Vec<(String, u16)>]) -> io::Result<Arc<Addresses>> {
        let mut state = self.shared.lock();
        let mut book = Book::new(upstreams, clock::mono());
        // First, because it may fail: then all is as it was.
        self.man(&mut state, book.names.len())?;
        for name in &mut book.names {
            if let Some(old) = state.book.names.iter().position(|old| old.host == name.host) {
                std::mem::swap(name, &mut state.book.names[old]);
            }
        }
        state.addresses = Arc::new(Addresses {
            upstreams: (0..upstreams.len()).map(|i| ArcSwap::from_pointee(book.resolved(i))).collect(),
        });
        state.book = book;
        self.shared.changed.notify_all();
        Ok(Arc::clone(&state.addresses))
    }

    /// Starts the threads that are missing for so many names.
    fn man(&self, state: &mut State, names: usize) -> io::Result<()> {
        while state.threads < names.min(THREADS_MAX) {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new().name("resolver".to_owned()).spawn(move || shared.work())?;
            state.threads += 1;
        }
        Ok(())
    }

    /// Waits until every name has been tried, at most `timeout`. Says whether every upstream has an address. Start-up
    /// only: it blocks.
    #[must_use]
    pub fn wait_first(&self, timeout: Duration) -> bool {
        let untried = |state: &mut State| state.book.names.iter().any(|name| !name.tried);
        let (state, _) = (self.shared.changed)
            .wait_timeout_while(self.shared.lock(), timeout, untried)
            .unwrap_or_else(PoisonError::into_inner);
        (0..state.book.upstreams.len()).all(|i| !state.book.resolved(i).addresses.is_empty())
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    lookup: Lookup,
    interval: Duration,
}

struct State {
    book: Book,
    addresses: Arc<Addresses>,
    threads: usize,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread: takes the name that is due next, so that a slow name holds up one thread and not the other names.
    fn work(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let now = clock::mono();
            match state.book.take_due(now) {
                Ok(index) => {
                    let host = state.book.names[index].host.clone();
                    drop(state);
                    let answer = (self.lookup)(&host);
                    state = self.lock();
                    // Other names may be wanted meanwhile.
                    if let Some(index) = state.book.names.iter().position(|name| name.host == host) {
                        state.book.learn(index, answer, clock::mono(), self.interval);
                        state.publish(index);
                    }
                    self.changed.notify_all();
                }
                Err(wait) => {
                    (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl State {
    /// Shows the data threads what changed for the upstreams that use the name.
    fn publish(&self, name: usize) {
        for (index, upstream) in self.addresses.upstreams.iter().enumerate() {
            if self.book.uses(index, name) {
                let resolved = self.book.resolved(index);
                if **upstream.load() != resolved {
                    upstream.store(Arc::new(resolved));
                }
            }
        }
    }
}

/// Everything known about all names. Pure: time comes in as an argument.
struct Book {
    names: Vec<Name>,
    upstreams: Vec<Vec<(Host, u16)>>,
}

enum Host {
    Literal(IpAddr),
    Name(usize),
}

struct Name {
    host: String,
    /// The newest first.
    known: Vec<(IpAddr, Instant)>,
    error: Option<String>,
    failures: u32,
    due: Instant,
    busy: bool,
    tried: bool,
}

impl Book {
    fn new(upstreams: &[Vec<(String, u16)>], now: Instant) -> Self {
        let mut names: Vec<Name> = Vec::new();
        let mut index_of = HashMap::new();
        let mut host = |text: &str| {
            if let Ok(literal) = text.trim_start_matches('[').trim_end_matches(']').parse() {
                return Host::Literal(literal);
            }
            Host::Name(*index_of.entry(text.to_ascii_lowercase()).or_insert_with_key(|host| {
                let (known, host) = (Vec::new(), host.clone());
                names.push(Name { host, known, error: None, failures: 0, due: now, busy: false, tried: false });
                names.len() - 1
            }))
        };
        let upstreams = upstreams.iter().map(|hosts| hosts.iter().map(|(text, port)| (host(text), *port)).collect());
        let upstreams = upstreams.collect();
        Self { names, upstreams }
    }

    /// The name that has been due the longest, now taken, or how long until one is.
    fn take_due(&mut self, now: Instant) -> Result<usize, Duration> {
        let idle = self.names.iter_mut().enumerate().filter(|(_, name)| !name.busy);
        match idle.min_by_key(|(_, name)| name.due) {
            Some((index, name)) if name.due <= now => {
                name.busy = true;
                Ok(index)
            }
            Some((_, name)) => Err(name.due.duration_since(now)),
            None => Err(INTERVAL_MIN),
        }
    }

    /// Notes what a lookup brought and when the next is due.
    fn learn(&mut self, index: usize, answer: io::Result<Vec<IpAddr>>, now: Instant, interval: Duration) {
        let name = &mut self.names[index];
        (name.busy, name.tried) = (false, true);
        let failure = match answer {
            Ok(fresh) if !fresh.is_empty() => {
                name.refresh(&fresh, now);
                None
            }
            Ok(_) => Some("the answer holds no address".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        match (&failure, &name.error) {
            (Some(error), None) => {
                let (host, kept) = (&name.host, name.known.len());
                tracing::warn!(host, kept, error, "an upstream's name does not resolve; its known addresses are kept");
            }
            (None, Some(_)) => tracing::info!(host = name.host, "an upstream's name resolves again"),
            _ => {}
        }
        name.failures = if failure.is_some() { name.failures.saturating_add(1) } else { 0 };
        let retry = INTERVAL_MIN.saturating_mul(1 << name.failures.saturating_sub(1).min(6));
        name.due = now + if failure.is_some() { interval.min(retry) } else { interval };
        name.error = failure;
    }

    fn uses(&self, upstream: usize, name: usize) -> bool {
        self.upstreams[upstream].iter().any(|(host, _)| matches!(host, Host::Name(index) if *index == name))
    }

    /// The upstream's addresses, taking turns between its hosts so that the bound cuts none of them off.
    fn resolved(&self, upstream: usize) -> Resolved {
        let mut resolved = Resolved::default();
        let mut lists = Vec::new();
        for (host, port) in &self.upstreams[upstream] {
            lists.push(match host {
                Host::Literal(address) => vec![SocketAddr::new(*address, *port)],
                Host::Name(index) => {
                    let name = &self.names[*index];
                    if let Some(error) = &name.error {
                        resolved.error = Some(format!("{}: {error}", name.host));
                    }
                    name.known.iter().map(|(address, _)| SocketAddr::new(*address, *port)).collect()
                }
            });
        }
        let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
        for address in (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn))) {
            if resolved.addresses.len() < limits::UPSTREAM_ADDRESSES_MAX && !resolved.addresses.contains(address) {
                resolved.addresses.push(*address);
            }
        }
        resolved
    }
}

impl Name {
    /// Puts the fresh addresses in front of the recent ones and forgets the old.
    fn refresh(&mut self, fresh: &[IpAddr], now: Instant) {
        let mut known: Vec<(IpAddr, Instant)> = Vec::new();
        let fresh = fresh.iter().map(|address| (*address, now));
        let recent = self.known.iter().copied().filter(|(_, seen)| now.duration_since(*seen) < KEPT);
        for (address, seen) in fresh.chain(recent) {
            if known.len() < limits::UPSTREAM_ADDRESSES_MAX && known.iter().all(|(other, _)| *other != address) {
                known.push((address, seen));
            }
        }
        self.known = known;
    }
}

fn ask_system(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// How long an address is used that newer answers do not repeat.
const KEPT: Duration = Duration::from_secs(300);
/// Lookups at once: getaddrinfo may take half a minute for a dead name.
const THREADS_MAX: usize = 8;
/// Between two lookups of one name, and first step of the retries.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
