//! Bodies: where the payload lies in the bytes a peer sends, and where the body ends.

use std::fmt;
use std::ops::Range;

pub use super::chunked::Chunked;
use super::framing::{RequestBody, ResponseBody};

/// What one step over some input found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the input that belong to this body and are dealt with. All of them may be forwarded as they are.
    pub consumed: usize,
    /// The payload among them, as a range of the input. May be empty.
    pub data: Range<usize>,
    /// Whether the body is complete. What follows in the input belongs to the next message.
    pub done: bool,
}

/// What a walk over some input found, see [`Reader::skim`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skim {
    /// Bytes of the input that belong to this body; they may be forwarded as they are.
    pub consumed: usize,
    /// Bytes of payload among them.
    pub payload: usize,
    /// Whether the body is complete.
    pub done: bool,
}

/// Reads one body, however it is framed. Holds no bytes.
#[derive(Clone, Debug)]
pub enum Reader {
    /// There is no body.
    Empty,
    /// So many bytes are still to come.
    Length(u64),
    /// The chunked coding.
    Chunked(Chunked),
    /// Everything until the peer closes.
    UntilClose,
}

impl Reader {
    /// Steps over the front of `input`, over at most one run of payload. Unless the body is finished or the input
    /// empty, at least one byte is consumed.
    ///
    /// # Errors
    /// When the chunked coding is violated. A reader that returned an error must not be used again.
    pub fn advance(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        match self {
            Self::Empty => Ok(Piece { done: true, ..Piece::default() }),
            Self::Length(remaining) => {
                let n = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                *remaining -= n as u64;
                Ok(Piece { consumed: n, data: 0..n, done: *remaining == 0 })
            }
            Self::Chunked(chunked) => chunked.advance(input),
            Self::UntilClose => Ok(Piece { consumed: input.len(), data: 0..input.len(), done: false }),
        }
    }

    /// Steps over as much of `input` as belongs to this body: for relaying the bytes as they came.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn skim(&mut self, input: &[u8]) -> Result<Skim, BodyError> {
        let mut skim = Skim { done: self.finished(), ..Skim::default() };
        while !skim.done && skim.consumed < input.len() {
            let piece = self.advance(&input[skim.consumed..])?;
            skim.consumed += piece.consumed;
            skim.payload += piece.data.len();
            skim.done = piece.done;
        }
        Ok(skim)
    }

    /// Whether the body is known to be complete. Never true of a body that ends with the connection.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self {
            Self::Empty | Self::Length(0) => true,
            Self::Chunked(chunked) => chunked.finished(),
            Self::Length(_) | Self::UntilClose => false,
        }
    }

    /// Payload bytes still to come, where that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(remaining) => Some(*remaining),
            Self::Chunked(_) | Self::UntilClose if !self.finished() => None,
            _ => Some(0),
        }
    }

    /// What it means that the peer's bytes end here.
    ///
    /// # Errors
    /// [`BodyError::CutShort`] unless the body is complete or ends with the connection.
    pub fn at_end_of_stream(&self) -> Result<(), BodyError> {
        if self.finished() || matches!(self, Self::UntilClose) { Ok(()) } else { Err(BodyError::CutShort) }
    }
}

impl From<RequestBody> for Reader {
    fn from(body: RequestBody) -> Self {
        match body {
            RequestBody::None => Self::Empty,
            RequestBody::Length(length) => Self::Length(length),
            RequestBody::Chunked => Self::Chunked(Chunked::new()),
        }
    }
}

impl From<ResponseBody> for Reader {
    fn from(body: ResponseBody) -> Self {
        match body {
            ResponseBody::None => Self::Empty,
            ResponseBody::Length(length) => Self::Length(length),
            ResponseBody::Chunked => Self::Chunked(Chunked::new()),
            ResponseBody::UntilClose => Self::UntilClose,
        }
    }
}

/// Why a body is refused. The sentences name what is wrong and repeat nothing the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The peer stopped sending before the body was complete.
    CutShort,
    /// The chunked coding (RFC 9112 §7.1) is violated.
    Malformed(&'static str),
    /// A chunk's size line or the trailer section exceeds its bound.
    TooLarge(&'static str),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => f.write_str("the body ended before it was complete"),
            Self::Malformed(what) | Self::TooLarge(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for BodyError {}
