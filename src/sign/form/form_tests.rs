use proptest::prelude::*;

use super::*;
use crate::s3::form::{Boundary, FormError};
use crate::sign::key::Secret;

/// The example of AWS, "Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)".
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const BUCKET: &str = "sigv4examplebucket";
const DAY: u64 = 1_451_347_200;
const POLICY: &str = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tl\
    dCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJw\
    dWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3Mu\
    Y29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4\
    LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQog\
    ICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VY\
    QU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYi\
    fSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
const SIGNATURE: &str = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";
const CREDENTIAL: &str = "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request";

type Fields = Vec<(String, String)>;

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The fields of the example's form, in its order.
fn example() -> Fields {
    owned(&[
        ("key", "user/user1/${filename}"),
        ("acl", "public-read"),
        ("success_action_redirect", "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"),
        ("Content-Type", "image/jpeg"),
        ("x-amz-meta-uuid", "14365123651274"),
        ("x-amz-server-side-encryption", "AES256"),
        ("X-Amz-Credential", CREDENTIAL),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Date", "20151229T000000Z"),
        ("x-amz-meta-tag", ""),
        ("Policy", POLICY),
        ("X-Amz-Signature", SIGNATURE),
    ])
}

fn changed(mut fields: Fields, name: &str, value: Option<&str>) -> Fields {
    let at = fields.iter().position(|field| field.0.eq_ignore_ascii_case(name)).expect("a field of the form");
    match value {
        Some(value) => fields[at].1 = value.to_owned(),
        None => drop(fields.remove(at)),
    }
    fields
}

fn head_of(fields: &Fields, filename: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in fields {
        let part = format!("--xYzZY\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        head.extend_from_slice(part.as_bytes());
    }
    let file = format!(
        "--xYzZY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
        Content-Type: image/jpeg\r\n\r\n"
    );
    head.extend_from_slice(file.as_bytes());
    head
}

fn boundary() -> Boundary {
    Boundary::of(b"multipart/form-data; boundary=xYzZY").unwrap()
}

/// Verifies by the secret of the example; key of the object and lengths when it is fine.
fn judge(fields: &Fields, now: u64) -> Result<(String, Option<RangeInclusive<u64>>), FormRefusal> {
    let (boundary, head) = (boundary(), head_of(fields, "MyPhoto.jpg"));
    let form = Form::read(&boundary, &head).unwrap().unwrap();
    let claim = FormClaim::read(&form)?;
    let key = SigningKey::derive(&Secret::new(SECRET.into()), claim.scope);
    let verified = verify(&form, &claim, &key, Circumstances { bucket: BUCKET, region: "us-east-1", now })?;
    Ok((String::from_utf8(verified.key().to_vec()).unwrap(), verified.sizes().cloned()))
}

/// A form with a policy of its own, rightly signed.
fn signed(policy: &str, fields: &[(&str, &str)]) -> Fields {
    let scope = Scope { date: b"20151229", region: b"us-east-1", service: b"s3" };
    let (policy, mut signature) = (STANDARD.encode(policy), Vec::new());
    SigningKey::derive(&Secret::new(SECRET.into()), scope).sign(policy.as_bytes()).write_hex(&mut signature);
    let mut all = owned(fields);
    all.extend(owned(&[
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", CREDENTIAL),
        ("x-amz-date", "20151229T000000Z"),
        ("policy", &policy),
        ("x-amz-signature", std::str::from_utf8(&signature).unwrap()),
    ]));
    all
}

/// A policy with these conditions beside those that every form needs.
fn with(conditions: &str) -> String {
    let comma = if conditions.is_empty() { "" } else { "," };
    format!(
        r#"{{"expiration":"2015-12-30T12:00:00Z","conditions":[{{"bucket":"{BUCKET}"}},{{"X-Amz-Algorithm":
        "AWS4-HMAC-SHA256"}},{{"x-amz-credential":"{CREDENTIAL}"}},["starts-with","$x-amz-date","2015"]{comma}{conditions}]}}"#
    )
}

fn judge_conditions(conditions: &str, fields: &[(&str, &str)]) -> Result<Option<RangeInclusive<u64>>, FormRefusal> {
    judge(&signed(&with(conditions), fields), DAY).map(|(_, sizes)| sizes)
}

