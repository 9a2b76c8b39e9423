//! The only reader of the clocks.
//!
//! Everything below the line takes time as an argument; the line itself asks here, once where it needs to.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

pub use tokio::time::Instant;

/// One moment on both clocks: `mono` for durations and deadlines, `wall` for people and signatures.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic; follows tokio's paused clock in simulations.
    pub mono: Instant,
    /// Civil time, may jump.
    pub wall: SystemTime,
}

/// Reads both clocks.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]
pub fn now() -> Now {
    Now { mono: mono(), wall: SystemTime::now() }
}

/// Reads the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]
pub fn mono() -> Instant {
    Instant::now()
}

/// Seconds since 1970 by the wall clock; what signatures are dated with.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// When an operation on a link gives up. An operation that outlives its deadline fails with `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Waits for ever. Only for waits that something else ends.
    pub const NEVER: Self = Self(None);

    /// Gives up `after` from now.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self(mono().checked_add(after))
    }

    /// Gives up at `at`.
    #[must_use]
    pub const fn at(at: Instant) -> Self {
        Self(Some(at))
    }

    /// The moment of giving up, `None` for never.
    #[must_use]
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}

/// Waits for `wait`, but not past `until`.
///
/// The wait is *dropped* at the deadline, so it must not be an operation on a link (those take a [`Deadline`] of their
/// own and are never dropped): a place in a queue is fine.
pub async fn within<F: Future>(until: Deadline, wait: F) -> Option<F::Output> {
    let Some(at) = until.instant() else { return Some(wait.await) };
    let (mut wait, mut timer) = (pin!(wait), pin!(tokio::time::sleep_until(at)));
    poll_fn(|context| match wait.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}
