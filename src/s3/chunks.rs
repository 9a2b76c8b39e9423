//! The aws-chunked coding: pieces of a payload with their signatures, and a checksum behind them.
//!
//! ```text
//!   10000;chunk-signature=<64 digits> CRLF  <65536 bytes> CRLF   ...   0;chunk-signature=<64 digits> CRLF
//!   └── size line ────────────────────────┘  └─ data ───────┘         └─ last size line ────────────────┘
//!   x-amz-checksum-crc32c:sOO8/Q== CRLF  x-amz-trailer-signature:<64 digits> CRLF   CRLF
//!   └─ trailer lines, in the forms that have them ───────────────────────────────┘  └ end
//! ```
//!
//! AWS: "Transferring Payload in Multiple Chunks (Chunked Upload)" and "Including Trailing Headers (Chunked Upload)". It is
//! no transfer coding: it is the content of the request, and S3 takes it off. What S3 would read and the gate would not is
//! refused, so this reader takes one extension only, and nothing but CRLF at the end of a line of size. A trailer line may
//! end in LF CRLF as well: AWS's grammar has the LF of what is signed on the wire, and MinIO's clients send it so.

use std::ops::Range;

use crate::http::framing::LENGTH_MAX;
use crate::http::trim;
use crate::limits;

/// Which of the forms is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Each chunk carries a signature, and so do the trailer lines.
    pub is_signed: bool,
    /// Lines come behind the last chunk.
    pub has_trailer: bool,
}

/// A resumable reader of the coding, in constant memory but for the trailer lines
/// ([`limits::TRAILER_BYTES_MAX`]).
#[derive(Clone, Debug)]
pub struct Reader {
    form: Form,
    state: State,
    /// The size being read, then the bytes of data still to come.
    size: u64,
    /// Data bytes announced by all chunks so far.
    announced: u64,
    line: [u8; LINE_BYTES_MAX],
    line_len: usize,
    trailer: Vec<u8>,
    /// Where the trailer line being read begins.
    trailer_line: usize,
}

/// What was read, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the input that are dealt with.
    pub consumed: usize,
    /// What they brought.
    pub event: Event,
}

/// What the bytes brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing that is complete: more input is needed, or the body is over.
    More,
    /// A size line: see [`Reader::size`], [`Reader::line`] and [`Reader::signature`].
    Size,
    /// Data of a chunk: these bytes of the input.
    Data(Range<usize>),
    /// The end of a chunk that was not the last.
    ChunkEnd,
    /// The end of the body: see [`Reader::trailers`].
    End,
}

/// What is wrong with the coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    NextSize,
    ExtensionName { read: usize },
    Signature { read: usize },
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerLine,
    TrailerCarriageReturn,
    TrailerLineFeed,
    FinalCarriageReturn,
    FinalLineFeed,
    Done,
    Failed,
}

