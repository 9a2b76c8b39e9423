use super::*;
use crate::http::head::RequestHead;
use crate::sign::claim::{self, Malformed};
use crate::sign::key::Secret;

/// The examples of AWS, "Signature Calculations for the Authorization Header" and "Using Query Parameters".
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const DAY: u64 = 1_369_353_600;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Fine(Vec<u8>),
    Unsigned,
    Malformed(Malformed),
    Refused(Refusal),
}

fn judge(head: &str, now: u64) -> Judged {
    let block = head.replace('\n', "\r\n").into_bytes();
    let parsed = RequestHead::parse(&block).unwrap();
    let target = Target::parse(parsed.target(&block));
    let claim = match claim::read(target, &parsed.fields, &block) {
        Ok(Some(claim)) => claim,
        Ok(None) => return Judged::Unsigned,
        Err(malformed) => return Judged::Malformed(malformed),
    };
    assert_eq!(claim.access_key(), ACCESS_KEY.as_bytes());
    let key = SigningKey::derive(&Secret::new(SECRET.into()), claim.scope());
    let evidence = Evidence { method: parsed.method(&block), target, fields: &parsed.fields, block: &block };
    let framed = check_frame(&claim, now, "us-east-1");
    match framed.and_then(|framed| verify(framed, &key, &evidence, &mut Scratch::default())) {
        Ok(payload) => Judged::Fine(payload.to_vec()),
        Err(refusal) => Judged::Refused(refusal),
    }
}

fn signed(line: &str, fields: &str, names: &str, payload: &str, signature: &str) -> String {
    format!(
        "{line} HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nAuthorization: AWS4-HMAC-SHA256 \
        Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={names},Signature={signature}\n\
        {fields}x-amz-content-sha256: {payload}\nx-amz-date: 20130524T000000Z\n\n"
    )
}

fn get_object() -> String {
    signed(
        "GET /test.txt",
        "Range: bytes=0-9\n",
        "host;range;x-amz-content-sha256;x-amz-date",
        EMPTY,
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    )
}

fn presigned() -> String {
    format!(
        "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ACCESS_KEY}%2F20130524%2Fus-east-1%2Fs3%2F\
        aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
        aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\n\
        Host: examplebucket.s3.amazonaws.com\n\n"
    )
}

