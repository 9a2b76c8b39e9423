//! Answers that tell who asked, where that is the gate itself.
//!
//! S3 names whoever began a multipart upload, and writes refusals of single keys into answers that are successes as a whole.
//! Such a body cannot be held back until it is known what it says: listings are long, and a copy is answered with blanks for
//! as long as it takes. So it is masked on its way, byte by byte and in place. Its length stays, and with it all framing.
//!
//! A checksum of such an answer behind its body would no longer fit. S3 sends none.

/// Whether S3 tells of the principal that signed in a successful answer to `operation` ("Amazon S3 API Reference").
#[must_use]
pub fn is_told_of_us(operation: &str) -> bool {
    matches!(
        operation,
        "ListParts"
            | "ListMultipartUploads"
            | "DeleteObjects"
            | "CopyObject"
            | "UploadPartCopy"
            | "CompleteMultipartUpload"
    )
}

/// Overwrites what names the gate in the payload of one answer.
///
/// In the text of a `Message` that is what stands behind `arn:` or `assumed-role/`, and the gate's access key from its fifth
/// byte on; of an `Initiator` it is all text. Nothing else is touched: in S3's XML a `<` within text is escaped, so no key of
/// an object looks like a tag.
#[derive(Debug)]
pub struct Mask {
    access_key: Box<[u8]>,
    place: Place,
    tag: Tag,
    /// The last bytes that came, the last one lowest.
    last: u128,
    /// Bytes of the access key that came last.
    matched: usize,
    /// Whether a name is being overwritten, until something that cannot be part of one.
    is_in_name: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Elsewhere,
    Message,
    Initiator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    /// There is none: this is text.
    None,
    /// Its local name, as far as it has come; of a longer one the end.
    Name { name: u128, closes: bool },
    /// Its name is over.
    Rest { name: u128, closes: bool },
}

impl Mask {
    /// A mask of what names the owner of `access_key`.
    #[must_use]
    pub fn new(access_key: &str) -> Self {
        Self {
            access_key: access_key.as_bytes().into(),
            place: Place::Elsewhere,
            tag: Tag::None,
            last: 0,
            matched: 0,
            is_in_name: false,
        }
    }

    /// Masks the next bytes of the payload.
    pub fn apply(&mut self, payload: &mut [u8]) {
        let mut at = 0;
        while at < payload.len() {
            if self.place == Place::Elsewhere && self.tag == Tag::None {
                match memchr::memchr(b'<', &payload[at..]) {
                    Some(skipped) => at += skipped,
                    None => return,
                }
            }
            payload[at] = self.step(payload[at]);
            at += 1;
        }
    }

    fn step(&mut self, byte: u8) -> u8 {
        let is_text = self.tag == Tag::None && byte != b'<';
        // Also within what looks like a tag: an unusual writer's CDATA does.
        let shown = match self.place {
            Place::Elsewhere => byte,
            Place::Initiator if is_text && !byte.is_ascii_whitespace() => HIDDEN,
            Place::Message | Place::Initiator => self.hide(byte),
        };
        let before = self.last as u8;
        self.last = self.last << 8 | u128::from(byte);
        if self.place != Place::Elsewhere && !self.is_in_name {
            self.is_in_name = NAMES.iter().any(|name| ends_with(self.last, name));
        }
        self.walk(byte, before);
        shown
    }

    /// What is shown of a byte of text.
    fn hide(&mut self, byte: u8) -> u8 {
        let key = &self.access_key[..];
        // As far as the bytes that came last agree with the beginning of the key.
        let agrees = |&n: &usize| key.get(n) == Some(&byte) && key[..n] == key[self.matched - n..self.matched];
        self.matched = (0..=self.matched).rev().find(agrees).map_or(0, |n| n + 1);
        let is_of_the_key = self.matched > KEY_BYTES_SHOWN.min(key.len() / 2);
        if self.matched == key.len() {
            self.matched = 0;
        }
        let ends_names = byte.is_ascii_whitespace() || matches!(byte, b'<' | b'>' | b'"' | b'\'' | b']');
        self.is_in_name = self.is_in_name && !ends_names;
        if self.is_in_name || is_of_the_key { HIDDEN } else { byte }
    }

    /// Follows the tags.
    fn walk(&mut self, byte: u8, before: u8) {
        self.tag = match (self.tag, byte) {
            (_, b'<') => Tag::Name { name: 0, closes: false },
            (Tag::None, _) => Tag::None,
            (Tag::Name { name, closes } | Tag::Rest { name, closes }, b'>') => {
                self.pass(name, closes, before == b'/');
                Tag::None
            }
            (Tag::Name { name: 0, .. }, b'/') => Tag::Name { name: 0, closes: true },
            // What was before it is the prefix of a namespace.
            (Tag::Name { closes, .. }, b':') => Tag::Name { name: 0, closes },
            (Tag::Name { name, closes }, b'/' | b' ' | b'\t' | b'\r' | b'\n') => Tag::Rest { name, closes },
            (Tag::Name { name, closes }, _) => Tag::Name { name: name << 8 | u128::from(byte), closes },
            (rest @ Tag::Rest { .. }, _) => rest,
        };
    }

    /// Passes a tag.
    fn pass(&mut self, name: u128, closes: bool, is_empty: bool) {
        let place = match name {
            MESSAGE => Place::Message,
            INITIATOR => Place::Initiator,
            _ => return,
        };
        match self.place {
            Place::Elsewhere if !closes && !is_empty => {
                (self.place, self.last, self.matched, self.is_in_name) = (place, 0, 0, false);
            }
            inside if inside == place && closes => self.place = Place::Elsewhere,
            _ => {}
        }
    }
}

