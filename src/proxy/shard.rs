//! What all connections of one shard share. Nothing in it is visible to another thread, but for its load.
//!
//! A [`Shard`] never changes. A new configuration makes another one that [succeeds](Shard::succeed) it: both have one
//! house, where clients are counted and memory is lent, and whoever serves a client looks between two exchanges whether
//! there is a [later](Shard::latest) one. So an exchange is served on the terms it began with, and the next one is not.

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
use crate::pipe::{Pipes, Splice};
use crate::policy::route::RouteTable;
use crate::proxy::identity::Identity;
use crate::proxy::load::{Carrying, Load};
use crate::proxy::room::Rooms;
use crate::proxy::upstream::Upstream;
use crate::proxy::{Limits, Timeouts};
use crate::s3::query::Index;
use crate::tls::config::ServerConfig;

/// One shard's routes, upstreams, buffers and bounds.
pub struct Shard<D: Dial, S: AccessSink> {
    /// TLS towards clients who come from now on.
    pub tls: Option<Arc<ServerConfig>>,
    /// Which authorities vouch for clients' certificates, as a number: another one, other authorities.
    pub authorities: u64,
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
    pub access: Rc<S>,
    /// What routes that sign anew do it with, if there are any.
    pub identity: Option<Box<Identity>>,
    /// Who may hold how much of the buffers.
    pub rooms: Rc<Rooms>,
    house: Rc<House<D, S>>,
    clients: Rc<Clients>,
    is_succeeded: Cell<bool>,
}

/// What a configuration says, made ready for one shard.
pub struct Terms<D: Dial> {
    /// As [`Shard::tls`].
    pub tls: Option<Arc<ServerConfig>>,
    /// As [`Shard::authorities`].
    pub authorities: u64,
    /// As [`Shard::routes`].
    pub routes: Arc<RouteTable>,
    /// As [`Shard::upstreams`].
    pub upstreams: Vec<Upstream<D::Link>>,
    /// As [`Shard::dial`].
    pub dial: D,
    /// When bodies go through pipes.
    pub splice: Splice,
    /// As [`Shard::timeouts`].
    pub timeouts: Timeouts,
    /// As [`Shard::limits`].
    pub limits: Limits,
    /// As [`Shard::identity`].
    pub identity: Option<Identity>,
}

