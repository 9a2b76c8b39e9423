//! Watches the shards and tells the service manager: a sign of life while every one of them goes on, and how the gate is.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::server::notify::Notifier;
use crate::worker::heart::{self, Heart};

/// A thread that watches. It ends when this is dropped.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    hearts: Vec<Arc<Heart>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    routes: usize,
    refused: Option<&'static str>,
    are_certificates_refused: bool,
    is_draining: bool,
    has_ended: bool,
}

impl Watch {
    /// Begins to watch a gate with so many routes, and tells that it is ready. `interval` is how often the service manager
    /// wants a sign of life.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        notifier: &Notifier,
        interval: Option<Duration>,
        hearts: Vec<Arc<Heart>>,
        routes: usize,
    ) -> io::Result<Self> {
        if interval.is_some_and(|interval| interval < 2 * heart::BEAT) {
            tracing::warn!(
                ?interval,
                "the service manager's watchdog is faster than shards show that they go on; WatchdogSec= has to be 4s or more"
            );
        }
        let state = State { routes, ..State::default() };
        let shared = Arc::new(Shared { hearts, state: Mutex::new(state), changed: Condvar::new() });
        let told = shared.status(state);
        notifier.ready(&told);
        let (watching, notifier) = (Arc::clone(&shared), notifier.clone());
        let thread =
            thread::Builder::new().name("watch".to_owned()).spawn(move || watching.run(&notifier, interval, told))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How the gate is, in a few words.
    #[must_use]
    pub fn status(&self) -> String {
        let state = *self.shared.lock();
        self.shared.status(state)
    }

    /// The configuration was read anew: so many routes there are now, and why it was refused, if it was. That is said until
    /// one is taken.
    pub fn set_reloaded(&self, routes: usize, refused: Option<&'static str>) {
        let mut state = self.shared.lock();
        (state.routes, state.refused) = (routes, refused);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Whether certificates have changed and cannot be used.
    pub fn set_certificates_refused(&self, are_refused: bool) {
        self.shared.lock().are_certificates_refused = are_refused;
    }

    /// The gate takes no new clients any more.
    pub fn set_draining(&self) {
        self.shared.lock().is_draining = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ends with a panic only, which has been printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, notifier: &Notifier, interval: Option<Duration>, mut told: String) {
        let now = clock::mono();
        let mut pulses: Vec<_> = self.hearts.iter().map(|heart| Pulse::new(heart.beats(), now)).collect();
        // The first sign of life is due at once: the manager's clock runs since the gate said it is ready.
        let (mut status_at, mut ping_at) = (now + STATUS_EVERY, interval.map(|_| now));
        let mut look_at = now;
        let mut state = self.lock();
        while !state.has_ended {
            drop(state);
            let now = clock::mono();
            // Who was held up here was held up there: a machine that was paused, a process that was stopped.
            let late = now.saturating_duration_since(look_at);
            for (number, (pulse, heart)) in pulses.iter_mut().zip(&self.hearts).enumerate() {
                pulse.felt_at += late;
                pulse.feel(number, heart, now, interval.is_some());
            }
            if let (Some(at), Some(interval)) = (ping_at, interval)
                && at <= now
            {
                ping_at = Some(if pulses.iter().all(|pulse| pulse.has_beaten) {
                    notifier.watchdog();
                    pulses.iter_mut().for_each(|pulse| pulse.has_beaten = false);
                    now + interval
                } else {
                    now + (interval / LOOKS).max(LOOK_MIN)
                });
            }
            state = self.lock();
            let status = self.status(*state);
            if status_at <= now || state.is_draining != told.starts_with(STOPPING) {
                status_at = now + STATUS_EVERY;
                if status != told {
                    notifier.status(&status);
                    told = status;
                }
            }
            look_at = ping_at.map_or(status_at, |at| at.min(status_at));
            let until = look_at.saturating_duration_since(clock::mono());
            if !state.has_ended {
                state = self.changed.wait_timeout(state, until).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn status(&self, state: State) -> String {
        let connections: usize = self.hearts.iter().map(|heart| heart.connections()).sum();
        let connections = counted(connections, "connection");
        if state.is_draining {
            return format!("{STOPPING}: {connections} left");
        }
        let certificates = state.are_certificates_refused.then_some("certificates have changed and cannot be used");
        let troubles = state.refused.into_iter().chain(certificates).map(|why| format!("; {why}"));
        format!("Serving {}, {connections}{}", counted(state.routes, "route"), troubles.collect::<String>())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counted(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// What is known of one heart.
struct Pulse {
    beats: u64,
    /// When it was last felt to have beaten.
    felt_at: Instant,
    /// Whether it has beaten since the last sign of life.
    has_beaten: bool,
    is_missed: bool,
}

impl Pulse {
    fn new(beats: u64, now: Instant) -> Self {
        Self { beats, felt_at: now, has_beaten: true, is_missed: false }
    }

    /// `is_watched`: somebody restarts the service.
    fn feel(&mut self, number: usize, heart: &Heart, now: Instant, is_watched: bool) {
        let beats = heart.beats();
        if beats != self.beats || heart.is_at_rest() {
            if self.is_missed {
                tracing::warn!(shard = number, seconds = self.silence(now), "a shard goes on after it was stuck");
            }
            *self = Self::new(beats, now);
        } else if !self.is_missed && now.duration_since(self.felt_at) >= MISSED_AFTER {
            self.is_missed = true;
            let end = match is_watched {
                true => "nobody tells the service manager's watchdog any more, which restarts the service",
                false => "nobody watches over the service, so restart it if that goes on",
            };
            tracing::error!(shard = number, seconds = self.silence(now), "a shard is stuck: {end}");
        }
    }

    fn silence(&self, now: Instant) -> u64 {
        now.duration_since(self.felt_at).as_secs()
    }
}

const STOPPING: &str = "Stopping";

/// How often a status that has changed is told.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How long a shard may be silent until that is said: some beats.
const MISSED_AFTER: Duration = Duration::from_secs(4);

/// How often, in the time of one sign of life, a shard is looked at whose beat is missing.
const LOOKS: u32 = 8;

/// The least time between two such looks.
const LOOK_MIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// A manager, and a notifier that tells it.
    fn manager() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        (directory, socket, notifier)
    }

    fn next(socket: &UnixDatagram, within: Duration) -> Option<String> {
        socket.set_read_timeout(Some(within)).unwrap();
        let mut room = [0; 1024];
        socket.recv(&mut room).ok().map(|n| String::from_utf8(room[..n].to_vec()).unwrap())
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(600);

    #[test]
    fn signs_of_life_end_while_one_shard_is_stuck_and_come_again_after() {
        let (_directory, socket, notifier) = manager();
        let hearts: Vec<_> = (0..2).map(|_| Arc::new(Heart::default())).collect();
        let watch = Watch::start(&notifier, Some(Duration::from_millis(100)), hearts.clone(), 1).unwrap();
        assert_eq!(next(&socket, LONG).unwrap(), "READY=1\nSTATUS=Serving 1 route, 0 connections");
        assert_eq!(next(&socket, LONG).unwrap(), "WATCHDOG=1", "the first one is due at once");
        hearts[0].beat(0);
        assert_eq!(next(&socket, SHORT), None, "the other shard has not moved");
        hearts[1].beat(0);
        assert_eq!(next(&socket, LONG).unwrap(), "WATCHDOG=1");
        assert_eq!(next(&socket, SHORT), None, "no shard has moved since");
        hearts[0].rest();
        hearts[1].beat(0);
        assert_eq!(next(&socket, LONG).unwrap(), "WATCHDOG=1", "a shard at rest is not missed");
        drop(watch);
        assert_eq!(next(&socket, SHORT), None);
    }

    #[test]
    fn a_status_is_told_when_it_has_changed_and_at_once_when_the_gate_drains() {
        let (_directory, socket, notifier) = manager();
        let heart = Arc::new(Heart::default());
        let watch = Watch::start(&notifier, None, vec![Arc::clone(&heart)], 2).unwrap();
        assert_eq!(next(&socket, LONG).unwrap(), "READY=1\nSTATUS=Serving 2 routes, 0 connections");
        heart.beat(1);
        watch.set_reloaded(2, Some("refused"));
        assert_eq!(watch.status(), "Serving 2 routes, 1 connection; refused");
        watch.set_reloaded(3, None);
        assert_eq!(watch.status(), "Serving 3 routes, 1 connection");
        assert_eq!(next(&socket, LONG).unwrap(), "STATUS=Serving 3 routes, 1 connection");
        watch.set_certificates_refused(true);
        assert_eq!(watch.status(), "Serving 3 routes, 1 connection; certificates have changed and cannot be used");
        watch.set_certificates_refused(false);
        watch.set_draining();
        assert_eq!(next(&socket, STATUS_EVERY - SHORT).unwrap(), "STATUS=Stopping: 1 connection left");
        assert_eq!(next(&socket, STATUS_EVERY + SHORT), None, "nothing has changed");
    }

    #[test]
    fn a_missed_beat_is_noticed_once_and_forgiven() {
        let (heart, start) = (Heart::default(), clock::mono());
        let mut pulse = Pulse::new(0, start);
        pulse.feel(0, &heart, start + MISSED_AFTER - Duration::from_millis(1), true);
        assert!(!pulse.is_missed);
        pulse.feel(0, &heart, start + MISSED_AFTER, true);
        assert!(pulse.is_missed && pulse.silence(start + MISSED_AFTER) == MISSED_AFTER.as_secs());
        heart.beat(0);
        pulse.feel(0, &heart, start + 2 * MISSED_AFTER, true);
        assert!(!pulse.is_missed && pulse.has_beaten);
    }

    #[test]
    fn a_gate_nobody_asks_about_is_watched_all_the_same() {
        let notifier = Notifier::to(OsStr::new("/nonexistent/notify")).unwrap();
        let watch = Watch::start(&notifier, Some(SHORT), Vec::new(), 0).unwrap();
        assert_eq!(watch.status(), "Serving 0 routes, 0 connections");
    }
}