#[test]
fn the_example_of_aws_is_verified() {
    let expected = Ok(("user/user1/MyPhoto.jpg".to_owned(), None));
    assert_eq!(judge(&example(), DAY), expected);
    assert_eq!(judge(&example(), DAY + 36 * 60 * 60 - 1), expected);
    assert_eq!(judge(&example(), DAY - SKEW_MAX), expected);
    assert_eq!(judge(&changed(example(), "x-amz-meta-tag", Some("anything, at all")), DAY), expected);
}

#[test]
fn what_is_not_signed_as_the_example_is_refused() {
    use FormRefusal as R;
    let but = |name: &str, value: Option<&str>| judge(&changed(example(), name, value), DAY);
    assert_eq!(judge(&example(), DAY + 36 * 60 * 60), Err(R::ExpiredPolicy));
    assert_eq!(judge(&example(), DAY - SKEW_MAX - 1), Err(R::NotYet));
    assert_eq!(but("policy", Some(&POLICY[..POLICY.len() - 2])), Err(R::SignatureDoesNotMatch));
    assert_eq!(but("policy", Some("")), Err(R::SignatureDoesNotMatch));
    assert_eq!(but("policy", Some(&format!("{POLICY}\n"))), Err(R::SignatureDoesNotMatch));
    assert_eq!(but("x-amz-signature", Some(&"0".repeat(64))), Err(R::SignatureDoesNotMatch));
    assert_eq!(but("x-amz-signature", Some(&SIGNATURE.to_uppercase())).unwrap_err().code(), (400, "InvalidArgument"));
    for name in ["policy", "x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date"] {
        assert_eq!(but(name, None), Err(R::Missing(name)));
    }
    assert_eq!(judge(&owned(&[("key", "a"), ("policy", POLICY)]), DAY), Err(R::Anonymous));
    assert_eq!(judge(&owned(&[]), DAY), Err(R::Anonymous));
    for algorithm in ["AWS4-ECDSA-P256-SHA256", "aws4-hmac-sha256", ""] {
        assert_eq!(but("x-amz-algorithm", Some(algorithm)).unwrap_err().code(), (501, "NotImplemented"));
    }
    for name in ["AWSAccessKeyId", "signature", "Signature"] {
        let both = [example(), owned(&[(name, "x")])].concat();
        assert_eq!(judge(&both, DAY).unwrap_err().code(), (501, "NotImplemented"));
        assert_eq!(judge(&owned(&[("key", "a"), (name, "x")]), DAY).unwrap_err().code(), (501, "NotImplemented"));
    }
    for (credential, expected) in [
        ("AKIAIOSFODNN7EXAMPLE/20151229/eu-west-1/s3/aws4_request", Some(R::WrongScope)),
        ("AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/sts/aws4_request", Some(R::WrongScope)),
        ("AKIAIOSFODNN7EXAMPLE/20151230/us-east-1/s3/aws4_request", None),
        ("AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws5_request", None),
        ("/20151229/us-east-1/s3/aws4_request", None),
        ("20151229/us-east-1/s3/aws4_request", None),
        ("", None),
    ] {
        let refusal = but("x-amz-credential", Some(credential)).unwrap_err();
        assert_eq!(refusal.code(), (400, "InvalidArgument"), "{credential}");
        assert!(expected.is_none_or(|expected| expected == refusal), "{credential}: {refusal:?}");
    }
    for date in ["", "20151229", "2015-12-29T00:00:00Z", "20151228T235959Z"] {
        assert_eq!(but("x-amz-date", Some(date)).unwrap_err().code(), (400, "InvalidArgument"), "{date}");
    }
}

#[test]
fn a_form_that_leaves_its_policy_is_refused() {
    use FormRefusal::{Condition, ExtraField};
    let table = [
        ("key", Some("user/user2/a.jpg"), Condition("starts-with", "$key".into())),
        ("key", Some("User/user1/a.jpg"), Condition("starts-with", "$key".into())),
        ("key", Some("${filename}/user/user1/"), Condition("starts-with", "$key".into())),
        ("key", None, Condition("starts-with", "$key".into())),
        ("acl", Some("private"), Condition("eq", "$acl".into())),
        ("acl", Some("public-read "), Condition("eq", "$acl".into())),
        ("acl", None, Condition("eq", "$acl".into())),
        ("success_action_redirect", Some("http://elsewhere"), Condition("eq", "$success_action_redirect".into())),
        ("Content-Type", Some("text/html"), Condition("starts-with", "$Content-Type".into())),
        ("Content-Type", Some("image/png,text/html"), Condition("starts-with", "$Content-Type".into())),
        ("x-amz-meta-tag", None, Condition("starts-with", "$x-amz-meta-tag".into())),
        ("X-Amz-Date", Some("20151229T000001Z"), Condition("eq", "$x-amz-date".into())),
    ];
    for (name, value, expected) in table {
        assert_eq!(judge(&changed(example(), name, value), DAY), Err(expected), "{name}: {value:?}");
    }
    for name in
        ["tagging", "x-amz-storage-class", "x-amz-security-token", "submit", "Filename", "x-ignore", "x-ignor-e"]
    {
        let more = [example(), owned(&[(name, "x")])].concat();
        assert_eq!(judge(&more, DAY), Err(ExtraField(name.into())));
    }
    let ignored = [example(), owned(&[("X-Ignore-Me", "x"), ("bucket", BUCKET)])].concat();
    assert!(judge(&ignored, DAY).is_ok());
    let elsewhere = [example(), owned(&[("bucket", "another")])].concat();
    assert_eq!(judge(&elsewhere, DAY), Err(Condition("eq", "$bucket".into())));
}

