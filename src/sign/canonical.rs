//! The canonical form of a request, which is what signature version 4 signs.
//!
//! AWS: "Create a signed AWS API request", step "Create a canonical request", with S3's two exceptions: a path is
//! encoded once, and never normalised.

use std::ops::Range;

use crate::http::fields::Fields;
use crate::http::trim;
use crate::limits;
use crate::s3::escape::{self, Slash};
use crate::s3::target::Target;
use crate::sign::key::{Scope, write_sha256};

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
    pub without: Option<&'a str>,
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
    pairs: Vec<(Range<usize>, Range<usize>)>,
}

impl Scratch {
    /// Writes the canonical form of `request`, which can then be [read](Self::text).
    ///
    /// # Errors
    /// See [`Unsignable`].
    pub fn write(&mut self, request: &Signed<'_>) -> Result<(), Unsignable> {
        self.text.clear();
        self.text.extend_from_slice(request.method);
        self.text.push(b'\n');
        write_path(request.target.path(), &mut self.text);
        self.text.push(b'\n');
        self.write_query(request)?;
        self.text.push(b'\n');
        for name in request.names.split(|&byte| byte == b';') {
            write_field(request.fields, request.block, name, &mut self.text)?;
        }
        self.text.push(b'\n');
        self.text.extend_from_slice(request.names);
        self.text.push(b'\n');
        self.text.extend_from_slice(request.payload);
        Ok(())
    }

    /// The canonical form that was written last.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn write_query(&mut self, request: &Signed<'_>) -> Result<(), Unsignable> {
        self.query.clear();
        self.pairs.clear();
        for pair in request.target.pairs() {
            if request.without.is_some_and(|name| pair.is(name)) {
                continue;
            }
            if self.pairs.len() == limits::QUERY_PAIRS_MAX {
                return Err(Unsignable::TooManyParameters);
            }
            let start = self.query.len();
            escape::encode(&pair.decoded_name(), Slash::Encode, &mut self.query);
            let middle = self.query.len();
            escape::encode(&pair.decoded_value(), Slash::Encode, &mut self.query);
            self.pairs.push((start..middle, middle..self.query.len()));
        }
        let query = &self.query;
        self.pairs.sort_unstable_by_key(|(name, value)| (&query[name.clone()], &query[value.clone()]));
        for (number, (name, value)) in self.pairs.iter().enumerate() {
            if number > 0 {
                self.text.push(b'&');
            }
            self.text.extend_from_slice(&self.query[name.clone()]);
            self.text.push(b'=');
            self.text.extend_from_slice(&self.query[value.clone()]);
        }
        Ok(())
    }
}

/// Writes the string that is signed for a canonical form made at `time`, `20130524T000000Z`.
pub fn write_string_to_sign(time: &[u8], scope: Scope<'_>, canonical: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(ALGORITHM);
    out.push(b'\n');
    out.extend_from_slice(time);
    out.push(b'\n');
    scope.write(out);
    out.push(b'\n');
    write_sha256(canonical, out);
}

/// The name of the algorithm.
pub const ALGORITHM: &[u8] = b"AWS4-HMAC-SHA256";

/// Decoded once and encoded once: clients differ in what they escape.
fn write_path(path: &[u8], out: &mut Vec<u8>) {
    if path.is_empty() {
        out.push(b'/');
    }
    escape::encode(&escape::decode(path), Slash::Keep, out);
}

/// `name:value`, the values of several fields of one name between commas.
fn write_field(fields: &Fields, block: &[u8], name: &[u8], out: &mut Vec<u8>) -> Result<(), Unsignable> {
    out.extend_from_slice(name);
    let mut separator = b':';
    for (_, value) in fields.iter(block).filter(|(given, _)| given.eq_ignore_ascii_case(name)) {
        out.push(separator);
        write_trimmed(value, out);
        separator = b',';
    }
    out.push(b'\n');
    if separator == b':' { Err(Unsignable::FieldMissing) } else { Ok(()) }
}

/// Without white space around it, and with one space for several within.
fn write_trimmed(value: &[u8], out: &mut Vec<u8>) {
    let mut was_space = false;
    for &byte in trim(value) {
        let is_space = byte == b' ' || byte == b'\t';
        if !(is_space && was_space) {
            out.push(if is_space { b' ' } else { byte });
        }
        was_space = is_space;
    }
}
