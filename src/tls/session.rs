//! One TLS session: records in, plaintext out, and back. No sockets, no buffers of its own beyond one record.
//!
//! rustls makes the handshake. Of TLS 1.3 the records are then ours, unless the configuration leaves them to rustls, too.
//!
//! The session decrypts in place in the caller's buffer, hence the one rule: bytes that [`Session::open`] did not consume
//! must come back unchanged at the front of the next call, with more behind them.

mod kernel;
mod peer;

use std::mem;
use std::sync::Arc;

use rustls::unbuffered::EncryptError;

use super::TlsError;
use super::config::{ClientConfig, ServerConfig};
use super::library::Library;
use super::record;
use super::traffic::Traffic;

pub use kernel::{Control, Keys, Refusal, TrafficKey};

pub use super::record::{RECORD_HEAD_BYTES, RECORD_TAIL_BYTES};

/// Plaintext bytes of a full record (RFC 8446 §5.1).
pub const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

/// Bytes a record is longer than its plaintext, at most: header, explicit nonce and tag of TLS 1.2 with AES-GCM. TLS 1.3
/// needs 22 and nobody here pads.
const RECORD_OVERHEAD_BYTES: usize = 5 + 8 + 16;

/// Bytes of room for plaintext that a session keeps: a record that was opened to see what it is, such as a request's head,
/// takes nothing from the heap. More than that is given back.
const LEFTOVER_KEPT_BYTES: usize = 2 * 1024;

/// One side of a TLS connection.
pub struct Session {
    side: Side,
    /// Plaintext that found no room, and how much of it is handed out since.
    leftover: Vec<u8>,
    leftover_taken: usize,
    /// Protocol bytes to go before anything sealed later.
    pending: Vec<u8>,
    failed: Option<TlsError>,
    sni: Option<Box<str>>,
    /// What the client's certificate calls it. No memory when it has none.
    client_names: Box<[String]>,
    /// The handshake is over, and the client's certificate has been looked at.
    is_settled: bool,
    has_begun: bool,
    peer_closed: bool,
    said_goodbye: bool,
    /// Whether to keep the first keys for a kernel that may take the records.
    keeps_keys: bool,
}

/// Who protects the records.
enum Side {
    Library(Library),
    Own(Box<Traffic>),
    Kernel(Box<kernel::Left>),
    /// Nobody: the session failed between the two.
    Nobody,
}

/// Where the results of one step go.
pub(super) struct Sink<'a> {
    pub(super) plain: &'a mut [u8],
    pub(super) leftover: &'a mut Vec<u8>,
    pub(super) outgoing: &'a mut Vec<u8>,
}

impl Sink<'_> {
    pub(super) fn reborrow(&mut self) -> Sink<'_> {
        Sink { plain: self.plain, leftover: self.leftover, outgoing: self.outgoing }
    }
}

/// What one step came to.
pub(super) enum Step {
    Again,
    /// Application data, of which so many bytes went to `plain`.
    Plain(usize),
    /// Waits for input.
    Blocked,
    /// Waits for input, and may send.
    Writable,
    PeerClosed,
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

/// What [`Session::open_run`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Bytes of slots at the front of the input: header, payload in clear and [`RECORD_TAIL_BYTES`] of no meaning each.
    pub wire: usize,
    /// Payload bytes in them.
    pub plain: usize,
    /// Bytes of the input that are done with, slots and what was kept or worked on behind them.
    pub consumed: usize,
}

