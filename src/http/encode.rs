//! Writing heads and chunk sizes. Header injection is impossible here, whatever the caller passes.

use std::fmt::{self, Write as _};

use super::{is_target, is_token, is_value};
use crate::buffer::Buffer;

/// Writes one message head to the end of a buffer.
///
/// Every piece is checked. The first one that is refused or does not fit spoils the head, [`finish`](Self::finish)
/// says so, and the buffer is as it was before; the same happens when the writer is dropped unfinished.
#[derive(Debug)]
pub struct HeadWriter<'a> {
    out: &'a mut Buffer,
    /// Length of the buffer's content before this head.
    before: usize,
    stage: Stage,
    error: Option<EncodeError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    FirstLine,
    Fields,
    Finished,
}

impl<'a> HeadWriter<'a> {
    /// A writer that appends to what `out` holds.
    #[must_use]
    pub fn new(out: &'a mut Buffer) -> Self {
        let before = out.len();
        Self { out, before, stage: Stage::FirstLine, error: None }
    }

    /// The request line, of version 1.1. `target` is written byte for byte.
    pub fn request_line(&mut self, method: &[u8], target: &[u8]) -> &mut Self {
        let good = is_token(method) && is_target(target);
        self.first_line(good, "the request line", &[method, b" ", target, b" HTTP/1.1\r\n"])
    }

    /// The status line, of version 1.1. An empty reason is written as such (RFC 9112 §4).
    pub fn status_line(&mut self, status: u16, reason: &[u8]) -> &mut Self {
        let good = (100..=599).contains(&status) && is_value(reason);
        let digit = |place: u16| b'0' + (status / place % 10) as u8;
        let code = [digit(100), digit(10), digit(1), b' '];
        self.first_line(good, "the status line", &[b"HTTP/1.1 ", &code, reason, b"\r\n"])
    }

    /// One field line.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        if !is_token(name) || !is_value(value) || self.stage != Stage::Fields {
            return self.spoil(EncodeError::Refused("a field"));
        }
        self.append(&[name, b": ", value, b"\r\n"])
    }

    /// One field line whose value is formatted in place: `field_fmt(b"Content-Length", format_args!("{length}"))`.
    pub fn field_fmt(&mut self, name: &[u8], value: fmt::Arguments<'_>) -> &mut Self {
        if !is_token(name) || self.stage != Stage::Fields {
            return self.spoil(EncodeError::Refused("a field"));
        }
        self.append(&[name, b": "]);
        if self.error.is_none() {
            let start = self.out.len();
            if Appender(self.out).write_fmt(value).is_err() {
                return self.spoil(EncodeError::TooLarge);
            }
            if !is_value(&self.out.filled()[start..]) {
                return self.spoil(EncodeError::Refused("a field"));
            }
        }
        self.append(&[b"\r\n"])
    }

    /// Writes the empty line that ends the head.
    ///
    /// # Errors
    /// When any piece was refused or did not fit; the buffer is then as it was before.
    pub fn finish(mut self) -> Result<(), EncodeError> {
        if self.stage == Stage::FirstLine {
            self.spoil(EncodeError::Refused("a head without a first line"));
        }
        self.append(&[b"\r\n"]);
        match self.error {
            None => {
                self.stage = Stage::Finished;
                Ok(())
            }
            Some(error) => Err(error),
        }
    }

    fn first_line(&mut self, good: bool, what: &'static str, pieces: &[&[u8]]) -> &mut Self {
        if !good || self.stage != Stage::FirstLine {
            return self.spoil(EncodeError::Refused(what));
        }
        self.stage = Stage::Fields;
        self.append(pieces)
    }

    fn append(&mut self, pieces: &[&[u8]]) -> &mut Self {
        if self.error.is_some() {
            return self;
        }
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        if wanted > self.out.room() {
            self.out.compact();
        }
        if wanted > self.out.room() {
            return self.spoil(EncodeError::TooLarge);
        }
        for piece in pieces {
            self.out.append(piece);
        }
        self
    }

    fn spoil(&mut self, error: EncodeError) -> &mut Self {
        self.error.get_or_insert(error);
        self
    }
}

impl Drop for HeadWriter<'_> {
    fn drop(&mut self) {
        if self.stage != Stage::Finished {
            self.out.truncate(self.before);
        }
    }
}

/// Formats to the end of a buffer.
struct Appender<'a>(&'a mut Buffer);

impl fmt::Write for Appender<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.0.room() {
            self.0.compact();
        }
        if self.0.append(text.as_bytes()) == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Why a head could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The head does not fit the buffer.
    TooLarge,
    /// This part holds a byte that must not stand there, or came out of turn.
    Refused(&'static str),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the head does not fit its buffer"),
            Self::Refused(what) => write!(f, "{what} holds something that must not be sent"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// The line in front of `len` bytes of chunk data (which CRLF must follow), written into `room`.
///
/// Nothing for a `len` of 0: a chunk of no bytes would end the body. [`LAST_CHUNK`] does that.
#[must_use]
pub fn chunk_header(len: u64, room: &mut [u8; 18]) -> &[u8] {
    if len == 0 {
        return &[];
    }
    room[16] = b'\r';
    room[17] = b'\n';
    let (mut rest, mut at) = (len, 16);
    while rest > 0 {
        at -= 1;
        room[at] = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    &room[at..]
}

/// What ends a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The registered reason phrase (RFC 9110 §15); empty for a status the gate never makes up itself.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
