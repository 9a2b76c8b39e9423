//! Any bytes as the head of a request.

use filmgate::buffer::Buffer;
use filmgate::http::encode::HeadWriter;
use filmgate::http::fields::named_by_connection;
use filmgate::http::framing::{self, RequestBody};
use filmgate::http::head::RequestHead;
use filmgate::limits;

pub(crate) fn run(data: &[u8]) {
    // Bytes that are not a head must be refused without harm, too.
    let unscanned = RequestHead::parse(data).map(drop);
    let Ok(Some(end)) = super::scan(data) else {
        assert!(unscanned.is_err(), "a head is accepted that no scan would find");
        return;
    };
    let block = &data[..end];
    assert_eq!(unscanned.is_ok(), end == data.len() && RequestHead::parse(block).is_ok());
    let Ok(head) = RequestHead::parse(block) else { return };

    let fields: Vec<_> = head.fields.iter(block).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(fields, super::naive_fields(block));
    assert!(fields.len() <= limits::HEAD_FIELDS_MAX);
    let line = [head.method(block), b" ", head.target(block), b" HTTP/1."].concat();
    let leading = block.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    assert!(block[leading..].starts_with(&line) && leading <= 4);

    check_decisions(&head, block);
    check_rewritten(&head, block);
}

/// Whatever is decided from an accepted head agrees with itself.
fn check_decisions(head: &RequestHead, block: &[u8]) {
    let origin = framing::origin_target(head, block);
    assert!(origin.starts_with(b"/") || origin == b"*");
    assert!(origin == b"/" || head.target(block).ends_with(origin));
    if let Ok(host) = framing::authority(head, block) {
        assert!(!host.iter().any(|byte| b" \t/@?#\\,".contains(byte)));
        assert!(head.fields.count(block, "host") <= 1);
    }
    let (lengths, codings) =
        (head.fields.count(block, "content-length"), head.fields.count(block, "transfer-encoding"));
    match framing::request(head, block) {
        Ok(RequestBody::None) => assert_eq!((lengths, codings), (0, 0)),
        Ok(RequestBody::Length(length)) => {
            assert_eq!((lengths, codings), (1, 0));
            let value = head.fields.get(block, "Content-Length").expect("counted");
            assert_eq!(std::str::from_utf8(value).expect("digits").parse(), Ok(length));
        }
        Ok(RequestBody::Chunked) => assert_eq!((lengths, codings), (0, 1)),
        Err(_) => assert!(lengths + codings > 0 || block.contains(&b'_')),
    }
    let close = head.fields.list_has(block, "connection", "close");
    assert!(!close || !framing::keeps_alive(head.version, &head.fields, block));
    assert!(!framing::expects_continue(head, block) || head.fields.count(block, "expect") > 0);
    for (name, _) in head.fields.iter(block) {
        let dropped = named_by_connection(&head.fields, block, name);
        assert!(!dropped || head.fields.list_has(block, "connection", std::str::from_utf8(name).expect("a token")));
    }
}

/// An accepted head can be written, and reads the same again.
fn check_rewritten(head: &RequestHead, block: &[u8]) {
    let mut out = Buffer::detached(limits::HEAD_BYTES_MAX * 2);
    let mut writer = HeadWriter::new(&mut out);
    writer.request_line(head.method(block), head.target(block));
    for (name, value) in head.fields.iter(block) {
        writer.field(name, value);
    }
    writer.finish().expect("what was read can be written");
    if out.len() > limits::HEAD_BYTES_MAX {
        return;
    }
    let again = out.filled();
    assert_eq!(super::scan(again), Ok(Some(again.len())));
    let mut reused = RequestHead::default();
    reused.parse_into(block).expect("accepted before");
    reused.parse_into(again).expect("what was written can be read");
    assert_eq!((reused.method(again), reused.target(again)), (head.method(block), head.target(block)));
    assert!(reused.fields.iter(again).eq(head.fields.iter(block)));
}
