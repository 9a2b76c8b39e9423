//! Keeps one set of credentials fresh: one attempt at a time, well before it must be.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials as Given;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::assume::Way;
use super::failure::Failure;
use super::{Pace, State, Status};
use crate::clock::{self, Deadline, Instant, within};
use crate::sign::credentials::{Credentials, Slot, Token};
use crate::sign::key::Secret;

/// The longest sleep in one piece: clocks are set, and machines are suspended.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How often the wait after a doubt doubles at most.
const DOUBT_DOUBLINGS_MAX: u32 = 5;

/// Why there is to be an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Time,
    Doubt,
}

/// What S3 thinks of the credentials it was given.
#[derive(Default)]
struct Doubts {
    /// The latest doubted generation that led to an attempt, or was found to be beyond help.
    answered: u64,
    last: Option<Instant>,
    /// Renewals in a row that were because of a doubt.
    in_a_row: u32,
    /// It was said that renewing does not help.
    told: bool,
}

pub(super) struct Keeper {
    name: String,
    pace: Pace,
    way: Arc<Way>,
    slot: Arc<Slot>,
    doubted: Arc<Notify>,
    status: Arc<Mutex<Status>>,
    /// Until the first attempt is over.
    first: Option<mpsc::Sender<()>>,
    due: Instant,
    failures_in_a_row: u32,
    doubts: Doubts,
}

impl Keeper {
    pub(super) fn new(
        (name, pace): (String, Pace),
        way: Way,
        (slot, doubted): (Arc<Slot>, Arc<Notify>),
        status: Arc<Mutex<Status>>,
        first: mpsc::Sender<()>,
    ) -> Self {
        let (way, due, doubts) = (Arc::new(way), clock::mono(), Doubts::default());
        Self { name, pace, way, slot, doubted, status, first: Some(first), due, failures_in_a_row: 0, doubts }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        let mut cause = Cause::Time;
        loop {
            self.attempt(cause).await;
            self.first = None;
            cause = self.wait().await;
        }
    }

    /// Waits until there is a reason for another attempt, and takes out what expires meanwhile.
    async fn wait(&mut self) -> Cause {
        loop {
            self.drop_expired();
            let now = clock::mono();
            if now >= self.due {
                return Cause::Time;
            }
            let doubt = self.doubt(now);
            if doubt.is_some_and(|at| now >= at) {
                return Cause::Doubt;
            }
            let wake = self.due.min(doubt.unwrap_or(self.due)).min(now + LOOK_AGAIN);
            let _ = within(Deadline::at(wake).min(self.expiry()), self.doubted.notified()).await;
        }
    }

