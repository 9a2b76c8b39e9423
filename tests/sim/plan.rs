//! What clients are going to ask for: known targets, known fields, known bodies.

use std::rc::Rc;

use crate::faults::Table;
use crate::rng::Rng;
use crate::wire::{Fields, in_chunks};

/// What a request is and what may become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes to S3.
    Media,
    /// Answered by the gate itself.
    Ping,
    /// For a host name the gate does not serve: 421.
    Stranger,
    /// No HTTP/1.1 that anyone may pass on: 400 and the end of the connection.
    Malformed,
}

/// How the body of a request is told from what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length,
    Chunked,
}

/// One request.
#[derive(Debug)]
pub struct Planned {
    pub id: u64,
    pub kind: Kind,
    pub method: &'static str,
    pub target: Vec<u8>,
    pub fields: Fields,
    pub body: Rc<Vec<u8>>,
    pub framing: Framing,
    pub expect: bool,
    /// Announces that it is the last one.
    pub close: bool,
    /// Speaks HTTP/1.0: no interim responses, no chunked coding, one request a connection.
    pub old: bool,
    /// A head that is sent instead of one made from the above.
    pub raw: Option<Vec<u8>>,
}

/// The requests of one client connection and how it behaves.
#[derive(Debug)]
pub struct Session {
    pub requests: Vec<Rc<Planned>>,
    /// Sends everything at once and reads afterwards.
    pub pipelined: bool,
    /// Reads no answer before its request is sent completely, as urllib does.
    pub stubborn: bool,
    /// Sends FIN after the last request and goes on reading.
    pub half_close: bool,
}

/// What the code under test is expected to understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skill {
    /// A relay of bytes: media requests only.
    Bytes,
    /// The gate.
    Http,
}

/// The host name of the only route.
pub const HOST: &str = "media.sim.test";

/// What S3 must be asked for.
pub const UPSTREAM_HOST: &str = "bucket.s3.eu-north-1.amazonaws.com";

impl Session {
    pub fn draw(rng: &Rng, table: &Table, skill: Skill, next_id: &mut u64) -> Self {
        let pipelined = rng.chance(200);
        let count = rng.between(1, 6);
        let mut requests = Vec::with_capacity(count);
        for n in 0..count {
            *next_id += 1;
            let last = n + 1 == count;
            let request = Planned::draw(rng, table, skill, *next_id, last, pipelined);
            let ends = request.close || request.kind == Kind::Malformed;
            requests.push(Rc::new(request));
            if ends {
                break;
            }
        }
        Self { requests, pipelined, stubborn: rng.chance(200), half_close: rng.chance(150) }
    }
}

impl Planned {
    fn draw(rng: &Rng, table: &Table, skill: Skill, id: u64, last: bool, pipelined: bool) -> Self {
        if skill == Skill::Http && rng.chance(80) {
            return Self::aside(rng, id, last);
        }
        let upload = rng.chance(400);
        let method = if upload { "PUT" } else { rng.pick(&["GET", "GET", "GET", "HEAD", "OPTIONS"]) };
        let signed = rng.chance(900);
        let target = draw_target(rng, id, signed);
        let mut fields: Fields = vec![field("Host", HOST)];
        draw_fields(rng, skill, &mut fields);
        let mut request = Self {
            id,
            kind: Kind::Media,
            method,
            target,
            fields,
            body: Rc::default(),
            framing: Framing::None,
            expect: false,
            close: last && rng.chance(300),
            old: last && skill == Skill::Http && rng.chance(200),
            raw: None,
        };
        match method {
            "PUT" => request.draw_body(rng, table, pipelined),
            "GET" if rng.chance(300) => {
                let from = rng.below(3000);
                let range = match rng.below(3) {
                    0 => format!("bytes={from}-"),
                    1 => format!("bytes={from}-{}", from + rng.below(3000)),
                    _ => "bytes=0-1".to_owned(),
                };
                request.fields.push(field("Range", &range));
            }
            "GET" | "HEAD" if rng.chance(150) => request.fields.push(field("If-None-Match", "\"same\"")),
            "OPTIONS" => {
                request.fields.push(field("Origin", "https://studio.sim.test"));
                request.fields.push(field("Access-Control-Request-Method", "PUT"));
            }
            _ => {}
        }
        if request.close && !request.old {
            request.fields.push(field("Connection", "close"));
        }
        request
    }

    fn draw_body(&mut self, rng: &Rng, table: &Table, pipelined: bool) {
        let most = match rng.below(20) {
            0..3 => table.body_bytes_max(),
            3..10 => 3_000,
            10 => 0,
            _ => 100,
        };
        let n = rng.between(0, most);
        self.body = Rc::new(rng.bytes(n));
        self.fields.push(field("Content-Type", "video/quicktime"));
        self.framing = if !self.old && rng.chance(200) { Framing::Chunked } else { Framing::Length };
        match self.framing {
            Framing::Chunked => self.fields.push(field("Transfer-Encoding", "chunked")),
            _ => self.fields.push(field("Content-Length", &n.to_string())),
        }
        if !pipelined && !self.old && n > 0 && rng.chance(250) {
            self.expect = true;
            self.fields.push(field("Expect", "100-continue"));
        }
    }

