//! The one percent-coder (RFC 3986 §2.1).
//!
//! Decoded text is for people and for decisions, never for forwarding: decoding loses how the client wrote a byte, and
//! the signature covers how the client wrote it.

use std::borrow::Cow;

/// Decodes a path: each valid `%XX` becomes its byte, everything else (an invalid escape too) stays as it is.
#[must_use]
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.contains(&b'%') { Cow::Owned(unescaped(raw, b'+')) } else { Cow::Borrowed(raw) }
}

/// The bytes [`decode`] would give, one at a time.
pub fn decoded(raw: &[u8]) -> impl Iterator<Item = u8> {
    Decoded { rest: raw, plus: b'+' }
}

/// Decodes one side of a query pair, where `+` is a space as well.
#[must_use]
pub fn decode_form(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', raw).is_some() { Cow::Owned(unescaped(raw, b' ')) } else { Cow::Borrowed(raw) }
}

/// What happens to `/` when text is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slash {
    /// Kept: an object key on its way into a path.
    Keep,
    /// Encoded: a query name or value.
    Encode,
}

/// Encodes as SigV4 wants it: everything but `A–Z a–z 0–9 - . _ ~` becomes `%XX` in upper case (AWS, "Create a signed
/// AWS API request", `UriEncode`). For links the gate makes itself; a client's target is never re-encoded.
pub fn encode(text: &[u8], slash: Slash, out: &mut Vec<u8>) {
    let kept = kept(slash);
    for &byte in text {
        if kept[usize::from(byte)] {
            out.push(byte);
        } else {
            escape(byte, out);
        }
    }
}

/// Writes a path as [`encode`] would once it was decoded.
pub fn recode_path(raw: &[u8], out: &mut Vec<u8>) {
    recode(raw, b'+', Slash::Keep, out);
}

/// Writes one side of a query pair as [`encode`] would once it was decoded.
pub fn recode_form(raw: &[u8], out: &mut Vec<u8>) {
    recode(raw, b' ', Slash::Encode, out);
}

/// Whether a query of this many pairs, each with its `=`, is written as [`encode`] writes both sides of each.
#[must_use]
pub fn is_encoded_query(query: &[u8], pairs: usize) -> bool {
    let (chunks, rest) = query.as_chunks();
    let mut last = [b'='; 16];
    last[..rest.len()].copy_from_slice(rest);
    let strange = chunks.iter().chain([&last]).fold(0, |strange, chunk| strange | strange_to_a_query(chunk));
    if strange != 0 || memchr::memchr_iter(b'=', query).count() != pairs {
        return false;
    }
    let is_escape = |at: usize| match query[at..] {
        [b'%', high, low, ..] => {
            let (high, low) = (HEX[usize::from(high)], HEX[usize::from(low)]);
            (high | low) & (NO_DIGIT | LOWER_CASE) == 0 && !UNRESERVED[usize::from(high << 4 | low)]
        }
        _ => false,
    };
    memchr::memchr_iter(b'%', query).all(is_escape)
}

