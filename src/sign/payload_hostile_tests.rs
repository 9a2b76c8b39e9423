//! What a client must not get away with.

use super::*;

fn with_length(mut upload: Upload, length: usize) -> Upload {
    upload.length = Some(length as u64);
    upload
}

fn cut(payload: Payload, from_end: usize) -> Upload {
    let wire = good_parts(payload).concat();
    upload(payload, wire[..wire.len() - from_end].to_vec())
}

fn behind(payload: Payload, more: &[u8]) -> Upload {
    upload(payload, [&good_parts(payload).concat(), more].concat())
}

/// Another digit in the signature of one chunk.
fn other_digit(payload: Payload, number: usize) -> Upload {
    let mut parts = good_parts(payload);
    let at = parts[number].iter().position(|&byte| byte == b'=').unwrap() + 64;
    parts[number][at] = if parts[number][at] == b'0' { b'1' } else { b'0' };
    upload(payload, parts.concat())
}

const TOO_MUCH: &str = "the chunks announce more bytes than any body has";
const NO_HEX: &str = "a chunk's signature is not 64 hexadecimal digits";
const NO_NUMBER: &str = "a chunk's size is not a plain hexadecimal number";
const NO_CRLF: &str = "a chunk's data is not followed by CRLF";
const BEHIND: &str = "there are bytes behind the end of the payload";
const EXTENSION: &str = "a chunk has an extension that is not chunk-signature";
const NO_EMPTY_LINE: &str = "the last chunk is not followed by an empty line";
const BAD_TRAILER: &str = "the trailer lines are malformed";

