//! What the process says: its own messages on standard error, and the access log through a thread of its own.
//!
//! ```text
//!   shard ── format ──▶ its own two slots of lines ──┐ swap
//!   shard ── format ──▶ its own two slots of lines ──┼────────▶ thread: gather, write
//!   (or count as lost)                               ┘
//! ```
//!
//! A shard never waits for a disk, nor for the thread: the thread holds one slot of a shard at a time, and only for as long
//! as it takes to swap it for an empty one, so that the other slot is free. What there is no room for is counted, and a line
//! says so when there is room again. Once its slots have their size, a shard allocates nothing for its records.

mod writer;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle, Thread};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::AccessLog;
use crate::access::{AccessRecord, AccessSink};
use crate::limits;
use writer::Writer;

/// How much the process says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// What went wrong.
    Error,
    /// What is likely to go wrong as well.
    Warn,
    /// What happens to the gate as a whole as well.
    #[default]
    Info,
    /// What happens to single connections as well.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// All of them, each with its name.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Error, "error"),
        (Self::Warn, "warn"),
        (Self::Info, "info"),
        (Self::Debug, "debug"),
        (Self::Trace, "trace"),
    ];

    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(level, _)| *level == self).map_or("info", |(_, name)| name)
    }
}

/// Changes how much is said.
pub struct Levels(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Levels {
    /// Says so much from now on.
    pub fn set(&self, level: Level) {
        (self.0)(EnvFilter::new(level.name()));
    }
}

/// Sends the process's own messages to standard error, filtered by `FILMGATE_LOG`, and by `level` when that is unset.
/// Does nothing when somebody has done it before. What it returns changes the level; there is nothing to change where the
/// environment has decided.
pub fn init_tracing(level: Level) -> Option<Levels> {
    let wanted = std::env::var("FILMGATE_LOG").unwrap_or_default();
    let (filter, error) = match EnvFilter::builder().parse(if wanted.is_empty() { level.name() } else { &wanted }) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(level.name()), Some(error)),
    };
    let (subscriber, levels) = changeable(filter, io::stderr, io::stderr().is_terminal());
    subscriber.try_init().ok()?;
    if let Some(error) = error {
        tracing::warn!("FILMGATE_LOG is not understood ({error}); logging at {}", level.name());
        return Some(levels);
    }
    wanted.is_empty().then_some(levels)
}

/// Who writes the process's own messages that pass `filter`. What the AWS SDK says does not pass at any level: there may
/// be secrets in it, such as whole requests and what a credential process wrote. `creds` says what went wrong there.
pub fn subscriber<W>(filter: EnvFilter, writer: W, ansi: bool) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    changeable(filter, writer, ansi).0
}

fn changeable<W>(filter: EnvFilter, writer: W, ansi: bool) -> (impl Subscriber + Send + Sync, Levels)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let own = filter_fn(|metadata| !metadata.target().starts_with("aws_"));
    let written = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    let written = written.with_target(false).with_filter_reloading();
    let handle = written.reload_handle();
    let levels = Levels(Box::new(move |filter| {
        // It fails only once nothing is written any more.
        let _ = handle.reload(filter);
    }));
    (written.finish().with(own), levels)
}

/// Where one shard leaves its records. Every shard has its [`another`](Self::another).
pub struct AccessSender {
    outbox: Option<(Arc<Outbox>, Thread)>,
    shared: Arc<Shared>,
}

impl AccessSender {
    fn new(thread: Option<Thread>, shared: Arc<Shared>) -> Self {
        let outbox = thread.map(|thread| {
            let outbox = Arc::new(Outbox::new());
            locked(&shared.outboxes).push(Arc::clone(&outbox));
            (outbox, thread)
        });
        Self { outbox, shared }
    }

    /// A sender to the same log for another shard. Senders share nothing that either writes.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(self.outbox.as_ref().map(|(_, thread)| thread.clone()), Arc::clone(&self.shared))
    }
}

