//! A link that speaks TLS over a link.
//!
//! Reading and writing overlap on one session. What keeps the records in order: everything sealed, and every alert, goes
//! through one write turn, and what the reading half wants sent is queued until that turn is free.
//!
//! A waiting connection costs no buffer: ciphertext stays with the kernel until someone reads, and the buffer it is read
//! into goes back to the pool once all of it is decrypted.

mod error;
mod kernel;
mod run;
mod wire;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::buffer::{Buffer, Pool};
use crate::clock::Deadline;
use crate::limits;
use crate::link::Link;
use crate::pipe::Pipe;
use crate::tls::TlsError;
use crate::tls::config::{ClientConfig, ServerConfig, Version};
use crate::tls::session::{OpenState, Session};

pub use error::{HandshakeError, SecureError};
pub use run::{Run, RunRead};
pub use wire::Wire;

/// From this size on a record is taken to be application data: session tickets and key updates are smaller.
const SURELY_DATA_BYTES: usize = 2 * 1024;

/// A TLS connection over `L`.
pub struct Secure<L: Link> {
    link: L,
    pool: Pool,
    /// What the client's certificate calls it.
    client_names: Box<[String]>,
    state: RefCell<State>,
    /// Held while anything is written to `link`.
    turn: Mutex<()>,
    read_side: Cell<ReadSide>,
    /// Whether the last read had room for more than a small buffer.
    reads_bulk: Cell<bool>,
    /// Whether the kernel protects the records: what goes over `link` is plaintext then.
    in_kernel: Cell<bool>,
}

struct State {
    session: Session,
    /// Ciphertext that is not consumed; no buffer when there is none.
    incoming: Option<Buffer>,
    /// Protocol bytes that go out before anything sealed from now on.
    outgoing: Vec<u8>,
    /// The peer's stream ended below TLS.
    ended: bool,
    /// A record may have been cut off: nothing can follow it.
    cut_off: bool,
}

/// What the reading half is at, for the sake of [`Link::interrupt`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadSide {
    Idle,
    Waiting,
    /// Sends an alert, which must not be interrupted.
    Sending,
    /// Is not to wait any more.
    Interrupted,
}

impl<L: Link> Secure<L> {
    /// Makes the handshake with a client.
    ///
    /// # Errors
    /// Why there is no session; the link comes back, usable as far as the failure left it so.
    pub async fn accept(
        link: L,
        config: &Arc<ServerConfig>,
        pool: &Pool,
        until: Deadline,
    ) -> Result<Self, HandshakeError<L>> {
        Self::handshake(link, Session::server(config), pool, until).await
    }

    /// Makes the handshake with an upstream.
    ///
    /// # Errors
    /// Why there is no session; the link comes back, usable as far as the failure left it so.
    pub async fn connect(
        link: L,
        config: &ClientConfig,
        pool: &Pool,
        until: Deadline,
    ) -> Result<Self, HandshakeError<L>> {
        Self::handshake(link, Session::client(config), pool, until).await
    }

    async fn handshake(
        link: L,
        session: Result<Session, TlsError>,
        pool: &Pool,
        until: Deadline,
    ) -> Result<Self, HandshakeError<L>> {
        let mut session = match session {
            Ok(session) => session,
            Err(error) => return Err(HandshakeError { link, cause: error.into() }),
        };
        if link.kernel_tls().is_some() {
            session.keep_keys();
        }
        let state = State { session, incoming: None, outgoing: Vec::new(), ended: false, cut_off: false };
        let mut secure = Self {
            link,
            pool: pool.clone(),
            client_names: Box::default(),
            state: RefCell::new(state),
            turn: Mutex::new(()),
            read_side: Cell::new(ReadSide::Idle),
            reads_bulk: Cell::new(false),
            in_kernel: Cell::new(false),
        };
        match secure.shake_hands(until).await {
            Ok(()) => {
                secure.client_names = secure.state.get_mut().session.take_client_names();
                Ok(secure)
            }
            Err(cause) => Err(HandshakeError { link: secure.link, cause }),
        }
    }

