//! Forms signed anew, judged by an S3 server that shares no code with the gate: s3s over a directory.
#![cfg(feature = "demo")]

use filmgate::clock;
use filmgate::s3::form::{Boundary, Form};
use filmgate::sign::form::{Circumstances, FormClaim, Signer, verify};
use filmgate::sign::key::{Scope, Secret, SigningKey};
use filmgate::sign::time::Stamp;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

const BUCKET: &str = "mystudio-media";
const FILE: &[u8] = b"frames\r\n--xYz\r\n--\r\nmore frames";
const CLOSING: &[u8] = b"\r\n--xYzZ--\r\n";

fn key(secret: &str, region: &str, now: Stamp) -> SigningKey {
    let scope = Scope { date: now.date(), region: region.as_bytes(), service: b"s3" };
    SigningKey::derive(&Secret::new(secret.into()), scope)
}

/// Base64, for policies whose length is a multiple of three.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padded = format!("{text}{}", " ".repeat((3 - text.len() % 3) % 3));
    let letters = padded.as_bytes().chunks(3).flat_map(|three| {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[bits >> shift & 63]))
    });
    letters.collect()
}

/// The head of a form that a client signed for shots/ and up to 64 bytes.
fn head_of_client(now: Stamp) -> Vec<u8> {
    let date = String::from_utf8(now.text().to_vec()).unwrap();
    let credential = format!("AKCLIENT/{}/eu-west-1/s3/aws4_request", &date[..8]);
    let policy = base64(&format!(
        r#"{{"expiration":"2999-01-01T00:00:00Z","conditions":[{{"bucket":"{BUCKET}"}},["starts-with","$key","shots/"],
        ["starts-with","$x-amz-meta-take",""],["content-length-range",1,64],{{"success_action_status":"201"}},
        {{"x-amz-credential":"{credential}"}},{{"x-amz-date":"{date}"}},{{"x-amz-algorithm":"AWS4-HMAC-SHA256"}}]}}"#
    ));
    let mut signature = Vec::new();
    key("the client's", "eu-west-1", now).sign(policy.as_bytes()).write_hex(&mut signature);
    let mut head = String::new();
    for (name, value) in [
        ("key", "shots/a b.mov"),
        ("x-amz-meta-take", "\"7\" \\ $"),
        ("success_action_status", "201"),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Date", &date),
        ("Policy", &policy),
        ("X-Amz-Signature", std::str::from_utf8(&signature).unwrap()),
    ] {
        head += &format!("--xYzZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    head += "--xYzZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"c.mov\"\r\nContent-Type: video/mp4\r\n\r\n";
    head.into_bytes()
}

/// Sends a form to a fresh server that knows the gate's key only. Returns its status and what it has stored.
async fn send(body: Vec<u8>) -> (u16, Option<Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
    builder.set_auth(SimpleAuth::from_single("AKGATE", "the gate's"));
    let request = hyper::Request::post(format!("/{BUCKET}"))
        .header("host", "s3.example")
        .header("content-type", "multipart/form-data; boundary=xYzZ")
        .header("content-length", body.len())
        .body(s3s::Body::from(body))
        .unwrap();
    let response = builder.build().call(request).await.unwrap();
    (response.status().as_u16(), std::fs::read(directory.path().join(BUCKET).join("shots/a b.mov")).ok())
}

/// The head in the gate's name.
fn anew(head: &[u8], now: Stamp) -> Vec<u8> {
    let boundary = Boundary::of(b"multipart/form-data; boundary=xYzZ").unwrap();
    let form = Form::read(&boundary, head).unwrap().unwrap();
    let claim = FormClaim::read(&form).unwrap();
    let at = Circumstances { bucket: BUCKET, region: "eu-west-1", now: now.seconds() };
    let verified = verify(&form, &claim, &key("the client's", "eu-west-1", now), at).unwrap();
    let ours = key("the gate's", "us-west-2", now);
    let signer = Signer { access_key: "AKGATE", token: None, key: &ours, region: "us-west-2", now, seconds: 900 };
    let total = (head.len() + FILE.len() + CLOSING.len()) as u64;
    verified.rewrite(&signer, Some(total)).unwrap()
}

#[tokio::test]
async fn a_form_signed_anew_is_stored_by_another_server() {
    let now = Stamp::at(clock::unix_seconds());
    let theirs = head_of_client(now);
    let ours = anew(&theirs, now);
    let body = |head: &[u8], file: &[u8]| [head, file, CLOSING].concat();
    assert_eq!(send(body(&ours, FILE)).await, (201, Some(FILE.to_vec())));
    // It is the gate's signature that it took, and the gate's policy that it judged by.
    assert_eq!(send(body(&theirs, FILE)).await, (403, None));
    let other_key = String::from_utf8(ours.clone()).unwrap().replace("shots/a b.mov", "shots/a_b.mov");
    let (status, _) = send(body(other_key.as_bytes(), FILE)).await;
    assert!((400..404).contains(&status), "{status}");
    for file in [&FILE[3..], &[FILE, b"!!!"].concat()] {
        assert_eq!(send(body(&ours, file)).await, (400, None));
    }
}
