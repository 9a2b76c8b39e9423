//! Any bytes as a signed upload: one letter for the form, the declared length, a line feed, and what is sent.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use filmgate::sign::checksum::{Algorithm, Running};
use filmgate::sign::chunks::Chain;
use filmgate::sign::key::{Scope, Secret, Signature, SigningKey};
use filmgate::sign::payload::{Declared, Inspector, Payload, PayloadError};
use filmgate::sign::time::Stamp;

const SCOPE: Scope<'_> = Scope { date: b"20130524", region: b"us-east-1", service: b"s3" };
const TRAILER: &str = "x-amz-checksum-crc32c";

/// The keys of the client, which are those in AWS's examples, and the gate's.
static KEYS: LazyLock<[SigningKey; 2]> = LazyLock::new(|| {
    ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "the gate's"]
        .map(|secret| SigningKey::derive(&Secret::new(secret.into()), SCOPE))
});

fn chain(who: usize) -> Chain {
    let stamp = Stamp::parse(b"20130524T000000Z").expect("a time");
    let seed = b"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    Chain::new(KEYS[who].clone(), &stamp, SCOPE, Signature::from_hex(seed).expect("a signature"))
}

/// What was given before the end, and what became of it: all that was given, or what is wrong.
type Inspected = (Vec<u8>, Result<Vec<u8>, PayloadError>);

pub(crate) fn run(data: &[u8]) {
    let (payload, length, wire) = read_script(data);
    let mut steps = super::Steps::of(data);
    let (before, verdict) = inspect(payload, length, wire, &mut || wire.len(), [0, 1]);
    for (_, other) in [
        inspect(payload, length, wire, &mut || steps.next(), [0, 1]),
        inspect(payload, length, wire, &mut || 1, [0, 1]),
    ] {
        assert_eq!(verdict, other, "it depends on how the bytes arrive");
    }
    let is_framed = payload.form().is_some();
    match &verdict {
        Ok(given) => {
            assert_eq!(given.len(), wire.len());
            assert!(before.len() < given.len() || given.is_empty(), "the end was given early");
            if is_framed {
                assert_eq!(naive(given).map(|payload| payload.len() as u64), Some(length));
            }
            assert_eq!(inspect(payload, length, given, &mut || steps.next(), [1, 0]).1.as_deref(), Ok(wire));
        }
        Err(_) if is_framed => {
            let upstream = inspect(payload, length, &before, &mut || before.len(), [1, 0]).1;
            assert!(upstream.is_err(), "what is wrong is complete upstream");
        }
        Err(_) => {}
    }
    made(wire, &mut steps);
}

/// `payload` as an upload that is right, and then with one bit changed.
fn made(payload: &[u8], steps: &mut super::Steps) {
    let (form, length) = (Payload::StreamingSignedTrailer, payload.len() as u64);
    let good = encode(payload, steps);
    let (_, given) = inspect(form, length, &good, &mut || steps.next(), [0, 1]);
    let given = given.expect("an upload that is right");
    assert_eq!(naive(&given).as_deref(), Some(payload));
    let mut wrong = good.clone();
    let at = (0..4).fold(0, |at, _| at << 8 | usize::from(steps.next_byte())) % wrong.len();
    wrong[at] ^= 1 << (steps.next_byte() & 7);
    if !wrong.eq_ignore_ascii_case(&good) {
        let (before, verdict) = inspect(form, length, &wrong, &mut || steps.next(), [0, 1]);
        assert!(verdict.is_err() && given.starts_with(&before), "a change went unseen");
    }
}

fn read_script(data: &[u8]) -> (Payload, u64, &[u8]) {
    let (letter, rest) = data.split_first().unwrap_or((&b'U', b""));
    let end = rest.iter().take(20).position(|&byte| byte == b'\n');
    let number = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok()?.parse().ok());
    let wire = end.map_or(rest, |end| &rest[end + 1..]);
    let payload = match letter {
        b'S' => Payload::StreamingSigned,
        b'T' => Payload::StreamingSignedTrailer,
        b'D' => Payload::Digest(sha256(&wire[..wire.len().min(number.unwrap_or(0) as usize)])),
        b'E' => Payload::Empty,
        b'P' => Payload::Unsigned,
        _ => Payload::StreamingUnsignedTrailer,
    };
    (payload, number.unwrap_or(wire.len() as u64), wire)
}

fn inspect(payload: Payload, length: u64, wire: &[u8], step: &mut dyn FnMut() -> usize, who: [usize; 2]) -> Inspected {
    let trailer = payload.form().filter(|form| form.has_trailer).map(|_| TRAILER.as_bytes());
    let declared = Declared { decoded_length: Some(length), trailer, checksums: &[] };
    let [theirs, ours] = who.map(|who| Some(chain(who)));
    let mut inspector = Inspector::new(payload, declared, theirs, ours, true).expect("a declaration");
    let (mut given, mut at, mut arrived) = (Vec::new(), 0, 0);
    while at < wire.len() {
        arrived = if at == arrived { (arrived + step().max(1)).min(wire.len()) } else { arrived };
        match inspector.feed(&wire[at..arrived], &mut given) {
            Ok(taken) => {
                assert!(taken > 0 && taken <= arrived - at, "no progress");
                at += taken;
            }
            Err(failure) => return (given, Err(failure)),
        }
    }
    let before = given.clone();
    let verdict = inspector.finish(&mut given).map(|()| given);
    (before, verdict)
}

/// `payload` in signed chunks of any width, and its checksum.
fn encode(payload: &[u8], steps: &mut super::Steps) -> Vec<u8> {
    let (mut wire, mut rest, mut chain) = (Vec::new(), payload, chain(0));
    loop {
        let (data, next) = rest.split_at((8 * steps.next()).min(rest.len()));
        wire.extend_from_slice(format!("{:x};chunk-signature=", data.len()).as_bytes());
        chain.chunk(&sha256(data)).write_hex(&mut wire);
        wire.extend_from_slice(b"\r\n");
        if data.is_empty() {
            break;
        }
        wire.extend_from_slice(data);
        wire.extend_from_slice(b"\r\n");
        rest = next;
    }
    let mut sum = Running::new(Algorithm::Crc32C);
    sum.update(payload);
    let line = format!("{TRAILER}:{:?}", sum.finish());
    wire.extend_from_slice(format!("{line}\r\nx-amz-trailer-signature:").as_bytes());
    chain.trailer(&sha256(format!("{line}\n").as_bytes())).write_hex(&mut wire);
    wire.extend_from_slice(b"\r\n\r\n");
    wire
}

/// The payload, by a reader that shares nothing with the other and believes everything.
fn naive(wire: &[u8]) -> Option<Vec<u8>> {
    let (mut payload, mut rest) = (Vec::new(), wire);
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = std::str::from_utf8(rest[..end].split(|&byte| byte == b';').next()?).ok()?;
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            return Some(payload);
        }
        payload.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes")
}
