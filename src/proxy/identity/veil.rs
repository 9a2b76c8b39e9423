//! Error answers that speak of the gate's own identity: the client is told as much as it would be told of its own.
//!
//! S3 names the role in its `AccessDenied` and shows what was signed, and by whom, in its `SignatureDoesNotMatch`. That is
//! for the administrator.

use crate::buffer::Buffer;
use crate::http::encode::{EncodeError, HeadWriter};
use crate::http::fields::is_hop_by_hop;
use crate::http::head::ResponseHead;
use crate::limits;
use crate::proxy::identity::judge::element;
use crate::s3::error::{self, ErrorBody};

/// Whether `text` names an identity, or what was signed with it. `access_key` is the gate's own.
#[must_use]
pub fn names_identity(text: &[u8], access_key: &str) -> bool {
    let has = |word: &[u8]| !word.is_empty() && text.windows(word.len()).any(|window| window == word);
    TELLING.iter().any(|word| has(word)) || has(access_key.as_bytes())
}

/// What S3 says of identities: ARNs, and the elements of an answer to a wrong signature.
const TELLING: &[&[u8]] = &[
    b"arn:aws",
    b"assumed-role/",
    b"<AWSAccessKeyId",
    b"<StringToSign",
    b"<CanonicalRequest",
    b"<SignatureProvided",
    b"<Token",
];

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
        let code = error::code_of(body).and_then(|code| str::from_utf8(code).ok());
        let text = ErrorBody {
            code: code.unwrap_or_else(|| usual_code(head.status)),
            message: &format!(
                "The storage refuses this. What it says about it names the gate's own identity and is in the gate's log, \
                 under request {}.",
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
            if !is_of_the_body(name) && !is_hop_by_hop(name) && !names_identity(value, access_key) {
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

/// The code of an answer that has none.
fn usual_code(status: u16) -> &'static str {
    match status {
        403 => "AccessDenied",
        400..500 => "InvalidRequest",
        _ => "InternalError",
    }
}

/// Whether a field is about a body that is replaced.
fn is_of_the_body(name: &[u8]) -> bool {
    let of_a_body = ["content-", "x-amz-checksum-"];
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
        let block = format!("HTTP/1.1 403 Forbidden\r\n{fields}\r\n");
        let head = ResponseHead::parse(block.as_bytes()).unwrap();
        let (block, body) = (block.as_bytes(), body.as_bytes());
        let mut out = Buffer::detached(8192);
        let veiled = Veiled { head: &head, block, body, path: b"/media/k", id: "F00D", closes };
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
        ] {
            assert!(names_identity(text.as_bytes(), "ASIAGATE"), "{text}");
        }
        let plain = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>R</RequestId></Error>";
        assert!(!names_identity(plain.as_bytes(), "ASIAGATE") && !names_identity(plain.as_bytes(), ""));
        assert!(!names_identity(b"", "ASIAGATE"));
    }

    #[test]
    fn status_code_and_ids_stay_and_nothing_else_of_the_body() {
        let fields = "x-amz-request-id: R0\r\nx-amz-id-2: H0\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\
                      Date: today\r\nETag: \"e\"\r\nx-amz-why: arn:aws:sts::1:x\r\n";
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
        assert_eq!((usual_code(404), usual_code(503)), ("InvalidRequest", "InternalError"));
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
