//! The fields by which the gate signs a request, and what of its signature depends on nothing else.
//!
//! They say where to, when, by whom, and what stands for the payload, which is nearly always the same word: so they are the
//! same in most requests that go to one host within one second. What can be made of them is made once: lines of a head,
//! lines of a canonical form, fronts of the string to sign and of `Authorization`.

use std::ops::Range;

use crate::http::encode::{EncodeError, FieldLines};
use crate::sign::canonical::{self, ALGORITHM};
use crate::sign::keys::Owner;
use crate::sign::request::Signer;

/// What the fields say.
#[derive(Clone, Copy)]
pub(super) struct Saying<'a> {
    /// Whose credentials: those of one generation have one access key and one token.
    pub(super) owner: Owner,
    pub(super) token: Option<&'a [u8]>,
    pub(super) signer: Signer<'a>,
    pub(super) host: &'a [u8],
    /// What stands for the payload.
    pub(super) payload: &'a [u8],
}

/// See the module.
#[derive(Default)]
pub(super) struct OwnFields {
    said: Said,
    /// As they are sent.
    pub(super) head: FieldLines,
    /// As they are signed.
    pub(super) lines: Vec<u8>,
    /// Where they are in that.
    pub(super) fields: Vec<Line>,
    /// Their names, between semicolons.
    pub(super) names: Vec<u8>,
    /// The string to sign, without the digest at its end.
    pub(super) string_to_sign: Vec<u8>,
    /// `Authorization` up to the names of what is signed.
    pub(super) authorization: Vec<u8>,
}

/// A line of a canonical form: `name:value` and the end of the line.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Line {
    /// Writes one field.
    pub(super) fn write(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        let name = start..out.len();
        canonical::write_values(std::iter::once(value), out);
        let value = name.end + 1..out.len() - 1;
        Self { name, value }
    }
}

/// What the fields that were made last say. No secret, and memory that is used again.
#[derive(Default)]
struct Said {
    /// Nobody's, when they are only half made.
    owner: Option<Owner>,
    time: [u8; 16],
    region: Vec<u8>,
    host: Vec<u8>,
    payload: Vec<u8>,
}

impl Said {
    fn is(&self, saying: &Saying<'_>) -> bool {
        self.owner == Some(saying.owner)
            && self.time == *saying.signer.stamp.text()
            && self.region == saying.signer.region
            && self.host == saying.host
            && self.payload == saying.payload
    }

    fn set(&mut self, saying: &Saying<'_>) {
        self.owner = Some(saying.owner);
        self.time = *saying.signer.stamp.text();
        for (kept, said) in [
            (&mut self.region, saying.signer.region),
            (&mut self.host, saying.host),
            (&mut self.payload, saying.payload),
        ] {
            kept.clear();
            kept.extend_from_slice(said);
        }
    }
}

impl OwnFields {
    /// Makes them say this.
    ///
    /// # Errors
    /// When something of it cannot be said in a head.
    pub(super) fn say(&mut self, saying: &Saying<'_>) -> Result<(), EncodeError> {
        if self.said.is(saying) {
            return Ok(());
        }
        self.said.owner = None;
        let Saying { host, payload, token, signer, .. } = *saying;
        let (scope, time) = (signer.scope(), &signer.stamp.text()[..]);
        let fields: [(&[u8], Option<&[u8]>); 4] = [
            (b"Host", Some(host)),
            (b"x-amz-content-sha256", Some(payload)),
            (b"x-amz-date", Some(time)),
            (b"x-amz-security-token", token),
        ];
        self.head.clear();
        self.lines.clear();
        self.fields.clear();
        self.names.clear();
        for (name, value) in fields {
            let Some(value) = value else { continue };
            self.head.push(name, value)?;
            let line = Line::write(name, value, &mut self.lines);
            if !self.names.is_empty() {
                self.names.push(b';');
            }
            self.names.extend_from_slice(&self.lines[line.name.clone()]);
            self.fields.push(line);
        }
        self.string_to_sign.clear();
        canonical::write_string_to_sign_front(time, scope, &mut self.string_to_sign);
        self.authorization.clear();
        for part in [ALGORITHM, b" Credential=", signer.access_key.as_bytes(), b"/"] {
            self.authorization.extend_from_slice(part);
        }
        scope.write(&mut self.authorization);
        self.authorization.extend_from_slice(b", SignedHeaders=");
        self.said.set(saying);
        Ok(())
    }
}
