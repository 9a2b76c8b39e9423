//! Message heads: where one ends, and what its lines say.
//!
//! [`Scan`] finds the end of a head in bytes that arrive piece by piece and looks at each of them once.
//! [`RequestHead`] and [`ResponseHead`] then read a complete head in one pass. httparse splits the lines; whatever it
//! tolerates that RFC 9112 does not is refused here.

use std::fmt;
use std::mem::MaybeUninit;

use super::fields::{Field, Fields, Span};
use super::is_target;
use crate::limits;

/// The HTTP version of a message. Others do not exist for the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, connections close unless asked otherwise.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// A resumable search for the end of a head.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Bytes already looked at and found good.
    looked_at: usize,
    /// Where the line being read begins.
    line_start: usize,
    /// Empty lines skipped in front of the first line.
    leading_lines: usize,
}

impl Scan {
    /// Looks for the end of the head that begins at `filled[0]`. Between two calls `filled` only ever grows at its end.
    ///
    /// `Some(n)`: the head is `filled[..n]`, with the empty line that ends it and the empty lines tolerated in front of
    /// it (RFC 9112 §2.2). `None`: more bytes are needed. After `Some` or an error start with a new scan.
    ///
    /// # Errors
    /// A bare LF, a bare CR or a NUL as soon as it is seen, and heads above
    /// [`limits::HEAD_BYTES_MAX`].
    pub fn feed(&mut self, filled: &[u8]) -> Result<Option<usize>, HeadError> {
        let window = &filled[..filled.len().min(limits::HEAD_BYTES_MAX)];
        while let Some(found) = memchr::memchr3(b'\n', b'\r', 0, window.get(self.looked_at..).unwrap_or_default()) {
            let at = self.looked_at + found;
            match (window[at], window.get(at + 1)) {
                (b'\n', _) => return Err(HeadError::Malformed("a line ends in LF without CR")),
                (b'\r', Some(b'\n')) => {}
                (b'\r', None) => {
                    self.looked_at = at;
                    return self.ask_for_more(window);
                }
                (b'\r', _) => return Err(HeadError::Malformed("a CR stands without LF")),
                _ => return Err(HeadError::Malformed("the head holds a NUL byte")),
            }
            let (line_start, next) = (self.line_start, at + 2);
            (self.looked_at, self.line_start) = (next, next);
            if at > line_start {
                continue;
            }
            if line_start > 2 * self.leading_lines {
                return Ok(Some(next));
            }
            self.leading_lines += 1;
            if self.leading_lines > LEADING_LINES_MAX {
                return Err(HeadError::Malformed("too many empty lines in front of a message"));
            }
        }
        self.looked_at = window.len();
        self.ask_for_more(window)
    }

    fn ask_for_more(&self, window: &[u8]) -> Result<Option<usize>, HeadError> {
        if window.len() < limits::HEAD_BYTES_MAX {
            return Ok(None);
        }
        let in_first_line = self.line_start == 2 * self.leading_lines;
        Err(if in_first_line { HeadError::LineTooLarge } else { HeadError::TooLarge })
    }
}

/// The head of a request.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method: a token of at most 32 bytes. Methods are case-sensitive (RFC 9110 §9.1).
    pub method: Span,
    /// The request target, byte for byte: origin-form, absolute-form or, for OPTIONS, `*`. Bytes above 0x7f are UTF-8:
    /// S3 keys are, and S3 refuses targets that are not.
    pub target: Span,
    /// The version.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
}

impl RequestHead {
    /// Reads the head that [`Scan`] found: `block` is the head and nothing else.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn parse(block: &[u8]) -> Result<Self, HeadError> {
        let mut head = Self::default();
        head.parse_into(block)?;
        Ok(head)
    }

    /// As [`parse`](Self::parse), into the allocation of a head read before. After an error the content is meaningless.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn parse_into(&mut self, block: &[u8]) -> Result<(), HeadError> {
        let lines = lines_of(block)?;
        let mut room = [const { MaybeUninit::uninit() }; limits::HEAD_FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let status = parsed.parse_with_uninit_headers(lines, &mut room);
        let status = status.map_err(|error| refusal(error, lines, Side::Request))?;
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(HeadError::Malformed("the request line is incomplete"));
        };
        check_end(status, lines)?;
        if method.len() > METHOD_BYTES_MAX {
            return Err(HeadError::Malformed("the method is too long"));
        }
        check_target(method, target.as_bytes())?;
        self.method = Span::within(block, method.as_bytes());
        self.target = Span::within(block, target.as_bytes());
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        collect(&mut self.fields, block, parsed.headers)
    }

    /// The method.
    #[must_use]
    pub fn method<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        self.method.of(block)
    }

    /// The request target as it came.
    #[must_use]
    pub fn target<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        self.target.of(block)
    }
}

