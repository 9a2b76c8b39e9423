//! HTTP/1.1 as the scripts speak it: a parser of its own, so that it does not share the gate's mistakes.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use filmgate::buffer::Buffer;
use filmgate::clock::Deadline;
use filmgate::link::Link;
use filmgate::proxy::secure::Wire;

use crate::link::SimLink;
use crate::rng::Rng;

/// Field lines as they came, without the separators.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What the scripts hold: the far end of a link, with TLS or without.
pub type Stream = Wire<SimLink>;

/// Why a message did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The stream ended between messages.
    End,
    /// The stream ended inside one.
    Truncated,
    /// RST, a deadline, or a failed write.
    Failed(io::ErrorKind),
    /// Bytes that are no HTTP/1.1.
    Malformed(&'static str),
}

/// A message head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The first line cut at its first two spaces.
    pub first: [Vec<u8>; 3],
    pub fields: Fields,
}

impl Head {
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v.as_slice())
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v.as_slice())
    }

    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let token = token.as_bytes();
        self.all(name).any(|v| v.split(|&b| b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token)))
    }

    pub fn status(&self) -> u16 {
        std::str::from_utf8(&self.first[1]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// `Content-Length`, `None` without one.
    pub fn length(&self) -> Result<Option<usize>, Broken> {
        let mut values = self.all("content-length");
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(Broken::Malformed("two lengths")),
            (Some(value), None) => {
                let text = std::str::from_utf8(value).map_err(|_| Broken::Malformed("length"))?;
                text.parse().map(Some).map_err(|_| Broken::Malformed("length"))
            }
        }
    }
}

/// Bytes of one stream, buffered.
pub struct Reader {
    link: Rc<Stream>,
    bytes: Vec<u8>,
    at: usize,
    spare: Option<Buffer>,
    /// How long one read may wait, whatever the deadline of the message.
    patience: Option<Duration>,
}

impl Reader {
    pub fn new(link: Rc<Stream>, patience: Option<Duration>) -> Self {
        Self { link, bytes: Vec::new(), at: 0, spare: Some(Buffer::detached(16 * 1024)), patience }
    }

    /// Bytes that arrived and were not used.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Waits for more; false at the end of the stream.
    pub async fn fill(&mut self, until: Deadline) -> Result<bool, Broken> {
        let buffer = self.spare.take().expect("one read at a time");
        let until = until.min(self.patience.map_or(Deadline::NEVER, Deadline::after));
        let (result, mut buffer) = self.link.read(buffer, until).await;
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(buffer.filled());
        buffer.clear();
        self.spare = Some(buffer);
        let n = result.map_err(|error| Broken::Failed(error.kind()))?;
        Ok(n > 0)
    }

    pub async fn head(&mut self, until: Deadline) -> Result<Head, Broken> {
        let mut searched = 0;
        loop {
            let bytes = &self.bytes[self.at..];
            if let Some(n) = bytes[searched..].windows(4).position(|w| w == b"\r\n\r\n").map(|n| searched + n) {
                let head = parse_head(&bytes[..n + 2]);
                self.at += n + 4;
                return head;
            }
            searched = bytes.len().saturating_sub(3);
            if !self.fill(until).await? {
                return Err(if self.left() == 0 { Broken::End } else { Broken::Truncated });
            }
        }
    }

    async fn line(&mut self, until: Deadline) -> Result<Vec<u8>, Broken> {
        loop {
            let bytes = &self.bytes[self.at..];
            if let Some(n) = bytes.windows(2).position(|w| w == b"\r\n") {
                let line = bytes[..n].to_vec();
                self.at += n + 2;
                return Ok(line);
            }
            if !self.fill(until).await? {
                return Err(Broken::Truncated);
            }
        }
    }

