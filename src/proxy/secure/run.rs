//! Bodies from one TLS session to another, record by record, in the buffer they were received in.
//!
//! ```text
//!   received   | 5 | payload, sealed by one side   | 17 |  5 | payload …
//!   opened     | – | payload in clear              |  – |  – | payload …
//!   sent       | 5 | payload, sealed for the other | 17 |  5 | payload …
//! ```
//!
//! A record of TLS 1.3 is as long under one key as under another, so nothing has to move: what came is opened where it
//! stands, sealed where it stands, and leaves in one write while it is still in the cache.

use std::io;

use super::{ReadSide, Secure, State};
use crate::buffer::Buffer;
use crate::clock::Deadline;
use crate::limits;
use crate::link::Link;
use crate::tls::session::{RECORD_HEAD_BYTES, RECORD_PLAIN_BYTES_MAX, RECORD_TAIL_BYTES};

/// Opened records of application data, one after the other.
pub struct Run {
    slots: Buffer,
    plain: usize,
}

impl Run {
    /// Payload bytes.
    #[must_use]
    pub const fn plain_len(&self) -> usize {
        self.plain
    }
}

/// What reading a run came to.
pub enum RunRead {
    /// Records.
    Run(Run),
    /// What comes next has to be [read](Link::read): a shorter rest, padding, the end, or a failure.
    Unfit,
}

impl<L: Link> Secure<L> {
    /// Whether bodies can be read and written as runs.
    #[must_use]
    pub fn carries_runs(&self) -> bool {
        self.state.borrow().session.carries_runs()
    }

    /// Reads at least one record whose payload, with that of those behind it, is at most `left` bytes. A read-side
    /// operation.
    ///
    /// # Errors
    /// As [`Link::read`], but for what TLS itself has to say: that is left to a read.
    pub async fn read_run(&self, left: u64, until: Deadline) -> io::Result<RunRead> {
        self.read_side.set(ReadSide::Waiting);
        let result = self.take_run(left, until).await;
        self.read_side.set(ReadSide::Idle);
        result
    }

    async fn take_run(&self, left: u64, until: Deadline) -> io::Result<RunRead> {
        loop {
            if let Some(run) = self.open_run(left) {
                return Ok(RunRead::Run(run));
            }
            let is_unfit = {
                let State { session, incoming, ended, .. } = &*self.state.borrow();
                let record = incoming.as_ref().and_then(|buffer| session.next_record(buffer.filled()));
                *ended || session.has_pending_plain() || record.is_some()
            };
            if is_unfit || self.fill_aligned(until).await? == 0 {
                return Ok(RunRead::Unfit);
            }
        }
    }

    /// Opens what is here, if that is a run. What else came, a failure included, is in the session for a read to find.
    fn open_run(&self, left: u64) -> Option<Run> {
        let State { session, incoming, .. } = &mut *self.state.borrow_mut();
        let mut slots = incoming.take()?;
        let opened = session.open_run(slots.filled_mut(), left);
        let (wire, plain, consumed) = opened.map_or((0, 0, 0), |run| (run.wire, run.plain, run.consumed));
        if wire == 0 {
            slots.consume(consumed);
            *incoming = Some(slots).filter(|buffer| !buffer.is_empty());
            return None;
        }
        let behind = slots.len() - consumed;
        if behind > 0 {
            // A part of the next record, or what is not part of the run.
            let mut rest = if behind <= limits::BUFFER_BYTES { self.pool.take() } else { self.pool.take_bulk() };
            rest.append(&slots.filled()[consumed..]);
            *incoming = Some(rest);
        }
        slots.truncate(wire);
        Some(Run { slots, plain })
    }

    /// Reads as many bytes as full records have, so that a fast peer's records are hardly ever cut in two.
    async fn fill_aligned(&self, until: Deadline) -> io::Result<usize> {
        self.await_more(until).await?;
        let waiting = self.state.borrow_mut().incoming.take();
        let mut buffer = self.with_room(waiting, true);
        buffer.limit(RUN_BYTES_MAX);
        self.fill_into(buffer, until).await
    }

    /// Seals the run for this side and sends it. A write-side operation.
    ///
    /// # Errors
    /// As [`Link::write_all`].
    pub async fn write_run(&self, mut run: Run, until: Deadline) -> io::Result<()> {
        let turn = self.turn.lock().await;
        // What is queued from here on is sealed behind the run and has to follow it.
        let (before, sealed) = {
            let State { session, outgoing, .. } = &mut *self.state.borrow_mut();
            let sealed = session.seal_run(run.slots.filled_mut(), outgoing);
            (std::mem::take(outgoing), sealed)
        };
        for part in before.chunks(limits::BUFFER_BYTES) {
            let mut buffer = self.pool.take();
            buffer.append(part);
            self.send(buffer, until).await.0?;
        }
        sealed?;
        self.send(run.slots, until).await.0?;
        self.flush(&turn, until).await
    }
}

/// Bytes of a run at most: as many full records as fit a bulk buffer.
const RUN_BYTES_MAX: usize = {
    let record = RECORD_HEAD_BYTES + RECORD_PLAIN_BYTES_MAX + RECORD_TAIL_BYTES;
    limits::BULK_BUFFER_BYTES / record * record
};
const _: () = assert!(RUN_BYTES_MAX > limits::BUFFER_BYTES);
