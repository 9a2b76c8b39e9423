use proptest::prelude::*;

use super::*;
use crate::sign::key::{Scope, Secret, SigningKey};
use crate::sign::time::Stamp;

const SIGNED: Payload = Payload::StreamingSigned;
const TRAILED: Payload = Payload::StreamingSignedTrailer;
const UNSIGNED: Payload = Payload::StreamingUnsignedTrailer;
const CRC32: &str = "x-amz-checksum-crc32";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const AWS_SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const AWS_TRAILER_SEED: &str = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";

fn chain(secret: &str, seed: &str) -> Chain {
    let scope = Scope { date: b"20130524", region: b"us-east-1", service: b"s3" };
    let stamp = Stamp::parse(b"20130524T000000Z").unwrap();
    let key = SigningKey::derive(&Secret::new(secret.into()), scope);
    Chain::new(key, &stamp, scope, Signature::from_hex(seed.as_bytes()).unwrap())
}

fn theirs() -> Chain {
    chain(SECRET, AWS_SEED)
}

fn ours() -> Chain {
    chain("another secret", &"5a".repeat(32))
}

fn hex(signature: Signature) -> String {
    let mut out = Vec::new();
    signature.write_hex(&mut out);
    String::from_utf8(out).unwrap()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

fn checksum(algorithm: Algorithm, bytes: &[u8]) -> Value {
    let mut running = Running::new(algorithm);
    running.update(bytes);
    running.finish()
}

/// The chunks of a body, line ends and all; the last with what comes behind it.
fn parts(mut chain: Option<Chain>, chunks: &[&[u8]], trailer: Option<(&str, &str)>) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for chunk in chunks.iter().copied().chain([&b""[..]]) {
        let mut part = format!("{:x}", chunk.len());
        if let Some(chain) = &mut chain {
            part += &format!(";chunk-signature={}", hex(chain.chunk(&sha256(chunk))));
        }
        part += "\r\n";
        parts.push([part.as_bytes(), chunk, if chunk.is_empty() { b"" } else { b"\r\n" }].concat());
    }
    let last = parts.last_mut().unwrap();
    if let Some((name, value)) = trailer {
        last.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
        if let Some(chain) = &mut chain {
            let signature = chain.trailer(&sha256(format!("{name}:{value}\n").as_bytes()));
            last.extend_from_slice(format!("x-amz-trailer-signature:{}\r\n", hex(signature)).as_bytes());
        }
    }
    last.extend_from_slice(b"\r\n");
    parts
}

/// A body as the head describes it.
#[derive(Clone, Debug)]
struct Upload {
    payload: Payload,
    length: Option<u64>,
    trailer: Option<&'static str>,
    checksums: Vec<Expected>,
    wire: Vec<u8>,
}

const CHUNKS: [&[u8]; 3] = [b"first of three", b"second\r\n0\r\n\r\n", b"third"];

fn payload() -> Vec<u8> {
    CHUNKS.concat()
}

fn good_parts(payload: Payload) -> Vec<Vec<u8>> {
    let value = format!("{:?}", checksum(Algorithm::Crc32, &CHUNKS.concat()));
    match payload {
        SIGNED => parts(Some(theirs()), &CHUNKS, None),
        TRAILED => parts(Some(theirs()), &CHUNKS, Some((CRC32, &value))),
        UNSIGNED => parts(None, &CHUNKS, Some((CRC32, &value))),
        _ => vec![CHUNKS.concat()],
    }
}

fn upload(payload: Payload, wire: Vec<u8>) -> Upload {
    let (length, trailer) = match payload {
        SIGNED => (Some(CHUNKS.concat().len() as u64), None),
        TRAILED | UNSIGNED => (Some(CHUNKS.concat().len() as u64), Some(CRC32)),
        _ => (None, None),
    };
    Upload { payload, length, trailer, checksums: Vec::new(), wire }
}

impl Upload {
    fn inspector(&self, theirs: Chain, ours: Chain, is_verifying: bool) -> Result<Inspector, PayloadError> {
        let trailer = self.trailer.map(str::as_bytes);
        let declared = Declared { decoded_length: self.length, trailer, checksums: &self.checksums };
        Inspector::new(self.payload, declared, Some(theirs), Some(ours), is_verifying)
    }
}

