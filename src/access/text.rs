//! What peers said, as far as a record repeats it.

use std::fmt;
use std::ops::Range;

use crate::limits;
use crate::s3::escape;

/// A text of a record that came from somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The host the client asked for.
    Host,
    /// The bucket of the route.
    Bucket,
    /// The request's method.
    Method,
    /// The decoded object key: [`crate::s3::target::Target::key`].
    Key,
    /// The request's `Range`.
    Range,
    /// The code in S3's error body or in the gate's own.
    S3Code,
    /// S3's `x-amz-request-id`.
    S3RequestId,
    /// S3's `x-amz-id-2`.
    S3Id2,
    /// ShotGrid's user id from the signed query.
    UserId,
    /// ShotGrid's user type from the signed query.
    UserType,
    /// The client's `User-Agent`.
    UserAgent,
    /// The configuration's name for the client that a signature or an address stands for.
    Identity,
}

impl Said {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Host,
        Self::Bucket,
        Self::Method,
        Self::Key,
        Self::Range,
        Self::S3Code,
        Self::S3RequestId,
        Self::S3Id2,
        Self::UserId,
        Self::UserType,
        Self::UserAgent,
        Self::Identity,
    ];
}

/// Bytes the texts of one record can have together.
pub(super) const TEXTS_BYTES_MAX: usize = Said::ALL.len() * TEXT_BYTES_MAX;

const TEXT_BYTES_MAX: usize = limits::LOGGED_STRING_BYTES_MAX;

const _: () = assert!(TEXTS_BYTES_MAX <= u16::MAX as usize && TEXT_BYTES_MAX > REDACTED.len());

/// The texts of one record, one behind the other in memory that the next record can use again.
///
/// Each is UTF-8 (what is not becomes U+FFFD), at most [`limits::LOGGED_STRING_BYTES_MAX`] bytes, ends in `…` when it
/// was longer, and is `[redacted]` when it looked like part of a signed link or of an `Authorization` field.
#[derive(Clone, Default)]
pub(super) struct Texts {
    bytes: String,
    spans: [Option<Span>; Said::ALL.len()],
}

#[derive(Clone, Copy)]
struct Span {
    start: u16,
    len: u16,
    /// Whether the text can stand between the quotes of JSON as it is.
    is_plain: bool,
}

impl Span {
    fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.len)
    }
}

impl Texts {
    pub(super) fn reusing(mut memory: String) -> Self {
        memory.clear();
        Self { bytes: memory, spans: [None; Said::ALL.len()] }
    }

    pub(super) fn into_memory(self) -> String {
        self.bytes
    }

    pub(super) fn say(&mut self, what: Said, text: &[u8]) {
        self.forget(what);
        let start = self.bytes.len();
        self.append(&text[..text.len().min(TEXT_BYTES_MAX + 1)]);
        let mut traits = Traits::of(&self.bytes.as_bytes()[start..]);
        if traits.is_suspect && holds_secret(&self.bytes.as_bytes()[start..]) {
            self.bytes.truncate(start);
            self.bytes.push_str(REDACTED);
            traits.is_plain = true;
        }
        let len = self.bytes.len() - start;
        // Both fit: the assertion above.
        self.spans[what as usize] = Some(Span { start: start as u16, len: len as u16, is_plain: traits.is_plain });
    }

    pub(super) fn say_decoded(&mut self, what: Said, escaped: &[u8]) {
        if !escaped.contains(&b'%') {
            return self.say(what, escaped);
        }
        let mut decoded = [0; TEXT_BYTES_MAX + 1];
        let len = decoded.iter_mut().zip(escape::decoded(escaped)).map(|(to, byte)| *to = byte).count();
        self.say(what, &decoded[..len]);
    }

    /// The text, and whether JSON can have it as it is.
    pub(super) fn said(&self, what: Said) -> Option<(&str, bool)> {
        self.spans[what as usize].map(|span| (&self.bytes[span.range()], span.is_plain))
    }

    /// Takes an earlier text away, so that the memory stays bounded however often something is said.
    fn forget(&mut self, what: Said) {
        let Some(gone) = self.spans[what as usize].take() else { return };
        self.bytes.drain(gone.range());
        for span in self.spans.iter_mut().flatten().filter(|span| span.start > gone.start) {
            span.start -= gone.len;
        }
    }

    /// Appends a text, repaired and cut.
    fn append(&mut self, text: &[u8]) {
        let start = self.bytes.len();
        match str::from_utf8(text) {
            Ok(text) => self.bytes.push_str(text),
            Err(_) => {
                for chunk in text.utf8_chunks() {
                    self.bytes.push_str(chunk.valid());
                    if !chunk.invalid().is_empty() {
                        self.bytes.push(char::REPLACEMENT_CHARACTER);
                    }
                }
            }
        }
        if self.bytes.len() - start > TEXT_BYTES_MAX {
            self.bytes.truncate(self.bytes.floor_char_boundary(start + TEXT_BYTES_MAX - CUT.len()));
            self.bytes.push_str(CUT);
        }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = Said::ALL.into_iter().filter_map(|what| Some((what, self.said(what)?.0)));
        f.debug_map().entries(said).finish()
    }
}

