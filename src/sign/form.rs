//! Forms that upload a file with a signed policy: whether they keep to it, and signing them anew.
//!
//! AWS: "Authenticating Requests in Browser-Based Uploads Using POST (AWS Signature Version 4)" and "POST Policy". The order
//! is S3's: what is missing, where and when, the signature over the policy as it came, the policy, its expiration, its
//! conditions, and last the fields that no condition speaks of.
//!
//! The gate's own policy names every field with the value the gate has read and the length of the file. Should S3 read the
//! form in another way, it finds that the form does not keep to the policy: what was judged is what is stored.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::limits;
use crate::s3::form::{Fate, Form};
use crate::sign::canonical::ALGORITHM;
use crate::sign::claim::Parts;
use crate::sign::key::{Scope, Signature, SigningKey};
use crate::sign::time::Stamp;
use crate::sign::verify::SKEW_MAX;

mod document;
mod refusal;

use document::{Document, is_exempt};
pub use refusal::FormRefusal;

/// What a form says of its signature. `Debug` shows no secret.
pub struct FormClaim<'a> {
    /// Who signed: the id of an access key.
    pub access_key: &'a [u8],
    /// What the key was derived for.
    pub scope: Scope<'a>,
    /// When.
    pub signed_at: Stamp,
    /// The session token of temporary credentials.
    pub token: Option<&'a [u8]>,
    policy: &'a [u8],
    signature: Signature,
}

impl std::fmt::Debug for FormClaim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FormClaim({}, {:?})", String::from_utf8_lossy(self.access_key), self.signed_at)
    }
}

impl<'a> FormClaim<'a> {
    /// Reads the claim of a form.
    ///
    /// # Errors
    /// When the form is not signed, or not in a way that can be verified.
    pub fn read(form: &Form<'a>) -> Result<Self, FormRefusal> {
        const NAMES: [&str; 5] = ["policy", "x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date"];
        if form.get("AWSAccessKeyId").or(form.get("signature")).is_some() {
            return Err(FormRefusal::Unsupported("a form that is signed by AWS Signature Version 2"));
        }
        if NAMES[1..].iter().all(|name| form.get(name).is_none()) {
            return Err(FormRefusal::Anonymous);
        }
        let required = |name| form.get(name).ok_or(FormRefusal::Missing(name));
        let (policy, signature) = (required("policy")?, required("x-amz-signature")?);
        if required("x-amz-algorithm")? != ALGORITHM {
            return Err(FormRefusal::Unsupported("a form that is signed by another algorithm than AWS4-HMAC-SHA256"));
        }
        let credential = required("x-amz-credential")?;
        let parts = Parts::of(credential).ok_or(FormRefusal::Malformed(
            "x-amz-credential",
            "it is not <key>/YYYYMMDD/REGION/SERVICE/aws4_request",
        ))?;
        Ok(Self {
            access_key: parts.access_key(credential),
            scope: parts.scope(credential),
            signed_at: Stamp::parse(required("x-amz-date")?)
                .ok_or(FormRefusal::Malformed("x-amz-date", "it must be in the ISO8601 Long Format"))?,
            token: form.get("x-amz-security-token"),
            policy,
            signature: Signature::from_hex(signature)
                .ok_or(FormRefusal::Malformed("x-amz-signature", "it is not 64 hexadecimal digits"))?,
        })
    }
}

/// Where and when a form came.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The bucket that the route leads to.
    pub bucket: &'a str,
    /// Its region.
    pub region: &'a str,
    /// Seconds since 1970, by the gate's clock.
    pub now: u64,
}

/// A form that keeps to its policy, as far as its head tells.
#[derive(Debug)]
pub struct VerifiedForm<'f, 'a> {
    form: &'f Form<'a>,
    bucket: &'f str,
    key: Cow<'a, [u8]>,
    sizes: Option<RangeInclusive<u64>>,
}

/// How long after its signing a form is good at the longest, in seconds: as long as a signing key (AWS, "Amazon S3 Signature
/// Version 4 Authentication Specific Policy Keys").
const SIGNATURE_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// Verifies `form` and its `claim` by `key`, which was derived for the scope the claim names.
///
/// # Errors
/// What is not as it should be.
pub fn verify<'f, 'a>(
    form: &'f Form<'a>,
    claim: &FormClaim<'a>,
    key: &SigningKey,
    at: Circumstances<'f>,
) -> Result<VerifiedForm<'f, 'a>, FormRefusal> {
    if claim.scope.region != at.region.as_bytes() || claim.scope.service != b"s3" {
        return Err(FormRefusal::WrongScope);
    }
    if claim.scope.date != claim.signed_at.date() {
        return Err(FormRefusal::Malformed("x-amz-date", "its day is not the day of the x-amz-credential"));
    }
    if !key.sign(claim.policy).is(&claim.signature) {
        return Err(FormRefusal::SignatureDoesNotMatch);
    }
    let signed_at = claim.signed_at.seconds();
    if signed_at > at.now + SKEW_MAX {
        return Err(FormRefusal::NotYet);
    }
    let document = Document::read(claim.policy)?;
    if at.now >= document.expires.min(signed_at + SIGNATURE_SECONDS_MAX) {
        return Err(FormRefusal::ExpiredPolicy);
    }
    let sizes = document.check(form, at.bucket)?;
    let key = form.get("key").map(|key| form.expanded(key)).ok_or(FormRefusal::Missing("key"))?;
    if key.is_empty() {
        return Err(FormRefusal::Malformed("key", "it is empty"));
    }
    Ok(VerifiedForm { form, bucket: at.bucket, key, sizes })
}

