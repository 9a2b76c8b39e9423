//! Error answers that speak of the gate's own identity: the client is told as much as it would be told of its own.
//!
//! S3 names the role in its `AccessDenied` and shows what was signed, and by whom, in its `SignatureDoesNotMatch`. That is
//! for the administrator. What successful answers tell is [masked](super::mask).

use crate::buffer::Buffer;
use crate::http::encode::{EncodeError, HeadWriter};
use crate::http::fields::{is_hop_by_hop, named_by_connection};
use crate::http::head::ResponseHead;
use crate::limits;
use crate::proxy::identity::judge::element;
use crate::s3::error::{self, ErrorBody};

/// Whether `text` names an identity, or what was signed with it. `access_key` is the gate's own.
#[must_use]
pub fn names_identity(text: &[u8], access_key: &str) -> bool {
    let key = access_key.as_bytes();
    let begins_key = key.first().copied().unwrap_or(b'<');
    let mut rest = text;
    while let Some(at) = memchr::memchr3(b'<', b'a', begins_key, rest) {
        let found = &rest[at..];
        if TELLING.iter().any(|word| found.starts_with(word)) || (!key.is_empty() && found.starts_with(key)) {
            return true;
        }
        let echo = ECHOES.iter().find(|tag| found.starts_with(tag)).map(|tag| &found[tag.len()..]);
        rest = match echo {
            Some(echo) => &echo[memchr::memchr(b'<', echo).unwrap_or(echo.len())..],
            None => &found[1..],
        };
    }
    false
}

/// Whether a field of a head names an identity.
#[must_use]
pub fn head_names_identity(head: &ResponseHead, block: &[u8], access_key: &str) -> bool {
    head.fields.iter(block).any(|(_, value)| names_identity(value, access_key))
}

/// What S3 says of identities: ARNs, and the elements of an answer to a wrong signature. All begin with one of two bytes.
const TELLING: &[&[u8]] = &[
    b"arn:aws",
    b"arn:minio",
    b"arn:ceph",
    b"assumed-role/",
    b"<AWSAccessKeyId",
    b"<AccessKeyId",
    b"<StringToSign",
    b"<CanonicalRequest",
    b"<SignatureProvided",
    b"<Token",
];

/// Elements that repeat what the client has sent, where a `<` is escaped.
const ECHOES: &[&[u8]] = &[b"<Key>", b"<Resource>", b"<BucketName>"];

/// What the storage said, for the log: one line, bounded, without `secret`.
#[must_use]
pub fn said(body: &[u8], secret: Option<&str>) -> String {
    let message = element(body, b"<Message>", b"</Message>").unwrap_or_default();
    let mut message = String::from_utf8_lossy(message).replace(char::is_control, "?");
    if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
        message = message.replace(secret, "(...)");
    }
    message.chars().take(limits::LOGGED_STRING_BYTES_MAX / 4).collect()
}

/// Why an answer is told in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It names the gate's own identity.
    Names,
    /// It might: it is coded, too long, or has no end.
    Unread,
}

/// An answer to be told in other words.
#[derive(Clone, Copy, Debug)]
pub struct Veiled<'a> {
    /// Its head.
    pub head: &'a ResponseHead,
    /// The bytes of its head.
    pub block: &'a [u8],
    /// What is known of its body.
    pub body: &'a [u8],
    /// The path that was asked for.
    pub path: &'a [u8],
    /// The gate's own id of the request.
    pub id: &'a str,
    /// Why its own words are not passed on.
    pub why: Why,
    /// Whether the connection it came on is of no more use.
    pub closes: bool,
}

impl Veiled<'_> {
    /// Writes the answer with the same status, code, ids and fields, and says whose log has the rest.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn write(&self, out: &mut Buffer, access_key: &str) -> Result<(), EncodeError> {
        let Self { head, block, body, .. } = *self;
        let named = |field, open: &[u8], close: &[u8]| {
            let found = head.fields.get(block, field).or_else(|| element(body, open, close)).unwrap_or_default();
            String::from_utf8_lossy(&found[..found.len().min(ID_BYTES_MAX)]).into_owned()
        };
        let reason = match self.why {
            Why::Names => "names the gate's own identity and is not for everybody",
            Why::Unread => "could not be read to its end",
        };
        let text = ErrorBody {
            code: code_of(body, head.status),
            message: &format!(
                "The storage refuses this. What it says about it {reason}; your administrator finds the request as {}.",
                self.id
            ),
            resource: self.path,
            request_id: &named("x-amz-request-id", b"<RequestId>", b"</RequestId>"),
            host_id: &named("x-amz-id-2", b"<HostId>", b"</HostId>"),
            details: &[],
        };
        let mut xml = Vec::with_capacity(1024);
        text.write(&mut xml);
        let mut writer = HeadWriter::new(out);
        writer.status_line(head.status, head.reason.of(block));
        for (name, value) in head.fields.iter(block) {
            let is_of_the_hop = is_hop_by_hop(name) || named_by_connection(&head.fields, block, name);
            if !is_of_the_body(name) && !is_of_the_hop && !names_identity(value, access_key) {
                writer.field(name, value);
            }
        }
        writer.field(b"Content-Type", b"application/xml");
        writer.field_fmt(b"Content-Length", format_args!("{}", xml.len()));
        if self.closes {
            writer.field(b"Connection", b"close");
        }
        writer.finish()?;
        if out.append(&xml) < xml.len() {
            out.clear();
            return Err(EncodeError::TooLarge);
        }
        Ok(())
    }
}

