//! Who is a client, what a request asks for, and what rules say of it.

use std::borrow::Cow;
use std::net::IpAddr;

use filmgate::http::head::RequestHead;
use filmgate::policy::authorize::{self, Ask, Asker, Refused};
use filmgate::policy::identity::{CertificateName, Client, ClientId, Clients, NotAdmitted, Presence};
use filmgate::policy::route::Bucket;
use filmgate::policy::rules::{Demand, Rule, Rules, Verdict, Who};
use filmgate::s3::delete::Deletion;
use filmgate::s3::features::{self, Feature, FeatureSet, Unknown};
use filmgate::s3::operation::{self, Group, Level, Operations};
use filmgate::s3::target::Target;
use proptest::prelude::*;

const FARM: Asker = Asker { client: ClientId(0), is_keyed: true };
const STATIONS: Asker = Asker { client: ClientId(1), is_keyed: false };

fn operations(names: &[&str]) -> (Operations, Operations) {
    let (mut all, mut named) = (Operations::NONE, Operations::NONE);
    for name in names {
        match Group::named(name) {
            Some(group) => all = all.and(group.operations()),
            None => {
                let one = Operations::one(name).unwrap_or_else(|| panic!("{name}"));
                (all, named) = (all.and(one), named.and(one));
            }
        }
    }
    (all, named)
}

fn allow(who: Who, names: &[&str], prefixes: &[&str], features: &[Feature]) -> Rule {
    let (operations, named) = operations(names);
    let prefixes = prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect();
    Rule { who, operations, named, prefixes, features: Some(features.iter().copied().collect()) }
}

fn deny(names: &[&str], prefixes: &[&str]) -> Rule {
    Rule { features: None, ..allow(Who::All, names, prefixes, &[]) }
}

fn farm() -> Who {
    Who::Named(vec![FARM.client])
}

fn stations() -> Who {
    Who::Named(vec![STATIONS.client])
}

fn buckets() -> Vec<Bucket> {
    ["media", "plates"].map(|name| Bucket { name: name.into(), host: format!("{name}.s3.test") }).to_vec()
}

fn level(target: Target<'_>) -> Level {
    if target.is_bucket() { Level::Bucket } else { Level::Object }
}

fn features_of(method: &str, target: &str, fields: &[&str]) -> Result<FeatureSet, Unknown> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: a\r\n{}\r\n",
        fields.iter().map(|f| format!("{f}\r\n")).collect::<String>()
    );
    let parsed = RequestHead::parse(head.as_bytes()).unwrap();
    let target = Target::parse(parsed.target(head.as_bytes()));
    features::read(method.as_bytes(), level(target), target, &parsed.fields, head.as_bytes())
}

/// Asks as a whole request: `true`, or why not.
fn ask(rules: &Rules, asker: Asker, method: &str, raw: &str, copy_source: Option<&str>) -> Result<(), Refused> {
    ask_with(rules, asker, method, raw, copy_source, &[])
}

fn ask_with(
    rules: &Rules,
    asker: Asker,
    method: &str,
    raw: &str,
    copy_source: Option<&str>,
    more: &[&str],
) -> Result<(), Refused> {
    let copies: Vec<String> = copy_source.iter().map(|source| format!("x-amz-copy-source: {source}")).collect();
    let fields: Vec<&str> = copies.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let features = features_of(method, raw, &fields).unwrap();
    let target = Target::parse(raw.as_bytes());
    let plain = operation::at(method.as_bytes(), level(target), target);
    let operation = if copy_source.is_some() { operation::copying(plain) } else { plain };
    let key = target.key();
    let ask = Ask { operation, key: &key, features, target, copy_source: copy_source.map(str::as_bytes) };
    let demands = authorize::demands(&ask, &buckets())?;
    authorize::authorize(rules, asker, demands).map(drop)
}

#[test]
fn what_no_rule_allows_is_not_allowed() {
    let rules = Rules::new(vec![allow(farm(), &["read"], &["shots/"], &[])], Vec::new());
    assert!(ask(&rules, FARM, "GET", "/shots/a.exr", None).is_ok());
    assert!(ask(&rules, FARM, "HEAD", "/shots/a%20b.exr", None).is_ok());
    let table = [
        (FARM, "GET", "/plates/a.exr"),
        (FARM, "GET", "/shots"),
        (FARM, "GET", "/Shots/a"),
        (FARM, "PUT", "/shots/a.exr"),
        (FARM, "DELETE", "/shots/a.exr"),
        (FARM, "GET", "/?prefix=shots%2F"),
        (FARM, "GET", "/shots/a?acl"),
        (FARM, "GET", "/shots/a?versionId=1"),
        (FARM, "PATCH", "/shots/a"),
        (STATIONS, "GET", "/shots/a.exr"),
        (Asker { client: ClientId(7), is_keyed: true }, "GET", "/shots/a.exr"),
    ];
    for (asker, method, target) in table {
        let refused = ask(&rules, asker, method, target, None);
        assert!(matches!(refused, Err(Refused::NotAllowed { .. })), "{method} {target}: {refused:?}");
    }
    assert!(ask(&Rules::default(), FARM, "GET", "/a", None).is_err());
}