    async fn shake_hands(&self, until: Deadline) -> Result<(), SecureError> {
        loop {
            let opened = self.state.borrow_mut().open(&mut []);
            let flushed = self.flush(&self.turn.lock().await, until).await;
            let (_, state) = opened?;
            flushed?;
            if !self.state.borrow().session.is_handshaking() {
                return self.leave_to_kernel(until).await.map_err(SecureError::Link);
            }
            if state == OpenState::PeerClosed {
                return Err(SecureError::Closed);
            }
            // A peer that says nothing costs no buffer.
            let has_part = self.state.borrow().incoming.is_some();
            if !has_part {
                self.link.readable(until).await?;
            }
            if self.fill(until).await? == 0 {
                return Err(SecureError::Closed);
            }
        }
    }

    /// The version agreed upon.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.state.borrow().session.version()
    }

    /// Whether the handshake resumed an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.state.borrow().session.is_resumed()
    }

    /// Whether the connection should serve no further message, because its sending key cannot be replaced.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.state.borrow().session.is_worn()
    }

    /// The name the client asked for.
    #[must_use]
    pub fn sni(&self) -> Option<String> {
        self.state.borrow().session.sni().map(str::to_owned)
    }

    /// What the client's verified certificate calls it; empty without one. See [`Session::client_names`].
    #[must_use]
    pub fn client_names(&self) -> &[String] {
        &self.client_names
    }

    /// Reads ciphertext from the link. `Ok(0)` is its end.
    async fn fill(&self, until: Deadline) -> io::Result<usize> {
        let waiting = self.state.borrow_mut().incoming.take();
        let buffer = self.with_room(waiting, self.reads_bulk.get());
        self.fill_into(buffer, until).await
    }

    /// Reads ciphertext behind what `buffer` holds of it, which nothing else does.
    async fn fill_into(&self, mut buffer: Buffer, until: Deadline) -> io::Result<usize> {
        let result = if self.read_side.get() == ReadSide::Interrupted {
            Err(io::ErrorKind::Interrupted.into())
        } else if buffer.room() == 0 {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS handshake message is too long"))
        } else {
            let (result, back) = self.link.read(buffer, until).await;
            buffer = back;
            result
        };
        let mut state = self.state.borrow_mut();
        state.incoming = Some(buffer).filter(|buffer| !buffer.is_empty());
        state.ended |= matches!(result, Ok(0));
        result
    }

    /// A buffer of one of the two sizes at least, with what is `waiting` at its front.
    fn with_room(&self, waiting: Option<Buffer>, bulk: bool) -> Buffer {
        match waiting {
            Some(mut buffer) if !bulk || buffer.capacity() > limits::BUFFER_BYTES => {
                buffer.compact();
                buffer
            }
            waiting => {
                let mut buffer = if bulk { self.pool.take_bulk() } else { self.pool.take() };
                buffer.append(waiting.as_ref().map_or(&[], Buffer::filled));
                buffer
            }
        }
    }

    /// Waits for ciphertext. That may take long: what there is of a record waits in a small buffer.
    async fn await_more(&self, until: Deadline) -> io::Result<()> {
        self.check_interrupted()?;
        {
            let incoming = &mut self.state.borrow_mut().incoming;
            if let Some(part) = incoming
                && part.len() <= limits::BUFFER_BYTES
                && part.capacity() > limits::BUFFER_BYTES
            {
                let mut small = self.pool.take();
                small.append(part.filled());
                *incoming = Some(small);
            }
        }
        self.link.readable(until).await
    }

    fn check_interrupted(&self) -> io::Result<()> {
        match self.read_side.get() {
            ReadSide::Interrupted => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(()),
        }
    }

    /// Sends the queued protocol bytes.
    async fn flush(&self, _turn: &MutexGuard<'_, ()>, until: Deadline) -> io::Result<()> {
        loop {
            let Some(buffer) = self.state.borrow_mut().take_outgoing(&self.pool) else { return Ok(()) };
            self.send(buffer, until).await.0?;
        }
    }

    async fn send(&self, sealed: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        if sealed.is_empty() {
            return (Ok(()), sealed);
        }
        if self.state.borrow().cut_off {
            return (Err(io::ErrorKind::BrokenPipe.into()), sealed);
        }
        let (result, sealed) = self.link.write_all(sealed, until).await;
        self.state.borrow_mut().cut_off |= result.is_err();
        (result, sealed)
    }

    /// Sends what reading has queued unless the writing half is at work, which then does it.
    async fn flush_from_reading(&self, until: Deadline) {
        if !self.state.borrow().outgoing.is_empty()
            && let Ok(turn) = self.turn.try_lock()
        {
            let before = self.read_side.replace(ReadSide::Sending);
            // The writing half will meet the same trouble and report it.
            let _ = self.flush(&turn, until).await;
            if self.read_side.get() == ReadSide::Sending {
                self.read_side.set(before);
            }
        }
    }

    async fn wait_readable(&self, until: Deadline) -> io::Result<()> {
        while !self.state.borrow().is_surely_readable() {
            // Tickets, key updates and alerts are not what the caller waits for. A record of data is decrypted to know it
            // from those; it is kept, and so is a failure.
            let opened = self.state.borrow_mut().open(&mut []);
            self.flush_from_reading(until).await;
            if matches!(opened, Ok((_, OpenState::Blocked))) {
                self.await_more(until).await?;
                self.fill(until).await?;
            }
        }
        Ok(())
    }

    async fn read_plain(&self, into: &mut Buffer, until: Deadline) -> io::Result<usize> {
        self.reads_bulk.set(into.room() > limits::BUFFER_BYTES);
        loop {
            let opened = self.state.borrow_mut().open(into.spare_mut());
            if let Ok((produced @ 1.., _)) = opened {
                into.commit(produced);
                return Ok(produced);
            }
            self.flush_from_reading(until).await;
            if opened?.1 == OpenState::PeerClosed {
                return Ok(0);
            }
            if self.state.borrow().ended || self.fill(until).await? == 0 {
                return Err(cut_short());
            }
        }
    }

    async fn write_sealed(&self, from: &mut Buffer, until: Deadline) -> io::Result<()> {
        let turn = self.turn.lock().await;
        let bulk = Session::sealed_len(from.len()) > limits::BUFFER_BYTES;
        let mut sealed = if bulk { self.pool.take_bulk() } else { self.pool.take() };
        while !from.is_empty() {
            let sealing = self.state.borrow_mut().seal(from, &mut sealed);
            if let Err(error) = sealing {
                // The alert, best effort, behind what was due before it.
                if self.send(sealed, until).await.0.is_ok() {
                    let _ = self.flush(&turn, until).await;
                }
                return Err(error.into());
            }
            let (result, back) = self.send(sealed, until).await;
            sealed = back;
            result?;
        }
        drop(sealed);
        self.flush(&turn, until).await
    }
}

