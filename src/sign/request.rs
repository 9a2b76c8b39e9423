//! Signing what the gate sends.
//!
//! AWS: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)". This is the path of every
//! request that is signed anew, so it writes into memory that is used again, with keys that were derived before. That it
//! signs as `aws-sigv4` does is held by a test.

use crate::http::encode::{EncodeError, FieldLines};
use crate::s3::escape::{self, Slash};
use crate::s3::target::Target;
use crate::sign::canonical::{self, ALGORITHM, Scratch, Unsignable};
use crate::sign::key::{Scope, Signature, SigningKey};
use crate::sign::keys::Owner;
use crate::sign::own_fields::{Line, OwnFields, Saying};
use crate::sign::time::Stamp;
use crate::sign::verify::UNSIGNED_PAYLOAD;

/// Room for one request that is to be signed, which can be used again.
#[derive(Default)]
pub struct Composer {
    scratch: Scratch,
    own: OwnFields,
    /// The canonical lines of those and of the client's fields, if some of these are signed.
    lines: Vec<u8>,
    fields: Vec<Line>,
    /// The lines once more, sorted, where they came in another order. Of a link, the one line that it signs.
    sorted: Vec<u8>,
    names: Vec<u8>,
    authorization: Vec<u8>,
}

/// Who signs, when, for where.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Id of the access key.
    pub access_key: &'a str,
    /// The key that was derived for the [scope](Self::scope).
    pub key: &'a SigningKey,
    /// The region, `us-east-1`.
    pub region: &'a [u8],
    /// The time of signing.
    pub stamp: &'a Stamp,
}

impl<'a> Signer<'a> {
    /// What the key is derived for.
    #[must_use]
    pub fn scope(&self) -> Scope<'a> {
        Scope::of_s3(self.stamp, self.region)
    }
}

/// A request that is being signed.
pub struct Composing<'c, 's> {
    composer: &'c mut Composer,
    payload: &'s [u8],
    key: &'s SigningKey,
}

impl Composer {
    /// Begins a request for `host` with what stands for its payload. It is signed with the credentials of `owner`, to which
    /// `by` and, if they are temporary, the session token belong.
    ///
    /// # Errors
    /// When something of that cannot be said in a head.
    pub fn begin<'c, 's>(
        &'c mut self,
        (owner, by, token): (Owner, Signer<'s>, Option<&'s [u8]>),
        host: &'s [u8],
        payload: &'s [u8],
    ) -> Result<Composing<'c, 's>, EncodeError> {
        self.own.say(&Saying { owner, token, signer: by, host, payload })?;
        self.lines.clear();
        self.fields.clear();
        Ok(Composing { composer: self, payload, key: by.key })
    }
}

impl<'c> Composing<'c, '_> {
    /// The fields that sign: `host`, `x-amz-content-sha256`, `x-amz-date` and perhaps `x-amz-security-token`, ready to be
    /// sent.
    #[must_use]
    pub fn own_lines(&self) -> &FieldLines {
        &self.composer.own.head
    }

    /// Another field that is to be signed.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let Composer { own, lines, fields, .. } = &mut *self.composer;
        if fields.is_empty() {
            lines.extend_from_slice(&own.lines);
            fields.extend_from_slice(&own.fields);
        }
        fields.push(Line::write(name, value, lines));
    }

    /// Signs the request, whose target is written in the one way that needs no change to be signed (no empty pairs,
    /// everything escaped that AWS escapes, in upper case). Returns the signature, which is the seed of what follows in a
    /// body that is signed as well, and the value of the `Authorization` field.
    ///
    /// # Errors
    /// When the query has too many parameters.
    pub fn sign(self, method: &[u8], target: Target<'_>) -> Result<(Signature, &'c [u8]), Unsignable> {
        let Self { composer, payload, key } = self;
        composer.scratch.begin_plain(method, target)?;
        composer.sort();
        let Composer { scratch, own, lines, fields, sorted, names, authorization } = composer;
        let (lines, names) = match (fields.is_empty(), sorted.is_empty()) {
            (true, _) => (&own.lines, &own.names),
            (false, true) => (&*lines, &*names),
            (false, false) => (&*sorted, &*names),
        };
        scratch.add(lines);
        scratch.end(names, payload);
        let signature = scratch.sign_behind(&own.string_to_sign, key);
        authorization.clear();
        for part in [&own.authorization[..], names, b", Signature="] {
            authorization.extend_from_slice(part);
        }
        signature.write_hex(authorization);
        Ok((signature, authorization))
    }
}