/// Not zero if one of the bytes cannot be in a query that is encoded. Without a branch, so that all are looked at together.
fn strange_to_a_query(bytes: &[u8; 16]) -> u128 {
    u128::from_ne_bytes(bytes.map(|byte| {
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = byte.wrapping_sub(b'0') < 10;
        let is_mark = (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~');
        let is_of_a_query = (byte == b'%') | (byte == b'&') | (byte == b'=');
        if is_letter | is_digit | is_mark | is_of_a_query { 0 } else { 0xff }
    }))
}

/// Clients write nearly everything as it has to be: that is copied in long runs.
fn recode(raw: &[u8], plus: u8, slash: Slash, out: &mut Vec<u8>) {
    let kept = kept(slash);
    let (mut run, mut at) = (0, 0);
    loop {
        at += plain_len(&raw[at..], kept);
        let (meant, length) = match raw[at..] {
            [] => break,
            [b'%', high, low, ..] => match (HEX[usize::from(high)], HEX[usize::from(low)]) {
                (high, low) if (high | low) & NO_DIGIT != 0 => (b'%', 1),
                (high, low) => {
                    let meant = high << 4 | (low & 15);
                    if (high | low) & LOWER_CASE == 0 && !kept[usize::from(meant)] {
                        at += 3;
                        continue;
                    }
                    (meant, 3)
                }
            },
            [b'+', ..] => (plus, 1),
            [byte, ..] => (byte, 1),
        };
        out.extend_from_slice(&raw[run..at]);
        if kept[usize::from(meant)] {
            out.push(meant);
        } else {
            escape(meant, out);
        }
        at += length;
        run = at;
    }
    out.extend_from_slice(&raw[run..]);
}

/// How many bytes are not escaped, from the first on.
fn plain_len(raw: &[u8], kept: &[bool; 256]) -> usize {
    let is_kept = |byte: &u8| kept[usize::from(*byte)];
    // Without a branch for each byte.
    let are_kept = |eight: &&[u8; 8]| eight.iter().fold(true, |all, byte| all & is_kept(byte));
    let eights = 8 * raw.as_chunks().0.iter().take_while(are_kept).count();
    eights + raw[eights..].iter().take_while(|byte| is_kept(byte)).count()
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Which bytes are not escaped.
fn kept(slash: Slash) -> &'static [bool; 256] {
    match slash {
        Slash::Keep => &UNRESERVED_AND_SLASH,
        Slash::Encode => &UNRESERVED,
    }
}

/// RFC 3986 §2.3.
static UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

static UNRESERVED_AND_SLASH: [bool; 256] = {
    let mut table = UNRESERVED;
    table[b'/' as usize] = true;
    table
};

/// The decoded bytes, `plus` for every `+`.
fn unescaped(raw: &[u8], plus: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr2(b'%', b'+', rest) {
        out.extend_from_slice(&rest[..at]);
        let mut one = Decoded { rest: &rest[at..], plus };
        if let Some(byte) = one.next() {
            out.push(byte);
        }
        rest = one.rest;
    }
    out.extend_from_slice(rest);
    out
}

/// The bytes [`decode_form`] would give, one at a time, so that names are compared without allocating.
pub(super) fn form_bytes(raw: &[u8]) -> impl Iterator<Item = u8> {
    Decoded { rest: raw, plus: b' ' }
}

/// The decoded bytes one at a time, so that names are compared without allocating.
struct Decoded<'a> {
    rest: &'a [u8],
    /// What a `+` stands for.
    plus: u8,
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, tail) = self.rest.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            self.rest = after;
            return Some(high << 4 | low);
        }
        self.rest = tail;
        Some(if first == b'+' { self.plus } else { first })
    }
}

fn digit(byte: u8) -> Option<u8> {
    let digit = HEX[usize::from(byte)];
    (digit & NO_DIGIT == 0).then_some(digit & 15)
}

/// What each byte is as a hexadecimal digit.
static HEX: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 10 {
        table[b'0' as usize + value] = value as u8;
        value += 1;
    }
    while value < 16 {
        table[b'A' as usize + value - 10] = value as u8;
        table[b'a' as usize + value - 10] = value as u8 | LOWER_CASE;
        value += 1;
    }
    table
};

