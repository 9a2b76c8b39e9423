//! Connections to upstreams: opening them, lending them, and watching them.
//!
//! The pool is one stack a shard and upstream: the connection used last is lent first, so that a burst leaves the
//! surplus to age out. S3 closes idle connections after about five seconds without a word at the HTTP level, so every
//! connection has a watcher for as long as it lives: one wait for its end that holds no buffer and that bytes do not
//! touch, so that a request costs it nothing. An idle connection that ends is closed at that moment rather than when it
//! is next wanted, and stray bytes are looked for when it is lent.
//!
//! ```text
//!             open                lend                  give back
//!   dial ──────────────► lent ◄──────────────── idle ◄─────────────── lent
//!                          │                      │ ended, too old
//!                          └── dropped ──► dead ◄─┘
//! ```

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::buffer::Pool;
use crate::clock::{self, Deadline, Instant};
use crate::link::{Dial, Link};
use crate::proxy::Timeouts;
use crate::proxy::failure::UpstreamFault;
use crate::proxy::secure::{Secure, SecureError, Wire};
use crate::tls::TlsError;
use crate::tls::config::{ClientConfig, ClientOptions};

/// One upstream as configured: where to connect and how to be sure of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// What logs and messages call it.
    pub name: String,
    /// Names or addresses with ports; every address of every one of them is used.
    pub connect: Vec<(String, u16)>,
    /// TLS towards it; `None` for plain HTTP.
    pub tls: Option<ClientOptions>,
}

/// One upstream of one shard: its TLS configuration and its idle connections.
pub struct Upstream<L: Link> {
    index: usize,
    tls: Option<ClientConfig>,
    idle: Rc<Idle<L>>,
}

impl<L: Link + 'static> Upstream<L> {
    /// An upstream without connections. `index` is its place in the configuration.
    #[must_use]
    pub fn new(index: usize, tls: Option<ClientConfig>, idle_for: Duration, idle_max: usize) -> Self {
        let idle = Idle {
            lines: RefCell::default(),
            swept: Cell::new(false),
            lasts: Cell::new(idle_for),
            lines_max: Cell::new(idle_max),
            is_retired: Cell::new(false),
        };
        Self { index, tls, idle: Rc::new(idle) }
    }

    /// The same upstream in another configuration, with the connections it has.
    #[must_use]
    pub fn moved(&self, index: usize, tls: Option<ClientConfig>, idle_for: Duration, idle_max: usize) -> Self {
        self.idle.lasts.set(idle_for);
        self.idle.lines_max.set(idle_max);
        Self { index, tls, idle: Rc::clone(&self.idle) }
    }

    /// Whether both have the same connections.
    #[must_use]
    pub fn shares_with(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.idle, &other.idle)
    }

    /// Lends the connection that was used last, if one has been idle for less than `age_max`: what cannot be sent twice
    /// wants one that was just in use.
    #[must_use]
    pub fn reuse(&self, age_max: Duration) -> Option<Lease<L>> {
        let age_max = age_max.min(self.idle.lasts.get());
        let mut lines = self.idle.lines.borrow_mut();
        let now = clock::mono();
        while let Some(line) = lines.pop_if(|line| now - line.idle_since.get() < age_max) {
            if line.wire.is_quiet() {
                line.state.set(State::Lent);
                return Some(Lease { line: Some(line), idle: Rc::clone(&self.idle), reused: true });
            }
            // Its end, or bytes nobody asked for, came before the watcher could say so.
            line.retire();
        }
        None
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Why there is none: the dial, the certificate, the handshake.
    pub async fn open<D: Dial<Link = L>>(
        &self,
        dial: &D,
        buffers: &Pool,
        timeouts: &Timeouts,
    ) -> Result<Lease<L>, UpstreamFault> {
        let wire = match self.connect(dial, buffers, timeouts).await {
            // Nothing was sent yet, and the address is avoided now: another one may do better.
            Err(UpstreamFault::Handshake(_)) => self.connect(dial, buffers, timeouts).await?,
            result => result?,
        };
        let line = Rc::new(Line { wire, state: Cell::new(State::Lent), idle_since: Cell::new(clock::mono()) });
        tokio::task::spawn_local(watch(Rc::clone(&line), Rc::downgrade(&self.idle)));
        Ok(Lease { line: Some(line), idle: Rc::clone(&self.idle), reused: false })
    }

    async fn connect<D: Dial<Link = L>>(
        &self,
        dial: &D,
        buffers: &Pool,
        timeouts: &Timeouts,
    ) -> Result<Wire<L>, UpstreamFault> {
        let link = dial.dial(self.index, Deadline::after(timeouts.upstream_connect)).await;
        let link = link.map_err(UpstreamFault::Dial)?;
        let Some(tls) = &self.tls else { return Ok(Wire::Plain(link)) };
        let (peer, until) = (link.peer(), Deadline::after(timeouts.upstream_handshake));
        match Secure::connect(link, tls, buffers, until).await {
            Ok(secure) => Ok(Wire::Tls(Box::new(secure))),
            Err(failed) => {
                dial.blame(peer);
                let why = failed.cause.to_string();
                Err(match failed.cause {
                    SecureError::Tls(TlsError::Untrusted(_)) => UpstreamFault::Untrusted(why),
                    _ => UpstreamFault::Handshake(why),
                })
            }
        }
    }

    /// Keeps no connection any more, those included that are lent now: it is in no configuration.
    pub fn retire(&self) {
        self.idle.is_retired.set(true);
        self.close_idle();
    }

    /// Closes all idle connections: the shard is going down.
    pub fn close_idle(&self) {
        for line in self.idle.lines.borrow_mut().drain(..) {
            line.retire();
        }
    }
}