    /// A request that the gate answers itself.
    fn aside(rng: &Rng, id: u64, last: bool) -> Self {
        let kind = match rng.below(3) {
            0 if last => Kind::Malformed,
            1 => Kind::Stranger,
            _ => Kind::Ping,
        };
        let host = if kind == Kind::Ping { rng.pick(&[HOST, "10.0.0.1"]) } else { "stranger.sim.test" };
        let target = if kind == Kind::Ping { b"/ping".to_vec() } else { draw_target(rng, id, true) };
        let raw = (kind == Kind::Malformed).then(|| MALFORMED[rng.below(MALFORMED.len() as u64) as usize].to_vec());
        Self {
            id,
            kind,
            method: if kind == Kind::Malformed { "GET" } else { rng.pick(&["GET", "HEAD"]) },
            target,
            fields: vec![field("Host", host)],
            body: Rc::default(),
            framing: Framing::None,
            expect: false,
            close: false,
            old: false,
            raw,
        }
    }

    /// The head as it goes over the wire.
    pub fn head(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut head = self.method.as_bytes().to_vec();
        head.push(b' ');
        head.extend_from_slice(&self.target);
        head.extend_from_slice(if self.old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        for (name, value) in &self.fields {
            head.extend_from_slice(name);
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The body as it goes over the wire.
    pub fn framed_body(&self, rng: &Rng) -> Vec<u8> {
        match self.framing {
            Framing::Chunked => in_chunks(&self.body, rng),
            _ => self.body.to_vec(),
        }
    }

    /// Whether S3 may be asked with `name`: everything of the client's that concerns S3 and not the connection.
    pub fn keeps(&self, name: &[u8]) -> bool {
        let dropped = ["host", "connection", "keep-alive", "x-hop", "cookie", "transfer-encoding", "content-length"];
        let dropped = dropped.iter().any(|d| name.eq_ignore_ascii_case(d.as_bytes()));
        // The Host is replaced, so a header signature cannot be valid, whatever the query says.
        !dropped && !name.eq_ignore_ascii_case(b"authorization") && !name.eq_ignore_ascii_case(b"expect")
    }
}

pub fn field(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// The id that a target carries.
pub fn id_of(target: &[u8]) -> Option<u64> {
    let at = target.windows(ID.len()).position(|w| w == ID.as_bytes())?;
    let digits: Vec<u8> = target[at + ID.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

fn draw_target(rng: &Rng, id: u64, signed: bool) -> Vec<u8> {
    let mut target = b"/".to_vec();
    if rng.chance(950) {
        for _ in 0..rng.between(1, 3) {
            target.extend_from_slice(rng.pick(SEGMENTS).as_bytes());
        }
    }
    if rng.chance(20) {
        target.extend_from_slice("k".repeat(1000).as_bytes());
    }
    if target == b"/ping" && !signed {
        // Without a signature that is the health check.
        target.push(b'x');
    }
    target.push(b'?');
    if signed {
        let parameters =
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Feu-north-1%2Fs3%2Faws4_request";
        target.extend_from_slice(parameters.as_bytes());
        target.extend_from_slice(b"&X-Amz-SignedHeaders=host&X-Amz-Signature=00ff&");
    }
    if rng.chance(30) {
        let padding = "p".repeat(rng.between(1, 16_000));
        target.extend_from_slice(format!("X-Amz-Security-Token={padding}&").as_bytes());
    }
    target.extend_from_slice(format!("{ID}{id}").as_bytes());
    if rng.chance(200) {
        target.extend_from_slice(
            rng.pick(&["&", "&&", "&a", "&a=%2f%2F", "&=", "?x", "&response-content-type=a/b"]).as_bytes(),
        );
    }
    target
}

fn draw_fields(rng: &Rng, skill: Skill, fields: &mut Fields) {
    for (name, value) in FIELDS {
        if rng.chance(250) {
            fields.push(field(name, value));
        }
    }
    if skill == Skill::Http {
        for (name, value) in DROPPED_FIELDS {
            if rng.chance(150) {
                fields.push(field(name, value));
            }
        }
        if rng.chance(100) {
            fields.push(field("Connection", "x-hop, keep-alive"));
            fields.push(field("X-Hop", "1"));
        }
    }
}

const ID: &str = "sim-id=";

const SEGMENTS: &[&str] = &[
    "plain.mov",
    "my%20file.mov",
    "a+b",
    "a%2Bb",
    "100%25",
    "%C3%A9",
    "é",
    "/",
    "//",
    "..",
    "../up",
    "./x",
    "a%3Fb",
    "a%23b",
    "%2e%2E/",
    "%2F",
    "a;b=c",
    "a,b",
    "(x)",
    "'q'",
    "*",
    "~",
    "!$&",
    "@:",
    "[0]",
    "{1}",
    "|",
    "^",
    "\"",
    "<>",
    "\\",
    "%00",
    "=",
    "ping",
    "ping/",
];

const FIELDS: &[(&str, &str)] = &[
    ("User-Agent", "Python-urllib/3.11"),
    ("Accept", "*/*"),
    ("accept-encoding", "identity"),
    ("X-Custom", ""),
    ("X-CUSTOM", "twice, and with\ttab"),
    ("Referer", "https://studio.sim.test/page?x=1"),
    ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
    ("x-amz-meta-note", "caf\u{e9}"),
];

const DROPPED_FIELDS: &[(&str, &str)] = &[("Cookie", "session=secret"), ("Authorization", "Bearer secret")];

/// Heads that have more than one reading, or none.
const MALFORMED: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: media.sim.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"PUT / HTTP/1.1\r\nHost: media.sim.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : media.sim.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: media.sim.test\r\n folded: x\r\n\r\n",
    b"GET / HTTP/1.1\nHost: media.sim.test\n\n\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: media.sim.test\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: media.sim.test\r\nX: a\0b\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: media.sim.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
];
