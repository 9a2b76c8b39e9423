//! One TLS session: records in, plaintext out, and back. No sockets, no buffers of its own beyond one record.
//!
//! The session decrypts in place in the caller's buffer, hence the one rule: bytes that [`Session::open`] did not consume
//! must come back unchanged at the front of the next call, with more behind them.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};

use super::config::{ClientConfig, ServerConfig, Version};
use super::{TlsError, hello};

/// Plaintext bytes of a full record (RFC 8446 §5.1).
pub const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

/// Bytes a record is longer than its plaintext, at most: header, explicit nonce and tag of TLS 1.2 with AES-GCM. TLS 1.3
/// needs 22 and rustls never pads.
const RECORD_OVERHEAD_BYTES: usize = 5 + 8 + 16;

/// Bytes of a record's header.
const HEADER_BYTES: usize = 5;

/// One side of a TLS connection.
pub struct Session {
    side: Side,
    /// Plaintext that found no room, and how much of it is handed out since.
    leftover: Vec<u8>,
    leftover_taken: usize,
    /// Protocol bytes to go before anything sealed later.
    pending: Vec<u8>,
    /// Bytes at the front of the unconsumed input that rustls has decrypted and goes on referring to: the first fragments
    /// of a handshake message that is not complete.
    held: usize,
    failed: Option<TlsError>,
    sni: Option<Box<str>>,
    has_begun: bool,
    peer_closed: bool,
    said_goodbye: bool,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What [`Session::open`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Plaintext bytes written.
    pub produced: usize,
    /// Why it stopped.
    pub state: OpenState,
}

/// Why [`Session::open`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenState {
    /// More input is needed.
    Blocked,
    /// There may be more without further input: call again with room.
    PlainFull,
    /// The peer sent `close_notify`; nothing follows what has been produced.
    PeerClosed,
}

/// What [`Session::seal`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Plaintext bytes taken.
    pub consumed: usize,
    /// Bytes written, records and protocol bytes that were due before them.
    pub written: usize,
}

