//! A connection, plain or TLS: what is received goes to a function of the caller, what cannot be sent at once waits.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;

use rustix::net::RecvFlags;

use crate::Failure;
use crate::body::{self, Pattern};
use crate::poll::{Interest, Poll};
use crate::session::Session;

/// The most one call receives, in bytes.
const INCOMING: usize = 512 * 1024;
/// The most plaintext sealed before it is sent, in bytes.
const BATCH: u64 = 128 * 1024;
/// Bodies from here on are mostly dropped unread when they come in plain: only every so many-th chunk is looked at.
const SKIPPABLE: u64 = 256 * 1024;
const LOOK_EVERY: u32 = 16;

/// The buffers all connections of a thread share.
pub(crate) struct Scratch {
    incoming: Vec<u8>,
    pub(crate) pattern: Pattern,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch { incoming: vec![0; INCOMING], pattern: Pattern::new() }
    }
}

/// What arrived.
pub(crate) enum Arrival<'a> {
    Bytes(&'a [u8]),
    /// So many bytes of the body, dropped by the kernel.
    Skipped(u64),
}

pub(crate) struct Connection {
    socket: TcpStream,
    session: Option<Session>,
    /// The beginning of a record.
    carry: Vec<u8>,
    /// Bytes to send, of which `sent` are gone.
    out: Vec<u8>,
    sent: usize,
    interest: Interest,
    number: usize,
    chunks: u32,
    pub(crate) established: bool,
    pub(crate) closed: bool,
}

impl Connection {
    /// Takes a socket; `poll` reports its events as `number`.
    pub(crate) fn new(
        socket: TcpStream,
        session: Option<Session>,
        poll: &Poll,
        number: usize,
    ) -> Result<Connection, Failure> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        poll.add(&socket, number, Interest::Read)?;
        let mut connection = Connection {
            socket,
            established: session.is_none(),
            session,
            carry: Vec::new(),
            out: Vec::new(),
            sent: 0,
            interest: Interest::Read,
            number,
            chunks: 0,
            closed: false,
        };
        connection.process(&mut [], &mut |_| {})?;
        connection.flush()?;
        Ok(connection)
    }

    pub(crate) fn resumed(&self) -> Option<bool> {
        self.session.as_ref().and_then(Session::resumed)
    }

    /// Bytes of records that are not whole yet, and bytes that wait to be sent.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.carry.len(), self.out.len() - self.sent)
    }

    /// Receives once. Of a body of which `expected` bytes are missing, bytes may be skipped.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut Scratch,
        expected: u64,
        sink: &mut dyn FnMut(&Pattern, Arrival<'_>),
    ) -> Result<(), Failure> {
        let Scratch { incoming, pattern } = scratch;
        self.chunks = self.chunks.wrapping_add(1);
        if self.session.is_none() && expected >= SKIPPABLE && !self.chunks.is_multiple_of(LOOK_EVERY) {
            let most = incoming.len().min(expected as usize);
            if let Some(count) = self.recv(&mut incoming[..most], RecvFlags::TRUNC)? {
                sink(pattern, Arrival::Skipped(count as u64));
            }
            return Ok(());
        }
        let held = self.carry.len();
        incoming[..held].copy_from_slice(&self.carry);
        let Some(count) = self.recv(&mut incoming[held..], RecvFlags::empty())? else { return Ok(()) };
        let whole = &mut incoming[..held + count];
        if self.session.is_none() {
            if count > 0 {
                sink(pattern, Arrival::Bytes(whole));
            }
            return Ok(());
        }
        let consumed = self.process(whole, &mut |bytes| sink(pattern, Arrival::Bytes(bytes)))?;
        self.carry.clear();
        self.carry.extend_from_slice(&whole[consumed..]);
        self.flush()?;
        Ok(())
    }

    /// Receives into `buffer`; None when nothing is there.
    fn recv(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<Option<usize>, Failure> {
        match rustix::net::recv(&self.socket, buffer, flags) {
            Ok((_, count)) => {
                self.closed |= count == 0;
                Ok(Some(count))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(other) => Err(io::Error::from(other).into()),
        }
    }

    fn process(&mut self, incoming: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> Result<usize, Failure> {
        let Some(session) = &mut self.session else { return Ok(0) };
        let progress = session.process(incoming, &mut self.out, sink)?;
        self.established |= progress.established;
        self.closed |= progress.closed;
        Ok(progress.consumed)
    }

    /// Sends `bytes`, or keeps what does not go at once.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.session {
            Some(session) => session.seal(bytes, &mut self.out)?,
            None => self.out.extend_from_slice(bytes),
        }
        self.flush()?;
        Ok(())
    }

    /// Sends some of a body, `left` bytes of it from `position` on; returns how many were taken.
    pub(crate) fn send_body(&mut self, pattern: &Pattern, position: u64, left: u64) -> Result<u64, Failure> {
        if !self.flush()? || left == 0 {
            return Ok(0);
        }
        let Some(session) = &mut self.session else {
            return Ok(write(&mut self.socket, pattern.at(position, left.min(body::LONGEST as u64)))? as u64);
        };
        let bytes = pattern.at(position, left.min(BATCH));
        session.seal(bytes, &mut self.out)?;
        self.flush()?;
        Ok(bytes.len() as u64)
    }

    /// Sends what waits; whether all of it is gone.
    pub(crate) fn flush(&mut self) -> Result<bool, Failure> {
        while self.sent < self.out.len() {
            match write(&mut self.socket, &self.out[self.sent..])? {
                0 => return Ok(false),
                count => self.sent += count,
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Waits for the socket to take more while bytes wait or the caller has `more` to send, and for input otherwise.
    /// Connections that only wait for input give their buffers back.
    pub(crate) fn settle(&mut self, poll: &Poll, more: bool) -> Result<(), Failure> {
        let interest = if more || self.sent < self.out.len() { Interest::Write } else { Interest::Read };
        if interest != self.interest {
            poll.change(&self.socket, self.number, interest)?;
            self.interest = interest;
        }
        if interest == Interest::Read && self.out.capacity() > body::LONGEST / 2 && self.session.is_none() {
            self.out = Vec::new();
        }
        Ok(())
    }
}

/// Writes what the socket takes; 0 when it takes nothing now.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> Result<usize, Failure> {
    match socket.write(bytes) {
        Ok(count) => Ok(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
