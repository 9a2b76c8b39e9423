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

    /// Steps over `n` bytes of a counted body that were moved without being seen.
    ///
    /// # Panics
    /// When the body is not counted, or shorter.
    pub fn skip(&mut self, n: u64) {
        match self {
            Self::Length(remaining) if n <= *remaining => *remaining -= n,
            _ => panic!("skipped past the end of a body"),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_body_takes_its_bytes_and_no_more() {
        let mut reader = Reader::from(RequestBody::Length(5));
        assert_eq!(reader.advance(b""), Ok(Piece::default()));
        assert_eq!(reader.advance(b"he"), Ok(Piece { consumed: 2, data: 0..2, done: false }));
        assert_eq!((reader.remaining(), reader.finished()), (Some(3), false));
        assert_eq!(reader.at_end_of_stream(), Err(BodyError::CutShort));
        assert_eq!(reader.advance(b"lloGET"), Ok(Piece { consumed: 3, data: 0..3, done: true }));
        assert_eq!((reader.remaining(), reader.finished()), (Some(0), true));
        assert_eq!(reader.advance(b"GET"), Ok(Piece { consumed: 0, data: 0..0, done: true }));
        assert_eq!(reader.at_end_of_stream(), Ok(()));
    }

    #[test]
    fn bodies_without_bytes_are_finished_from_the_start() {
        for mut reader in [
            Reader::from(RequestBody::None),
            Reader::from(RequestBody::Length(0)),
            Reader::from(ResponseBody::None),
            Reader::from(ResponseBody::Length(0)),
        ] {
            assert!(reader.finished() && reader.at_end_of_stream().is_ok(), "{reader:?}");
            assert_eq!(reader.remaining(), Some(0));
            assert_eq!(reader.skim(b""), Ok(Skim { consumed: 0, payload: 0, done: true }));
            assert_eq!(reader.skim(b"GET"), Ok(Skim { consumed: 0, payload: 0, done: true }));
            assert_eq!(reader.advance(b"GET"), Ok(Piece { consumed: 0, data: 0..0, done: true }));
        }
    }

    #[test]
    fn a_body_until_close_ends_with_the_stream_only() {
        let mut reader = Reader::from(ResponseBody::UntilClose);
        assert_eq!(reader.advance(b"any"), Ok(Piece { consumed: 3, data: 0..3, done: false }));
        assert_eq!(reader.skim(b"thing"), Ok(Skim { consumed: 5, payload: 5, done: false }));
        assert_eq!((reader.finished(), reader.remaining()), (false, None));
        assert_eq!(reader.at_end_of_stream(), Ok(()));
    }

    #[test]
    fn a_chunked_body_is_skimmed_to_its_end_and_not_beyond() {
        let wire = b"3\r\nabc\r\n2\r\nde\r\n0\r\nx: y\r\n\r\n0\r\n\r\n";
        for (body, split) in [(Reader::from(RequestBody::Chunked), 9), (Reader::from(ResponseBody::Chunked), 24)] {
            let mut reader = body;
            let front = reader.skim(&wire[..split]).unwrap();
            assert_eq!((front.consumed, front.done), (split, false));
            assert_eq!((reader.remaining(), reader.at_end_of_stream()), (None, Err(BodyError::CutShort)));
            let rest = reader.skim(&wire[split..]).unwrap();
            assert_eq!((front.payload + rest.payload, split + rest.consumed, rest.done), (5, 26, true));
            assert_eq!((reader.remaining(), reader.at_end_of_stream()), (Some(0), Ok(())));
        }
        let mut reader = Reader::from(RequestBody::Chunked);
        assert!(matches!(reader.skim(b"3\r\nabc\r\n2\nde"), Err(BodyError::Malformed(_))));
    }
}