    /// Appends exactly `n` bytes to `into`, which keeps what came before a break.
    pub async fn exactly(&mut self, mut n: usize, into: &mut Vec<u8>, until: Deadline) -> Result<(), Broken> {
        loop {
            let part = n.min(self.left());
            into.extend_from_slice(&self.bytes[self.at..self.at + part]);
            self.at += part;
            n -= part;
            if n == 0 {
                return Ok(());
            }
            if !self.fill(until).await? {
                return Err(Broken::Truncated);
            }
        }
    }

    pub async fn chunked(&mut self, into: &mut Vec<u8>, until: Deadline) -> Result<(), Broken> {
        loop {
            let line = self.line(until).await?;
            let digits = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
            let text = std::str::from_utf8(digits).map_err(|_| Broken::Malformed("chunk size"))?;
            let n = usize::from_str_radix(text, 16).map_err(|_| Broken::Malformed("chunk size"))?;
            if n == 0 {
                while !self.line(until).await?.is_empty() {}
                return Ok(());
            }
            self.exactly(n, into, until).await?;
            if !self.line(until).await?.is_empty() {
                return Err(Broken::Malformed("chunk end"));
            }
        }
    }

    pub async fn read_to_end(&mut self, into: &mut Vec<u8>, until: Deadline) -> Result<(), Broken> {
        loop {
            let left = self.left();
            self.exactly(left, into, until).await?;
            if !self.fill(until).await? {
                return Ok(());
            }
        }
    }
}

fn parse_head(block: &[u8]) -> Result<Head, Broken> {
    let text = block.strip_suffix(b"\r\n").unwrap_or(block);
    let mut lines = split_lines(text).into_iter();
    let first = lines.next().unwrap_or_default();
    let mut parts = first.splitn(3, |&b| b == b' ').map(<[u8]>::to_vec);
    let mut part = || parts.next().ok_or(Broken::Malformed("first line"));
    let first = [part()?, part()?, part()?];
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|&b| b == b':').ok_or(Broken::Malformed("field line"))?;
        if colon == 0 || line[..colon].iter().any(u8::is_ascii_whitespace) || line.contains(&b'\n') {
            return Err(Broken::Malformed("field name"));
        }
        fields.push((line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec()));
    }
    Ok(Head { first, fields })
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(n) = rest.windows(2).position(|w| w == b"\r\n") {
        lines.push(&rest[..n]);
        rest = &rest[n + 2..];
    }
    lines.push(rest);
    lines
}

/// Sends `bytes` in pieces of random sizes.
pub async fn send(link: &Stream, rng: &Rng, mut bytes: &[u8], until: Deadline) -> Result<(), Broken> {
    let mut buffer = Buffer::detached(bytes.len().clamp(1, 64 * 1024));
    while !bytes.is_empty() {
        let whole = buffer.room().min(bytes.len());
        let n = if rng.chance(800) { whole } else { rng.between(1, whole) };
        buffer.append(&bytes[..n]);
        bytes = &bytes[n..];
        let (result, empty) = link.write_all(buffer, until).await;
        result.map_err(|error| Broken::Failed(error.kind()))?;
        buffer = empty;
    }
    Ok(())
}

/// Sends `bytes` in one piece.
pub async fn send_whole(link: &Stream, bytes: &[u8]) -> Result<(), Broken> {
    let mut buffer = Buffer::detached(bytes.len());
    buffer.append(bytes);
    link.write_all(buffer, Deadline::NEVER).await.0.map_err(|error| Broken::Failed(error.kind()))
}

/// `body` in the chunked coding, in chunks of random sizes.
pub fn in_chunks(body: &[u8], rng: &Rng) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut rest = body;
    while !rest.is_empty() {
        let n = if rng.chance(500) { rest.len() } else { rng.between(1, rest.len()) };
        let (chunk, after) = rest.split_at(n);
        let extension = if rng.chance(100) { ";a=b" } else { "" };
        let size = if rng.chance(500) { format!("{n:x}") } else { format!("0{n:X}") };
        out.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
