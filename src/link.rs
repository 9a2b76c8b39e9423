//! The seam between the line and the world: one byte stream to one peer.
//!
//! Above it the code is generic and runs on the ring (`net::uring`), inside TLS (`proxy::secure`) or on the seeded
//! in-memory link of the simulations. Below it live all descriptors, timers and system calls.
//!
//! Rules every implementation keeps:
//! * Buffers are owned: they move in and come back, whatever happened.
//! * An operation is never dropped in flight by the caller; ending one early is [`Link::interrupt`] or [`Link::abort`],
//!   then awaiting it. Callers therefore never race link futures.
//! * A deadline ends a read or a wait without losing bytes and without hurting the link; it ends a *write* by making the
//!   link unusable, because the peer may have seen part of it.
//! * At most one read-side operation (`readable`, `read`, `splice_in`) and one write-side operation are in flight at a
//!   time, and beside them one `closed`.

use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;

use crate::buffer::Buffer;
use crate::clock::Deadline;
use crate::pipe::Pipe;

/// One bidirectional byte stream.
pub trait Link {
    /// Waits, holding no buffer, until a read would not wait: bytes, end of stream or an error are there.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `Interrupted` after [`interrupt`](Self::interrupt), else what the peer or kernel did.
    fn readable(&self, until: Deadline) -> impl Future<Output = io::Result<()>>;

    /// Appends at least one byte to `into`, which must have room, or reports the end of the stream as `Ok(0)`.
    ///
    /// # Errors
    /// As [`readable`](Self::readable). `UnexpectedEof` when the peer broke off without saying goodbye (a TLS stream
    /// without `close_notify`): what came before may be a truncation.
    fn read(&self, into: Buffer, until: Deadline) -> impl Future<Output = (io::Result<usize>, Buffer)>;

    /// Sends all filled bytes of `from` and returns it empty.
    ///
    /// # Errors
    /// `TimedOut` when the peer took nothing more for too long; then, as after any error, the link is only good for
    /// reading and dropping.
    fn write_all(&self, from: Buffer, until: Deadline) -> impl Future<Output = (io::Result<()>, Buffer)>;

    /// Whether [`splice_in`](Self::splice_in) and [`splice_out`](Self::splice_out) work.
    fn can_splice(&self) -> bool {
        false
    }

    /// Moves at least one and at most `max` bytes into `pipe`, which must be empty, or reports the end of the stream as
    /// `Ok(0)`. A read-side operation.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn splice_in(&self, _pipe: &mut Pipe, _max: u64, _until: Deadline) -> impl Future<Output = io::Result<usize>> {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Sends at least one of the bytes in `pipe`, which must have some. A write-side operation.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    fn splice_out(&self, _pipe: &mut Pipe, _until: Deadline) -> impl Future<Output = io::Result<()>> {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Makes a pending `readable`, `read` or `splice_in` end with `Interrupted`. Does nothing when none is pending. Must not be
    /// called while a write is in flight on the same link.
    fn interrupt(&self);

    /// Says goodbye (TLS `close_notify`, then FIN) and keeps the read side open.
    ///
    /// # Errors
    /// When the goodbye could not be sent; nothing to be done about it.
    fn finish(&self, until: Deadline) -> impl Future<Output = io::Result<()>>;

    /// Stops sending at once, mid-message if need be: a pending write fails, reading goes on.
    fn stop_writing(&self);

    /// Breaks the stream off at once in both directions; everything pending fails. The peer must be able to tell it
    /// from an orderly end (TLS: no `close_notify`).
    fn abort(&self);

    /// Waits, holding nothing, until the peer has ended its sending or the stream is dead. Bytes do not end this wait. It
    /// is a third kind of operation, at most one at a time, beside reading and writing; [`interrupt`](Self::interrupt)
    /// leaves it alone, [`hang_up`](Self::hang_up) and [`abort`](Self::abort) end it.
    fn closed(&self) -> impl Future<Output = ()>;

    /// Ends both directions at once, between messages: the peer sees an orderly end of the transport and everything
    /// pending here ends.
    fn hang_up(&self);

    /// Whether nothing has come that was not read: neither bytes nor an end of the stream. One look, no wait.
    fn is_quiet(&self) -> bool {
        true
    }

    /// Whether the stream is known to be dead in both directions (reset, aborted). A peer that has only ended its own
    /// sending is alive: it may be waiting for an answer.
    fn is_broken(&self) -> bool {
        false
    }

    /// The address of the other end, where there is one.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

/// Opens links to upstreams.
pub trait Dial {
    /// What a dial yields.
    type Link: Link + 'static;

    /// Connects to the upstream with index `upstream` in the configuration, TLS handshake not included.
    ///
    /// # Errors
    /// Why no address of the upstream could be reached before `until`.
    fn dial(&self, upstream: usize, until: Deadline) -> impl Future<Output = Result<Self::Link, DialError>>;

    /// Avoids an address for a while: it took connections, but nothing sensible came of them.
    fn blame(&self, _address: Option<SocketAddr>) {}
}

/// Why no connection to an upstream came about.
#[derive(Debug)]
pub enum DialError {
    /// The upstream's name has no address yet; the text is the resolver's last word.
    Unresolved(String),
    /// Every address refused or failed; the last error and the number of addresses tried.
    Unreachable(io::Error, usize),
    /// The deadline came first.
    TimedOut,
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unresolved(why) => write!(f, "the upstream's name does not resolve: {why}"),
            Self::Unreachable(error, tried) => write!(f, "none of {tried} addresses accepted a connection: {error}"),
            Self::TimedOut => f.write_str("no address answered in time"),
        }
    }
}

impl std::error::Error for DialError {}