impl Reader {
    /// A reader at the first byte of a body.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self {
            form,
            state: State::Size,
            size: 0,
            announced: 0,
            line: [0; LINE_BYTES_MAX],
            line_len: 0,
            trailer: Vec::new(),
            trailer_line: 0,
        }
    }

    /// Whether the end has been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The size in the line that was just read.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size line that was read last, as it was written, without its CRLF. A signature is the last
    /// [`SIGNATURE_BYTES`] of it.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        &self.line[..self.line_len]
    }

    /// The signature in that line, as it was written; nothing in an unsigned form.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        if self.form.is_signed { &self.line()[self.line_len.saturating_sub(SIGNATURE_BYTES)..] } else { &[] }
    }

    /// The trailer lines so far as they were written, with their ends.
    #[must_use]
    pub fn trailer_section(&self) -> &[u8] {
        &self.trailer
    }

    /// Names and values of the trailer lines, the values without white space around them.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.trailer.split(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], trim(&line[colon + 1..])))
        })
    }

    /// Steps over the front of `input`, up to and including the next event. Bytes behind the end are not consumed.
    ///
    /// # Errors
    /// When the coding is violated or a bound exceeded; then for ever.
    pub fn advance(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        for (at, &byte) in input.iter().enumerate() {
            match self.state {
                State::Data => {
                    let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len() - at);
                    self.size -= n as u64;
                    if self.size == 0 {
                        self.state = State::DataCarriageReturn;
                    }
                    return Ok(Piece { consumed: at + n, event: Event::Data(at..at + n) });
                }
                State::Done => return Ok(Piece { consumed: at, event: Event::More }),
                _ => {}
            }
            let before = self.state;
            self.state = self.step(byte).inspect_err(|_| self.state = State::Failed)?;
            let event = match (before, self.state) {
                (State::SizeLineFeed, _) => Event::Size,
                (State::DataLineFeed, _) => Event::ChunkEnd,
                (_, State::Done) => Event::End,
                _ => continue,
            };
            return Ok(Piece { consumed: at + 1, event });
        }
        Ok(Piece { consumed: input.len(), event: Event::More })
    }

    /// The state after `byte`, which is not data.
    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Size | State::ExtensionName { .. } | State::Signature { .. } | State::SizeLineFeed, _) => {
                self.step_in_size_line(byte)
            }
            (State::DataCarriageReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => {
                // The line that was read last can be read until the next one begins.
                Ok(State::NextSize)
            }
            (State::NextSize, _) => {
                (self.size, self.line_len, self.state) = (0, 0, State::Size);
                self.step_in_size_line(byte)
            }
            (State::DataCarriageReturn | State::DataLineFeed, _) => {
                Err(Malformed("a chunk's data is not followed by CRLF"))
            }
            (State::FinalCarriageReturn, b'\r') => Ok(State::FinalLineFeed),
            (State::FinalLineFeed, b'\n') => Ok(State::Done),
            (State::FinalCarriageReturn | State::FinalLineFeed, _) => {
                Err(Malformed("the last chunk is not followed by an empty line"))
            }
            (State::Data | State::Done | State::Failed, _) => Err(Malformed("the coding was violated")),
            _ => self.step_in_trailer(byte),
        }
    }

    fn step_in_size_line(&mut self, byte: u8) -> Result<State, Malformed> {
        let next = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => {
                if self.line_len == SIZE_DIGITS_MAX {
                    return Err(Malformed("a chunk's size has too many digits"));
                }
                self.size = self.size << 4 | u64::from((byte as char).to_digit(16).unwrap_or_default());
                State::Size
            }
            (State::Size, b'\r') if self.line_len > 0 && !self.form.is_signed => return Ok(State::SizeLineFeed),
            (State::Size, b';') if self.line_len > 0 && self.form.is_signed => State::ExtensionName { read: 0 },
            (State::Size, b';' | b'\r') if self.line_len > 0 => {
                return Err(Malformed("a chunk has a signature where none is expected, or none where one is"));
            }
            (State::Size, _) => return Err(Malformed("a chunk's size is not a plain hexadecimal number")),
            (State::ExtensionName { read }, _) if EXTENSION_NAME.get(read) == Some(&byte) => {
                let read = read + 1;
                if read < EXTENSION_NAME.len() { State::ExtensionName { read } } else { State::Signature { read: 0 } }
            }
            (State::ExtensionName { .. }, _) => {
                return Err(Malformed("a chunk has an extension that is not chunk-signature"));
            }
            (State::Signature { read: SIGNATURE_BYTES }, b'\r') => return Ok(State::SizeLineFeed),
            (State::Signature { read: 0..SIGNATURE_BYTES }, b'0'..=b'9' | b'a'..=b'f') => {
                let State::Signature { read } = self.state else { return Err(Malformed("the coding was violated")) };
                State::Signature { read: read + 1 }
            }
            (State::Signature { .. }, _) => {
                return Err(Malformed("a chunk's signature is not 64 hexadecimal digits"));
            }
            (State::SizeLineFeed, b'\n') => return self.after_size_line(),
            _ => return Err(Malformed("a chunk's size line does not end in CRLF")),
        };
        self.line[self.line_len] = byte;
        self.line_len += 1;
        Ok(next)
    }

    fn after_size_line(&mut self) -> Result<State, Malformed> {
        if self.size == 0 {
            return Ok(if self.form.has_trailer { State::TrailerStart } else { State::FinalCarriageReturn });
        }
        let announced = self.announced.checked_add(self.size).filter(|&sum| sum <= LENGTH_MAX);
        self.announced = announced.ok_or(Malformed("the chunks announce more bytes than any body has"))?;
        Ok(State::Data)
    }

    fn step_in_trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        if self.state == State::TrailerStart && byte == b'\r' {
            return Ok(State::FinalLineFeed);
        }
        if self.trailer.len() == limits::TRAILER_BYTES_MAX {
            return Err(Malformed("the trailer lines are too long"));
        }
        self.trailer.push(byte);
        match (self.state, byte) {
            (State::TrailerStart, b'!'..=b'9' | b';'..=b'~') => {
                self.trailer_line = self.trailer.len() - 1;
                Ok(State::TrailerLine)
            }
            (State::TrailerLine, b'\t' | b' '..=b'~') => Ok(State::TrailerLine),
            (State::TrailerLine, b'\r' | b'\n') if !self.trailer[self.trailer_line..].contains(&b':') => {
                Err(Malformed("a trailer line has no colon"))
            }
            (State::TrailerLine, b'\r') | (State::TrailerCarriageReturn, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerLine, b'\n') => Ok(State::TrailerCarriageReturn),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            _ => Err(Malformed("the trailer lines are malformed")),
        }
    }
}