/// What is said, done, and to be answered.
type Case = (&'static str, Upload, PayloadError);

fn signed_cases() -> Vec<Case> {
    use PayloadError::{ChunkSignature, ChunkTooLarge, LengthMismatch, Malformed};
    let good = || good_parts(SIGNED);
    let other = || parts(Some(chain(SECRET, &"7".repeat(64))), &CHUNKS, None);
    let of = |parts: &[&[u8]]| upload(SIGNED, parts.concat());
    let signature = |number: usize| {
        let part = String::from_utf8(good()[number].clone()).unwrap();
        part.split('=').nth(1).unwrap()[..64].to_owned()
    };
    let [g0, g1, g2, g3] = &good()[..] else { unreachable!() };
    let [_, o1, _, o3] = &other()[..] else { unreachable!() };
    let total = payload().len();
    let early_end = parts(Some(theirs()), &CHUNKS[..2], None).concat();
    vec![
        ("another first byte", changed(SIGNED, 0, "first", "First"), ChunkSignature),
        ("another last byte", changed(SIGNED, 2, "third", "thirD"), ChunkSignature),
        ("another signature of the first", other_digit(SIGNED, 0), ChunkSignature),
        ("another signature of the last", other_digit(SIGNED, 3), ChunkSignature),
        ("reordered", of(&[g1, g0, g2, g3]), ChunkSignature),
        ("replayed", with_length(of(&[g0, g0, g1, g2, g3]), total + CHUNKS[0].len()), ChunkSignature),
        ("replayed for another", with_length(of(&[g0, g0, g2, g3]), total + 1), ChunkSignature),
        ("one left out", with_length(of(&[g0, g2, g3]), total - CHUNKS[1].len()), ChunkSignature),
        ("the first left out", with_length(of(&[g1, g2, g3]), total - CHUNKS[0].len()), ChunkSignature),
        ("only the last chunk", with_length(of(&[g3]), 0), ChunkSignature),
        ("no last chunk", of(&[g0, g1, g2]), LengthMismatch),
        ("the last chunk twice", of(&[g0, g1, g2, g3, g3]), Malformed(BEHIND)),
        ("the last chunk early", of(&[g0, g3, g1, g2]), LengthMismatch),
        ("the last chunk early and the length with it", with_length(of(&[g0, g3]), 14), ChunkSignature),
        ("signed short, said to be long", upload(SIGNED, early_end.clone()), LengthMismatch),
        ("an empty line behind the end", behind(SIGNED, b"\r\n"), Malformed(BEHIND)),
        ("a byte behind the end", behind(SIGNED, b"\0"), Malformed(BEHIND)),
        ("another body behind the end", behind(SIGNED, &early_end), Malformed(BEHIND)),
        ("a chunk of another upload", of(&[g0, o1, g2, g3]), ChunkSignature),
        ("the end of another upload", of(&[g0, g1, g2, o3]), ChunkSignature),
        ("another upload", upload(SIGNED, other().concat()), ChunkSignature),
        ("unsigned", upload(SIGNED, parts(None, &CHUNKS, None).concat()), Malformed(UNEXPECTED_SIGNATURE)),
        ("upper case", changed(SIGNED, 1, &signature(1), &signature(1).to_uppercase()), Malformed(NO_HEX)),
        ("63 digits", changed(SIGNED, 1, &signature(1), &signature(1)[1..]), Malformed(NO_HEX)),
        ("65 digits", changed(SIGNED, 1, &signature(1), &format!("{}0", signature(1))), Malformed(NO_HEX)),
        ("no digits", changed(SIGNED, 1, &signature(1), ""), Malformed(NO_HEX)),
        ("another extension", changed(SIGNED, 0, "chunk-signature", "chunk-sum"), Malformed(EXTENSION)),
        ("another extension before it", changed(SIGNED, 0, ";", ";a=b;"), Malformed(EXTENSION)),
        ("another extension behind it", changed(SIGNED, 0, "\r\n", ";a=b\r\n"), Malformed(NO_HEX)),
        ("the extension in upper case", changed(SIGNED, 0, "chunk-s", "Chunk-S"), Malformed(EXTENSION)),
        ("a quoted signature", changed(SIGNED, 0, "=", "=\""), Malformed(NO_HEX)),
        ("a space before the size", changed(SIGNED, 1, "d;", " d;"), Malformed(NO_NUMBER)),
        ("a space behind the size", changed(SIGNED, 1, "d;", "d ;"), Malformed(NO_NUMBER)),
        ("a sign", changed(SIGNED, 1, "d;", "-d;"), Malformed(NO_NUMBER)),
        ("a prefix", changed(SIGNED, 1, "d;", "0xd;"), Malformed(NO_NUMBER)),
        ("no size", changed(SIGNED, 1, "d;", ";"), Malformed(NO_NUMBER)),
        ("17 digits", changed(SIGNED, 1, "d;", "0000000000000000d;"), Malformed("a chunk's size has too many digits")),
        ("a size too large", with_length(changed(SIGNED, 0, "e;", "f;"), total + 1), Malformed(NO_CRLF)),
        ("a size too small", changed(SIGNED, 0, "e;", "d;"), Malformed(NO_CRLF)),
        ("a size that is more than the rest", changed(SIGNED, 2, "5;", "6;"), LengthMismatch),
        ("no CRLF behind data", changed(SIGNED, 2, "third\r\n", "third"), Malformed(NO_CRLF)),
        ("LF behind data", changed(SIGNED, 2, "third\r\n", "third\n"), Malformed(NO_CRLF)),
        ("CR behind data", changed(SIGNED, 2, "third\r\n", "third\r"), Malformed(NO_CRLF)),
        ("LF behind a size line", changed(SIGNED, 0, "\r\n", "\n"), Malformed(NO_HEX)),
        (
            "CR behind a size line",
            changed(SIGNED, 0, "\r\n", "\r"),
            Malformed("a chunk's size line does not end in CRLF"),
        ),
        ("no empty line at the end", cut(SIGNED, 2), LengthMismatch),
        ("half an empty line", cut(SIGNED, 1), LengthMismatch),
        ("another line at the end", changed(SIGNED, 3, "\r\n\r\n", "\r\n0"), Malformed(NO_EMPTY_LINE)),
        ("cut in the last signature", cut(SIGNED, 10), LengthMismatch),
        ("cut in the data", upload(SIGNED, [&g0[..], &g1[..90]].concat()), LengthMismatch),
        ("nothing", upload(SIGNED, Vec::new()), LengthMismatch),
        ("said to be shorter", with_length(upload(SIGNED, good().concat()), total - 1), LengthMismatch),
        ("said to be longer", with_length(upload(SIGNED, good().concat()), total + 1), LengthMismatch),
        ("said to be nothing", with_length(upload(SIGNED, good().concat()), 0), LengthMismatch),
        ("too large a chunk", with_length(changed(SIGNED, 0, "e;", "100001;"), 1 << 30), ChunkTooLarge),
        ("a monstrous chunk", changed(SIGNED, 0, "e;", "7fffffffffffffff;"), ChunkTooLarge),
        ("more than anything", changed(SIGNED, 0, "e;", "ffffffffffffffff;"), Malformed(TOO_MUCH)),
        (
            "a trailer where there is none",
            changed(SIGNED, 3, "\r\n\r\n", "\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"),
            Malformed(NO_EMPTY_LINE),
        ),
    ]
}

const UNEXPECTED_SIGNATURE: &str = "a chunk has a signature where none is expected, or none where one is";

fn trailer_cases() -> Vec<Case> {
    use PayloadError::{
        ChecksumMismatch, ChunkSignature, LengthMismatch, Malformed, TrailerMissing, TrailerUnexpected,
    };
    let value = format!("{:?}", checksum(Algorithm::Crc32, &payload()));
    let line = format!("{CRC32}:{value}\r\n");
    let last = String::from_utf8(good_parts(TRAILED)[3].clone()).unwrap();
    let (before, signature_line) = last.trim_end().rsplit_once("\r\n").unwrap();
    assert!(before.ends_with(&value));
    let signature_line = format!("{signature_line}\r\n");
    let signature = signature_line.trim_end().rsplit_once(':').unwrap().1.to_owned();
    let other = parts(Some(chain(SECRET, &"7".repeat(64))), &CHUNKS, Some((CRC32, &value)));
    let other = String::from_utf8(other[3].clone()).unwrap();
    let other_line = format!("{}\r\n", other.trim_end().rsplit_once("\r\n").unwrap().1);
    let made = |payload: Payload, name: &'static str, value: &str| {
        let chain = payload.form().unwrap().is_signed.then(theirs);
        let mut made = upload(payload, parts(chain, &CHUNKS, Some((name, value))).concat());
        made.trailer = Some(name);
        made
    };
    let of_trailed = |from: &str, to: &str| changed(TRAILED, 3, from, to);
    let of_unsigned = |from: &str, to: &str| changed(UNSIGNED, 3, from, to);
    let long = format!("{CRC32}:{}\r\n", "A".repeat(limits::TRAILER_BYTES_MAX));
    let mut cases = vec![
        ("no trailer", of_trailed(&line, ""), TrailerMissing),
        ("no trailer signature", of_trailed(&signature_line, ""), TrailerMissing),
        ("neither", of_trailed(&format!("{line}{signature_line}"), ""), TrailerMissing),
        ("another value", of_trailed(&value, "AAAAAA=="), ChunkSignature),
        ("another trailer signature", of_trailed(&signature, &"0".repeat(64)), ChunkSignature),
        ("the trailer signature of another upload", of_trailed(&signature_line, &other_line), ChunkSignature),
        ("an upper case trailer signature", of_trailed(&signature, &signature.to_uppercase()), ChunkSignature),
        ("a short trailer signature", of_trailed(&signature, &signature[1..]), ChunkSignature),
        ("the trailer signature twice", of_trailed(&signature_line, &signature_line.repeat(2)), TrailerUnexpected),
        (
            "signature first",
            of_trailed(&format!("{line}{signature_line}"), &format!("{signature_line}{line}")),
            TrailerUnexpected,
        ),
        (
            "a field behind the signature",
            of_trailed(&signature_line, &format!("{signature_line}x-amz-acl:public-read\r\n")),
            TrailerUnexpected,
        ),
        ("no end", cut(TRAILED, 2), LengthMismatch),
        ("cut in the trailer signature", cut(TRAILED, 12), LengthMismatch),
        ("a body behind the end", behind(TRAILED, &good_parts(TRAILED).concat()), Malformed(BEHIND)),
        ("another chunk of data", changed(TRAILED, 2, "third", "THIRD"), ChunkSignature),
        ("the wrong sum, signed", made(TRAILED, CRC32, "AAAAAA=="), ChecksumMismatch(Algorithm::Crc32)),
        ("no sum, signed", made(TRAILED, CRC32, "AAAA"), Malformed("the checksum in the trailer is none")),
        ("the wrong sum", made(UNSIGNED, CRC32, "AAAAAA=="), ChecksumMismatch(Algorithm::Crc32)),
        ("no sum", made(UNSIGNED, CRC32, ""), Malformed("the checksum in the trailer is none")),
        ("other data", changed(UNSIGNED, 0, "first", "First"), ChecksumMismatch(Algorithm::Crc32)),
        ("signed after all", upload(UNSIGNED, good_parts(TRAILED).concat()), Malformed(UNEXPECTED_SIGNATURE)),
        ("a trailer signature", of_unsigned(&line, &format!("{line}{signature_line}")), TrailerUnexpected),
        ("no line", of_unsigned(&line, ""), TrailerMissing),
        ("no last chunk", upload(UNSIGNED, good_parts(UNSIGNED)[..3].concat()), LengthMismatch),
        ("no empty line", cut(UNSIGNED, 2), LengthMismatch),
        ("bytes behind", behind(UNSIGNED, b"\r\n"), Malformed(BEHIND)),
        ("two ends", behind(UNSIGNED, &good_parts(UNSIGNED)[3]), Malformed(BEHIND)),
        ("said to be shorter", with_length(upload(UNSIGNED, good_parts(UNSIGNED).concat()), 20), LengthMismatch),
        ("said to be longer", with_length(upload(UNSIGNED, good_parts(UNSIGNED).concat()), 2000), LengthMismatch),
        ("a chunk left out", upload(UNSIGNED, good_parts(UNSIGNED)[1..].concat()), LengthMismatch),
        ("no CRLF", changed(UNSIGNED, 2, "third\r\n", "third"), Malformed(NO_CRLF)),
        ("an LF for a size line", changed(UNSIGNED, 2, "5\r\n", "5\n"), Malformed(NO_NUMBER)),
        ("an endless trailer", of_unsigned(&line, &long), Malformed("the trailer lines are too long")),
        ("no colon", of_unsigned(&line, "x-amz-checksum-crc32\r\n"), Malformed("a trailer line has no colon")),
        ("LF only", of_unsigned(&line, &line.replace('\r', "")), LengthMismatch),
        ("two LF", of_unsigned(&line, &line.replace('\r', "\n")), Malformed(BAD_TRAILER)),
        ("folded", of_unsigned(&line, &line.replace(':', ":\r\n ")), Malformed(BAD_TRAILER)),
        ("a NUL", of_unsigned(&line, &line.replace(':', ":\0")), Malformed(BAD_TRAILER)),
        ("bytes beyond ASCII", of_unsigned(&line, &line.replace(':', ":\u{e9}")), Malformed(BAD_TRAILER)),
    ];
    for payload in [TRAILED, UNSIGNED] {
        let of = |to: &str| changed(payload, 3, &line, to);
        cases.extend([
            ("the trailer twice", of(&line.repeat(2)), TrailerUnexpected),
            ("another name", of(&line.replace("crc32", "crc32c")), TrailerUnexpected),
            ("another name as well", of(&format!("x-amz-acl:public-read\r\n{line}")), TrailerUnexpected),
            ("a space in the name", of(&line.replace(':', " :")), TrailerUnexpected),
            ("an underscore in the name", of(&line.replace("amz-", "amz_")), TrailerUnexpected),
        ]);
    }
    cases
}

