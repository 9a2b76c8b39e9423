//! The access log's thread: takes lines from every shard and gets them into the file, whatever the disk does.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Opened, Outbox, Shared, locked, try_lock};
use crate::server::AccessLog;
use crate::{access, clock, limits};

/// The thread's side.
pub(super) struct Writer {
    pub(super) destination: AccessLog,
    pub(super) file: File,
    pub(super) shared: Arc<Shared>,
    /// Whole lines.
    pub(super) pending: Vec<u8>,
    /// Bytes of `pending` that the file has.
    pub(super) written: usize,
    /// Lines that were cut by a reopened file and that no line has told of.
    pub(super) lost: u64,
    /// Whether the last write failed, and a message has said so.
    pub(super) failing: bool,
}

impl Writer {
    pub(super) fn run(mut self) {
        while !self.shared.is_finishing() {
            // Whoever makes a slot non-empty or sets a flag leaves a token, so nothing is slept through.
            thread::park();
            if !self.shared.is_finishing() {
                // While the thread sleeps nobody pays for waking it, and lines gather for one write.
                thread::sleep(GATHER);
            }
            self.empty_outboxes();
            self.reopen_if_asked();
        }
        // What was recorded before `finish` is in its slot by now.
        self.empty_outboxes();
    }

    pub(super) fn empty_outboxes(&mut self) {
        let outboxes = locked(&self.shared.outboxes).clone();
        for outbox in &outboxes {
            for slot in &outbox.slots {
                self.swap(slot);
                self.flush();
                // Under load there are always lines, and yet files rotate.
                self.reopen_if_asked();
            }
        }
        self.tell_lost(&outboxes);
        self.flush();
    }

    /// Exchanges the slot's lines for empty memory of the usual size.
    fn swap(&mut self, slot: &Mutex<Vec<u8>>) {
        if self.pending.capacity() > 2 * limits::ACCESS_LINES_BYTES {
            self.pending = Vec::with_capacity(limits::ACCESS_LINES_BYTES);
        }
        loop {
            // A shard that had to wake somebody who waits for the lock would pay for it.
            if let Some(mut lines) = try_lock(slot) {
                if !lines.is_empty() {
                    mem::swap(&mut *lines, &mut self.pending);
                }
                return;
            }
            thread::sleep(LOCK_STEP);
        }
    }

    fn tell_lost(&mut self, outboxes: &[Arc<Outbox>]) {
        let mut lost = mem::take(&mut self.lost);
        for outbox in outboxes {
            if outbox.lost.load(Ordering::Relaxed) > 0 {
                lost += outbox.lost.swap(0, Ordering::Relaxed);
            }
        }
        if lost > 0 {
            self.pending.extend_from_slice(b"{\"time\":\"");
            access::write_time(clock::now().wall, &mut self.pending);
            self.pending.extend_from_slice(format!("\",\"lost\":{lost}}}\n").as_bytes());
        }
    }

    /// Writes everything pending, however long the disk stays full, unless the process is ending.
    pub(super) fn flush(&mut self) {
        while self.written < self.pending.len() {
            match self.file.write(&self.pending[self.written..]) {
                Ok(0) => self.endure(&io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.written += written;
                    if self.failing {
                        self.failing = false;
                        tracing::info!("the access log can be written again");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.endure(&error),
            }
        }
        self.pending.clear();
        self.written = 0;
    }

    /// Reports the first failure of a row and waits for better times.
    fn endure(&mut self, error: &io::Error) {
        if !self.failing {
            self.failing = true;
            tracing::warn!("the access log cannot be written ({error}); trying again, records may get lost meanwhile");
        }
        for _ in 0..RETRY_STEPS {
            if self.shared.is_finishing() {
                let lines = self.pending[self.written..].iter().filter(|byte| **byte == b'\n').count();
                tracing::warn!("{lines} lines of the access log were not written: {error}");
                self.written = self.pending.len();
                return;
            }
            if self.reopen_if_asked() {
                return;
            }
            thread::sleep(RETRY_STEP);
        }
    }

    /// Whether the file was opened anew.
    pub(super) fn reopen_if_asked(&mut self) -> bool {
        if !self.shared.reopen.swap(false, Ordering::AcqRel) {
            return false;
        }
        let moved = locked(&self.shared.moved).take();
        let opened = match moved {
            Some(Opened { destination, file }) => {
                self.destination = destination;
                Ok(file)
            }
            None => open(&self.destination),
        };
        match opened {
            Ok(Some(file)) => {
                self.file = file;
                let rest = &self.pending[self.written..];
                if self.written > 0 && self.pending[self.written - 1] != b'\n' {
                    // The beginning of this line is in the old file.
                    self.written += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
                    self.lost += 1;
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
}

/// How long lines are gathered before they are written.
pub(super) const GATHER: Duration = Duration::from_millis(20);

/// How long the thread leaves a shard alone that is writing a line.
const LOCK_STEP: Duration = Duration::from_micros(50);

/// A failed write is tried again after `RETRY_STEPS` of these; after each the thread looks at what it is asked for.
const RETRY_STEP: Duration = Duration::from_millis(50);
const RETRY_STEPS: u32 = 20;

/// Opens the destination, if there is one.
pub(super) fn open(destination: &AccessLog) -> io::Result<Option<File>> {
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
