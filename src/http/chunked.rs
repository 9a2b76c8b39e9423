//! The chunked coding (RFC 9112 §7.1), validated in place.
//!
//! ```text
//!   1a;name="value" CRLF   <26 bytes>  CRLF   0 CRLF   Name: value CRLF   CRLF
//!   └── size line ──────┘  └─ data ─┘         └ last ┘ └─ trailers ────┘  └ end
//! ```
//!
//! The bytes are relayed as they came, so this reader accepts nothing that another might read differently: no white
//! space in a size line, no sign, no line end but CRLF, no field in the trailers that could change how a message is
//! framed or routed.

use super::body::{BodyError, Piece};
use super::framing::LENGTH_MAX;
use super::{is_token_byte, is_value_byte};
use crate::limits;

/// A resumable reader of the chunked coding in constant memory.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    /// The size being read, then the bytes of data still to come.
    size: u64,
    /// Data bytes announced by all chunks so far.
    announced: u64,
    /// Bytes of the current size line.
    line_bytes: usize,
    /// Bytes of all extensions so far.
    extension_bytes: usize,
    /// Bytes of the trailer section so far.
    trailer_bytes: usize,
    /// The name of the trailer field being read.
    name: TrailerName,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    ExtensionName { first: bool },
    ExtensionValue { first: bool },
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionEnd,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    FinalLineFeed,
    Done,
    Failed,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunked {
    /// A reader at the first byte of a body.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Size { digits: 0 },
            size: 0,
            announced: 0,
            line_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            name: TrailerName::default(),
        }
    }

    /// Whether the last chunk and its trailers have been read.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.state == State::Done
    }

    /// Steps over the front of `input`: up to and including one run of data, or to the end of the input or the body.
    ///
    /// # Errors
    /// When the coding is violated or a bound exceeded; then for ever.
    pub fn advance(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len() - at);
                    self.size -= n as u64;
                    if self.size == 0 {
                        self.state = State::DataCarriageReturn;
                    }
                    return Ok(Piece { consumed: at + n, data: at..at + n, done: false });
                }
                State::Done => break,
                _ => {}
            }
            match self.step(byte) {
                Ok(next) => self.state = next,
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            }
            at += 1;
        }
        Ok(Piece { consumed: at, data: at..at, done: self.finished() })
    }

    /// The state after `byte`, which is not data.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size { .. }
            | State::ExtensionName { .. }
            | State::ExtensionValue { .. }
            | State::ExtensionQuoted
            | State::ExtensionEscape
            | State::ExtensionEnd
            | State::SizeLineFeed => self.step_in_size_line(byte),
            State::DataCarriageReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataLineFeed if byte == b'\n' => {
                (self.size, self.line_bytes) = (0, 0);
                Ok(State::Size { digits: 0 })
            }
            State::DataCarriageReturn | State::DataLineFeed => {
                Err(BodyError::Malformed("a chunk's data is not followed by CRLF"))
            }
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed
            | State::FinalLineFeed => self.step_in_trailers(byte),
            State::Data | State::Done | State::Failed => Err(BodyError::Malformed("the chunked coding was violated")),
        }
    }

    fn step_in_size_line(&mut self, byte: u8) -> Result<State, BodyError> {
        self.line_bytes += 1;
        if self.line_bytes > limits::CHUNK_LINE_BYTES_MAX {
            return Err(BodyError::TooLarge("a chunk's size line is too long"));
        }
        if !matches!(self.state, State::Size { .. } | State::SizeLineFeed) {
            self.extension_bytes += 1;
            if self.extension_bytes > EXTENSION_BYTES_MAX {
                return Err(BodyError::TooLarge("the chunk extensions of a body are too long"));
            }
        }
        match (self.state, byte) {
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() => self.add_digit(digits, byte),
            (State::Size { digits: 1.. }, b';') => Ok(State::ExtensionName { first: true }),
            (State::Size { digits: 1.. }, b'\r') => Ok(State::SizeLineFeed),
            (State::Size { .. }, _) => Err(BodyError::Malformed("a chunk's size is not a plain hexadecimal number")),
            (State::ExtensionName { .. }, _) if is_token_byte(byte) => Ok(State::ExtensionName { first: false }),
            (State::ExtensionName { first: false }, b'=') => Ok(State::ExtensionValue { first: true }),
            (State::ExtensionValue { first: true }, b'"') => Ok(State::ExtensionQuoted),
            (State::ExtensionValue { .. }, _) if is_token_byte(byte) => Ok(State::ExtensionValue { first: false }),
            (State::ExtensionQuoted, b'"') => Ok(State::ExtensionEnd),
            (State::ExtensionQuoted, b'\\') => Ok(State::ExtensionEscape),
            (State::ExtensionQuoted | State::ExtensionEscape, _) if is_value_byte(byte) => Ok(State::ExtensionQuoted),
            (
                State::ExtensionName { first: false } | State::ExtensionValue { first: false } | State::ExtensionEnd,
                b';' | b'\r',
            ) => Ok(if byte == b';' { State::ExtensionName { first: true } } else { State::SizeLineFeed }),
            (State::SizeLineFeed, b'\n') => Ok(self.after_size_line()?),
            (State::SizeLineFeed, _) => Err(BodyError::Malformed("a chunk's size line does not end in CRLF")),
            _ => Err(BodyError::Malformed("a chunk extension is malformed")),
        }
    }

    fn add_digit(&mut self, digits: u8, byte: u8) -> Result<State, BodyError> {
        if digits >= SIZE_DIGITS_MAX {
            return Err(BodyError::Malformed("a chunk's size has too many digits"));
        }
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        self.size = self.size << 4 | u64::from(value);
        Ok(State::Size { digits: digits + 1 })
    }

    fn after_size_line(&mut self) -> Result<State, BodyError> {
        if self.size == 0 {
            return Ok(State::TrailerStart);
        }
        let announced = self.announced.checked_add(self.size).filter(|&sum| sum <= LENGTH_MAX);
        self.announced = announced.ok_or(BodyError::Malformed("the chunks announce more bytes than any body has"))?;
        Ok(State::Data)
    }

    fn step_in_trailers(&mut self, byte: u8) -> Result<State, BodyError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > limits::TRAILER_BYTES_MAX {
            return Err(BodyError::TooLarge("the trailer section is too long"));
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::FinalLineFeed),
            (State::TrailerStart, _) if is_token_byte(byte) => {
                self.name = TrailerName::default();
                self.name.push(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerName, _) if is_token_byte(byte) => {
                self.name.push(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') if self.name.is_forbidden() => {
                Err(BodyError::Malformed("a trailer names a field that belongs in the head"))
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            (State::FinalLineFeed, b'\n') => Ok(State::Done),
            _ => Err(BodyError::Malformed("the trailer section is malformed")),
        }
    }
}

