//! XML as S3's clients write it into bodies that are decided about.
//!
//! S3 acts on what *it* reads. So nothing is taken that two readers of XML could understand differently: no document type,
//! no entity but the five of XML 1.0 §4.6, no comment, no CDATA, no instruction.

use std::fmt;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// Why a body is not taken, with what is wrong in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is not XML, or not the XML of its operation.
    Malformed(&'static str),
    /// It is XML that could be read in two ways, or that nobody but an attacker writes.
    Strange(&'static str),
    /// There is too much of something.
    TooMuch(&'static str),
}

impl NotTaken {
    /// In words.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Malformed(what) | Self::Strange(what) | Self::TooMuch(what) => what,
        }
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// Text that only elements may stand beside.
pub(super) const MISPLACED_TEXT: NotTaken = NotTaken::Malformed("text of the XML stands where it does not belong");

/// A piece of a document.
pub(super) enum Part<'a> {
    /// An element begins. One without content ends at once.
    Open(&'a BytesStart<'a>),
    /// The innermost element ends.
    Close,
    /// Text, or a piece of it.
    Text(&'a [u8]),
    /// A character that was written as a reference.
    Character(char),
}

/// Reads `xml`, piece by piece.
///
/// # Errors
/// What cannot be taken, and what `take` says.
pub(super) fn read<E: From<NotTaken>>(xml: &[u8], mut take: impl FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
    let text = str::from_utf8(xml).map_err(|_| NotTaken::Malformed("the XML is not UTF-8"))?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    reader.config_mut().expand_empty_elements = true;
    let mut is_first = true;
    loop {
        match reader.read_event().map_err(|_| NotTaken::Malformed("the XML is not well-formed"))? {
            Event::Start(element) => take(Part::Open(&element))?,
            Event::End(_) => take(Part::Close)?,
            Event::Text(text) => take(Part::Text(&text))?,
            Event::GeneralRef(reference) => take(Part::Character(character(&reference)?))?,
            Event::Decl(declaration) if is_first => {
                let encoding = declaration.encoding().transpose();
                let encoding = encoding.map_err(|_| NotTaken::Malformed("the XML declaration is not well-formed"))?;
                if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"utf-8")) {
                    return Err(NotTaken::Strange("the XML has an encoding other than UTF-8").into());
                }
            }
            Event::Eof => return Ok(()),
            Event::Empty(_) | Event::Decl(_) => return Err(NotTaken::Malformed("the XML is not well-formed").into()),
            Event::DocType(_) => return Err(NotTaken::Strange("the XML has a document type").into()),
            Event::Comment(_) => return Err(NotTaken::Strange("the XML has a comment").into()),
            Event::CData(_) => return Err(NotTaken::Strange("the XML has CDATA").into()),
            Event::PI(_) => return Err(NotTaken::Strange("the XML has a processing instruction").into()),
        }
        is_first = false;
    }
}

/// Refuses attributes, but for a namespace on the outermost element.
pub(super) fn check_attributes(element: &BytesStart<'_>, is_outermost: bool) -> Result<(), NotTaken> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| NotTaken::Malformed("an attribute of the XML is not well-formed"))?;
        if !is_outermost || attribute.key.as_ref() != b"xmlns" {
            return Err(NotTaken::Strange("the XML has an attribute that is not known"));
        }
    }
    Ok(())
}

/// Whether text is white space only (XML 1.0 §2.3).
pub(super) fn is_space(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn character(reference: &BytesRef<'_>) -> Result<char, NotTaken> {
    let wrong = NotTaken::Malformed("the XML has a reference to no character");
    Ok(match &**reference {
        b"lt" => '<',
        b"gt" => '>',
        b"amp" => '&',
        b"quot" => '"',
        b"apos" => '\'',
        _ => match reference.resolve_char_ref() {
            Ok(Some('\0')) | Err(_) => return Err(wrong),
            Ok(Some(character)) => character,
            Ok(None) => return Err(NotTaken::Strange("the XML has an entity that is not known")),
        },
    })
}
