//! The access record: what is said about one exchange, once, as one line of JSON.
//!
//! Nothing that grants access is ever in it. A record has no place for a query, a cookie, an `Authorization` or a
//! `Referer`; and [`AccessRecord::say`], the only way for a peer's bytes to get in, turns them into `[redacted]` when
//! somebody put a signed link where it does not belong.

mod line;
mod text;

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

pub use line::write_time;
pub use text::Said;

use line::{Line, name};
use text::Texts;

/// One exchange, or one connection that ended before it had one.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// The gate's own id of the exchange, as in `x-filmgate-request-id`.
    pub id: Option<RequestId>,
    /// When the first byte of the request came.
    pub time: SystemTime,
    /// The client's address.
    pub client: SocketAddr,
    /// Version of the client's TLS (`"1.3"`), `None` on a plain listener.
    pub tls: Option<&'static str>,
    /// S3's name for the request, from [`crate::s3::operation`].
    pub operation: Option<&'static str>,
    /// The status the client was sent; `None` when it was sent none.
    pub status: Option<u16>,
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
    /// Who ended the exchange, and where it then stood.
    pub ended: Ended,
    /// The gate's own name for what went wrong.
    pub failure: Option<&'static str>,
    texts: Texts,
}

impl AccessRecord {
    /// A record with nothing in it yet; the exchange counts as ended by the gate in its idle phase until told better.
    #[must_use]
    pub fn new(time: SystemTime, client: SocketAddr) -> Self {
        Self::reusing(String::new(), time, client)
    }

    /// A [`new`](Self::new) record that keeps its texts in the memory of an earlier one.
    #[must_use]
    pub fn reusing(memory: String, time: SystemTime, client: SocketAddr) -> Self {
        Self {
            id: None,
            time,
            client,
            tls: None,
            operation: None,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            ttfb: None,
            total: Duration::ZERO,
            upstream_time: None,
            upstream: None,
            upstream_reused: false,
            retries: 0,
            ended: Ended { by: Party::Gate, at: Phase::Idle },
            failure: None,
            texts: Texts::reusing(memory),
        }
    }

    /// The memory of the texts, for [`reusing`](Self::reusing).
    #[must_use]
    pub fn into_memory(self) -> String {
        self.texts.into_memory()
    }

    /// Takes over the beginning of what a peer said, in place of what it said before.
    ///
    /// What is kept is UTF-8 (what is not becomes U+FFFD), at most [`LOGGED_STRING_BYTES_MAX`](crate::limits::LOGGED_STRING_BYTES_MAX)
    /// bytes, ends in
    /// `…` when it was longer, and is `[redacted]` when it looks like part of a signed link or of an `Authorization`
    /// field.
    pub fn say(&mut self, what: Said, text: impl AsRef<[u8]>) {
        self.texts.say(what, text.as_ref());
    }

    /// [`say`](Self::say) of what `escaped` stands for when its percent escapes are undone.
    pub fn say_decoded(&mut self, what: Said, escaped: &[u8]) {
        self.texts.say_decoded(what, escaped);
    }

    /// What was said, as it may be shown.
    #[must_use]
    pub fn said(&self, what: Said) -> Option<&str> {
        self.texts.said(what).map(|(text, _)| text)
    }

    /// Appends the record as one line of JSON, line feed included. What is absent is left out of the object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(self.time, out);
        out.push(b'"');
        if let Some(id) = self.id {
            out.extend_from_slice(name!("id"));
            out.push(b'"');
            id.write(out);
            out.push(b'"');
        }
        let mut line = Line { out };
        line.address(name!("client"), self.client);
        if let Some(tls) = self.tls {
            line.plain(name!("tls"), tls);
        }
        self.write_said(&mut line, name!("host"), Said::Host);
        self.write_said(&mut line, name!("bucket"), Said::Bucket);
        self.write_said(&mut line, name!("method"), Said::Method);
        if let Some(operation) = self.operation {
            line.plain(name!("operation"), operation);
        }
        self.write_said(&mut line, name!("key"), Said::Key);
        self.write_said(&mut line, name!("range"), Said::Range);
        if let Some(status) = self.status {
            line.number(name!("status"), u64::from(status));
        }
        self.write_said(&mut line, name!("s3_code"), Said::S3Code);
        line.number(name!("bytes_in"), self.bytes_in);
        line.number(name!("bytes_out"), self.bytes_out);
        if let Some(ttfb) = self.ttfb {
            line.milliseconds(name!("ttfb_ms"), ttfb);
        }
        line.milliseconds(name!("total_ms"), self.total);
        if let Some(time) = self.upstream_time {
            line.milliseconds(name!("upstream_ms"), time);
        }
        if let Some(upstream) = self.upstream {
            line.address(name!("upstream"), upstream);
            line.raw(name!("upstream_reused"), if self.upstream_reused { b"true" } else { b"false" });
        }
        line.number(name!("retries"), u64::from(self.retries));
        self.write_said(&mut line, name!("s3_request_id"), Said::S3RequestId);
        self.write_said(&mut line, name!("s3_id2"), Said::S3Id2);
        self.write_said(&mut line, name!("user_id"), Said::UserId);
        self.write_said(&mut line, name!("user_type"), Said::UserType);
        self.write_said(&mut line, name!("user_agent"), Said::UserAgent);
        self.write_said(&mut line, name!("identity"), Said::Identity);
        line.plain(b",\"ended\":{\"by\":", self.ended.by.name());
        line.plain(name!("at"), self.ended.at.name());
        line.out.push(b'}');
        if let Some(failure) = self.failure {
            line.plain(name!("failure"), failure);
        }
        line.out.extend_from_slice(b"}\n");
    }

    #[inline]
    fn write_said(&self, line: &mut Line<'_>, name: &[u8], what: Said) {
        match self.texts.said(what) {
            Some((text, true)) => line.plain(name, text),
            Some((text, false)) => line.text(name, text),
            None => {}
        }
    }
}

/// Names one exchange in logs and in the gate's own answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// Differs between shards and from start to start.
    pub prefix: u64,
    /// Counts the exchanges of the shard.
    pub number: u64,
}

impl RequestId {
    /// Appends the id as it is displayed.
    fn write(self, out: &mut Vec<u8>) {
        let digits = if self.number >> 32 == 0 { 8 } else { 16 - self.number.leading_zeros() as usize / 4 };
        for (number, digits) in [(self.prefix, 16), (self.number, digits)] {
            let hexadecimal = |place: usize| b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
            out.extend((0..digits).rev().map(hexadecimal));
        }
    }
}

impl fmt::Display for RequestId {
    /// 16 hexadecimal digits of shard and start, 8 or more of the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:08x}", self.prefix, self.number)
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
    /// Finding out who asks, and whether they may.
    Authorize,
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
            Self::Authorize => "authorize",
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
    fn record(&self, record: &AccessRecord);

    /// Whether anybody wants records; where not, none needs to be filled in.
    fn wants_records(&self) -> bool {
        true
    }
}

impl AccessSink for RefCell<Vec<AccessRecord>> {
    fn record(&self, record: &AccessRecord) {
        self.borrow_mut().push(record.clone());
    }
}

impl<S: AccessSink + ?Sized> AccessSink for &S {
    fn record(&self, record: &AccessRecord) {
        (**self).record(record);
    }

    fn wants_records(&self) -> bool {
        (**self).wants_records()
    }
}

impl<S: AccessSink + ?Sized> AccessSink for std::rc::Rc<S> {
    fn record(&self, record: &AccessRecord) {
        (**self).record(record);
    }

    fn wants_records(&self) -> bool {
        (**self).wants_records()
    }
}
