//! What a request says of its signature: who made it, when, over what.
//!
//! AWS: "Authenticating Requests: Using the Authorization Header" and "Using Query Parameters (AWS Signature Version 4)".
//! A claim is only what was written; [`verify`](super::verify) finds out whether it is true.

use std::borrow::Cow;
use std::ops::Range;

use crate::http::fields::Fields;
use crate::limits;
use crate::s3::escape;
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
    parts: Parts,
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
        self.parts.access_key(&self.credential)
    }

    /// What the key was derived for.
    #[must_use]
    pub fn scope(&self) -> Scope<'_> {
        self.parts.scope(&self.credential)
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
                Kind::Signature(part) => seen.is_odd |= seen.found[part as usize].replace(pair).is_some(),
                Kind::Misspelled(part) => {
                    seen.found[part as usize] = Some(pair);
                    seen.is_odd = true;
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

    /// The value as written.
    fn raw(&self, part: Part) -> Option<&'a [u8]> {
        self.found[part as usize].map(|pair| pair.value.unwrap_or_default())
    }

    /// The decoded value.
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
    let parts = Parts::of(credential)
        .ok_or(Malformed::Field("the Credential is not <key>/YYYYMMDD/REGION/SERVICE/aws4_request"))?;
    check_names(names).map_err(Malformed::Field)?;
    let mut dates = fields.all(block, "x-amz-date");
    let (Some(date), None) = (dates.next(), dates.next()) else { return Err(Malformed::NoDate) };
    let claim = Claim {
        place: Place::Field,
        credential: Cow::Borrowed(credential),
        parts,
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
    let is_as = |part, wanted: &[u8]| link.raw(part).map(|raw| raw == wanted || escape::decode_form(raw) == wanted);
    if is_as(Part::Algorithm, ALGORITHM) != Some(true) {
        return Err(Malformed::Query("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    if is_as(Part::ContentSha256, UNSIGNED_PAYLOAD) == Some(false) {
        return Err(Malformed::Query("X-Amz-Content-Sha256 of a link may be UNSIGNED-PAYLOAD only"));
    }
    let required = |part| link.raw(part).ok_or(Malformed::Query(REQUIRED));
    let credential = required(Part::Credential)?;
    let (signed_at, expires) = (required(Part::Date)?, required(Part::Expires)?);
    let (names, signature) = (required(Part::SignedHeaders)?, required(Part::Signature)?);
    let (credential, parts) = read_credential(credential)
        .ok_or(Malformed::Query("the Credential is not <key>/YYYYMMDD/REGION/SERVICE/aws4_request"))?;
    let names = escape::decode_form(names);
    check_names(&names).map_err(Malformed::Query)?;
    Ok(Claim {
        place: Place::Query,
        credential,
        parts,
        signed_at: either(signed_at, Stamp::parse)
            .ok_or(Malformed::Query("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))?,
        expires: Some(seconds(expires).or_else(|_| seconds(&escape::decode_form(expires)))?),
        names,
        token: link.value(Part::SecurityToken),
        signature: either(signature, Signature::from_hex)
            .ok_or(Malformed::Query("X-Amz-Signature is not 64 hexadecimal digits"))?,
    })
}

/// What `read` makes of a value, as written or else decoded. It must not take a `%` or a `+`.
fn either<T>(raw: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    read(raw).or_else(|| read(&escape::decode_form(raw)))
}

const REQUIRED: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
    X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters";

/// Where the parts of a credential are: `<key>/YYYYMMDD/REGION/SERVICE/aws4_request`.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    access_key: Range<usize>,
    date: Range<usize>,
    region: Range<usize>,
    service: Range<usize>,
}

impl Parts {
    /// Those of a credential as it is meant.
    pub(super) fn of(credential: &[u8]) -> Option<Self> {
        Self::between(credential, |credential| {
            let at = memchr::memrchr(b'/', credential)?;
            Some(at..at + 1)
        })
    }

    /// Those of a credential in a query, if nothing but its slashes is escaped.
    fn of_escaped(credential: &[u8]) -> Option<Self> {
        let parts = Self::between(credential, |credential| {
            let at = memchr::memrchr2(b'/', b'%', credential)?;
            match credential[at..] {
                [b'/', ..] => Some(at..at + 1),
                [b'%', b'2', b'F' | b'f', ..] => Some(at..at + 3),
                _ => None,
            }
        })?;
        memchr::memchr2(b'%', b'+', parts.access_key(credential)).is_none().then_some(parts)
    }

    /// Those between slashes, the last of which `slash` finds.
    fn between(credential: &[u8], slash: impl Fn(&[u8]) -> Option<Range<usize>>) -> Option<Self> {
        // Region and service have no slash in them; an access key may.
        let mut rest = 0..credential.len();
        let mut last = || {
            let slash = slash(&credential[rest.clone()])?;
            let part = slash.end..rest.end;
            rest.end = slash.start;
            Some(part)
        };
        let (end, service, region, date) = (last()?, last()?, last()?, last()?);
        let parts = Self { access_key: rest, date, region, service };
        let Scope { date, region, service } = parts.scope(credential);
        let is_scope = date.len() == 8
            && date.iter().all(u8::is_ascii_digit)
            && is_name(region)
            && is_name(service)
            && &credential[end] == TERMINATOR;
        (is_scope && (1..=limits::ACCESS_KEY_BYTES_MAX).contains(&parts.access_key.len())).then_some(parts)
    }

    /// Who signed.
    pub(super) fn access_key<'c>(&self, credential: &'c [u8]) -> &'c [u8] {
        &credential[self.access_key.clone()]
    }

    /// What the key was derived for.
    pub(super) fn scope<'c>(&self, credential: &'c [u8]) -> Scope<'c> {
        let part = |range: &Range<usize>| &credential[range.clone()];
        Scope { date: part(&self.date), region: part(&self.region), service: part(&self.service) }
    }
}

