//! How a body gets from one wire to the other: through a pipe when neither side has to look at it, else through buffers.

use std::io;
use std::time::Duration;

use crate::clock::Deadline;
use crate::http::body::Reader;
use crate::limits;
use crate::link::Link;
use crate::pipe::{Pipe, Pipes};
use crate::proxy::secure::Wire;

/// A pipe for the rest of a body between these wires, or `None` when it is to be copied.
#[must_use]
pub fn pipe_between<A: Link, B: Link>(pipes: &Pipes, from: &Wire<A>, to: &Wire<B>, reader: &Reader) -> Option<Pipe> {
    let left = reader.remaining()?;
    if from.can_splice() && to.can_splice() { pipes.take(left) } else { None }
}

/// Sends everything that is in `pipe`. The peer has `patience` for every [`limits::BULK_BUFFER_BYTES`], as it has for a
/// buffer of them. What could not be sent is left in the pipe.
///
/// # Errors
/// As [`Link::splice_out`].
pub async fn drain<L: Link>(to: &Wire<L>, pipe: &mut Pipe, more: bool, patience: Duration) -> io::Result<()> {
    while !pipe.is_empty() {
        let until = Deadline::after(patience);
        let due = pipe.len().saturating_sub(limits::BULK_BUFFER_BYTES);
        while pipe.len() > due {
            to.splice_out(pipe, more, until).await?;
        }
    }
    Ok(())
}
