//! The access record: what is said about one exchange, once, as one line of JSON.
//!
//! Nothing that grants access is ever in it. A record has no place for a query, a cookie, an `Authorization` or a
//! `Referer`; and a [`Text`], the only way for a peer's bytes to get in, is written as `[redacted]` when somebody put
//! a signed link where it does not belong.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limits;
use crate::s3::escape;

/// One exchange, or one connection that ended before it had one.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// The gate's own id of the exchange, as in `x-filmgate-request-id`.
    pub id: Option<Text>,
    /// When the first byte of the request came.
    pub time: SystemTime,
    /// The client's address.
    pub client: SocketAddr,
    /// Version of the client's TLS (`"1.3"`), `None` on a plain listener.
    pub tls: Option<&'static str>,
    /// The host the client asked for.
    pub host: Option<Text>,
    /// The bucket of the route.
    pub bucket: Option<Text>,
    /// The request's method.
    pub method: Option<Text>,
    /// S3's name for the request, from [`crate::s3::operation`].
    pub operation: Option<&'static str>,
    /// The decoded object key: [`crate::s3::target::Target::key`].
    pub key: Option<Text>,
    /// The request's `Range`.
    pub range: Option<Text>,
    /// The status the client was sent; `None` when it was sent none.
    pub status: Option<u16>,
    /// The code in S3's error body or in the gate's own.
    pub s3_code: Option<Text>,
    /// Bytes of request body read from the client, transfer coding not counted.
    pub bytes_in: u64,
    /// Bytes of response body written to the client, transfer coding not counted.
    pub bytes_out: u64,
    /// From the request's first byte to the response's first.
    pub ttfb: Option<Duration>,
    /// From the request's first byte to the end of the exchange.
    pub total: Duration,
    /// From the request's first byte sent upstream to the last byte of the answer.
    pub upstream_time: Option<Duration>,
    /// The upstream's address.
    pub upstream: Option<SocketAddr>,
    /// Whether the upstream connection had served before. Said only with an `upstream`.
    pub upstream_reused: bool,
    /// Attempts upstream after the first.
    pub retries: u32,
    /// S3's `x-amz-request-id`.
    pub s3_request_id: Option<Text>,
    /// S3's `x-amz-id-2`.
    pub s3_id2: Option<Text>,
    /// ShotGrid's user id from the signed query.
    pub user_id: Option<Text>,
    /// ShotGrid's user type from the signed query.
    pub user_type: Option<Text>,
    /// The client's `User-Agent`.
    pub user_agent: Option<Text>,
    /// Who ended the exchange, and where it then stood.
    pub ended: Ended,
    /// The gate's own name for what went wrong.
    pub failure: Option<&'static str>,
}

impl AccessRecord {
    /// A record with nothing in it yet; the exchange counts as ended by the gate in its idle phase until told better.
    #[must_use]
    pub fn new(time: SystemTime, client: SocketAddr) -> Self {
        Self {
            id: None,
            time,
            client,
            tls: None,
            host: None,
            bucket: None,
            method: None,
            operation: None,
            key: None,
            range: None,
            status: None,
            s3_code: None,
            bytes_in: 0,
            bytes_out: 0,
            ttfb: None,
            total: Duration::ZERO,
            upstream_time: None,
            upstream: None,
            upstream_reused: false,
            retries: 0,
            s3_request_id: None,
            s3_id2: None,
            user_id: None,
            user_type: None,
            user_agent: None,
            ended: Ended { by: Party::Gate, at: Phase::Idle },
            failure: None,
        }
    }

