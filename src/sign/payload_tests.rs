use proptest::prelude::*;

use super::*;
use crate::sign::key::{Scope, Secret, SigningKey};
use crate::sign::time::Stamp;

#[path = "payload_hostile_tests.rs"]
mod hostile;

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
