//! The body of a DeleteObjects ("Amazon S3 API Reference", DeleteObjects).
//!
//! ```xml
//! <Delete><Object><Key>a</Key><VersionId>v</VersionId></Object><Quiet>true</Quiet></Delete>
//! ```
//!
//! Whether a client may delete is decided by the keys read here, and S3 deletes the keys that *it* reads. So nothing is
//! taken that two readers of XML could understand differently: no document type, no entity but the five of XML 1.0 §4.6,
//! no comment, no CDATA, no instruction, no element or attribute that S3 has no use for.

use quick_xml::events::BytesStart;

use super::xml::{self, Part};
use crate::limits;

pub use super::xml::NotTaken;

/// One object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its key.
    pub key: Vec<u8>,
    /// Whether one of its versions is named.
    pub has_version: bool,
}

/// Every object that the body `xml` names, at least one.
///
/// # Errors
/// See [`NotTaken`].
pub fn keys(xml: &[u8]) -> Result<Vec<Deletion>, NotTaken> {
    if xml.len() > limits::DELETE_BODY_BYTES_MAX {
        return Err(NotTaken::TooMuch("the XML is longer than 2 MiB"));
    }
    let mut body = Body::default();
    xml::read(xml, |part| match part {
        Part::Open(element) => body.open(element),
        Part::Close => body.close(),
        Part::Text(text) => body.text(text),
        Part::Character(character) => body.character(character),
    })?;
    body.finish()
}

/// Where in the body the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    Delete,
    Quiet,
    Object,
    Key,
    /// An element of an object whose text does not matter here.
    Detail,
    End,
}

#[derive(Default)]
struct Body {
    at: At,
    deletions: Vec<Deletion>,
    key: Option<Vec<u8>>,
    has_version: bool,
}

