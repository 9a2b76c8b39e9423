//! Request bodies that are looked at on their way: signed in chunks, with checksums behind them, or to be verified.
//!
//! They are copied, unlike others: what goes out is not always what came in, and its end is held back until everything in
//! front of it was found right.

use crate::buffer::Buffer;
use crate::http::encode::{LAST_CHUNK, chunk_header};
use crate::link::Link;
use crate::proxy::failure::{ClientFault, Failure};
use crate::proxy::refusal::Refused;
use crate::proxy::relay::{Transfer, Turn, Upload, split_off};
use crate::s3::form::FileEnd;
use crate::sign::payload::Inspector;

/// How a body is looked at and how it goes on.
pub struct Inspection {
    /// What looks at it.
    pub by: Inspects,
    /// Whether it goes on in the chunked coding.
    pub is_chunked: bool,
}

/// What looks at a body.
pub enum Inspects {
    /// Takes what came and gives what goes.
    Payload(Box<Inspector>),
    /// Sees a form's file to its end.
    Form {
        /// Bytes in front of the file that are still to pass.
        head: usize,
        /// Looks for its end.
        end: Box<FileEnd>,
        /// The last bytes that came.
        held: Vec<u8>,
    },
}

impl Inspects {
    fn feed(&mut self, data: &[u8], given: &mut Vec<u8>) -> Result<usize, Refused> {
        match self {
            Self::Payload(inspector) => inspector.feed(data, given).map_err(Refused::Payload),
            Self::Form { head, end, held } => {
                let passed = data.len().min(*head);
                *head -= passed;
                end.feed(&data[passed..]).map_err(Refused::FormShape)?;
                held.extend_from_slice(data);
                given.extend(held.drain(..held.len().saturating_sub(FORM_TAIL_BYTES)));
                Ok(data.len())
            }
        }
    }

    fn finish(&mut self, given: &mut Vec<u8>) -> Result<(), Refused> {
        match self {
            Self::Payload(inspector) => inspector.finish(given).map_err(Refused::Payload),
            Self::Form { end, held, .. } => {
                end.finish().map_err(Refused::FormShape)?;
                given.append(held);
                Ok(())
            }
        }
    }
}

impl<L: Link, U: Link> Transfer<'_, L, U> {
    /// Sends what is in `out`, and then the body as the inspection gives it.
    ///
    /// # Errors
    /// Whoever broke it, or what is wrong with the body; the upstream must then not take it for whole.
    pub(super) async fn send_inspected(
        &self,
        turn: &Turn,
        mut out: Buffer,
        upload: &mut Upload<'_>,
        mut inspection: Box<Inspection>,
    ) -> Result<(), Failure> {
        let mut given = Vec::new();
        let first = upload.first;
        for piece in first.chunks(PIECE_BYTES) {
            let used = inspection.take(upload, piece, &mut given)?;
            upload.first_used += used;
            out = self.give(out, &mut given, inspection.is_chunked).await?;
            if used < piece.len() {
                break;
            }
        }
        // The head of a request without a body is all of it, and has to wait for the verdict.
        if !upload.reader.finished() {
            out = self.write_upstream(out).await?;
        }
        while !upload.reader.finished() {
            if turn.is_stopped() {
                return Ok(());
            }
            let Some(mut buffer) = self.read_client(turn, upload).await? else { return Ok(()) };
            let used = inspection.take(upload, buffer.filled(), &mut given)?;
            if used < buffer.len() {
                upload.leftover = Some(split_off(self.buffers, &mut buffer, used));
            }
            drop(buffer);
            out = self.give(out, &mut given, inspection.is_chunked).await?;
            out = self.write_upstream(out).await?;
        }
        inspection.by.finish(&mut given)?;
        out = self.give(out, &mut given, inspection.is_chunked).await?;
        if inspection.is_chunked {
            if out.room() < LAST_CHUNK.len() {
                out = self.write_upstream(out).await?;
            }
            out.append(LAST_CHUNK);
        }
        if !out.is_empty() {
            self.write_upstream(out).await?;
        }
        Ok(())
    }

    /// Puts all of `given` into `out`, which is sent whenever it is full.
    async fn give(&self, mut out: Buffer, given: &mut Vec<u8>, is_chunked: bool) -> Result<Buffer, Failure> {
        let mut rest = &given[..];
        while !rest.is_empty() {
            if out.room() <= FRAME_BYTES {
                out = self.write_upstream(out).await?;
            }
            let (piece, behind) = rest.split_at(rest.len().min(out.room() - FRAME_BYTES));
            if is_chunked {
                out.append(chunk_header(piece.len() as u64, &mut [0; 18]));
            }
            out.append(piece);
            if is_chunked {
                out.append(b"\r\n");
            }
            rest = behind;
        }
        given.clear();
        Ok(out)
    }
}

impl Inspection {
    /// Takes the front of `input` that belongs to the body and returns its length.
    fn take(&mut self, upload: &mut Upload<'_>, input: &[u8], given: &mut Vec<u8>) -> Result<usize, Failure> {
        let mut used = 0;
        while used < input.len() && !upload.reader.finished() {
            let piece = upload.reader.advance(&input[used..]).map_err(|_| ClientFault::BodyMalformed)?;
            let mut data = &input[used..][piece.data];
            upload.bytes += data.len() as u64;
            while !data.is_empty() {
                let taken = self.by.feed(data, given)?;
                data = &data[taken..];
            }
            used += piece.consumed;
        }
        Ok(used)
    }
}

/// Bytes that are looked at before what they gave is sent.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes of a form that are held back until its end was right: without them it has none.
const FORM_TAIL_BYTES: usize = 16;

/// The most that the chunked coding puts around a piece.
const FRAME_BYTES: usize = 18 + 2;
