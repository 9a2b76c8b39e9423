//! The canonical form of a request, which is what signature version 4 signs.
//!
//! AWS: "Create a signed AWS API request", step "Create a canonical request", with S3's two exceptions: a path is
//! encoded once, and never normalised.

use std::cmp::Ordering;

use crate::http::fields::Fields;
use crate::http::trim;
use crate::limits;
use crate::s3::escape;
use crate::s3::query::{Kind, Part};
use crate::s3::target::Target;
use crate::sign::key::{Scope, Signature, SigningKey, write_sha256};

/// What of a request is signed.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Path and query as they came.
    pub target: Target<'a>,
    /// The fields of the head that was read from `block`.
    pub fields: &'a Fields,
    /// The head.
    pub block: &'a [u8],
    /// Names of the fields that are signed: lower case, in order, between semicolons.
    pub names: &'a [u8],
    /// What stands for the payload: its SHA-256 in hexadecimal digits, or one of the words for payloads that are not hashed.
    pub payload: &'a [u8],
    /// A query parameter that is not signed: the signature itself, in a presigned link.
    pub without: Option<Part>,
}

/// Why a request has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsignable {
    /// The query has more parameters than [`limits::QUERY_PAIRS_MAX`].
    TooManyParameters,
    /// A field that should be signed is not there.
    FieldMissing,
}

/// Room for one request's canonical form, which can be used again.
#[derive(Default)]
pub struct Scratch {
    text: Vec<u8>,
    query: Vec<u8>,
    pairs: Vec<Place>,
    string_to_sign: Vec<u8>,
}

/// Where a pair is in a text.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    name_end: usize,
    /// Behind the value; where there is no `=`, `name_end`.
    end: usize,
}

impl Place {
    fn name(self, text: &[u8]) -> &[u8] {
        &text[self.start..self.name_end]
    }

    fn value(self, text: &[u8]) -> &[u8] {
        &text[self.end.min(self.name_end + 1)..self.end]
    }

    fn order(self, other: Self, text: &[u8]) -> Ordering {
        self.name(text).cmp(other.name(text)).then_with(|| self.value(text).cmp(other.value(text)))
    }
}

impl Scratch {
    /// Writes the canonical form of `request`, which can then be [read](Self::text).
    ///
    /// # Errors
    /// See [`Unsignable`].
    pub fn write(&mut self, request: &Signed<'_>) -> Result<(), Unsignable> {
        self.begin_without(request.method, request.target, request.without)?;
        for name in request.names.split(|&byte| byte == b';') {
            write_field(request.fields, request.block, name, &mut self.text)?;
        }
        self.end(request.names, request.payload);
        Ok(())
    }

    /// Writes everything in front of the fields, the line of each of which is [added](Self::add) next, in order.
    ///
    /// # Errors
    /// See [`Unsignable`].
    pub(super) fn begin(&mut self, method: &[u8], target: Target<'_>) -> Result<(), Unsignable> {
        self.begin_without(method, target, None)
    }

    /// The same for a path and a query that are written as they have to be already.
    ///
    /// # Errors
    /// See [`Unsignable`].
    pub(super) fn begin_plain(&mut self, method: &[u8], target: Target<'_>) -> Result<(), Unsignable> {
        self.write_method(method);
        self.text.extend_from_slice(target.path());
        self.text.push(b'\n');
        self.write_query(target, None, true)
    }

    fn begin_without(&mut self, method: &[u8], target: Target<'_>, without: Option<Part>) -> Result<(), Unsignable> {
        self.write_method(method);
        write_path(target.path(), &mut self.text);
        self.text.push(b'\n');
        self.write_query(target, without, false)
    }

    fn write_method(&mut self, method: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(method);
        self.text.push(b'\n');
    }

    /// Adds lines of fields as [`write_values`] ends them, in order.
    pub(super) fn add(&mut self, lines: &[u8]) {
        self.text.extend_from_slice(lines);
    }

    /// Writes everything behind the fields.
    pub(super) fn end(&mut self, names: &[u8], payload: &[u8]) {
        self.text.push(b'\n');
        self.text.extend_from_slice(names);
        self.text.push(b'\n');
        self.text.extend_from_slice(payload);
    }

    /// The canonical form that was written last.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Signs the canonical form that was written last, as one made at `time`, `20130524T000000Z`.
    pub fn sign(&mut self, time: &[u8], scope: Scope<'_>, key: &SigningKey) -> Signature {
        self.string_to_sign.clear();
        write_string_to_sign(time, scope, &self.text, &mut self.string_to_sign);
        key.sign(&self.string_to_sign)
    }