impl Body {
    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), NotTaken> {
        let name = element.name();
        self.at = match (self.at, name.as_ref()) {
            (At::Start, b"Delete") => At::Delete,
            (At::Delete, b"Quiet") => At::Quiet,
            (At::Delete, b"Object") => {
                if self.deletions.len() == limits::DELETE_KEYS_MAX {
                    return Err(NotTaken::TooMuch("there are more than 1000 keys"));
                }
                (self.key, self.has_version) = (None, false);
                At::Object
            }
            (At::Object, b"Key") if self.key.is_none() => {
                self.key = Some(Vec::new());
                At::Key
            }
            (At::Object, b"Key") => return Err(NotTaken::Strange("an object has two keys")),
            (At::Object, b"VersionId") => {
                self.has_version = true;
                At::Detail
            }
            (At::Object, b"ETag" | b"LastModifiedTime" | b"Size") => At::Detail,
            _ => return Err(NotTaken::Malformed("an element of the XML stands where it does not belong")),
        };
        xml::check_attributes(element, self.at == At::Delete)
    }

    fn close(&mut self) -> Result<(), NotTaken> {
        self.at = match self.at {
            At::Delete => At::End,
            At::Quiet => At::Delete,
            At::Key | At::Detail => At::Object,
            At::Object => {
                let key = self.key.take().filter(|key| !key.is_empty());
                let key = key.ok_or(NotTaken::Malformed("an object has no key"))?;
                self.deletions.push(Deletion { key, has_version: self.has_version });
                At::Delete
            }
            At::Start | At::End => return Err(NotTaken::Malformed("the XML is not well-formed")),
        };
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), NotTaken> {
        match self.at {
            // A reader of XML makes a line feed of it (XML 1.0 §2.11); written as a reference it stays.
            At::Key if text.contains(&b'\r') => {
                Err(NotTaken::Strange("a key has a carriage return that is not escaped"))
            }
            At::Key => self.append(text),
            At::Quiet | At::Detail => Ok(()),
            _ if xml::is_space(text) => Ok(()),
            _ => Err(xml::MISPLACED_TEXT),
        }
    }

    fn character(&mut self, character: char) -> Result<(), NotTaken> {
        match self.at {
            At::Key => self.append(character.encode_utf8(&mut [0; 4]).as_bytes()),
            At::Quiet | At::Detail => Ok(()),
            _ => Err(xml::MISPLACED_TEXT),
        }
    }

    fn append(&mut self, text: &[u8]) -> Result<(), NotTaken> {
        let key = self.key.get_or_insert_default();
        if key.len() + text.len() > limits::KEY_BYTES_MAX {
            return Err(NotTaken::TooMuch("a key is longer than 1024 bytes"));
        }
        key.extend_from_slice(text);
        Ok(())
    }

    fn finish(self) -> Result<Vec<Deletion>, NotTaken> {
        match self.at {
            At::End if !self.deletions.is_empty() => Ok(self.deletions),
            At::End => Err(NotTaken::Malformed("the XML names no object")),
            _ => Err(NotTaken::Malformed("the XML ends too early")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(xml: &str) -> Result<Vec<(String, bool)>, NotTaken> {
        let deletions = keys(xml.as_bytes())?;
        Ok(deletions.into_iter().map(|one| (String::from_utf8(one.key).unwrap(), one.has_version)).collect())
    }

    fn body(inside: &str) -> String {
        format!("<Delete>{inside}</Delete>")
    }

    fn object(key: &str) -> String {
        body(&format!("<Object><Key>{key}</Key></Object>"))
    }

    #[test]
    fn the_keys_of_a_body_are_read() {
        let xml = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n <Quiet>true</Quiet>\n\
            <Object><Key>a/b.mov</Key></Object>\
            <Object> <VersionId>null</VersionId> <Key> c\n&amp;&lt;&gt;&quot;&apos;&#13;&#x e9;</Key></Object>\
            <Object><Key>é</Key><ETag>\"x\"</ETag><Size>1</Size><LastModifiedTime>t</LastModifiedTime><VersionId/>\
            </Object></Delete>\n";
        let expected = [("a/b.mov", false), (" c\n&<>\"'\ré", true), ("é", true)];
        let expected: Vec<_> = expected.iter().map(|(key, version)| (key.to_string(), *version)).collect();
        assert_eq!(read(&xml.replace("#x e9", "#xe9")).unwrap(), expected);
        assert_eq!(read("<Delete><Quiet/><Object><Key>a</Key></Object></Delete>").unwrap(), [("a".to_string(), false)]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_taken() {
        let good = object("a");
        let table = [
            format!("<!DOCTYPE Delete [<!ENTITY x \"y\">]>{good}"),
            format!("<!DOCTYPE Delete>{good}"),
            object("a&x;"),
            object("a&nbsp;"),
            object("a<!-- -->b"),
            format!("<!-- -->{good}"),
            object("<![CDATA[a]]>"),
            object("a<?php?>"),
            format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?>{good}"),
            format!("<?xml version=\"1.0\" encoding=\"utf-7\"?>{good}"),
            object("a\rb"),
            body("<Object><Key>a</Key><Key>b</Key></Object>"),
            body("<Object><Key x=\"y\">a</Key></Object>"),
            body("<Object xmlns=\"x\"><Key>a</Key></Object>"),
            good.replace("<Delete>", "<Delete x=\"y\">"),
        ];
        for xml in table {
            assert!(matches!(read(&xml), Err(NotTaken::Strange(_))), "{xml}: {:?}", read(&xml));
        }
    }

    #[test]
    fn what_is_no_such_body_is_not_taken() {
        let table = [
            String::new(),
            "x".into(),
            "{}".into(),
            "<Delete/>".into(),
            body(""),
            body("<Quiet>true</Quiet>"),
            body("<Object/>"),
            body("<Object><Key/></Object>"),
            body("<Object><VersionId>1</VersionId></Object>"),
            body("<Key>a</Key>"),
            body("<Object><Name>a</Name></Object>"),
            body("<object><key>a</key></object>"),
            body("<s3:Object><s3:Key>a</s3:Key></s3:Object>"),
            body("<Object><Key><Key>a</Key></Key></Object>"),
            body("<Object>a<Key>a</Key></Object>"),
            body("<Object><Key>a</Object></Key>"),
            object("a&#0;"),
            object("a&#xd800;"),
            object("a&#x110000;"),
            object("a&"),
            object("a") + &object("b"),
            object("a") + "b",
            object("a").replace("</Delete>", ""),
            object("a").replace("</Key></Object></Delete>", ""),
            "<List><Object><Key>a</Key></Object></List>".into(),
            format!(" <?xml version=\"1.0\"?>{}", object("a")),
        ];
        for xml in table {
            assert!(matches!(read(&xml), Err(NotTaken::Malformed(_))), "{xml}: {:?}", read(&xml));
        }
        assert!(keys(b"<Delete><Object><Key>\xff</Key></Object></Delete>").is_err());
    }

    #[test]
    fn what_is_too_much_is_not_taken() {
        let long = "a".repeat(limits::KEY_BYTES_MAX);
        assert_eq!(read(&object(&long)).unwrap()[0].0.len(), limits::KEY_BYTES_MAX);
        assert_eq!(read(&object(&format!("{long}&amp;"))), Err(NotTaken::TooMuch("a key is longer than 1024 bytes")));
        let many = "<Object><Key>a</Key></Object>".repeat(limits::DELETE_KEYS_MAX);
        assert_eq!(read(&body(&many)).unwrap().len(), limits::DELETE_KEYS_MAX);
        assert_eq!(
            read(&body(&format!("{many}<Object><Key>b</Key></Object>"))),
            Err(NotTaken::TooMuch("there are more than 1000 keys"))
        );
        let room = limits::DELETE_BODY_BYTES_MAX - object("a").len();
        assert!(read(&(object("a") + &" ".repeat(room))).is_ok());
        assert_eq!(
            read(&(object("a") + &" ".repeat(room + 1))),
            Err(NotTaken::TooMuch("the XML is longer than 2 MiB"))
        );
    }

    #[test]
    fn no_part_of_a_body_is_taken_for_a_body() {
        let xml = body("<Object><Key>a&lt;</Key></Object><Object><Key>b</Key><VersionId>1</VersionId></Object>");
        for cut in 0..xml.len() {
            assert!(keys(&xml.as_bytes()[..cut]).is_err(), "{}", &xml[..cut]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_not(xml: Vec<u8>, inside: String) {
            let _ = keys(&xml);
            let _ = keys(object(&inside).as_bytes());
        }

        #[test]
        fn a_key_is_read_as_it_was_escaped(key in "[^\0\r\u{fffe}\u{ffff}]{1,60}") {
            let escaped = quick_xml::escape::escape(&key);
            prop_assert_eq!(read(&object(&escaped)).unwrap(), vec![(key.clone(), false)]);
        }
    }
}