/// Whose name a form is signed in anew.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The id of the access key.
    pub access_key: &'a str,
    /// The session token of temporary credentials.
    pub token: Option<&'a str>,
    /// The key for the day of `now`, `region` and `s3`.
    pub key: &'a SigningKey,
    /// The region.
    pub region: &'a str,
    /// The moment of signing.
    pub now: Stamp,
    /// How long the new policy is good, in seconds.
    pub seconds: u64,
}

impl VerifiedForm<'_, '_> {
    /// The key of the object, with the name of the file in it.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Bytes the file may have, by the policy.
    #[must_use]
    pub fn sizes(&self) -> Option<&RangeInclusive<u64>> {
        self.sizes.as_ref()
    }

    /// Bytes the file can and may have when the whole body has `total` bytes. For the moment before the file is read.
    ///
    /// # Errors
    /// When it cannot have as many as it must, or must have more than it may.
    pub fn sizes_of(&self, total: u64) -> Result<RangeInclusive<u64>, FormRefusal> {
        let possible = self.form.file_bytes(total).ok_or(FormRefusal::CutShort)?;
        let Some(allowed) = &self.sizes else { return Ok(possible) };
        check_size(*possible.start(), 0..=*allowed.end())?;
        check_size(*possible.end(), *allowed.start()..=u64::MAX)?;
        Ok(*possible.start().max(allowed.start())..=*possible.end().min(allowed.end()))
    }

    /// Judges the length of the file once it is known.
    ///
    /// # Errors
    /// When it is less or more than the policy allows.
    pub fn check_size(&self, file_bytes: u64) -> Result<(), FormRefusal> {
        self.sizes.clone().map_or(Ok(()), |allowed| check_size(file_bytes, allowed))
    }

    /// Writes the head of the form anew, in the name of `signer`: all bytes as they were, but for the policy and who signed it
    /// when. `total` is the length of the body as it came; it changes by as much as the head does.
    ///
    /// # Errors
    /// When the head becomes longer than S3 allows, and as [`Self::sizes_of`].
    pub fn rewrite(&self, signer: &Signer<'_>, total: Option<u64>) -> Result<Vec<u8>, FormRefusal> {
        let sizes = match total {
            Some(total) => Some(self.sizes_of(total)?),
            None => self.sizes.clone(),
        };
        let mut credential = [signer.access_key.as_bytes(), b"/"].concat();
        Scope { date: signer.now.date(), region: signer.region.as_bytes(), service: b"s3" }.write(&mut credential);
        let new_value = |name: &[u8]| match name.to_ascii_lowercase().as_slice() {
            b"x-amz-credential" => Fate::Replaced(&credential[..]),
            b"x-amz-date" => Fate::Replaced(signer.now.text()),
            b"x-amz-security-token" => signer.token.map_or(Fate::Dropped, |token| Fate::Replaced(token.as_bytes())),
            _ => Fate::Kept,
        };
        let added = match signer.token {
            Some(token) if self.form.get(TOKEN).is_none() => Some((TOKEN, token.as_bytes())),
            _ => None,
        };
        let policy = self.new_policy(signer, sizes, new_value, added);
        let mut signature = Vec::with_capacity(64);
        signer.key.sign(policy.as_bytes()).write_hex(&mut signature);
        let mut out = Vec::with_capacity(self.form.head_bytes() + policy.len());
        let fate = |name: &[u8]| match name.to_ascii_lowercase().as_slice() {
            b"policy" => Fate::Replaced(policy.as_bytes()),
            b"x-amz-signature" => Fate::Replaced(&signature[..]),
            _ => new_value(name),
        };
        self.form.write(fate, added.as_slice(), &mut out);
        if out.len() <= limits::FORM_HEAD_BYTES_MAX { Ok(out) } else { Err(FormRefusal::TooLong) }
    }

    fn new_policy<'v>(
        &self,
        signer: &Signer<'_>,
        sizes: Option<RangeInclusive<u64>>,
        new_value: impl Fn(&[u8]) -> Fate<'v>,
        added: Option<(&str, &[u8])>,
    ) -> String {
        let equals = |name: &[u8], value: &[u8]| {
            let name = format!("${}", String::from_utf8_lossy(name).to_ascii_lowercase());
            json!(["eq", name, String::from_utf8_lossy(value)])
        };
        let mut conditions = vec![json!({ "bucket": self.bucket })];
        conditions.extend(sizes.map(|sizes| json!(["content-length-range", sizes.start(), sizes.end()])));
        for field in self.form.fields() {
            if is_exempt(field.name) || field.name.eq_ignore_ascii_case(b"bucket") {
                continue;
            }
            match new_value(field.name) {
                Fate::Kept => conditions.push(equals(field.name, &self.form.expanded(field.value))),
                Fate::Replaced(value) => conditions.push(equals(field.name, value)),
                Fate::Dropped => {}
            }
        }
        conditions.extend(added.map(|(name, value)| equals(name.as_bytes(), value)));
        let expires = Stamp::at(signer.now.seconds() + signer.seconds);
        let document = json!({ "expiration": document::written(&expires), "conditions": Value::Array(conditions) });
        STANDARD.encode(document.to_string())
    }
}

const TOKEN: &str = "x-amz-security-token";

fn check_size(proposed: u64, allowed: RangeInclusive<u64>) -> Result<(), FormRefusal> {
    if proposed > *allowed.end() {
        return Err(FormRefusal::EntityTooLarge { proposed, max: *allowed.end() });
    }
    if proposed < *allowed.start() {
        return Err(FormRefusal::EntityTooSmall { proposed, min: *allowed.start() });
    }
    Ok(())
}

#[cfg(test)]
#[path = "form/form_tests.rs"]
mod tests;