    async fn attempt(&mut self, cause: Cause) {
        if cause == Cause::Doubt {
            self.doubts.answered = self.slot.generation();
            self.doubts.last = Some(clock::mono());
            self.doubts.in_a_row += 1;
            self.status().doubts += 1;
            tracing::info!(credential = self.name, "S3 refused what was signed with these credentials; renewing them");
        }
        let way = Arc::clone(&self.way);
        // A task of its own, so that a panic in somebody else's code is a failed attempt like any other.
        let task = tokio::spawn(async move { way.go().await });
        let _attempt = Attempt(task.abort_handle());
        let mut attempt = pin!(within(Deadline::after(self.pace.attempt), task));
        let outcome = match within(self.expiry(), attempt.as_mut()).await {
            Some(outcome) => outcome,
            None => {
                self.drop_expired();
                attempt.await
            }
        };
        let outcome = match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(Failure::new("the attempt broke off inside the AWS SDK")),
            None => Err(Failure::new(format!("no answer within {:?}", self.pace.attempt))),
        };
        match outcome.and_then(|given| self.accept(&given)) {
            Ok(renewed) => self.succeeded(cause, renewed),
            Err(failure) => self.failed(&failure),
        }
    }

    /// Puts what came into the slot; whether it is anything new.
    fn accept(&mut self, given: &Given) -> Result<bool, Failure> {
        let expires = given.expiry().map(unix);
        if expires.is_some_and(|expires| expires <= unix(clock::now().wall)) {
            return Err(Failure::new("what came has expired already; is this machine's clock right?"));
        }
        let generation = self.status().generation + 1;
        let credentials = Credentials {
            access_key: given.access_key_id().to_owned(),
            secret: Secret::new(given.secret_access_key().to_owned()),
            token: given.session_token().map(|token| Token::new(token.to_owned())),
            expires,
            generation,
        };
        if self.slot.current().is_some_and(|current| current.is_same(&credentials)) {
            return Ok(false);
        }
        self.status().generation = generation;
        self.status().expires = expires;
        self.slot.set(credentials);
        Ok(true)
    }

    fn succeeded(&mut self, cause: Cause, renewed: bool) {
        let now = clock::now();
        let left = self.slot.current().and_then(|credentials| credentials.expires).map(|at| left_at(at, now.wall));
        let wait = match left {
            None => part(self.pace.recheck, 0.75),
            // What was asked for too early comes again as it was, and then there is less and less to wait for.
            Some(left) => part(left, 0.75).max(if renewed { Duration::ZERO } else { self.pace.retry_min }),
        };
        self.due = now.mono + wait;
        self.failures_in_a_row = 0;
        if cause == Cause::Time && renewed {
            self.doubts.in_a_row = 0;
            self.doubts.told = false;
        }
        let (before, was_failing) = {
            let mut status = self.status();
            status.refreshes += 1;
            let was_failing = status.error.take().is_some();
            let before = status.state;
            if before != State::Refused || !self.doubts.told {
                status.state = State::Valid;
            }
            (before, was_failing)
        };
        let seconds_left = left.map(|left| left.as_secs());
        if was_failing || before == State::Awaited {
            tracing::info!(credential = self.name, seconds_left, "credentials are there");
        } else if renewed {
            tracing::debug!(credential = self.name, seconds_left, "credentials are renewed");
        }
        if cause == Cause::Doubt && !renewed {
            self.tell_refused("there are no others to be had");
        }
    }

    fn failed(&mut self, failure: &Failure) {
        let wait = self.pace.retry_min.saturating_mul(1 << self.failures_in_a_row.min(16)).min(self.pace.retry_max);
        self.failures_in_a_row += 1;
        self.drop_expired();
        self.due = clock::mono() + part(wait, 1.0);
        let seconds_left = self
            .slot
            .current()
            .map(|credentials| credentials.expires.map_or(u64::MAX, |at| left_at(at, clock::now().wall).as_secs()));
        let state = if seconds_left.is_some() { State::Failing } else { State::Missing };
        let text = failure.to_string();
        let is_news = {
            let mut status = self.status();
            status.failures += 1;
            let is_news = status.state != state || status.error.as_ref() != Some(&text);
            status.state = state;
            status.error = Some(text);
            is_news
        };
        match seconds_left {
            _ if !is_news => {}
            None => tracing::error!(credential = self.name, "there are no credentials: {failure}"),
            Some(u64::MAX) => tracing::warn!(credential = self.name, "credentials cannot be renewed: {failure}"),
            Some(seconds_left) => tracing::warn!(
                credential = self.name,
                seconds_left,
                "credentials cannot be renewed, and are used while they last: {failure}"
            ),
        }
    }

    /// When a doubt that nobody has looked into may lead to an attempt.
    fn doubt(&mut self, now: Instant) -> Option<Instant> {
        let (doubted, generation) = (self.slot.doubted(), self.slot.generation());
        if generation == 0 || doubted < generation || self.doubts.answered >= generation {
            return None;
        }
        if self.doubts.in_a_row > 0 {
            self.tell_refused("renewing them did not help");
        }
        let doublings = self.doubts.in_a_row.saturating_sub(1).min(DOUBT_DOUBLINGS_MAX);
        let pause = self.pace.doubt.saturating_mul(1 << doublings);
        Some(self.doubts.last.map_or(now, |last| last + pause))
    }

    fn tell_refused(&mut self, why: &str) {
        self.status().state = State::Refused;
        if !std::mem::replace(&mut self.doubts.told, true) {
            tracing::warn!(
                credential = self.name,
                "S3 refuses what is signed with these credentials, and {why}: is the role revoked, or not allowed what \
                 is asked of it?"
            );
        }
    }

    /// When what is in the slot expires.
    fn expiry(&self) -> Deadline {
        let Some(at) = self.slot.current().and_then(|credentials| credentials.expires) else { return Deadline::NEVER };
        let now = clock::now();
        Deadline::at(now.mono + left_at(at, now.wall).min(LOOK_AGAIN))
    }

    fn drop_expired(&mut self) {
        let Some(at) = self.slot.current().and_then(|credentials| credentials.expires) else { return };
        if !left_at(at, clock::now().wall).is_zero() {
            return;
        }
        self.slot.clear();
        // The clock was set, or the machine slept: what was planned is too late.
        self.due = self.due.min(clock::mono());
        let why = {
            let mut status = self.status();
            status.state = State::Missing;
            status.expires = None;
            status.error.clone().unwrap_or_else(|| "they were not renewed in time".to_owned())
        };
        tracing::error!(credential = self.name, "credentials have expired, and there are no others: {why}");
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that ends when nobody waits for it any more: the time for it is up, or whoever keeps the credentials was told to
/// end.
struct Attempt(AbortHandle);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Seconds since 1970.
fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// From `now` to `at`, in seconds since 1970.
fn left_at(at: u64, now: SystemTime) -> Duration {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(now);
    at.duration_since(now).unwrap_or_default()
}

/// Something between two thirds of `most` of `whole` and all of it, so that gates that start together do not ask
/// together.
fn part(whole: Duration, most: f64) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    whole.mul_f64(most * (2.0 + random) / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_and_bounded() {
        let parts: Vec<_> = (0..100).map(|_| part(Duration::from_secs(3600), 0.75)).collect();
        assert!(parts.iter().all(|part| (1800..=2700).contains(&part.as_secs())), "{parts:?}");
        assert!(parts.iter().any(|part| part != &parts[0]));
        assert_eq!(part(Duration::ZERO, 0.75), Duration::ZERO);
    }
}
