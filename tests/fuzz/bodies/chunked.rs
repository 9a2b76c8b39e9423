//! Any bytes as a chunked body.

use filmgate::http::body::{BodyError, Chunked, Reader};
use filmgate::http::encode::{LAST_CHUNK, chunk_header};
use filmgate::http::framing::RequestBody;

/// What became of a body: its payload, the bytes it took, and whether it is complete.
type Read = (Vec<u8>, usize, bool);

pub(crate) fn run(data: &[u8]) {
    let at_once = read(data, &mut || data.len().max(1));
    let mut steps = super::Steps::of(data);
    assert_eq!(at_once, read(data, &mut || steps.next()), "a body depends on how its bytes arrive");
    assert_eq!(at_once, read(data, &mut || 1), "a body depends on how its bytes arrive");

    let complete = at_once.as_ref().ok().filter(|(_, _, done)| *done);
    let naive = naive(data);
    assert_eq!(complete.map(|(payload, consumed, _)| (payload.clone(), *consumed)), naive);

    let skimmed = Reader::from(RequestBody::Chunked).skim(data);
    match (&at_once, &skimmed) {
        (Ok((payload, consumed, done)), Ok(skim)) => {
            assert_eq!((payload.len(), *consumed, *done), (skim.payload, skim.consumed, skim.done));
        }
        (Err(a), Err(b)) => assert_eq!(a, b),
        _ => panic!("stepping and skimming disagree"),
    }
    if let Some((payload, _, _)) = complete {
        let again = encode(payload, &mut steps);
        assert_eq!(read(&again, &mut || again.len()), Ok((payload.clone(), again.len(), true)));
    }
}

/// Reads `wire` as it arrives in steps.
fn read(wire: &[u8], step: &mut dyn FnMut() -> usize) -> Result<Read, BodyError> {
    let (mut reader, mut payload, mut consumed, mut arrived) = (Chunked::new(), Vec::new(), 0, 0);
    while !reader.finished() && (consumed < arrived || arrived < wire.len()) {
        arrived = (arrived + step()).min(wire.len());
        let input = &wire[consumed..arrived];
        let piece = reader.advance(input)?;
        assert!(piece.consumed > 0 && piece.consumed <= input.len(), "no progress");
        assert!(piece.data.end <= piece.consumed);
        payload.extend_from_slice(&input[piece.data]);
        consumed += piece.consumed;
    }
    Ok((payload, consumed, reader.finished()))
}

/// The payload in chunks of any width.
pub(crate) fn encode(payload: &[u8], steps: &mut super::Steps) -> Vec<u8> {
    let (mut wire, mut rest) = (Vec::new(), payload);
    while !rest.is_empty() {
        let (chunk, next) = rest.split_at(steps.next().min(rest.len()));
        wire.extend_from_slice(chunk_header(chunk.len() as u64, &mut [0; 18]));
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
        rest = next;
    }
    wire.extend_from_slice(LAST_CHUNK);
    wire
}

/// A complete body read by a second reader that shares nothing with the first: payload and length on the wire.
fn naive(wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut payload, mut at, mut extensions, mut announced) = (Vec::new(), 0, 0, 0_u64);
    loop {
        let line = line_at(wire, at)?;
        let size_len = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
        let size = size_of(&line[..size_len])?;
        extensions += line.len() - size_len;
        if line.len() + 2 > 4096 || extensions > 4 * 4096 || !is_extension(&line[size_len..]) {
            return None;
        }
        let other = httparse::parse_chunk_size(&wire[at..]).expect("a plain size line");
        assert_eq!(other, httparse::Status::Complete((line.len() + 2, size)), "another parser reads another size");
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        announced = announced.checked_add(size).filter(|sum| *sum <= i64::MAX as u64)?;
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        payload.extend_from_slice(wire.get(at..end)?);
        if wire.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    let start = at;
    loop {
        let line = line_at(wire, at)?;
        at += line.len() + 2;
        if at - start > 8192 {
            return None;
        }
        if line.is_empty() {
            return Some((payload, at));
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_token(name) || is_forbidden(name) || !value.iter().all(is_text) {
            return None;
        }
    }
}

fn line_at(wire: &[u8], at: usize) -> Option<&[u8]> {
    let rest = wire.get(at..)?;
    rest.windows(2).position(|pair| pair == b"\r\n").map(|end| &rest[..end])
}

fn size_of(digits: &[u8]) -> Option<u64> {
    let plain = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    plain.then(|| u64::from_str_radix(std::str::from_utf8(digits).expect("digits"), 16).expect("16 digits"))
}

/// Whether `rest` is any number of `;name`, `;name=token` and `;name="quoted"`.
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = rest.strip_prefix(b";") else { return false };
        let name_len = name.iter().position(|byte| !is_token(&[*byte])).unwrap_or(name.len());
        if name_len == 0 {
            return false;
        }
        rest = &name[name_len..];
        let Some(value) = rest.strip_prefix(b"=") else { continue };
        let value_len = match value {
            [b'"', ..] => quoted_len(value),
            _ => value.iter().position(|byte| !is_token(&[*byte])).unwrap_or(value.len()),
        };
        if value_len == 0 {
            return false;
        }
        rest = &value[value_len..];
    }
    true
}

/// Length of the quoted string at the front; 0 when there is none.
fn quoted_len(value: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' if value.get(at + 1).is_some_and(is_text) => at += 2,
            b'\\' => return 0,
            _ if is_text(byte) => at += 1,
            _ => return 0,
        }
    }
    0
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_text(byte: &u8) -> bool {
    *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)
}

fn is_forbidden(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
    let framing = "content-length transfer-encoding connection keep-alive te trailer upgrade host expect";
    let meaning = "content-encoding content-type content-range range authorization cookie set-cookie";
    let proxy = "proxy-authorization proxy-connection";
    [framing, meaning, proxy].iter().any(|list| list.split(' ').any(|forbidden| forbidden == name))
}