/// Feeds `wire` in steps. What was given, and what became of it.
fn run(mut inspector: Inspector, wire: &[u8], step: &mut dyn FnMut() -> usize) -> (Vec<u8>, Result<(), PayloadError>) {
    let (mut given, mut out, mut at, mut arrived) = (Vec::new(), Vec::new(), 0, 0);
    while at < wire.len() {
        if at == arrived {
            arrived = (arrived + step().max(1)).min(wire.len());
        }
        match inspector.feed(&wire[at..arrived], &mut out) {
            Ok(taken) => {
                assert!(taken > 0 && taken <= arrived - at);
                at += taken;
            }
            Err(failure) => {
                assert_eq!(inspector.feed(b"0", &mut out), Err(failure));
                assert_eq!(inspector.finish(&mut out), Err(failure));
                given.append(&mut out);
                return (given, Err(failure));
            }
        }
        given.append(&mut out);
        assert!(given.len() <= at && given.len() + inspector.held_bytes() <= at);
    }
    let verdict = inspector.finish(&mut out);
    let is_all_given = !wire.is_empty() && out.is_empty();
    given.append(&mut out);
    if verdict.is_ok() {
        assert!(!is_all_given, "all of it was given before the end");
        assert!(inspector.feed(b"0", &mut out).is_err() && inspector.finish(&mut out).is_err() && out.is_empty());
    }
    (given, verdict)
}

/// Whole, byte by byte, and at random, which must come to the same. On error, nobody may take for complete what was given.
fn inspect(upload: &Upload, is_verifying: bool) -> Result<Vec<u8>, PayloadError> {
    let mut seed = 0x9e37_79b9_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (seed >> 33) as usize % 90
    };
    let mut verdicts = Vec::new();
    for split in 0..6 {
        let inspector = upload.inspector(theirs(), ours(), is_verifying)?;
        let (given, verdict) = match split {
            0 => run(inspector, &upload.wire, &mut || upload.wire.len()),
            1 => run(inspector, &upload.wire, &mut || 1),
            _ => run(inspector, &upload.wire, &mut random),
        };
        if let Err(failure) = verdict {
            let mut seen = upload.clone();
            seen.wire = given.clone();
            let upstream = seen.inspector(ours(), theirs(), true).unwrap();
            let (_, verdict) = run(upstream, &given, &mut || given.len());
            assert!(verdict.is_err() || upload.payload.form().is_none(), "{failure:?}: complete all the same");
        }
        verdicts.push(verdict.map(|()| given));
    }
    let first = verdicts[0].clone();
    assert!(verdicts.iter().all(|verdict| *verdict == first), "it depends on how the bytes arrive: {verdicts:?}");
    first
}

/// The payload, by a reader that believes everything.
fn decode(wire: &[u8]) -> Vec<u8> {
    let (mut payload, mut rest) = (Vec::new(), wire);
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
        if size == 0 {
            return payload;
        }
        payload.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
}

/// One change to a good body.
fn changed(payload: Payload, number: usize, from: &str, to: &str) -> Upload {
    let mut parts = good_parts(payload);
    let part = String::from_utf8(parts[number].clone()).unwrap();
    assert!(part.contains(from), "{part:?} has no {from:?}");
    parts[number] = part.replacen(from, to, 1).into_bytes();
    upload(payload, parts.concat())
}

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