/// The head of a response.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 599 (RFC 9110 §15).
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
}

impl ResponseHead {
    /// Reads the head that [`Scan`] found: `block` is the head and nothing else.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn parse(block: &[u8]) -> Result<Self, HeadError> {
        let mut head = Self::default();
        head.parse_into(block)?;
        Ok(head)
    }

    /// As [`parse`](Self::parse), into the allocation of a head read before. After an error the content is meaningless.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn parse_into(&mut self, block: &[u8]) -> Result<(), HeadError> {
        if block.starts_with(b"\r") {
            return Err(HeadError::Malformed("an empty line stands in front of a response"));
        }
        let lines = lines_of(block)?;
        let mut room = [const { MaybeUninit::uninit() }; limits::HEAD_FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config.parse_response_with_uninit_headers(&mut parsed, lines, &mut room);
        let status = status.map_err(|error| refusal(error, lines, Side::Response))?;
        let (Some(code), Some(version)) = (parsed.code, parsed.version) else {
            return Err(HeadError::Malformed("the status line is incomplete"));
        };
        check_end(status, lines)?;
        if !(100..=599).contains(&code) {
            return Err(HeadError::Malformed("the status code is not one of 100 to 599"));
        }
        // httparse checks the reason phrase but drops one that is not ASCII; the client gets what upstream sent.
        let line_end = memchr::memchr(b'\r', lines).unwrap_or(STATUS_LINE_BYTES);
        let reason = lines.get(STATUS_LINE_BYTES + 1..line_end).unwrap_or_default();
        self.status = code;
        self.reason = if reason.is_empty() { Span::default() } else { Span::within(block, reason) };
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        collect(&mut self.fields, block, parsed.headers)
    }

    /// The reason phrase.
    #[must_use]
    pub fn reason<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        self.reason.of(block)
    }
}

