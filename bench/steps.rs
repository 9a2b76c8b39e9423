//! Steps of the line that more than one bench takes.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use filmgate::access::{AccessRecord, RequestId, Said};
use filmgate::http::body::{Chunked, Reader};
use filmgate::http::framing;
use filmgate::http::head::{RequestHead, ResponseHead};
use filmgate::s3::target::Target;

use crate::samples::{HOST, request_head, response_head};

/// The length of the movie that the sample of a response announces.
pub(crate) const MOVIE_BYTES: usize = 142_606_336;

/// `body_bytes` of payload in chunks of `chunk_bytes`, the last chunk included.
pub(crate) fn chunked_body(body_bytes: usize, chunk_bytes: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..body_bytes / chunk_bytes {
        wire.extend_from_slice(format!("{chunk_bytes:x}\r\n").as_bytes());
        wire.resize(wire.len() + chunk_bytes, b'x');
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// Validates a whole chunked body and returns the bytes of its payload.
pub(crate) fn skim(wire: &[u8]) -> usize {
    let skim = Reader::Chunked(Chunked::new()).skim(wire).unwrap();
    assert!(skim.done);
    skim.payload
}

/// An access record as the line fills it in, and its line of JSON.
pub(crate) struct Record {
    request: Vec<u8>,
    response: Vec<u8>,
    head: RequestHead,
    answer: ResponseHead,
    client: SocketAddr,
    upstream: SocketAddr,
    memory: String,
    out: Vec<u8>,
}

impl Record {
    pub(crate) fn new() -> Self {
        let (request, response) = (request_head(), response_head(MOVIE_BYTES));
        Self {
            head: RequestHead::parse(&request).unwrap(),
            answer: ResponseHead::parse(&response).unwrap(),
            request,
            response,
            client: "192.0.2.7:50123".parse().unwrap(),
            upstream: "52.218.1.2:443".parse().unwrap(),
            memory: String::new(),
            out: Vec::with_capacity(64 * 1024),
        }
    }

    /// Makes the record of an exchange that began at `wall` and returns the bytes of its line.
    pub(crate) fn write(&mut self, wall: SystemTime) -> usize {
        let (request, response) = (&self.request[..], &self.response[..]);
        let target = Target::parse(framing::origin_target(&self.head, request));
        let mut record = AccessRecord::reusing(std::mem::take(&mut self.memory), wall, self.client);
        record.id = Some(RequestId { prefix: 0x18a2_5f3c_9d01_0000, number: 4711 });
        record.tls = Some("1.3");
        record.say(Said::Host, HOST);
        record.say(Said::Method, self.head.method(request));
        record.operation = Some("GetObject");
        record.say_decoded(Said::Key, black_box(target.escaped_key()));
        for (what, name) in [(Said::Range, "range"), (Said::UserAgent, "user-agent")] {
            record.say(what, self.head.fields.get(request, name).unwrap());
        }
        record.say(Said::Bucket, "mystudio-media-00");
        record.upstream = Some(self.upstream);
        record.upstream_reused = true;
        record.status = Some(self.answer.status);
        for (what, name) in [(Said::S3RequestId, "x-amz-request-id"), (Said::S3Id2, "x-amz-id-2")] {
            record.say(what, self.answer.fields.get(response, name).unwrap());
        }
        record.bytes_out = MOVIE_BYTES as u64;
        record.ttfb = Some(Duration::from_micros(12_345));
        record.total = Duration::from_micros(2_345_678);
        record.upstream_time = Some(Duration::from_micros(2_345_000));
        self.out.clear();
        record.write_json(&mut self.out);
        self.memory = record.into_memory();
        self.out.len()
    }
}