/// What a hidden byte is shown as.
const HIDDEN: u8 = b'*';

/// Bytes of an access key that say of which kind it is, and no more.
const KEY_BYTES_SHOWN: usize = 4;

/// What stands in front of the name of a principal or a resource.
const NAMES: [&[u8]; 2] = [b"arn:", b"assumed-role/"];

const MESSAGE: u128 = packed(b"Message");
const INITIATOR: u128 = packed(b"Initiator");

const fn packed(word: &[u8]) -> u128 {
    let (mut packed, mut at) = (0, 0);
    while at < word.len() {
        packed = packed << 8 | word[at] as u128;
        at += 1;
    }
    packed
}

fn ends_with(last: u128, word: &[u8]) -> bool {
    let bits = 8 * word.len() as u32;
    last & (u128::MAX >> (u128::BITS - bits)) == packed(word)
}

const _: () = assert!(NAMES[0].len() <= 16 && NAMES[1].len() <= 16);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ASIAGATE0001";

    /// The answer, masked as it comes in these pieces.
    fn masked<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let (mut mask, mut out) = (Mask::new(KEY), Vec::new());
        for piece in pieces {
            let mut piece = piece.to_vec();
            mask.apply(&mut piece);
            out.append(&mut piece);
        }
        String::from_utf8(out).unwrap()
    }

    /// What is to be hidden stands in braces.
    const PARTS: &str = "<?xml version=\"1.0\"?>\n<ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <Key>arn:aws:iam::1:x &lt;Initiator> ASIAGATE0001</Key><Initiator>\n  <ID>{arn:aws:sts::123456789012:assumed-role/Gate/s}</ID>\
        <DisplayName>{Gate/s} {&quot;1&quot;}</DisplayName></Initiator><Owner><ID>75aa</ID></Owner></ListPartsResult>";

    const DELETED: &str = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>arn:aws:b</Key><Code>AccessDenied</Code>\
        <Message>User: arn:{aws:sts::123456789012:assumed-role/Gate/a,b} is not authorized to perform: s3:DeleteObject on \
        resource: \"arn:{aws:s3:::media/arn:aws:b}\" by assumed-role/{Gate} with ASIA{GATE0001} or ASIA{GA}ME\
        </Message></Error></DeleteResult>";

    /// An answer as it comes and as it goes.
    fn answer(written: &str) -> (String, String) {
        let (mut hidden, mut masked) = (false, String::new());
        for char in written.chars() {
            match char {
                '{' | '}' => hidden = char == '{',
                _ => masked.push(if hidden { '*' } else { char }),
            }
        }
        (written.replace(['{', '}'], ""), masked)
    }

    #[test]
    fn what_names_the_gate_is_hidden_and_nothing_else() {
        for (text, expected) in [PARTS, DELETED].map(answer) {
            assert_eq!(masked([text.as_bytes()]), expected);
        }
    }

    #[test]
    fn it_makes_no_difference_where_the_answer_is_cut() {
        for (text, expected) in [PARTS, DELETED].map(answer) {
            for at in 0..=text.len() {
                let (front, rest) = text.as_bytes().split_at(at);
                assert_eq!(masked([front, rest]), expected, "{at}");
            }
            assert_eq!(masked(text.as_bytes().chunks(1)), expected);
        }
    }

    #[test]
    fn unusual_ways_to_write_the_same_are_understood() {
        let same = |text: &str| assert_eq!(masked([text.as_bytes()]), text);
        let hidden = |text: &str, expected: &str| assert_eq!(masked([text.as_bytes()]), expected);
        hidden("<s3:Message lang='en'>arn:x</s3:Message >arn:y", "<s3:Message lang='en'>arn:*</s3:Message >arn:y");
        hidden("<Initiator\n><ID>a</ID></Initiator><ID>a</ID>", "<Initiator\n><ID>*</ID></Initiator><ID>a</ID>");
        hidden("<Message><![CDATA[arn:aws:x]]></Message>", "<Message><![CDATA[arn:*****]]></Message>");
        hidden("<Initiator><![CDATA[arn:aws:x]]></Initiator>", "<Initiator><![CDATA[arn:*****]]></Initiator>");
        hidden("<Message>a <b>arn:x</b> arn:y</Message>", "<Message>a <b>arn:*</b> arn:*</Message>");
        for text in [
            "<Message/><Key>arn:aws:x</Key>",
            "<Message /><Key>arn:aws:x</Key>",
            "<NoMessage>arn:x</NoMessage>",
            "<AVeryLongNameOfAMessage>arn:x</AVeryLongNameOfAMessage>",
            "</Message>arn:x",
            "<Message>Access Denied: we warn: you</Message>",
            "   \n\n",
            "",
        ] {
            same(text);
        }
    }

    #[test]
    fn an_access_key_is_found_behind_a_beginning_of_itself() {
        let said = |text: &str| masked([format!("<Message>{text}</Message>").as_bytes()]);
        assert_eq!(said("ASIASIAGATE0001"), "<Message>ASIASIA********</Message>");
        assert_eq!(said("ASIAGATASIAGATE0001ASIAGATE0001"), "<Message>ASIA***ASIA********ASIA********</Message>");
        let mut mask = Mask::new("");
        let mut text = *b"<Message>key </Message>";
        mask.apply(&mut text);
        assert_eq!(&text, b"<Message>key </Message>");
    }
}
