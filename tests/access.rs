//! The access log's line as its readers see it: valid JSON, one line, no secrets.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use filmgate::access::{AccessRecord, Ended, Party, Phase, RequestId, Said, write_time};
use filmgate::limits;
use filmgate::s3::target::Target;
use filmgate::s3::{escape, operation};
use proptest::prelude::*;
use serde_json::{Value, json};

const SIGNATURE: &str = "b1946ac92492d2347c6235b4d2611184e3b0c44298fc1c149afbf4c8996fb924";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEJr%2F%2F%2F%2F%2F%2F%2F%2F%2F%2FwEaCXVzLXdlc3QtMiJHMEUCIQDexample%3D%3D";
const ACCESS_KEY: &str = "ASIAXXXXEXAMPLE7";
const V2_ACCESS_KEY: &str = "AKIAYYYYEXAMPLE8";
const V2_SIGNATURE: &str = "ZmlsbWdhdGUgdjIgc2lnbg%3D%3D";
const SECRETS: [&str; 7] =
    [SIGNATURE, TOKEN, "IQoJb3Jp", ACCESS_KEY, V2_ACCESS_KEY, V2_SIGNATURE, "ZmlsbWdhdGUgdjIgc2lnbg"];

fn v4_link() -> String {
    format!(
        "/0a4d55a8d778e5022fab701977c5d840bbc486d0/cf23df2207d99a74fbe169e3eba035e633b65d94/shot%20010%2Bv2_%C3%A9.mov\
         ?response-content-disposition=filename%3D%22shot%20010.mov%22&x-amz-meta-user-id=93\
         &x-amz-meta-user-type=ApiUser&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ACCESS_KEY}%2F20210616\
         %2Fus-west-2%2Fs3%2Faws4_request&X-Amz-Date=20210616T093012Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
         &X-Amz-Security-Token={TOKEN}&X-Amz-Signature={SIGNATURE}"
    )
}

fn v2_link() -> String {
    format!(
        "/0a4d55a8d778e5022fab701977c5d840bbc486d0/cf23df2207d99a74fbe169e3eba035e633b65d94/a_t.jpg\
         ?AWSAccessKeyId={V2_ACCESS_KEY}&Expires=1500000000&Signature={V2_SIGNATURE}&x-amz-meta-user-id=24\
         &x-amz-meta-user-type=HumanUser"
    )
}

fn client() -> SocketAddr {
    "[2001:db8::7]:50123".parse().unwrap()
}

/// What the line fills in from a target.
fn record_of(method: &str, raw: &[u8]) -> AccessRecord {
    let target = Target::parse(raw);
    let mut record = AccessRecord::new(UNIX_EPOCH + Duration::from_millis(1_623_835_812_345), client());
    record.say(Said::Method, method);
    record.operation = Some(operation::name(method.as_bytes(), target));
    record.say_decoded(Said::Key, target.escaped_key());
    for (what, value) in [(Said::UserId, target.user_id()), (Said::UserType, target.user_type())] {
        if let Some(value) = value {
            record.say(what, value);
        }
    }
    record
}

fn line_of(record: &AccessRecord) -> String {
    let mut out = b"before".to_vec();
    record.write_json(&mut out);
    let line = String::from_utf8(out).unwrap();
    line.strip_prefix("before").unwrap().to_owned()
}

fn parsed(line: &str) -> Value {
    let object = line.strip_suffix('\n').expect("the line ends");
    assert!(!object.contains(char::is_control), "{object:?}");
    serde_json::from_str(object).expect("the line is JSON")
}