#[test]
fn the_examples_of_aws_are_verified() {
    assert_eq!(judge(&get_object(), DAY), Judged::Fine(EMPTY.into()));
    assert_eq!(judge(&presigned(), DAY), Judged::Fine(UNSIGNED_PAYLOAD.into()));
    let names = "host;x-amz-content-sha256;x-amz-date";
    let lifecycle = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    assert_eq!(judge(&signed("GET /?lifecycle", "", names, EMPTY, lifecycle), DAY), Judged::Fine(EMPTY.into()));
    let list = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    assert_eq!(judge(&signed("GET /?max-keys=2&prefix=J", "", names, EMPTY, list), DAY), Judged::Fine(EMPTY.into()));
    let digest = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let put = signed(
        "PUT /test$file.text",
        "Date: Fri, 24 May 2013 00:00:00 GMT\nx-amz-storage-class: REDUCED_REDUNDANCY\n",
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        digest,
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    assert_eq!(judge(&put, DAY), Judged::Fine(digest.into()));
    assert_eq!(judge(&put.replace("test$file", "test%24file"), DAY), Judged::Fine(digest.into()));
}

#[test]
fn no_byte_of_what_is_signed_can_be_changed() {
    for head in [get_object(), presigned()] {
        let end = head.find(" HTTP/").unwrap();
        for at in 5..end {
            let mut changed = head.clone().into_bytes();
            changed[at] = if changed[at] == b'q' { b'r' } else { b'q' };
            let judged = judge_bytes(changed);
            assert!(!matches!(judged, Some(Judged::Fine(_))), "at {at} of {head}");
        }
    }
}

/// As [`judge`], for what may be no head, or name another key.
fn judge_bytes(head: Vec<u8>) -> Option<Judged> {
    let head = String::from_utf8(head).ok()?;
    head.contains(ACCESS_KEY).then(|| judge(&head, DAY))
}

#[test]
fn a_request_is_good_for_fifteen_minutes_around_its_date_and_a_link_until_it_expires() {
    for (now, expected) in [(DAY - 900, true), (DAY - 901, false), (DAY + 900, true), (DAY + 901, false)] {
        let expected = if expected { Judged::Fine(EMPTY.into()) } else { Judged::Refused(Refusal::Skewed) };
        assert_eq!(judge(&get_object(), now), expected, "{now}");
    }
    for (now, expected) in [
        (DAY - 901, Some(Refusal::NotYet)),
        (DAY - 900, None),
        (DAY + 86_400, None),
        (DAY + 86_401, Some(Refusal::Expired)),
    ] {
        let expected = expected.map_or(Judged::Fine(UNSIGNED_PAYLOAD.into()), Judged::Refused);
        assert_eq!(judge(&presigned(), now), expected, "{now}");
    }
}

#[test]
fn what_s3_would_refuse_is_refused() {
    use Malformed::{NoDate, TwoMechanisms, Unsupported};
    use Refusal::{Mismatch, NoDigest, NotSigned, WrongDay, WrongScope};
    for (from, to, expected) in [
        ("GET ", "PUT ", Judged::Refused(Mismatch)),
        ("bytes=0-9", "bytes=0-8", Judged::Refused(Mismatch)),
        ("examplebucket", "otherbucket", Judged::Refused(Mismatch)),
        ("us-east-1", "eu-west-1", Judged::Refused(WrongScope)),
        ("/s3/", "/ec2/", Judged::Refused(WrongScope)),
        ("/20130524/", "/20130523/", Judged::Refused(WrongDay)),
        ("Range:", "x-amz-acl: public-read\nRange:", Judged::Refused(NotSigned)),
        ("Range:", "X-Amz-Acl: public-read\nRange:", Judged::Refused(NotSigned)),
        ("Range:", "Range: bytes=1-2\nRange:", Judged::Refused(Mismatch)),
        (&format!("x-amz-content-sha256: {EMPTY}\n"), "", Judged::Refused(NoDigest)),
        ("x-amz-date: 20130524T000000Z\n", "", Judged::Malformed(NoDate)),
        ("Range:", "x-amz-date: 20130524T000000Z\nRange:", Judged::Malformed(NoDate)),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", Judged::Malformed(Unsupported)),
        ("AWS4-HMAC-SHA256 ", "AWS ", Judged::Malformed(Unsupported)),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256", Judged::Malformed(Unsupported)),
        ("/test.txt", "/test.txt?X-Amz-Signature=00", Judged::Malformed(TwoMechanisms)),
        ("/test.txt", "/test.txt?X-Amz-Credential=a", Judged::Malformed(TwoMechanisms)),
        ("/test.txt", "/test.txt?x-amz-%73ecurity-token=a", Judged::Malformed(TwoMechanisms)),
        ("/test.txt", "/test.txt?AWSAccessKeyId=A", Judged::Malformed(TwoMechanisms)),
        ("Range:", "Authorization: Basic YQ==\nRange:", Judged::Malformed(TwoMechanisms)),
        ("Authorization:", "X-Authorization:", Judged::Unsigned),
    ] {
        let head = get_object();
        assert!(head.contains(from), "{from}");
        assert_eq!(judge(&head.replace(from, to), DAY), expected, "{from} -> {to}");
    }
}

#[test]
fn an_authorization_field_is_taken_in_its_one_form() {
    let table = [
        (",SignedHeaders", ", SignedHeaders", true),
        (",Signature=", ",  Signature=", true),
        (",Signature=", ",Signature=0", false),
        (",Signature=f0", ",Signature=F0", false),
        (",Signature=", ",Signature=f0,Signature=", false),
        (",Signature=", ",Sig=", false),
        ("host;range;", "range;host;", false),
        ("host;range;", "host;host;range;", false),
        ("host;range;", "Host;range;", false),
        ("host;range;", "range;", false),
        ("host;range;", "host;;range;", false),
        ("/aws4_request", "", false),
        ("/aws4_request", "/aws4_request/", false),
        ("/20130524/", "/2013524/", false),
        ("Credential=AKIAIOSFODNN7EXAMPLE/", "Credential=/", false),
        (",SignedHeaders", ",,SignedHeaders", false),
        ("/s3/", "/s 3/", false),
    ];
    for (from, to, is_fine) in table {
        let head = get_object();
        assert!(head.contains(from), "{from}");
        let judged = judge(&head.replacen(from, to, 1), DAY);
        match is_fine {
            true => assert_eq!(judged, Judged::Fine(EMPTY.into()), "{to}"),
            false => assert!(matches!(judged, Judged::Malformed(Malformed::Field(_))), "{from} -> {to}: {judged:?}"),
        }
    }
}

#[test]
fn a_link_is_taken_in_its_one_form() {
    for (from, to) in [
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256&", ""),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256&", "X-Amz-Algorithm=AWS4-HMAC-SHA1&"),
        ("X-Amz-Expires=86400&", ""),
        ("X-Amz-Expires=86400", "X-Amz-Expires=604801"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=-1"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=+1"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=99999999999999999999"),
        ("X-Amz-Expires=86400", "X-Amz-Expires="),
        ("X-Amz-Expires=86400", "X-Amz-Expires=86400&X-Amz-Expires=604800"),
        ("X-Amz-Expires=86400", "x-amz-expires=86400"),
        ("X-Amz-Date=20130524T000000Z&", ""),
        ("X-Amz-Date=20130524T000000Z", "X-Amz-Date=20130524T0000Z"),
        ("X-Amz-SignedHeaders=host&", ""),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=range"),
        ("%2Faws4_request", ""),
        ("X-Amz-Signature=aeee", "X-Amz-Signature=AEEE"),
        ("X-Amz-Signature=", "X-Amz-Signature=00&X-Amz-Signature="),
    ] {
        let head = presigned();
        assert!(head.contains(from), "{from}");
        let judged = judge(&head.replacen(from, to, 1), DAY);
        assert!(matches!(judged, Judged::Malformed(Malformed::Query(_))), "{from} -> {to}: {judged:?}");
    }
}

#[test]
fn how_a_client_escapes_does_not_matter_and_what_it_means_does() {
    let head = presigned();
    assert_eq!(judge(&head.replace("/test.txt", "/%74est%2Etxt"), DAY), Judged::Fine(UNSIGNED_PAYLOAD.into()));
    for path in ["//test.txt", "/./test.txt", "/a/../test.txt", "/test.txt/", "/test%252Etxt", "/Test.txt"] {
        assert_eq!(judge(&head.replace("/test.txt", path), DAY), Judged::Refused(Refusal::Mismatch), "{path}");
    }
    let reordered = head
        .replace("X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400", "X-Amz-Expires=86400&X-Amz-Date=20130524T000000Z");
    assert_eq!(judge(&reordered, DAY), Judged::Fine(UNSIGNED_PAYLOAD.into()));
    let more = head.replace("X-Amz-Expires", "versionId=1&X-Amz-Expires");
    assert_eq!(judge(&more, DAY), Judged::Refused(Refusal::Mismatch));
}