#[test]
fn keys_that_servers_understand_differently_are_refused_even_where_all_is_allowed() {
    let everything: Vec<&str> = Operations::all().names().collect();
    let rules = Rules::new(vec![allow(farm(), &everything, &[""], Feature::ALL)], Vec::new());
    for target in [
        "/a/../b",
        "/..",
        "/.",
        "/a/./b",
        "/%2e%2e/b",
        "/a/%2E%2e%2fb",
        "/a%5c..%5cb",
        "/a%00b",
        "/a/..",
        "/?list-type=2&prefix=..%2Fx",
        "/?list-type=2&prefix=a%2F..%2F",
        "//",
        "///",
        "/%2F",
        "/%2f/",
    ] {
        let refused = ask(&rules, FARM, "GET", target, None);
        assert!(matches!(refused, Err(Refused::Key(_))), "{target}: {refused:?}");
    }
    for (method, target, source) in [
        ("DELETE", "//", None),
        ("PUT", "//", None),
        ("PUT", "//?partNumber=1&uploadId=u", None),
        ("PUT", "/a", Some("media//")),
        ("PUT", "//", Some("media/a")),
    ] {
        let refused = ask(&rules, FARM, method, target, source);
        assert!(matches!(refused, Err(Refused::Key(_))), "{method} {target}: {refused:?}");
    }
    let keys = [Deletion { key: b"//".to_vec(), has_version: false }];
    let deletions = authorize::deletions(&keys, FeatureSet::NONE);
    assert!(matches!(authorize::authorize(&rules, FARM, deletions), Err(Refused::Key(_))));
    let form = authorize::post(b"/", FeatureSet::NONE);
    assert!(matches!(authorize::authorize(&rules, FARM, [form]), Err(Refused::Key(_))));
    for target in [
        "//a",
        "/a/",
        "/?list-type=2&prefix=%2F",
        "/a..b",
        "/a/...",
        "/.hidden",
        "/a//b",
        "/?list-type=2&prefix=a%2F.",
        "/?list-type=2",
    ] {
        assert!(ask(&rules, FARM, "GET", target, None).is_ok(), "{target}");
    }
}

#[test]
fn a_listing_must_lie_below_an_allowed_prefix_and_show_nothing_denied() {
    let rules = Rules::new(
        vec![allow(farm(), &["list", "read"], &["shots/", "plates/"], &[])],
        vec![deny(&["list", "GetObject"], &["shots/secret/"])],
    );
    for target in ["/?list-type=2&prefix=plates%2F", "/?prefix=plates/a", "/?prefix=shots/b"] {
        assert!(ask(&rules, FARM, "GET", target, None).is_ok(), "{target}");
    }
    for target in [
        "/?list-type=2",
        "/?prefix=",
        "/?prefix=shots",
        "/?prefix=plate",
        "/?list-type=2&prefix=shots/",
        "/?prefix=shots/s",
        "/?prefix=shots/secret/x",
        "/?prefix=shots//secret/",
    ] {
        assert!(ask(&rules, FARM, "GET", target, None).is_err(), "{target}");
    }
    assert!(ask(&rules, FARM, "HEAD", "/", None).is_ok(), "that there is a bucket is told to all who may list in it");
    for target in ["/shots/secret/a", "/shots//secret/a", "/shots/secret//a"] {
        assert!(matches!(ask(&rules, FARM, "HEAD", target, None), Err(Refused::Denied { rule: 0, .. })), "{target}");
    }
}

