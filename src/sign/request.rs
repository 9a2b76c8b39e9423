//! Signing what the gate sends.
//!
//! AWS: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)". This is the path of every
//! request that is signed anew, so it writes into memory that is used again, with keys that were derived before. That it
//! signs as `aws-sigv4` does is held by a test.

use std::ops::Range;

use crate::s3::escape::{self, Slash};
use crate::s3::target::Target;
use crate::sign::canonical::{self, ALGORITHM, Scratch, Unsignable};
use crate::sign::key::{Scope, Signature, SigningKey};
use crate::sign::verify::UNSIGNED_PAYLOAD;

/// Room for one request that is to be signed, which can be used again.
#[derive(Default)]
pub struct Composer {
    scratch: Scratch,
    /// The canonical lines of the fields.
    lines: Vec<u8>,
    fields: Vec<Line>,
    /// The lines once more, sorted, where they came in another order.
    sorted: Vec<u8>,
    names: Vec<u8>,
    authorization: Vec<u8>,
}

/// `name:value` and the end of the line.
struct Line {
    name: Range<usize>,
    value: Range<usize>,
}

/// Who signs, when, for where.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Id of the access key.
    pub access_key: &'a str,
    /// The key that was derived for `scope`.
    pub key: &'a SigningKey,
    /// Day, region, service.
    pub scope: Scope<'a>,
    /// The time of signing, `20130524T000000Z`.
    pub time: &'a [u8],
}

impl Composer {
    /// Forgets the request before.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.fields.clear();
    }

    /// A field that is to be signed.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let start = self.lines.len();
        self.lines.extend(name.iter().map(u8::to_ascii_lowercase));
        let name = start..self.lines.len();
        canonical::write_values(std::iter::once(value), &mut self.lines);
        let value = name.end + 1..self.lines.len() - 1;
        self.fields.push(Line { name, value });
    }

    /// Signs a request with the fields that were added, whose target is written in the one way that needs no change to be
    /// signed (no empty pairs, everything escaped that AWS escapes, in upper case), and returns the signature, which is the seed of what follows in a
    /// body that is signed as well.
    ///
    /// # Errors
    /// When the query has too many parameters.
    pub fn sign(
        &mut self,
        method: &[u8],
        target: Target<'_>,
        payload: &[u8],
        by: &Signer<'_>,
    ) -> Result<Signature, Unsignable> {
        self.scratch.begin_plain(method, target)?;
        self.sort();
        let lines = if self.sorted.is_empty() { &self.lines } else { &self.sorted };
        self.scratch.add(lines);
        self.scratch.end(&self.names, payload);
        let signature = self.scratch.sign(by.time, by.scope, by.key);
        self.write_authorization(by, &signature);
        Ok(signature)
    }

    /// Puts the names together, and the lines in order where they are not.
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
        by.scope.write(&mut credential);
        let seconds = seconds.to_string();
        let parameters: [(&[u8], Option<&[u8]>); 6] = [
            (b"X-Amz-Algorithm", Some(ALGORITHM)),
            (b"X-Amz-Credential", Some(&credential)),
            (b"X-Amz-Date", Some(by.time)),
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
        self.scratch.begin(method, signed.path(), signed.pairs())?;
        self.clear();
        self.add(b"host", host);
        self.scratch.add(&self.lines);
        self.scratch.end(b"host", UNSIGNED_PAYLOAD);
        link.extend_from_slice(b"&X-Amz-Signature=");
        self.scratch.sign(by.time, by.scope, by.key).write_hex(&mut link);
        Ok(link)
    }

    /// The value of the `Authorization` field of the request that was signed last.
    #[must_use]
    pub fn authorization(&self) -> &[u8] {
        &self.authorization
    }

    fn write_authorization(&mut self, by: &Signer<'_>, signature: &Signature) {
        let out = &mut self.authorization;
        out.clear();
        for part in [ALGORITHM, b" Credential=", by.access_key.as_bytes(), b"/"] {
            out.extend_from_slice(part);
        }
        by.scope.write(out);
        for part in [b", SignedHeaders=", &self.names[..], b", Signature="] {
            out.extend_from_slice(part);
        }
        signature.write_hex(out);
    }
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A client, by its index.
    Client(usize),
    /// A credential, by its index, of a generation.
    Credential(usize, u64),
}

/// Keys that were derived. One is good for a day, a region and an owner.
#[derive(Default)]
pub struct Keys {
    known: Vec<Known>,
    /// Where the next one goes when there is no room.
    next: usize,
}

struct Known {
    owner: Owner,
    scope: Vec<u8>,
    key: SigningKey,
}

