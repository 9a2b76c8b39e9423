//! Heads on their way through: which fields pass, which stay behind, what the gate says itself.
//!
//! A presigned link is a signature over the method, the raw target, `Host` and whatever else `X-Amz-SignedHeaders`
//! names. So the target travels as the bytes that came, `Host` is the one that was signed, and every end-to-end field
//! passes unchanged. What stays behind:
//!
//! * hop-by-hop fields (RFC 9110 §7.6.1), which are about this connection;
//! * `Cookie`, which is a ShotGrid session that S3 has no business with;
//! * `Authorization` when the query carries a signature (S3 refuses two mechanisms with 400) or when Host is replaced
//!   (a header signature covers Host and cannot survive that).

use crate::buffer::Buffer;
use crate::http::encode::{EncodeError, HeadWriter, reason};
use crate::http::fields::{Fields, is_hop_by_hop, named_by_connection};
use crate::http::framing::{RequestBody, ResponseBody, authority, origin_target};
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::policy::route::{Route, UpstreamHost};
use crate::s3::target::{SignatureKind, Target};

/// How the upstream learns the length of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// As the client framed it: with its own `Content-Length`, or without a body.
    AsReceived,
    /// In the chunked coding, as it came: only aws-chunked uploads, which say their length in a field of their own.
    Chunked,
    /// With a length the gate found out by spooling.
    Spooled(u64),
}

/// Decides how a request's body goes upstream. `None`: it has to be spooled first, because S3 answers 501 to a chunked
/// upload that does not announce `x-amz-decoded-content-length`.
#[must_use]
pub fn sending(head: &RequestHead, block: &[u8], body: RequestBody) -> Option<Sending> {
    match body {
        RequestBody::None | RequestBody::Length(_) => Some(Sending::AsReceived),
        RequestBody::Chunked if head.fields.get(block, "x-amz-decoded-content-length").is_some() => {
            Some(Sending::Chunked)
        }
        RequestBody::Chunked => None,
    }
}

/// Writes the upstream's request head.
///
/// # Errors
/// When it does not fit or a part of it could break out of its line; nothing is left in `out` then.
pub fn request(
    out: &mut Buffer,
    head: &RequestHead,
    block: &[u8],
    route: &Route,
    sending: Sending,
    expects_continue: bool,
) -> Result<(), EncodeError> {
    let target = origin_target(head, block);
    let fields = &head.fields;
    let host_replaced = matches!(route.host, UpstreamHost::Replace(_));
    let signed_query = Target::parse(target).signature() != SignatureKind::None;
    let mut writer = HeadWriter::new(out);
    writer.request_line(head.method(block), target);
    let host = match &route.host {
        UpstreamHost::Replace(host) => host.as_bytes(),
        UpstreamHost::Keep => authority(head, block).unwrap_or_default(),
    };
    writer.field(b"Host", host);
    writer.fields_of(fields, block, |name| {
        let dropped =
            name.len() == 13 && (signed_query || host_replaced) && name.eq_ignore_ascii_case(b"authorization");
        !dropped && passes(fields, block, name, sending)
    });
    write_expectation_and_length(&mut writer, head, block, sending, expects_continue);
    writer.finish()
}

/// Whether a request's field passes, whatever else is decided about it.
#[must_use]
pub fn passes(fields: &Fields, block: &[u8], name: &[u8], sending: Sending) -> bool {
    let dropped = match name.len() {
        4 => name.eq_ignore_ascii_case(b"host"),
        6 => name.eq_ignore_ascii_case(b"cookie") || name.eq_ignore_ascii_case(b"expect"),
        14 => matches!(sending, Sending::Spooled(_)) && name.eq_ignore_ascii_case(b"content-length"),
        _ => false,
    };
    !dropped && !stays_behind(fields, block, name, sending == Sending::Chunked)
}

/// Writes what the gate itself says about the body that follows.
pub fn write_expectation_and_length(
    writer: &mut HeadWriter<'_>,
    head: &RequestHead,
    block: &[u8],
    sending: Sending,
    expects_continue: bool,
) {
    if expects_continue {
        writer.field(b"Expect", b"100-continue");
    }
    match sending {
        Sending::AsReceived => {
            let method = head.method(block);
            if head.fields.get(block, "content-length").is_none() && (method == b"PUT" || method == b"POST") {
                writer.field(b"Content-Length", b"0");
            }
        }
        Sending::Chunked => {
            writer.field(b"Transfer-Encoding", b"chunked");
        }
        Sending::Spooled(length) => {
            writer.field_fmt(b"Content-Length", format_args!("{length}"));
        }
    }
}

