//! Any bytes as the head of a response.

use filmgate::buffer::Buffer;
use filmgate::http::encode::HeadWriter;
use filmgate::http::framing::{self, ResponseBody};
use filmgate::http::head::ResponseHead;
use filmgate::limits;

pub(crate) fn run(data: &[u8]) {
    let unscanned = ResponseHead::parse(data).map(drop);
    let Ok(Some(end)) = super::scan(data) else {
        assert!(unscanned.is_err(), "a head is accepted that no scan would find");
        return;
    };
    let block = &data[..end];
    assert_eq!(unscanned.is_ok(), end == data.len() && ResponseHead::parse(block).is_ok());
    let Ok(head) = ResponseHead::parse(block) else { return };

    let fields: Vec<_> = head.fields.iter(block).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(fields, super::naive_fields(block));
    assert!((100..=599).contains(&head.status));
    let line_end = block.iter().position(|byte| *byte == b'\r').expect("an accepted head has a line");
    let reason = [b" ", head.reason(block)].concat();
    assert!(block[..line_end].ends_with(&reason) || head.reason(block).is_empty());

    for method in [&b"GET"[..], b"HEAD", b"PUT"] {
        let bodiless = method == b"HEAD" || head.status < 200 || matches!(head.status, 204 | 304);
        if let Ok(body) = framing::response(&head, block, method) {
            assert_eq!(body == ResponseBody::None, bodiless);
        }
    }
    let close = head.fields.list_has(block, "connection", "close");
    assert!(!close || !framing::keeps_alive(head.version, &head.fields, block));
    check_rewritten(&head, block);
}

/// An accepted head can be written, and reads the same again.
fn check_rewritten(head: &ResponseHead, block: &[u8]) {
    let mut out = Buffer::detached(limits::HEAD_BYTES_MAX * 2);
    let mut writer = HeadWriter::new(&mut out);
    writer.status_line(head.status, head.reason(block));
    for (name, value) in head.fields.iter(block) {
        writer.field(name, value);
    }
    writer.finish().expect("what was read can be written");
    if out.len() > limits::HEAD_BYTES_MAX {
        return;
    }
    let again = out.filled();
    let mut reused = ResponseHead::default();
    reused.parse_into(block).expect("accepted before");
    reused.parse_into(again).expect("what was written can be read");
    assert_eq!((reused.status, reused.reason(again)), (head.status, head.reason(block)));
    assert!(reused.fields.iter(again).eq(head.fields.iter(block)));
}