impl AccessSink for AccessSender {
    /// Leaves a line for the thread, or counts it as lost. Never waits.
    fn record(&self, record: &AccessRecord) {
        let Some((outbox, thread)) = &self.outbox else { return };
        if self.shared.is_finishing() {
            return outbox.lose();
        }
        let Some(mut lines) = outbox.free_slot() else { return outbox.lose() };
        if lines.len() >= self.shared.lines_bytes_max {
            return outbox.lose();
        }
        let is_first = lines.is_empty();
        record.write_json(&mut lines);
        drop(lines);
        if is_first {
            thread.unpark();
        }
    }

    fn wants_records(&self) -> bool {
        self.outbox.is_some()
    }
}

/// Lines on their way from one shard to the thread, on cache lines of their own.
#[repr(align(128))]
struct Outbox {
    /// The shard takes the first that is free, the thread empties them in this order: lines stay in theirs.
    slots: [Mutex<Vec<u8>>; 2],
    /// Records that found no room and that no line has told of.
    lost: AtomicU64,
}

impl Outbox {
    fn new() -> Self {
        let slot = || Mutex::new(Vec::with_capacity(limits::ACCESS_LINES_BYTES));
        Self { slots: [slot(), slot()], lost: AtomicU64::new(0) }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn free_slot(&self) -> Option<MutexGuard<'_, Vec<u8>>> {
        // The thread may move on to the next slot between two looks, but not come round again.
        (0..2).find_map(|_| self.slots.iter().find_map(try_lock))
    }
}

/// The access log's thread, to be told when files rotate and when it is over.
pub struct AccessLogger {
    running: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl AccessLogger {
    /// Opens the destination and starts the thread; neither when the log is off.
    ///
    /// # Errors
    /// When the file cannot be opened for appending or the thread cannot be started.
    pub fn start(destination: AccessLog) -> io::Result<(AccessSender, Self)> {
        Self::start_bounded(destination, limits::ACCESS_LINES_BYTES_MAX)
    }

    fn start_bounded(destination: AccessLog, lines_bytes_max: usize) -> io::Result<(AccessSender, Self)> {
        let shared = Arc::new(Shared {
            lines_bytes_max,
            outboxes: Mutex::default(),
            reopen: AtomicBool::new(false),
            moved: Mutex::new(None),
            finish: AtomicBool::new(false),
        });
        let Opened { destination, file } = open(destination)?;
        let running = match file {
            None => None,
            Some(file) => {
                let writer = Writer {
                    destination,
                    file,
                    shared: Arc::clone(&shared),
                    pending: Vec::with_capacity(limits::ACCESS_LINES_BYTES),
                    written: 0,
                    lost: 0,
                    failing: false,
                };
                Some(thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?)
            }
        };
        let thread = running.as_ref().map(|running| running.thread().clone());
        Ok((AccessSender::new(thread, Arc::clone(&shared)), Self { running, shared }))
    }

    /// Asks for the file to be opened anew, after it was moved away. The thread does it between two lines.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes there from now on. Only for a log that is not off, and not to be.
    pub fn redirect(&self, opened: Opened) {
        *locked(&self.shared.moved) = Some(opened);
        self.reopen();
    }

    /// Writes what was recorded and ends the thread. A record that is sent later is lost.
    pub fn finish(mut self) {
        self.shared.finish.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.running.take()
            && thread.join().is_err()
        {
            tracing::warn!("the access log's thread had ended early");
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.running {
            thread.thread().unpark();
        }
    }
}

/// Where access records can go.
pub struct Opened {
    destination: AccessLog,
    /// `None` when they go nowhere.
    file: Option<File>,
}

/// Opens `destination` for appending.
///
/// # Errors
/// Why that cannot be, with the name of the file.
pub fn open(destination: AccessLog) -> io::Result<Opened> {
    let file = writer::open(&destination)?;
    Ok(Opened { destination, file })
}

/// What the thread, its owner and the shards have in common. Shards only read it.
struct Shared {
    lines_bytes_max: usize,
    outboxes: Mutex<Vec<Arc<Outbox>>>,
    reopen: AtomicBool,
    moved: Mutex<Option<Opened>>,
    finish: AtomicBool,
}

impl Shared {
    fn is_finishing(&self) -> bool {
        self.finish.load(Ordering::Acquire)
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