#[test]
fn a_copy_needs_its_source_and_its_destination() {
    let rules = Rules::new(
        vec![allow(farm(), &["read"], &["from/"], &[]), allow(farm(), &["write"], &["to/"], &[Feature::Copy])],
        Vec::new(),
    );
    for source in ["media/from/a", "/media/from/a", "plates/from/a", "media%2Ffrom%2Fa", "%2Fmedia/from/a%2Bb"] {
        assert_eq!(ask(&rules, FARM, "PUT", "/to/a", Some(source)), Ok(()), "{source}");
        assert_eq!(ask(&rules, FARM, "PUT", "/to/a?uploadId=u&partNumber=1", Some(source)), Ok(()), "{source}");
    }
    let copy_source = |refused: &Refused| matches!(refused, Refused::CopySource(_));
    for source in [
        "",
        "media",
        "/media",
        "other/from/a",
        "//media/from/a",
        "arn:aws:s3:us-west-2:1:accesspoint/x/object/a",
        "media/from/a?x",
        "media/from/a?versionId=1&x=y",
        "media/from/a?versionId=",
        "media/from/a+b",
        "Media/from/a",
    ] {
        let refused = ask(&rules, FARM, "PUT", "/to/a", Some(source)).unwrap_err();
        assert!(copy_source(&refused), "{source}: {refused:?}");
    }
    for (target, source) in
        [("/to/a", "media/elsewhere/a"), ("/from/a", "media/from/a"), ("/to/a", "media/from/a?versionId=1")]
    {
        let refused = ask(&rules, FARM, "PUT", target, Some(source)).unwrap_err();
        assert!(matches!(refused, Refused::NotAllowed { .. }), "{target} {source}: {refused:?}");
    }
    for (method, target) in
        [("GET", "/from/a"), ("DELETE", "/to/a"), ("POST", "/to/a?uploads"), ("PUT", "/to/a?tagging")]
    {
        let refused = ask(&rules, FARM, method, target, Some("media/from/a")).unwrap_err();
        assert!(copy_source(&refused), "{method} {target}: {refused:?}");
    }
    for source in ["media/from/../a", "media/", "media/from/%2e%2e/a", "media/from/a%00"] {
        assert!(ask(&rules, FARM, "PUT", "/to/a", Some(source)).is_err(), "{source}");
    }
}

#[test]
fn what_is_denied_is_denied_in_all_its_forms() {
    let everything: Vec<&str> = Operations::all().names().collect();
    let rules = Rules::new(
        vec![allow(farm(), &everything, &[""], Feature::ALL)],
        vec![deny(&["PutObject", "DeleteObject", "GetObject"], &["masters/"])],
    );
    let table = [
        ("PUT", "/masters/a", None),
        ("PUT", "/masters/a", Some("media/b")),
        ("PUT", "/b", Some("media/masters/a")),
        ("PUT", "/masters/a?uploadId=u&partNumber=1", None),
        ("PUT", "/masters/a?uploadId=u&partNumber=1", Some("media/b")),
        ("POST", "/masters/a?uploads", None),
        ("POST", "/masters/a?uploadId=u", None),
        ("HEAD", "/masters/a", None),
        ("GET", "/masters/a?attributes", None),
        ("GET", "/masters/a?torrent", None),
        ("POST", "/masters/a?select&select-type=2", None),
        ("DELETE", "/masters/a", None),
        ("DELETE", "//masters/a", None),
    ];
    for (method, target, source) in table {
        let refused = ask(&rules, FARM, method, target, source);
        assert!(matches!(refused, Err(Refused::Denied { rule: 0, .. })), "{method} {target}: {refused:?}");
    }
    assert!(ask(&rules, FARM, "PUT", "/masters", None).is_ok());
    let form = authorize::post(b"masters/a", FeatureSet::NONE);
    assert!(authorize::authorize(&rules, FARM, [form]).is_err());
    let keys = [("a", false), ("masters/a", false)].map(|(key, has_version)| Deletion { key: key.into(), has_version });
    assert!(authorize::authorize(&rules, FARM, authorize::deletions(&keys[..1], FeatureSet::NONE)).is_ok());
    assert!(authorize::authorize(&rules, FARM, authorize::deletions(&keys, FeatureSet::NONE)).is_err());
}

