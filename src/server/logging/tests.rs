#![expect(clippy::disallowed_methods, reason = "tests measure how long things take")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;

use super::writer::GATHER;
use super::*;
use crate::access::Said;

fn record(key: usize) -> AccessRecord {
    let mut record = AccessRecord::new(UNIX_EPOCH, "192.0.2.1:9".parse().unwrap());
    record.say(Said::Key, key.to_string());
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

fn lost_by(sender: &AccessSender) -> u64 {
    sender.outbox.as_ref().unwrap().0.lost.load(Ordering::Relaxed)
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
        let _ = init_tracing(Level::Info);
        let _ = init_tracing(Level::Info);
        tracing::error!(port = 443, "first");
        tracing::info!("second");
        tracing::debug!("third");
    }
}

#[test]
fn messages_go_to_standard_error_by_the_filter_and_uncoloured() {
    // The filter, how many of the three messages come through, and whether the filter is complained about.
    for (filter, count, complaint) in [("", 2, false), ("error", 1, false), ("debug", 3, false), ("a=b=c", 2, true)] {
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
            let sender = sender.another();
            scope.spawn(move || (from..from + 1000).for_each(|key| sender.record(&record(key))));
        }
    });
    logger.finish();
    let lines = lines(&path);
    let mut keys = keys(&lines);
    keys.sort_unstable();
    assert_eq!(keys, (0..=4000).collect::<Vec<_>>());
    assert_eq!(lost(&lines), 0);
    sender.record(&record(9));
    assert_eq!(lost_by(&sender), 1);
}

#[test]
fn a_log_that_is_off_takes_nothing() {
    let (sender, logger) = AccessLogger::start(AccessLog::Off).unwrap();
    assert!(!sender.wants_records());
    sender.record(&record(1));
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
    sender.record(&record(1));
    wait_until("the first line is there", || lines(&path).len() == 1);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    std::fs::rename(&path, &moved).unwrap();
    logger.reopen();
    wait_until("the new file is there", || path.exists());
    sender.record(&record(2));
    logger.finish();
    assert_eq!((keys(&lines(&moved)), keys(&lines(&path))), (vec![1], vec![2]));
}

#[test]
fn a_full_disk_loses_records_by_number_and_is_outlived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    symlink("/dev/full", &path).unwrap();
    let (sender, logger) = AccessLogger::start_bounded(AccessLog::File(path.clone()), 2000).unwrap();
    sender.record(&record(0));
    thread::sleep(4 * GATHER);
    let start = Instant::now();
    (1..100).for_each(|key| sender.record(&record(key)));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(lost_by(&sender) >= 50);
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
    (0..10).for_each(|key| sender.record(&record(key)));
    thread::sleep(4 * GATHER);
    let start = Instant::now();
    logger.finish();
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_line_moves_to_the_other_slot_while_the_thread_holds_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (sender, logger) = AccessLogger::start(AccessLog::File(path.clone())).unwrap();
    let outbox = Arc::clone(&sender.outbox.as_ref().unwrap().0);
    let [first, second] = &outbox.slots;
    let held = first.lock().unwrap();
    sender.record(&record(1));
    assert!(!second.lock().unwrap().is_empty());
    let both = second.lock().unwrap();
    sender.record(&record(2));
    assert_eq!(lost_by(&sender), 1);
    drop((held, both));
    sender.record(&record(3));
    logger.finish();
    let lines = lines(&path);
    let mut keys = keys(&lines);
    keys.sort_unstable();
    assert_eq!((keys, lost(&lines)), (vec![1, 3], 1));
}

#[test]
fn a_line_cut_by_a_reopened_file_is_lost_and_told_in_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let destination = AccessLog::File(path.clone());
    let (_, logger) = AccessLogger::start(AccessLog::Off).unwrap();
    let shared = Arc::clone(&logger.shared);
    let pending = b"{\"key\":\"1\"}\n{\"key\":\"2\"}\n".to_vec();
    let file = writer::open(&AccessLog::File("/dev/null".into())).unwrap().unwrap();
    let mut writer = Writer { destination, file, shared, pending, written: 3, lost: 0, failing: false };
    logger.reopen();
    assert!(writer.reopen_if_asked());
    writer.flush();
    writer.empty_outboxes();
    let lines = lines(&path);
    assert_eq!((keys(&lines), lost(&lines)), (vec![2], 1));
}

#[test]
fn long_records_are_bounded_by_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    symlink("/dev/full", &path).unwrap();
    let (sender, logger) = AccessLogger::start_bounded(AccessLog::File(path.clone()), 20_000).unwrap();
    let mut long = record(1);
    long.say(Said::UserAgent, vec![b'a'; 9000]);
    (0..64).for_each(|_| sender.record(&long));
    // The thread stops at the full disk with one slot in its hands; two more may be waiting.
    assert!(lost_by(&sender) >= 64 - 3 * 10, "{}", lost_by(&sender));
    std::fs::remove_file(&path).unwrap();
    logger.reopen();
    wait_until("the loss is told", || path.exists() && lost(&lines(&path)) > 0);
    logger.finish();
    let lines = lines(&path);
    assert_eq!(keys(&lines).len() as u64 + lost(&lines), 64);
}
