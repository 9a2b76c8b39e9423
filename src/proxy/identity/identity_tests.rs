use std::net::IpAddr;

use super::*;
use crate::buffer::Buffer;
use crate::http::framing;
use crate::http::head::RequestHead;
use crate::policy::identity::{Client, ClientId, Presence};
use crate::policy::network::Network;
use crate::policy::route::{Bucket, Mode, ReSign, Route, Style, UpstreamHost};
use crate::policy::rules::{Rule, Rules, Who};
use crate::proxy::exchange::Request;
use crate::proxy::forward::Sending;
use crate::proxy::refusal::Refused;
use crate::s3::escape;
use crate::s3::features::FeatureSet;
use crate::s3::operation::Operations;
use crate::s3::target::Target;
use crate::sign::credentials::{Credentials, Token};
use crate::sign::key::{Scope, Secret, SigningKey};
use crate::sign::keyring::{Entry, Keyring};
use crate::sign::keys::Owner;
use crate::sign::request::Signer;
use crate::sign::time::Stamp;

const NOW: u64 = 1_790_000_000;
const KEY: &str = "AKRENDER0001";
const SECRET: &str = "a secret of the tests";
const HOST: &str = "s3.studio.test";

fn client(name: &str, access_key: Option<&str>, networks: &[&str]) -> Client {
    Client {
        name: name.into(),
        access_key: access_key.map(Into::into),
        networks: networks.iter().map(|text| text.parse::<Network>().unwrap()).collect(),
        ..Client::default()
    }
}