#[test]
fn a_full_record_is_one_json_line_with_every_field() {
    let mut record = record_of("GET", v4_link().as_bytes());
    record.tls = Some("1.3");
    record.say(Said::Host, "s3-proxy.mystudio.com");
    record.say(Said::Bucket, "mystudio-media");
    record.say(Said::Range, "bytes=0-");
    record.status = Some(403);
    record.say(Said::S3Code, "AccessDenied");
    record.bytes_in = 7;
    record.bytes_out = u64::MAX;
    record.ttfb = Some(Duration::from_micros(12_345));
    record.total = Duration::from_micros(1_000_001);
    record.upstream_time = Some(Duration::from_nanos(999));
    record.upstream = Some("52.218.1.2:443".parse().unwrap());
    record.upstream_reused = true;
    record.retries = 1;
    record.say(Said::S3RequestId, "TX234S0F24A06C7");
    record.say(Said::S3Id2, "Zm9v+/==");
    record.say(Said::UserAgent, "Lavf/60.16.100 \"quoted\\\" \u{1}\u{85}\t🎬");
    record.ended = Ended { by: Party::Client, at: Phase::ResponseBody };
    record.failure = Some("client-went-away");
    let expected = json!({
        "time": "2021-06-16T09:30:12.345Z", "client": "[2001:db8::7]:50123", "tls": "1.3",
        "host": "s3-proxy.mystudio.com", "bucket": "mystudio-media", "method": "GET", "operation": "GetObject",
        "key": "0a4d55a8d778e5022fab701977c5d840bbc486d0/cf23df2207d99a74fbe169e3eba035e633b65d94/shot 010+v2_é.mov",
        "range": "bytes=0-", "status": 403, "s3_code": "AccessDenied", "bytes_in": 7, "bytes_out": u64::MAX,
        "ttfb_ms": 12.345, "total_ms": 1000.001, "upstream_ms": 0.0, "upstream": "52.218.1.2:443",
        "upstream_reused": true, "retries": 1, "s3_request_id": "TX234S0F24A06C7", "s3_id2": "Zm9v+/==",
        "user_id": "93", "user_type": "ApiUser", "user_agent": "Lavf/60.16.100 \"quoted\\\" \u{1}\u{85}\t🎬",
        "ended": {"by": "client", "at": "response_body"}, "failure": "client-went-away",
    });
    assert_eq!(parsed(&line_of(&record)), expected);
}

#[test]
fn what_is_absent_is_left_out() {
    let mut record = AccessRecord::new(UNIX_EPOCH, "192.0.2.1:9".parse().unwrap());
    record.upstream_reused = true;
    record.ended = Ended { by: Party::Upstream, at: Phase::UpstreamHandshake };
    assert_eq!(
        line_of(&record),
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"client\":\"192.0.2.1:9\",\"bytes_in\":0,\"bytes_out\":0,\
         \"total_ms\":0.000,\"retries\":0,\"ended\":{\"by\":\"upstream\",\"at\":\"upstream_handshake\"}}\n"
    );
}

#[test]
fn every_way_to_end_has_its_own_name() {
    use Phase::{
        Complete, Connect, Handshake, Idle, RequestBody, RequestHead, Response, ResponseBody, Route, UpstreamHandshake,
    };
    let phases = [
        (Handshake, "handshake"),
        (Idle, "idle"),
        (RequestHead, "request_head"),
        (Route, "route"),
        (Connect, "connect"),
        (UpstreamHandshake, "upstream_handshake"),
        (RequestBody, "request_body"),
        (Response, "response"),
        (ResponseBody, "response_body"),
        (Complete, "complete"),
    ];
    for (by, party) in [(Party::Client, "client"), (Party::Upstream, "upstream"), (Party::Gate, "gate")] {
        for (at, phase) in phases {
            let mut record = record_of("GET", b"/");
            record.ended = Ended { by, at };
            assert_eq!(parsed(&line_of(&record))["ended"], json!({"by": party, "at": phase}));
        }
    }
}