fn plain_cases() -> Vec<Case> {
    let digest = Payload::Digest(sha256(&payload()));
    let mut cases = vec![
        ("a byte for nothing", upload(Payload::Empty, b"0".to_vec()), PayloadError::DigestMismatch),
        ("nothing", upload(digest, Vec::new()), PayloadError::DigestMismatch),
        ("cut", cut(digest, 1), PayloadError::DigestMismatch),
        ("a byte behind", behind(digest, b"\0"), PayloadError::DigestMismatch),
        ("another byte", changed(digest, 0, "t", "T"), PayloadError::DigestMismatch),
    ];
    let long = vec![b'a'; 3 * limits::PAYLOAD_TAIL_BYTES];
    cases.push(("long and wrong", upload(digest, long.clone()), PayloadError::DigestMismatch));
    for algorithm in Algorithm::ALL {
        for payload in [Payload::Unsigned, Payload::Digest(sha256(&long)), Payload::Digest(sha256(b"a"))] {
            let mut upload = upload(payload, long.clone());
            upload.checksums = vec![Expected { algorithm, value: checksum(algorithm, &long[1..]) }];
            cases.push(("another checksum", upload, PayloadError::ChecksumMismatch(algorithm)));
        }
    }
    cases
}

#[test]
fn what_is_wrong_is_refused_and_never_complete_upstream() {
    let cases = [signed_cases(), trailer_cases(), plain_cases()].concat();
    assert!(cases.len() > 100, "{}", cases.len());
    for (name, upload, failure) in cases {
        assert_eq!(inspect(&upload, true), Err(failure), "{name}, {:?}", upload.payload);
    }
}
