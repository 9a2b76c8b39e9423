//! How the rest of a counted body gets from one wire to the other without anybody looking at it: between two connections
//! that are plain, or whose records the kernel protects, through a pipe inside the kernel; between two TLS 1.3 sessions of
//! ours record by record in the buffer the records came in. Everything else is copied by whoever asked for a pump.

use std::io;
use std::time::Duration;

use crate::clock::Deadline;
use crate::http::body::Reader;
use crate::limits;
use crate::link::{Link, NotData};
use crate::pipe::{Pipe, Pipes};
use crate::proxy::secure::{Run, RunRead, Wire};

/// Moves part of one body, or all that is left of it.
pub struct Pump {
    way: Way,
    /// Bytes since other connections last had their turn.
    turn_bytes: usize,
}

/// What carries the bytes.
enum Way {
    Pipe(Pipe),
    /// And what of them was taken in.
    Records(Option<Run>),
}

/// What filling a pump came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes were taken in, at least one.
    Bytes(usize),
    /// The peer's stream has ended.
    End,
    /// What comes next is for a reader to copy. After that a pump may fit again.
    Unfit,
}

impl Pump {
    /// A pump for what `reader` says is still to come, or `None` when it is to be copied: because its length is not known,
    /// the two wires have no way in common, it is too short to be worth it, or no pipe is to be had.
    #[must_use]
    pub fn between<A: Link, B: Link>(pipes: &Pipes, from: &Wire<A>, to: &Wire<B>, reader: &Reader) -> Option<Self> {
        let left = reader.remaining()?;
        if from.can_splice() && to.can_splice() {
            return Some(Self { way: Way::Pipe(pipes.take(left)?), turn_bytes: 0 });
        }
        let way = match (from, to) {
            (Wire::Tls(from), Wire::Tls(to)) if left >= limits::RUN_BYTES_MIN => {
                (from.carries_runs() && to.carries_runs()).then_some(Way::Records(None))?
            }
            _ => return None,
        };
        Some(Self { way, turn_bytes: 0 })
    }

    /// Takes in at most `left` bytes. What was taken in before must have been [drained](Self::drain).
    ///
    /// # Errors
    /// As [`Link::read`].
    pub async fn fill<L: Link>(&mut self, from: &Wire<L>, left: u64, until: Deadline) -> io::Result<Filled> {
        match (&mut self.way, from) {
            (Way::Pipe(pipe), from) => {
                if self.turn_bytes >= limits::PUMP_TURN_BYTES {
                    // Two fast peers never make it wait, and what others have put into the ring is submitted only when
                    // the thread has nothing to do. So this waits in the ring as well. Merely yielding would keep the
                    // thread busy.
                    self.turn_bytes = 0;
                    from.readable(until).await?;
                }
                match from.splice_in(pipe, left, until).await {
                    Ok(0) => Ok(Filled::End),
                    Ok(n) => Ok(Filled::Bytes(n)),
                    Err(error) if NotData::is(&error) => Ok(Filled::Unfit),
                    Err(error) => Err(error),
                }
            }
            (Way::Records(held), Wire::Tls(from)) => match from.read_run(left, until).await? {
                RunRead::Run(run) => Ok(Filled::Bytes(held.insert(run).plain_len())),
                RunRead::Unfit => Ok(Filled::Unfit),
            },
            _ => Ok(Filled::Unfit),
        }
    }

    /// Sends what was taken in and says how much of it went out, which is all unless there is an error. The peer has
    /// `patience` for every [`limits::BULK_BUFFER_BYTES`], as it has for a buffer of them.
    ///
    /// # Errors
    /// As [`Link::write_all`].
    pub async fn drain<L: Link>(&mut self, to: &Wire<L>, patience: Duration) -> (usize, io::Result<()>) {
        let (moved, result) = match (&mut self.way, to) {
            (Way::Pipe(pipe), to) => {
                let filled = pipe.len();
                let result = empty(pipe, to, patience).await;
                (filled - pipe.len(), result)
            }
            (Way::Records(held), Wire::Tls(to)) => match held.take() {
                Some(run) => {
                    let plain = run.plain_len();
                    let result = to.write_run(run, Deadline::after(patience)).await;
                    (if result.is_ok() { plain } else { 0 }, result)
                }
                None => (0, Ok(())),
            },
            _ => (0, Err(io::ErrorKind::Unsupported.into())),
        };
        self.turn_bytes += moved;
        (moved, result)
    }
}

async fn empty<L: Link>(pipe: &mut Pipe, to: &L, patience: Duration) -> io::Result<()> {
    while !pipe.is_empty() {
        let until = Deadline::after(patience);
        let due = pipe.len().saturating_sub(limits::BULK_BUFFER_BYTES);
        while pipe.len() > due {
            to.splice_out(pipe, until).await?;
        }
    }
    Ok(())
}