/// How a response body goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returning {
    /// No body follows the head.
    Nothing,
    /// The bytes as they come, for as long as the upstream's framing says.
    AsReceived,
    /// The data without the chunked coding, ended by closing: for HTTP/1.0 clients.
    Unchunked,
}

/// Decides how a response's body goes to the client.
#[must_use]
pub fn returning(body: ResponseBody, client: Version) -> Returning {
    match (body, client) {
        (ResponseBody::None, _) => Returning::Nothing,
        (ResponseBody::Chunked, Version::Http10) => Returning::Unchunked,
        _ => Returning::AsReceived,
    }
}

/// What the client's connection does after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays for another request.
    Keep,
    /// It closes.
    Close,
}

/// Writes the client's response head.
///
/// # Errors
/// As [`request`].
pub fn response(
    out: &mut Buffer,
    head: &ResponseHead,
    block: &[u8],
    body: ResponseBody,
    client: Version,
    after: After,
) -> Result<(), EncodeError> {
    let fields = &head.fields;
    let mut writer = HeadWriter::new(out);
    writer.status_line(head.status, head.reason.of(block));
    let chunked = body == ResponseBody::Chunked && client == Version::Http11;
    writer.fields_of(fields, block, |name| !stays_behind(fields, block, name, chunked));
    if chunked {
        writer.field(b"Transfer-Encoding", b"chunked");
    }
    connection(&mut writer, client, after);
    writer.finish()
}

/// Says what happens to the connection, where the version's default does not say it.
pub fn connection(writer: &mut HeadWriter<'_>, client: Version, after: After) {
    match (client, after) {
        (Version::Http11, After::Keep) | (Version::Http10, After::Close) => {}
        (Version::Http11, After::Close) => {
            writer.field(b"Connection", b"close");
        }
        (Version::Http10, After::Keep) => {
            writer.field(b"Connection", b"keep-alive");
        }
    }
}

/// Writes the head of an answer the gate makes itself, without the field that every such answer needs of its own.
///
/// # Errors
/// As [`request`].
pub fn own_response(
    out: &mut Buffer,
    status: u16,
    fields: &[(&[u8], &[u8])],
    length: u64,
    client: Version,
    after: After,
) -> Result<(), EncodeError> {
    let mut writer = HeadWriter::new(out);
    writer.status_line(status, reason(status).as_bytes());
    for (name, value) in fields {
        writer.field(name, value);
    }
    writer.field_fmt(b"Content-Length", format_args!("{length}"));
    connection(&mut writer, client, after);
    writer.finish()
}

