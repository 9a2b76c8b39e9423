//! What a request says of its signature: who made it, when, over what.
//!
//! AWS: "Authenticating Requests: Using the Authorization Header" and "Using Query Parameters (AWS Signature Version 4)".
//! A claim is only what was written; [`verify`](super::verify) finds out whether it is true.

use std::borrow::Cow;

use crate::http::fields::Fields;
use crate::limits;
use crate::s3::query::{Kind, Pair, Part};
use crate::s3::target::Target;
use crate::sign::canonical::ALGORITHM;
use crate::sign::key::{Scope, Signature, TERMINATOR};
use crate::sign::time::Stamp;
use crate::sign::verify::UNSIGNED_PAYLOAD;

/// Where the signature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the `Authorization` field.
    Field,
    /// In the query: a presigned link.
    Query,
}

/// A signature and what it claims to be.
pub struct Claim<'a> {
    /// Where it was found.
    pub place: Place,
    credential: Cow<'a, [u8]>,
    /// Bytes of the access key, in front of `/` and the scope.
    access_key_len: usize,
    /// When.
    pub signed_at: Stamp,
    /// How long a link is good for, in seconds.
    pub expires: Option<u32>,
    /// Names of the signed fields, lower case, in order, between semicolons.
    pub names: Cow<'a, [u8]>,
    /// The session token of temporary credentials.
    pub token: Option<Cow<'a, [u8]>>,
    /// The signature.
    pub signature: Signature,
}

impl Claim<'_> {
    /// Who signed: the id of an access key.
    #[must_use]
    pub fn access_key(&self) -> &[u8] {
        &self.credential[..self.access_key_len]
    }

    /// What the key was derived for.
    #[must_use]
    pub fn scope(&self) -> Scope<'_> {
        // Checked when the claim was read.
        let mut parts = self.credential[self.access_key_len + 1..].split(|&byte| byte == b'/');
        let mut next = || parts.next().unwrap_or_default();
        Scope { date: next(), region: next(), service: next() }
    }

    /// Whether the field `name`, in lower case, is signed.
    #[must_use]
    pub fn covers(&self, name: &[u8]) -> bool {
        self.names.split(|&byte| byte == b';').any(|signed| signed == name)
    }
}

/// What is wrong with the way a request is signed, by S3's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Two signatures, or parts of two.
    TwoMechanisms,
    /// A kind of signature that the gate does not verify: version 2, or 4A.
    Unsupported,
    /// The `Authorization` field, and what about it.
    Field(&'static str),
    /// The parameters of the query, and what about them.
    Query(&'static str),
    /// No usable `x-amz-date`.
    NoDate,
}

/// Reads the claim of a request; `None` when it makes none.
///
/// # Errors
/// See [`Malformed`].
pub fn read<'a>(target: Target<'a>, fields: &Fields, block: &'a [u8]) -> Result<Option<Claim<'a>>, Malformed> {
    let mut values = fields.all(block, "authorization");
    let field = values.next();
    let link = Parameters::of(target);
    match (field, link.is_link()) {
        _ if values.next().is_some() => Err(Malformed::TwoMechanisms),
        (Some(_), _) if link.found.iter().any(Option::is_some) => Err(Malformed::TwoMechanisms),
        _ if link.is_old && (link.is_link() || field.is_some()) => Err(Malformed::TwoMechanisms),
        _ if link.is_old => Err(Malformed::Unsupported),
        (Some(value), _) => read_field(value, fields, block).map(Some),
        (None, true) => read_query(&link).map(Some),
        (None, false) => Ok(None),
    }
}

/// The parameters of a query that sign it.
#[derive(Default)]
struct Parameters<'a> {
    found: [Option<Pair<'a>>; Part::COUNT],
    /// One is there twice, or in another spelling than S3's.
    is_odd: bool,
    /// Signature version 2.
    is_old: bool,
}

impl<'a> Parameters<'a> {
    fn of(target: Target<'a>) -> Self {
        let mut seen = Self::default();
        for pair in target.pairs() {
            match pair.kind() {
                Kind::Signature(part) => {
                    seen.is_odd |= seen.found[part as usize].replace(pair).is_some() || !pair.is(part.name());
                }
                Kind::OldSignature => seen.is_old = true,
                Kind::Field | Kind::Other => {}
            }
        }
        seen
    }

    fn is_link(&self) -> bool {
        self.found[Part::Signature as usize].is_some() || self.found[Part::Algorithm as usize].is_some()
    }

    fn value(&self, part: Part) -> Option<Cow<'a, [u8]>> {
        self.found[part as usize].map(Pair::decoded_value)
    }
}