/// Hexadecimal digits of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Hexadecimal digits of a chunk size: 64 bits.
const SIZE_DIGITS_MAX: usize = 16;

/// The one extension, behind its semicolon.
const EXTENSION_NAME: &[u8] = b"chunk-signature=";

const LINE_BYTES_MAX: usize = SIZE_DIGITS_MAX + 1 + EXTENSION_NAME.len() + SIGNATURE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Form = Form { is_signed: false, has_trailer: false };
    const TRAILED: Form = Form { is_signed: false, has_trailer: true };
    const SIGNED: Form = Form { is_signed: true, has_trailer: false };
    const BOTH: Form = Form { is_signed: true, has_trailer: true };

    /// Size lines, data, trailers; bytes consumed; whether it is complete.
    type Read = (Vec<String>, usize, bool);

    /// Reads `wire` fed in steps of `step` bytes.
    fn read(form: Form, wire: &[u8], step: usize) -> Result<Read, Malformed> {
        let (mut reader, mut seen, mut data) = (Reader::new(form), Vec::new(), String::new());
        let (mut consumed, mut arrived) = (0, 0);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        while !reader.is_done() && (consumed < arrived || arrived < wire.len()) {
            arrived = (arrived + step).min(wire.len());
            let input = &wire[consumed..arrived];
            let piece = match reader.advance(input) {
                Ok(piece) => piece,
                Err(error) => {
                    assert!(reader.advance(b"0").is_err() && !reader.is_done(), "it recovers");
                    return Err(error);
                }
            };
            assert!(piece.consumed > 0 && piece.consumed <= input.len(), "{piece:?}");
            consumed += piece.consumed;
            match piece.event {
                Event::More => assert_eq!(consumed, arrived),
                Event::Size => {
                    assert!(text(reader.line()).ends_with(&text(reader.signature())));
                    seen.push(format!("{}={}", reader.size(), text(reader.line())));
                }
                Event::Data(range) => data += &text(&input[range]),
                Event::ChunkEnd => seen.push(std::mem::take(&mut data)),
                Event::End => {
                    seen.extend(reader.trailers().map(|(name, value)| format!("{}:{}", text(name), text(value))));
                }
            }
        }
        let rest = reader.is_done().then(|| reader.advance(&wire[consumed..]).unwrap());
        assert!(rest.is_none_or(|piece| piece == Piece { consumed: 0, event: Event::More }));
        Ok((seen, consumed, reader.is_done()))
    }

    fn with_signatures(wire: &str) -> String {
        let digits: String = "0123456789abcdef".repeat(4);
        wire.replace('#', &format!(";chunk-signature={digits}"))
    }

    #[test]
    fn good_bodies_read_alike_whole_byte_by_byte_and_with_trailing_bytes() {
        for (form, wire, expected) in [
            (PLAIN, "0\r\n\r\n", "0=0"),
            (PLAIN, "5\r\nhello\r\n0\r\n\r\n", "5=5|hello|0=0"),
            (PLAIN, "2\r\n\r\n\r\n000\r\n\r\n", "2=2|\r\n|0=000"),
            (PLAIN, "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "10=a|0123456789|10=A|0123456789|0=0"),
            (PLAIN, "0000000000000001\r\n!\r\n0\r\n\r\n", "1=0000000000000001|!|0=0"),
            (SIGNED, "0#\r\n\r\n", "0=0#"),
            (SIGNED, "5#\r\nhello\r\n0#\r\n\r\n", "5=5#|hello|0=0#"),
            (TRAILED, "0\r\n\r\n", "0=0"),
            (TRAILED, "1\r\n-\r\n0\r\nx-amz-a:b\r\n\r\n", "1=1|-|0=0|x-amz-a:b"),
            (TRAILED, "0\r\na:b\r\nc: d: e \r\n\r\n", "0=0|a:b|c:d: e"),
            (TRAILED, "0\r\na:b\n\r\n\r\n", "0=0|a:b"),
            (BOTH, "5#\r\nhello\r\n0#\r\na:b\n\r\nc:d\r\n\r\n", "5=5#|hello|0=0#|a:b|c:d"),
        ] {
            let (wire, expected) = (with_signatures(wire), with_signatures(expected));
            let expected = Ok((expected.split('|').map(str::to_owned).collect(), wire.len(), true));
            for step in [1, 2, 3, wire.len()] {
                assert_eq!(read(form, wire.as_bytes(), step), expected, "{wire:?} by {step}");
                let more = format!("{wire}0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
                assert_eq!(read(form, more.as_bytes(), step), expected, "{more:?} by {step}");
            }
        }
    }

    #[test]
    fn every_proper_front_of_a_good_body_is_incomplete() {
        let wire = with_signatures("5#\r\nhello\r\n1#\r\n!\r\n0#\r\nx: y\n\r\nz:\r\n\r\n");
        for end in 0..wire.len() {
            for step in [1, wire.len()] {
                let (_, consumed, done) = read(BOTH, &wire.as_bytes()[..end], step).unwrap();
                assert!(consumed == end && !done, "{end}");
            }
        }
    }

    #[test]
    fn whatever_two_parsers_could_read_differently_is_refused() {
        let long_line = format!("0\r\na:{}\r\n\r\n", "b".repeat(limits::TRAILER_BYTES_MAX));
        let many_lines = format!("0\r\n{}\r\n", "a:b\r\n".repeat(limits::TRAILER_BYTES_MAX / 5 + 1));
        for (form, wire) in [
            // Sizes.
            (PLAIN, "\r\n"),
            (PLAIN, "x\r\n"),
            (PLAIN, "+5\r\nhello\r\n"),
            (PLAIN, "-0\r\n\r\n"),
            (PLAIN, "0x5\r\nhello\r\n"),
            (PLAIN, " 5\r\nhello\r\n"),
            (PLAIN, "5 \r\nhello\r\n"),
            (PLAIN, "5\t\r\nhello\r\n"),
            (PLAIN, "5_0\r\n"),
            (PLAIN, "00000000000000005\r\nhello\r\n"),
            (PLAIN, "8000000000000000\r\n"),
            (PLAIN, "ffffffffffffffff\r\n"),
            (PLAIN, "1\r\na\r\n7fffffffffffffff\r\n"),
            (PLAIN, "5\0\r\n"),
            (PLAIN, "\u{ff15}\r\n"),
            // Extensions.
            (PLAIN, "5;\r\nhello"),
            (PLAIN, "5;a=b\r\nhello"),
            (PLAIN, "5#\r\nhello\r\n"),
            (SIGNED, "5\r\nhello\r\n"),
            (SIGNED, "#\r\n"),
            (SIGNED, "5;\r\n"),
            (SIGNED, "5; chunk-signature=0"),
            (SIGNED, "5;chunk-signature=\r\n"),
            (SIGNED, "5;chunk-signature=0\r\n"),
            (SIGNED, "5;chunk-signature =0"),
            (SIGNED, "5;chunk-signature= 0"),
            (SIGNED, "5;chunk-signature=A"),
            (SIGNED, "5;chunk-signature=\""),
            (SIGNED, "5#0\r\nhello"),
            (SIGNED, "5##\r\nhello"),
            (SIGNED, "5# \r\nhello"),
            (SIGNED, "5#;a=b\r\nhello"),
            (SIGNED, "5;a=b#\r\nhello"),
            // Line ends.
            (PLAIN, "5\nhello\r\n"),
            (PLAIN, "5\rhello\r\n"),
            (PLAIN, "5\r\r\nhello"),
            (PLAIN, "0\n\r\n"),
            (PLAIN, "0\r\n\n"),
            (PLAIN, "0\r\n\r\r\n"),
            (PLAIN, "0\r\na:b\r\n\r\n"),
            (SIGNED, "5#\nhello"),
            (SIGNED, "5#\rhello"),
            (SIGNED, "0#\r\n\n"),
            (SIGNED, "0#\r\n0#\r\n\r\n"),
            // Ends of data.
            (PLAIN, "5\r\nhello0\r\n\r\n"),
            (PLAIN, "5\r\nhello\n0\r\n\r\n"),
            (PLAIN, "5\r\nhello\r0\r\n\r\n"),
            (PLAIN, "5\r\nhell\r\n0\r\n\r\n"),
            (PLAIN, "5\r\nhello\r\n\r\n0\r\n\r\n"),
            // Trailers.
            (TRAILED, "0\r\n:\r\n\r\n\0"),
            (TRAILED, "0\r\na\r\n\r\n"),
            (TRAILED, "0\r\na\n\r\n\r\n"),
            (TRAILED, "0\r\n a:b\r\n\r\n"),
            (TRAILED, "0\r\n\ta:b\r\n\r\n"),
            (TRAILED, "0\r\na:b\r\n c\r\n\r\n"),
            (TRAILED, "0\r\na:b\nc:d\r\n\r\n"),
            (TRAILED, "0\r\na:b\n\n\r\n"),
            (TRAILED, "0\r\na:b\rc\r\n\r\n"),
            (TRAILED, "0\r\na:b\r\r\n\r\n"),
            (TRAILED, "0\r\na:b\r\n\n"),
            (TRAILED, "0\r\na:b\r\n\r\r"),
            (TRAILED, "0\r\n\na:b\r\n\r\n"),
            (TRAILED, "0\r\na:\0\r\n\r\n"),
            (TRAILED, "0\r\na:\u{7f}\r\n\r\n"),
            (TRAILED, "0\r\na:\u{e9}\r\n\r\n"),
            (TRAILED, "0\r\na:b\r\nc\r\n\r\n"),
            (TRAILED, long_line.as_str()),
            (TRAILED, many_lines.as_str()),
        ] {
            let wire = with_signatures(wire);
            let whole = read(form, wire.as_bytes(), wire.len());
            assert!(whole.is_err(), "{wire:.200?}: {whole:?}");
            for step in [1, 2, 3] {
                assert_eq!(read(form, wire.as_bytes(), step), whole, "{wire:.200?} by {step}");
            }
        }
    }
}
