//! Bytes between the two peers: the request out, the response head back, the response body back.
//!
//! An upload and the wait for its answer run side by side, because an upstream may refuse early: S3 answers 403 while
//! gigabytes are still to come, and the artist should see that 403, not a broken connection. The two halves share a
//! [`Turn`] and end each other through the links they hold, never by dropping an operation.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::buffer::{Buffer, Pool};
use crate::clock::{self, Deadline, Instant};
use crate::http::body::Reader;
use crate::http::head::{ResponseHead, Scan};
use crate::limits;
use crate::link::Link;
use crate::pipe::Pipes;
use crate::proxy::Timeouts;
use crate::proxy::failure::{ClientFault, Failure, UpstreamFault};
use crate::proxy::inspect::Inspection;
use crate::proxy::pump::{Filled, Pump};
use crate::proxy::secure::Wire;
use crate::proxy::upstream::Lease;

/// What the sending and the receiving half of one attempt know of each other.
#[derive(Default)]
pub struct Turn {
    /// When the last request byte was handed over, or sending failed.
    sent: Cell<Option<Instant>>,
    /// Set by the half that makes the other one pointless.
    stop: Cell<bool>,
    /// Whether the client may still be holding its body back for a `100 Continue`.
    holds_back: Cell<bool>,
    /// Whether any byte of a response has come.
    answered: Cell<bool>,
}

impl Turn {
    /// A turn whose client waits for `100 Continue` if `holds_back`.
    #[must_use]
    pub fn new(holds_back: bool) -> Self {
        Self { holds_back: Cell::new(holds_back), ..Self::default() }
    }

    /// Whether any byte of a response has come.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.answered.get()
    }

    /// Whether the other half has made this one pointless.
    #[must_use]
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.get()
    }

    /// Whether the client never got its `100 Continue` and may not send its body at all.
    #[must_use]
    pub fn client_holds_back(&self) -> bool {
        self.holds_back.get()
    }
}

/// A request body on its way out.
pub struct Upload<'a> {
    /// Where the body's framing stands.
    pub reader: Reader,
    /// Body bytes that came along with the head, or all of them when the body was spooled.
    pub first: &'a [u8],
    /// Body bytes sent so far, transfer coding not counted.
    pub bytes: u64,
    /// Bytes of `first` that belong to the body.
    pub first_used: usize,
    /// Whether bytes were taken from the client's stream that are not kept: the request cannot be repeated.
    pub consumed: bool,
    /// What the client sent behind its body: the next request.
    pub leftover: Option<Buffer>,
    /// How fast the client has been.
    pub pace: Pace,
    /// How the body is looked at, if it is.
    pub inspection: Option<Box<Inspection>>,
}

impl<'a> Upload<'a> {
    /// A body none of which was sent.
    #[must_use]
    pub fn new(reader: Reader, first: &'a [u8]) -> Self {
        Self {
            reader,
            first,
            bytes: 0,
            first_used: 0,
            consumed: false,
            leftover: None,
            pace: Pace::default(),
            inspection: None,
        }
    }

    /// Whether every byte of the body is already here.
    #[must_use]
    pub fn is_at_hand(&self) -> bool {
        match self.reader.remaining() {
            Some(remaining) => remaining <= self.first.len() as u64,
            None => self.reader.finished(),
        }
    }
}

/// The two links and everything a transfer needs besides.
pub struct Transfer<'a, L: Link, U: Link> {
    /// The client.
    pub client: &'a Wire<L>,
    /// The upstream.
    pub upstream: &'a Lease<U>,
    /// Buffers.
    pub buffers: &'a Pool,
    /// Pipes.
    pub pipes: &'a Pipes,
    /// Timeouts.
    pub timeouts: &'a Timeouts,
}

/// The upstream's answer as far as its head, and what came with it.
pub struct Received {
    /// Starts with the head; what follows is body.
    pub buffer: Buffer,
    /// Bytes of the head.
    pub head_len: usize,
    /// Whether the request was sent to its end, so that the connection can serve another one.
    pub request_complete: bool,
}