/// The front of a trailer field's name in lower case, long enough to tell every forbidden one.
#[derive(Clone, Copy, Debug, Default)]
struct TrailerName {
    bytes: [u8; 20],
    len: usize,
}

impl TrailerName {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            // An underscore counts as a dash, see `framing::is_spelled`.
            *place = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        }
        self.len += 1;
    }

    /// Fields that frame, route or authorise a message must not come behind it (RFC 9110 §6.5.1).
    fn is_forbidden(&self) -> bool {
        self.bytes.get(..self.len).is_some_and(|name| FORBIDDEN_TRAILERS.contains(&name))
    }
}

/// Hexadecimal digits of a chunk size: 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// Bytes of all chunk extensions of one body. Nobody uses them; without this bound they are a cheap way to send much
/// while sending nothing.
const EXTENSION_BYTES_MAX: usize = 4 * limits::CHUNK_LINE_BYTES_MAX;

const FORBIDDEN_TRAILERS: &[&[u8]] = &[
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `wire` fed in steps of `step` bytes. The payload, the bytes consumed and whether the body is complete.
    fn read(wire: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let (mut reader, mut payload, mut consumed, mut arrived) = (Chunked::new(), Vec::new(), 0, 0);
        while !reader.finished() && (consumed < arrived || arrived < wire.len()) {
            arrived = (arrived + step).min(wire.len());
            let input = &wire[consumed..arrived];
            let piece = reader.advance(input)?;
            assert!(piece.consumed > 0 && piece.data.end <= piece.consumed, "{piece:?}");
            assert_eq!(piece.done, reader.finished());
            payload.extend_from_slice(&input[piece.data]);
            consumed += piece.consumed;
        }
        Ok((payload, consumed, reader.finished()))
    }

    #[test]
    fn good_bodies_read_alike_whole_byte_by_byte_and_with_trailing_bytes() {
        let wide = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(4000));
        for (wire, payload) in [
            ("0\r\n\r\n", ""),
            ("000\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"),
            ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
            ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
            ("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello"),
            ("5;a=\"b;\\\"\\\\ \tc\";d;e=f\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
            ("0\r\nX-Amz-Checksum-Crc32: AAAA==\r\nx:\r\n\r\n", ""),
            ("1\r\n-\r\n0\r\nX-Obs: \u{e9}\t.\r\n\r\n", "-"),
            (wide.as_str(), "hello"),
        ] {
            let expected = Ok((payload.as_bytes().to_vec(), wire.len(), true));
            for step in [1, 2, 3, wire.len()] {
                assert_eq!(read(wire.as_bytes(), step), expected, "{wire:?} by {step}");
                let more = format!("{wire}0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
                assert_eq!(read(more.as_bytes(), step), expected, "{more:?} by {step}");
            }
        }
    }

    #[test]
    fn every_proper_front_of_a_good_body_is_incomplete() {
        let wire = b"5;a=\"b\"\r\nhello\r\n1\r\n!\r\n0\r\nx: y\r\n\r\n";
        for end in 0..wire.len() {
            for step in [1, wire.len()] {
                let (payload, consumed, done) = read(&wire[..end], step).unwrap();
                assert!(b"hello!".starts_with(&payload[..]) && consumed == end && !done, "{end}");
            }
        }
    }

    #[test]
    fn whatever_two_parsers_could_read_differently_is_refused() {
        for wire in [
            // Sizes.
            "\r\n",
            ";a\r\n",
            "+5\r\nhello\r\n",
            "-5\r\nhello\r\n",
            "-0\r\n",
            "0x5\r\nhello\r\n",
            "5h\r\n",
            "x5\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "5\t\r\nhello\r\n",
            "5_0\r\n",
            "5,5\r\n",
            "5.0\r\n",
            "\u{ff15}\r\n",
            "0 \r\n\r\n",
            "00000000000000005\r\nhello\r\n",
            "10000000000000000\r\n",
            "8000000000000000\r\n",
            "ffffffffffffffff\r\n",
            "1\r\na\r\n7fffffffffffffff\r\n",
            "\0",
            "5\0\r\n",
            "\u{b}5\r\n",
            // Line ends.
            "5\nhello\r\n",
            "5\r hello\r\n",
            "5\rhello\r\n",
            "5\r\r\nhello",
            "5\n\r\nhello",
            "0\n\n",
            "0\r\n\n",
            "0\r\n\r\r\n",
            "0\n\r\n",
            // Data ends.
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\nhell\r\n0\r\n\r\n",
            "5\r\nhello\r\n\r\n0\r\n\r\n",
            // Extensions.
            "5;\r\nhello",
            "5; a\r\nhello",
            "5 ;a\r\nhello",
            "5;a \r\nhello",
            "5;a =b\r\nhello",
            "5;a= b\r\nhello",
            "5;a=\r\nhello",
            "5;;a\r\nhello",
            "5;=a\r\nhello",
            "5;a=\"b\r\nhello",
            "5;a=\"b\"c\r\nhello",
            "5;a=\"\\\r\"\r\nhello",
            "5;a\nhello",
            "5;a\rb\r\n",
            "5;a\0b\r\n",
            "5;a=\"\n\"\r\n",
            "5;a=\"\0\"\r\n",
            "5;a=\"\r\n\"\r\n",
            "5;a,b\r\n",
            "5;\u{e9}\r\n",
            "5;a\n\r\nhello",
            // Trailers.
            "0\r\n x: y\r\n\r\n",
            "0\r\nx : y\r\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\nx: y\r\n z\r\n\r\n",
            "0\r\nx: y\r\n\n",
            "0\r\nx: a\rb\r\n\r\n",
            "0\r\nx: a\0b\r\n\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nx: \u{7f}\r\n\r\n",
        ] {
            for step in [1, wire.len()] {
                let refused = read(wire.as_bytes(), step);
                assert!(matches!(refused, Err(BodyError::Malformed(_))), "{wire:?} by {step}: {refused:?}");
            }
        }
    }

    #[test]
    fn fields_that_frame_or_route_a_message_are_refused_as_trailers() {
        for name in FORBIDDEN_TRAILERS {
            let name = std::str::from_utf8(name).unwrap();
            assert!(name.len() <= TrailerName::default().bytes.len(), "{name}");
            for spelled in [name.to_owned(), name.to_uppercase(), name.replace('-', "_")] {
                let wire = format!("0\r\na: b\r\n{spelled}: 5\r\n\r\n");
                assert!(matches!(read(wire.as_bytes(), 1), Err(BodyError::Malformed(_))), "{wire:?}");
            }
            let wire = format!("0\r\nx-{name}: 5\r\n{name}-x: 5\r\n\r\n");
            assert!(read(wire.as_bytes(), 1).is_ok(), "{wire:?}");
        }
    }

    #[test]
    fn size_lines_extensions_and_trailers_are_bounded() {
        let line = |n: usize| format!("1;{}\r\n", "x".repeat(n - 4));
        let fits = line(limits::CHUNK_LINE_BYTES_MAX);
        assert_eq!(fits.len(), limits::CHUNK_LINE_BYTES_MAX);
        assert!(read(fits.as_bytes(), 1).is_ok());
        let too_long = read(line(limits::CHUNK_LINE_BYTES_MAX + 1).as_bytes(), 1);
        assert!(matches!(too_long, Err(BodyError::TooLarge(_))), "{too_long:?}");

        let many = "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n-\r\n".repeat(EXTENSION_BYTES_MAX / 32 + 1);
        assert!(matches!(read(many.as_bytes(), many.len()), Err(BodyError::TooLarge(_))));

        let trailers = |n: usize| format!("0\r\nx: {}\r\n\r\n", "y".repeat(n - 7));
        assert!(read(trailers(limits::TRAILER_BYTES_MAX).as_bytes(), 1).unwrap().2);
        let too_long = read(trailers(limits::TRAILER_BYTES_MAX + 1).as_bytes(), 7);
        assert!(matches!(too_long, Err(BodyError::TooLarge(_))), "{too_long:?}");
    }

    #[test]
    fn the_bound_of_a_size_line_is_not_one_of_all_size_lines() {
        let wire = format!("{}0\r\n\r\n", "1\r\n-\r\n".repeat(2 * limits::CHUNK_LINE_BYTES_MAX));
        let expected = Ok((vec![b'-'; 2 * limits::CHUNK_LINE_BYTES_MAX], wire.len(), true));
        assert_eq!(read(wire.as_bytes(), wire.len()), expected);
    }

    #[test]
    fn a_reader_that_failed_keeps_failing() {
        let mut reader = Chunked::new();
        assert!(reader.advance(b"+").is_err());
        assert!(reader.advance(b"0\r\n\r\n").is_err());
        assert!(!reader.finished());
    }

    #[test]
    fn one_step_passes_at_most_one_run_of_data() {
        let wire = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET";
        let mut reader = Chunked::new();
        assert_eq!(reader.advance(wire), Ok(Piece { consumed: 6, data: 3..6, done: false }));
        assert_eq!(reader.advance(&wire[6..]), Ok(Piece { consumed: 7, data: 5..7, done: false }));
        assert_eq!(reader.advance(&wire[13..]), Ok(Piece { consumed: 7, data: 7..7, done: true }));
        assert_eq!(reader.advance(&wire[20..]), Ok(Piece { consumed: 0, data: 0..0, done: true }));
    }
}