impl Session {
    /// A session with a client that has yet to say hello.
    ///
    /// # Errors
    /// When the library refuses the configuration.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, TlsError> {
        Library::server(config).map(Self::new)
    }

    /// A session with an upstream; the first [`open`](Self::open), without input, makes the hello.
    ///
    /// # Errors
    /// When the library refuses the configuration.
    pub fn client(config: &ClientConfig) -> Result<Self, TlsError> {
        Library::client(config).map(Self::new)
    }

    fn new(library: Library) -> Self {
        Self {
            side: Side::Library(library),
            leftover: Vec::new(),
            leftover_taken: 0,
            pending: Vec::new(),
            failed: None,
            sni: None,
            client_names: Box::default(),
            is_settled: false,
            has_begun: false,
            peer_closed: false,
            said_goodbye: false,
            keeps_keys: false,
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
        self.look_at_hello(incoming)?;
        while !self.peer_closed {
            if opened.produced == plain.len() && !plain.is_empty() {
                return Ok(opened);
            }
            let sink = Sink { plain: &mut plain[opened.produced..], leftover: &mut self.leftover, outgoing };
            let rest = &mut incoming[opened.consumed..];
            let (consumed, step) = match &mut self.side {
                Side::Own(traffic) => traffic.open(rest, sink),
                Side::Library(library) => library.open(rest, sink),
                Side::Kernel(_) => (0, Ok(Step::Blocked)),
                Side::Nobody => (0, Err(TlsError::Spent)),
            };
            opened.consumed += consumed;
            match step.and_then(|step| self.take_over(step)) {
                Ok(Step::Again) => {}
                Ok(Step::Plain(produced)) => {
                    opened.produced += produced;
                    if !self.leftover.is_empty() {
                        return Ok(opened);
                    }
                }
                Ok(Step::Blocked | Step::Writable) => return Ok(Opened { state: OpenState::Blocked, ..opened }),
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Err(error) => {
                    let error = self.fail(error);
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
        self.check_can_seal()?;
        if !self.pump(plain.len().div_ceil(RECORD_PLAIN_BYTES_MAX))? {
            return Err(TlsError::Spent);
        }
        let mut written = self.take_pending(sealed);
        if !self.pending.is_empty() {
            return Ok(Sealed { consumed: 0, written });
        }
        let mut consumed = fitting(plain.len(), sealed.len() - written);
        match &mut self.side {
            Side::Own(traffic) => {
                let sealing = traffic.seal(&plain[..consumed], &mut sealed[written..]);
                written += sealing.map_err(|error| self.fail(error))?;
            }
            Side::Library(library) => {
                while consumed > 0 {
                    match library.encrypt(&plain[..consumed], &mut sealed[written..]) {
                        Ok(bytes) => {
                            written += bytes;
                            break;
                        }
                        // A key update wants to go along.
                        Err(EncryptError::InsufficientSize(_)) => {
                            consumed = consumed.saturating_sub(consumed.min(RECORD_PLAIN_BYTES_MAX));
                        }
                        Err(EncryptError::EncryptExhausted) => return Err(self.fail(TlsError::Spent)),
                    }
                }
                if consumed == 0 && written == 0 && !plain.is_empty() && self.pump(0)? {
                    written = self.take_pending(sealed);
                }
            }
            Side::Kernel(_) | Side::Nobody => return Err(TlsError::Spent),
        }
        Ok(Sealed { consumed, written })
    }

    /// Bytes that are always enough to seal `plain_len` bytes, leaving out protocol bytes that may be due.
    #[must_use]
    pub const fn sealed_len(plain_len: usize) -> usize {
        plain_len + plain_len.div_ceil(RECORD_PLAIN_BYTES_MAX) * RECORD_OVERHEAD_BYTES
    }

    /// Whether [`open_run`](Self::open_run) and [`seal_run`](Self::seal_run) work: TLS 1.3 whose records are ours, the
    /// handshake over, no failure and no goodbye of ours.
    #[must_use]
    pub fn carries_runs(&self) -> bool {
        matches!(self.side, Side::Own(_)) && self.failed.is_none() && !self.said_goodbye
    }

    /// Opens, in place, whole records of unpadded application data at the front of `incoming`, one after the other, as
    /// long as each one's payload fits what is left of `plain_max`. `incoming[..wire]` is then a sequence of slots: the
    /// header as it was received, the payload in clear, [`RECORD_TAIL_BYTES`] without meaning.
    ///
    /// Stops before a record that is not all there, empty or too long. A record that turns out to be something else is
    /// dealt with, its data kept for the next [`open`](Self::open), and counted in `consumed` alone. While there is
    /// something to tell without input, nor where runs are not carried, nothing is opened.
    ///
    /// # Errors
    /// As [`open`](Self::open), which collects the alert. What was opened before a failure is handed out first.
    pub fn open_run(&mut self, incoming: &mut [u8], plain_max: u64) -> Result<Run, TlsError> {
        let mut run = Run { wire: 0, plain: 0, consumed: 0 };
        if !self.leftover.is_empty() || self.peer_closed {
            return Ok(run);
        }
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let Side::Own(traffic) = &mut self.side else { return Ok(run) };
        let failure = loop {
            let rest = &mut incoming[run.wire..];
            let len = match record::whole(rest) {
                Ok(Some(len)) => len,
                Ok(None) => return Ok(run),
                Err(refused) => break traffic.refuse(refused, &mut self.pending),
            };
            let payload = len.saturating_sub(RECORD_HEAD_BYTES + RECORD_TAIL_BYTES);
            if payload == 0 || payload as u64 > plain_max.saturating_sub(run.plain as u64) {
                return Ok(run);
            }
            let sink = Sink { plain: &mut [], leftover: &mut self.leftover, outgoing: &mut self.pending };
            match traffic.open_slot(&mut rest[..len], sink) {
                Ok((true, _)) => {
                    run.wire += len;
                    run.plain += payload;
                    run.consumed = run.wire;
                }
                Ok((false, step)) => {
                    run.consumed += len;
                    self.peer_closed |= matches!(step, Step::PeerClosed);
                    return Ok(run);
                }
                Err(error) => break error,
            }
        };
        let failure = self.fail(failure);
        if run.wire > 0 { Ok(run) } else { Err(failure) }
    }

    /// Seals, in place, a sequence of slots such as [`open_run`](Self::open_run) of another session leaves: the header
    /// says how long each is; header, inner type and tag are written anew. Protocol bytes that are due are appended to
    /// `before` and go first.
    ///
    /// # Errors
    /// `Spent` where runs are not carried, `Internal` when it is no sequence of slots, else what ended the session.
    pub fn seal_run(&mut self, slots: &mut [u8], before: &mut Vec<u8>) -> Result<(), TlsError> {
        self.check_can_seal()?;
        let Side::Own(traffic) = &mut self.side else { return Err(TlsError::Spent) };
        before.append(&mut self.pending);
        traffic.seal_slots(slots, before).map_err(|error| self.fail(error))
    }

    /// Says goodbye: appends everything due and `close_notify` to `outgoing`. Reading may go on. Does nothing in the
    /// middle of a handshake, after a failure or a second time.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        if self.failed.is_none() && !self.said_goodbye && self.pump(0) == Ok(true) {
            self.said_goodbye = true;
            // A failure is kept and reported by the next call.
            match &mut self.side {
                Side::Own(traffic) => {
                    if let Err(error) = traffic.close_notify(&mut self.pending) {
                        self.fail(error);
                    }
                }
                Side::Library(library) => {
                    library.queue_close_notify();
                    let _ = self.pump(0);
                }
                Side::Kernel(_) | Side::Nobody => {}
            }
        }
        outgoing.append(&mut self.pending);
    }

    /// Whether application data cannot flow yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        matches!(&self.side, Side::Library(library) if library.is_handshaking())
    }

    /// Whether [`open`](Self::open) has something to tell without further input.
    #[must_use]
    pub fn has_pending_plain(&self) -> bool {
        !self.leftover.is_empty() || self.failed.is_some() || self.peer_closed
    }

    /// Bytes on the wire of the first record in `incoming` that is whole and not worked on yet.
    #[must_use]
    pub fn next_record(&self, incoming: &[u8]) -> Option<usize> {
        let held = if let Side::Library(library) = &self.side { library.held() } else { 0 };
        record_len(incoming.get(held..)?)
    }

    /// Notes who the client is and makes the session ours once rustls is through with the handshake.
    fn take_over(&mut self, step: Step) -> Result<Step, TlsError> {
        let Side::Library(library) = &mut self.side else { return Ok(step) };
        if !self.is_settled && !library.is_handshaking() {
            self.is_settled = true;
            self.client_names = library.client_names();
        }
        if !library.hands_over_now() {
            return Ok(step);
        }
        let Side::Library(library) = mem::replace(&mut self.side, Side::Nobody) else { return Ok(step) };
        self.side = Side::Own(Box::new(library.hand_over(self.keeps_keys)?));
        Ok(Step::Again)
    }

    fn check_can_seal(&self) -> Result<(), TlsError> {
        match &self.failed {
            Some(failed) => Err(failed.clone()),
            None if self.said_goodbye => Err(TlsError::Spent),
            None => Ok(()),
        }
    }

    fn take_leftover(&mut self, plain: &mut [u8]) -> usize {
        let rest = &self.leftover[self.leftover_taken..];
        let n = rest.len().min(plain.len());
        plain[..n].copy_from_slice(&rest[..n]);
        self.leftover_taken += n;
        if self.leftover_taken == self.leftover.len() {
            if self.leftover.capacity() > LEFTOVER_KEPT_BYTES {
                self.leftover = Vec::new();
            }
            self.leftover.clear();
            self.leftover_taken = 0;
        }
        n
    }

    fn take_pending(&mut self, sealed: &mut [u8]) -> usize {
        let n = self.pending.len().min(sealed.len());
        sealed[..n].copy_from_slice(&self.pending[..n]);
        self.pending.drain(..n);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        n
    }

    /// Moves what is due before `records` of application data to `pending`. Whether they may be sent then.
    fn pump(&mut self, records: usize) -> Result<bool, TlsError> {
        let pumped = match &mut self.side {
            Side::Own(_) | Side::Kernel(_) if records == 0 => Ok(true),
            Side::Own(traffic) => traffic.prepare(records, &mut self.pending).map(|()| true),
            Side::Library(library) => {
                let sink = Sink { plain: &mut [], leftover: &mut self.leftover, outgoing: &mut self.pending };
                library.pump(sink, &mut self.peer_closed)
            }
            Side::Kernel(_) | Side::Nobody => Ok(false),
        };
        pumped.map_err(|error| self.fail(error))
    }

    /// Makes a failure final.
    fn fail(&mut self, error: TlsError) -> TlsError {
        self.failed = Some(error.clone());
        error
    }
}

