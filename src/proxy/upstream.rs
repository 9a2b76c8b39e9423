//! Connections to upstreams: opening them, lending them, and watching the idle ones.
//!
//! The pool is one stack a shard and upstream: the connection used last is lent first, so that a burst leaves the
//! surplus to age out. S3 closes idle connections after about five seconds without a word at the HTTP level, so every
//! idle connection has a watcher: a readiness wait that holds no buffer. Whatever becomes readable on an idle
//! connection, FIN or stray bytes, makes it unusable, and it is closed at that moment rather than when it is next
//! wanted.
//!
//! ```text
//!             open                lend                  give back
//!   dial ──────────────► lent ◄──────────────── idle ◄─────────────── lent
//!                          │                      │ readable, too old
//!                          └── dropped ──► dead ◄─┘
//! ```

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

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
    idle_for: Duration,
    idle_max: usize,
    idle: Rc<RefCell<Vec<Rc<Line<L>>>>>,
}

impl<L: Link + 'static> Upstream<L> {
    /// An upstream without connections. `index` is its place in the configuration.
    #[must_use]
    pub fn new(index: usize, tls: Option<ClientConfig>, idle_for: Duration, idle_max: usize) -> Self {
        Self { index, tls, idle_for, idle_max, idle: Rc::default() }
    }

    /// Lends the connection that was used last, if any is idle.
    ///
    /// Its watcher's wait goes on: it ends by itself with the first byte of the response, so that the common case costs
    /// nothing, or when the connection would have been idle for too long. For a borrower that cannot wait
    /// that long it is ended here, before anything is written.
    #[must_use]
    pub fn reuse(&self, terms: Terms) -> Option<Lease<L>> {
        let line = loop {
            let line = self.idle.borrow_mut().pop()?;
            if clock::mono() - line.idle_since.get() >= terms.age_max {
                self.idle.borrow_mut().push(line);
                return None;
            }
            if line.wire.is_quiet() {
                break line;
            }
            // Its end, or bytes nobody asked for, came before the watcher could say so.
            line.retire();
        };
        line.state.set(State::Lent);
        if terms.wait == Wait::Short && line.watched.get() {
            line.wire.interrupt();
        }
        Some(Lease { line: Some(line), idle: Rc::clone(&self.idle), idle_max: self.idle_max, reused: true })
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
        let line = Rc::new(Line {
            wire,
            state: Cell::new(State::Lent),
            idle_since: Cell::new(clock::mono()),
            watched: Cell::new(false),
            woken: Cell::new(false),
            parked: Notify::new(),
            settled: Notify::new(),
        });
        tokio::task::spawn_local(watch(Rc::clone(&line), Rc::downgrade(&self.idle), self.idle_for));
        Ok(Lease { line: Some(line), idle: Rc::clone(&self.idle), idle_max: self.idle_max, reused: false })
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

    /// Closes all idle connections: the shard is going down.
    pub fn close_idle(&self) {
        for line in self.idle.borrow_mut().drain(..) {
            line.retire();
        }
    }
}

/// What a borrower needs of an idle connection.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether it can wait as long for its response as the connection may be idle.
    pub wait: Wait,
    /// How long the connection may have been idle: what cannot be sent twice wants one that was just in use.
    pub age_max: Duration,
}

/// How long a borrower can leave the watcher's wait in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// To its end.
    Long,
    /// Not at all: it has something to do earlier.
    Short,
}

/// A connection lent to one exchange. Dropping it breaks the connection off: the upstream learns at once that nobody
/// wants the rest.
pub struct Lease<L: Link> {
    line: Option<Rc<Line<L>>>,
    idle: Rc<RefCell<Vec<Rc<Line<L>>>>>,
    idle_max: usize,
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

    /// Waits until the watcher has let go of the read side. Call before the first read; writing may come first. Returns
    /// whether the wait ended with something to read.
    pub async fn settle(&self) -> bool {
        let Some(line) = &self.line else { return false };
        while line.watched.get() {
            line.settled.notified().await;
        }
        line.woken.replace(false)
    }

    /// Puts the connection back: its last response was read to the end and the upstream keeps it open.
    pub fn give_back(mut self) {
        let Some(line) = self.line.take() else { return };
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.idle_max {
            line.retire();
            return;
        }
        line.state.set(State::Idle);
        line.idle_since.set(clock::mono());
        line.parked.notify_one();
        idle.push(line);
    }

    /// Closes the connection in good order: its last response was read to the end and nothing follows.
    pub fn close(mut self) {
        if let Some(line) = self.line.take() {
            line.retire();
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

/// One connection, shared by its watcher and by whoever has it now.
struct Line<L: Link> {
    wire: Wire<L>,
    state: Cell<State>,
    idle_since: Cell<Instant>,
    /// Whether the watcher's readiness wait is in flight.
    watched: Cell<bool>,
    /// Whether the watcher's wait ended with something to read while the line was lent.
    woken: Cell<bool>,
    /// Wakes the watcher: the line became idle or dead.
    parked: Notify,
    /// Wakes the lease: the watcher let go.
    settled: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Lent,
    Idle,
    Dead,
}

impl<L: Link> Line<L> {
    /// Ends the watcher, which drops the last reference and with it the connection.
    fn retire(&self) {
        self.state.set(State::Dead);
        if self.watched.get() {
            self.wire.interrupt();
        }
        self.parked.notify_one();
    }
}

/// Lives as long as its line does: parked while the line is lent, waiting on it while it is idle.
async fn watch<L: Link>(line: Rc<Line<L>>, idle: Weak<RefCell<Vec<Rc<Line<L>>>>>, idle_for: Duration) {
    loop {
        line.parked.notified().await;
        if line.state.get() == State::Idle {
            let lent_at = line.idle_since.get();
            line.watched.set(true);
            // Whatever the outcome, it is bad news for an idle line: FIN, stray bytes, an error or old age.
            let result = line.wire.readable(Deadline::at(lent_at + idle_for)).await;
            line.watched.set(false);
            line.woken.set(result.is_ok() && line.state.get() == State::Lent);
            line.settled.notify_one();
            if line.state.get() == State::Idle && line.idle_since.get() == lent_at {
                line.state.set(State::Dead);
            }
        }
        if line.state.get() == State::Dead {
            if let Some(idle) = idle.upgrade() {
                idle.borrow_mut().retain(|other| !Rc::ptr_eq(other, &line));
            }
            return;
        }
    }
}
