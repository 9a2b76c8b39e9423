//! How much a shard has to do. The one thing about it that other shards may see: they place new connections by it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;

/// The load of one shard, on cache lines of its own: two, because processors fetch them in pairs.
///
/// Its shard writes it when a connection comes or goes and when a long body begins or ends, never for a short exchange.
/// Others read it when they have accepted a connection, and write it only when they claim a place for one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    connections: AtomicUsize,
    long_bodies: AtomicUsize,
}

impl Load {
    /// Client connections, those on their way to the shard included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What it weighs, in idle connections.
    #[must_use]
    pub fn weight(&self) -> usize {
        let long_bodies = self.long_bodies.load(Ordering::Relaxed);
        self.connections().saturating_add(long_bodies.saturating_mul(limits::LONG_BODY_WEIGHT))
    }

    /// Counts one more connection.
    pub fn arrive(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that [arrived](Self::arrive) no longer.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a long body for as long as the guard lives.
    #[must_use]
    pub fn carry(&self) -> Carrying<'_> {
        self.long_bodies.fetch_add(1, Ordering::Relaxed);
        Carrying { load: self }
    }
}

/// A long body that is under way.
pub struct Carrying<'a> {
    load: &'a Load,
}

impl Drop for Carrying<'_> {
    fn drop(&mut self) {
        self.load.long_bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_weighs_as_much_as_many_connections_until_it_ends() {
        let load = Load::default();
        load.arrive();
        load.arrive();
        let (one, two) = (load.carry(), load.carry());
        assert_eq!((load.connections(), load.weight()), (2, 2 + 2 * limits::LONG_BODY_WEIGHT));
        drop(one);
        load.leave();
        assert_eq!((load.connections(), load.weight()), (1, 1 + limits::LONG_BODY_WEIGHT));
        drop(two);
        load.leave();
        assert_eq!((load.connections(), load.weight()), (0, 0));
    }

    #[test]
    fn two_loads_never_share_a_pair_of_cache_lines() {
        assert_eq!((align_of::<Load>(), size_of::<Load>()), (128, 128));
    }
}