impl Composer {
    /// Puts the names of what was added together, and the lines in order where they are not.
    fn sort(&mut self) {
        let lines = &self.lines;
        let name = |line: &Line| &lines[line.name.clone()];
        self.names.clear();
        self.sorted.clear();
        let is_sorted = self.fields.is_sorted_by(|one, other| name(one) < name(other));
        if !is_sorted {
            // Stable: fields of one name stay in their order.
            self.fields.sort_by(|one, other| name(one).cmp(name(other)));
        }
        for same in self.fields.chunk_by(|one, other| name(one) == name(other)) {
            if !self.names.is_empty() {
                self.names.push(b';');
            }
            self.names.extend_from_slice(name(&same[0]));
            if !is_sorted {
                self.sorted.extend_from_slice(name(&same[0]));
                let values = same.iter().map(|line| &lines[line.value.clone()]);
                canonical::write_values(values, &mut self.sorted);
            }
        }
    }

    /// Makes a presigned link of `target`, a path and perhaps a query: the same with the parameters of a signature for `host`.
    /// It is good for `seconds` from the time of signing on, to whoever has it.
    ///
    /// # Errors
    /// When the query has too many parameters.
    pub fn presign(
        &mut self,
        method: &[u8],
        host: &[u8],
        target: &[u8],
        seconds: u64,
        token: Option<&[u8]>,
        by: &Signer<'_>,
    ) -> Result<Vec<u8>, Unsignable> {
        let mut link = target.to_vec();
        let mut credential = by.access_key.as_bytes().to_vec();
        credential.push(b'/');
        by.scope().write(&mut credential);
        let seconds = seconds.to_string();
        let parameters: [(&[u8], Option<&[u8]>); 6] = [
            (b"X-Amz-Algorithm", Some(ALGORITHM)),
            (b"X-Amz-Credential", Some(&credential)),
            (b"X-Amz-Date", Some(by.stamp.text())),
            (b"X-Amz-Expires", Some(seconds.as_bytes())),
            (b"X-Amz-Security-Token", token),
            (b"X-Amz-SignedHeaders", Some(b"host")),
        ];
        for (name, value) in parameters {
            let Some(value) = value else { continue };
            link.push(if link.contains(&b'?') { b'&' } else { b'?' });
            link.extend_from_slice(name);
            link.push(b'=');
            escape::encode(value, Slash::Encode, &mut link);
        }
        let signed = Target::parse(&link);
        self.scratch.begin(method, signed)?;
        self.sorted.clear();
        Line::write(b"host", host, &mut self.sorted);
        self.scratch.add(&self.sorted);
        self.scratch.end(b"host", UNSIGNED_PAYLOAD);
        link.extend_from_slice(b"&X-Amz-Signature=");
        self.scratch.sign(by.stamp.text(), by.scope(), by.key).write_hex(&mut link);
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_sigv4::http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    };
    use aws_sigv4::sign::v4;
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::Buffer;
    use crate::http::encode::HeadWriter;
    use crate::sign::key::Secret;
    use crate::sign::presign;
    use crate::sign::time::Stamp;

    const ACCESS_KEY: &str = "ASIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const REGION: &[u8] = b"us-west-2";
    const WHO: Owner = Owner::Credential(0, 1);

    /// Signs with `aws-sigv4` and returns its `authorization`.
    fn reference(
        method: &str,
        host: &str,
        target: &str,
        fields: &[(String, String)],
        payload: &str,
        token: Option<&str>,
        now: u64,
    ) -> String {
        let token = token.map(str::to_string);
        let identity = aws_credential_types::Credentials::new(ACCESS_KEY, SECRET, token, None, "test").into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.excluded_headers = None;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-west-2")
            .name("s3")
            .time(UNIX_EPOCH + Duration::from_secs(now))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let body = SignableBody::Precomputed(payload.to_string());
        let request = SignableRequest::new(method, format!("https://{host}{target}"), fields, body).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let (headers, _) = instructions.into_parts();
        headers.into_iter().find(|header| header.name() == "authorization").unwrap().value().to_string()
    }