/// Whether a field is about the connection it came on. `Trailer` announces fields of a chunked body and stays with it.
fn stays_behind(fields: &Fields, block: &[u8], name: &[u8], body_stays_chunked: bool) -> bool {
    if name.eq_ignore_ascii_case(b"trailer") {
        return !body_stays_chunked;
    }
    is_hop_by_hop(name) || named_by_connection(fields, block, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::Mode;

    fn route(host: UpstreamHost) -> Route {
        Route {
            hosts: vec!["s3-proxy.studio.test".into()],
            default: false,
            bucket: "media".into(),
            region: "us-west-2".into(),
            mode: Mode::PassThrough,
            host,
            upstream: 0,
        }
    }

    fn replaced() -> Route {
        route(UpstreamHost::Replace("media.s3.us-west-2.amazonaws.com".into()))
    }

    fn forwarded(block: &str, route: &Route, sending: Sending, expects_continue: bool) -> String {
        let head = RequestHead::parse(block.as_bytes()).unwrap();
        let mut out = Buffer::detached(4096);
        request(&mut out, &head, block.as_bytes(), route, sending, expects_continue).unwrap();
        String::from_utf8(out.filled().to_vec()).unwrap()
    }

    #[test]
    fn the_target_is_the_bytes_that_came_and_host_is_the_one_that_was_signed() {
        let block =
            "GET /a/../b//c%2Fd%20e+f%zz?X-Amz-Signature=1&k=%2b HTTP/1.1\r\nHost: s3-proxy.studio.test:443\r\n\r\n";
        assert_eq!(
            forwarded(block, &replaced(), Sending::AsReceived, false),
            "GET /a/../b//c%2Fd%20e+f%zz?X-Amz-Signature=1&k=%2b HTTP/1.1\r\nHost: media.s3.us-west-2.amazonaws.com\r\n\r\n"
        );
        assert!(
            forwarded(block, &route(UpstreamHost::Keep), Sending::AsReceived, false)
                .contains("\r\nHost: s3-proxy.studio.test:443\r\n")
        );
    }

    #[test]
    fn authorization_stays_only_where_host_is_kept_and_the_query_is_not_signed() {
        let with = |query: &str| {
            format!(
                "GET /k{query} HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 x\r\nCookie: _session_id=1\r\n\r\n"
            )
        };
        let keeps =
            |block: &str, route: &Route| forwarded(block, route, Sending::AsReceived, false).contains("Authorization");
        let kept = route(UpstreamHost::Keep);
        assert!(keeps(&with(""), &kept));
        assert!(keeps(&with("?partNumber=1"), &kept));
        assert!(!keeps(&with("?X-Amz-Signature=1"), &kept));
        assert!(!keeps(&with("?x-amz-signature=1"), &kept));
        assert!(!keeps(&with("?AWSAccessKeyId=A&Signature=B"), &kept));
        assert!(!keeps(&with(""), &replaced()));
        assert!(!forwarded(&with(""), &kept, Sending::AsReceived, false).contains("Cookie"));
    }

    #[test]
    fn hop_by_hop_fields_stay_behind_and_all_others_pass_in_order() {
        let block = "PUT /k HTTP/1.1\r\nHost: h\r\nRange: bytes=0-\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
                     Keep-Alive: 5\r\nUpgrade: h2c\r\nIf-None-Match: \"e\"\r\nx-amz-acl: private\r\nContent-Size: 3\r\n\
                     Origin: https://o\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            forwarded(block, &replaced(), Sending::AsReceived, false),
            "PUT /k HTTP/1.1\r\nHost: media.s3.us-west-2.amazonaws.com\r\nRange: bytes=0-\r\nIf-None-Match: \"e\"\r\n\
             x-amz-acl: private\r\nContent-Size: 3\r\nOrigin: https://o\r\nContent-Length: 3\r\n\r\n"
        );
    }

    #[test]
    fn an_upload_always_says_its_length_unless_it_is_aws_chunked() {
        let bare = "PUT /k HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(forwarded(bare, &replaced(), Sending::AsReceived, false).ends_with("\r\nContent-Length: 0\r\n\r\n"));
        assert!(
            !forwarded("GET /k HTTP/1.1\r\nHost: h\r\n\r\n", &replaced(), Sending::AsReceived, false)
                .contains("Length")
        );
        let chunked =
            "PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nExpect: 100-continue\r\n\r\n";
        let spooled = forwarded(chunked, &replaced(), Sending::Spooled(7), false);
        assert!(spooled.ends_with("\r\nContent-Length: 7\r\n\r\n"));
        assert!(!spooled.contains("chunked") && !spooled.contains("Trailer") && !spooled.contains("Expect"));
        let passed = forwarded(chunked, &replaced(), Sending::Chunked, true);
        assert!(passed.contains("\r\nTrailer: x\r\n"));
        assert!(passed.ends_with("\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_response_passes_unchanged_but_for_its_connection() {
        let block = "HTTP/1.1 206 Partial Content\r\nx-amz-request-id: R\r\nETag: \"e\"\r\nServer: AmazonS3\r\nConnection: close\r\n\
                     Content-Length: 3\r\n\r\n";
        let written = |version, after| {
            let head = ResponseHead::parse(block.as_bytes()).unwrap();
            let mut out = Buffer::detached(4096);
            response(&mut out, &head, block.as_bytes(), ResponseBody::Length(3), version, after).unwrap();
            String::from_utf8(out.filled().to_vec()).unwrap()
        };
        let same = "HTTP/1.1 206 Partial Content\r\nx-amz-request-id: R\r\nETag: \"e\"\r\nServer: AmazonS3\r\nContent-Length: 3\r\n";
        assert_eq!(written(Version::Http11, After::Keep), format!("{same}\r\n"));
        assert_eq!(written(Version::Http11, After::Close), format!("{same}Connection: close\r\n\r\n"));
        assert_eq!(written(Version::Http10, After::Keep), format!("{same}Connection: keep-alive\r\n\r\n"));
    }
}
