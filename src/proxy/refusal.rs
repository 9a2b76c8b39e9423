//! Why a route that signs anew does not pass a request on, and what S3 would say to it.
//!
//! Codes are those of "Error responses" in the Amazon S3 API Reference, because SDKs act on them: a clock that is wrong
//! is corrected after `RequestTimeTooSkewed`, a region after `AuthorizationHeaderMalformed`.

use std::borrow::Cow;

use crate::access::{Party, Phase};
use crate::policy::authorize;
use crate::proxy::failure::Row;
use crate::s3::delete;
use crate::s3::form::FormError;
use crate::sign::canonical::Unsignable;
use crate::sign::claim::{Malformed, Place};
use crate::sign::form::FormRefusal;
use crate::sign::payload::PayloadError;
use crate::sign::verify::Refusal;

/// Why a request is refused.
#[derive(Debug)]
pub enum Refused {
    /// It is not signed, and nobody is known by where it comes from.
    Anonymous,
    /// Its signature cannot be read.
    Malformed(Malformed),
    /// Its signature does not hold.
    Signature {
        /// What is wrong.
        refusal: Refusal,
        /// Where the signature is.
        place: Place,
        /// The region it should have been made for.
        region: String,
        /// What was signed, by the gate's reading, for the owner of the key to compare.
        reading: Option<Box<Reading>>,
    },
    /// The key is nobody's.
    UnknownKey,
    /// The session token is not the key's.
    Token,
    /// The client is known, and may not come from there, or now.
    NotAdmitted(&'static str),
    /// The policy does not allow it, or denies it.
    Denied {
        /// What was asked for, an operation of the S3 API.
        operation: &'static str,
    },
    /// A bucket the route does not have.
    NoSuchBucket,
    /// A key that not every server reads in the same way.
    Key,
    /// A copy from something that is not one object of the route's buckets.
    CopySource(&'static str),
    /// Something the gate does not know and therefore cannot decide about.
    Unknown(String),
    /// A body that is not as it should be.
    Payload(PayloadError),
    /// A form that cannot be read.
    FormShape(FormError),
    /// A form that does not say how long it is.
    FormLength,
    /// A form that does not keep to its policy.
    Form(FormRefusal),
    /// A body that had to be read and is not what it should be.
    Document(delete::NotTaken),
    /// A field that came in the query and cannot be one.
    Hoisted,
    /// There are no valid credentials to sign with.
    NoCredentials,
}

/// What was signed, by the gate's reading.
#[derive(Debug)]
pub struct Reading {
    /// Id of the key.
    pub access_key: String,
    /// The string to sign.
    pub string_to_sign: String,
    /// The canonical request.
    pub canonical: String,
}

impl Refused {
    /// The table.
    #[must_use]
    pub fn row(&self) -> Row {
        let row = |status, code, slug, message: Cow<'static, str>| Row {
            status,
            code,
            slug,
            message,
            by: Party::Gate,
            at: Phase::Authorize,
        };
        match self {
            Self::Anonymous => row(403, "AccessDenied", "anonymous",
                "This name serves signed requests only, and this one carries no signature.".into()),
            Self::Malformed(what) => malformed(*what),
            Self::Signature { refusal, place, region, .. } => signature(*refusal, *place, region),
            Self::UnknownKey => row(403, "InvalidAccessKeyId", "unknown-key",
                "The access key you provided is not one of this gate's.".into()),
            Self::Token => row(400, "InvalidToken", "token",
                "The session token is missing, or is not the one of this access key.".into()),
            Self::NotAdmitted(why) => row(403, "AccessDenied", "not-admitted", format!("This client is known, but {why}.").into()),
            Self::Denied { operation } => row(403, "AccessDenied", "denied",
                format!("The gate's policy does not allow {operation} here to this client.").into()),
            Self::NoSuchBucket => row(404, "NoSuchBucket", "no-such-bucket",
                "This gate serves no bucket of that name here.".into()),
            Self::Key => row(400, "InvalidURI", "key",
                "A key of slashes only, with a segment of one or two dots, or with a zero byte is read differently by different servers; \
                 the gate does not sign for it.".into()),
            Self::CopySource(why) => row(400, "InvalidArgument", "copy-source", format!("{why}.").into()),
            Self::Unknown(what) => row(501, "NotImplemented", "unknown",
                format!("The gate does not know {what}, so it cannot decide about it.").into()),
            Self::Payload(error) => payload(*error),
            Self::FormShape(error) => refused(error.code().0, error.code().1, "form-shape", error.to_string()),
            Self::FormLength => refused(411, "MissingContentLength", "form-length",
                "You must provide the Content-Length HTTP header."),
            Self::Form(refusal) => refused(refusal.code().0, refusal.code().1, "form", refusal.to_string()),
            Self::Document(why) => row(400, "MalformedXML", "document", format!("{why}.").into()),
            Self::Hoisted => row(400, "InvalidRequest", "hoisted",
                "A parameter of the query stands for a header that could not be sent like that, or is given twice.".into()),
            Self::NoCredentials => row(503, "ServiceUnavailable", "no-credentials",
                "The gate has no valid credentials for the storage at the moment. Please try again in a minute; if it stays so, \
                 tell your administrator: the gate's log says why.".into()),
        }
    }

    /// What the policy's no to `operation` means.
    #[must_use]
    pub fn of_policy(refused: authorize::Refused, operation: &'static str) -> Self {
        match refused {
            authorize::Refused::Key(_) => Self::Key,
            authorize::Refused::CopySource(why) => Self::CopySource(why),
            _ => Self::Denied { operation },
        }
    }

    /// What else the answer says, as elements of its XML.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Signature { reading: Some(reading), .. } => vec![
                ("AWSAccessKeyId", reading.access_key.as_str()),
                ("StringToSign", reading.string_to_sign.as_str()),
                ("CanonicalRequest", reading.canonical.as_str()),
            ],
            Self::Signature { refusal: Refusal::WrongScope, region, .. } => vec![("Region", region.as_str())],
            _ => Vec::new(),
        }
    }
}