fn read_field<'a>(value: &'a [u8], fields: &Fields, block: &'a [u8]) -> Result<Claim<'a>, Malformed> {
    let Some(rest) = value.strip_prefix(ALGORITHM) else { return Err(Malformed::Unsupported) };
    if !rest.first().is_some_and(u8::is_ascii_whitespace) {
        return Err(Malformed::Unsupported);
    }
    let (mut credential, mut names, mut signature) = (None, None, None);
    for part in rest.split(|&byte| byte == b',') {
        let part = part.trim_ascii();
        let slot = match part.iter().position(|&byte| byte == b'=') {
            Some(at) => match &part[..at] {
                b"Credential" => (&mut credential, &part[at + 1..]),
                b"SignedHeaders" => (&mut names, &part[at + 1..]),
                b"Signature" => (&mut signature, &part[at + 1..]),
                _ => return Err(Malformed::Field("it has a component that is not known")),
            },
            None => return Err(Malformed::Field("a component has no =")),
        };
        if slot.0.replace(slot.1).is_some() {
            return Err(Malformed::Field("a component is given twice"));
        }
    }
    let (Some(credential), Some(names), Some(signature)) = (credential, names, signature) else {
        return Err(Malformed::Field("Credential, SignedHeaders and Signature are required"));
    };
    let (access_key, _) = split_credential(credential)
        .ok_or(Malformed::Field("the Credential is not <key>/YYYYMMDD/REGION/SERVICE/aws4_request"))?;
    check_names(names).map_err(Malformed::Field)?;
    let mut dates = fields.all(block, "x-amz-date");
    let (Some(date), None) = (dates.next(), dates.next()) else { return Err(Malformed::NoDate) };
    let claim = Claim {
        place: Place::Field,
        credential: Cow::Borrowed(credential),
        access_key_len: access_key.len(),
        signed_at: Stamp::parse(date).ok_or(Malformed::NoDate)?,
        expires: None,
        names: Cow::Borrowed(names),
        token: fields.get(block, "x-amz-security-token").map(Cow::Borrowed),
        signature: Signature::from_hex(signature)
            .ok_or(Malformed::Field("the Signature is not 64 hexadecimal digits"))?,
    };
    Ok(claim)
}

fn read_query<'a>(link: &Parameters<'a>) -> Result<Claim<'a>, Malformed> {
    if link.is_odd {
        return Err(Malformed::Query("a parameter of the signature is given twice, or is not spelled as it should be"));
    }
    if link.value(Part::Algorithm).as_deref() != Some(ALGORITHM) {
        return Err(Malformed::Query("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    if link.value(Part::ContentSha256).is_some_and(|payload| &*payload != UNSIGNED_PAYLOAD) {
        return Err(Malformed::Query("X-Amz-Content-Sha256 of a link may be UNSIGNED-PAYLOAD only"));
    }
    let required = |part| link.value(part).ok_or(Malformed::Query(REQUIRED));
    let credential = required(Part::Credential)?;
    let (signed_at, expires) = (required(Part::Date)?, required(Part::Expires)?);
    let (names, signature) = (required(Part::SignedHeaders)?, required(Part::Signature)?);
    let (access_key, _) = split_credential(&credential)
        .ok_or(Malformed::Query("the Credential is not <key>/YYYYMMDD/REGION/SERVICE/aws4_request"))?;
    let access_key_len = access_key.len();
    check_names(&names).map_err(Malformed::Query)?;
    Ok(Claim {
        place: Place::Query,
        credential,
        access_key_len,
        signed_at: Stamp::parse(&signed_at)
            .ok_or(Malformed::Query("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))?,
        expires: Some(seconds(&expires)?),
        names,
        token: link.value(Part::SecurityToken),
        signature: Signature::from_hex(&signature)
            .ok_or(Malformed::Query("X-Amz-Signature is not 64 hexadecimal digits"))?,
    })
}

const REQUIRED: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
    X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters";

/// Access key, and scope.
pub(super) fn split_credential(credential: &[u8]) -> Option<(&[u8], &[u8])> {
    // Region and service have no slash in them; an access key may.
    let mut parts = [&[][..]; 4];
    let mut rest = credential;
    for part in parts.iter_mut().rev() {
        let slash = memchr::memrchr(b'/', rest)?;
        (rest, *part) = (&rest[..slash], &rest[slash + 1..]);
    }
    let (access_key, [date, region, service, end]) = (rest, parts);
    let scope = &credential[access_key.len() + 1..];
    let is_scope = date.len() == 8
        && date.iter().all(u8::is_ascii_digit)
        && is_name(region)
        && is_name(service)
        && end == TERMINATOR;
    (is_scope && !access_key.is_empty() && access_key.len() <= limits::ACCESS_KEY_BYTES_MAX)
        .then_some((access_key, scope))
}

fn is_name(name: &[u8]) -> bool {
    (1..=64).contains(&name.len()) && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// In lower case and in order, each once, `host` among them.
fn check_names(names: &[u8]) -> Result<(), &'static str> {
    let is_token = |name: &[u8]| {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(byte);
        !name.is_empty() && name.iter().all(plain)
    };
    let all = || names.split(|&byte| byte == b';');
    if !all().all(is_token) || !all().is_sorted_by(|one, next| one < next) {
        return Err("the names of the signed headers are not in lower case and in order");
    }
    if all().any(|name| name == b"host") { Ok(()) } else { Err("the host header is not signed") }
}

fn seconds(text: &[u8]) -> Result<u32, Malformed> {
    match text {
        [b'-', ..] => Err(Malformed::Query("X-Amz-Expires must be non-negative")),
        _ if text.is_empty() || !text.iter().all(u8::is_ascii_digit) => {
            Err(Malformed::Query("X-Amz-Expires should be a number"))
        }
        _ => {
            let value =
                text.iter().try_fold(0_u32, |value, digit| value.checked_mul(10)?.checked_add(u32::from(digit - b'0')));
            value.filter(|value| *value <= LINK_SECONDS_MAX).ok_or(Malformed::Query(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
            ))
        }
    }
}

/// A link is good for seven days at most.
const LINK_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;
