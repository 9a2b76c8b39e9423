//! What the process says: its own messages on standard error, and the access log through a thread of its own.
//!
//! ```text
//!   shard ──┐ try_send
//!   shard ──┼──────────▶ bounded queue ──▶ thread: format, gather, write
//!   shard ──┘ (or count as lost)
//! ```
//!
//! A shard never waits for a disk. What the queue has no room for is counted, and a line says so when there is room again.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::AccessLog;
use crate::access::{self, AccessRecord, AccessSink};
use crate::{clock, limits};

/// Sends the process's own messages to standard error, filtered by `FILMGATE_LOG` (`info` when unset). Does nothing
/// when somebody has done it before.
pub fn init_tracing() {
    let wanted = std::env::var("FILMGATE_LOG").unwrap_or_default();
    let (filter, error) = match EnvFilter::builder().parse(if wanted.is_empty() { "info" } else { &wanted }) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    if subscriber.try_init().is_ok()
        && let Some(error) = error
    {
        tracing::warn!("FILMGATE_LOG is not understood ({error}); logging at info");
    }
}

/// Where shards leave their records. One a shard, all of one queue.
#[derive(Clone)]
pub struct AccessSender {
    queue: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
}

impl AccessSender {
    /// Queues a record, or counts it as lost. Never waits.
    pub fn send(&self, record: AccessRecord) {
        let Some(queue) = &self.queue else { return };
        let bytes = record.memory_bytes();
        if self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.shared.queued_bytes_max
            && queue.try_send(Message::Record(Box::new(record))).is_ok()
        {
            return;
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl AccessSink for AccessSender {
    fn record(&self, record: AccessRecord) {
        self.send(record);
    }

    fn wants_records(&self) -> bool {
        self.queue.is_some()
    }
}

/// The access log's thread, to be told when files rotate and when it is over.
pub struct AccessLogger {
    running: Option<(SyncSender<Message>, JoinHandle<()>)>,
    shared: Arc<Shared>,
}

impl AccessLogger {
    /// Opens the destination and starts the thread; neither when the log is off.
    ///
    /// # Errors
    /// When the file cannot be opened for appending or the thread cannot be started.
    pub fn start(destination: AccessLog) -> io::Result<(AccessSender, Self)> {
        Self::start_bounded(destination, limits::ACCESS_QUEUE_RECORDS_MAX, QUEUE_BYTES_MAX)
    }

    fn start_bounded(destination: AccessLog, records_max: usize, bytes_max: usize) -> io::Result<(AccessSender, Self)> {
        let shared = Arc::new(Shared {
            lost: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
            queued_bytes_max: bytes_max,
            reopen: AtomicBool::new(false),
            finish: AtomicBool::new(false),
        });
        let Some(file) = open(&destination)? else {
            let sender = AccessSender { queue: None, shared: Arc::clone(&shared) };
            return Ok((sender, Self { running: None, shared }));
        };
        let (queue, records) = mpsc::sync_channel(records_max);
        let writer = Writer {
            destination,
            file,
            records,
            shared: Arc::clone(&shared),
            pending: Vec::with_capacity(2 * BATCH_BYTES),
            line_is_open: false,
            failing: false,
        };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        let sender = AccessSender { queue: Some(queue.clone()), shared: Arc::clone(&shared) };
        Ok((sender, Self { running: Some((queue, thread)), shared }))
    }

    /// Asks for the file to be opened anew, after it was moved away. The thread does it between two lines.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes what is queued and ends the thread. A record that is sent later is lost.
    pub fn finish(mut self) {
        self.shared.finish.store(true, Ordering::Release);
        self.wake();
        if let Some((_, thread)) = self.running.take()
            && thread.join().is_err()
        {
            tracing::warn!("the access log's thread had ended early");
        }
    }

    fn wake(&self) {
        if let Some((queue, _)) = &self.running {
            // A full queue needs no waking.
            let _ = queue.try_send(Message::Wake);
        }
    }
}

/// What travels to the thread.
enum Message {
    Record(Box<AccessRecord>),
    /// Look at the flags.
    Wake,
}

struct Shared {
    /// Records that found no room and that no line has told of.
    lost: AtomicU64,
    /// Memory held by queued records.
    queued_bytes: AtomicUsize,
    queued_bytes_max: usize,
    reopen: AtomicBool,
    finish: AtomicBool,
}

/// The thread's side.
struct Writer {
    destination: AccessLog,
    file: File,
    records: Receiver<Message>,
    shared: Arc<Shared>,
    /// Formatted, not written.
    pending: Vec<u8>,
    /// Whether the file ends within the line that `pending` continues.
    line_is_open: bool,
    /// Whether the last write failed, and a message has said so.
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        while let Ok(message) = self.records.recv() {
            self.take(message);
            if !self.finishing() {
                // While the thread sleeps nobody pays for waking it, and lines gather for one write.
                thread::sleep(GATHER);
            }
            self.drain();
            self.reopen_if_asked();
            if self.finishing() {
                break;
            }
        }
        // What was sent before `finish` is in the queue by now.
        self.drain();
    }

    fn drain(&mut self) {
        while let Ok(message) = self.records.try_recv() {
            self.take(message);
            if self.pending.len() >= BATCH_BYTES {
                // Under load the queue may never be empty, and yet files rotate and losses want to be told.
                self.tell_lost();
                self.flush();
                self.reopen_if_asked();
            }
        }
        self.tell_lost();
        self.flush();
    }

    fn take(&mut self, message: Message) {
        if let Message::Record(record) = message {
            self.shared.queued_bytes.fetch_sub(record.memory_bytes(), Ordering::Relaxed);
            record.write_json(&mut self.pending);
        }
    }

    fn tell_lost(&mut self) {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.pending.extend_from_slice(b"{\"time\":\"");
            access::write_time(clock::now().wall, &mut self.pending);
            self.pending.extend_from_slice(format!("\",\"lost\":{lost}}}\n").as_bytes());
        }
    }

    /// Writes everything pending, however long the disk stays full, unless the process is ending.
    fn flush(&mut self) {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => self.endure(&io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.line_is_open = self.pending[written - 1] != b'\n';
                    self.pending.drain(..written);
                    if self.failing {
                        self.failing = false;
                        tracing::info!("the access log can be written again");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.endure(&error),
            }
        }
    }

    /// Reports the first failure of a row and waits for better times.
    fn endure(&mut self, error: &io::Error) {
        if !self.failing {
            self.failing = true;
            tracing::warn!("the access log cannot be written ({error}); trying again, records may get lost meanwhile");
        }
        for _ in 0..RETRY_STEPS {
            if self.finishing() {
                let lines = self.pending.iter().filter(|byte| **byte == b'\n').count();
                tracing::warn!("{lines} lines of the access log were not written: {error}");
                self.pending.clear();
                return;
            }
            if self.reopen_if_asked() {
                return;
            }
            thread::sleep(RETRY_STEP);
        }
    }

    /// Whether the file was opened anew.
    fn reopen_if_asked(&mut self) -> bool {
        if !self.shared.reopen.swap(false, Ordering::AcqRel) {
            return false;
        }
        match open(&self.destination) {
            Ok(Some(file)) => {
                self.file = file;
                if std::mem::take(&mut self.line_is_open) {
                    // The beginning of this line is in the old file.
                    let end =
                        self.pending.iter().position(|byte| *byte == b'\n').map_or(self.pending.len(), |at| at + 1);
                    self.pending.drain(..end);
                    self.shared.lost.fetch_add(1, Ordering::Relaxed);
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!("the access log goes on in the old file, because the new one cannot be opened: {error}");
                false
            }
        }
    }

    fn finishing(&self) -> bool {
        self.shared.finish.load(Ordering::Acquire)
    }
}

/// Memory queued records may hold: a kilobyte each on average, where a hostile client can make one ten times as long.
const QUEUE_BYTES_MAX: usize = limits::ACCESS_QUEUE_RECORDS_MAX * 1024;

/// Bytes gathered before a write does not wait for more.
const BATCH_BYTES: usize = 64 * 1024;

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// A failed write is tried again after `RETRY_STEPS` of these; after each the thread looks at what it is asked for.
const RETRY_STEP: Duration = Duration::from_millis(50);
const RETRY_STEPS: u32 = 20;

fn open(destination: &AccessLog) -> io::Result<Option<File>> {
    match destination {
        AccessLog::Off => Ok(None),
        // Not through `std::io::Stdout`, whose own buffer hides what was written when a write fails.
        AccessLog::Stdout => Ok(Some(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
        AccessLog::File(path) => open_file(path).map(Some),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // Names and addresses of people: not for everybody on the machine.
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests measure how long things take")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Instant, UNIX_EPOCH};

    use serde_json::Value;

    use super::*;
    use crate::access::Text;

    fn record(key: usize) -> AccessRecord {
        let mut record = AccessRecord::new(UNIX_EPOCH, "192.0.2.1:9".parse().unwrap());
        record.key = Some(Text::of(key.to_string()));
        record
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    fn keys(lines: &[Value]) -> Vec<usize> {
        lines.iter().filter_map(|line| line["key"].as_str()).map(|key| key.parse().unwrap()).collect()
    }

    fn lost(lines: &[Value]) -> u64 {
        lines.iter().filter_map(|line| line["lost"].as_u64()).sum()
    }

    fn wait_until(what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    const CHILD: &str = "FILMGATE_TEST_LOGGING_CHILD";

    /// Runs in a process of its own, because a subscriber belongs to the whole process.
    #[test]
    fn in_the_child_three_messages_are_logged() {
        if std::env::var_os(CHILD).is_some() {
            init_tracing();
            init_tracing();
            tracing::error!(port = 443, "first");
            tracing::info!("second");
            tracing::debug!("third");
        }
    }

    #[test]
    fn messages_go_to_standard_error_by_the_filter_and_uncoloured() {
        // The filter, how many of the three messages come through, and whether the filter is complained about.
        for (filter, count, complaint) in [("", 2, false), ("error", 1, false), ("debug", 3, false), ("a=b=c", 2, true)]
        {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "server::logging::tests::in_the_child_three_messages_are_logged", "--nocapture"])
                .envs([(CHILD, "1"), ("FILMGATE_LOG", filter)])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            let found = ["first port=443", "second", "third"].iter().filter(|message| text.contains(**message)).count();
            assert_eq!((found, text.contains("FILMGATE_LOG")), (count, complaint), "{filter}: {text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn every_record_of_every_sender_is_a_line_after_finish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, "{\"key\":\"0\"}\n").unwrap();
        let (sender, logger) = AccessLogger::start(AccessLog::File(path.clone())).unwrap();
        assert!(sender.wants_records());
        thread::scope(|scope| {
            for from in [1, 1001, 2001, 3001] {
                let sender = sender.clone();
                scope.spawn(move || (from..from + 1000).for_each(|key| sender.record(record(key))));
            }
        });
        logger.finish();
        let lines = lines(&path);
        let mut keys = keys(&lines);
        keys.sort_unstable();
        assert_eq!(keys, (0..=4000).collect::<Vec<_>>());
        assert_eq!(lost(&lines), 0);
        assert_eq!(sender.shared.queued_bytes.load(Ordering::Relaxed), 0);
        sender.send(record(9));
    }

    #[test]
    fn a_log_that_is_off_takes_nothing() {
        let (sender, logger) = AccessLogger::start(AccessLog::Off).unwrap();
        assert!(!sender.wants_records());
        sender.send(record(1));
        logger.reopen();
        logger.finish();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named_in_the_error() {
        let error = AccessLogger::start(AccessLog::File("/nowhere/at/all.log".into())).err().unwrap();
        assert!(error.to_string().contains("/nowhere/at/all.log"), "{error}");
    }

    #[test]
    fn lines_are_written_at_once_and_after_reopen_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let (sender, logger) = AccessLogger::start(AccessLog::File(path.clone())).unwrap();
        sender.send(record(1));
        wait_until("the first line is there", || lines(&path).len() == 1);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
        std::fs::rename(&path, &moved).unwrap();
        logger.reopen();
        wait_until("the new file is there", || path.exists());
        sender.send(record(2));
        logger.finish();
        assert_eq!((keys(&lines(&moved)), keys(&lines(&path))), (vec![1], vec![2]));
    }

    #[test]
    fn a_full_disk_loses_records_by_number_and_is_outlived() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        symlink("/dev/full", &path).unwrap();
        let (sender, logger) = AccessLogger::start_bounded(AccessLog::File(path.clone()), 16, usize::MAX).unwrap();
        sender.send(record(0));
        thread::sleep(4 * GATHER);
        let start = Instant::now();
        (1..100).for_each(|key| sender.send(record(key)));
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(sender.shared.lost.load(Ordering::Relaxed) >= 83);
        std::fs::remove_file(&path).unwrap();
        logger.reopen();
        wait_until("the loss is told", || path.exists() && lost(&lines(&path)) > 0);
        logger.finish();
        let lines = lines(&path);
        let keys = keys(&lines);
        assert_eq!(keys.len() as u64 + lost(&lines), 100, "{lines:?}");
        assert!(keys.is_sorted() && keys[0] == 0, "{keys:?}");
        assert!(lines.iter().all(|line| line["time"].is_string()));
    }

    #[test]
    fn finish_does_not_wait_for_a_full_disk() {
        let (sender, logger) = AccessLogger::start(AccessLog::File("/dev/full".into())).unwrap();
        (0..10).for_each(|key| sender.send(record(key)));
        thread::sleep(4 * GATHER);
        let start = Instant::now();
        logger.finish();
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn long_records_are_bounded_by_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (sender, logger) = AccessLogger::start_bounded(AccessLog::File(path.clone()), 64, 20_000).unwrap();
        for _ in 0..32 {
            let mut long = record(1);
            long.user_agent = Some(Text::of(vec![b'a'; 9000]));
            sender.send(long);
        }
        let refused = sender.shared.lost.load(Ordering::Relaxed);
        logger.finish();
        assert!(refused >= 16, "{refused}");
        let lines = lines(&path);
        assert_eq!(keys(&lines).len() as u64 + lost(&lines), 32);
    }
}