    /// Appends the record as one line of JSON, line feed included. What is absent is left out of the object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(self.time, out);
        out.push(b'"');
        let mut line = Line { out };
        line.peer("id", self.id.as_ref());
        line.shown("client", self.client);
        line.text("tls", self.tls);
        line.peer("host", self.host.as_ref());
        line.peer("bucket", self.bucket.as_ref());
        line.peer("method", self.method.as_ref());
        line.text("operation", self.operation);
        line.peer("key", self.key.as_ref());
        line.peer("range", self.range.as_ref());
        if let Some(status) = self.status {
            line.number("status", u64::from(status));
        }
        line.peer("s3_code", self.s3_code.as_ref());
        line.number("bytes_in", self.bytes_in);
        line.number("bytes_out", self.bytes_out);
        line.milliseconds("ttfb_ms", self.ttfb);
        line.milliseconds("total_ms", Some(self.total));
        line.milliseconds("upstream_ms", self.upstream_time);
        if let Some(upstream) = self.upstream {
            line.shown("upstream", upstream);
            line.raw("upstream_reused", if self.upstream_reused { "true" } else { "false" });
        }
        line.number("retries", u64::from(self.retries));
        line.peer("s3_request_id", self.s3_request_id.as_ref());
        line.peer("s3_id2", self.s3_id2.as_ref());
        line.peer("user_id", self.user_id.as_ref());
        line.peer("user_type", self.user_type.as_ref());
        line.peer("user_agent", self.user_agent.as_ref());
        line.name("ended");
        write_infallibly(
            line.out,
            format_args!("{{\"by\":\"{}\",\"at\":\"{}\"}}", self.ended.by.name(), self.ended.at.name()),
        );
        line.text("failure", self.failure);
        line.out.extend_from_slice(b"}\n");
    }

    /// About how many bytes of memory the record holds, for whoever queues it.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let texts = [
            &self.host,
            &self.bucket,
            &self.method,
            &self.key,
            &self.range,
            &self.s3_code,
            &self.s3_request_id,
            &self.s3_id2,
            &self.user_id,
            &self.user_type,
            &self.user_agent,
        ];
        size_of::<Self>() + texts.into_iter().flatten().map(|text| text.0.len()).sum::<usize>()
    }
}

/// Where an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who ended it.
    pub by: Party,
    /// What was going on.
    pub at: Phase,
}

/// Who ended an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The artist's side.
    Client,
    /// S3's side.
    Upstream,
    /// The gate itself.
    Gate,
}

impl Party {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gate => "gate",
        }
    }
}

/// How far an exchange came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client's TLS handshake.
    Handshake,
    /// Between two requests.
    Idle,
    /// Reading the request's head.
    RequestHead,
    /// Deciding where it goes.
    Route,
    /// Connecting to the upstream.
    Connect,
    /// The upstream's TLS handshake.
    UpstreamHandshake,
    /// Sending the request with its body.
    RequestBody,
    /// Waiting for the response's head.
    Response,
    /// Passing the response's body on.
    ResponseBody,
    /// Everything was said.
    Complete,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::RequestHead => "request_head",
            Self::Route => "route",
            Self::Connect => "connect",
            Self::UpstreamHandshake => "upstream_handshake",
            Self::RequestBody => "request_body",
            Self::Response => "response",
            Self::ResponseBody => "response_body",
            Self::Complete => "complete",
        }
    }
}

/// Takes access records.
pub trait AccessSink {
    /// Takes the record of a finished exchange. Never waits.
    fn record(&self, record: AccessRecord);

    /// Whether anybody wants records; where not, none needs to be filled in.
    fn wants_records(&self) -> bool {
        true
    }
}

impl AccessSink for RefCell<Vec<AccessRecord>> {
    fn record(&self, record: AccessRecord) {
        self.borrow_mut().push(record);
    }
}

impl<S: AccessSink + ?Sized> AccessSink for &S {
    fn record(&self, record: AccessRecord) {
        (**self).record(record);
    }

    fn wants_records(&self) -> bool {
        (**self).wants_records()
    }
}

impl<S: AccessSink + ?Sized> AccessSink for std::rc::Rc<S> {
    fn record(&self, record: AccessRecord) {
        (**self).record(record);
    }

    fn wants_records(&self) -> bool {
        (**self).wants_records()
    }
}

/// Text from a peer: UTF-8 (what is not becomes U+FFFD), at most [`limits::LOGGED_STRING_BYTES_MAX`] bytes, ending in
/// `…` when it was longer. It can only be read as [`shown`](Self::shown).
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Box<str>);