/// Why a head is refused. The sentences name what is wrong and repeat nothing the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The first line alone exceeds [`limits::HEAD_BYTES_MAX`] (for a request: 414).
    LineTooLarge,
    /// The head exceeds [`limits::HEAD_BYTES_MAX`] (for a request: 431).
    TooLarge,
    /// The head has more than [`limits::HEAD_FIELDS_MAX`] field lines (for a request: 431).
    TooManyFields,
    /// A well-formed first line of a version other than 1.0 and 1.1 (for a request: 505).
    Version,
    /// Anything else that RFC 9112 does not allow (for a request: 400).
    Malformed(&'static str),
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLarge => write!(f, "the first line is longer than {} bytes", limits::HEAD_BYTES_MAX),
            Self::TooLarge => write!(f, "the head is larger than {} bytes", limits::HEAD_BYTES_MAX),
            Self::TooManyFields => write!(f, "the head has more than {} fields", limits::HEAD_FIELDS_MAX),
            Self::Version => f.write_str("the HTTP version is neither 1.0 nor 1.1"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for HeadError {}

/// The head without the empty lines in front of it.
fn lines_of(block: &[u8]) -> Result<&[u8], HeadError> {
    if block.len() > limits::HEAD_BYTES_MAX {
        return Err(HeadError::TooLarge);
    }
    let mut lines = block;
    for _ in 0..LEADING_LINES_MAX {
        lines = lines.strip_prefix(b"\r\n").unwrap_or(lines);
    }
    // httparse would skip any number of further ones, and bare LFs with them.
    if let [] | [b'\r' | b'\n', ..] = lines {
        return Err(HeadError::Malformed("the head does not begin with a line"));
    }
    Ok(lines)
}

/// httparse must have read the block to its last byte, and that must be the CRLF of an empty line.
fn check_end(status: httparse::Status<usize>, lines: &[u8]) -> Result<(), HeadError> {
    match status {
        httparse::Status::Complete(end) if end == lines.len() && lines.ends_with(b"\r\n\r\n") => Ok(()),
        httparse::Status::Complete(_) => Err(HeadError::Malformed("the head does not end where its empty line is")),
        httparse::Status::Partial => Err(HeadError::Malformed("the head is not complete")),
    }
}

/// Takes the field lines over. httparse accepts a bare LF for CRLF; as it ends a line at nothing else, it is enough that
/// each name follows a CRLF (and that the block ends in one, see [`check_end`]).
fn collect(fields: &mut Fields, block: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), HeadError> {
    fields.clear();
    for header in headers {
        let name = Span::within(block, header.name.as_bytes());
        if header.name.is_empty() || !block[..name.start()].ends_with(b"\r\n") {
            return Err(HeadError::Malformed("a line ends in LF without CR"));
        }
        let value = Span::within(block, header.value);
        fields.push(block, Field { name, value })?;
    }
    Ok(())
}

/// The forms of RFC 9112 §3.2 that make sense to a gateway in front of S3.
fn check_target(method: &str, target: &[u8]) -> Result<(), HeadError> {
    if method == "CONNECT" {
        return Err(HeadError::Malformed("CONNECT asks for a tunnel, and the gate makes none"));
    }
    if !is_target(target) {
        return Err(HeadError::Malformed("the request target holds a control character, a space or a fragment"));
    }
    if target.starts_with(b"/") {
        return Ok(());
    }
    if target == b"*" {
        let allowed = method == "OPTIONS";
        return if allowed { Ok(()) } else { Err(HeadError::Malformed("the target * goes with OPTIONS only")) };
    }
    let Some((_, rest)) = split_scheme(target) else {
        return Err(HeadError::Malformed("the request target is neither a path nor an http or https URL"));
    };
    let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if authority_end == 0 {
        return Err(HeadError::Malformed("the URL in the request target names no host"));
    }
    if rest.get(authority_end) == Some(&b'?') {
        return Err(HeadError::Malformed("the URL in the request target has a query but no path"));
    }
    Ok(())
}

/// The default port of an absolute-form target's scheme and what follows `://`.
pub(super) fn split_scheme(target: &[u8]) -> Option<(u16, &[u8])> {
    let after = |scheme: &[u8]| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    after(b"https://").map(|rest| (443, rest)).or_else(|| after(b"http://").map(|rest| (80, rest)))
}

/// Whose first line is being read.
#[derive(Clone, Copy)]
enum Side {
    Request,
    Response,
}

/// httparse's error in our terms. A version error also stands for a line with a space too many, so look again.
fn refusal(error: httparse::Error, lines: &[u8], side: Side) -> HeadError {
    use httparse::Error as E;
    match (error, side) {
        (E::TooManyHeaders, _) => HeadError::TooManyFields,
        (E::Version, Side::Request) if names_other_version(lines, 2) => HeadError::Version,
        (E::Version, Side::Response) if names_other_version(lines, 0) => HeadError::Version,
        (E::Version | E::Token, Side::Request) => {
            HeadError::Malformed("the request line is not a method, a target and a version between single spaces")
        }
        (E::Version | E::Token | E::Status, _) => {
            HeadError::Malformed("the status line is not a version, a code and a reason between single spaces")
        }
        (E::HeaderName, _) => {
            HeadError::Malformed("a field name is empty, folded, followed by a space or holds a byte it must not")
        }
        (E::HeaderValue, _) => HeadError::Malformed("a field value holds a control character"),
        (E::NewLine, _) => HeadError::Malformed("a line does not end in CRLF"),
    }
}

/// Whether the `nth` word of the first line is a well-formed version that is not ours.
fn names_other_version(lines: &[u8], nth: usize) -> bool {
    let line = &lines[..memchr::memchr(b'\r', lines).unwrap_or(lines.len())];
    match line.split(|&byte| byte == b' ').nth(nth) {
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) => {
            major.is_ascii_digit() && minor.is_ascii_digit() && !(*major == b'1' && matches!(minor, b'0' | b'1'))
        }
        _ => false,
    }
}

/// Empty lines tolerated in front of a request line (RFC 9112 §2.2); a client that sends CRLF after a body sends one.
const LEADING_LINES_MAX: usize = 2;

/// The longest registered method has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// Bytes of `HTTP/1.1 200`.
const STATUS_LINE_BYTES: usize = 12;
