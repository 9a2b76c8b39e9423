//! Any bytes as what a client sends on one connection: heads, framing and bodies in turn.

use filmgate::http::body::{BodyError, Reader};
use filmgate::http::framing::{self, FramingError};
use filmgate::http::head::{HeadError, RequestHead, Scan};

/// A request as it was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) target: Vec<u8>,
    pub(crate) host: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After a complete request.
    Clean,
    /// In the middle of a head.
    InHead,
    /// In the middle of a body.
    InBody,
    /// By a refusal.
    Head(HeadError),
    /// By a refusal.
    Framing(FramingError),
    /// By a refusal.
    Body(BodyError),
}

pub(crate) fn run(data: &[u8]) {
    let at_once = read(data, &mut || data.len().max(1));
    let mut steps = super::Steps::of(data);
    assert_eq!(at_once, read(data, &mut || steps.next()), "a connection depends on how its bytes arrive");
    let (requests, _) = at_once;
    let payload: usize = requests.iter().map(|request| request.payload.len()).sum();
    assert!(payload <= data.len());
}

/// Serves the connection: the complete requests, and how it ended.
pub(crate) fn read(stream: &[u8], step: &mut dyn FnMut() -> usize) -> (Vec<Request>, End) {
    let mut connection = Connection { stream, arrived: 0, at: 0, requests: Vec::new() };
    let mut head = RequestHead::default();
    loop {
        if let Err(end) = connection.next(&mut head, step) {
            return (connection.requests, end);
        }
    }
}

struct Connection<'a> {
    stream: &'a [u8],
    arrived: usize,
    at: usize,
    requests: Vec<Request>,
}

impl Connection<'_> {
    fn next(&mut self, head: &mut RequestHead, step: &mut dyn FnMut() -> usize) -> Result<(), End> {
        let mut scan = Scan::default();
        let end = loop {
            if let Some(end) = scan.feed(&self.stream[self.at..self.arrived]).map_err(End::Head)? {
                break self.at + end;
            }
            if self.arrived == self.stream.len() {
                return Err(if self.at == self.arrived { End::Clean } else { End::InHead });
            }
            self.arrived = (self.arrived + step()).min(self.stream.len());
        };
        let block = &self.stream[self.at..end];
        self.at = end;
        head.parse_into(block).map_err(End::Head)?;
        let host = framing::authority(head, block).map_err(End::Framing)?.to_vec();
        let mut reader = Reader::from(framing::request(head, block).map_err(End::Framing)?);
        let target = framing::origin_target(head, block).to_vec();
        let mut payload = Vec::new();
        while !reader.finished() {
            let input = &self.stream[self.at..self.arrived];
            let piece = reader.advance(input).map_err(End::Body)?;
            assert!(piece.consumed > 0 || input.is_empty(), "no progress");
            payload.extend_from_slice(&input[piece.data]);
            self.at += piece.consumed;
            if self.at < self.arrived || reader.finished() {
                continue;
            }
            if self.arrived == self.stream.len() {
                assert_eq!(reader.at_end_of_stream(), Err(BodyError::CutShort));
                return Err(End::InBody);
            }
            self.arrived = (self.arrived + step()).min(self.stream.len());
        }
        self.requests.push(Request { target, host, payload });
        Ok(())
    }
}