/// Stands at the end of a text that was cut.
const CUT: &str = "…";

/// Stands for a text that must not be logged.
const REDACTED: &str = "[redacted]";

/// What one look at every byte tells of a text.
struct Traits {
    /// Nothing in it needs escaping in JSON.
    is_plain: bool,
    /// It may hold a secret: without one of these bytes it has no telltale and no escape.
    is_suspect: bool,
}

impl Traits {
    fn of(text: &[u8]) -> Self {
        // Without branches, so that the compiler looks at many bytes at once.
        let (mut special, mut suspect) = (false, false);
        for &byte in text {
            let lower = byte | 0x20;
            special |= !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\');
            suspect |= (byte == b'%') | (byte == b'=') | (lower == b'y') | (lower == b'z');
        }
        Self { is_plain: !special, is_suspect: suspect }
    }
}

/// What gives a signed link away, in lower case, and where in it a byte stands that few texts have: `=`, `y` or `z`. In
/// every link a secret's name comes before the secret, so a cut text that lost the name lost the secret with it.
const TELLTALES: [(&[u8], usize); 6] = [
    (b"signature=", 9),
    (b"credential=", 10),
    (b"x-amz-signature", 4),
    (b"x-amz-security-token", 4),
    (b"x-amz-credential", 4),
    (b"awsaccesskeyid", 11),
];

/// Looks for a telltale in the text as it is and with its escapes undone, as a link inside a link has them.
fn holds_secret(text: &[u8]) -> bool {
    const LAYERS_MAX: usize = 4;
    if has_telltale(text) {
        return true;
    }
    if !text.contains(&b'%') {
        return false;
    }
    let mut text = text.to_vec();
    for _ in 1..LAYERS_MAX {
        let decoded = escape::decode(&text);
        if decoded.len() == text.len() {
            return false;
        }
        text = decoded.into_owned();
        if has_telltale(&text) {
            return true;
        }
    }
    // Nobody escapes an honest name this often.
    escape::decode(&text).len() < text.len()
}

fn has_telltale(text: &[u8]) -> bool {
    let pairs = text.iter().zip(&text[text.len().min(1)..]).enumerate();
    let mut suspects = pairs.filter(|(_, (_, byte))| matches!(byte, b'=' | b'y' | b'Y' | b'z' | b'Z'));
    suspects.any(|(at, (before, byte))| {
        let (before, byte) = (before.to_ascii_lowercase(), byte.to_ascii_lowercase());
        TELLTALES.iter().any(|&(telltale, rare)| {
            // Nearly every honest text ends here.
            telltale[rare] == byte && telltale[rare - 1] == before && stands_at(telltale, text, at + 1, rare)
        })
    })
}

/// Whether the telltale stands in the text with its rare byte at `at`.
fn stands_at(telltale: &[u8], text: &[u8], at: usize, rare: usize) -> bool {
    let place = at.checked_sub(rare).and_then(|start| text.get(start..start + telltale.len()));
    place.is_some_and(|place| place.eq_ignore_ascii_case(telltale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rare_byte_of_every_telltale_is_looked_for() {
        for (telltale, rare) in TELLTALES {
            assert!(matches!(telltale[rare], b'=' | b'y' | b'z'));
            for text in [telltale.to_vec(), telltale.to_ascii_uppercase(), [b"ab ", telltale, b" c"].concat()] {
                assert!(Traits::of(&text).is_suspect && has_telltale(&text));
            }
            assert!(!has_telltale(&telltale[1..]) && !has_telltale(&telltale[..telltale.len() - 1]));
        }
    }

    #[test]
    fn what_is_said_again_replaces_what_was_said() {
        let mut texts = Texts::default();
        texts.say(Said::Host, b"first");
        texts.say(Said::Method, b"GET");
        texts.say(Said::Key, "caf\u{e9}".as_bytes());
        for round in 0..100 {
            texts.say(Said::Host, &vec![b'h'; round]);
            assert_eq!(texts.said(Said::Host).unwrap().0.len(), round);
            assert_eq!(texts.said(Said::Method), Some(("GET", true)));
            assert_eq!(texts.said(Said::Key), Some(("caf\u{e9}", false)));
            assert_eq!(texts.bytes.len(), round + 3 + 5);
        }
        let again = Texts::reusing(texts.into_memory());
        assert!(Said::ALL.iter().all(|what| again.said(*what).is_none()));
    }

    #[test]
    fn the_longest_texts_fit_together() {
        let mut texts = Texts::default();
        for what in Said::ALL {
            texts.say(what, &[0xff; 9000]);
        }
        assert!(texts.bytes.len() <= TEXTS_BYTES_MAX);
        assert!(Said::ALL.iter().all(|what| texts.said(*what).unwrap().0.ends_with("\u{fffd}…")));
    }
}