/// Bytes of an id of S3's; the longest have some 80.
const ID_BYTES_MAX: usize = 256;

/// The code an answer has, or else what S3 usually says with its status.
#[must_use]
pub fn code_of(body: &[u8], status: u16) -> &str {
    let code = error::code_of(body).and_then(|code| str::from_utf8(code).ok());
    code.unwrap_or(match status {
        403 => "AccessDenied",
        404 => "NoSuchKey",
        405 => "MethodNotAllowed",
        409 => "OperationAborted",
        411 => "MissingContentLength",
        412 => "PreconditionFailed",
        416 => "InvalidRange",
        429 | 503 => "SlowDown",
        400..=499 => "InvalidRequest",
        501 => "NotImplemented",
        _ => "InternalError",
    })
}

/// Writes a head again without the fields that name an identity, and what came behind it.
///
/// # Errors
/// When it does not fit.
pub fn strip(
    out: &mut Buffer,
    head: &ResponseHead,
    (block, behind): (&[u8], &[u8]),
    access_key: &str,
    closes: bool,
) -> Result<(), EncodeError> {
    let mut writer = HeadWriter::new(out);
    writer.status_line(head.status, head.reason.of(block));
    for (name, value) in head.fields.iter(block) {
        if !names_identity(value, access_key) {
            writer.field(name, value);
        }
    }
    if closes {
        writer.field(b"Connection", b"close");
    }
    writer.finish()?;
    if out.append(behind) < behind.len() {
        out.clear();
        return Err(EncodeError::TooLarge);
    }
    Ok(())
}