#[test]
fn presigned_links_leave_no_secret_in_the_line() {
    let (v4, v2) = (v4_link(), v2_link());
    // As received, and as clients damage them: the `?` escaped, all of it escaped, a fragment, a `;` for a `&`.
    let mut targets = vec![v4.clone(), v2.clone()];
    for link in [&v4, &v2] {
        targets.push(link.replace('?', "%3F"));
        targets.push(link.replace('?', "%253F").replace('&', "%2526").replace('=', "%253D"));
        targets.push(link.replacen('?', "#", 1));
        targets.push(link.replace(['?', '&'], ";"));
        targets.push(link.replace('?', "&"));
        targets.push(link.replace('&', ";"));
    }
    for target in &targets {
        for method in ["GET", "PUT", "HEAD", "OPTIONS"] {
            let record = record_of(method, target.as_bytes());
            let line = line_of(&record);
            parsed(&line);
            assert_clean(&line, target);
            assert_clean(&format!("{record:?}"), target);
        }
    }
    let line = parsed(&line_of(&record_of("GET", v2.as_bytes())));
    assert_eq!((&line["user_id"], &line["user_type"]), (&json!("24"), &json!("HumanUser")));
    assert!(line["key"].as_str().unwrap().ends_with("/a_t.jpg"));
}

#[test]
fn a_link_stuffed_into_any_peer_text_is_redacted() {
    let (v4, v2) = (v4_link(), v2_link());
    let host = "https://mystudio-media.s3.us-west-2.amazonaws.com";
    for link in [&v4, &v2] {
        let stuffed = [
            format!("{host}{link}"),
            format!("bytes=0-{host}{}", link.to_uppercase()),
            format!("agent {}", link.split_once('?').unwrap().1),
            format!("{}{link}", "x".repeat(limits::LOGGED_STRING_BYTES_MAX - 400)),
        ];
        for text in &stuffed {
            let mut record = record_of(text, b"/k");
            for what in Said::ALL {
                record.say(what, text);
            }
            let line = line_of(&record);
            assert_clean(&line, text);
            assert_clean(&line.to_uppercase(), text);
            assert_clean(&format!("{record:?}"), text);
        }
    }
}

#[test]
fn a_link_cut_anywhere_by_the_bound_leaves_no_secret() {
    for link in [v4_link(), v2_link()] {
        for padding in limits::LOGGED_STRING_BYTES_MAX - link.len()..=limits::LOGGED_STRING_BYTES_MAX {
            let text = format!("{}{link}", "x".repeat(padding));
            let mut record = record_of("GET", b"/");
            record.say(Said::UserAgent, &text);
            let line = line_of(&record);
            assert_clean(&line, &link);
            for start in [6, 12] {
                assert!(!line.contains(&SIGNATURE[..start]), "{padding}: {line}");
            }
        }
    }
}