fn rule(clients: &[usize], operations: &[&'static str], prefixes: &[&str], features: Option<FeatureSet>) -> Rule {
    let operations = operations.iter().filter_map(|name| Operations::one(name)).fold(Operations::NONE, Operations::and);
    Rule {
        who: Who::Named(clients.iter().map(|id| ClientId(*id)).collect()),
        operations,
        named: operations,
        prefixes: prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect(),
        features,
    }
}

/// A farm with a key, workstations and guests without.
fn identity() -> Identity {
    let clients = vec![
        client("farm", Some(KEY), &[]),
        client("workstations", None, &["10.20.0.0/16"]),
        client("guests", None, &["10.20.5.0/24"]),
    ];
    let entry = Entry::new("farm".into(), ClientId(0), Secret::new(SECRET.into()), None);
    let slot = Slot::default();
    slot.set(Credentials {
        access_key: "ASIAROLE".into(),
        secret: Secret::new("the role's".into()),
        token: Some(Token::new("the/token".into())),
        expires: None,
        generation: 1,
    });
    Identity::new(Known {
        clients: Arc::new(Clients::new(clients)),
        keyring: Arc::new(Keyring::new(vec![(KEY.into(), entry)])),
        credentials: vec![Arc::new(slot)],
    })
}

fn route() -> Route {
    let bucket = |name: &str| Bucket { name: name.into(), host: format!("{name}.s3.us-west-2.amazonaws.com") };
    let everything =
        ["GetObject", "HeadObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListObjectsV2", "ListParts"];
    let allow = vec![rule(&[0], &everything, &[""], None), rule(&[1], &["GetObject", "PutObject"], &["shots/"], None)];
    let deny = vec![rule(&[0], &everything, &["my secret/"], None), rule(&[2], &["GetObject"], &[""], None)];
    Route {
        hosts: vec![HOST.into()],
        default: false,
        bucket: "media".into(),
        region: "us-west-2".into(),
        mode: Mode::ReSign(Box::new(ReSign {
            credential: 0,
            buckets: vec![bucket("media"), bucket("x.us-west-2.y")],
            is_endpoint: true,
            style: Style::Virtual,
            service_host: None,
            rules: Rules::new(allow, deny),
            verify_payload: false,
        })),
        host: UpstreamHost::Keep,
        upstream: 0,
    }
}

/// A target as S3 reads it.
fn recoded(target: &str) -> Vec<u8> {
    let target = Target::parse(target.as_bytes());
    let mut out = Vec::new();
    escape::recode_path(target.path(), &mut out);
    for (number, pair) in target.pairs().enumerate() {
        out.push(if number == 0 { b'?' } else { b'&' });
        escape::recode_form(pair.name, &mut out);
        out.push(b'=');
        escape::recode_form(pair.value.unwrap_or_default(), &mut out);
    }
    out
}

/// Signs the way a client of the farm does: `(name, value)` fields besides host, date and digest.
fn signed(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let stamp = Stamp::at(NOW);
    let scope = Scope::of_s3(&stamp, b"us-west-2");
    let key = SigningKey::derive(&Secret::new(SECRET.into()), scope);
    let signer = Signer { access_key: KEY, key: &key, region: b"us-west-2", stamp: &stamp };
    let mut composer = Composer::default();
    let mut composing = composer.begin((Owner::Client(0), signer, None), HOST.as_bytes(), b"UNSIGNED-PAYLOAD").unwrap();
    let date = String::from_utf8(stamp.text().to_vec()).unwrap();
    let own = [("Host", HOST), ("x-amz-date", date.as_str()), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in own.iter().chain(fields) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in fields {
        composing.add(name.as_bytes(), value.as_bytes());
    }
    let plain = recoded(target);
    let (_, authorization) = composing.sign(method.as_bytes(), Target::parse(&plain)).unwrap();
    head + &format!("Authorization: {}\r\n", String::from_utf8_lossy(authorization))
}

/// A presigned link of the farm's, or of somebody else with `secret`.
fn link(method: &str, target: &str, access_key: &str, secret: &str) -> String {
    let stamp = Stamp::at(NOW);
    let scope = Scope::of_s3(&stamp, b"us-west-2");
    let key = SigningKey::derive(&Secret::new(secret.into()), scope);
    let signer = Signer { access_key, key: &key, region: b"us-west-2", stamp: &stamp };
    let made = Composer::default().presign(method.as_bytes(), HOST.as_bytes(), target.as_bytes(), 900, None, &signer);
    format!("{method} {} HTTP/1.1\r\nHost: {HOST}\r\n", String::from_utf8(made.unwrap()).unwrap())
}

/// What goes upstream for a head, from `address`.
fn outcome_with(identity: &Identity, head: &str, address: &str) -> Result<String, Refused> {
    let route = route();
    let Mode::ReSign(resign) = &route.mode else { unreachable!() };
    let block = format!("{head}\r\n");
    let block = block.as_bytes();
    let head = RequestHead::parse(block).unwrap();
    let request = Request {
        head: &head,
        block,
        authority: framing::authority(&head, block).unwrap(),
        target: Target::parse(framing::origin_target(&head, block)),
        body: framing::request(&head, block).unwrap(),
        holds_back: false,
        keeps_alive: true,
    };
    let presence = Presence { address: address.parse::<IpAddr>().unwrap(), certificate_names: &[], now: NOW };
    let admitted = identity.ask(&request, &route, resign, &presence)?.decide(&request, None)?;
    let mut out = Buffer::detached(32 * 1024);
    match identity.write(&mut out, &request, &admitted, Sending::AsReceived, false) {
        Ok(_) => Ok(String::from_utf8(out.filled().to_vec()).unwrap()),
        Err(crate::proxy::failure::Failure::Refused(refused)) => Err(*refused),
        Err(failure) => panic!("{failure:?}"),
    }
}

fn outcome(head: &str, address: &str) -> Result<String, Refused> {
    outcome_with(&identity(), head, address)
}

fn slug(head: &str, address: &str) -> &'static str {
    outcome(head, address).expect_err(head).row().slug
}

const ANYWHERE: &str = "192.0.2.1";

#[test]
fn what_goes_out_is_signed_by_the_role_and_by_nobody_else() {
    let sent =
        outcome(&signed("GET", "/media/shots/a%20b.mov?partNumber=1", &[("Range", "bytes=0-1")]), ANYWHERE).unwrap();
    assert!(
        sent.starts_with("GET /shots/a%20b.mov?partNumber=1 HTTP/1.1\r\nHost: media.s3.us-west-2.amazonaws.com\r\n"),
        "{sent}"
    );
    for part in ["Range: bytes=0-1\r\n", "x-amz-security-token: the/token\r\n", "Credential=ASIAROLE/"] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    assert!(
        !sent.contains(KEY) && sent.matches("Authorization").count() == 1 && sent.matches("x-amz-date").count() == 2
    );
    let sent = outcome(&link("GET", "/media/k?response-content-type=video%2Fmp4", KEY, SECRET), ANYWHERE).unwrap();
    assert!(sent.starts_with("GET /k?response-content-type=video%2Fmp4 HTTP/1.1\r\n"), "{sent}");
    assert!(!sent.contains("X-Amz-Signature") && !sent.contains(KEY), "{sent}");
}

#[test]
fn what_is_sent_is_what_was_decided_about_whatever_a_client_wrote() {
    for (written, sent) in [
        ("/media/a+b/k", "/a%2Bb/k"),
        ("/media/a%2fb", "/a/b"),
        ("/media/%7Ek;x", "/~k%3Bx"),
        ("/media/k%zz", "/k%25zz"),
        ("/media/k?x-id=a;acl", "/k?x-id=a%3Bacl"),
    ] {
        let head = outcome(&signed("GET", written, &[]), ANYWHERE).unwrap();
        assert!(head.starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{written}: {head}");
    }
    assert_eq!(slug(&signed("GET", "/media/my%20secret/k", &[]), ANYWHERE), "denied");
    assert_eq!(slug(&signed("GET", "/media/a/../k", &[]), ANYWHERE), "key");
}

#[test]
fn fields_of_other_proxies_stay_behind() {
    let fields =
        [("X-Forwarded-For", "1.2.3.4"), ("X-Original-URL", "/other"), ("Forwarded", "for=1.2.3.4"), ("X-Kept", "1")];
    let sent = outcome(&signed("GET", "/media/k", &fields), ANYWHERE).unwrap();
    assert!(!sent.contains("1.2.3.4") && !sent.contains("/other") && sent.contains("X-Kept: 1"), "{sent}");
}

#[test]
fn parameters_of_a_link_become_fields_and_none_that_the_gate_says_itself() {
    let sent = outcome(
        &link("PUT", "/media/k?x-amz-meta-shot=010&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", KEY, SECRET),
        ANYWHERE,
    );
    let sent = sent.unwrap();
    assert!(sent.starts_with("PUT /k HTTP/1.1\r\n") && sent.contains("\r\nx-amz-meta-shot: 010\r\n"), "{sent}");
    assert_eq!(sent.to_lowercase().matches("\r\nx-amz-content-sha256:").count(), 1, "{sent}");
    for parameters in [
        "x-amz-decoded-content-length=5",
        "x-amz-trailer=x-amz-checksum-crc32",
        "x-amz-meta-a=1&X-Amz-Meta-A=2",
        "x-amz-meta-a=a%0d%0ab",
    ] {
        assert_eq!(
            slug(&link("PUT", &format!("/media/k?{parameters}"), KEY, SECRET), ANYWHERE),
            "hoisted",
            "{parameters}"
        );
    }
    let streaming = link("PUT", "/media/k?X-Amz-Content-Sha256=STREAMING-UNSIGNED-PAYLOAD-TRAILER", KEY, SECRET);
    assert_eq!(slug(&streaming, ANYWHERE), "authorization-query");
}

#[test]
fn a_link_of_somebody_else_is_good_from_the_studios_network_for_what_the_rules_say() {
    let theirs = |method: &str, key: &str| link(method, key, "ASIASHOTGRID", "of nobody here");
    assert!(outcome(&theirs("GET", "/media/shots/a"), "10.20.1.1").is_ok());
    assert!(outcome(&theirs("GET", "/media/shots/a"), "::ffff:10.20.1.1").is_ok());
    assert_eq!(slug(&theirs("GET", "/media/shots/a"), "10.21.1.1"), "unknown-key");
    assert_eq!(slug(&theirs("GET", "/media/other/a"), "10.20.1.1"), "denied");
    assert_eq!(slug(&theirs("DELETE", "/media/shots/a"), "10.20.1.1"), "denied");
    assert_eq!(slug(&format!("GET /media/shots/a HTTP/1.1\r\nHost: {HOST}\r\n"), "10.20.1.1"), "anonymous");
    // Whoever is a guest is denied, though all guests are workstations, too.
    assert_eq!(slug(&theirs("GET", "/media/shots/a"), "10.20.5.7"), "denied");
    assert!(outcome(&theirs("PUT", "/media/shots/a"), "10.20.5.7").is_ok());
}

#[test]
fn a_bucket_that_moved_is_asked_for_in_its_region_and_no_other_bucket_is() {
    let identity = identity();
    let route = route();
    let Mode::ReSign(resign) = &route.mode else { unreachable!() };
    identity.suppose(&resign.buckets[1], "eu-west-1");
    let sent = outcome_with(&identity, &signed("GET", "/x.us-west-2.y/k", &[]), ANYWHERE).unwrap();
    assert!(sent.contains("Host: x.us-west-2.y.s3.eu-west-1.amazonaws.com\r\n"), "{sent}");
    assert!(sent.contains("/eu-west-1/s3/aws4_request"), "{sent}");
    let sent = outcome_with(&identity, &signed("GET", "/media/k", &[]), ANYWHERE).unwrap();
    assert!(sent.contains("Host: media.s3.us-west-2.amazonaws.com\r\n") && sent.contains("/us-west-2/s3/"), "{sent}");
}

/// What a request of the farm's is signed with now.
fn signs_with(identity: &Identity, resign: &ReSign) -> SignedWith {
    let Tools { held, regions, .. } = &mut *identity.tools.borrow_mut();
    identity.sign_with(held, regions, resign, Some(&resign.buckets[0])).unwrap()
}

#[test]
fn an_answer_is_about_what_its_request_was_signed_with() {
    let (identity, route) = (identity(), route());
    let Mode::ReSign(resign) = &route.mode else { unreachable!() };
    let bucket = &resign.buckets[0];
    let before = signs_with(&identity, resign);
    identity.suppose(bucket, "eu-west-1");
    let on_supposition = signs_with(&identity, resign);
    assert_eq!((before.region(&route), on_supposition.region(&route)), ("us-west-2", "eu-west-1"));
    assert!(!identity.settle(bucket, &before, true), "it says nothing of the other region");
    assert!(!identity.settle(bucket, &before, false));
    assert!(identity.settle(bucket, &on_supposition, true));
    let known = signs_with(&identity, resign);
    assert_eq!((before.region(&route), known.region(&route)), ("us-west-2", "eu-west-1"));
    assert!(!identity.settle(bucket, &known, false));
    assert_eq!(signs_with(&identity, resign).region(&route), "eu-west-1");

    let newer = |generation| Credentials {
        access_key: format!("ASIAROLE{generation}"),
        secret: Secret::new("the role's".into()),
        token: None,
        expires: None,
        generation,
    };
    for generation in 2..4 {
        identity.known.credentials[0].set(newer(generation));
        assert_eq!(signs_with(&identity, resign).credentials().generation, generation);
    }
    identity.known.credentials[0].clear();
    let credentials = before.credentials();
    assert_eq!((credentials.access_key.as_str(), credentials.generation), ("ASIAROLE", 1));
    assert_eq!(credentials.token.as_ref().map(Token::as_str), Some("the/token"));
}

#[test]
fn what_is_to_be_masked_is_asked_for_in_plain_text() {
    let coded = [("Accept-Encoding", "gzip")];
    let outcome = |method: &str, target: &str| outcome(&signed(method, target, &coded), ANYWHERE).unwrap();
    assert!(!outcome("GET", "/media/k?uploadId=1").contains("gzip"));
    assert!(outcome("GET", "/media/k").contains("Accept-Encoding: gzip"));
}

#[test]
fn without_credentials_nothing_is_sent() {
    let identity = identity();
    identity.known.credentials[0].clear();
    let refused = outcome_with(&identity, &signed("GET", "/media/k", &[]), ANYWHERE).unwrap_err();
    assert_eq!((refused.row().status, refused.row().slug), (503, "no-credentials"));
}