/// Whether a field is about a body that is replaced. How long an object is stays true.
fn is_of_the_body(name: &[u8]) -> bool {
    let of_a_body = ["content-", "x-amz-checksum-"];
    if name.eq_ignore_ascii_case(b"content-range") {
        return false;
    }
    name.eq_ignore_ascii_case(b"etag")
        || of_a_body
            .iter()
            .any(|start| name.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: &str = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>User: \
                          arn:aws:sts::123456789012:assumed-role/Gate/filmgate is not authorized to perform: s3:PutObject\n\
                          with T0KEN</Message><RequestId>R1</RequestId><HostId>H1</HostId></Error>";

    fn veiled(fields: &str, body: &str, closes: bool) -> String {
        let why = if body.is_empty() { Why::Unread } else { Why::Names };
        let block = format!("HTTP/1.1 403 Forbidden\r\n{fields}\r\n");
        let head = ResponseHead::parse(block.as_bytes()).unwrap();
        let (block, body) = (block.as_bytes(), body.as_bytes());
        let mut out = Buffer::detached(8192);
        let veiled = Veiled { head: &head, block, body, path: b"/media/k", id: "F00D", why, closes };
        veiled.write(&mut out, "ASIAGATE").unwrap();
        String::from_utf8(out.filled().to_vec()).unwrap()
    }

    #[test]
    fn what_names_an_identity_is_told_from_what_does_not() {
        for text in [
            DENIED,
            "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>AWS4-HMAC-SHA256",
            "<Error><AWSAccessKeyId>A</AWSAccessKeyId>",
            "the key ASIAGATE is not known",
            "arn:aws-us-gov:iam::1:role/R",
            "a < b arn:minio:x",
            "<Key>a</Key>arn:aws:x",
            "<Key><ASIAGATE",
        ] {
            assert!(names_identity(text.as_bytes(), "ASIAGATE"), "{text}");
        }
        let plain = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>R</RequestId></Error>";
        assert!(!names_identity(plain.as_bytes(), "ASIAGATE") && !names_identity(plain.as_bytes(), ""));
        assert!(!names_identity(b"", "ASIAGATE"));
    }

    #[test]
    fn what_a_client_has_sent_itself_names_nobody() {
        let echo = "<Error><Code>NoSuchKey</Code><Key>arn:aws:iam::1:role/R</Key><Resource>/m/assumed-role/ASIAGATE</Resource>\
                    <BucketName>arn:aws:s3:::b</BucketName></Error>";
        assert!(!names_identity(echo.as_bytes(), "ASIAGATE"));
        assert!(!names_identity(b"<Key>arn:aws:cut", "ASIAGATE"));
        assert!(names_identity(echo.replace("<Key>", "<Kay>").as_bytes(), "ASIAGATE"));
    }

    #[test]
    fn a_head_without_a_body_loses_only_what_names_an_identity() {
        let block = b"HTTP/1.1 403 Forbidden\r\nx-amz-request-id: R\r\nX-Error-Message: arn:aws:sts::1:x\r\n\r\n";
        let head = ResponseHead::parse(block).unwrap();
        assert!(head_names_identity(&head, block, "ASIAGATE"));
        let mut out = Buffer::detached(1024);
        strip(&mut out, &head, (block, b"body"), "ASIAGATE", true).unwrap();
        let expected = b"HTTP/1.1 403 Forbidden\r\nx-amz-request-id: R\r\nConnection: close\r\n\r\nbody";
        assert_eq!(out.filled().escape_ascii().to_string(), expected.escape_ascii().to_string());
        let stripped = &out.filled()[..out.len() - 4];
        assert!(!head_names_identity(&ResponseHead::parse(stripped).unwrap(), stripped, "ASIAGATE"));
        assert!(strip(&mut Buffer::detached(80), &head, (block, &[b'x'; 80]), "ASIAGATE", false).is_err());
    }

    #[test]
    fn status_code_and_ids_stay_and_nothing_else_of_the_body() {
        let fields = "x-amz-request-id: R0\r\nx-amz-id-2: H0\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\
                      Date: today\r\nETag: \"e\"\r\nx-amz-why: arn:aws:sts::1:x\r\nX-Hop: 1\r\nConnection: x-hop\r\n";
        let answer = veiled(fields, DENIED, true);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            head,
            format!(
                "HTTP/1.1 403 Forbidden\r\nx-amz-request-id: R0\r\nx-amz-id-2: H0\r\nDate: today\r\n\
                 Content-Type: application/xml\r\nContent-Length: {}\r\nConnection: close",
                body.len()
            )
        );
        for part in ["<Code>AccessDenied</Code>", "F00D", "<RequestId>R0</RequestId>", "<HostId>H0</HostId>"] {
            assert!(body.contains(part), "{part}: {body}");
        }
        assert!(!names_identity(answer.as_bytes(), "ASIAGATE"), "{answer}");
    }

    #[test]
    fn ids_are_taken_from_the_body_where_the_head_has_none_and_a_code_is_always_there() {
        let answer = veiled("", DENIED, false);
        assert!(answer.contains("<RequestId>R1</RequestId>") && answer.contains("<HostId>H1</HostId>"), "{answer}");
        assert!(!answer.contains("Connection"), "{answer}");
        assert!(veiled("", "<html>", false).contains("<Code>AccessDenied</Code>"));
    }

    #[test]
    fn an_answer_that_could_not_be_read_has_the_code_that_goes_with_its_status() {
        for (status, code) in [
            (400, "InvalidRequest"),
            (403, "AccessDenied"),
            (404, "NoSuchKey"),
            (405, "MethodNotAllowed"),
            (409, "OperationAborted"),
            (411, "MissingContentLength"),
            (412, "PreconditionFailed"),
            (416, "InvalidRange"),
            (429, "SlowDown"),
            (500, "InternalError"),
            (501, "NotImplemented"),
            (503, "SlowDown"),
        ] {
            assert_eq!(code_of(b"<Error><Co", status), code);
            assert_eq!(code_of(b"<Error><Code>KeyTooLongError</Code>", status), "KeyTooLongError");
        }
        let answer = veiled("Content-Range: bytes */5\r\nContent-Length: 0\r\n", "", true);
        assert!(answer.contains("could not be read to its end") && !answer.contains("identity"), "{answer}");
        assert!(answer.contains("Content-Range: bytes */5\r\n"), "{answer}");
    }

    #[test]
    fn the_log_has_what_the_storage_said_in_one_bounded_line_without_secrets() {
        let text = said(DENIED.as_bytes(), Some("T0KEN"));
        assert!(text.starts_with("User: arn:aws:sts::123456789012:assumed-role/Gate/"), "{text}");
        assert!(text.ends_with("s3:PutObject?with (...)"), "{text}");
        let long = format!("<Message>{}</Message>", "é".repeat(10_000));
        assert_eq!(said(long.as_bytes(), Some("")).chars().count(), limits::LOGGED_STRING_BYTES_MAX / 4);
        assert_eq!(said(b"no XML", None), "");
    }
}