impl Session {
    /// A session with a client that has yet to say hello.
    ///
    /// # Errors
    /// When the library refuses the configuration.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(Arc::clone(config))?;
        Ok(Self::new(Side::Server(Box::new(connection))))
    }

    /// A session with an upstream; the first [`open`](Self::open), without input, makes the hello.
    ///
    /// # Errors
    /// When the library refuses the configuration.
    pub fn client(config: &ClientConfig) -> Result<Self, TlsError> {
        let connection = UnbufferedClientConnection::new(Arc::clone(&config.rustls), config.server_name.clone())?;
        Ok(Self::new(Side::Client(Box::new(connection))))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            leftover: Vec::new(),
            leftover_taken: 0,
            pending: Vec::new(),
            held: 0,
            failed: None,
            sni: None,
            has_begun: false,
            peer_closed: false,
            said_goodbye: false,
        }
    }

    /// Works through the whole records of `incoming`: application data goes to `plain`, what the protocol wants sent is
    /// appended to `outgoing`. Stops when `plain` is full; of the record that no longer fits the rest is kept. With an
    /// empty `plain` it stops once a record of application data is kept.
    ///
    /// # Errors
    /// What ended the session, for good; an alert for the peer may be in `outgoing`. Plaintext from before the failure is
    /// handed out first.
    pub fn open(&mut self, incoming: &mut [u8], plain: &mut [u8], outgoing: &mut Vec<u8>) -> Result<Opened, TlsError> {
        outgoing.append(&mut self.pending);
        let mut opened = Opened { consumed: 0, produced: self.take_leftover(plain), state: OpenState::PlainFull };
        if !self.leftover.is_empty() {
            return Ok(opened);
        }
        if let Some(failed) = &self.failed {
            return if opened.produced > 0 { Ok(opened) } else { Err(failed.clone()) };
        }
        if self.is_plain_http(incoming) {
            self.failed = Some(TlsError::PlainHttp);
            return Err(TlsError::PlainHttp);
        }
        if self.sni.is_none() && self.side.common().protocol_version().is_none() && matches!(self.side, Side::Server(_))
        {
            self.sni = hello::server_name(incoming).map(Box::from);
        }
        let whole = self.held + whole_records(&incoming[self.held.min(incoming.len())..]);
        while !self.peer_closed {
            if opened.produced == plain.len() && !plain.is_empty() {
                return Ok(opened);
            }
            let sink = Sink { plain: &mut plain[opened.produced..], leftover: &mut self.leftover, outgoing };
            let (discard, step) = self.side.step(&mut incoming[opened.consumed..], sink);
            opened.consumed += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Plain(produced)) => {
                    opened.produced += produced;
                    self.held = 0;
                    if !self.leftover.is_empty() {
                        return Ok(opened);
                    }
                }
                Ok(Step::Blocked | Step::Writable) => {
                    self.held = whole - opened.consumed;
                    return Ok(Opened { state: OpenState::Blocked, ..opened });
                }
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Err(error) => {
                    let error = self.fail(error, outgoing);
                    return if opened.produced > 0 { Ok(opened) } else { Err(error) };
                }
            }
        }
        // "Any data received after a closure alert has been received MUST be ignored" (RFC 8446 §6.1).
        Ok(Opened { consumed: incoming.len(), state: OpenState::PeerClosed, ..opened })
    }

    /// Encrypts as many bytes of `plain` as fit into `sealed` in full records, the last one as short as it is. A record
    /// is cut short only when not even one full one fits. Protocol bytes that are due go first.
    ///
    /// # Errors
    /// `Spent` after [`close_notify`](Self::close_notify), before the handshake is over or when the keys are used up; else
    /// what ended the session.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<Sealed, TlsError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if self.said_goodbye || !self.pump()? {
            return Err(TlsError::Spent);
        }
        let mut written = self.take_pending(sealed);
        if !self.pending.is_empty() {
            return Ok(Sealed { consumed: 0, written });
        }
        let mut consumed = fitting(plain.len(), sealed.len() - written);
        while consumed > 0 {
            match self.side.encrypt(self.held, &plain[..consumed], &mut sealed[written..]) {
                Ok(bytes) => {
                    written += bytes;
                    break;
                }
                // A key update wants to go along.
                Err(EncryptError::InsufficientSize(_)) => {
                    consumed = consumed.saturating_sub(consumed.min(RECORD_PLAIN_BYTES_MAX));
                }
                Err(EncryptError::EncryptExhausted) => {
                    self.failed = Some(TlsError::Spent);
                    return Err(TlsError::Spent);
                }
            }
        }
        if consumed == 0 && written == 0 && !plain.is_empty() && self.pump()? {
            written = self.take_pending(sealed);
        }
        Ok(Sealed { consumed, written })
    }

    /// Bytes that are always enough to seal `plain_len` bytes, leaving out protocol bytes that may be due.
    #[must_use]
    pub const fn sealed_len(plain_len: usize) -> usize {
        plain_len + plain_len.div_ceil(RECORD_PLAIN_BYTES_MAX) * RECORD_OVERHEAD_BYTES
    }

    /// Says goodbye: appends everything due and `close_notify` to `outgoing`. Reading may go on. Does nothing in the
    /// middle of a handshake, after a failure or a second time.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        if self.failed.is_none() && !self.said_goodbye && self.pump() == Ok(true) {
            self.side.queue_close_notify(self.held);
            self.said_goodbye = true;
            // A failure is kept and reported by the next call.
            let _ = self.pump();
        }
        outgoing.append(&mut self.pending);
    }

    /// Whether application data cannot flow yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.side.common().is_handshaking()
    }

    /// The version agreed upon.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self.side.common().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(Version::Tls12),
            ProtocolVersion::TLSv1_3 => Some(Version::Tls13),
            _ => None,
        }
    }

    /// The name the client asked for, unless its hello came in more than one record.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// Whether the handshake resumed an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.side.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether [`open`](Self::open) has something to tell without further input.
    #[must_use]
    pub fn has_pending_plain(&self) -> bool {
        !self.leftover.is_empty() || self.failed.is_some() || self.peer_closed
    }

    /// Bytes on the wire of the first record in `incoming` that is whole and not worked on yet.
    #[must_use]
    pub fn next_record(&self, incoming: &[u8]) -> Option<usize> {
        record_len(incoming.get(self.held..)?)
    }

    /// Every request begins with a letter, no TLS record does.
    fn is_plain_http(&mut self, incoming: &[u8]) -> bool {
        let Some(first) = incoming.first() else { return false };
        !std::mem::replace(&mut self.has_begun, true)
            && matches!(self.side, Side::Server(_))
            && first.is_ascii_alphabetic()
    }

    fn take_leftover(&mut self, plain: &mut [u8]) -> usize {
        let rest = &self.leftover[self.leftover_taken..];
        let n = rest.len().min(plain.len());
        plain[..n].copy_from_slice(&rest[..n]);
        self.leftover_taken += n;
        if self.leftover_taken == self.leftover.len() {
            self.leftover = Vec::new();
            self.leftover_taken = 0;
        }
        n
    }

    fn take_pending(&mut self, sealed: &mut [u8]) -> usize {
        let n = self.pending.len().min(sealed.len());
        sealed[..n].copy_from_slice(&self.pending[..n]);
        self.pending.drain(..n);
        n
    }

    /// Moves what rustls wants sent to `pending`. Whether application data may be sent then.
    fn pump(&mut self) -> Result<bool, TlsError> {
        // Only its length counts: the fragments it stands for are looked at when more input comes.
        let mut stand_in = vec![0; self.held];
        loop {
            let sink = Sink { plain: &mut [], leftover: &mut self.leftover, outgoing: &mut self.pending };
            match self.side.step(&mut stand_in, sink).1 {
                Ok(Step::Again | Step::Plain(_)) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Blocked) => return Ok(false),
                Ok(Step::Writable) => return Ok(true),
                Err(error) => {
                    let mut alert = Vec::new();
                    let error = self.fail(error, &mut alert);
                    self.pending.append(&mut alert);
                    return Err(error);
                }
            }
        }
    }

    /// Collects the alert and makes the failure final.
    fn fail(&mut self, error: Error, outgoing: &mut Vec<u8>) -> TlsError {
        // rustls must not get to see another record now: it would fail a second time.
        while self.side.common().wants_write() {
            let sink = Sink { plain: &mut [], leftover: &mut self.leftover, outgoing };
            let _ = self.side.step(&mut [], sink);
        }
        let error = TlsError::from(error);
        self.failed = Some(error.clone());
        error
    }
}

