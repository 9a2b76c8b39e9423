//! Any bytes as a form that uploads a file, and as the policy of one.

use filmgate::limits;
use filmgate::s3::form::{Boundary, Fate, FileEnd, Form, FormError};
use filmgate::sign::form::{Circumstances, FormClaim, FormRefusal, Signer, verify};
use filmgate::sign::key::{Scope, Secret, SigningKey};
use filmgate::sign::time::Stamp;

const CONTENT_TYPE: &[u8] = b"multipart/form-data; boundary=b";
const CREDENTIAL: &[u8] = b"AKTHEIRS/20151229/us-east-1/s3/aws4_request";
const NOW: u64 = 1_451_347_200;

pub(crate) fn run(data: &[u8]) {
    read(data);
    // Nothing else is JSON that could be a policy, and signatures are dear.
    if matches!(data.first(), Some(b'{' | b'[')) {
        judge(data);
    }
}

/// Fields, and bytes of the head.
type Read = (Vec<(Vec<u8>, Vec<u8>)>, usize);

fn fields_of(boundary: &Boundary, bytes: &[u8]) -> Result<Option<Read>, FormError> {
    let form = Form::read(boundary, bytes)?;
    Ok(form.map(|form| {
        let fields = form.fields().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
        (fields, form.head_bytes())
    }))
}

fn read(data: &[u8]) {
    let boundary = Boundary::of(CONTENT_TYPE).expect("a boundary");
    let at_once = fields_of(&boundary, data);
    let (mut steps, mut arrived) = (super::Steps::of(data), 0);
    let stepwise = loop {
        arrived = (arrived + steps.next()).min(data.len());
        match fields_of(&boundary, &data[..arrived]) {
            Ok(None) if arrived < data.len() => {}
            verdict => break verdict,
        }
    };
    assert_eq!(at_once, stepwise, "a form depends on how its bytes arrive");
    let Ok(Some((fields, head_bytes))) = at_once else { return };

    assert!(head_bytes <= limits::FORM_HEAD_BYTES_MAX && fields.len() <= limits::FORM_PARTS_MAX);
    let (head, rest) = data.split_at(head_bytes);
    // Every part is one that a second reader finds at its boundary, and there are no other boundaries.
    let pieces = split(head, b"--b");
    assert_eq!((pieces.len(), pieces[0].len()), (fields.len() + 2, 0));
    for ((name, value), piece) in fields.iter().zip(&pieces[1..]) {
        let blank = piece.windows(4).position(|four| four == b"\r\n\r\n").expect("an empty line");
        assert_eq!(&piece[blank + 4..], [&value[..], b"\r\n"].concat());
        assert!(!name.is_empty() && piece[..blank].windows(name.len()).any(|window| window == &name[..]));
    }
    let form = Form::read(&boundary, head).expect("read before").expect("complete");
    let mut again = Vec::new();
    form.write(|_| Fate::Kept, &[], &mut again);
    assert_eq!(again, head);
    read_end(&form, rest, &mut steps);
}

fn split<'a>(mut bytes: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = bytes.windows(by.len()).position(|window| window == by) {
        pieces.push(&bytes[..at]);
        bytes = &bytes[at + by.len()..];
    }
    pieces.push(bytes);
    pieces
}

fn read_end(form: &Form<'_>, rest: &[u8], steps: &mut super::Steps) {
    let feed = |mut end: FileEnd, step: &mut dyn FnMut() -> usize| {
        let mut at = 0;
        while at < rest.len() {
            let next = (at + step()).min(rest.len());
            end.feed(&rest[at..next])?;
            at = next;
        }
        end.finish()
    };
    let at_once = feed(form.file_end(), &mut || rest.len());
    assert_eq!(at_once, feed(form.file_end(), &mut || steps.next()));
    assert_eq!(at_once, feed(form.file_end(), &mut || 1));
    let first = [&b"\n"[..], rest].concat().windows(4).position(|window| window == b"\n--b");
    let file = first.and_then(|at| at.checked_sub(2)).filter(|at| rest[*at] == b'\r');
    let naive = file.filter(|at| [&b"\r\n--b--"[..], b"\r\n--b--\r\n"].contains(&&rest[*at..]));
    assert_eq!(at_once.ok(), naive.map(|at| at as u64));
    if let Some(file) = naive {
        let possible = form.file_bytes((form.head_bytes() + rest.len()) as u64).expect("room for the end");
        assert!(possible.contains(&(file as u64)));
    }
}

/// The bytes as the policy of a form that is rightly signed.
fn judge(data: &[u8]) {
    let key_for = |region: &[u8]| {
        SigningKey::derive(&Secret::new("secret".into()), Scope { date: b"20151229", region, service: b"s3" })
    };
    let (policy, mut signature) = (base64(data), Vec::new());
    key_for(b"us-east-1").sign(&policy).write_hex(&mut signature);
    let mut body = Vec::new();
    for (name, value) in [
        ("key", &b"shots/${filename}"[..]),
        ("acl", b"private"),
        ("x-amz-algorithm", b"AWS4-HMAC-SHA256"),
        ("x-amz-credential", CREDENTIAL),
        ("x-amz-date", b"20151229T000000Z"),
        ("policy", &policy),
        ("x-amz-signature", &signature),
    ] {
        body.extend_from_slice(format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n").as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b\r\nContent-Disposition: form-data; name=file; filename=a.mov\r\n\r\n");
    let boundary = Boundary::of(CONTENT_TYPE).expect("a boundary");
    let Ok(form) = Form::read(&boundary, &body) else {
        assert!(policy.len() > limits::FORM_HEAD_BYTES_MAX / 2);
        return;
    };
    let form = form.expect("a whole head");
    let claim = FormClaim::read(&form).expect("a signed form");
    let at = Circumstances { bucket: "media", region: "us-east-1", now: NOW };
    let verified = match verify(&form, &claim, &key_for(b"us-east-1"), at) {
        Ok(verified) => verified,
        Err(refusal) => {
            assert!(matches!(refusal.code().0, 400 | 403) && refusal != FormRefusal::SignatureDoesNotMatch);
            return;
        }
    };
    assert_eq!(verified.key(), b"shots/a.mov");
    let ours = key_for(b"us-west-2");
    let now = Stamp::at(NOW);
    let signer = Signer { access_key: "AKOURS", token: Some("t"), key: &ours, region: "us-west-2", now, seconds: 900 };
    let head = verified.rewrite(&signer, None).expect("a short form");
    let form = Form::read(&boundary, &head).expect("read before").expect("complete");
    let claim = FormClaim::read(&form).expect("signed anew");
    let again = verify(&form, &claim, &ours, Circumstances { region: "us-west-2", ..at }).expect("signed by us");
    assert_eq!((again.key(), again.sizes()), (verified.key(), verified.sizes()));
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let letters = [18, 12, 6, 0].map(|shift| LETTERS[bits >> shift & 63]);
        out.extend_from_slice(&letters[..three.len() + 1]);
        out.extend_from_slice(&b"=="[..3 - three.len()]);
    }
    out
}