const LOWER_CASE: u8 = 0x10;
const NO_DIGIT: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn valid_escapes_are_decoded_and_invalid_ones_stay_as_they_are() {
        let table: &[(&[u8], &[u8], &[u8])] = &[
            (b"", b"", b""),
            (b"plain.mov", b"plain.mov", b"plain.mov"),
            (b"my%20file", b"my file", b"my file"),
            (b"a%2Bb%2bc", b"a+b+c", b"a+b+c"),
            (b"a+b", b"a+b", b"a b"),
            (b"100%25", b"100%", b"100%"),
            (b"%C3%A9", "é".as_bytes(), "é".as_bytes()),
            (b"a%2Fb", b"a/b", b"a/b"),
            (b"%", b"%", b"%"),
            (b"%2", b"%2", b"%2"),
            (b"%zz%4", b"%zz%4", b"%zz%4"),
            (b"%%41", b"%A", b"%A"),
            (b"%2541", b"%41", b"%41"),
            (b"%+1%-1", b"%+1%-1", b"% 1%-1"),
            (b"%00%ff", b"\0\xff", b"\0\xff"),
        ];
        for (raw, path, form) in table {
            let shown = String::from_utf8_lossy(raw);
            assert_eq!(&*decode(raw), *path, "{shown}");
            assert_eq!(&*decode_form(raw), *form, "{shown}");
        }
    }

    #[test]
    fn one_strange_byte_or_escape_anywhere_is_seen_in_a_query() {
        for length in 1..40 {
            let query = [b"a=", &vec![b'x'; length][..]].concat();
            assert!(is_encoded_query(&query, 1) && !is_encoded_query(&query, 2));
            for (at, byte) in (2..query.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut query = query.clone();
                query[at] = byte;
                let is_kept = UNRESERVED[usize::from(byte)] || byte == b'&';
                assert_eq!(is_encoded_query(&query, 1), is_kept, "{}", query.escape_ascii());
            }
        }
        for (high, low) in (0..=255).flat_map(|high| (0..=255).map(move |low| (high, low))) {
            let side = [b'%', high, low];
            let mut recoded = Vec::new();
            recode_form(&side, &mut recoded);
            // These end the side.
            let is_kept = recoded == side && !side.contains(&b'=') && !side.contains(&b'&');
            assert_eq!(is_encoded_query(&[b"a=", &side[..]].concat(), 1), is_kept, "{}", side.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn an_encoded_query_is_one_that_encoding_leaves_as_it_is(
            sides in proptest::collection::vec(
                ("([A-Za-z0-9._~-]|%[0-9A-F]{2}|[ -~]){0,8}", "([A-Za-z0-9._~-]|%(2F|3D|25|2f|41)|=|%|é){0,24}"), 0..4
            ),
        ) {
            let (mut query, mut expected) = (Vec::new(), Vec::new());
            for (name, value) in &sides {
                // A name ends at the first of these.
                let name = name.replace(['&', '='], "-");
                for out in [&mut query, &mut expected] {
                    if !out.is_empty() {
                        out.push(b'&');
                    }
                }
                query.extend_from_slice(format!("{name}={value}").as_bytes());
                recode_form(name.as_bytes(), &mut expected);
                expected.push(b'=');
                recode_form(value.as_bytes(), &mut expected);
            }
            prop_assert_eq!(is_encoded_query(&query, sides.len()), query == expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_recoded_was_decoded_and_encoded(raw in "([ -~]|%[0-9a-fA-F]{2}|%2F|é){0,20}") {
            let raw = raw.as_bytes();
            let both = |decoded: &[u8], slash| {
                let mut out = Vec::new();
                encode(decoded, slash, &mut out);
                out
            };
            let (mut path, mut form) = (b"x".to_vec(), b"x".to_vec());
            recode_path(raw, &mut path);
            recode_form(raw, &mut form);
            prop_assert_eq!(&path[1..], both(&decode(raw), Slash::Keep));
            prop_assert_eq!(&form[1..], both(&decode_form(raw), Slash::Encode));
            prop_assert_eq!(&*decode(raw), decoded(raw).collect::<Vec<_>>());
        }
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        assert!(matches!(decode(b"a+b/c.mov"), Cow::Borrowed(_)));
        assert!(matches!(decode_form(b"a-b"), Cow::Borrowed(_)));
        assert!(matches!(decode(b"%41"), Cow::Owned(_)));
    }

    #[test]
    fn encoding_keeps_only_the_unreserved_set() {
        let mut out = Vec::new();
        encode("a/b c+d%é~-._?#".as_bytes(), Slash::Keep, &mut out);
        assert_eq!(out, b"a/b%20c%2Bd%25%C3%A9~-._%3F%23");
        out.clear();
        encode(b"a/b", Slash::Encode, &mut out);
        assert_eq!(out, b"a%2Fb");
    }

    proptest! {
        #[test]
        fn whatever_was_encoded_decodes_to_itself(text: Vec<u8>) {
            let mut out = Vec::new();
            encode(&text, Slash::Encode, &mut out);
            prop_assert_eq!(&*decode(&out), &text[..]);
            prop_assert_eq!(&*decode_form(&out), &text[..]);
        }

        #[test]
        fn decoding_never_grows_and_never_panics(raw: Vec<u8>) {
            prop_assert!(decode(&raw).len() <= raw.len());
        }
    }
}
