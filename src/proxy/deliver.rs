//! A response on its way to the client.
//!
//! The head the client gets and the body bytes that came with the upstream's head leave in one write; the rest streams
//! through one buffer at a time, so that the slower peer sets the pace. A body that breaks off is never made to look
//! whole: the client's stream is broken too.

use std::io::{self, ErrorKind};

use crate::buffer::{Buffer, Pool};
use crate::clock::{self, Deadline, Instant};
use crate::http::body::Reader;
use crate::limits;
use crate::link::Link;
use crate::pipe::Pipes;
use crate::proxy::Timeouts;
use crate::proxy::failure::{ClientFault, Failure, UpstreamFault};
use crate::proxy::forward::Returning;
use crate::proxy::identity::mask::Mask;
use crate::proxy::pump::{Filled, Pump};
use crate::proxy::relay::{buffer_for, client_fault, write_client};
use crate::proxy::secure::Wire;
use crate::s3;

/// A response body between its two peers.
pub struct Delivery<'a, L: Link, U: Link> {
    /// The client.
    pub client: &'a Wire<L>,
    /// The upstream.
    pub upstream: &'a Wire<U>,
    /// Buffers.
    pub buffers: &'a Pool,
    /// Pipes.
    pub pipes: &'a Pipes,
    /// Timeouts.
    pub timeouts: &'a Timeouts,
    /// How the body travels.
    pub returning: Returning,
    /// Whether to look for S3's error code in the body.
    pub is_error: bool,
    /// What hides the gate's own identity in the body, where that may be told.
    pub mask: Option<Box<Mask>>,
}

/// How far a delivery came, also when it failed.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Body bytes handed to the client, transfer coding not counted.
    pub bytes: u64,
    /// When the first byte of the response was handed to the client.
    pub first_byte: Option<Instant>,
    /// S3's error code.
    pub s3_code: Option<String>,
    /// Whether the upstream sent exactly its body and nothing behind it.
    pub is_clean: bool,
}