fn time_of(milliseconds: i64) -> String {
    let distance = Duration::from_millis(milliseconds.unsigned_abs());
    let time = if milliseconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance };
    let mut out = Vec::new();
    write_time(time, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn moments_are_written_as_rfc_3339() {
    // Expected values from `date -u -d @SECONDS`.
    let table = [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_800_000, "2000-03-01T00:00:00.000Z"),
        (1_623_835_812_345, "2021-06-16T09:30:12.345Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (1_735_689_599_007, "2024-12-31T23:59:59.007Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (milliseconds, expected) in table {
        assert_eq!(time_of(milliseconds), expected);
    }
}

#[test]
fn every_day_of_eight_centuries_follows_the_one_before() {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |year, month| match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0..2 * 146_097 {
        assert_eq!(time_of(days * 86_400_000), format!("{year}-{month:02}-{day:02}T00:00:00.000Z"));
        day += 1;
        if day > length(year, month) {
            (day, month) = (1, month + 1);
        }
        if month > 12 {
            (month, year) = (1, year + 1);
        }
    }
}

#[test]
fn a_text_is_bounded_and_says_when_it_was_cut() {
    const MAX: usize = limits::LOGGED_STRING_BYTES_MAX;
    for (bytes, whole) in [
        (vec![b'a'; MAX], true),
        (vec![b'a'; MAX + 1], false),
        (vec![b'a'; 40_000], false),
        (vec![0xff; MAX / 3], true),
        (vec![0xff; MAX], false),
        ("é".repeat(MAX).into_bytes(), false),
    ] {
        let text = shown(&bytes);
        assert!(text.len() <= MAX, "{}", text.len());
        assert_eq!(!text.ends_with('…'), whole, "{} bytes", bytes.len());
    }
    assert_eq!(shown(b"a\xffb\xc3"), "a\u{fffd}b\u{fffd}");
}

#[test]
fn text_that_looks_like_part_of_a_signed_link_is_redacted() {
    let secret = [
        "bytes=0-1;https://b.s3.amazonaws.com/k?X-Amz-Signature=00",
        "x-aMZ-siGNature: 00",
        "SIGNATURE=00",
        "Signature%3D00",
        "X-Amz-Security-Token",
        "x%2Damz%2Dsecurity%2Dtoken%3d1",
        "k%253FX-Amz%252DCredential%253D1",
        "AWS4-HMAC-SHA256 Credential=AKIA/x",
        "AWSAccessKeyId",
        "%2525252541",
    ];
    for text in secret {
        assert_eq!(shown(text), "[redacted]", "{text}");
    }
    for text in ["bytes=0-1", "signature scene.mov", "a%2Fb%zz100%", "Lavf/60.16.100", "%252541", ""] {
        assert_eq!(shown(text), text);
    }
}

fn shown(text: impl AsRef<[u8]>) -> String {
    let mut record = AccessRecord::new(UNIX_EPOCH, client());
    record.say(Said::UserAgent, text);
    record.said(Said::UserAgent).unwrap().to_owned()
}

fn assert_clean(line: &str, source: &str) {
    for secret in SECRETS {
        assert!(!line.contains(secret), "{secret} of {source} in {line}");
        assert!(!line.contains(&secret.to_uppercase()), "{secret} of {source} in {line}");
    }
}

proptest! {
    #[test]
    fn any_bytes_from_a_peer_make_one_valid_bounded_line(bytes: Vec<u8>, times in 1_usize..200) {
        let text = bytes.repeat(times);
        let mut record = record_of("GET", &bytes);
        record.say(Said::UserAgent, &text);
        record.say(Said::Host, &text);
        let line = line_of(&record);
        let object = parsed(&line);
        let whole = String::from_utf8_lossy(&text);
        let said = record.said(Said::Host).unwrap();
        prop_assert_eq!(object["host"].as_str().unwrap(), said);
        prop_assert!(said == "[redacted]" || said == whole || whole.starts_with(said.strip_suffix('…').unwrap()));
        prop_assert!(said.len() <= limits::LOGGED_STRING_BYTES_MAX);
        // The longest escape, \u0000, is six bytes for one.
        prop_assert!(line.len() <= 6 * 6 * limits::LOGGED_STRING_BYTES_MAX);
    }

    #[test]
    fn a_decoded_text_is_what_the_decoder_gives(path: Vec<u8>, escaped in "(%[0-9a-fA-F]{2}|%|[a-z+]){0,3000}") {
        for raw in [&path[..], escaped.as_bytes()] {
            let mut records = [0, 1].map(|_| AccessRecord::new(UNIX_EPOCH, client()));
            records[0].say_decoded(Said::Key, raw);
            records[1].say(Said::Key, escape::decode(raw));
            prop_assert_eq!(records[0].said(Said::Key), records[1].said(Said::Key));
        }
    }

    #[test]
    fn an_id_is_written_as_it_is_displayed(prefix: u64, number: u64, shift in 0_u32..64) {
        let mut record = AccessRecord::new(UNIX_EPOCH, client());
        let id = RequestId { prefix, number: number >> shift };
        record.id = Some(id);
        prop_assert_eq!(&parsed(&line_of(&record))["id"], &json!(id.to_string()));
    }

    #[test]
    fn any_address_is_written_as_it_is_displayed(client: SocketAddr) {
        let record = AccessRecord::new(UNIX_EPOCH, client);
        prop_assert_eq!(&parsed(&line_of(&record))["client"], &json!(client.to_string()));
    }
}