#[test]
fn what_is_denied_cannot_be_had_by_a_field_of_a_write() {
    let everything: Vec<&str> = Operations::all().names().collect();
    let all = allow(farm(), &everything, &[""], Feature::ALL);
    let makes = [
        ("PUT", "/a/b", None),
        ("PUT", "/a/b", Some("media/c")),
        ("POST", "/a/b?uploads", None),
        ("PUT", "/a/b?uploadId=u&partNumber=1", None),
        ("PUT", "/a/b?uploadId=u&partNumber=1", Some("media/c")),
        ("POST", "/a/b?uploadId=u", None),
    ];
    let table = [
        ("PutObjectAcl", "x-amz-acl: public-read", Feature::Acl),
        ("PutObjectAcl", "x-amz-grant-read: id=1", Feature::Acl),
        ("PutObjectTagging", "x-amz-tagging: a=b", Feature::Tagging),
        ("PutObjectRetention", "x-amz-object-lock-mode: COMPLIANCE", Feature::ObjectLock),
        ("PutObjectLegalHold", "x-amz-object-lock-legal-hold: ON", Feature::ObjectLock),
    ];
    for (operation, field, feature) in table {
        let rules = Rules::new(vec![all.clone()], vec![deny(&[operation], &["a/"])]);
        for (method, target, source) in makes {
            let refused = ask_with(&rules, FARM, method, target, source, &[field]);
            assert!(matches!(refused, Err(Refused::Denied { rule: 0, .. })), "{method} {target} {field}: {refused:?}");
            assert!(ask(&rules, FARM, method, target, source).is_ok(), "{method} {target} without {field}");
            assert!(
                ask_with(&rules, FARM, method, &target.replace("/a/", "/b/"), source, &[field]).is_ok(),
                "{method} {target} {field} elsewhere"
            );
        }
        let form = |features| authorize::authorize(&rules, FARM, [authorize::post(b"a/b", features)]);
        assert!(form(FeatureSet::one(feature)).is_err() && form(FeatureSet::NONE).is_ok(), "{operation}");
    }
    let rules = Rules::new(
        vec![all],
        vec![deny(&["PutObjectAcl", "PutObjectTagging", "PutBucketAcl", "PutObjectLockConfiguration"], &[""])],
    );
    for (method, target) in
        [("GET", "/a?acl"), ("GET", "/a?tagging"), ("DELETE", "/a?tagging"), ("PUT", "/a?retention")]
    {
        assert!(ask(&rules, FARM, method, target, None).is_ok(), "{method} {target}");
    }
    assert!(ask(&rules, FARM, "PUT", "/", None).is_ok());
    for field in ["x-amz-acl: public-read", "x-amz-bucket-object-lock-enabled: true"] {
        assert!(ask_with(&rules, FARM, "PUT", "/", None, &[field]).is_err(), "{field}");
    }
}

#[test]
fn clients_without_key_may_little_whatever_the_rules_say() {
    let everything: Vec<&str> = Operations::all().names().collect();
    let rules = Rules::new(
        vec![
            allow(Who::All, &everything, &[""], Feature::ALL),
            allow(stations(), &["read", "write", "delete", "list", "multipart"], &[""], &[]),
        ],
        Vec::new(),
    );
    for (method, target) in [
        ("GET", "/a"),
        ("HEAD", "/a"),
        ("PUT", "/a"),
        ("PUT", "/a?uploadId=u&partNumber=1"),
        ("GET", "/a?response-content-type=x"),
    ] {
        assert!(ask(&rules, STATIONS, method, target, None).is_ok(), "{method} {target}");
    }
    let more =
        [("POST", "/a?uploads"), ("POST", "/a?uploadId=u"), ("DELETE", "/a?uploadId=u"), ("GET", "/a?uploadId=u")];
    let never = [
        ("DELETE", "/a"),
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/a?attributes"),
        ("GET", "/a?versionId=1"),
        ("PUT", "/?policy"),
        ("POST", "/"),
    ];
    for (method, target) in more.iter().chain(&never) {
        let refused = ask(&rules, STATIONS, method, target, None);
        assert!(matches!(refused, Err(Refused::NotAllowed { .. })), "{method} {target}: {refused:?}");
    }
    let named = Rules::new(vec![allow(stations(), &everything, &[""], &[])], Vec::new());
    for (method, target) in more {
        assert!(ask(&named, STATIONS, method, target, None).is_ok(), "{method} {target}");
    }
    for (method, target) in never {
        assert!(ask(&named, STATIONS, method, target, None).is_err(), "{method} {target}");
    }
    assert!(ask(&named, STATIONS, "PUT", "/a", Some("media/b")).is_err());
    assert!(named.know(STATIONS.client, false) && !named.know(FARM.client, true));
}