/// What outlives a configuration.
struct House<D: Dial, S: AccessSink> {
    parsed: RefCell<Spare>,
    ids: Ids,
    /// What finished records kept their texts in.
    texts: RefCell<Vec<String>>,
    /// The shard on the newest terms, once there is one that succeeded another.
    latest: RefCell<Weak<Shard<D, S>>>,
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
        let clients = Clients { seats: Cell::new(limits.connections_max), ..Clients::default() };
        Self {
            tls: None,
            authorities: 0,
            routes,
            upstreams,
            dial,
            buffers: Pool::new(limits.buffer_bytes_max),
            pipes: Pipes::none(),
            timeouts,
            access: Rc::new(access),
            identity: None,
            rooms: Rc::new(rooms(&limits, false)),
            limits,
            house: Rc::new(House {
                parsed: RefCell::default(),
                ids: Ids { prefix: id_prefix, next: Cell::new(0) },
                texts: RefCell::default(),
                latest: RefCell::default(),
            }),
            clients: Rc::new(clients),
            is_succeeded: Cell::new(false),
        }
    }

    /// Puts a shard on other terms in the place of this one, which must be the latest. It serves the same clients, each
    /// from its next exchange on, and takes on what is still of use: the memory, unless its bounds have changed.
    /// Upstreams that it does not share close what they have. Whoever calls keeps it alive.
    #[must_use]
    pub fn succeed(&self, terms: Terms<D>) -> Rc<Self> {
        let Terms { tls, authorities, routes, upstreams, dial, splice, timeouts, limits, identity } = terms;
        let bounds = |limits: &Limits, signs| (limits.buffer_bytes_max, limits.spool_bytes_max, signs);
        let is_same = bounds(&limits, identity.is_some()) == bounds(&self.limits, self.identity.is_some());
        let (buffers, rooms) = if is_same {
            (self.buffers.clone(), Rc::clone(&self.rooms))
        } else {
            (Pool::new(limits.buffer_bytes_max), Rc::new(rooms(&limits, identity.is_some())))
        };
        self.clients.seats.set(limits.connections_max);
        let next = Rc::new(Self {
            tls,
            authorities,
            routes,
            upstreams,
            dial,
            buffers,
            pipes: self.pipes.taken(splice),
            timeouts,
            access: Rc::clone(&self.access),
            identity: identity.map(Box::new),
            rooms,
            limits,
            house: Rc::clone(&self.house),
            clients: Rc::clone(&self.clients),
            is_succeeded: Cell::new(false),
        });
        *self.house.latest.borrow_mut() = Rc::downgrade(&next);
        self.is_succeeded.set(true);
        for upstream in &self.upstreams {
            if !next.upstreams.iter().any(|other| other.shares_with(upstream)) {
                upstream.retire();
            }
        }
        if next.authorities != self.authorities {
            for client in self.clients.known.borrow().values().filter_map(Weak::upgrade) {
                client.distrust(next.authorities);
            }
        }
        self.clients.left.notify_waiters();
        next
    }

    /// The shard on the newest terms: this one, unless it was [succeeded](Self::succeed).
    #[must_use]
    pub fn latest(self: &Rc<Self>) -> Rc<Self> {
        let latest = if self.is_succeeded.get() { self.house.latest.borrow().upgrade() } else { None };
        latest.unwrap_or_else(|| Rc::clone(self))
    }

    /// Whether there is a [later](Self::latest) one.
    #[must_use]
    pub fn is_succeeded(&self) -> bool {
        self.is_succeeded.get()
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
        let rooms = Rc::new(rooms(&self.limits, true));
        Self { identity: Some(Box::new(identity)), rooms, ..self }
    }

    /// The same shard, which speaks TLS to clients. `authorities` as the [field](Self::authorities).
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<ServerConfig>>, authorities: u64) -> Self {
        Self { tls, authorities, ..self }
    }

    /// The same shard, which lets others see its load. To be called before anybody is seated.
    #[must_use]
    pub fn with_load(self, load: Arc<Load>) -> Self {
        let seats = self.clients.seats.clone();
        Self { clients: Rc::new(Clients { load: Some(load), seats, ..Clients::default() }), ..self }
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
        let heads = self.house.parsed.borrow_mut().pop().unwrap_or_default();
        ParsedHeads { heads: Some(heads), home: &self.house.parsed }
    }

    /// The next request id.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        let ids = &self.house.ids;
        let number = ids.next.get();
        ids.next.set(number + 1);
        RequestId { prefix: ids.prefix, number }
    }

    /// Memory for the texts of a record, to be given [back](Self::done_with).
    #[must_use]
    pub fn text_memory(&self) -> String {
        self.house.texts.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps the memory of a record that was written for the next one.
    pub fn done_with(&self, record: AccessRecord) {
        let memory = record.into_memory();
        let mut texts = self.house.texts.borrow_mut();
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
        while !self.is_draining() && self.clients.expected() >= self.clients.seats.get() {
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

/// A box goes to an exchange and comes back as it is.
type Spare = Vec<Box<Parsed>>;

#[derive(Default)]
struct Parsed {
    request: RequestHead,
    query: Index,
    response: ResponseHead,
}

/// The rooms in the buffers of a shard.
fn rooms(limits: &Limits, signs: bool) -> Rooms {
    Rooms::new(limits.buffer_bytes_max, limits.spool_bytes_max, signs)
}

/// The parsed heads of one exchange. An idle connection has none.
pub struct ParsedHeads<'a> {
    /// In a box: they would be part of every idle connection.
    heads: Option<Box<Parsed>>,
    home: &'a RefCell<Spare>,
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

    /// Ends the wait for the next request of a client whose certificate others than these [`Shard::authorities`] vouched
    /// for.
    fn distrust(&self, authorities: u64);
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
    /// How many there may be.
    seats: Cell<usize>,
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