impl<L: Link, U: Link> Delivery<'_, L, U> {
    /// Sends the encoded head in `out`, then the body: `from` holds what has come of it, `reader` knows its framing.
    ///
    /// # Errors
    /// Whoever broke it. [`Delivered::first_byte`] tells whether an answer can still be made.
    pub async fn run(
        mut self,
        mut out: Buffer,
        mut from: Buffer,
        mut reader: Reader,
        delivered: &mut Delivered,
    ) -> Result<(), Failure> {
        // What is already here rides with the head; a short body is often right behind it.
        let missing = reader.remaining().map_or(0, |remaining| remaining.saturating_sub(from.len() as u64));
        if missing > 0 && missing <= from.room().min(out.room()) as u64 && !self.upstream.is_quiet() {
            // It may also be the end, or something of TLS without content. Whatever it is, the head does not wait for it:
            // who reads on will meet it.
            from = self.upstream.read(from, Deadline::after(limits::HEAD_HELD_BACK)).await.1;
        }
        let mut out = if self.returning != Returning::Unchunked && out.len() <= from.front() {
            // The head fits where the upstream's was: the body stays where it is.
            let surplus = self.trim(&mut reader, &mut from, delivered)?;
            from.prepend(out.filled());
            drop(out);
            from = self.write(from, delivered).await?;
            if surplus {
                return Ok(());
            }
            None
        } else {
            let window = from.len().min(out.room());
            self.mask(&reader, &mut from.filled_mut()[..window])?;
            let used = self.take(&mut reader, &from.filled()[..window], &mut out, delivered)?;
            from.consume(used);
            Some(self.write(out, delivered).await?)
        };
        loop {
            if from.is_empty() {
                if reader.finished() {
                    break;
                }
                if let Some(pump) = self.pump(&reader) {
                    drop((from, out));
                    self.pump_body(pump, &mut reader, delivered).await?;
                    if reader.finished() {
                        break;
                    }
                    (from, out) = (self.buffers.take(), None);
                }
                match self.read(from, &reader).await? {
                    Some(filled) => from = filled,
                    None => {
                        reader.at_end_of_stream().map_err(|_| UpstreamFault::ResponseTruncated)?;
                        return Ok(());
                    }
                }
            }
            if reader.finished() {
                // Bytes behind the body: a desynchronised upstream. The response is whole, the connection is not.
                return Ok(());
            }
            if self.returning == Returning::Unchunked {
                let mut plain = out.take().unwrap_or_else(|| self.buffers.take());
                let window = from.len().min(plain.room());
                self.mask(&reader, &mut from.filled_mut()[..window])?;
                let used = self.take(&mut reader, &from.filled()[..window], &mut plain, delivered)?;
                from.consume(used);
                out = Some(self.write(plain, delivered).await?);
            } else {
                out = None;
                let surplus = self.trim(&mut reader, &mut from, delivered)?;
                from = self.write(from, delivered).await?;
                if surplus {
                    return Ok(());
                }
            }
        }
        delivered.is_clean = true;
        Ok(())
    }

    /// Cuts `from` to what belongs to the body; says whether there was more.
    fn trim(&mut self, reader: &mut Reader, from: &mut Buffer, delivered: &mut Delivered) -> Result<bool, Failure> {
        self.mask(reader, from.filled_mut())?;
        self.note_code(from.filled(), delivered);
        let seen = reader.skim(from.filled()).map_err(|_| UpstreamFault::ResponseMalformed)?;
        let surplus = seen.consumed < from.len();
        from.truncate(seen.consumed);
        delivered.bytes += seen.payload as u64;
        Ok(surplus)
    }

    /// Masks what the next bytes have of the payload. Each byte passes here once, before it is [taken](Self::take).
    fn mask(&mut self, reader: &Reader, next: &mut [u8]) -> Result<(), Failure> {
        let Some(mask) = &mut self.mask else { return Ok(()) };
        let (mut reader, mut at) = (reader.clone(), 0);
        while at < next.len() && !reader.finished() {
            let piece = reader.advance(&next[at..]).map_err(|_| UpstreamFault::ResponseMalformed)?;
            mask.apply(&mut next[at..][piece.data]);
            at += piece.consumed;
        }
        Ok(())
    }

    /// Moves body bytes from `input` behind what is in `out`, with or without their chunked coding.
    fn take(
        &self,
        reader: &mut Reader,
        input: &[u8],
        out: &mut Buffer,
        delivered: &mut Delivered,
    ) -> Result<usize, Failure> {
        self.note_code(input, delivered);
        if self.returning != Returning::Unchunked {
            let seen = reader.skim(input).map_err(|_| UpstreamFault::ResponseMalformed)?;
            out.append(&input[..seen.consumed]);
            delivered.bytes += seen.payload as u64;
            return Ok(seen.consumed);
        }
        let mut used = 0;
        while used < input.len() && !reader.finished() {
            let piece = reader.advance(&input[used..]).map_err(|_| UpstreamFault::ResponseMalformed)?;
            delivered.bytes += out.append(&input[used..][piece.data]) as u64;
            used += piece.consumed;
        }
        Ok(used)
    }

    /// Looks for S3's error code at the beginning of the body.
    fn note_code(&self, input: &[u8], delivered: &mut Delivered) {
        if self.is_error && delivered.s3_code.is_none() && delivered.bytes < limits::ERROR_BODY_BYTES_MAX as u64 {
            let seen = &input[..input.len().min(limits::ERROR_BODY_BYTES_MAX)];
            delivered.s3_code = s3::error::code_of(seen).map(|code| String::from_utf8_lossy(code).into_owned());
        }
    }

    /// More of the body, or `None` at the end of the stream.
    async fn read(&self, mut from: Buffer, reader: &Reader) -> Result<Option<Buffer>, Failure> {
        let remaining = reader.remaining();
        if remaining.is_none_or(|left| left >= limits::BULK_BUFFER_BYTES as u64)
            && from.capacity() < limits::BULK_BUFFER_BYTES
        {
            from = buffer_for(self.buffers, remaining.or(Some(u64::MAX)));
        }
        let end = clock::mono() + self.timeouts.upstream_body;
        loop {
            let until = Deadline::at(end).min(Deadline::after(limits::CLIENT_CHECK));
            let (result, back) = self.upstream.read(from, until).await;
            from = back;
            match result {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(from)),
                Err(error) => self.patience(&error, end)?,
            }
        }
    }

    /// Whether a wait for the upstream that ended with `error` goes on; until `end` it may.
    fn patience(&self, error: &io::Error, end: Instant) -> Result<(), Failure> {
        if error.kind() != ErrorKind::TimedOut {
            return Err(UpstreamFault::ResponseTruncated.into());
        }
        if clock::mono() >= end {
            return Err(UpstreamFault::ResponseStalled.into());
        }
        if self.client.is_broken() { Err(ClientFault::Gone.into()) } else { Ok(()) }
    }

    /// A pump for the rest of the body, unless somebody has to look at it or a copy is cheaper.
    fn pump(&self, reader: &Reader) -> Option<Pump> {
        if self.is_error || self.mask.is_some() || self.returning == Returning::Unchunked {
            return None;
        }
        Pump::between(self.pipes, self.upstream, self.client, reader)
    }

    /// Moves a counted body through `pump` until it is complete or goes on with something unfit for it.
    async fn pump_body(&self, mut pump: Pump, reader: &mut Reader, delivered: &mut Delivered) -> Result<(), Failure> {
        while let Some(left @ 1..) = reader.remaining() {
            let end = clock::mono() + self.timeouts.upstream_body;
            loop {
                let until = Deadline::at(end).min(Deadline::after(limits::CLIENT_CHECK));
                match pump.fill(self.upstream, left, until).await {
                    Ok(Filled::Bytes(_)) => break,
                    Ok(Filled::End) => return Err(UpstreamFault::ResponseTruncated.into()),
                    Ok(Filled::Unfit) => return Ok(()),
                    Err(error) => self.patience(&error, end)?,
                }
            }
            let (moved, result) = pump.drain(self.client, self.timeouts.client_write).await;
            reader.skip(moved as u64);
            delivered.bytes += moved as u64;
            result.map_err(client_fault)?;
        }
        Ok(())
    }

    async fn write(&self, out: Buffer, delivered: &mut Delivered) -> Result<Buffer, Failure> {
        if out.is_empty() {
            return Ok(out);
        }
        if delivered.first_byte.is_none() {
            delivered.first_byte = Some(clock::mono());
        }
        write_client(self.client, out, self.timeouts.client_write).await
    }
}