impl State {
    /// Decrypts into `plain`; says how much and why it stopped.
    fn open(&mut self, plain: &mut [u8]) -> Result<(usize, OpenState), TlsError> {
        let Self { session, incoming, outgoing, .. } = self;
        let bytes = incoming.as_mut().map_or(&mut [][..], Buffer::filled_mut);
        let opened = session.open(bytes, plain, outgoing)?;
        if let Some(mut buffer) = incoming.take() {
            buffer.consume(opened.consumed);
            *incoming = Some(buffer).filter(|buffer| !buffer.is_empty());
        }
        Ok((opened.produced, opened.state))
    }

    /// Moves queued protocol bytes and then plaintext into the empty `sealed`.
    fn seal(&mut self, from: &mut Buffer, sealed: &mut Buffer) -> Result<(), TlsError> {
        let queued = sealed.append(&self.outgoing);
        self.outgoing.drain(..queued);
        if self.outgoing.is_empty() {
            let done = self.session.seal(from.filled(), sealed.spare_mut())?;
            sealed.commit(done.written);
            from.consume(done.consumed);
        }
        Ok(())
    }

    fn take_outgoing(&mut self, pool: &Pool) -> Option<Buffer> {
        if self.outgoing.is_empty() {
            return None;
        }
        let mut buffer = pool.take();
        let queued = buffer.append(&self.outgoing);
        self.outgoing.drain(..queued);
        if self.outgoing.is_empty() {
            // An idle connection keeps nothing.
            self.outgoing = Vec::new();
        }
        Some(buffer)
    }