    /// The same, with all of the string to sign that is in front of the digest.
    pub(super) fn sign_behind(&mut self, front: &[u8], key: &SigningKey) -> Signature {
        self.string_to_sign.clear();
        self.string_to_sign.extend_from_slice(front);
        write_sha256(&self.text, &mut self.string_to_sign);
        key.sign(&self.string_to_sign)
    }

    /// The string that was signed last.
    #[must_use]
    pub fn string_to_sign(&self) -> &[u8] {
        &self.string_to_sign
    }

    /// Writes the line of the query: the pairs in order, each side of them decoded once and encoded once.
    fn write_query(&mut self, target: Target<'_>, without: Option<Part>, is_plain: bool) -> Result<(), Unsignable> {
        let Self { text, query, pairs, .. } = self;
        let raw = target.query().unwrap_or_default();
        let (mut count, mut are_whole) = (0, true);
        pairs.clear();
        for pair in target.pairs() {
            let name_end = pair.start + pair.name.len();
            let end = pair.value.map_or(name_end, |value| name_end + 1 + value.len());
            count += 1;
            are_whole &= end > name_end;
            if without.is_some_and(|part| pair.kind() == Kind::Signature(part)) {
                continue;
            }
            if pairs.len() == limits::QUERY_PAIRS_MAX {
                return Err(Unsignable::TooManyParameters);
            }
            pairs.push(Place { start: pair.start, name_end, end });
        }
        // Nearly every client writes the sides as they have to be.
        let is_plain = is_plain || (are_whole && escape::is_encoded_query(raw, count));
        if !is_plain {
            recode_pairs(raw, pairs, query);
        }
        let source = if is_plain { raw } else { query };
        if !pairs.is_sorted_by(|one, next| one.order(*next, source).is_le()) {
            pairs.sort_unstable_by(|one, other| one.order(*other, source));
        }
        write_pairs(source, pairs, text);
        text.push(b'\n');
        Ok(())
    }
}

/// Puts the pairs of a raw query into `out`, decoded once and encoded once, and makes `pairs` say where they are there.
fn recode_pairs(raw: &[u8], pairs: &mut [Place], out: &mut Vec<u8>) {
    out.clear();
    for pair in pairs {
        let (name, value) = (pair.name(raw), pair.value(raw));
        pair.start = out.len();
        escape::recode_form(name, out);
        pair.name_end = out.len();
        out.push(b'=');
        escape::recode_form(value, out);
        pair.end = out.len();
        out.push(b'&');
    }
}

/// Writes pairs that are in `source`, each with its `=`. What stands there as it is to be written is copied in one piece.
fn write_pairs(source: &[u8], pairs: &[Place], out: &mut Vec<u8>) {
    let mut run = 0..0;
    for (number, pair) in pairs.iter().enumerate() {
        let is_next = number > 0 && pair.start == run.end + 1;
        if !is_next {
            out.extend_from_slice(&source[run.clone()]);
            run.start = pair.start;
            if number > 0 {
                out.push(b'&');
            }
        }
        run.end = pair.end;
        if pair.end == pair.name_end {
            out.extend_from_slice(&source[run.clone()]);
            out.push(b'=');
            run.start = run.end;
        }
    }
    out.extend_from_slice(&source[run]);
}

/// Writes the string that is signed for a canonical form made at `time`, `20130524T000000Z`.
pub fn write_string_to_sign(time: &[u8], scope: Scope<'_>, canonical: &[u8], out: &mut Vec<u8>) {
    write_string_to_sign_front(time, scope, out);
    write_sha256(canonical, out);
}

/// All of it but the digest of the canonical form at its end.
pub(super) fn write_string_to_sign_front(time: &[u8], scope: Scope<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(ALGORITHM);
    out.push(b'\n');
    out.extend_from_slice(time);
    out.push(b'\n');
    scope.write(out);
    out.push(b'\n');
}

/// The name of the algorithm.
pub const ALGORITHM: &[u8] = b"AWS4-HMAC-SHA256";

/// Decoded once and encoded once: clients differ in what they escape.
fn write_path(path: &[u8], out: &mut Vec<u8>) {
    if path.is_empty() {
        out.push(b'/');
    }
    escape::recode_path(path, out);
}

/// The line of the fields of this name.
fn write_field(fields: &Fields, block: &[u8], name: &[u8], out: &mut Vec<u8>) -> Result<(), Unsignable> {
    let mut values = fields.iter(block).filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let first = values.next().ok_or(Unsignable::FieldMissing)?;
    out.extend_from_slice(name);
    write_values(std::iter::once(first).chain(values), out);
    Ok(())
}

