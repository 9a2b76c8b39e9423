//! Writing heads and chunk sizes. Header injection is impossible here, whatever the caller passes: what was not checked
//! when it was read is checked when it is written.

use std::fmt::{self, Write as _};

use super::fields::Fields;
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

    /// The field lines of a parsed head whose names `keep` wants, in their order. `block` is what they were parsed from,
    /// and has been checked then: neighbours are copied as they stand there, in one piece.
    pub fn fields_of(&mut self, fields: &Fields, block: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> &mut Self {
        if self.stage != Stage::Fields {
            return self.spoil(EncodeError::Refused("a field"));
        }
        let mut run = 0..0;
        for field in fields.as_slice().iter().filter(|field| keep(field.name.of(block))) {
            match field.line(block) {
                Some(line) if line.start == run.end => run.end = line.end,
                Some(line) => {
                    self.append(&[&block[run]]);
                    run = line;
                }
                None => {
                    self.append(&[&block[std::mem::take(&mut run)]]);
                    self.field(field.name.of(block), field.value.of(block));
                }
            }
        }
        self.append(&[&block[run]])
    }

    /// Field lines that were checked when they were put together.
    pub fn lines(&mut self, lines: &FieldLines) -> &mut Self {
        if self.stage != Stage::Fields {
            return self.spoil(EncodeError::Refused("a field"));
        }
        self.append(&[&lines.0])
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

/// Field lines that are put together, and checked, once and written into many heads.
#[derive(Default)]
pub struct FieldLines(Vec<u8>);

impl FieldLines {
    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds one.
    ///
    /// # Errors
    /// When it holds a byte that must not stand there; the lines are then as they were before.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
        if !is_token(name) || !is_value(value) {
            return Err(EncodeError::Refused("a field"));
        }
        for piece in [name, b": ", value, b"\r\n"] {
            self.0.extend_from_slice(piece);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::RequestHead;

    /// What `write` makes of a buffer of `capacity` bytes that already holds `>`.
    fn written(capacity: usize, write: impl FnOnce(&mut HeadWriter<'_>)) -> Result<String, EncodeError> {
        let mut out = Buffer::detached(capacity);
        out.append(b">");
        let mut head = HeadWriter::new(&mut out);
        write(&mut head);
        let result = head.finish();
        let text = String::from_utf8_lossy(out.filled()).into_owned();
        assert!(result.is_ok() || text == ">", "an error left {text:?} behind");
        result.map(|()| text)
    }

    #[test]
    fn fields_that_are_passed_on_read_as_if_written_one_by_one() {
        let lines = "A: 1\r\nDrop: x\r\nb: 2\r\nC:3\r\nD:  4\r\nE: 5 \r\nF:\r\nG: \r\nH: a: b\r\ni: 9\r\ndrop: y\r\n";
        let block = format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
        let head = RequestHead::parse(&block).unwrap();
        for dropped in ["drop", "a", "i", "c", "none", "b"] {
            let keep = |name: &[u8]| !name.eq_ignore_ascii_case(dropped.as_bytes());
            let (mut passed, mut written) = (Buffer::detached(4096), Buffer::detached(4096));
            let mut writer = HeadWriter::new(&mut passed);
            writer.status_line(200, b"").fields_of(&head.fields, &block, keep);
            writer.finish().unwrap();
            let mut writer = HeadWriter::new(&mut written);
            writer.status_line(200, b"");
            for (name, value) in head.fields.iter(&block).filter(|(name, _)| keep(name)) {
                writer.field(name, value);
            }
            writer.finish().unwrap();
            assert_eq!(passed.filled(), written.filled(), "without {dropped}");
        }
        let mut small = Buffer::detached(40);
        let mut writer = HeadWriter::new(&mut small);
        writer.status_line(200, b"").fields_of(&head.fields, &block, |_| true);
        assert_eq!(writer.finish(), Err(EncodeError::TooLarge));
        assert!(small.is_empty());
    }

    #[test]
    fn heads_are_written_as_asked() {
        let request = written(200, |head| {
            head.request_line(b"PUT", b"/a%20b?X-Amz-Signature=1")
                .field(b"Host", b"h")
                .field(b"Empty", b"")
                .field(b"Tab", b"a\tb")
                .field_fmt(b"Content-Length", format_args!("{}", u64::MAX));
        });
        let expected = ">PUT /a%20b?X-Amz-Signature=1 HTTP/1.1\r\nHost: h\r\nEmpty: \r\nTab: a\tb\r\n\
                        Content-Length: 18446744073709551615\r\n\r\n";
        assert_eq!(request.as_deref(), Ok(expected));
        let response = written(99, |head| {
            head.status_line(206, reason(206).as_bytes());
        });
        assert_eq!(response.as_deref(), Ok(">HTTP/1.1 206 Partial Content\r\n\r\n"));
        let bare = written(99, |head| {
            head.status_line(599, b"");
        });
        assert_eq!(bare.as_deref(), Ok(">HTTP/1.1 599 \r\n\r\n"));
    }

    #[test]
    fn no_byte_that_could_end_a_line_or_a_word_gets_through() {
        for byte in (0..=b' ').chain([0x7f]) {
            let with = |text: &str| [text.as_bytes(), &[byte], b"x"].concat();
            let refused = |write: &dyn Fn(&mut HeadWriter<'_>)| {
                let result = written(500, |head| write(head));
                assert!(matches!(result, Err(EncodeError::Refused(_))), "{byte:#x}: {result:?}");
            };
            refused(&|head| {
                head.request_line(&with("GET"), b"/");
            });
            refused(&|head| {
                head.request_line(b"GET", &with("/"));
            });
            refused(&|head| {
                head.request_line(b"GET", b"/").field(&with("a"), b"");
            });
            refused(&|head| {
                head.request_line(b"GET", b"/").field_fmt(&with("a"), format_args!(""));
            });
            if byte != b'\t' && byte != b' ' {
                refused(&|head| {
                    head.status_line(200, &with("OK"));
                });
                refused(&|head| {
                    head.status_line(200, b"OK").field(b"a", &with("b"));
                });
                assert!(FieldLines::default().push(b"a", &with("b")).is_err());
                let text = String::from_utf8(with("b")).unwrap();
                refused(&|head| {
                    head.status_line(200, b"OK").field_fmt(b"a", format_args!("{text}"));
                });
            }
        }
    }

    #[test]
    fn pieces_out_of_turn_or_out_of_range_are_refused() {
        type Write = fn(&mut HeadWriter<'_>);
        let cases: [(&str, Write); 11] = [
            ("nothing", |_| {}),
            ("lines first", |head| {
                head.lines(&FieldLines::default());
            }),
            ("a field first", |head| {
                head.field(b"a", b"b");
            }),
            ("a formatted field first", |head| {
                head.field_fmt(b"a", format_args!("b"));
            }),
            ("two first lines", |head| {
                head.status_line(200, b"").status_line(200, b"");
            }),
            ("a status too low", |head| {
                head.status_line(99, b"");
            }),
            ("a status too high", |head| {
                head.status_line(600, b"");
            }),
            ("an empty method", |head| {
                head.request_line(b"", b"/");
            }),
            ("an empty target", |head| {
                head.request_line(b"GET", b"");
            }),
            ("a fragment", |head| {
                head.request_line(b"GET", b"/#a");
            }),
            ("an empty name", |head| {
                head.status_line(200, b"").field(b"", b"b");
            }),
        ];
        for (what, write) in cases {
            let result = written(99, write);
            assert!(matches!(result, Err(EncodeError::Refused(_))), "{what}: {result:?}");
        }
    }

    #[test]
    fn a_head_that_does_not_fit_leaves_the_buffer_as_it_was() {
        let write = |head: &mut HeadWriter<'_>| {
            head.request_line(b"GET", b"/").field(b"a", b"b").field_fmt(b"c", format_args!("{}", 123));
        };
        let len = written(99, write).unwrap().len();
        assert!(written(len, write).is_ok());
        for capacity in 1..len {
            assert_eq!(written(capacity, write), Err(EncodeError::TooLarge), "{capacity}");
        }
    }

    #[test]
    fn lines_that_were_put_together_are_written_as_they_are() {
        let mut lines = FieldLines::default();
        lines.push(b"a", b"b").unwrap();
        assert!(lines.push(b"c d", b"e").is_err() && lines.push(b"", b"e").is_err());
        lines.push(b"f", b"").unwrap();
        let written = written(99, |head| {
            head.status_line(200, b"OK").lines(&lines);
        });
        assert_eq!(written.as_deref(), Ok(">HTTP/1.1 200 OK\r\na: b\r\nf: \r\n\r\n"));
        lines.clear();
        assert_eq!(lines.0, b"");
    }

    #[test]
    fn consumed_bytes_make_room_for_a_head() {
        let mut out = Buffer::detached(40);
        out.append(&[b'x'; 30]);
        out.consume(28);
        let mut head = HeadWriter::new(&mut out);
        head.status_line(200, b"OK").field_fmt(b"a", format_args!("{}", 1));
        assert_eq!(head.finish(), Ok(()));
        assert_eq!(out.filled(), b"xxHTTP/1.1 200 OK\r\na: 1\r\n\r\n");
    }

    #[test]
    fn a_writer_dropped_unfinished_leaves_nothing_behind() {
        let mut out = Buffer::detached(99);
        out.append(b">");
        HeadWriter::new(&mut out).status_line(200, b"OK").field(b"a", b"b");
        assert_eq!(out.filled(), b">");
    }

    #[test]
    fn chunk_headers_are_plain_hexadecimal_lines() {
        let mut room = [0; 18];
        for (len, expected) in [(0, ""), (1, "1\r\n"), (0x10, "10\r\n"), (0xabc_def, "abcdef\r\n")] {
            assert_eq!(chunk_header(len, &mut room), expected.as_bytes());
        }
        assert_eq!(chunk_header(u64::MAX, &mut room), b"ffffffffffffffff\r\n");
    }

    #[test]
    fn every_registered_reason_can_be_written() {
        for status in 100..=599 {
            assert!(is_value(reason(status).as_bytes()), "{status}");
        }
        assert_eq!((reason(421), reason(299)), ("Misdirected Request", ""));
    }
}
