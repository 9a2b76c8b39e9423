//! Whether a claim is true.
//!
//! The order is S3's: who signed, for where, when, what is not covered, and last whether the signature fits. Nothing is told
//! about a signature before its key is known, and what the gate has computed is told to nobody but the owner of that key.

use crate::http::fields::Fields;
use crate::s3::query::Part;
use crate::s3::target::Target;
use crate::sign::canonical::{Scratch, Signed, Unsignable};
use crate::sign::claim::{Claim, Place};
use crate::sign::key::SigningKey;

/// A request as it is to be verified.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Path and query as they came.
    pub target: Target<'a>,
    /// The fields of the head that was read from `block`.
    pub fields: &'a Fields,
    /// The head.
    pub block: &'a [u8],
}

/// What S3 would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Signed for another region or service than the gate's bucket is in.
    WrongScope,
    /// The day of the scope is not the day of signing.
    WrongDay,
    /// The two clocks are too far apart (15 minutes).
    Skewed,
    /// The link is no longer good.
    Expired,
    /// The link is not good yet.
    NotYet,
    /// An `x-amz-` field is there and not signed.
    NotSigned,
    /// There is no `x-amz-content-sha256`.
    NoDigest,
    /// The request has no canonical form.
    Unsignable(Unsignable),
    /// Signed with another secret, or not what was signed. The canonical form and the string to sign are in the scratch.
    Mismatch,
}

/// How far the two clocks may be apart, in seconds (AWS, `RequestTimeTooSkewed`).
pub const SKEW_MAX: u64 = 15 * 60;

/// Stands for a payload that is not hashed.
pub const UNSIGNED_PAYLOAD: &[u8] = b"UNSIGNED-PAYLOAD";

/// Verifies a claim by `key`, which was derived for the scope it names. Returns what stands for the payload.
///
/// # Errors
/// What is not as it should be.
pub fn verify<'a>(
    framed: Framed<'_, '_>,
    key: &SigningKey,
    evidence: &Evidence<'a>,
    scratch: &mut Scratch,
) -> Result<&'a [u8], Refusal> {
    let claim = framed.0;
    let Evidence { method, target, fields, block } = *evidence;
    let is_ours = |name: &[u8]| name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-"));
    let is_covered =
        |name: &[u8]| claim.names.split(|&byte| byte == b';').any(|signed| signed.eq_ignore_ascii_case(name));
    if fields.extensions(block).any(|(name, _)| is_ours(name) && !is_covered(name)) {
        return Err(Refusal::NotSigned);
    }
    let digest = fields.get(block, "x-amz-content-sha256");
    let (payload, without) = match claim.place {
        Place::Field => (digest.ok_or(Refusal::NoDigest)?, None),
        Place::Query => (digest.unwrap_or(UNSIGNED_PAYLOAD), Some(Part::Signature)),
    };
    let signed = Signed { method, target, fields, block, names: &claim.names, payload, without };
    scratch.write(&signed).map_err(Refusal::Unsignable)?;
    let expected = scratch.sign(claim.signed_at.text(), claim.scope(), key);
    if expected.is(&claim.signature) { Ok(payload) } else { Err(Refusal::Mismatch) }
}

/// A claim that was made for here and now, if it is true.
#[derive(Clone, Copy)]
pub struct Framed<'c, 'a>(&'c Claim<'a>);

/// Checks all of `claim` that can be checked without its key: where it was made for, and when, `now` in seconds since 1970.
///
/// # Errors
/// What is not as it should be.
pub fn check_frame<'c, 'a>(claim: &'c Claim<'a>, now: u64, region: &str) -> Result<Framed<'c, 'a>, Refusal> {
    let scope = claim.scope();
    if scope.region != region.as_bytes() || scope.service != b"s3" {
        return Err(Refusal::WrongScope);
    }
    if scope.date != claim.signed_at.date() {
        return Err(Refusal::WrongDay);
    }
    check_time(claim, now)?;
    Ok(Framed(claim))
}

fn check_time(claim: &Claim<'_>, now: u64) -> Result<(), Refusal> {
    let signed_at = claim.signed_at.seconds();
    match claim.expires {
        None if signed_at.abs_diff(now) > SKEW_MAX => Err(Refusal::Skewed),
        None => Ok(()),
        Some(_) if signed_at > now + SKEW_MAX => Err(Refusal::NotYet),
        Some(expires) if now > signed_at + u64::from(expires) => Err(Refusal::Expired),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
