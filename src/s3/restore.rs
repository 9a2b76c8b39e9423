//! The body of a RestoreObject ("Amazon S3 API Reference", RestoreObject).
//!
//! ```xml
//! <RestoreRequest><Days>2</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>
//! ```
//!
//! That is all that is taken. With other elements S3 can be told to run a query and to write what comes of it under any
//! key, in any bucket, with any access for others: whoever decides by the key in the target would know nothing of that.

use super::xml::{self, MISPLACED_TEXT, Part};
use crate::limits;

/// Why a body is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is not XML of this kind.
    Document(xml::NotTaken),
    /// It has an element, here named, that is not decided about: printable, of bounded length.
    Element(String),
}

impl From<xml::NotTaken> for NotTaken {
    fn from(why: xml::NotTaken) -> Self {
        Self::Document(why)
    }
}

/// Whether the body `xml` does no more than to bring back the object that the target names. One without a byte does not.
///
/// # Errors
/// See [`NotTaken`].
pub fn check(xml: &[u8]) -> Result<(), NotTaken> {
    if xml.is_empty() {
        return Ok(());
    }
    if xml.len() > limits::RESTORE_BODY_BYTES_MAX {
        return Err(xml::NotTaken::TooMuch("the XML is longer than 64 KiB").into());
    }
    let mut at = At::Start;
    xml::read(xml, |part| {
        at = match part {
            Part::Open(element) => {
                let inner = at.open(element.name().as_ref())?;
                xml::check_attributes(element, at == At::Start)?;
                inner
            }
            Part::Close => at.close(),
            Part::Text(text) if at.is_value() || xml::is_space(text) => at,
            Part::Character(_) if at.is_value() => at,
            Part::Text(_) | Part::Character(_) => return Err(NotTaken::Document(MISPLACED_TEXT)),
        };
        Ok(())
    })?;
    match at {
        At::End => Ok(()),
        _ => Err(xml::NotTaken::Malformed("the XML ends too early").into()),
    }
}

/// Where in the body the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Request,
    /// `Days` or `Tier`.
    Value,
    Parameters,
    /// `Tier` of the parameters.
    ParametersTier,
    End,
}

impl At {
    fn open(self, name: &[u8]) -> Result<Self, NotTaken> {
        match (self, name) {
            (Self::Start, b"RestoreRequest") => Ok(Self::Request),
            (Self::Request, b"Days" | b"Tier") => Ok(Self::Value),
            (Self::Request, b"GlacierJobParameters") => Ok(Self::Parameters),
            (Self::Parameters, b"Tier") => Ok(Self::ParametersTier),
            _ => {
                let name = &name[..name.len().min(limits::FEATURE_NAME_BYTES_MAX)];
                Err(NotTaken::Element(name.escape_ascii().to_string()))
            }
        }
    }

    fn close(self) -> Self {
        match self {
            Self::ParametersTier => Self::Parameters,
            Self::Value | Self::Parameters => Self::Request,
            Self::Start | Self::Request | Self::End => Self::End,
        }
    }

    fn is_value(self) -> bool {
        matches!(self, Self::Value | Self::ParametersTier)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIER: &str = "<GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters>";

    fn body(inside: &str) -> String {
        format!("<RestoreRequest>{inside}</RestoreRequest>")
    }

    #[test]
    fn a_body_that_brings_back_one_object_is_taken() {
        let days = format!("<Days>2</Days>{TIER}");
        for xml in [
            String::new(),
            body(&days),
            body("<Days>&#50;</Days>\n <Tier>Expedited</Tier>"),
            body(""),
            "<RestoreRequest/>".into(),
            format!("<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{days}</RestoreRequest>"),
            format!("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", body(&days)),
        ] {
            assert_eq!(check(xml.as_bytes()), Ok(()), "{xml}");
        }
    }

    #[test]
    fn an_element_that_could_do_more_is_named() {
        let location = "<OutputLocation><S3><BucketName>b</BucketName><Prefix>p</Prefix></S3></OutputLocation>";
        for (xml, name) in [
            (body(location), "OutputLocation"),
            (body(&format!("<Days>1</Days>{TIER}{location}")), "OutputLocation"),
            (body("<Type>SELECT</Type>"), "Type"),
            (body("<SelectParameters/>"), "SelectParameters"),
            (body("<Description>a</Description>"), "Description"),
            (body("<days>1</days>"), "days"),
            (body("<s3:Days>1</s3:Days>"), "s3:Days"),
            (body("<Days><Type>SELECT</Type></Days>"), "Type"),
            (body("<GlacierJobParameters><Days>1</Days></GlacierJobParameters>"), "Days"),
            (body(&body("")), "RestoreRequest"),
            ("<s3:RestoreRequest/>".into(), "s3:RestoreRequest"),
            ("<Days>1</Days>".into(), "Days"),
            (body("") + "<Type/>", "Type"),
            (body("") + &body(""), "RestoreRequest"),
        ] {
            assert_eq!(check(xml.as_bytes()), Err(NotTaken::Element(name.into())), "{xml}");
        }
        let long = format!("<{}/>", "é".repeat(10_000));
        assert!(matches!(check(long.as_bytes()), Err(NotTaken::Element(name)) if name.len() < 300 && name.is_ascii()));
    }

    #[test]
    fn what_is_no_such_body_is_not_taken() {
        for xml in [
            " ".into(),
            "x".into(),
            "{}".into(),
            body("x"),
            body("&#120;"),
            body("<Days>1</Tier>"),
            body("<Days>&x;</Days>"),
            body("<Days><![CDATA[1]]></Days>"),
            body("<!-- -->"),
            body("<Days x=\"y\">1</Days>"),
            body("<Days xmlns=\"y\">1</Days>"),
            body("<?php?>"),
            body("") + "x",
            body("").replace("<RestoreRequest>", "<RestoreRequest x=\"y\">"),
            format!("<!DOCTYPE RestoreRequest [<!ENTITY x \"y\">]>{}", body("<Days>&x;</Days>")),
            format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?>{}", body("")),
        ] {
            assert!(matches!(check(xml.as_bytes()), Err(NotTaken::Document(_))), "{xml}: {:?}", check(xml.as_bytes()));
        }
        assert!(check(b"<RestoreRequest><Days>\xff</Days></RestoreRequest>").is_err());
    }

    #[test]
    fn no_part_of_a_body_is_taken_for_a_body() {
        let xml = body(&format!("<Days>1</Days>{TIER}"));
        for cut in 1..xml.len() {
            assert!(check(&xml.as_bytes()[..cut]).is_err(), "{}", &xml[..cut]);
        }
    }

    #[test]
    fn a_body_has_a_longest() {
        let room = limits::RESTORE_BODY_BYTES_MAX - body("").len();
        assert_eq!(check((body("") + &" ".repeat(room)).as_bytes()), Ok(()));
        let longer = body("") + &" ".repeat(room + 1);
        assert!(matches!(check(longer.as_bytes()), Err(NotTaken::Document(xml::NotTaken::TooMuch(_)))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_not(xml: Vec<u8>, inside: String) {
            let _ = check(&xml);
            let _ = check(body(&inside).as_bytes());
        }
    }
}
