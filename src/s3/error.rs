//! S3's error bodies: writing one of the gate's own, and finding the code in one of S3's.
//!
//! The shape is that of "Error responses" in the Amazon S3 API Reference; SDKs read `Code` and `Message` from it.

use memchr::{memchr, memmem};

use crate::limits;

/// What `HostId` says in a body of the gate's own, so that nobody takes it for S3's.
pub const HOST_ID: &str = "filmgate";

/// An error body of the gate's own. Send it as `application/xml`, exactly: clients compare.
#[derive(Clone, Copy, Debug)]
pub struct ErrorBody<'a> {
    /// A code SDKs know.
    pub code: &'a str,
    /// What an artist can act on.
    pub message: &'a str,
    /// The path as received. A query in it is cut off: it would carry the signature back.
    pub resource: &'a [u8],
    /// The id of the request, also in the log of whoever gave it.
    pub request_id: &'a str,
    /// Who answers: [`HOST_ID`], unless this is said for S3.
    pub host_id: &'a str,
    /// More elements, by name.
    pub details: &'a [(&'static str, &'a str)],
}

impl ErrorBody<'_> {
    /// Appends the XML document.
    pub fn write(&self, out: &mut Vec<u8>) {
        let path = self.resource.split(|byte| *byte == b'?').next().unwrap_or_default();
        let path = &path[..path.len().min(limits::LOGGED_STRING_BYTES_MAX)];
        out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        element(out, "Code", self.code);
        element(out, "Message", self.message);
        for (name, text) in self.details {
            element(out, name, text);
        }
        element(out, "Resource", &String::from_utf8_lossy(path));
        element(out, "RequestId", self.request_id);
        element(out, "HostId", self.host_id);
        out.extend_from_slice(b"</Error>");
    }
}

/// S3's error code in the beginning of an error body, `None` when there is none or it does not look like one.
///
/// Looks at no more than [`limits::ERROR_BODY_BYTES_MAX`] bytes; a body that arrives in pieces is asked about whole.
#[must_use]
pub fn code_of(body: &[u8]) -> Option<&[u8]> {
    const OPEN: &[u8] = b"<Code>";
    const CLOSE: &[u8] = b"</Code>";
    let body = &body[..body.len().min(limits::ERROR_BODY_BYTES_MAX)];
    let start = memmem::find(body, OPEN)? + OPEN.len();
    let rest = &body[start..];
    let end = memchr(b'<', &rest[..rest.len().min(CODE_BYTES_MAX + 1)])?;
    let code = &rest[..end];
    let plain = code.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
    (plain && !code.is_empty() && rest[end..].starts_with(CLOSE)).then_some(code)
}

/// The longest code S3 documents has 44 characters.
const CODE_BYTES_MAX: usize = 64;

fn element(out: &mut Vec<u8>, name: &str, text: &str) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    escape(out, text);
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

/// Character data by XML 1.0 §2.2 and §2.4. Characters XML cannot express, not even by reference, become U+FFFD.
fn escape(out: &mut Vec<u8>, text: &str) {
    for char in text.chars() {
        match char {
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '&' => out.extend_from_slice(b"&amp;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&apos;"),
            // A parser would read a bare CR as LF (XML 1.0 §2.11).
            '\r' => out.extend_from_slice(b"&#13;"),
            '\t' | '\n' | ' '..='\u{FFFD}' | '\u{10000}'.. => {
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => out.extend_from_slice("\u{FFFD}".as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(message: &str, resource: &[u8]) -> String {
        let mut out = b"kept ".to_vec();
        ErrorBody { code: "SlowDown", message, resource, request_id: "F00D", host_id: HOST_ID, details: &[] }
            .write(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("kept ").unwrap().to_owned()
    }

    #[test]
    fn a_body_has_the_shape_of_s3() {
        assert_eq!(
            written("Please try again.", b"/a/b%20c.mov"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please try again.</Message>\
             <Resource>/a/b%20c.mov</Resource><RequestId>F00D</RequestId><HostId>filmgate</HostId></Error>"
        );
    }

    #[test]
    fn markup_and_impossible_characters_are_escaped() {
        let table = [
            ("a<b>&\"'", "a&lt;b&gt;&amp;&quot;&apos;"),
            ("]]>", "]]&gt;"),
            ("a\tb\nc\rd", "a\tb\nc&#13;d"),
            ("\0\u{1}\u{1f}\u{fffe}\u{ffff}", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("é漢🎬\u{7f}", "é漢🎬\u{7f}"),
        ];
        for (message, expected) in table {
            let body = written(message, b"/");
            assert!(body.contains(&format!("<Message>{expected}</Message>")), "{body}");
        }
    }

    #[test]
    fn a_resource_carries_no_query_and_has_a_bound() {
        let body = written("m", b"/a.mov?X-Amz-Signature=deadbeef&X-Amz-Security-Token=t");
        assert!(body.contains("<Resource>/a.mov</Resource>"), "{body}");
        assert!(written("m", b"/\xff\xfe</Resource>").contains("<Resource>/\u{fffd}\u{fffd}&lt;/Resource&gt;<"));
        assert!(written("m", &vec![b'a'; 100_000]).len() < limits::LOGGED_STRING_BYTES_MAX + 300);
    }

    #[test]
    fn the_code_of_an_error_body_is_found() {
        let table: &[(&[u8], Option<&[u8]>)] = &[
            (b"<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>m</Message>", Some(b"NoSuchKey")),
            (b"<Error><Code>A.b9</Code>", Some(b"A.b9")),
            (b"<Error><Code>NoSuchKey</Cod", None),
            (b"<Error><Code>NoSuch", None),
            (b"<Error><Code></Code>", None),
            (b"<Error><Code>a b</Code>", None),
            (b"<Error><Code>a\"b</Code>", None),
            (b"<Error><Code>a<b</Code>", None),
            (b"<html>", None),
            (b"", None),
        ];
        for (body, expected) in table {
            assert_eq!(code_of(body), *expected, "{}", body.escape_ascii());
        }
        let whole = table[0].0;
        let end = whole.windows(7).position(|window| window == b"</Code>").unwrap() + 7;
        for cut in 0..whole.len() {
            assert_eq!(code_of(&whole[..cut]).is_some(), cut >= end, "{cut}");
        }
    }

    #[test]
    fn the_search_for_a_code_is_bounded() {
        let body = |before: usize, code: usize| {
            let mut body = vec![b' '; before];
            body.extend_from_slice(b"<Code>");
            body.extend(vec![b'A'; code]);
            body.extend_from_slice(b"</Code>");
            body
        };
        assert_eq!(code_of(&body(10, CODE_BYTES_MAX)).map(<[u8]>::len), Some(CODE_BYTES_MAX));
        assert_eq!(code_of(&body(10, CODE_BYTES_MAX + 1)), None);
        assert_eq!(code_of(&body(limits::ERROR_BODY_BYTES_MAX, 5)), None);
        assert!(code_of(&body(limits::ERROR_BODY_BYTES_MAX - 18, 5)).is_some());
        assert_eq!(code_of(&body(limits::ERROR_BODY_BYTES_MAX - 17, 5)), None);
    }

    proptest! {
        #[test]
        fn a_written_code_is_found_again_whatever_surrounds_it(message: String, resource: Vec<u8>) {
            let body = written(&message, &resource);
            prop_assert_eq!(code_of(body.as_bytes()), Some(&b"SlowDown"[..]));
            let impossible = body.chars().any(|char| char < ' ' && !matches!(char, '\t' | '\n'));
            prop_assert!(!impossible);
        }
    }
}