fn refused(status: u16, code: &'static str, slug: &'static str, message: impl Into<Cow<'static, str>>) -> Row {
    Row { status, code, slug, message: message.into(), by: Party::Client, at: Phase::Authorize }
}

fn malformed(what: Malformed) -> Row {
    match what {
        Malformed::TwoMechanisms => refused(
            400,
            "InvalidArgument",
            "two-mechanisms",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the \
             Authorization header should be specified.",
        ),
        Malformed::Unsupported => refused(
            501,
            "NotImplemented",
            "signature-version",
            "The gate verifies signature version 4 (AWS4-HMAC-SHA256) and no other.",
        ),
        Malformed::Field(why) => refused(
            400,
            "AuthorizationHeaderMalformed",
            "authorization",
            format!("The authorization header is malformed; {why}."),
        ),
        Malformed::Query(why) => refused(400, "AuthorizationQueryParametersError", "authorization-query", why),
        Malformed::NoDate => {
            refused(403, "AccessDenied", "no-date", "AWS authentication requires a valid x-amz-date header.")
        }
    }
}

fn signature(refusal: Refusal, place: Place, region: &str) -> Row {
    let scope = |slug, message: String| match place {
        Place::Field => refused(
            400,
            "AuthorizationHeaderMalformed",
            slug,
            format!("The authorization header is malformed; {message}"),
        ),
        Place::Query => refused(
            400,
            "AuthorizationQueryParametersError",
            slug,
            format!("Error parsing the X-Amz-Credential parameter; {message}"),
        ),
    };
    match refusal {
        Refusal::WrongScope => scope("scope", format!("the scope is not one of service s3 in region '{region}'.")),
        Refusal::WrongDay => scope("scope-day", "the day of the scope is not the day of signing.".into()),
        Refusal::Skewed => refused(
            403,
            "RequestTimeTooSkewed",
            "skewed",
            "The difference between the request time and the gate's time is too large (15 minutes are allowed).",
        ),
        Refusal::Expired => refused(403, "AccessDenied", "expired", "Request has expired."),
        Refusal::NotYet => refused(403, "AccessDenied", "not-yet", "Request is not valid yet."),
        Refusal::NotSigned => refused(
            403,
            "AccessDenied",
            "not-signed",
            "There were headers present in the request which were not signed.",
        ),
        Refusal::NoDigest => refused(
            400,
            "InvalidRequest",
            "no-digest",
            "Missing required header for this request: x-amz-content-sha256.",
        ),
        Refusal::Unsignable(Unsignable::TooManyParameters) => {
            refused(400, "InvalidRequest", "parameters", "The request has more query parameters than the gate accepts.")
        }
        Refusal::Unsignable(Unsignable::FieldMissing) | Refusal::Mismatch => refused(
            403,
            "SignatureDoesNotMatch",
            "signature",
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        ),
    }
}

fn payload(error: PayloadError) -> Row {
    use PayloadError as E;
    let row = |status, code, slug, message: &'static str| Row {
        status,
        code,
        slug,
        message: message.into(),
        by: Party::Client,
        at: Phase::RequestBody,
    };
    match error {
        E::ChunkSignature => row(
            403,
            "SignatureDoesNotMatch",
            "chunk-signature",
            "The signature of a part of the body does not match; nothing was stored.",
        ),
        E::Malformed(_) => row(
            400,
            "InvalidRequest",
            "payload-malformed",
            "The body is not in the aws-chunked coding it was announced in; nothing was stored.",
        ),
        E::ChunkTooLarge => row(
            400,
            "InvalidRequest",
            "chunk-too-large",
            "A signed chunk is larger than the gate holds (1 MiB); nothing was stored.",
        ),
        E::LengthMismatch => row(
            400,
            "IncompleteBody",
            "decoded-length",
            "You did not provide the number of bytes specified by the x-amz-decoded-content-length header; nothing was stored.",
        ),
        E::DigestMismatch => row(
            400,
            "XAmzContentSHA256Mismatch",
            "digest",
            "The provided 'x-amz-content-sha256' header does not match what was computed; nothing was stored.",
        ),
        E::ChecksumMismatch(_) => row(
            400,
            "BadDigest",
            "checksum",
            "The checksum you specified does not match the payload; nothing was stored.",
        ),
        E::TrailerUnexpected | E::TrailerMissing => row(
            400,
            "MalformedTrailerError",
            "trailer",
            "The trailer of the request is not the one that was announced in x-amz-trailer; nothing was stored.",
        ),
    }
}