#[test]
fn the_body_of_a_deletion_is_read_only_if_it_can_matter() {
    let bulk = FeatureSet::one(Feature::BulkDelete);
    let can = allow(farm(), &["delete"], &["tmp/"], &[Feature::BulkDelete]);
    let needs = |rules: &Rules, asker: Asker| rules.needs_keys(asker.client, asker.is_keyed, bulk);
    assert!(needs(&Rules::new(vec![can.clone()], Vec::new()), FARM));
    assert!(!needs(&Rules::new(vec![can.clone()], Vec::new()), STATIONS));
    assert!(!needs(&Rules::new(vec![allow(farm(), &["delete"], &[""], &[])], Vec::new()), FARM));
    assert!(!needs(&Rules::new(vec![allow(farm(), &["read"], &[""], Feature::ALL)], Vec::new()), FARM));
    assert!(needs(&Rules::new(vec![can.clone()], vec![deny(&["DeleteObject"], &["tmp/keep/"])]), FARM));
    assert!(!needs(&Rules::new(vec![can], vec![deny(&["DeleteObject"], &[""])]), FARM));
    let none: [Demand<'_>; 0] = [];
    let rules = Rules::new(vec![allow(farm(), &["delete"], &[""], Feature::ALL)], Vec::new());
    assert_eq!(authorize::authorize(&rules, FARM, none).unwrap_err(), Refused::Nothing);
}

#[test]
fn features_are_found_in_fields_and_query() {
    use Feature::*;
    let table: &[(&str, &str, &[&str], &[Feature])] = &[
        ("GET", "/a", &["x-amz-date: d", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "range: bytes=0-1"], &[]),
        ("PUT", "/a", &["x-amz-meta-a_b: 1", "x-amz-checksum-crc32: x", "x-amz-sdk-checksum-algorithm: CRC32"], &[]),
        ("GET", "/a?X-Amz-Signature=1&X-Amz-Expires=2&x-amz-meta-user-id=3&x-id=GetObject", &[], &[]),
        ("GET", "/a?response-content-type=x&partNumber=1", &[], &[ResponseOverride]),
        ("PUT", "/a", &["X-Amz-Acl: private"], &[Acl]),
        ("PUT", "/a", &["x-amz-grant-read: id=1"], &[Acl]),
        ("PUT", "/a?x-amz-acl=public-read", &[], &[Acl]),
        ("PUT", "/a?%78-AMZ-acl=public-read", &[], &[Acl]),
        ("GET", "/a?acl", &[], &[Acl]),
        ("GET", "/a?%61cl", &[], &[Acl]),
        ("PUT", "/a", &["x-amz-server-side-encryption: aws:kms"], &[Encryption]),
        ("PUT", "/a", &["x-amz-server-side-encryption-customer-key: k"], &[Encryption]),
        ("PUT", "/a", &["x-amz-copy-source: b/k"], &[Copy]),
        ("PUT", "/a", &["x-amz-copy-source-server-side-encryption-customer-key: k"], &[Copy, Encryption]),
        ("PUT", "/a", &["x-amz-tagging: a=b", "x-amz-storage-class: GLACIER"], &[Tagging, StorageClass]),
        ("PUT", "/a", &["x-amz-storage-class: STANDARD"], &[]),
        ("PUT", "/a?X-Amz-Storage-Class=STANDARD", &[], &[]),
        ("PUT", "/a", &["x-amz-storage-class: standard"], &[StorageClass]),
        ("PUT", "/a", &["x-amz-storage-class: STANDARD_IA"], &[StorageClass]),
        ("PUT", "/a", &["x-amz-storage-class:"], &[StorageClass]),
        ("PUT", "/a", &["x-amz-storage-class: STANDARD", "x-amz-storage-class: GLACIER"], &[StorageClass]),
        ("PUT", "/a?x-amz-storage-class=GLACIER", &["x-amz-storage-class: STANDARD"], &[StorageClass]),
        ("GET", "/a?partNumber=1", &[], &[]),
        ("GET", "/a?tagging", &[], &[Tagging]),
        ("GET", "/a?versionId=1", &[], &[Versions]),
        ("GET", "/?versions", &[], &[Versions]),
        ("PUT", "/a?retention", &["x-amz-bypass-governance-retention: true"], &[ObjectLock, BypassGovernance]),
        ("PUT", "/a", &["x-amz-website-redirect-location: /b"], &[Redirect]),
        ("GET", "/a", &["x-amz-request-payer: requester"], &[RequestPayer]),
        ("POST", "/a?restore", &[], &[Restore]),
        ("POST", "/a?select&select-type=2", &[], &[Select]),
        ("GET", "/a?torrent", &[], &[Torrent]),
        ("POST", "/?delete", &[], &[BulkDelete]),
        ("POST", "/", &[], &[PostForm]),
        ("PUT", "/", &[], &[BucketConfig]),
        ("DELETE", "/", &[], &[BucketConfig]),
        ("PUT", "/?policy", &[], &[BucketConfig]),
        ("GET", "/?policy", &[], &[BucketConfig]),
        ("GET", "/?acl", &[], &[Acl, BucketConfig]),
        ("GET", "/?location", &[], &[]),
        ("GET", "/?list-type=2&prefix=a&delimiter=%2F&encoding-type=url", &[], &[]),
    ];
    for (method, target, fields, expected) in table {
        let expected: FeatureSet = expected.iter().copied().collect();
        assert_eq!(features_of(method, target, fields), Ok(expected), "{method} {target} {fields:?}");
    }
}

#[test]
fn what_nobody_knows_is_not_understood_and_named() {
    let table: &[(&str, &str, &[&str], &str)] = &[
        ("GET", "/a?nosuch", &[], "nosuch"),
        ("GET", "/a?policy", &[], "policy"),
        ("GET", "/a?Acl", &[], "Acl"),
        ("DELETE", "/a?acl", &[], "acl"),
        ("GET", "/a?delete", &[], "delete"),
        ("GET", "/?session", &[], "session"),
        ("GET", "/?analytics", &[], "analytics"),
        ("GET", "/?list-type=3", &[], "list-type"),
        ("GET", "/?list-type=2&acl", &[], "acl"),
        ("GET", "/?prefix=a&prefix=b", &[], "prefix"),
        ("GET", "/?prefix=a&pre%66ix=b", &[], "prefix"),
        ("PUT", "/a?uploadId=1&acl", &[], "acl"),
        ("DELETE", "/a?uploadId=", &[], "uploadId"),
        ("DELETE", "/a?uploadId", &[], "uploadId"),
        ("DELETE", "/a?%75ploadId=", &[], "uploadId"),
        ("DELETE", "/a?uploadId=%20", &[], "uploadId"),
        ("DELETE", "/a?uploadId=+%00", &[], "uploadId"),
        ("GET", "/a?uploadId=", &[], "uploadId"),
        ("POST", "/a?uploadId=", &[], "uploadId"),
        ("PUT", "/a?partNumber=1&uploadId=", &[], "uploadId"),
        ("PUT", "/a?partNumber=&uploadId=1", &[], "partNumber"),
        ("PUT", "/a?partNumber=1", &[], "partNumber"),
        ("PUT", "/a?uploadId=1", &[], "uploadId"),
        ("GET", "/a?partNumber", &[], "partNumber"),
        ("GET", "/a?versionId=", &[], "versionId"),
        ("DELETE", "/a?versionId", &[], "versionId"),
        ("PUT", "/a?x-amz-copy-source=b/k", &[], "x-amz-copy-source"),
        ("PUT", "/a?renameObject", &[], "renameObject"),
        ("PUT", "/a", &["x-amz-rename-source: b"], "x-amz-rename-source"),
        ("PUT", "/a", &["x-amz-write-offset-bytes: 1"], "x-amz-write-offset-bytes"),
        ("PUT", "/a", &["X-Amz-Nosuch: 1"], "X-Amz-Nosuch"),
        ("PUT", "/a", &["x-amz_acl: private"], "x-amz_acl"),
        ("PUT", "/a", &["x_amz_acl: private"], "x_amz_acl"),
        ("PUT", "/a", &["x-amz-copy_source: b/k"], "x-amz-copy_source"),
        ("DELETE", "/a", &["x-minio-force-delete: true"], "x-minio-force-delete"),
        ("PUT", "/a", &["x-goog-acl: public-read"], "x-goog-acl"),
        ("GET", "/a", &["x-http-method-override: DELETE"], "x-http-method-override"),
        ("PUT", "/a", &["x-amz-copy-source: b/k", "x-amz-copy-source: b/l"], "x-amz-copy-source"),
    ];
    for (method, target, fields, name) in table {
        let unknown = features_of(method, target, fields).unwrap_err();
        assert_eq!(unknown.what, *name, "{method} {target} {fields:?}");
    }
    let long = format!("/a?{}", "%0a".repeat(500));
    assert!(features_of("GET", &long, &[]).unwrap_err().to_string().len() < 400);
}

/// Client, what is known of whoever sent a request, and whether that may be the client.
type Admission = (usize, (IpAddr, Vec<String>, u64), Result<(), NotAdmitted>);

fn at(address: &str, names: &[&str], now: u64) -> (IpAddr, Vec<String>, u64) {
    (address.parse().unwrap(), names.iter().map(ToString::to_string).collect(), now)
}

#[test]
fn clients_are_admitted_by_place_certificate_and_time() {
    let named = |names: &[&str]| names.iter().map(|name| CertificateName::new(name).unwrap()).collect();
    let clients = Clients::new(vec![
        Client { name: "farm".into(), access_key: Some("AKA".into()), ..Client::default() },
        Client { name: "stations".into(), networks: vec!["10.20.0.0/16".parse().unwrap()], ..Client::default() },
        Client { name: "box".into(), certificate_names: named(&["*.render.test", "CN=box"]), ..Client::default() },
        Client { name: "open".into(), ..Client::default() },
        Client {
            name: "brief".into(),
            access_key: Some("AKB".into()),
            not_before: Some(10),
            not_after: Some(20),
            ..Client::default()
        },
    ]);
    let table: &[Admission] = &[
        (0, at("192.0.2.1", &[], 0), Ok(())),
        (1, at("10.20.3.4", &[], 0), Ok(())),
        (1, at("::ffff:10.20.3.4", &[], 0), Ok(())),
        (1, at("10.21.3.4", &["CN=box"], 0), Err(NotAdmitted::Address)),
        (2, at("192.0.2.1", &["a.render.test"], 0), Ok(())),
        (2, at("192.0.2.1", &["other", "A.Render.TEST"], 0), Ok(())),
        (2, at("192.0.2.1", &["CN=box"], 0), Ok(())),
        (
            2,
            at("192.0.2.1", &["CN=Box", "box", "a.b.render.test", "render.test", ".render.test", "*.render.test"], 0),
            Err(NotAdmitted::Certificate),
        ),
        (
            2,
            at("192.0.2.1", &["CN=a.render.test", "x@a.render.test", "https://a.render.test"], 0),
            Err(NotAdmitted::Certificate),
        ),
        (2, at("192.0.2.1", &[], 0), Err(NotAdmitted::Certificate)),
        (3, at("192.0.2.1", &["a"], 0), Err(NotAdmitted::Address)),
        (4, at("192.0.2.1", &[], 9), Err(NotAdmitted::NotYet)),
        (4, at("192.0.2.1", &[], 10), Ok(())),
        (4, at("192.0.2.1", &[], 19), Ok(())),
        (4, at("192.0.2.1", &[], 20), Err(NotAdmitted::NoLonger)),
    ];
    for (client, (address, names, now), expected) in table {
        let presence = Presence { address: *address, certificate_names: names, now: *now };
        assert_eq!(clients.admits(ClientId(*client), &presence), *expected, "{client} {presence:?}");
    }
    let names = vec!["CN=box".to_string()];
    let presence = Presence { address: "10.20.0.1".parse().unwrap(), certificate_names: &names, now: 0 };
    assert_eq!(clients.trusted(&presence).collect::<Vec<_>>(), [ClientId(1), ClientId(2)]);
    assert_eq!(clients.by_key(b"AKB"), Some(ClientId(4)));
    assert_eq!((clients.by_key(b"AK"), clients.by_key(b""), clients.named("box")), (None, None, Some(ClientId(2))));
    for name in ["", "*", "*.", "*.test", "a.*", "**.a.b", "CN="] {
        assert!(CertificateName::new(name).is_none(), "{name}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Properties.

const SOME_OPERATIONS: &[&str] = &[
    "GetObject",
    "HeadObject",
    "PutObject",
    "CopyObject",
    "DeleteObject",
    "DeleteObjects",
    "ListObjectsV2",
    "ListObjects",
    "HeadBucket",
    "ListBuckets",
    "PutBucketPolicy",
    "UploadPart",
    "CreateMultipartUpload",
    "PostObject",
    "CorsPreflight",
    "PutObjectAcl",
    "PutObjectTagging",
    "PutObjectRetention",
    "Unknown",
];

fn any_features() -> impl Strategy<Value = FeatureSet> {
    prop::collection::vec(prop::sample::select(Feature::ALL.to_vec()), 0..3).prop_map(|list| list.into_iter().collect())
}

fn any_key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "a/", "a/b", "a//b", "/a/b", "b", "b/c", "a/b/c"]).prop_map(str::to_string)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let who =
        prop_oneof![Just(Who::All), prop::collection::vec((0..3_usize).prop_map(ClientId), 1..3).prop_map(Who::Named)];
    let names = prop::collection::vec(prop::sample::select(SOME_OPERATIONS[..18].to_vec()), 1..4);
    let prefixes = prop::collection::vec(any_key().prop_map(String::into_bytes), 1..3);
    (who, names, prefixes, prop::option::of(any_features())).prop_map(|(who, names, prefixes, features)| {
        let (operations, named) = operations(&names);
        Rule { who, operations, named, prefixes, features }
    })
}

fn any_demand() -> impl Strategy<Value = Demand<'static>> {
    (prop::sample::select(SOME_OPERATIONS.to_vec()), any_key(), any_features())
        .prop_map(|(operation, key, features)| Demand { operation, key: Cow::Owned(key.into_bytes()), features })
}

