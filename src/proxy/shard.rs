//! What all connections of one shard share. Nothing in it is visible to another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::access::AccessSink;
use crate::buffer::Pool;
use crate::limits;
use crate::link::Dial;
use crate::policy::route::RouteTable;
use crate::proxy::upstream::Upstream;
use crate::proxy::{Limits, Timeouts};

/// One shard's routes, upstreams, buffers and bounds.
pub struct Shard<D: Dial, S: AccessSink> {
    /// Which bucket a name stands for.
    pub routes: Arc<RouteTable>,
    /// Upstreams, by the index routes hold.
    pub upstreams: Vec<Upstream<D::Link>>,
    /// Opens links to upstreams.
    pub dial: D,
    /// Buffers.
    pub buffers: Pool,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// Takes one record an exchange.
    pub access: S,
    permits: Semaphore,
    shares: usize,
    ids: Ids,
    clients: Rc<Clients>,
}

impl<D: Dial, S: AccessSink> Shard<D, S> {
    /// A shard without connections. `id_prefix` makes its request ids differ from every other shard's and start's.
    #[must_use]
    pub fn new(
        routes: Arc<RouteTable>,
        upstreams: Vec<Upstream<D::Link>>,
        dial: D,
        timeouts: Timeouts,
        limits: Limits,
        access: S,
        id_prefix: u64,
    ) -> Self {
        let shares = (limits.buffer_bytes_max / limits::EXCHANGE_BYTES_MAX).max(1);
        Self {
            routes,
            upstreams,
            dial,
            buffers: Pool::new(limits.buffer_bytes_max),
            timeouts,
            access,
            permits: Semaphore::new(shares),
            shares,
            limits,
            ids: Ids { prefix: id_prefix, next: Cell::new(0) },
            clients: Rc::default(),
        }
    }

    /// Waits until the buffers of one more exchange, and `more` bytes besides, fit into the shard's budget. First come,
    /// first served; every exchange is bounded by timeouts, so the wait is too.
    pub async fn room(&self, more: usize) -> Option<SemaphorePermit<'_>> {
        let shares = 1 + more.div_ceil(limits::EXCHANGE_BYTES_MAX);
        let shares = u32::try_from(shares.min(self.shares)).unwrap_or(u32::MAX);
        self.permits.acquire_many(shares).await.ok()
    }

    /// The next request id: 16 hexadecimal digits of shard and start, 8 or more of the request.
    #[must_use]
    pub fn request_id(&self) -> String {
        let next = self.ids.next.get();
        self.ids.next.set(next + 1);
        format!("{:016x}{next:08x}", self.ids.prefix)
    }

    /// Tells every idle client goodbye and lets the busy ones finish their exchange.
    pub fn drain(&self) {
        self.clients.draining.set(true);
        for client in self.clients.known.borrow().values().filter_map(Weak::upgrade) {
            client.nudge();
        }
        for upstream in &self.upstreams {
            upstream.close_idle();
        }
        self.clients.left.notify_waiters();
    }

    /// Whether the shard is going down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.clients.draining.get()
    }

    /// Number of client connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.clients.seated.get()
    }

    /// Waits until one more connection fits and takes its place. `None` once the shard is going down.
    pub async fn seat(&self) -> Option<Seat> {
        while !self.is_draining() {
            if self.clients.seated.get() < self.limits.connections_max {
                self.clients.seated.set(self.clients.seated.get() + 1);
                return Some(Seat { clients: Rc::clone(&self.clients) });
            }
            self.clients.left.notified().await;
        }
        None
    }

    /// Waits until the last connection has left.
    pub async fn emptied(&self) {
        while self.clients.seated.get() > 0 {
            self.clients.left.notified().await;
        }
    }

    /// Breaks off every connection that is left.
    pub fn abort(&self) {
        for client in self.clients.known.borrow().values().filter_map(Weak::upgrade) {
            client.abort();
        }
    }

    /// Makes a connection known to [`drain`](Self::drain) for as long as the guard lives.
    #[must_use]
    pub fn register(&self, client: Weak<dyn Nudge>) -> Registration {
        let key = self.clients.next.get();
        self.clients.next.set(key + 1);
        self.clients.known.borrow_mut().insert(key, client);
        Registration { clients: Rc::clone(&self.clients), key }
    }
}

/// A client connection that can be woken from its idle wait.
pub trait Nudge {
    /// Ends the wait for the next request, if that is what the connection does.
    fn nudge(&self);

    /// Breaks the connection off.
    fn abort(&self);
}

/// Keeps a connection known to its shard.
pub struct Registration {
    clients: Rc<Clients>,
    key: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.known.borrow_mut().remove(&self.key);
    }
}

/// The place of one client connection among those a shard may have.
pub struct Seat {
    clients: Rc<Clients>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.seated.set(self.clients.seated.get() - 1);
        self.clients.left.notify_waiters();
        self.clients.left.notify_one();
    }
}

#[derive(Default)]
struct Clients {
    seated: Cell<usize>,
    left: Notify,
    draining: Cell<bool>,
    next: Cell<u64>,
    known: RefCell<HashMap<u64, Weak<dyn Nudge>>>,
}

struct Ids {
    prefix: u64,
    next: Cell<u64>,
}
