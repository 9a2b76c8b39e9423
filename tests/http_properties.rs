//! What must hold for any bytes whatever, and for messages that are nearly right.

#[allow(dead_code)]
#[path = "fuzz/bodies/mod.rs"]
mod bodies;

use filmgate::buffer::Buffer;
use filmgate::http::body::Reader;
use filmgate::http::encode::HeadWriter;
use filmgate::http::framing::RequestBody;
use filmgate::http::head::{RequestHead, ResponseHead};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces of messages; strung together they make many that are nearly right.
const WORDS: &[&[u8]] = &[
    b"GET ",
    b"PUT ",
    b"OPTIONS ",
    b"/",
    b"*",
    b"http://h",
    b"/a?b ",
    b" ",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.1 200 OK",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"Host: h\r\n",
    b"Host: ",
    b"Content-Length: 5\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: ",
    b"chunked",
    b"gzip",
    b"Connection: close\r\n",
    b"Connection: ",
    b"Expect: 100-continue\r\n",
    b"x",
    b"X: y\r\n",
    b"_",
    b"0",
    b"5",
    b"a",
    b"+",
    b"hello",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"\xff",
    b"\xc3\xa9",
];

/// A good request, so that what follows is reached.
const OPENINGS: &[&[u8]] = &[
    b"",
    b"GET / HTTP/1.1\r\nHost: h\r\n",
    b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n",
];

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}"
}

fn value() -> impl Strategy<Value = String> {
    "([!-~\u{a1}-\u{ff}]([ \t!-~\u{a1}-\u{ff}]{0,40}[!-~\u{a1}-\u{ff}])?)?"
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn any_bytes_are_read_without_harm(data in vec(any::<u8>(), 0..300)) {
        bodies::run_all(&data);
    }

    #[test]
    fn nearly_right_messages_are_read_without_harm(
        opening in select(OPENINGS),
        words in vec(select(WORDS), 0..24),
    ) {
        bodies::run_all(&[opening, &words.concat()].concat());
    }

    #[test]
    fn a_payload_survives_the_chunked_coding_however_it_arrives(payload in vec(any::<u8>(), 0..3000), step in 1_usize..200) {
        let wire = bodies::chunked::encode(&payload, &mut bodies::Steps::of(&payload));
        bodies::chunked::run(&wire);
        let mut reader = Reader::from(RequestBody::Chunked);
        let mut read = Vec::new();
        for part in wire.chunks(step) {
            let mut at = 0;
            while at < part.len() {
                let piece = reader.advance(&part[at..]).unwrap();
                read.extend_from_slice(&part[at..][piece.data]);
                at += piece.consumed;
            }
        }
        prop_assert!(reader.finished());
        prop_assert_eq!(read, payload);
    }

    #[test]
    fn a_chunked_body_with_one_byte_changed_never_reads_as_another_way_of_framing(
        payload in vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut wire = bodies::chunked::encode(&payload, &mut bodies::Steps::of(&payload));
        let at = at.index(wire.len());
        wire[at] = byte;
        bodies::chunked::run(&wire);
    }

    #[test]
    fn a_request_head_that_is_written_reads_the_same(
        method in "[A-Z]{1,20}".prop_filter("no tunnels", |method| method != "CONNECT"),
        target in "/[!-\"$-~\u{a1}-\u{ff}]{0,80}",
        fields in vec((token(), value()), 0..20),
    ) {
        let mut out = Buffer::detached(16 * 1024);
        let mut head = HeadWriter::new(&mut out);
        head.request_line(method.as_bytes(), target.as_bytes());
        for (name, value) in &fields {
            head.field(name.as_bytes(), value.as_bytes());
        }
        prop_assert_eq!(head.finish(), Ok(()));
        let block = out.filled();
        bodies::request_head::run(block);
        let head = RequestHead::parse(block).unwrap();
        prop_assert_eq!(head.method(block), method.as_bytes());
        prop_assert_eq!(head.target(block), target.as_bytes());
        let written = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        prop_assert!(head.fields.iter(block).eq(written));
    }

    #[test]
    fn whatever_is_written_is_either_refused_or_one_field(name in vec(any::<u8>(), 0..12), value in vec(any::<u8>(), 0..24)) {
        let mut out = Buffer::detached(200);
        let mut head = HeadWriter::new(&mut out);
        head.status_line(200, b"OK").field(&name, &value);
        if head.finish().is_ok() {
            let block = out.filled();
            let head = ResponseHead::parse(block).unwrap();
            prop_assert_eq!(head.fields.len(), 1);
            prop_assert_eq!(head.fields.iter(block).next(), Some((&name[..], value.trim_ascii())));
        } else {
            prop_assert!(out.is_empty());
        }
    }
}
