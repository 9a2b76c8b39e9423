//! HTTP/1.1 (RFC 9112), sans-IO: bytes in, ranges and decisions out.
//!
//! ```text
//!   socket bytes ──Scan──► head block ──RequestHead/ResponseHead──► Fields (ranges into the block)
//!                                                │
//!                                            framing ──► Reader ──► body bytes, validated in place
//! ```
//!
//! Parsed data are [`fields::Span`]s into the block they were read from, so a head may be kept across an await while
//! its bytes stay where the socket put them. Nothing here owns a byte of a message.
//!
//! Both peers are hostile. Where RFC 9112 lets a recipient choose between repairing a message and refusing it, this
//! module refuses: what passes has exactly one reading, whoever reads it next.

pub mod body;
mod chunked;
pub mod encode;
pub mod fields;
pub mod framing;
pub mod head;
mod host;

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// Whether `bytes` is a token (RFC 9110 §5.6.2): one or more token bytes.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(true, |good, &byte| good & is_token_byte(byte))
}

/// Whether `byte` may stand in a field value or a reason phrase: HTAB, SP, visible ASCII or obs-text (RFC 9110 §5.5).
const fn is_value_byte(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// Whether every byte may stand in a field value. Written without an early exit so that it runs in vector registers.
fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |good, &byte| good & (((byte >= b' ') & (byte != 0x7f)) | (byte == b'\t')))
}

/// Whether every byte may stand in a request target as the gate forwards it: no white space, no control, no fragment.
/// Bytes above 0x7f pass: links with raw UTF-8 in them are older than the rule against them.
fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(true, |good, &byte| good & (byte > b' ') & (byte != 0x7f) & (byte != b'#'))
}

/// `bytes` without the optional white space (RFC 9110 §5.6.3) around it.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