/// A credential from a query, and its parts.
fn read_credential(raw: &[u8]) -> Option<(Cow<'_, [u8]>, Parts)> {
    if let Some(parts) = Parts::of_escaped(raw) {
        return Some((Cow::Borrowed(raw), parts));
    }
    let credential = escape::decode_form(raw);
    let parts = Parts::of(&credential)?;
    Some((credential, parts))
}

fn is_name(name: &[u8]) -> bool {
    (1..=64).contains(&name.len()) && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// In lower case and in order, each once, `host` among them.
fn check_names(names: &[u8]) -> Result<(), &'static str> {
    if names == b"host" {
        return Ok(());
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_credential_is_cut_from_its_end() {
        let credential = b"A/K/20130524/us-east-1/s3/aws4_request";
        let parts = Parts::of(credential).unwrap();
        let scope = Scope { date: b"20130524", region: b"us-east-1", service: b"s3" };
        assert_eq!((parts.access_key(credential), parts.scope(credential)), (&b"A/K"[..], scope));
        for wrong in [
            "",
            "/",
            "/20130524/us-east-1/s3/aws4_request",
            "20130524/us-east-1/s3/aws4_request",
            "K/2013052/us-east-1/s3/aws4_request",
            "K/2013052x/us-east-1/s3/aws4_request",
            "K/20130524//s3/aws4_request",
            "K/20130524/us_east_1/s3/aws4_request",
            "K/20130524/us-east-1/s3/aws4_request/",
            "K/20130524/us-east-1/s3/aws5_request",
            "K%2F20130524%2Fus-east-1%2Fs3%2Faws4_request",
        ] {
            assert!(Parts::of(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_credential_in_a_query_is_cut_as_it_stands_where_only_its_slashes_are_escaped() {
        for (raw, is_cut) in [
            ("AK/20130524/us-east-1/s3/aws4_request", true),
            ("AK%2F20130524%2Fus-east-1%2Fs3%2Faws4_request", true),
            ("AK%2f20130524/us-east-1%2Fs3%2faws4_request", true),
            ("A/K%2F20130524%2Fus-east-1%2Fs3%2Faws4_request", true),
            ("A%2FK%2F20130524%2Fus-east-1%2Fs3%2Faws4_request", false),
            ("A%2BK%2F20130524%2Fus-east-1%2Fs3%2Faws4_request", false),
            ("A+K%2F20130524%2Fus-east-1%2Fs3%2Faws4_request", false),
            ("AK%252F20130524%2Fus-east-1%2Fs3%2Faws4_request", false),
            ("AK%2F20130524%2Fus%2Deast-1%2Fs3%2Faws4_request", false),
            ("AK%2F20130524%2Fus-east-1%2Fs3%2Faws4%5Frequest", false),
            ("AK%2F20130524%2Fus-east-1%2Fs3%2", false),
        ] {
            assert_eq!(Parts::of_escaped(raw.as_bytes()).is_some(), is_cut, "{raw}");
        }
    }

    /// What is nearly always good.
    fn mostly(good: &'static str, otherwise: &'static str) -> impl Strategy<Value = String> {
        prop_oneof![9 => good, 1 => otherwise]
    }

    proptest! {
        #[test]
        fn a_credential_in_a_query_says_what_it_says_decoded(
            key in "[AK]{1,3}([/+%]|%2F|%2f|%25|%4B)?[AK]{0,2}",
            date in mostly("2013052[45]", "2013052[x%]"),
            slashes in proptest::collection::vec(mostly("/|%2F|%2f", "%252F|%2|"), 4),
            region in mostly("us-[a-c]{1,3}-1", "(us[+%])?(%2D)?"),
            end in mostly("aws4_request", "aws4(_|%5F)request[+%]?"),
        ) {
            let raw = format!("{key}{}{date}{}{region}{}s3{}{end}", slashes[0], slashes[1], slashes[2], slashes[3]);
            let decoded = escape::decode_form(raw.as_bytes());
            let read = read_credential(raw.as_bytes());
            let read = read.as_ref().map(|(text, parts)| (parts.access_key(text), parts.scope(text)));
            let parts = Parts::of(&decoded);
            let expected = parts.as_ref().map(|parts| (parts.access_key(&decoded), parts.scope(&decoded)));
            prop_assert_eq!(read, expected);
        }
    }
}