impl Text {
    /// Takes over the beginning of what a peer said.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        const MAX: usize = limits::LOGGED_STRING_BYTES_MAX;
        let bytes = bytes.as_ref();
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX + 1)]);
        if text.len() <= MAX {
            return Self(text.into());
        }
        let end = text.floor_char_boundary(MAX - CUT.len());
        Self([&text[..end], CUT].concat().into())
    }

    /// The text, or `[redacted]` where it looks like part of a signed link or of an `Authorization` field.
    #[must_use]
    pub fn shown(&self) -> &str {
        if holds_secret(self.0.as_bytes()) { REDACTED } else { &self.0 }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shown(), f)
    }
}

/// Stands at the end of a text that was cut.
const CUT: &str = "…";

/// Stands for a text that must not be logged.
const REDACTED: &str = "[redacted]";

/// What gives a signed link away, in lower case. In every link a secret's name comes before the secret, so a cut text
/// that lost the name lost the secret with it.
const TELLTALES: [&[u8]; 6] = [
    b"signature=",
    b"x-amz-signature",
    b"x-amz-security-token",
    b"x-amz-credential",
    b"awsaccesskeyid",
    b"credential=",
];

/// Looks for a telltale in the text as it is and with its escapes undone, as a link inside a link has them.
fn holds_secret(text: &[u8]) -> bool {
    const LAYERS_MAX: usize = 4;
    let mut text = Cow::Borrowed(text);
    for _ in 0..LAYERS_MAX {
        if TELLTALES.iter().any(|telltale| contains(&text, telltale)) {
            return true;
        }
        match escape::decode(&text) {
            Cow::Owned(decoded) if decoded.len() < text.len() => text = Cow::Owned(decoded),
            _ => return false,
        }
    }
    // Nobody escapes an honest name this often.
    true
}

fn contains(text: &[u8], telltale: &[u8]) -> bool {
    text.windows(telltale.len()).any(|window| window.eq_ignore_ascii_case(telltale))
}

/// Writes members of a JSON object that has at least one already.
struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn name(&mut self, name: &'static str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn raw(&mut self, name: &'static str, value: &'static str) {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn text(&mut self, name: &'static str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        self.out.push(b'"');
        write_escaped(value, self.out);
        self.out.push(b'"');
    }

    fn peer(&mut self, name: &'static str, value: Option<&Text>) {
        self.text(name, value.map(Text::shown));
    }

    fn shown(&mut self, name: &'static str, value: SocketAddr) {
        self.name(name);
        write_infallibly(self.out, format_args!("\"{value}\""));
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        write_infallibly(self.out, format_args!("{value}"));
    }

    fn milliseconds(&mut self, name: &'static str, value: Option<Duration>) {
        let Some(value) = value else { return };
        self.name(name);
        let micros = value.as_micros();
        write_infallibly(self.out, format_args!("{}.{:03}", micros / 1000, micros % 1000));
    }
}

/// Escapes by RFC 8259 §7. Every control character is escaped, those above U+007F too: a log is read on terminals.
fn write_escaped(text: &str, out: &mut Vec<u8>) {
    for char in text.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{2028}' | '\u{2029}' => write_infallibly(out, format_args!("\\u{:04x}", char as u32)),
            char if char.is_control() => write_infallibly(out, format_args!("\\u{:04x}", char as u32)),
            char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends a moment as RFC 3339 in UTC with milliseconds: `2026-02-28T23:59:59.000Z`.
pub fn write_time(time: SystemTime, out: &mut Vec<u8>) {
    let milliseconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos().div_ceil(1_000_000)).map_or(i64::MIN, |n| -n),
    };
    let (days, rest) = (milliseconds.div_euclid(DAY_MILLISECONDS), milliseconds.rem_euclid(DAY_MILLISECONDS));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    write_infallibly(
        out,
        format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000),
    );
}

const DAY_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

/// The Gregorian year, month and day of a day counted from 1970-01-01.
///
/// Counts in years that begin on 1 March, so that the leap day is the last of its year: then months have the lengths
/// 31 30 31 30 31 31 30 31 30 31 31 28/29, of which the first five, 153 days, repeat.
fn civil(days: i64) -> (i64, i64, i64) {
    const FOUR_CENTURIES: i64 = 146_097;
    const FROM_YEAR_ZERO: i64 = 719_468;
    let days = days + FROM_YEAR_ZERO;
    let (cycle, day) = (days.div_euclid(FOUR_CENTURIES), days.rem_euclid(FOUR_CENTURIES));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

fn write_infallibly(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
}