impl<L: Link, U: Link> Transfer<'_, L, U> {
    /// Sends the request whose encoded head is `out` and waits for the response head, which is parsed into `head`.
    ///
    /// # Errors
    /// Whoever broke it. A failure of the client's side wins: it explains the upstream's.
    pub async fn exchange(
        &self,
        turn: &Turn,
        out: Buffer,
        upload: &mut Upload<'_>,
        head: &mut ResponseHead,
    ) -> Result<Received, Failure> {
        let is_short = upload.is_at_hand() && upload.first.len() <= limits::BUFFER_BYTES;
        let (sent, received) = if is_short && !turn.holds_back.get() {
            (self.send(turn, out, upload).await, self.receive(turn, head).await)
        } else {
            // In this order: a response and the end of the sending that brought it may be noticed in the same turn, and
            // must not be taken for an early refusal. In a box: the room for two halves is not for every idle connection.
            Box::pin(async { tokio::join!(biased; self.send(turn, out, upload), self.receive(turn, head)) }).await
        };
        match (sent, received) {
            (Err(fault), _) if fault.is_of_the_request() => Err(fault),
            (sent, Ok(received)) => Ok(Received {
                request_complete: sent.is_ok() && upload.reader.finished() && !turn.stop.get(),
                ..received
            }),
            (_, Err(fault)) if fault.is_of_the_request() => Err(fault),
            (Err(fault), Err(_)) | (Ok(()), Err(fault)) => Err(fault),
        }
    }

    /// The sending half.
    async fn send(&self, turn: &Turn, out: Buffer, upload: &mut Upload<'_>) -> Result<(), Failure> {
        let result = self.send_all(turn, out, upload).await;
        turn.sent.set(Some(clock::mono()));
        if result.as_ref().is_err_and(Failure::is_of_the_request) {
            // Nothing of a half upload may look whole to the upstream.
            self.upstream.wire().abort();
        }
        result
    }

    async fn send_all(&self, turn: &Turn, mut out: Buffer, upload: &mut Upload<'_>) -> Result<(), Failure> {
        if let Some(inspection) = upload.inspection.take() {
            return Box::pin(self.send_inspected(turn, out, upload, inspection)).await;
        }
        loop {
            let window = &upload.first[upload.first_used..];
            let window = &window[..window.len().min(out.room())];
            let seen = upload.reader.skim(window).map_err(|_| ClientFault::BodyMalformed)?;
            out.append(&window[..seen.consumed]);
            upload.first_used += seen.consumed;
            upload.bytes += seen.payload as u64;
            out = self.write_upstream(out).await?;
            if seen.consumed == 0 || upload.reader.finished() || upload.first_used == upload.first.len() {
                break;
            }
        }
        drop(out);
        while !upload.reader.finished() && !turn.stop.get() {
            if let Some(pump) = Pump::between(self.pipes, self.client, self.upstream.wire(), &upload.reader) {
                self.pump_body(turn, upload, pump).await?;
                if upload.reader.finished() || turn.stop.get() {
                    return Ok(());
                }
            }
            let Some(mut buffer) = self.read_client(turn, upload).await? else { return Ok(()) };
            let seen = upload.reader.skim(buffer.filled()).map_err(|_| ClientFault::BodyMalformed)?;
            upload.bytes += seen.payload as u64;
            if seen.consumed < buffer.len() {
                upload.leftover = Some(split_off(self.buffers, &mut buffer, seen.consumed));
            }
            self.write_upstream(buffer).await?;
        }
        Ok(())
    }

    /// The next bytes of the body, or `None` when the receiving half has ended the upload.
    pub(super) async fn read_client(&self, turn: &Turn, upload: &mut Upload<'_>) -> Result<Option<Buffer>, Failure> {
        let asked = clock::mono();
        let until = upload.pace.deadline(asked, self.timeouts.client_body);
        let waited = self.client.readable(until).await;
        let (result, buffer) = match waited {
            Ok(()) => {
                let (result, buffer) =
                    self.client.read(buffer_for(self.buffers, upload.reader.remaining()), until).await;
                (result, Some(buffer))
            }
            Err(error) => (Err(error), None),
        };
        Ok(came(turn, upload, result, asked)?.and(buffer))
    }

    /// Moves a counted body through `pump` until it is complete, goes on with something unfit for it, or the receiving
    /// half ends the upload.
    async fn pump_body(&self, turn: &Turn, upload: &mut Upload<'_>, mut pump: Pump) -> Result<(), Failure> {
        while let Some(left @ 1..) = upload.reader.remaining() {
            if turn.stop.get() {
                return Ok(());
            }
            let asked = clock::mono();
            let until = upload.pace.deadline(asked, self.timeouts.client_body);
            let result = match pump.fill(self.client, left, until).await {
                Ok(Filled::Unfit) => return Ok(()),
                Ok(Filled::Bytes(n)) => Ok(n),
                Ok(Filled::End) => Ok(0),
                Err(error) => Err(error),
            };
            if came(turn, upload, result, asked)?.is_none() {
                return Ok(());
            }
            let (moved, result) = pump.drain(self.upstream.wire(), self.timeouts.upstream_write).await;
            upload.reader.skip(moved as u64);
            upload.bytes += moved as u64;
            result.map_err(upstream_fault)?;
        }
        Ok(())
    }

    pub(super) async fn write_upstream(&self, from: Buffer) -> Result<Buffer, Failure> {
        let until = Deadline::after(self.timeouts.upstream_write);
        let (result, buffer) = self.upstream.wire().write_all(from, until).await;
        result.map(|()| buffer).map_err(upstream_fault)
    }

    /// The receiving half: the first final response head.
    async fn receive(&self, turn: &Turn, head: &mut ResponseHead) -> Result<Received, Failure> {
        let result = self.receive_final(turn, head).await;
        if turn.sent.get().is_none() {
            // The answer is here, or will never be: the rest of the upload is pointless.
            turn.stop.set(true);
            self.client.interrupt();
            match result {
                Ok(_) => self.upstream.wire().stop_writing(),
                Err(_) => self.upstream.wire().abort(),
            }
        }
        result
    }

    async fn receive_final(&self, turn: &Turn, head: &mut ResponseHead) -> Result<Received, Failure> {
        let mut buffer: Option<Buffer> = None;
        let mut scan = Scan::default();
        let hold_until = clock::mono() + limits::CONTINUE_WAIT;
        loop {
            if let Some(filled) = buffer.as_mut().filter(|buffer| !buffer.is_empty()) {
                if let Some(head_len) = scan.feed(filled.filled()).map_err(|_| malformed())? {
                    head.parse_into(&filled.filled()[..head_len]).map_err(|_| malformed())?;
                    if head.status >= 200 {
                        let buffer = buffer.take().unwrap_or_else(|| self.buffers.take());
                        return Ok(Received { buffer, head_len, request_complete: false });
                    }
                    self.interim(turn, head.status).await?;
                    filled.consume(head_len);
                    scan = Scan::default();
                    continue;
                }
                filled.compact();
            }
            let until = self.response_deadline(turn, hold_until);
            // An upload may take hours; what comes right after a short request is worth holding a buffer for.
            if turn.sent.get().is_none() {
                match self.upstream.wire().readable(until).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::TimedOut => {
                        self.patience(turn, hold_until).await?;
                        continue;
                    }
                    Err(_) => return Err(UpstreamFault::Closed.into()),
                }
            }
            let (result, filled) =
                self.upstream.wire().read(buffer.take().unwrap_or_else(|| self.buffers.take()), until).await;
            buffer = Some(filled);
            match result {
                Ok(0) => return Err(UpstreamFault::Closed.into()),
                Ok(_) => turn.answered.set(true),
                Err(error) if error.kind() == ErrorKind::TimedOut => self.patience(turn, hold_until).await?,
                Err(_) => return Err(UpstreamFault::Closed.into()),
            }
        }
    }

    /// When the wait for the upstream has to look at other things.
    fn response_deadline(&self, turn: &Turn, hold_until: Instant) -> Deadline {
        let now = clock::mono();
        let end = match turn.sent.get() {
            _ if turn.holds_back.get() => hold_until,
            Some(sent) => sent + self.timeouts.upstream_response,
            None => now + self.timeouts.upstream_response,
        };
        Deadline::at(end.min(now + limits::CLIENT_CHECK))
    }

    /// What running out of time means: the client is told to go on, or the upstream has had its time.
    async fn patience(&self, turn: &Turn, hold_until: Instant) -> Result<(), Failure> {
        let now = clock::mono();
        if turn.sent.get().is_some() && self.client.is_broken() {
            return Err(ClientFault::Gone.into());
        }
        if turn.holds_back.get() && now >= hold_until {
            return self.interim(turn, 100).await;
        }
        match turn.sent.get() {
            Some(sent) if now >= sent + self.timeouts.upstream_response => Err(UpstreamFault::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Passes a `100 Continue` on to a client that waits for it. Other interim responses end here.
    async fn interim(&self, turn: &Turn, status: u16) -> Result<(), Failure> {
        if status == 101 {
            return Err(malformed());
        }
        if status == 100 && turn.holds_back.replace(false) {
            return say_continue(self.client, self.buffers, self.timeouts.client_write).await;
        }
        Ok(())
    }
}

/// How long a client has been waited for, and what it gave for it. Time spent waiting for an upstream is not its fault
/// and does not count.
#[derive(Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// When the next wait, which begins `now`, has taken too long: `patience` without a byte, or a body that on average
    /// comes slower than [`limits::BODY_RATE_MIN`] after `patience`.
    #[must_use]
    pub fn deadline(&self, now: Instant, patience: Duration) -> Deadline {
        let earned = patience + Duration::from_secs(self.bytes / limits::BODY_RATE_MIN);
        Deadline::at(now + patience.min(earned.saturating_sub(self.waited)))
    }

    /// Notes that a wait that began at `asked` brought `bytes`.
    pub fn took(&mut self, bytes: usize, asked: Instant) {
        self.waited += clock::mono() - asked;
        self.bytes += bytes as u64;
    }
}

/// Tells the client to send its body.
///
/// # Errors
/// `ClientFault::Gone` or `Stalled`.
pub async fn say_continue<L: Link>(client: &Wire<L>, buffers: &Pool, patience: Duration) -> Result<(), Failure> {
    let mut line = buffers.take();
    line.append(b"HTTP/1.1 100 Continue\r\n\r\n");
    write_client(client, line, patience).await.map(drop)
}

/// Writes to the client.
///
/// # Errors
/// `ClientFault::Gone` or `Stalled`.
pub async fn write_client<L: Link>(client: &Wire<L>, from: Buffer, patience: Duration) -> Result<Buffer, Failure> {
    let (result, buffer) = client.write_all(from, Deadline::after(patience)).await;
    result.map(|()| buffer).map_err(client_fault)
}

/// What it means that the client did not take its bytes.
#[must_use]
pub fn client_fault(error: io::Error) -> Failure {
    if error.kind() == ErrorKind::TimedOut { ClientFault::Stalled.into() } else { ClientFault::Gone.into() }
}

fn upstream_fault(error: io::Error) -> Failure {
    if error.kind() == ErrorKind::TimedOut { UpstreamFault::Stalled.into() } else { UpstreamFault::Closed.into() }
}

/// What it means that the wait for the client's body, begun at `asked`, ended like this: so many bytes, or `None` when
/// the receiving half has ended the upload.
fn came(
    turn: &Turn,
    upload: &mut Upload<'_>,
    result: io::Result<usize>,
    asked: Instant,
) -> Result<Option<usize>, Failure> {
    match result {
        Ok(0) => Err(ClientFault::BodyIncomplete.into()),
        Ok(n) => {
            upload.pace.took(n, asked);
            turn.holds_back.set(false);
            upload.consumed = true;
            Ok(Some(n))
        }
        Err(_) if turn.stop.get() => Ok(None),
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(ClientFault::BodyTimedOut.into()),
        Err(_) => Err(ClientFault::Gone.into()),
    }
}

/// A buffer that fits what is still to come.
#[must_use]
pub fn buffer_for(buffers: &Pool, remaining: Option<u64>) -> Buffer {
    match remaining {
        Some(remaining) if remaining >= limits::BULK_BUFFER_BYTES as u64 => buffers.take_bulk(),
        _ => buffers.take(),
    }
}

/// Cuts `buffer` at `at` and returns what was behind it.
#[must_use]
pub fn split_off(buffers: &Pool, buffer: &mut Buffer, at: usize) -> Buffer {
    let mut tail = if buffer.len() - at <= limits::BUFFER_BYTES { buffers.take() } else { buffers.take_bulk() };
    tail.append(&buffer.filled()[at..]);
    buffer.truncate(at);
    tail
}

fn malformed() -> Failure {
    UpstreamFault::Malformed("its response head or framing is broken").into()
}