fn is_allowed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Allowed { .. })
}

fn any_rules() -> impl Strategy<Value = (Vec<Rule>, Vec<Rule>)> {
    (prop::collection::vec(any_rule(), 0..5), prop::collection::vec(any_rule(), 0..3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_rule_that_denies_never_adds_access(
        (allow, deny) in any_rules(), more in any_rule(), place: prop::sample::Index, client in 0..3_usize,
        is_keyed: bool, demand in any_demand(),
    ) {
        let before = Rules::new(allow.clone(), deny.clone()).decide(ClientId(client), is_keyed, &demand);
        let mut denied = deny;
        denied.insert(place.index(denied.len() + 1), more);
        let after = Rules::new(allow, denied).decide(ClientId(client), is_keyed, &demand);
        prop_assert!(is_allowed(before) || !is_allowed(after), "{:?} {:?}", before, after);
    }

    #[test]
    fn taking_a_rule_that_allows_away_never_adds_access(
        (allow, deny) in any_rules(), place: prop::sample::Index, client in 0..3_usize, is_keyed: bool,
        demand in any_demand(),
    ) {
        prop_assume!(!allow.is_empty());
        let before = Rules::new(allow.clone(), deny.clone()).decide(ClientId(client), is_keyed, &demand);
        let mut fewer = allow;
        fewer.remove(place.index(fewer.len()));
        let after = Rules::new(fewer, deny).decide(ClientId(client), is_keyed, &demand);
        prop_assert!(is_allowed(before) || !is_allowed(after), "{:?} {:?}", before, after);
    }

    #[test]
    fn the_order_of_rules_means_nothing(
        (allow, deny) in any_rules(), client in 0..3_usize, is_keyed: bool, demand in any_demand(),
    ) {
        let before = Rules::new(allow.clone(), deny.clone()).decide(ClientId(client), is_keyed, &demand);
        let backwards = Rules::new(allow.into_iter().rev().collect(), deny.into_iter().rev().collect());
        let after = backwards.decide(ClientId(client), is_keyed, &demand);
        prop_assert_eq!(std::mem::discriminant(&before), std::mem::discriminant(&after));
    }

    #[test]
    fn more_features_or_no_key_never_add_access(
        (allow, deny) in any_rules(), client in 0..3_usize, more in any_features(), demand in any_demand(),
    ) {
        let rules = Rules::new(allow, deny);
        let keyed = rules.decide(ClientId(client), true, &demand);
        let unkeyed = rules.decide(ClientId(client), false, &demand);
        prop_assert!(is_allowed(keyed) || !is_allowed(unkeyed));
        let greedy = Demand { features: demand.features.and(more), ..demand };
        prop_assert!(is_allowed(keyed) || !is_allowed(rules.decide(ClientId(client), true, &greedy)));
    }

    #[test]
    fn every_demand_has_a_verdict_and_its_reason(
        (allow, deny) in any_rules(), client in 0..3_usize, is_keyed: bool,
        operation in prop::sample::select(SOME_OPERATIONS.to_vec()), key: Vec<u8>, features in any_features(),
    ) {
        let rules = Rules::new(allow, deny);
        let demand = Demand { operation, key: Cow::Owned(key), features };
        let verdict = rules.decide(ClientId(client), is_keyed, &demand);
        let fitting = rules.misses(ClientId(client), is_keyed, &demand).position(|miss| miss.is_none());
        match verdict {
            Verdict::Allowed { rule } => prop_assert_eq!(fitting, Some(rule)),
            Verdict::NotAllowed => prop_assert_eq!(fitting, None),
            Verdict::Denied { .. } => {}
        }
    }

    #[test]
    fn a_deletion_whose_keys_are_not_needed_is_refused_whatever_they_are(
        (allow, deny) in any_rules(), client in 0..3_usize, is_keyed: bool, key in any_key(), has_version: bool,
    ) {
        let rules = Rules::new(allow, deny);
        let bulk = FeatureSet::one(Feature::BulkDelete);
        prop_assume!(!rules.needs_keys(ClientId(client), is_keyed, bulk));
        let keys = [Deletion { key: key.into_bytes(), has_version }];
        let asker = Asker { client: ClientId(client), is_keyed };
        prop_assert!(authorize::authorize(&rules, asker, authorize::deletions(&keys, bulk)).is_err());
    }
}