/// Where the results of one step go.
struct Sink<'a> {
    plain: &'a mut [u8],
    leftover: &'a mut Vec<u8>,
    outgoing: &'a mut Vec<u8>,
}

/// What one step came to.
enum Step {
    Again,
    /// Application data, of which so many bytes went to `plain`.
    Plain(usize),
    /// Waits for the peer's next handshake message.
    Blocked,
    /// Waits for input, and may send.
    Writable,
    PeerClosed,
}

/// The two connection types have the same methods and no trait in common.
macro_rules! on_either {
    ($side:expr, $connection:ident => $body:expr) => {
        match $side {
            Side::Server($connection) => $body,
            Side::Client($connection) => $body,
        }
    };
}

impl Side {
    fn common(&self) -> &CommonState {
        on_either!(self, connection => connection)
    }

    fn step(&mut self, incoming: &mut [u8], sink: Sink<'_>) -> (usize, Result<Step, Error>) {
        on_either!(self, connection => take_status(connection.process_tls_records(incoming), sink))
    }

    fn encrypt(&mut self, held: usize, plain: &[u8], sealed: &mut [u8]) -> Result<usize, EncryptError> {
        let mut stand_in = vec![0; held];
        on_either!(self, connection => match connection.process_tls_records(&mut stand_in).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(plain, sealed),
            _ => Err(EncryptError::EncryptExhausted),
        })
    }

    fn queue_close_notify(&mut self, held: usize) {
        let mut stand_in = vec![0; held];
        on_either!(self, connection => {
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = connection.process_tls_records(&mut stand_in).state {
                // Without room it stays queued behind what is due before it, for the next step to collect.
                let _ = traffic.queue_close_notify(&mut []);
            }
        });
    }
}

/// Carries out what rustls wants done next.
fn take_status<Data>(status: UnbufferedStatus<'_, '_, Data>, sink: Sink<'_>) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let step = state.map(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            let mut produced = 0;
            while let Some(Ok(record)) = traffic.next_record() {
                let n = record.payload.len().min(sink.plain.len() - produced);
                let (fits, rest) = record.payload.split_at(n);
                sink.plain[produced..produced + n].copy_from_slice(fits);
                sink.leftover.extend_from_slice(rest);
                produced += n;
            }
            Step::Plain(produced)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let at = sink.outgoing.len();
            if let Err(EncodeError::InsufficientSize(short)) = data.encode(&mut []) {
                sink.outgoing.resize(at + short.required_size, 0);
                let written = data.encode(&mut sink.outgoing[at..]).unwrap_or(0);
                sink.outgoing.truncate(at + written);
            }
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::WriteTraffic(_) => Step::Writable,
        ConnectionState::PeerClosed => Step::PeerClosed,
        // Early data is never accepted, and after both goodbyes there is nothing to do.
        _ => Step::Blocked,
    });
    (discard, step)
}

/// Plaintext bytes to seal into `room` bytes.
fn fitting(plain: usize, room: usize) -> usize {
    let full = room / (RECORD_PLAIN_BYTES_MAX + RECORD_OVERHEAD_BYTES);
    let short = (room % (RECORD_PLAIN_BYTES_MAX + RECORD_OVERHEAD_BYTES)).saturating_sub(RECORD_OVERHEAD_BYTES);
    let in_full = full * RECORD_PLAIN_BYTES_MAX;
    if plain <= in_full + short || full == 0 { plain.min(in_full + short) } else { in_full }
}

/// Length of the record at the front of `bytes` if all of it is there.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let payload = usize::from(u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]));
    (bytes.len() >= HEADER_BYTES + payload).then_some(HEADER_BYTES + payload)
}

/// Length of all whole records at the front of `bytes`.
fn whole_records(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(len) = record_len(&bytes[end..]) {
        end += len;
    }
    end
}
