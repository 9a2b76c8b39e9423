//! What others see of a shard: that it goes on, and how many clients it has.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a shard that has nothing else to do wakes up to beat.
pub const BEAT: Duration = Duration::from_secs(1);

/// The heart of one shard, on cache lines of its own: two, because processors fetch them in pairs.
///
/// It beats in the shard's own event loop, so a loop that is stuck has no beat. Nothing on the way of a byte touches it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Heart {
    beats: AtomicU64,
    connections: AtomicUsize,
    is_at_rest: AtomicBool,
}

impl Heart {
    /// One more turn of the loop, and how many clients the shard has.
    pub fn beat(&self, connections: usize) {
        self.connections.store(connections, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The shard has ended as it should: it beats no more, and nobody is to worry.
    pub fn rest(&self) {
        self.connections.store(0, Ordering::Relaxed);
        self.is_at_rest.store(true, Ordering::Relaxed);
    }

    /// Beats so far.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Clients at the last beat.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether it has [ended](Self::rest).
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.is_at_rest.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_counts_its_beats_until_it_rests() {
        let heart = Heart::default();
        heart.beat(3);
        heart.beat(2);
        assert_eq!((heart.beats(), heart.connections(), heart.is_at_rest()), (2, 2, false));
        heart.rest();
        assert_eq!((heart.beats(), heart.connections(), heart.is_at_rest()), (2, 0, true));
    }

    #[test]
    fn two_hearts_never_share_a_pair_of_cache_lines() {
        assert_eq!((align_of::<Heart>(), size_of::<Heart>()), (128, 128));
    }
}