#[test]
fn conditions_are_met_as_s3_meets_them() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<RangeInclusive<u64>>);
    let fine: &[Case<'_>] = &[
        (r#"{"key":"a"}"#, &[("key", "a")], None),
        (r#"["eq","$key","a"]"#, &[("KEY", "a")], None),
        (r#"["EQ","$KeY","a"]"#, &[("key", "a")], None),
        (r#"["StArTs-WiTh","$key",""]"#, &[("key", "é/\"")], None),
        (r#"["eq","$key","\u00e9\\\"$"]"#, &[("key", "é\\\"$")], None),
        (r#"["starts-with","$key","MyPh"]"#, &[("key", "${filename}")], None),
        (r#"["eq","$key","MyPhoto.jpg-MyPhoto.jpg"]"#, &[("key", "${filename}-${filename}")], None),
        (
            r#"["eq","$bucket","sigv4examplebucket"],["starts-with","$key",""]"#,
            &[("key", "a"), ("bucket", BUCKET)],
            None,
        ),
        (
            r#"{"key":"a"},["starts-with","$content-type","image/"]"#,
            &[("key", "a"), ("Content-Type", "image/a,image/b")],
            None,
        ),
        (r#"{"key":"a,b"}"#, &[("key", "a,b")], None),
        (r#"{"key":"a"},["content-length-range",1,10]"#, &[("key", "a")], Some(1..=10)),
        (r#"{"key":"a"},["content-length-range","1","10"]"#, &[("key", "a")], Some(1..=10)),
        (r#"{"key":"a"},["Content-Length-Range",0,0]"#, &[("key", "a")], Some(0..=0)),
        (r#"{"key":"a"},["content-length-range",1,10],["content-length-range",5,20]"#, &[("key", "a")], Some(5..=10)),
        (r#"{"key":"a"},["content-length-range",0,18446744073709551615]"#, &[("key", "a")], Some(0..=u64::MAX)),
        (r#"{"key":"b","key":"a"}"#, &[("key", "a")], None),
    ];
    for (conditions, fields, sizes) in fine {
        assert_eq!(judge_conditions(conditions, fields).as_ref(), Ok(sizes), "{conditions}");
    }
    let failing: &[(&str, &[(&str, &str)])] = &[
        (r#"["eq","key","a"]"#, &[("key", "a")]),
        (r#"["eq","","a"]"#, &[("key", "a")]),
        (r#"["eq","$","a"]"#, &[("key", "a")]),
        (r#"["starts-with","$key","a"]"#, &[("key", "")]),
        (r#"{"key":"${filename}"}"#, &[("key", "${filename}")]),
        (r#"{"key":"a"},{"bucket":"another"}"#, &[("key", "a")]),
        (r#"{"key":"a"},["starts-with","$acl",""]"#, &[("key", "a")]),
        (r#"{"key":"a"},{"acl":""}"#, &[("key", "a")]),
        (r#"{"key":"a"},{"$key":"a"}"#, &[("key", "a")]),
        (r#"{"key":"a"},["starts-with","$key","a,b"]"#, &[("key", "a")]),
        (r#"{"key":"a"},["starts-with","$content-type","image/"]"#, &[("key", "a"), ("Content-Type", "image/a,")]),
        (r#"{"key":"a"},["starts-with","$x-amz-meta-t","a"]"#, &[("key", "a"), ("x-amz-meta-t", "b,a")]),
        (r#"{"key":"a"},["content-length-range","x","10"]"#, &[("key", "a")]),
        (r#"{"key":"a"},["content-length-range","-1","10"]"#, &[("key", "a")]),
        (r#"{"key":"a"},["content-length-range","","10"]"#, &[("key", "a")]),
        (r#"{"key":"a"},["content-length-range",10,1]"#, &[("key", "a")]),
        (r#"{"key":"a"},["content-length-range",0,4],["content-length-range",5,9]"#, &[("key", "a")]),
        (r#"{"key":"a"},["content-length-range","99999999999999999999","1"]"#, &[("key", "a")]),
    ];
    for (conditions, fields) in failing {
        let refusal = judge_conditions(conditions, fields).expect_err(conditions);
        assert!(matches!(refusal, FormRefusal::Condition(..)), "{conditions}: {refusal:?}");
        assert_eq!(refusal.code(), (403, "AccessDenied"));
    }
    assert_eq!(judge_conditions(r#"["starts-with","$acl","p"]"#, &[("acl", "p")]), Err(FormRefusal::Missing("key")));
    assert_eq!(judge_conditions(r#"{"key":""}"#, &[("key", "")]), Err(FormRefusal::Malformed("key", "it is empty")));
    assert_eq!(judge_conditions("", &[("key", "a")]), Err(FormRefusal::ExtraField("key".into())));
}

#[test]
fn policies_that_are_none_are_refused() {
    let expiring = |text: &str| format!(r#"{{"expiration":{text},"conditions":[]}}"#);
    let conditions = |text: &str| format!(r#"{{"expiration":"2015-12-30T12:00:00Z","conditions":{text}}}"#);
    let mut table = vec![
        String::new(),
        "x".into(),
        "[]".into(),
        "null".into(),
        "{}".into(),
        "{".repeat(5000),
        "[".repeat(5000),
        format!("{}{}", "[".repeat(2000), "]".repeat(2000)),
        r#"{"conditions":[]}"#.into(),
        r#"{"expiration":"2015-12-30T12:00:00Z"}"#.into(),
        r#"{"EXPIRATION":"2015-12-30T12:00:00Z","conditions":[]}"#.into(),
        r#"{"expiration":"2015-12-30T12:00:00Z","CONDITIONS":[]}"#.into(),
        r#"{"expiration":"2015-12-30T12:00:00Z","conditions":[],"Version":"2012-10-17"}"#.into(),
        r#"{"expiration":"2015-12-30T12:00:00Z","conditions":[],}"#.into(),
        conditions("[]") + "x",
    ];
    let dates = [
        "1451476800",
        "null",
        "\"\"",
        "\"2015-12-30\"",
        "\"2015-12-30T12:00:00\"",
        "\"2015-12-30T12:00:00+00:00\"",
        "\"2015-12-30 12:00:00Z\"",
        "\"2015-12-30 12:00:00 UTC\"",
        "\"2015-12-30T12:00:00z\"",
        "\"2015-12-30T12:00:00.Z\"",
        "\"2015-12-30T12:00:00.0000000000Z\"",
        "\"2015-12-30T12:00:00.0x0Z\"",
        "\"20151230T120000Z\"",
        "\"2015-13-30T12:00:00Z\"",
        "\"2015/12/30T12:00:00Z\"",
        "\"2015-12-30T12.00.00Z\"",
        "\"2015-12-30T1é:00:00Z\"",
        "\"1969-12-30T12:00:00Z\"",
    ];
    table.extend(dates.map(expiring));
    let wrong = [
        "{}",
        "null",
        "\"x\"",
        "[1]",
        "[null]",
        "[\"eq\"]",
        "[{}]",
        "[[]]",
        r#"[{"a":"b","c":"d"}]"#,
        r#"[{"a":1}]"#,
        r#"[{"a":null}]"#,
        r#"[["eq"]]"#,
        r#"[["eq","$a"]]"#,
        r#"[["eq","$a","b","c"]]"#,
        r#"[["eq","$a",1]]"#,
        r#"[["eq",["$a"],"b"]]"#,
        r#"[[1,"$a","b"]]"#,
        r#"[["ends-with","$a","b"]]"#,
        r#"[["content-length-range",0]]"#,
        r#"[["content-length-range",-1,0]]"#,
        r#"[["content-length-range",0,512.0]]"#,
        r#"[["content-length-range",0,1e3]]"#,
        r#"[["content-length-range",0,18446744073709551616]]"#,
        r#"[["content-length-range",null,1]]"#,
    ];
    table.extend(wrong.map(conditions));
    for policy in table {
        let refusal = judge(&signed(&policy, &[("key", "a")]), DAY).expect_err(&policy);
        assert!(matches!(refusal, FormRefusal::InvalidPolicyDocument(_)), "{policy}: {refusal:?}");
    }
}

#[test]
fn a_policy_without_its_bucket_is_refused() {
    let policy = with(r#"{"key":"a"}"#).replace(r#"{"bucket":"sigv4examplebucket"},"#, "");
    let refusal = Err(FormRefusal::Condition("eq", "$bucket".into()));
    assert_eq!(judge(&signed(&policy, &[("key", "a")]), DAY), refusal);
    let policy = policy.replace(r#"[{"#, r#"[["starts-with","$bucket",""],{"#);
    assert!(judge(&signed(&policy, &[("key", "a")]), DAY).is_ok());
}

#[test]
fn a_signature_is_good_for_seven_days_whatever_its_policy_says() {
    let fields = signed(&with(r#"{"key":"a"}"#).replace("2015-12-30", "2115-12-30"), &[("key", "a")]);
    assert!(judge(&fields, DAY + 7 * 24 * 60 * 60 - 1).is_ok());
    assert_eq!(judge(&fields, DAY + 7 * 24 * 60 * 60), Err(FormRefusal::ExpiredPolicy));
}

/// What boto3 1.43.11 made of `generate_presigned_post` at 2026-03-01T12:30:05Z, with `secret`, and the form around it.
#[test]
fn a_form_of_boto3_is_verified() {
    let fields = owned(&[
        ("Content-Type", "video/quicktime"),
        ("success_action_status", "201"),
        ("x-amz-meta-artist", "Zoë \"Z\" \\ Ö"),
        ("key", "shots/sh010/${filename}"),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", "AKRENDER0001/20260301/us-west-2/s3/aws4_request"),
        ("x-amz-date", "20260301T123005Z"),
        ("x-amz-security-token", "tok+en/=="),
        (
            "policy",
            "eyJleHBpcmF0aW9uIjogIjIwMjYtMDMtMDFUMTI6NDA6MDVaIiwgImNvbmRpdGlvbnMiOiBbWyJzdGFydHMtd2l0aCIsICIkQ29udGVudC1UeX\
            BlIiwgInZpZGVvLyJdLCB7InN1Y2Nlc3NfYWN0aW9uX3N0YXR1cyI6ICIyMDEifSwgWyJjb250ZW50LWxlbmd0aC1yYW5nZSIsIDEsIDEwNDg1\
            NzZdLCBbInN0YXJ0cy13aXRoIiwgIiR4LWFtei1tZXRhLWFydGlzdCIsICIiXSwgeyJidWNrZXQiOiAibXlzdHVkaW8tbWVkaWEifSwgWyJzdG\
            FydHMtd2l0aCIsICIka2V5IiwgInNob3RzL3NoMDEwLyJdLCB7IngtYW16LWFsZ29yaXRobSI6ICJBV1M0LUhNQUMtU0hBMjU2In0sIHsieC1h\
            bXotY3JlZGVudGlhbCI6ICJBS1JFTkRFUjAwMDEvMjAyNjAzMDEvdXMtd2VzdC0yL3MzL2F3czRfcmVxdWVzdCJ9LCB7IngtYW16LWRhdGUiOi\
            AiMjAyNjAzMDFUMTIzMDA1WiJ9LCB7IngtYW16LXNlY3VyaXR5LXRva2VuIjogInRvaytlbi89PSJ9XX0=",
        ),
        ("x-amz-signature", "b63896b1e961ad4f1e508ad1715d41e29da032b683cac6cd03cc58f2b3eabeba"),
    ]);
    let (boundary, head) = (boundary(), head_of(&fields, "sh010_v001.mov"));
    let form = Form::read(&boundary, &head).unwrap().unwrap();
    let claim = FormClaim::read(&form).unwrap();
    assert_eq!((claim.access_key, claim.token), (&b"AKRENDER0001"[..], Some(&b"tok+en/=="[..])));
    let key = SigningKey::derive(&Secret::new("uploads/are/secret".into()), claim.scope);
    let at = |now| Circumstances { bucket: "mystudio-media", region: "us-west-2", now };
    let verified = verify(&form, &claim, &key, at(1_772_368_205)).unwrap();
    assert_eq!((verified.key(), verified.sizes()), (&b"shots/sh010/sh010_v001.mov"[..], Some(&(1..=1_048_576))));
    assert_eq!(verify(&form, &claim, &key, at(1_772_368_805)).unwrap_err(), FormRefusal::ExpiredPolicy);
    let other = Circumstances { bucket: "mystudio-plates", ..at(1_772_368_205) };
    assert_eq!(verify(&form, &claim, &key, other).unwrap_err(), FormRefusal::Condition("eq", "$bucket".into()));
}

#[test]
fn what_is_refused_tells_no_value() {
    let policy = with(r#"{"key":"a"},{"x-amz-security-token":"secret token"}"#);
    let refusal = judge(&signed(&policy, &[("key", "a"), ("x-amz-security-token", "my token")]), DAY).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Invalid according to Policy: Policy Condition failed: [\"eq\", \"$x-amz-security-token\"]"
    );
    let long = "x".repeat(5000);
    let refusal = judge_conditions(r#"{"key":"a"}"#, &[("key", "a"), (&long, "")]).unwrap_err();
    assert!(refusal.to_string().len() < 200);
    let (boundary, head) = (boundary(), head_of(&example(), "a"));
    let form = Form::read(&boundary, &head).unwrap().unwrap();
    let shown = format!("{:?} {form:?}", FormClaim::read(&form).unwrap());
    assert!(!shown.contains(SIGNATURE) && !shown.contains(&POLICY[..40]), "{shown}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Signing anew.

const OURS: &str = "AKOURS000001";
const OUR_SECRET: &str = "our own";
const NOW: u64 = DAY + 3661;

/// The form in the gate's name: its new head, or why there is none.
fn anew(fields: &Fields, filename: &str, token: Option<&str>, total: Option<u64>) -> Result<Vec<u8>, FormRefusal> {
    let (boundary, head) = (boundary(), head_of(fields, filename));
    let form = Form::read(&boundary, &head).unwrap().unwrap();
    let claim = FormClaim::read(&form)?;
    let key = SigningKey::derive(&Secret::new(SECRET.into()), claim.scope);
    let verified = verify(&form, &claim, &key, Circumstances { bucket: BUCKET, region: "us-east-1", now: DAY })?;
    verified.rewrite(&signer(&our_key(), token), total)
}

fn our_key() -> SigningKey {
    let scope = Scope { date: b"20151229", region: b"us-west-2", service: b"s3" };
    SigningKey::derive(&Secret::new(OUR_SECRET.into()), scope)
}

fn signer<'a>(key: &'a SigningKey, token: Option<&'a str>) -> Signer<'a> {
    Signer { access_key: OURS, token, key, region: "us-west-2", now: Stamp::at(NOW), seconds: 900 }
}

/// Reads a head that was written anew as S3 would. Returns its fields, and the JSON of its policy.
fn judge_anew(head: &[u8], now: u64) -> Result<(Fields, Value), FormRefusal> {
    let boundary = boundary();
    let form = Form::read(&boundary, head).unwrap().unwrap();
    assert_eq!(form.head_bytes(), head.len());
    let claim = FormClaim::read(&form)?;
    assert_eq!(claim.access_key, OURS.as_bytes());
    verify(&form, &claim, &our_key(), Circumstances { bucket: BUCKET, region: "us-west-2", now })?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let policy = serde_json::from_slice(&STANDARD.decode(claim.policy).unwrap()).unwrap();
    Ok((form.fields().map(|field| (text(field.name), text(field.value))).collect(), policy))
}

const REPLACED: [&str; 5] = ["policy", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token"];

fn without_ours(fields: &Fields) -> Fields {
    let is_ours = |name: &str| REPLACED.iter().any(|ours| name.eq_ignore_ascii_case(ours));
    fields.iter().filter(|(name, _)| !is_ours(name)).cloned().collect()
}

#[test]
fn the_example_is_signed_anew() {
    let fields = [example(), owned(&[("x-ignore-a", "b")])].concat();
    let head = anew(&fields, "MyPhoto.jpg", None, None).unwrap();
    let (again, policy) = judge_anew(&head, NOW).unwrap();
    let names = |fields: &Fields| fields.iter().map(|field| field.0.clone()).collect::<Vec<_>>();
    assert_eq!((names(&again), without_ours(&again)), (names(&fields), without_ours(&fields)));
    let conditions = json!([
        {"bucket": BUCKET},
        ["eq", "$key", "user/user1/MyPhoto.jpg"],
        ["eq", "$acl", "public-read"],
        ["eq", "$success_action_redirect", "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"],
        ["eq", "$content-type", "image/jpeg"],
        ["eq", "$x-amz-meta-uuid", "14365123651274"],
        ["eq", "$x-amz-server-side-encryption", "AES256"],
        ["eq", "$x-amz-credential", "AKOURS000001/20151229/us-west-2/s3/aws4_request"],
        ["eq", "$x-amz-algorithm", "AWS4-HMAC-SHA256"],
        ["eq", "$x-amz-date", "20151229T010101Z"],
        ["eq", "$x-amz-meta-tag", ""],
    ]);
    assert_eq!(policy, json!({"expiration": "2015-12-29T01:16:01.000Z", "conditions": conditions}));
    assert!(judge_anew(&head, NOW + 899).is_ok());
    assert_eq!(judge_anew(&head, NOW + 900), Err(FormRefusal::ExpiredPolicy));
    let text = String::from_utf8(head).unwrap();
    assert!(!text.contains("AKIA") && !text.contains(SIGNATURE) && !text.contains(&POLICY[..40]));
}

#[test]
fn our_token_takes_the_place_of_the_clients() {
    let conditions = r#"{"key":"a"},["starts-with","$x-amz-security-token",""]"#;
    let theirs = signed(&with(conditions), &[("X-Amz-Security-Token", "theirs"), ("key", "a")]);
    let plain = signed(&with(r#"{"key":"a"}"#), &[("key", "a")]);
    let token_in = |fields: &Fields, token| {
        let (fields, policy) = judge_anew(&anew(fields, "f", token, None).unwrap(), NOW).unwrap();
        let at = fields.iter().position(|field| field.0.eq_ignore_ascii_case(TOKEN));
        let covered = policy.to_string().matches(TOKEN).count();
        at.map(|at| (at, fields[at].1.clone(), covered))
    };
    assert_eq!(token_in(&theirs, Some("ou+rs==")), Some((0, "ou+rs==".into(), 1)));
    assert_eq!(token_in(&theirs, None), None);
    assert_eq!(token_in(&plain, Some("ou+rs==")), Some((plain.len(), "ou+rs==".into(), 1)));
    assert_eq!(token_in(&plain, None), None);
}

#[test]
fn the_length_of_the_file_is_bound_before_and_after() {
    let fields = signed(&with(r#"{"key":"a"},["content-length-range",5,10]"#), &[("key", "a")]);
    let (head, closing) = (head_of(&fields, "f").len() as u64, "\r\n--xYzZY--".len() as u64);
    let range = |fields: &Fields, total: Option<u64>| {
        let (_, policy) = judge_anew(&anew(fields, "f", None, total)?, NOW).unwrap();
        Ok(policy["conditions"].as_array().unwrap().iter().find(|one| one[0] == SIZES).cloned().unwrap_or_default())
    };
    const SIZES: &str = "content-length-range";
    let total = |file: u64| Some(head + file + closing);
    assert_eq!(range(&fields, None), Ok(json!([SIZES, 5, 10])));
    assert_eq!(range(&fields, total(8)), Ok(json!([SIZES, 6, 8])));
    assert_eq!(range(&fields, total(12)), Ok(json!([SIZES, 10, 10])));
    assert_eq!(range(&fields, total(5)), Ok(json!([SIZES, 5, 5])));
    assert_eq!(range(&fields, total(13)), Err(FormRefusal::EntityTooLarge { proposed: 11, max: 10 }));
    assert_eq!(range(&fields, total(4)), Err(FormRefusal::EntityTooSmall { proposed: 4, min: 5 }));
    assert_eq!(range(&fields, Some(head + closing - 1)), Err(FormRefusal::CutShort));
    let free = signed(&with(r#"{"key":"a"}"#), &[("key", "a")]);
    let total = Some(head_of(&free, "f").len() as u64 + closing + 1000);
    assert_eq!(range(&free, total), Ok(json!([SIZES, 998, 1000])));
    assert_eq!(range(&free, None), Ok(Value::Null));

    let (boundary, head) = (boundary(), head_of(&fields, "f"));
    let form = Form::read(&boundary, &head).unwrap().unwrap();
    let claim = FormClaim::read(&form).unwrap();
    let key = SigningKey::derive(&Secret::new(SECRET.into()), claim.scope);
    let verified =
        verify(&form, &claim, &key, Circumstances { bucket: BUCKET, region: "us-east-1", now: DAY }).unwrap();
    assert!(verified.check_size(5).is_ok() && verified.check_size(10).is_ok());
    assert_eq!(verified.check_size(11).unwrap_err().code(), (400, "EntityTooLarge"));
    assert_eq!(verified.check_size(4).unwrap_err().code(), (400, "EntityTooSmall"));
}

#[test]
fn a_head_that_becomes_too_long_is_refused() {
    let long = |bytes: usize| {
        let value = "\u{1}".repeat(bytes);
        signed(&with(r#"{"key":"a"},["starts-with","$x-amz-meta-a",""]"#), &[("key", "a"), ("x-amz-meta-a", &value)])
    };
    assert!(anew(&long(100), "f", None, None).is_ok());
    assert_eq!(anew(&long(10_000), "f", None, None), Err(FormRefusal::TooLong));
    assert_eq!(FormRefusal::TooLong.code(), FormError::TooLong.code());
}

/// Letters that mean something to a form, to JSON or to a policy.
const LETTERS: &[char] =
    &['a', 'Z', '/', '"', '\\', '$', '{', '}', ',', '\u{e9}', '\u{1f4f7}', ' ', '\n', '\u{1}', '%', '+', '='];

fn value() -> impl Strategy<Value = String> {
    let letters = prop::collection::vec(prop::sample::select(LETTERS), 0..12);
    (letters, any::<bool>()).prop_map(|(letters, variable)| {
        let text: String = letters.into_iter().collect();
        if variable { text + "${filename}" } else { text }
    })
}

proptest! {
    #[test]
    fn what_is_signed_anew_verifies_and_keeps_all_other_bytes(
        key in value(),
        more in prop::collection::btree_map("[a-z0-9-]{1,8}", value(), 0..6),
        filename in "[a-zA-Z0-9 ._$é{}-]{0,12}",
        token in prop::option::of("[A-Za-z0-9+/]{1,40}={0,2}"),
        file in 0_u64..1_000_000,
    ) {
        let key = format!("k{key}");
        let mut fields: Vec<(String, String)> =
            more.into_iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value)).collect();
        fields.insert(fields.len() / 2, ("key".into(), key));
        let conditions: Vec<String> = fields.iter().map(|(name, _)| format!(r#"["starts-with","${name}",""]"#)).collect();
        let borrowed: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let fields = signed(&with(&conditions.join(",")), &borrowed);
        let before = head_of(&fields, &filename);
        let total = before.len() as u64 + file + "\r\n--xYzZY--\r\n".len() as u64;
        let head = anew(&fields, &filename, token.as_deref(), Some(total)).unwrap();
        let (again, policy) = judge_anew(&head, NOW).unwrap();
        prop_assert_eq!(without_ours(&again), without_ours(&fields));
        prop_assert_eq!(again.iter().any(|field| field.0 == TOKEN && Some(&field.1) == token.as_ref()), token.is_some());
        let is_exact = policy["conditions"].as_array().unwrap().iter().all(|one| one[0] != "starts-with");
        prop_assert!(is_exact);
        // Put back what was replaced, and every byte is as it was.
        let boundary = boundary();
        let form = Form::read(&boundary, &head).unwrap().unwrap();
        prop_assert!(form.file_bytes(total - before.len() as u64 + head.len() as u64).unwrap().contains(&file));
        let theirs = |name: &[u8]| {
            let name = std::str::from_utf8(name).unwrap();
            match fields.iter().find(|field| field.0 == name) {
                Some(field) => Fate::Replaced(field.1.as_bytes()),
                None => Fate::Dropped,
            }
        };
        let mut back = Vec::new();
        form.write(theirs, &[], &mut back);
        prop_assert_eq!(back, before);
    }

    #[test]
    fn any_policy_is_read_without_harm(text in "[\\[\\]{}:,\" $a-z0-9.-]{0,80}") {
        let _ = judge(&signed(&text, &[("key", "a")]), DAY);
        let _ = judge_conditions(&text, &[("key", "a")]);
    }

    #[test]
    fn one_changed_byte_of_a_policy_is_noticed(at in 0..POLICY.len(), by in 1_u8..128) {
        let mut policy = POLICY.as_bytes().to_vec();
        policy[at] = (policy[at] ^ by) & 0x7f;
        prop_assume!(policy != POLICY.as_bytes() && !policy.contains(&b'\r') && !policy.contains(&b'\n'));
        let fields = changed(example(), "policy", Some(std::str::from_utf8(&policy).unwrap()));
        prop_assert_eq!(judge(&fields, DAY), Err(FormRefusal::SignatureDoesNotMatch));
    }
}