    fn is_surely_readable(&self) -> bool {
        let record = self.incoming.as_ref().and_then(|buffer| self.session.next_record(buffer.filled()));
        self.ended || self.session.has_pending_plain() || record.is_some_and(|len| len >= SURELY_DATA_BYTES)
    }
}

impl<L: Link> Link for Secure<L> {
    async fn readable(&self, until: Deadline) -> io::Result<()> {
        self.read_side.set(ReadSide::Waiting);
        let result = match self.in_kernel.get() {
            true => self.wait_for_data(until).await,
            false => self.wait_readable(until).await,
        };
        self.read_side.set(ReadSide::Idle);
        result
    }

    async fn read(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        self.read_side.set(ReadSide::Waiting);
        let result;
        if self.in_kernel.get() {
            (result, into) = self.read_data(into, until).await;
        } else {
            result = self.read_plain(&mut into, until).await;
        }
        self.read_side.set(ReadSide::Idle);
        (result, into)
    }

    async fn write_all(&self, mut from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        let result;
        if self.in_kernel.get() {
            (result, from) = self.write_data(from, until).await;
        } else {
            result = self.write_sealed(&mut from, until).await;
        }
        from.clear();
        (result, from)
    }

    fn can_splice(&self) -> bool {
        self.in_kernel.get() && self.link.can_splice()
    }

    async fn splice_in(&self, pipe: &mut Pipe, max: u64, until: Deadline) -> io::Result<usize> {
        self.read_side.set(ReadSide::Waiting);
        let result = self.splice_data_in(pipe, max, until).await;
        self.read_side.set(ReadSide::Idle);
        result
    }

    async fn splice_out(&self, pipe: &mut Pipe, until: Deadline) -> io::Result<()> {
        self.splice_data_out(pipe, until).await
    }

    fn interrupt(&self) {
        match self.read_side.get() {
            ReadSide::Idle | ReadSide::Interrupted => {}
            // Remembered, for the link may have something already and the rest of its record not yet.
            ReadSide::Waiting => {
                self.read_side.set(ReadSide::Interrupted);
                self.link.interrupt();
            }
            ReadSide::Sending => self.read_side.set(ReadSide::Interrupted),
        }
    }

    async fn finish(&self, until: Deadline) -> io::Result<()> {
        let turn = self.turn.lock().await;
        if self.in_kernel.get() {
            self.say_goodbye(&turn, until).await?;
            return self.link.finish(until).await;
        }
        {
            let State { session, outgoing, .. } = &mut *self.state.borrow_mut();
            session.close_notify(outgoing);
        }
        self.flush(&turn, until).await?;
        self.link.finish(until).await
    }

    fn stop_writing(&self) {
        self.state.borrow_mut().cut_off = true;
        self.link.stop_writing();
    }

    fn abort(&self) {
        self.link.abort();
    }

    async fn closed(&self) {
        self.link.closed().await;
    }

    fn hang_up(&self) {
        self.link.hang_up();
    }

    fn is_quiet(&self) -> bool {
        let state = self.state.borrow();
        !state.ended && state.incoming.is_none() && !state.session.has_pending_plain() && self.link.is_quiet()
    }

    fn is_broken(&self) -> bool {
        self.link.is_broken()
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.link.peer()
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed without TLS close_notify")
}