#[test]
fn what_is_declared_must_go_with_the_payload() {
    let new = |payload, length, trailer: Option<&str>, chains: bool| {
        let declared = Declared { decoded_length: length, trailer: trailer.map(str::as_bytes), checksums: &[] };
        Inspector::new(payload, declared, chains.then(theirs), chains.then(ours), true).err()
    };
    let unasked = Some(PayloadError::Malformed("x-amz-trailer goes with a payload that has a trailer only"));
    let no_length = Some(PayloadError::Malformed("x-amz-decoded-content-length is missing"));
    for payload in [SIGNED, TRAILED, UNSIGNED] {
        let trailer = payload.form().unwrap().has_trailer.then_some(CRC32);
        assert_eq!(new(payload, Some(0), trailer, true), None);
        assert_eq!(new(payload, None, trailer, true), no_length);
    }
    assert_eq!(new(SIGNED, Some(0), None, false), Some(PayloadError::ChunkSignature));
    assert_eq!(new(TRAILED, Some(0), Some(CRC32), false), Some(PayloadError::ChunkSignature));
    assert_eq!(new(UNSIGNED, Some(0), Some(CRC32), false), None);
    for payload in [SIGNED, Payload::Unsigned, Payload::Empty, Payload::Digest([0; 32])] {
        assert_eq!(new(payload, Some(0), Some(CRC32), true), unasked);
    }
    for payload in [TRAILED, UNSIGNED] {
        assert_eq!(new(payload, Some(0), None, true), Some(PayloadError::TrailerMissing));
        assert_eq!(new(payload, Some(0), Some(" X-Amz-Checksum-CRC32C "), true), None);
        for name in [
            "",
            "x-amz-acl",
            "x-amz-checksum-",
            "x-amz-checksum-crc32,x-amz-checksum-sha1",
            "x-amz-checksum-crc32, x-amz-acl",
            "x-amz-trailer-signature",
            "content-md5",
            "x-amz-checksum-0123456789012345678901234567890123456789",
        ] {
            assert_eq!(new(payload, Some(0), Some(name), true), Some(PayloadError::TrailerUnexpected), "{name}");
        }
    }
}

#[test]
fn words_are_read_as_they_are_written() {
    let digest = "0123456789abcdef".repeat(4);
    for word in WORDS.iter().map(|(word, _)| *word).chain([digest.as_bytes()]) {
        let mut out = Vec::new();
        Payload::read(word).unwrap().write(&mut out);
        assert_eq!(out, word);
    }
    for word in [
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
        "STREAMING-UNSIGNED-PAYLOAD",
        "unsigned-payload",
        "UNSIGNED-PAYLOAD-TRAILER",
        "",
        &digest[1..],
        &digest.to_uppercase(),
    ] {
        assert_eq!(Payload::read(word.as_bytes()), Err(Unsupported(word.into())));
    }
    let shown = Payload::read(&[b"a\r\n\xff<\0".to_vec(), vec![b'b'; 4096]].concat()).unwrap_err().0;
    assert!(shown.starts_with("a???<?bbb") && shown.len() == UNSUPPORTED_BYTES_MAX, "{shown}");
}