impl Keys {
    /// The key of `owner` for `scope`, derived by `derive` if it is not there.
    pub fn get(&mut self, owner: Owner, scope: Scope<'_>, derive: impl FnOnce() -> SigningKey) -> &SigningKey {
        let is_it = |known: &Known| known.owner == owner && scope.is(&known.scope);
        let at = match self.known.iter().position(is_it) {
            Some(at) => at,
            None => {
                let mut text = Vec::with_capacity(48);
                scope.write(&mut text);
                let known = Known { owner, scope: text, key: derive() };
                if self.known.len() < KEYS_MAX {
                    self.known.push(known);
                    self.known.len() - 1
                } else {
                    self.next = (self.next + 1) % KEYS_MAX;
                    self.known[self.next] = known;
                    self.next
                }
            }
        };
        &self.known[at].key
    }
}

/// Keys a shard keeps. A gate has few credentials and a day at a time; a client's key is derived again in microseconds.
const KEYS_MAX: usize = 32;

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
    use crate::sign::key::Secret;
    use crate::sign::presign;
    use crate::sign::time::Stamp;

    const ACCESS_KEY: &str = "ASIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    /// Signs with `aws-sigv4` and returns its `authorization`.
    fn reference(
        method: &str,
        host: &str,
        target: &str,
        fields: &[(String, String)],
        payload: &str,
        now: u64,
    ) -> String {
        let identity = aws_credential_types::Credentials::new(ACCESS_KEY, SECRET, None, None, "test").into();
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

    fn ours(method: &str, host: &str, target: &str, fields: &[(String, String)], payload: &str, now: u64) -> String {
        let stamp = Stamp::at(now);
        let scope = Scope { date: stamp.date(), region: b"us-west-2", service: b"s3" };
        let key = SigningKey::derive(&Secret::new(SECRET.into()), scope);
        let mut composer = Composer::default();
        composer.clear();
        for (name, value) in fields {
            composer.add(name.as_bytes(), value.as_bytes());
        }
        composer.add(b"Host", host.as_bytes());
        composer.add(b"X-Amz-Content-Sha256", payload.as_bytes());
        composer.add(b"X-Amz-Date", stamp.text());
        let signer = Signer { access_key: ACCESS_KEY, key: &key, scope, time: stamp.text() };
        let target = Target::parse(target.as_bytes());
        composer.sign(method.as_bytes(), target, payload.as_bytes(), &signer).unwrap();
        String::from_utf8(composer.authorization().to_vec()).unwrap()
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
            fields in proptest::collection::vec(("x-amz-meta-[a-f]{1,3}", "[!-~]{1,6}( {1,3}[!-~]{1,4}){0,2}"), 0..5),
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
            let expected = reference("PUT", host, &target, &fields, "UNSIGNED-PAYLOAD", now);
            prop_assert_eq!(ours("PUT", host, &target, &fields, "UNSIGNED-PAYLOAD", now), expected);
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
            let scope = Scope { date: stamp.date(), region: b"us-west-2", service: b"s3" };
            let signing = SigningKey::derive(&Secret::new(SECRET.into()), scope);
            let signer = Signer { access_key: ACCESS_KEY, key: &signing, scope, time: stamp.text() };
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
        let together = ours("PUT", "h", "/k", &[field("x-amz-meta-a", "1,2")], "UNSIGNED-PAYLOAD", 1_500_000_000);
        let apart = [field("X-Amz-Meta-A", "1"), field("x-amz-meta-a", " 2 ")];
        assert_eq!(ours("PUT", "h", "/k", &apart, "UNSIGNED-PAYLOAD", 1_500_000_000), together);
    }

    #[test]
    fn a_key_is_derived_once_for_each_owner_and_scope_and_few_are_kept() {
        let mut keys = Keys::default();
        let derived = std::cell::Cell::new(0);
        let secret = Secret::new(SECRET.into());
        let mut ask = |owner, date: &[u8], region: &[u8]| {
            let scope = Scope { date, region, service: b"s3" };
            let key = keys.get(owner, scope, || {
                derived.set(derived.get() + 1);
                SigningKey::derive(&secret, scope)
            });
            assert!(key.sign(b"x").is(&SigningKey::derive(&secret, scope).sign(b"x")));
            derived.get()
        };
        assert_eq!(ask(Owner::Client(1), b"20130524", b"us-east-1"), 1);
        assert_eq!(ask(Owner::Client(1), b"20130524", b"us-east-1"), 1);
        assert_eq!(ask(Owner::Client(2), b"20130524", b"us-east-1"), 2);
        assert_eq!(ask(Owner::Client(1), b"20130525", b"us-east-1"), 3);
        assert_eq!(ask(Owner::Client(1), b"20130524", b"us-east-2"), 4);
        assert_eq!(ask(Owner::Credential(1, 1), b"20130524", b"us-east-1"), 5);
        assert_eq!(ask(Owner::Credential(1, 2), b"20130524", b"us-east-1"), 6);
        for number in 0..100 {
            ask(Owner::Client(10 + number), b"20130524", b"us-east-1");
        }
        assert_eq!(keys.known.len(), KEYS_MAX);
    }
}