    fn ours(
        method: &str,
        host: &str,
        target: &str,
        fields: &[(String, String)],
        payload: &str,
        token: Option<&[u8]>,
        now: u64,
    ) -> String {
        let stamp = Stamp::at(now);
        let key = SigningKey::derive(&Secret::new(SECRET.into()), Scope::of_s3(&stamp, REGION));
        let mut composer = Composer::default();
        let by = (WHO, Signer { access_key: ACCESS_KEY, key: &key, region: REGION, stamp: &stamp }, token);
        let mut signing = composer.begin(by, host.as_bytes(), payload.as_bytes()).unwrap();
        for (name, value) in fields {
            signing.add(name.as_bytes(), value.as_bytes());
        }
        let target = Target::parse(target.as_bytes());
        let (_, authorization) = signing.sign(method.as_bytes(), target).unwrap();
        String::from_utf8(authorization.to_vec()).unwrap()
    }

    fn encoded(text: &str, slash: escape::Slash) -> String {
        let mut out = Vec::new();
        escape::encode(text.as_bytes(), slash, &mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn a_request_is_signed_as_aws_sigv4_signs_it(
            key in "[ -~é]{0,24}",
            pairs in proptest::collection::vec(("[a-z*-]{1,6}", "[ -~é]{0,8}"), 0..5),
            fields in proptest::collection::vec(
                ("x-amz-meta-[a-f]{1,3}|content-type", "[!-~]{1,6}( {1,3}[!-~]{1,4}){0,2}"), 0..5
            ),
            token in proptest::option::of("[A-Za-z0-9+/=]{4,20}"),
            now in 1_400_000_000_u64..2_000_000_000,
        ) {
            // Of equal names aws-sigv4 takes one.
            let mut fields = fields;
            fields.sort();
            fields.dedup_by(|one, other| one.0 == other.0);
            let query: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{}={}", encoded(name, escape::Slash::Encode), encoded(value, escape::Slash::Encode)))
                .collect();
            let mark = if query.is_empty() { "" } else { "?" };
            let target = format!("/{}{mark}{}", encoded(&key, escape::Slash::Keep), query.join("&"));
            let host = "media.s3.us-west-2.amazonaws.com";
            let (payload, token) = ("UNSIGNED-PAYLOAD", token.as_deref());
            let expected = reference("PUT", host, &target, &fields, payload, token, now);
            let token = token.map(str::as_bytes);
            prop_assert_eq!(ours("PUT", host, &target, &fields, payload, token, now), expected);
        }
    }

    proptest! {
        #[test]
        fn a_link_is_signed_as_aws_sigv4_signs_it(
            key in "[ -~é]{0,24}",
            value in "[ -~]{1,8}",
            token in proptest::option::of("[A-Za-z0-9+/=]{4,20}"),
            seconds in 1_u64..604_800,
            now in 1_400_000_000_u64..2_000_000_000,
        ) {
            let credentials = presign::Credentials::new(ACCESS_KEY, SECRET, token.as_deref());
            let link = presign::Link {
                method: "GET",
                host: "s3.studio.test",
                key: &key,
                query: &[("response-content-type", &value)],
                region: "us-west-2",
                signed_at: UNIX_EPOCH + Duration::from_secs(now),
                expires_in: Duration::from_secs(seconds),
            };
            let expected = presign::presign(&credentials, &link).unwrap();
            let stamp = Stamp::at(now);
            let signing = SigningKey::derive(&Secret::new(SECRET.into()), Scope::of_s3(&stamp, REGION));
            let signer = Signer { access_key: ACCESS_KEY, key: &signing, region: REGION, stamp: &stamp };
            let target = format!(
                "/{}?response-content-type={}",
                encoded(&key, escape::Slash::Keep),
                encoded(&value, escape::Slash::Encode)
            );
            let token = token.as_deref().map(str::as_bytes);
            let made = Composer::default()
                .presign(b"GET", b"s3.studio.test", target.as_bytes(), seconds, token, &signer)
                .unwrap();
            // The parameters may stand in another order.
            let sorted = |target: &[u8]| {
                let text = String::from_utf8(target.to_vec()).unwrap();
                let mut pairs: Vec<_> = text.split(['?', '&']).map(str::to_string).collect();
                pairs.sort();
                pairs
            };
            prop_assert_eq!(sorted(&made), sorted(expected.as_bytes()));
        }
    }

    #[test]
    fn fields_of_one_name_are_signed_in_their_order() {
        let field = |name: &str, value: &str| (name.to_string(), value.to_string());
        let together = ours("PUT", "h", "/k", &[field("x-amz-meta-a", "1,2")], "UNSIGNED-PAYLOAD", None, 1_500_000_000);
        let apart = [field("X-Amz-Meta-A", "1"), field("x-amz-meta-a", " 2 ")];
        assert_eq!(ours("PUT", "h", "/k", &apart, "UNSIGNED-PAYLOAD", None, 1_500_000_000), together);
    }

    /// Head and `Authorization` of a request for `/`.
    fn made(
        composer: &mut Composer,
        by: (Owner, Signer<'_>, Option<&[u8]>),
        (host, payload): (&[u8], &[u8]),
        field: Option<&str>,
    ) -> Result<(String, String), EncodeError> {
        let mut signing = composer.begin(by, host, payload)?;
        let mut head = Buffer::detached(2048);
        let mut writer = HeadWriter::new(&mut head);
        writer.request_line(b"GET", b"/").lines(signing.own_lines());
        writer.finish()?;
        if let Some(value) = field {
            signing.add(b"x-amz-meta-a", value.as_bytes());
        }
        let (_, authorization) = signing.sign(b"GET", Target::parse(b"/")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok((text(head.filled()), text(authorization)))
    }

    proptest! {
        #[test]
        fn nothing_is_left_of_the_request_before(
            requests in proptest::collection::vec(
                (0_usize..3, 0_usize..2, 0_usize..2, 0_u64..2, 0_usize..2, proptest::option::of("[a-z]{1,2}")), 1..8
            ),
        ) {
            let mut composer = Composer::default();
            for (who, host, payload, second, region, field) in requests {
                // The same key with other secrets and tokens, as after a renewal.
                let (secret, token) = [("one", None), ("two", Some(&b"token"[..])), ("three", Some(b"token 3"))][who];
                let host = ["one.s3.amazonaws.com", "two.s3.amazonaws.com"][host].as_bytes();
                let payload = ["UNSIGNED-PAYLOAD", "e3b0c44298fc1c149afbf4c8996fb924"][payload].as_bytes();
                let (stamp, region) = (Stamp::at(1_500_000_000 + second), [REGION, b"eu-west-1"][region]);
                let key = SigningKey::derive(&Secret::new(secret.into()), Scope::of_s3(&stamp, region));
                let signer = Signer { access_key: ACCESS_KEY, key: &key, region, stamp: &stamp };
                let by = (Owner::Credential(0, who as u64), signer, token);
                let fresh = made(&mut Composer::default(), by, (host, payload), field.as_deref()).unwrap();
                for _ in 0..2 {
                    let again = made(&mut composer, by, (host, payload), field.as_deref()).unwrap();
                    prop_assert_eq!(&again, &fresh);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_said_in_a_head_is_refused_and_leaves_nothing_half_made() {
        let stamp = Stamp::at(1_500_000_000);
        let key = SigningKey::derive(&Secret::new(SECRET.into()), Scope::of_s3(&stamp, REGION));
        let signer = Signer { access_key: ACCESS_KEY, key: &key, region: REGION, stamp: &stamp };
        let good = (&b"h"[..], UNSIGNED_PAYLOAD);
        let fresh = made(&mut Composer::default(), (WHO, signer, None), good, None).unwrap();
        let mut composer = Composer::default();
        for (host, payload, token) in [
            (&b"a\r\nb"[..], UNSIGNED_PAYLOAD, None),
            (b"other", b"a\nb", None),
            (b"other", UNSIGNED_PAYLOAD, Some(&b"\0"[..])),
        ] {
            assert_eq!(made(&mut composer, (WHO, signer, None), good, None).as_ref(), Ok(&fresh));
            let refused = made(&mut composer, (Owner::Credential(0, 2), signer, token), (host, payload), None);
            assert!(matches!(refused, Err(EncodeError::Refused(_))), "{refused:?}");
        }
        assert_eq!(made(&mut composer, (WHO, signer, None), good, None).as_ref(), Ok(&fresh));
    }
}
