//! Presigned links: signature version 4 in the query.
//!
//! AWS: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)". The payload is unsigned and the
//! only signed header is `host`, which is what ShotGrid's and every SDK's media links look like. The path is encoded
//! once and never normalised: in S3 `a//b` and `a/../b` are keys of their own.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;

use crate::s3::escape::{Slash, encode};

/// What a link is signed with. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Credentials(aws_credential_types::Credentials);

impl Credentials {
    /// Long-lived credentials, or temporary ones when there is a session token.
    #[must_use]
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        Self(aws_credential_types::Credentials::new(
            access_key_id,
            secret_access_key,
            session_token.map(str::to_owned),
            None,
            "filmgate",
        ))
    }
}

/// One link to be made.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The method the link is good for; S3 refuses every other one.
    pub method: &'a str,
    /// The `Host` that S3 will see, bucket included (virtual-hosted style).
    pub host: &'a str,
    /// The object key as it is, not encoded.
    pub key: &'a str,
    /// Query parameters that are signed along, not encoded; an empty value stands for a bare name such as `uploads`.
    pub query: &'a [(&'a str, &'a str)],
    /// The bucket's region.
    pub region: &'a str,
    /// The moment of signing.
    pub signed_at: SystemTime,
    /// How long the link is good for: whole seconds, 1 s to [`EXPIRY_MAX`].
    pub expires_in: Duration,
}

/// S3 refuses links that are good for more than seven days.
pub const EXPIRY_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Signs `link` and returns its request target, path and query, ready to be put behind `https://` and a name.
///
/// # Errors
/// When the expiry is out of S3's bounds or a value cannot be part of a URI.
pub fn presign(credentials: &Credentials, link: &Link<'_>) -> Result<String, Error> {
    if link.expires_in < Duration::from_secs(1) || link.expires_in > EXPIRY_MAX {
        return Err(Error::Expiry(link.expires_in));
    }
    let mut target = unsigned_target(link.key, link.query);
    let identity = credentials.0.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(link.region)
        .name("s3")
        .time(link.signed_at)
        .settings(settings(link.expires_in))
        .build()
        .map_err(refused)?
        .into();
    let uri = format!("https://{}{target}", link.host);
    let request = SignableRequest::new(link.method, uri, std::iter::empty(), SignableBody::UnsignedPayload);
    let (instructions, _) = sign(request.map_err(refused)?, &params).map_err(refused)?.into_parts();
    for (name, value) in instructions.params() {
        push_parameter(&mut target, name, value);
    }
    Ok(target)
}

/// The request target of `key` without a signature: `/` and the key, encoded once by S3's rule, then the query.
#[must_use]
pub fn unsigned_target(key: &str, query: &[(&str, &str)]) -> String {
    let mut target = String::with_capacity(key.len() + 512);
    target.push('/');
    push_encoded(&mut target, key, Slash::Keep);
    for (name, value) in query {
        push_parameter(&mut target, name, value);
    }
    target
}

fn settings(expires_in: Duration) -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(expires_in);
    settings
}

fn push_parameter(target: &mut String, name: &str, value: &str) {
    target.push(if target.contains('?') { '&' } else { '?' });
    push_encoded(target, name, Slash::Encode);
    if !value.is_empty() {
        target.push('=');
        push_encoded(target, value, Slash::Encode);
    }
}

fn push_encoded(target: &mut String, text: &str, slash: Slash) {
    let mut encoded = Vec::with_capacity(text.len());
    encode(text.as_bytes(), slash, &mut encoded);
    // What the coder writes is ASCII, so each byte is a character.
    target.extend(encoded.into_iter().map(char::from));
}

fn refused(error: impl fmt::Display) -> Error {
    Error::Refused(Cow::Owned(error.to_string()))
}