/// `name:value`, the values of several fields of one name between commas, behind a name that was written.
pub(super) fn write_values<'v>(values: impl Iterator<Item = &'v [u8]>, out: &mut Vec<u8>) {
    let mut separator = b':';
    for value in values {
        out.push(separator);
        write_trimmed(value, out);
        separator = b',';
    }
    out.push(b'\n');
}

/// Without white space around it, and with one space for several within.
fn write_trimmed(value: &[u8], out: &mut Vec<u8>) {
    let value = trim(value);
    if memchr::memchr2(b' ', b'\t', value).is_none() {
        return out.extend_from_slice(value);
    }
    let mut was_space = false;
    for &byte in value {
        let is_space = byte == b' ' || byte == b'\t';
        if !(is_space && was_space) {
            out.push(if is_space { b' ' } else { byte });
        }
        was_space = is_space;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The query line as AWS describes it, made the slow way.
    fn described(query: &[u8], without: Option<Part>) -> Vec<u8> {
        let encoded = |text: &[u8]| {
            let mut out = Vec::new();
            escape::encode(text, escape::Slash::Encode, &mut out);
            out
        };
        let pairs = crate::s3::query::pairs(query);
        let signed = pairs.filter(|pair| without.is_none_or(|part| &*pair.decoded_name() != part.name().as_bytes()));
        let mut sides: Vec<_> =
            signed.map(|pair| (encoded(&pair.decoded_name()), encoded(&pair.decoded_value()))).collect();
        sides.sort();
        let pairs: Vec<_> = sides.into_iter().map(|(name, value)| [name, value].join(&b'=')).collect();
        pairs.join(&b'&')
    }

    proptest! {
        #[test]
        fn a_query_is_written_as_aws_describes_it_however_it_came(
            pairs in proptest::collection::vec(
                (
                    "X-Amz-(Signature|Date|Expires)|%58-Amz-Signature|x-amz-signature|[a-cA-]{1,3}|[ -~]{0,3}|",
                    "(=([A-Za-z0-9._~-]|%(2F|3D|25|26)){0,40})?|=(%2f|%41|[+=/ é]|%|%4){1,3}",
                ),
                0..6,
            ),
            separator in "&{1,2}",
            is_link in any::<bool>(),
            without in prop_oneof![Just(None), Just(Some(Part::Signature))],
        ) {
            let query = pairs.iter().map(|(name, value)| format!("{name}{value}")).collect::<Vec<_>>().join(&separator);
            let raw = format!("/k{}{query}", if is_link || !query.is_empty() { "?" } else { "" });
            let mut index = crate::s3::query::Index::default();
            let (plain, indexed) = (Target::parse(raw.as_bytes()), Target::indexed(raw.as_bytes(), &mut index));
            let expected = [b"GET\n/k\n", &described(query.as_bytes(), without)[..], b"\n"].concat();
            let mut scratch = Scratch::default();
            for target in [plain, indexed] {
                scratch.begin_without(b"GET", target, without).unwrap();
                prop_assert_eq!(scratch.text().escape_ascii().to_string(), expected.escape_ascii().to_string());
            }
            // As the gate sends it: encoded, but in the order in which it came, and without an = where there was none.
            let mut sent = b"/k?".to_vec();
            for pair in plain.pairs().filter(|pair| without.is_none_or(|part| !pair.is(part.name()))) {
                escape::recode_form(pair.name, &mut sent);
                if let Some(value) = pair.value {
                    sent.push(b'=');
                    escape::recode_form(value, &mut sent);
                }
                sent.push(b'&');
            }
            sent.pop();
            scratch.begin_plain(b"GET", Target::parse(&sent)).unwrap();
            prop_assert_eq!(scratch.text().escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_query_of_too_many_pairs_has_no_canonical_form() {
        let mut scratch = Scratch::default();
        let query = |pairs: usize| format!("/k?{}", vec!["a=1"; pairs].join("&")).into_bytes();
        let most = limits::QUERY_PAIRS_MAX;
        assert!(scratch.begin(b"GET", Target::parse(&query(most))).is_ok());
        for begin in [Scratch::begin, Scratch::begin_plain] {
            assert_eq!(
                begin(&mut scratch, b"GET", Target::parse(&query(most + 1))),
                Err(Unsignable::TooManyParameters)
            );
        }
    }
}