/// A connection lent to one exchange. Dropping it breaks the connection off: the upstream learns at once that nobody
/// wants the rest.
pub struct Lease<L: Link> {
    line: Option<Rc<Line<L>>>,
    idle: Rc<Idle<L>>,
    reused: bool,
}

impl<L: Link> Lease<L> {
    /// The stream.
    ///
    /// # Panics
    /// Never: a lease gives its line away only when it is consumed.
    #[must_use]
    pub fn wire(&self) -> &Wire<L> {
        &self.line.as_ref().expect("a lease holds its line").wire
    }

    /// Whether the connection served a request before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Closes the connection in good order: its last response was read to the end and nothing follows.
    pub fn close(mut self) {
        if let Some(line) = self.line.take() {
            line.retire();
        }
    }
}

impl<L: Link + 'static> Lease<L> {
    /// Puts the connection back: its last response was read to the end and the upstream keeps it open.
    pub fn give_back(mut self) {
        let Some(line) = self.line.take() else { return };
        let mut lines = self.idle.lines.borrow_mut();
        let is_full = lines.len() >= self.idle.lines_max.get() || self.idle.is_retired.get();
        if is_full || line.state.get() == State::Dead || line.wire.is_worn() {
            line.retire();
            return;
        }
        line.state.set(State::Idle);
        line.idle_since.set(clock::mono());
        lines.push(line);
        if !self.idle.swept.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.idle)));
        }
    }
}

impl<L: Link> Drop for Lease<L> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.wire.abort();
            line.retire();
        }
    }
}

/// The idle connections of one upstream, the one used last at the end.
struct Idle<L: Link> {
    lines: RefCell<Vec<Rc<Line<L>>>>,
    /// Whether [`sweep`] is running.
    swept: Cell<bool>,
    lasts: Cell<Duration>,
    lines_max: Cell<usize>,
    is_retired: Cell<bool>,
}

/// One connection, shared by its watcher and by whoever has it now.
struct Line<L: Link> {
    wire: Wire<L>,
    state: Cell<State>,
    idle_since: Cell<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Lent,
    Idle,
    /// Ended by the upstream or by us; if it is lent, for when it comes back.
    Dead,
}

impl<L: Link> Line<L> {
    /// Ends the watcher, which drops the last reference and with it the connection.
    fn retire(&self) {
        self.state.set(State::Dead);
        self.wire.hang_up();
    }
}

/// Lives as long as its line does.
async fn watch<L: Link>(line: Rc<Line<L>>, idle: Weak<Idle<L>>) {
    line.wire.closed().await;
    if line.state.replace(State::Dead) == State::Idle
        && let Some(idle) = idle.upgrade()
    {
        idle.lines.borrow_mut().retain(|other| !Rc::ptr_eq(other, &line));
    }
}

/// Closes connections that have been idle for too long, for as long as there are any.
async fn sweep<L: Link>(idle: Weak<Idle<L>>) {
    loop {
        let next = {
            let Some(idle) = idle.upgrade() else { return };
            let mut lines = idle.lines.borrow_mut();
            let now = clock::mono();
            let expired = lines.partition_point(|line| now - line.idle_since.get() >= idle.lasts.get());
            lines.drain(..expired).for_each(|line| line.retire());
            let Some(oldest) = lines.first() else {
                idle.swept.set(false);
                return;
            };
            oldest.idle_since.get() + idle.lasts.get()
        };
        tokio::time::sleep_until(next).await;
    }
}