/// Why a link could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Less than a second or more than seven days.
    Expiry(Duration),
    /// The signer would not take a value.
    Refused(Cow<'static, str>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expiry(given) => {
                write!(f, "a link can be good for 1 second to 7 days, not for {} s", given.as_secs_f64())
            }
            Self::Refused(why) => write!(f, "the link cannot be signed: {why}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20130524T000000Z, the moment of every example in AWS's signature documentation.
    const EXAMPLE_TIME: u64 = 1_369_353_600;

    fn example_credentials() -> Credentials {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None)
    }

    fn example() -> Link<'static> {
        Link {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            key: "test.txt",
            query: &[],
            region: "us-east-1",
            signed_at: SystemTime::UNIX_EPOCH + Duration::from_secs(EXAMPLE_TIME),
            expires_in: Duration::from_secs(86_400),
        }
    }

    fn signature(target: &str) -> &str {
        target.split_once("X-Amz-Signature=").unwrap().1
    }

    #[test]
    fn the_example_in_the_documentation_gets_the_signature_in_the_documentation() {
        assert_eq!(
            presign(&example_credentials(), &example()).unwrap(),
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn a_key_is_encoded_once_and_never_normalised() {
        for (key, path) in [
            ("a b+c", "/a%20b%2Bc"),
            ("100%", "/100%25"),
            ("a%2Fb", "/a%252Fb"),
            ("a//b/../c/.", "/a//b/../c/."),
            ("/", "//"),
            ("q?x#y&z=1", "/q%3Fx%23y%26z%3D1"),
            ("café 日本", "/caf%C3%A9%20%E6%97%A5%E6%9C%AC"),
            ("~-._", "/~-._"),
        ] {
            let target = presign(&example_credentials(), &Link { key, ..example() }).unwrap();
            assert_eq!(target.split_once('?').unwrap().0, path);
        }
    }

    #[test]
    fn parameters_are_signed_and_a_bare_name_stays_bare() {
        let query = [("uploadId", "a/b+c="), ("uploads", "")];
        let target = presign(&example_credentials(), &Link { query: &query, ..example() }).unwrap();
        assert!(target.starts_with("/test.txt?uploadId=a%2Fb%2Bc%3D&uploads&X-Amz-Algorithm="), "{target}");
        assert_ne!(signature(&target), signature(&presign(&example_credentials(), &example()).unwrap()));
    }

    #[test]
    fn every_part_of_a_link_changes_its_signature() {
        let credentials = example_credentials();
        let plain = presign(&credentials, &example()).unwrap();
        let later = example().signed_at + Duration::from_secs(1);
        for other in [
            Link { method: "PUT", ..example() },
            Link { host: "s3-proxy.mystudio.com", ..example() },
            Link { key: "test.tx", ..example() },
            Link { region: "us-west-2", ..example() },
            Link { signed_at: later, ..example() },
            Link { expires_in: Duration::from_secs(60), ..example() },
        ] {
            assert_ne!(signature(&presign(&credentials, &other).unwrap()), signature(&plain), "{other:?}");
        }
    }

    #[test]
    fn a_session_token_travels_in_the_query() {
        let credentials = Credentials::new("AKIA", "secret", Some("to/ken=="));
        let target = presign(&credentials, &example()).unwrap();
        assert!(target.contains("X-Amz-Security-Token=to%2Fken%3D%3D"), "{target}");
    }

    #[test]
    fn an_expiry_out_of_bounds_is_refused() {
        for seconds in [0, 7 * 86_400 + 1] {
            let expires_in = Duration::from_secs(seconds);
            let made = presign(&example_credentials(), &Link { expires_in, ..example() });
            assert_eq!(made, Err(Error::Expiry(expires_in)));
        }
    }

    #[test]
    fn a_host_that_is_no_host_is_refused() {
        let made = presign(&example_credentials(), &Link { host: "not a host", ..example() });
        assert!(matches!(made, Err(Error::Refused(_))), "{made:?}");
    }

    #[test]
    fn credentials_do_not_print_their_secret() {
        let printed = format!("{:?}", Credentials::new("AKIA", "the-secret", Some("the-token")));
        assert!(!printed.contains("the-secret") && !printed.contains("the-token"), "{printed}");
    }
}
