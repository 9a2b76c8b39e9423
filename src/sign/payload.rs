//! What a signed request says of its payload, and whether that is true.
//!
//! ```text
//!   client ──▶ ┌ framing ─ lengths ─ signatures ─ checksums ┐ ──▶ upstream
//!              └ wrong: an error, and the end is kept back  ┘
//! ```
//!
//! Nothing that would complete an object upstream leaves an [`Inspector`] before all that came earlier was found right: the
//! last bytes of a plain payload and the last chunk of a streamed one are only given by [`Inspector::finish`]. What is sent
//! has the length of what came.

use std::fmt;

use aws_lc_rs::digest::{self, SHA256};

use crate::limits;
use crate::s3::chunks::{Event, Form, Malformed, Reader, SIGNATURE_BYTES};
use crate::sign::checksum::{Algorithm, Expected, Running, Value};
use crate::sign::chunks::Chain;
use crate::sign::key::{EMPTY_SHA256, Signature, write_hex};

/// What `x-amz-content-sha256` says. AWS: "Authenticating Requests: Using the Authorization Header".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// The SHA-256 of the payload.
    Digest([u8; 32]),
    /// The SHA-256 of nothing.
    Empty,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`.
    StreamingUnsignedTrailer,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`.
    StreamingSigned,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`.
    StreamingSignedTrailer,
}

/// A word for a payload that the gate does not know, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

const WORDS: [(&[u8], Payload); 5] = [
    (b"UNSIGNED-PAYLOAD", Payload::Unsigned),
    (EMPTY_SHA256, Payload::Empty),
    (b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", Payload::StreamingUnsignedTrailer),
    (b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", Payload::StreamingSigned),
    (b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", Payload::StreamingSignedTrailer),
];

impl Payload {
    /// Reads the value of `x-amz-content-sha256`.
    ///
    /// # Errors
    /// When it is neither a digest in lower case nor a word that is known: the signatures of version 4A, for one.
    pub fn read(word: &[u8]) -> Result<Self, Unsupported> {
        if let Some((_, payload)) = WORDS.iter().find(|(known, _)| *known == word) {
            return Ok(*payload);
        }
        // Digest and signature are written alike.
        match Signature::from_hex(word) {
            Some(digest) => Ok(Self::Digest(digest.into_bytes())),
            None => {
                let shown = word.iter().take(UNSUPPORTED_BYTES_MAX).map(|&byte| byte as char);
                Err(Unsupported(shown.map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()))
            }
        }
    }

    /// Writes the value of `x-amz-content-sha256`.
    pub fn write(self, out: &mut Vec<u8>) {
        match WORDS.iter().find(|(_, payload)| *payload == self) {
            Some((word, _)) => out.extend_from_slice(word),
            None => {
                if let Self::Digest(digest) = self {
                    write_hex(&digest, out);
                }
            }
        }
    }

    /// The form of aws-chunked it comes in, when it does.
    #[must_use]
    pub fn form(self) -> Option<Form> {
        match self {
            Self::Unsigned | Self::Digest(_) | Self::Empty => None,
            Self::StreamingUnsignedTrailer => Some(Form { is_signed: false, has_trailer: true }),
            Self::StreamingSigned => Some(Form { is_signed: true, has_trailer: false }),
            Self::StreamingSignedTrailer => Some(Form { is_signed: true, has_trailer: true }),
        }
    }
}

const UNSUPPORTED_BYTES_MAX: usize = 80;

/// What else the head says of the payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Declared<'a> {
    /// `x-amz-decoded-content-length`. A streamed payload must have it.
    pub decoded_length: Option<u64>,
    /// `x-amz-trailer`. A payload with a trailer must have it, no other may.
    pub trailer: Option<&'a [u8]>,
    /// The checksum fields of the head.
    pub checksums: &'a [Expected],
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// A chunk or the trailer is not signed by the client, or not in this place of this upload.
    ChunkSignature,
    /// The framing or a declaration is not as AWS writes it.
    Malformed(&'static str),
    /// A signed chunk is larger than [`limits::SIGNED_CHUNK_BYTES_MAX`].
    ChunkTooLarge,
    /// There is more or less of it than was declared, or it ends in the middle.
    LengthMismatch,
    /// Its SHA-256 is not the one that was signed.
    DigestMismatch,
    /// It does not have the checksum it should have.
    ChecksumMismatch(Algorithm),
    /// A trailer that was not announced, came twice, or is no checksum.
    TrailerUnexpected,
    /// A trailer or its signature was announced and did not come.
    TrailerMissing,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChunkSignature => f.write_str("the signature of a chunk does not fit"),
            Self::Malformed(what) => f.write_str(what),
            Self::ChunkTooLarge => {
                write!(f, "a signed chunk is larger than {} bytes", limits::SIGNED_CHUNK_BYTES_MAX)
            }
            Self::LengthMismatch => f.write_str("the payload is not as long as the request says"),
            Self::DigestMismatch => f.write_str("the payload does not have the SHA-256 that was signed"),
            Self::ChecksumMismatch(algorithm) => write!(f, "the {} of the payload does not match", algorithm.name()),
            Self::TrailerUnexpected => f.write_str("a trailer is not the one that x-amz-trailer announces"),
            Self::TrailerMissing => f.write_str("a trailer or its signature is missing"),
        }
    }
}

impl From<Malformed> for PayloadError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

const UNEXPECTED_TRAILER: PayloadError =
    PayloadError::Malformed("x-amz-trailer goes with a payload that has a trailer only");

/// Takes the payload a client sends and gives what is to be sent upstream.
///
/// An upload that is not finished must be cut off upstream: what has been given so far is never all of it.
#[derive(Debug)]
pub struct Inspector {
    framing: Option<Chunked>,
    checks: Checks,
    /// What is not given yet: a chunk that is not complete, or the end.
    held: Vec<u8>,
    failure: Option<PayloadError>,
}

impl Inspector {
    /// An inspector of `payload`. Signed chunks are verified by `client_chain` and signed by `our_chain`; digests and checksums
    /// are verified when `is_verifying`.
    ///
    /// # Errors
    /// When what is declared does not go with the payload, or signed chunks could not be verified.
    pub fn new(
        payload: Payload,
        declared: Declared<'_>,
        client_chain: Option<Chain>,
        our_chain: Option<Chain>,
        is_verifying: bool,
    ) -> Result<Self, PayloadError> {
        let framing = match payload.form() {
            None if declared.trailer.is_some() => return Err(UNEXPECTED_TRAILER),
            None => None,
            Some(form) => Some(Chunked::new(form, declared, client_chain, our_chain)?),
        };
        let mut checks = Checks::default();
        if is_verifying {
            for Expected { algorithm, value } in declared.checksums {
                checks.add(*algorithm, Some(*value), PayloadError::ChecksumMismatch(*algorithm));
            }
            match payload {
                Payload::Digest(digest) => {
                    checks.add(Algorithm::Sha256, Some(digest.into()), PayloadError::DigestMismatch);
                }
                Payload::Empty => {
                    let nothing = Running::new(Algorithm::Sha256).finish();
                    checks.add(Algorithm::Sha256, Some(nothing), PayloadError::DigestMismatch);
                }
                _ => {}
            }
            if let Some(algorithm) = framing.as_ref().and_then(|framing| Algorithm::of_field(&framing.trailer)) {
                checks.add(algorithm, None, PayloadError::ChecksumMismatch(algorithm));
            }
        }
        Ok(Self { framing, checks, held: Vec::new(), failure: None })
    }

    /// Takes from the front of `input` and appends what may be sent to `out`. Returns how much was taken: some of it always,
    /// and not all only when [`limits::PAYLOAD_RELEASE_BYTES`] have been given. When `out` was empty, it may come back as
    /// another allocation.
    ///
    /// # Errors
    /// What is wrong; then for ever, and what was given before is not all of it.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, PayloadError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let taken = match &mut self.framing {
            None => {
                self.checks.update(input);
                pass_but_tail(&mut self.held, input, out);
                Ok(input.len())
            }
            Some(framing) => framing.feed(input, &mut self.held, &mut self.checks, out),
        };
        taken.inspect_err(|failure| self.fail(*failure))
    }

    /// Says that the payload is over, and appends its end to `out`.
    ///
    /// # Errors
    /// What is wrong with the payload as a whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        let verdict = match (self.failure, &self.framing) {
            (Some(failure), _) => Err(failure),
            (None, Some(framing)) if !framing.reader.is_done() => Err(PayloadError::LengthMismatch),
            (None, _) => self.checks.verdict(),
        };
        verdict.inspect_err(|failure| self.fail(*failure))?;
        out.append(&mut self.held);
        self.fail(PayloadError::Malformed("the payload was finished before"));
        Ok(())
    }

    /// Bytes that came and were not given yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    fn fail(&mut self, failure: PayloadError) {
        self.failure = Some(failure);
        self.held = Vec::new();
    }
}

/// Gives all but the last bytes of what there is.
fn pass_but_tail(held: &mut Vec<u8>, input: &[u8], out: &mut Vec<u8>) {
    let give = (held.len() + input.len()).saturating_sub(limits::PAYLOAD_TAIL_BYTES);
    let (of_held, of_input) = (give.min(held.len()), give.saturating_sub(held.len()));
    out.extend(held.drain(..of_held));
    out.extend_from_slice(&input[..of_input]);
    held.extend_from_slice(&input[of_input..]);
}

/// A payload in aws-chunked.
#[derive(Debug)]
struct Chunked {
    reader: Reader,
    /// Bytes of payload still to be announced by chunks.
    missing: u64,
    signing: Option<Signing>,
    /// The trailer that is announced, in lower case; empty when there is none.
    trailer: Vec<u8>,
}

/// What signed chunks need.
struct Signing {
    theirs: Chain,
    ours: Chain,
    digest: digest::Context,
}

impl Chunked {
    fn new(
        form: Form,
        declared: Declared<'_>,
        client_chain: Option<Chain>,
        our_chain: Option<Chain>,
    ) -> Result<Self, PayloadError> {
        let missing =
            declared.decoded_length.ok_or(PayloadError::Malformed("x-amz-decoded-content-length is missing"))?;
        let signing = match (form.is_signed, client_chain, our_chain) {
            (false, ..) => None,
            (true, Some(theirs), Some(ours)) => Some(Signing { theirs, ours, digest: digest::Context::new(&SHA256) }),
            (true, ..) => return Err(PayloadError::ChunkSignature),
        };
        let trailer = match (form.has_trailer, declared.trailer) {
            (false, None) => Vec::new(),
            (false, Some(_)) => return Err(UNEXPECTED_TRAILER),
            (true, None) => return Err(PayloadError::TrailerMissing),
            (true, Some(name)) => read_announcement(name).ok_or(PayloadError::TrailerUnexpected)?,
        };
        Ok(Self { reader: Reader::new(form), missing, signing, trailer })
    }

    fn feed(
        &mut self,
        input: &[u8],
        held: &mut Vec<u8>,
        checks: &mut Checks,
        out: &mut Vec<u8>,
    ) -> Result<usize, PayloadError> {
        let (mut at, full) = (0, out.len() + limits::PAYLOAD_RELEASE_BYTES);
        while at < input.len() && out.len() < full {
            if self.reader.is_done() {
                return Err(PayloadError::Malformed("there are bytes behind the end of the payload"));
            }
            let rest = &input[at..];
            let piece = self.reader.advance(rest)?;
            at += piece.consumed;
            match piece.event {
                Event::More => {}
                Event::Size => self.begin_chunk(held, out)?,
                Event::Data(range) => {
                    let data = &rest[range];
                    checks.update(data);
                    match &mut self.signing {
                        Some(signing) => {
                            signing.digest.update(data);
                            held.extend_from_slice(data);
                        }
                        None => out.extend_from_slice(data),
                    }
                }
                Event::ChunkEnd => {
                    if let Some(signing) = &mut self.signing {
                        signing.sign_chunk(&self.reader, held)?;
                        held.extend_from_slice(b"\r\n");
                        give(held, out);
                    } else {
                        out.extend_from_slice(b"\r\n");
                    }
                }
                Event::End => self.end(held, checks)?,
            }
        }
        Ok(at)
    }

    fn begin_chunk(&mut self, held: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        let size = self.reader.size();
        if self.signing.is_some() && size > limits::SIGNED_CHUNK_BYTES_MAX {
            return Err(PayloadError::ChunkTooLarge);
        }
        self.missing = self.missing.checked_sub(size).ok_or(PayloadError::LengthMismatch)?;
        let is_last = size == 0;
        if is_last && self.missing > 0 {
            return Err(PayloadError::LengthMismatch);
        }
        let place = if is_last || self.signing.is_some() { held } else { out };
        place.extend_from_slice(self.reader.line());
        place.extend_from_slice(b"\r\n");
        match &mut self.signing {
            Some(signing) if is_last => signing.sign_chunk(&self.reader, place),
            _ => Ok(()),
        }
    }

    /// Verifies the trailer and holds it with our signature.
    fn end(&mut self, held: &mut Vec<u8>, checks: &mut Checks) -> Result<(), PayloadError> {
        if !self.trailer.is_empty() {
            let (mut value, mut signature, mut covered) = (None, None, Vec::new());
            for (name, text) in self.reader.trailers() {
                if name == TRAILER_SIGNATURE && self.signing.is_some() && signature.is_none() {
                    signature = Some(Signature::from_hex(text).ok_or(PayloadError::ChunkSignature)?);
                    continue;
                }
                let is_announced = name.eq_ignore_ascii_case(&self.trailer);
                if !is_announced || signature.is_some() || value.replace(text).is_some() {
                    return Err(PayloadError::TrailerUnexpected);
                }
                covered.extend_from_slice(&self.trailer);
                covered.push(b':');
                covered.extend_from_slice(text);
                covered.push(b'\n');
            }
            let value = value.ok_or(PayloadError::TrailerMissing)?;
            checks.expect_trailer(&self.trailer, value)?;
            held.extend_from_slice(self.reader.trailer_section());
            if let Some(signing) = &mut self.signing {
                let signature = signature.ok_or(PayloadError::TrailerMissing)?;
                signing.sign_trailer(&covered, signature, held)?;
            }
        }
        held.extend_from_slice(b"\r\n");
        checks.verdict()
    }
}

impl Signing {
    /// Verifies the chunk whose line is at the front of `held`, and puts our signature in the place of the client's.
    fn sign_chunk(&mut self, reader: &Reader, held: &mut [u8]) -> Result<(), PayloadError> {
        let digest = std::mem::replace(&mut self.digest, digest::Context::new(&SHA256)).finish();
        let digest = digest.as_ref().try_into().map_err(|_| PayloadError::ChunkSignature)?;
        let claimed = Signature::from_hex(reader.signature()).ok_or(PayloadError::ChunkSignature)?;
        if !self.theirs.chunk(digest).is(&claimed) {
            return Err(PayloadError::ChunkSignature);
        }
        let end = reader.line().len();
        put(self.ours.chunk(digest), &mut held[end - SIGNATURE_BYTES..end]);
        Ok(())
    }

    /// The same for the trailer, whose signature is at the end of `held`, before a line end.
    fn sign_trailer(&mut self, covered: &[u8], claimed: Signature, held: &mut [u8]) -> Result<(), PayloadError> {
        let digest = digest::digest(&SHA256, covered);
        let digest = digest.as_ref().try_into().map_err(|_| PayloadError::ChunkSignature)?;
        if !self.theirs.trailer(digest).is(&claimed) {
            return Err(PayloadError::ChunkSignature);
        }
        let end = held.trim_ascii_end().len();
        put(self.ours.trailer(digest), &mut held[end - SIGNATURE_BYTES..end]);
        Ok(())
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signing(..)")
    }
}

fn put(signature: Signature, place: &mut [u8]) {
    let mut text = Vec::with_capacity(SIGNATURE_BYTES);
    signature.write_hex(&mut text);
    place.copy_from_slice(&text);
}

/// Gives all of `held`, without copying it when it can.
fn give(held: &mut Vec<u8>, out: &mut Vec<u8>) {
    if out.is_empty() { std::mem::swap(held, out) } else { out.append(held) }
}

/// One name of a checksum, in lower case. Other trailers could say what a policy has not seen.
fn read_announcement(name: &[u8]) -> Option<Vec<u8>> {
    let name = name.trim_ascii().to_ascii_lowercase();
    let algorithm = name.strip_prefix(b"x-amz-checksum-")?;
    (!algorithm.is_empty() && algorithm.len() < 32 && algorithm.iter().all(u8::is_ascii_alphanumeric)).then_some(name)
}

/// The trailer that signs the others.
const TRAILER_SIGNATURE: &[u8] = b"x-amz-trailer-signature";

/// All that is computed over the decoded payload.
#[derive(Default)]
struct Checks(Vec<Check>);

struct Check {
    algorithm: Algorithm,
    running: Running,
    /// Unknown until the trailer comes.
    value: Option<Value>,
    fault: PayloadError,
}

impl Checks {
    fn add(&mut self, algorithm: Algorithm, value: Option<Value>, fault: PayloadError) {
        self.0.push(Check { algorithm, running: Running::new(algorithm), value, fault });
    }

    fn update(&mut self, data: &[u8]) {
        self.0.iter_mut().for_each(|check| check.running.update(data));
    }

    fn expect_trailer(&mut self, name: &[u8], text: &[u8]) -> Result<(), PayloadError> {
        let Some(algorithm) = Algorithm::of_field(name) else { return Ok(()) };
        let value = algorithm.read(text).map_err(|_| PayloadError::Malformed("the checksum in the trailer is none"))?;
        let waiting = self.0.iter_mut().filter(|check| check.value.is_none() && check.algorithm == algorithm);
        waiting.for_each(|check| check.value = Some(value));
        Ok(())
    }

    fn verdict(&self) -> Result<(), PayloadError> {
        let wrong = self.0.iter().find(|check| check.value.as_ref() != Some(&check.running.clone().finish()));
        wrong.map_or(Ok(()), |check| Err(check.fault))
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|check| check.algorithm)).finish()
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
