//! How a body gets from one wire to the other without anybody looking at it: through a pipe, inside the kernel.

use std::io;
use std::time::Duration;

use crate::clock::Deadline;
use crate::http::body::Reader;
use crate::limits;
use crate::link::Link;
use crate::pipe::{Pipe, Pipes};
use crate::proxy::secure::Wire;

/// Moves the rest of one body.
pub struct Pump {
    pipe: Pipe,
    /// Bytes since other connections last had their turn.
    turn_bytes: usize,
}

impl Pump {
    /// A pump for what `reader` says is still to come, or `None` when it is to be copied: because its length is not known,
    /// a side speaks TLS, it is too short to be worth it, or no pipe is to be had.
    #[must_use]
    pub fn between<A: Link, B: Link>(pipes: &Pipes, from: &Wire<A>, to: &Wire<B>, reader: &Reader) -> Option<Self> {
        let left = reader.remaining()?;
        if !from.can_splice() || !to.can_splice() {
            return None;
        }
        Some(Self { pipe: pipes.take(left)?, turn_bytes: 0 })
    }

    /// Takes in at least one and at most `left` bytes, or meets the end of the stream: `Ok(0)`. What was taken in before
    /// must have been [drained](Self::drain).
    ///
    /// # Errors
    /// As [`Link::splice_in`].
    pub async fn fill<L: Link>(&mut self, from: &Wire<L>, left: u64, until: Deadline) -> io::Result<usize> {
        from.splice_in(&mut self.pipe, left, until).await
    }

    /// Sends what was taken in and says how much of it went out, which is all unless there is an error. The peer has
    /// `patience` for every [`limits::BULK_BUFFER_BYTES`], as it has for a buffer of them.
    ///
    /// # Errors
    /// As [`Link::splice_out`].
    pub async fn drain<L: Link>(&mut self, to: &Wire<L>, patience: Duration) -> (usize, io::Result<()>) {
        let filled = self.pipe.len();
        let result = self.drain_all(to, patience).await;
        let moved = filled - self.pipe.len();
        self.turn_bytes += moved;
        if self.turn_bytes >= limits::SPLICE_TURN_BYTES {
            // Two fast peers never make it wait.
            self.turn_bytes = 0;
            tokio::task::yield_now().await;
        }
        (moved, result)
    }

    async fn drain_all<L: Link>(&mut self, to: &Wire<L>, patience: Duration) -> io::Result<()> {
        while !self.pipe.is_empty() {
            let until = Deadline::after(patience);
            let due = self.pipe.len().saturating_sub(limits::BULK_BUFFER_BYTES);
            while self.pipe.len() > due {
                to.splice_out(&mut self.pipe, until).await?;
            }
        }
        Ok(())
    }
}
