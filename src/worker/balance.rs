//! Connections spread over shards.
//!
//! The kernel picks a listener by a hash of the addresses, so that by chance all films of an afternoon may come through
//! one core. A shard that has accepted a connection therefore looks at the loads of all, and hands the connection over,
//! as a bare descriptor that no ring has seen, when it has more to do than another. A place is claimed before the
//! connection is on its way: a burst of connections sees itself. Afterwards a connection stays where it is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use tokio::sync::Notify;

use crate::limits;
use crate::net::listen::Arrival;
use crate::proxy::load::Load;

/// The loads and inboxes of all shards of a gate.
pub struct Balance {
    places: Box<[Place]>,
    connections_max: AtomicUsize,
}

impl Balance {
    /// For so many shards, which serve at most `connections_max` clients each. Nobody takes anything over yet.
    #[must_use]
    pub fn new(shards: usize, connections_max: usize) -> Arc<Self> {
        let connections_max = AtomicUsize::new(connections_max);
        Arc::new(Self { places: (0..shards).map(|_| Place::default()).collect(), connections_max })
    }

    /// Has every shard serve at most so many clients from now on.
    pub fn set_connections_max(&self, connections_max: usize) {
        self.connections_max.store(connections_max, Ordering::Relaxed);
    }

    /// Makes shard `number` one that takes connections over.
    ///
    /// # Panics
    /// When there is no such shard.
    #[must_use]
    pub fn join(self: &Arc<Self>, number: usize) -> Member {
        self.places[number].inbox.lock().is_open = true;
        Member { balance: Arc::clone(self), number }
    }

    /// Client connections of each shard, those on their way to it included.
    #[must_use]
    pub fn connections(&self) -> Vec<usize> {
        self.places.iter().map(|place| place.load.connections()).collect()
    }
}

/// One shard among the others. It takes nothing over any more once this is dropped.
pub struct Member {
    balance: Arc<Balance>,
    number: usize,
}

impl Member {
    /// Where the shard keeps its load.
    #[must_use]
    pub fn load(&self) -> Arc<Load> {
        Arc::clone(&self.own().load)
    }

    /// Gives the arrival to a shard with less to do. Returns it when there is none that takes it: serve it here.
    #[must_use]
    pub fn hand_over(&self, arrival: Arrival, listener: usize) -> Option<Arrival> {
        let seen = self.balance.places.iter().map(|place| Seen::of(&place.load));
        let connections_max = self.balance.connections_max.load(Ordering::Relaxed);
        let Some(target) = lighter(seen, self.number, connections_max) else { return Some(arrival) };
        let place = &self.balance.places[target];
        let Some(claim) = Claim::new(Arc::clone(&place.load), connections_max) else { return Some(arrival) };
        place.inbox.push(Handed { arrival, listener, claim }).err().map(|handed| handed.arrival)
    }

    /// Waits for a connection from another shard. After [`close`](Self::close) it yields those that are here, then
    /// nothing. To be awaited by one task.
    pub async fn taken_over(&self) -> Option<Handed> {
        self.own().inbox.next().await
    }

    /// Takes nothing over any more.
    pub fn close(&self) {
        self.own().inbox.close();
    }

    fn own(&self) -> &Place {
        &self.balance.places[self.number]
    }
}

impl Drop for Member {
    /// A shard that died leaves nobody waiting.
    fn drop(&mut self) {
        self.close();
        self.own().inbox.lock().queue.clear();
    }
}

/// A connection on its way to another shard.
pub struct Handed {
    /// The connection.
    pub arrival: Arrival,
    /// Which of the listeners it came through, by its index.
    pub listener: usize,
    /// Its place in the load of the shard it goes to; to be dropped once it has a seat there.
    pub claim: Claim,
}

/// One connection in a shard's load.
pub struct Claim {
    load: Arc<Load>,
}

impl Claim {
    /// Nothing when others have claimed the last place meanwhile.
    fn new(load: Arc<Load>, connections_max: usize) -> Option<Self> {
        load.arrive();
        let claim = Self { load };
        (claim.load.connections() <= connections_max).then_some(claim)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.load.leave();
    }
}

#[derive(Default)]
#[repr(align(128))]
struct Place {
    load: Arc<Load>,
    inbox: Inbox,
}

/// What other shards have handed over. Nobody waits for its lock: who gives keeps the connection instead, and who takes
/// is told again.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    is_open: bool,
    queue: VecDeque<Handed>,
}

impl Inbox {
    /// Gives the connection back when it does not fit, or nobody takes it.
    fn push(&self, handed: Handed) -> Result<(), Handed> {
        let Some(mut waiting) = self.try_lock() else { return Err(handed) };
        let result = if waiting.is_open && waiting.queue.len() < limits::HANDED_OVER_MAX {
            waiting.queue.push_back(handed);
            Ok(())
        } else {
            Err(handed)
        };
        drop(waiting);
        self.changed.notify_one();
        result
    }

    async fn next(&self) -> Option<Handed> {
        loop {
            // Whoever holds the lock now notifies when he has let go of it.
            if let Some(mut waiting) = self.try_lock() {
                match waiting.queue.pop_front() {
                    Some(handed) => return Some(handed),
                    None if !waiting.is_open => return None,
                    None => {}
                }
            }
            self.changed.notified().await;
        }
    }

    fn close(&self) {
        self.lock().is_open = false;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Waiting>> {
        match self.waiting.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// What a shard sees of another's load.
#[derive(Clone, Copy)]
struct Seen {
    connections: usize,
    weight: usize,
}

impl Seen {
    fn of(load: &Load) -> Self {
        Self { connections: load.connections(), weight: load.weight() }
    }
}

/// The shard with least to do, if that is so much less than `own` has to do that a connection had better go there.
///
/// Among few connections any lead counts: one more film on a core is much. Among many a small lead costs less than
/// carrying connections from core to core, but it never comes to a long body. A full shard takes any that is not.
fn lighter(shards: impl Iterator<Item = Seen>, own: usize, connections_max: usize) -> Option<usize> {
    let (mut own_weight, mut is_full, mut least) = (0, false, None);
    for (number, seen) in shards.enumerate() {
        if number == own {
            (own_weight, is_full) = (seen.weight, seen.connections >= connections_max);
        } else if seen.connections < connections_max && least.is_none_or(|(_, weight)| seen.weight < weight) {
            least = Some((number, seen.weight));
        }
    }
    let (number, weight) = least?;
    let margin = (weight / CONNECTIONS_PER_LEAD).min(limits::LONG_BODY_WEIGHT / 2);
    (is_full || own_weight > weight + margin).then_some(number)
}

/// A shard may be ahead by one connection for so many that the other has.
const CONNECTIONS_PER_LEAD: usize = 16;

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
