//! What all connections of one shard share. Nothing in it is visible to another thread, but for its load.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::access::{AccessRecord, AccessSink, RequestId};
use crate::buffer::Pool;
use crate::clock::{self, Deadline};
use crate::http::head::{RequestHead, ResponseHead};
use crate::limits;
use crate::link::Dial;
use crate::pipe::Pipes;
use crate::policy::route::RouteTable;
use crate::proxy::identity::Identity;
use crate::proxy::load::{Carrying, Load};
use crate::proxy::room::Rooms;
use crate::proxy::upstream::Upstream;
use crate::proxy::{Limits, Timeouts};
use crate::s3::query::Index;

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
    /// Pipes.
    pub pipes: Pipes,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// Takes one record an exchange.
    pub access: S,
    /// What routes that sign anew do it with, if there are any.
    pub identity: Option<Box<Identity>>,
    /// Who may hold how much of the buffers.
    pub rooms: Rooms,
    parsed: RefCell<Vec<Box<Parsed>>>,
    ids: Ids,
    /// What finished records kept their texts in.
    texts: RefCell<Vec<String>>,
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
        Self {
            routes,
            upstreams,
            dial,
            buffers: Pool::new(limits.buffer_bytes_max),
            pipes: Pipes::none(),
            timeouts,
            access,
            identity: None,
            rooms: Rooms::new(limits.buffer_bytes_max, limits.spool_bytes_max, false),
            limits,
            parsed: RefCell::default(),
            ids: Ids { prefix: id_prefix, next: Cell::new(0) },
            texts: RefCell::default(),
            clients: Rc::default(),
        }
    }

    /// The same shard, whose plain connections may exchange bodies through pipes.
    #[must_use]
    pub fn with_pipes(self, pipes: Pipes) -> Self {
        Self { pipes, ..self }
    }

    /// The same shard, which can sign. Documents that it has to read for that have a budget of their own, which exchanges
    /// then do without.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        let rooms = Rooms::new(self.limits.buffer_bytes_max, self.limits.spool_bytes_max, true);
        Self { identity: Some(Box::new(identity)), rooms, ..self }
    }

    /// The same shard, which lets others see its load. To be called before anybody is seated.
    #[must_use]
    pub fn with_load(self, load: Arc<Load>) -> Self {
        Self { clients: Rc::new(Clients { load: Some(load), ..Clients::default() }), ..self }
    }

    /// Counts a body with so many bytes still to come (`None`: nobody knows) in the shard's load, if that is long and
    /// anybody looks at the load.
    #[must_use]
    pub fn carry(&self, remaining: Option<u64>) -> Option<Carrying<'_>> {
        let load = self.clients.load.as_deref()?;
        remaining.is_none_or(|remaining| remaining >= limits::LONG_BODY_BYTES_MIN).then(|| load.carry())
    }

    /// Takes a place for the two parsed heads of one exchange; its allocations come back with it.
    #[must_use]
    pub fn parsed(&self) -> ParsedHeads<'_> {
        ParsedHeads { heads: Some(self.parsed.borrow_mut().pop().unwrap_or_default()), home: &self.parsed }
    }

    /// The next request id.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        let number = self.ids.next.get();
        self.ids.next.set(number + 1);
        RequestId { prefix: self.ids.prefix, number }
    }

    /// Memory for the texts of a record, to be given [back](Self::done_with).
    #[must_use]
    pub fn text_memory(&self) -> String {
        self.texts.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps the memory of a record that was written for the next one.
    pub fn done_with(&self, record: AccessRecord) {
        let memory = record.into_memory();
        let mut texts = self.texts.borrow_mut();
        if memory.capacity() <= limits::TEXT_MEMORY_BYTES_MAX && texts.len() < limits::TEXT_MEMORIES_MAX {
            texts.push(memory);
        }
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

    /// Waits until one more connection fits, those included that are on their way from other shards, or the shard is
    /// going down.
    pub async fn below_max(&self) {
        while !self.is_draining() && self.clients.expected() >= self.limits.connections_max {
            // Another shard's claim that came to nothing tells nobody.
            clock::within(Deadline::after(limits::FULL_LOOK_AGAIN), self.clients.left.notified()).await;
        }
    }

    /// Counts one more connection.
    #[must_use]
    pub fn seat(&self) -> Seat {
        self.clients.seated.set(self.clients.seated.get() + 1);
        if let Some(load) = &self.clients.load {
            load.arrive();
        }
        Seat { clients: Rc::clone(&self.clients) }
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

#[derive(Default)]
struct Parsed {
    request: RequestHead,
    query: Index,
    response: ResponseHead,
}

/// The parsed heads of one exchange. An idle connection has none.
pub struct ParsedHeads<'a> {
    /// In a box: they would be part of every idle connection.
    heads: Option<Box<Parsed>>,
    home: &'a RefCell<Vec<Box<Parsed>>>,
}

impl ParsedHeads<'_> {
    /// The request's head, what its query is made of, and the response's head.
    pub fn all(&mut self) -> (&mut RequestHead, &mut Index, &mut ResponseHead) {
        let Parsed { request, query, response } = &mut **self.heads.get_or_insert_default();
        (request, query, response)
    }
}

impl Drop for ParsedHeads<'_> {
    fn drop(&mut self) {
        let mut home = self.home.borrow_mut();
        if home.len() < limits::PARSED_HEADS_KEPT_MAX {
            home.extend(self.heads.take());
        }
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
        if let Some(load) = &self.clients.load {
            load.leave();
        }
        self.clients.left.notify_waiters();
        self.clients.left.notify_one();
    }
}

impl Clients {
    /// Those who have a seat, and those for whom one is kept.
    fn expected(&self) -> usize {
        self.load.as_ref().map_or(self.seated.get(), |load| load.connections())
    }
}

#[derive(Default)]
struct Clients {
    seated: Cell<usize>,
    load: Option<Arc<Load>>,
    left: Notify,
    draining: Cell<bool>,
    next: Cell<u64>,
    known: RefCell<HashMap<u64, Weak<dyn Nudge>>>,
}

struct Ids {
    prefix: u64,
    next: Cell<u64>,
}