/// Plaintext bytes to seal into `room` bytes.
fn fitting(plain: usize, room: usize) -> usize {
    let full = room / (RECORD_PLAIN_BYTES_MAX + RECORD_OVERHEAD_BYTES);
    let short = (room % (RECORD_PLAIN_BYTES_MAX + RECORD_OVERHEAD_BYTES)).saturating_sub(RECORD_OVERHEAD_BYTES);
    let in_full = full * RECORD_PLAIN_BYTES_MAX;
    if plain <= in_full + short || full == 0 { plain.min(in_full + short) } else { in_full }
}

/// Length of the record at the front of `bytes` if all of it is there.
pub(super) fn record_len(bytes: &[u8]) -> Option<usize> {
    let payload = usize::from(u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]));
    (bytes.len() >= RECORD_HEAD_BYTES + payload).then_some(RECORD_HEAD_BYTES + payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::tls::config::{ClientOptions, Identity, Records, ServerOptions, Version, client, server};

    const NAME: &str = "media.studio.example";

    /// A client's and a server's session after their handshake.
    fn connected() -> (Session, Session) {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (certificate, private_key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&private_key, made.signing_key.serialize_pem()).unwrap();
        let (min_version, max_version, records) = (Version::Tls13, Version::Tls13, Records::Own);
        let ca_file = Some(certificate.clone());
        let calling = ClientOptions { server_name: NAME.to_owned(), ca_file, max_version, records };
        let identities = vec![Identity { certificate, private_key }];
        let serving = ServerOptions { identities, min_version, records, client_ca: None };
        let mut calling = Session::client(&client(&calling).unwrap()).unwrap();
        let mut serving = Session::server(&server(&serving).unwrap()).unwrap();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        loop {
            let opened = calling.open(&mut to_client, &mut [], &mut to_server).unwrap();
            to_client.drain(..opened.consumed);
            if to_server.is_empty() {
                return (calling, serving);
            }
            let opened = serving.open(&mut to_server, &mut [], &mut to_client).unwrap();
            to_server.drain(..opened.consumed);
        }
    }

    fn sequences(session: &mut Session) -> (&mut u64, &mut u64) {
        let Side::Own(traffic) = &mut session.side else { panic!("not ours") };
        traffic.sequences()
    }

    /// As if so many records had gone from `from` to `to`.
    fn skip(from: &mut Session, to: &mut Session, records: u64) {
        *sequences(from).0 = records;
        *sequences(to).1 = records;
    }

    #[test]
    fn the_sending_key_is_replaced_before_it_has_sealed_too_much() {
        let (mut from, mut to) = connected();
        let data = vec![7; 5 * RECORD_PLAIN_BYTES_MAX];
        let mut wire = vec![0; Session::sealed_len(data.len()) + 100];
        let mut plain = vec![0; data.len()];
        let expected = data.len() + 5 * (RECORD_HEAD_BYTES + RECORD_TAIL_BYTES);
        for (left, update) in [(6, 0), (5, 27), (1, 27), (0, 27)] {
            skip(&mut from, &mut to, limits::TLS_KEY_RECORDS_MAX - left);
            let sealed = from.seal(&data, &mut wire).unwrap();
            assert_eq!((sealed.consumed, sealed.written), (data.len(), expected + update), "{left} left");
            let opened = to.open(&mut wire[..sealed.written], &mut plain, &mut Vec::new()).unwrap();
            assert!(opened.produced == data.len() && plain == data);
            assert_eq!(*sequences(&mut from).0 == 5, update > 0);

            skip(&mut from, &mut to, limits::TLS_KEY_RECORDS_MAX - left);
            let slot = [&[0, 0, 0, 0, 18], &[7; 18][..]].concat();
            let (mut slots, mut before) = (slot.repeat(5), Vec::new());
            from.seal_run(&mut slots, &mut before).unwrap();
            assert_eq!(before.len(), update);
            before.extend(slots);
            assert_eq!(to.open(&mut before, &mut plain, &mut Vec::new()).unwrap().produced, 5);
        }
        // The other side keeps its own keys.
        assert_eq!(*sequences(&mut to).0, 1, "its tickets");
    }

    #[test]
    fn a_session_of_ours_is_small() {
        let (calling, _) = connected();
        assert!(size_of_val(&calling) + size_of::<Traffic>() <= 1024);
    }
}