#[test]
fn the_uploads_of_aws_are_taken_and_signed_anew() {
    let data = vec![b'a'; 66_560];
    let bodies = [
        (
            SIGNED,
            AWS_SEED,
            [
                "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ],
            "",
            None,
        ),
        (
            TRAILED,
            AWS_TRAILER_SEED,
            [
                "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
                "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
                "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
            ],
            "x-amz-checksum-crc32c:sOO8/Q==\r\n\
            x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n",
            Some("x-amz-checksum-crc32c"),
        ),
    ];
    for (payload, seed, [first, second, last], lines, trailer) in bodies {
        let wire = [
            format!("10000;chunk-signature={first}\r\n").as_bytes(),
            &data[..65_536],
            format!("\r\n400;chunk-signature={second}\r\n").as_bytes(),
            &data[..1024],
            format!("\r\n0;chunk-signature={last}\r\n{lines}\r\n").as_bytes(),
        ]
        .concat();
        if payload == SIGNED {
            assert_eq!(wire.len(), 66_824, "the Content-Length in AWS's example");
        }
        for step in [1, 1000, wire.len()] {
            let upload = Upload { payload, length: Some(66_560), trailer, checksums: Vec::new(), wire: wire.clone() };
            let (given, verdict) =
                run(upload.inspector(chain(SECRET, seed), ours(), true).unwrap(), &wire, &mut || step);
            assert_eq!(verdict, Ok(()));
            assert_ne!(given, wire);
            let back = upload.inspector(ours(), chain(SECRET, seed), true).unwrap();
            assert_eq!(run(back, &given, &mut || step), (wire.clone(), Ok(())), "signed back, it is what AWS wrote");
        }
    }
}

#[test]
fn sizes_and_line_ends_stay_as_the_client_wrote_them() {
    let value = format!("{:?}", checksum(Algorithm::Crc32, &payload()));
    for (payload, number, from, to) in [
        (SIGNED, 0, "e;", "E;"),
        (SIGNED, 1, "d;", "000000000000000d;"),
        (SIGNED, 3, "0;", "0000;"),
        (UNSIGNED, 0, "e\r", "00E\r"),
        (UNSIGNED, 3, "x-amz-checksum-crc32:", "X-Amz-Checksum-CRC32: \t"),
        (UNSIGNED, 3, &format!("{value}\r\n"), &format!("{value}\n\r\n")),
        (TRAILED, 3, &format!("{value}\r\n"), &format!("{value}\n\r\n")),
        (TRAILED, 3, &format!("{CRC32}:{value}\r\n"), &format!("X-Amz-Checksum-crc32: {value} \r\n")),
        (TRAILED, 3, "\r\n\r\n", " \n\r\n\r\n"),
    ] {
        let upload = changed(payload, number, from, to);
        let given = inspect(&upload, true).unwrap();
        assert_eq!(given.len(), upload.wire.len());
        let without = |wire: &[u8]| {
            let mut text = String::from_utf8(wire.to_vec()).unwrap();
            for mark in ["chunk-signature=", "x-amz-trailer-signature:"] {
                let places: Vec<_> = text.match_indices(mark).map(|(at, _)| at + mark.len()).collect();
                places.into_iter().for_each(|at| text.replace_range(at..at + 64, &"-".repeat(64)));
            }
            text
        };
        assert_eq!(without(&given), without(&upload.wire));
        let mut again = upload.clone();
        again.wire = given.clone();
        let back = again.inspector(ours(), theirs(), true).unwrap();
        assert_eq!(run(back, &given, &mut || 7), (upload.wire, Ok(())));
    }
}

#[test]
fn sums_are_left_to_s3_unless_they_are_to_be_verified() {
    let wrong = parts(Some(theirs()), &CHUNKS, Some((CRC32, "AAAAAA=="))).concat();
    assert!(inspect(&upload(TRAILED, wrong), false).is_ok());
    let wrong = parts(None, &CHUNKS, Some((CRC32, "AAAAAA=="))).concat();
    assert_eq!(inspect(&upload(UNSIGNED, wrong.clone()), false), Ok(wrong));
    let mut unknown = upload(UNSIGNED, parts(None, &CHUNKS, Some(("x-amz-checksum-xxhash3", "-"))).concat());
    unknown.trailer = Some("x-amz-checksum-xxhash3");
    assert_eq!(inspect(&unknown, true), Ok(unknown.wire));
}

#[test]
fn the_end_waits_until_all_is_verified() {
    let data = vec![7; 5 * limits::PAYLOAD_TAIL_BYTES];
    let mut out = Vec::new();
    let digest = Payload::Digest(sha256(&data));
    let mut inspector = Inspector::new(digest, Declared::default(), None, None, true).unwrap();
    assert_eq!(inspector.feed(&data, &mut out), Ok(data.len()));
    assert_eq!(out.len() + limits::PAYLOAD_TAIL_BYTES, data.len());
    inspector.finish(&mut out).unwrap();
    assert_eq!(out, data);

    let parts = good_parts(UNSIGNED);
    let upload = upload(UNSIGNED, parts.concat());
    let mut inspector = upload.inspector(theirs(), ours(), true).unwrap();
    out.clear();
    inspector.feed(&upload.wire, &mut out).unwrap();
    assert_eq!(out, parts[..3].concat());
    inspector.finish(&mut out).unwrap();
    assert_eq!(out, upload.wire);
}

#[test]
fn a_chunk_is_held_until_its_signature_is_known_to_fit() {
    let parts = good_parts(SIGNED);
    let upload = upload(SIGNED, parts.concat());
    let mut inspector = upload.inspector(theirs(), ours(), false).unwrap();
    let (mut out, front) = (Vec::new(), parts[0].len() - 1);
    inspector.feed(&upload.wire[..front], &mut out).unwrap();
    assert_eq!((out.len(), inspector.held_bytes()), (0, front - 1));
    inspector.feed(b"\n", &mut out).unwrap();
    assert_eq!((out.len(), inspector.held_bytes()), (front + 1, 0));
}

#[test]
fn no_more_is_given_at_a_time_than_was_asked_for() {
    let chunk = vec![1; 100_000];
    let chunks = [&chunk[..]; 10];
    let mut upload = upload(SIGNED, parts(Some(theirs()), &chunks, None).concat());
    upload.length = Some(1_000_000);
    let mut inspector = upload.inspector(theirs(), ours(), false).unwrap();
    let (mut out, mut at, mut given) = (Vec::new(), 0, 0);
    while at < upload.wire.len() {
        at += inspector.feed(&upload.wire[at..], &mut out).unwrap();
        assert!(out.len() < limits::PAYLOAD_RELEASE_BYTES + 101_000, "{}", out.len());
        given += std::mem::take(&mut out).len();
    }
    inspector.finish(&mut out).unwrap();
    assert_eq!(given + out.len(), upload.wire.len());
}

#[test]
fn nothing_of_a_payload_is_shown() {
    let upload = upload(TRAILED, good_parts(TRAILED).concat());
    let shown = format!("{:?}", upload.inspector(theirs(), ours(), true).unwrap());
    assert!(shown.contains("Signing(..)") && shown.contains("[Crc32]"), "{shown}");
}

proptest! {
    #[test]
    fn a_good_upload_is_a_good_upload_under_our_signature(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 0..6),
        kind in 0..5_usize,
        algorithm in prop::sample::select(&Algorithm::ALL[..]),
        is_verifying: bool,
        steps in prop::collection::vec(1..3000_usize, 1..20),
    ) {
        let slices: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
        let data = slices.concat();
        let value = checksum(algorithm, &data);
        let text = format!("{value:?}");
        let trailer = Some((algorithm.field(), &*text));
        let (payload, wire) = match kind {
            0 => (SIGNED, parts(Some(theirs()), &slices, None).concat()),
            1 => (TRAILED, parts(Some(theirs()), &slices, trailer).concat()),
            2 => (UNSIGNED, parts(None, &slices, trailer).concat()),
            3 => (Payload::Digest(sha256(&data)), data.clone()),
            _ => (Payload::Unsigned, data.clone()),
        };
        let upload = Upload {
            payload,
            length: payload.form().map(|_| data.len() as u64),
            trailer: payload.form().filter(|form| form.has_trailer).map(|_| algorithm.field()),
            checksums: vec![Expected { algorithm, value }],
            wire,
        };
        let mut turn = steps.iter().cycle();
        let inspector = upload.inspector(theirs(), ours(), is_verifying).unwrap();
        let (given, verdict) = run(inspector, &upload.wire, &mut || *turn.next().unwrap());
        prop_assert_eq!(verdict, Ok(()));
        prop_assert_eq!(given.len(), upload.wire.len());
        let again = upload.inspector(ours(), theirs(), true).unwrap();
        let (back, verdict) = run(again, &given, &mut || *turn.next().unwrap());
        prop_assert_eq!(verdict, Ok(()));
        prop_assert_eq!(&back, &upload.wire);
        let is_framed = payload.form().is_some();
        prop_assert_eq!(if is_framed { decode(&given) } else { given.clone() }, data);
        let is_signed = payload.form().is_some_and(|form| form.is_signed);
        prop_assert_eq!(given != upload.wire, is_signed);
    }

    #[test]
    fn no_byte_of_a_signed_upload_can_be_changed(at in any::<prop::sample::Index>(), bit in 0..8, is_trailed: bool) {
        let payload = if is_trailed { TRAILED } else { SIGNED };
        let mut upload = upload(payload, good_parts(payload).concat());
        let at = at.index(upload.wire.len());
        upload.wire[at] ^= 1_u8 << bit;
        // The names of trailers are signed in lower case, and the digits of a size mean the same in both.
        let means_the_same = upload.wire.eq_ignore_ascii_case(&good_parts(payload).concat());
        prop_assert!(inspect(&upload, false).is_err() || means_the_same);
    }
}
