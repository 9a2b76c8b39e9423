//! How long a body is: the one place that decides it, and the one place that refuses request smuggling.
//!
//! RFC 9112 §6.3 gives the order of precedence and, for some contradictions, a way to repair the message. Repair is
//! what smuggling lives on, so every contradiction is refused here, from either peer.

use std::fmt;

use super::fields::{Fields, members};
use super::head::{RequestHead, ResponseHead, Version, split_scheme};
use super::host::Host;
use super::is_token;

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// None: neither a length nor a transfer coding was announced.
    None,
    /// So many bytes. Zero is a length too: S3 tells `Content-Length: 0` from no length.
    Length(u64),
    /// The chunked coding.
    Chunked,
}

/// The body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// None, whatever the fields say: answers to HEAD, 1xx, 204 and 304.
    None,
    /// So many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// All bytes until upstream closes. Nothing tells a complete body from one cut short.
    UntilClose,
}

/// Why the framing of a message, or whom it is for, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// The length of the body is ambiguous or malformed (for a request: 400, then close).
    Length(&'static str),
    /// A transfer coding that the gate does not know (for a request: 501, then close; RFC 9112 §6.1).
    UnknownCoding,
    /// The host is missing, malformed or contradictory (for a request: 400, then close; RFC 9112 §3.2).
    Host(&'static str),
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(what) | Self::Host(what) => f.write_str(what),
            Self::UnknownCoding => f.write_str("the only transfer coding accepted is chunked"),
        }
    }
}

impl std::error::Error for FramingError {}

/// The body that follows a request head (RFC 9112 §6.3).
///
/// # Errors
/// Any `Content-Length` that is not exactly one field of 1 to 19 digits, any `Transfer-Encoding` that is not exactly
/// `chunked` in an HTTP/1.1 message, and both together.
pub fn request(head: &RequestHead, block: &[u8]) -> Result<RequestBody, FramingError> {
    Ok(match announced(head.version, &head.fields, block)? {
        Announced::Nothing => RequestBody::None,
        Announced::Length(length) => RequestBody::Length(length),
        Announced::Chunked => RequestBody::Chunked,
    })
}

/// The body that follows a response head, given the method of the request it answers (RFC 9112 §6.3).
///
/// # Errors
/// As for [`request`]; besides a switch of protocols, which the gate never asks for, and a 1xx or 204 that announces a
/// body: a client that believes the announcement would take the next response for that body.
pub fn response(head: &ResponseHead, block: &[u8], request_method: &[u8]) -> Result<ResponseBody, FramingError> {
    let announced = announced(head.version, &head.fields, block)?;
    match head.status {
        101 => return Err(FramingError::Length("a switch of protocols was answered but never asked for")),
        100..=199 | 204 => {
            return match announced {
                Announced::Nothing | Announced::Length(0) => Ok(ResponseBody::None),
                _ => Err(FramingError::Length("a response that has no body by definition announces one")),
            };
        }
        304 => return Ok(ResponseBody::None),
        _ if request_method == b"HEAD" => return Ok(ResponseBody::None),
        _ => {}
    }
    Ok(match announced {
        Announced::Nothing => ResponseBody::UntilClose,
        Announced::Length(length) => ResponseBody::Length(length),
        Announced::Chunked => ResponseBody::Chunked,
    })
}

/// Whether the sender lets the connection live on after this message (RFC 9112 §9.3).
#[must_use]
pub fn keeps_alive(version: Version, fields: &Fields, block: &[u8]) -> bool {
    let (mut close, mut keep_alive) = (false, false);
    for option in fields.all(block, "connection").flat_map(members) {
        close |= option.eq_ignore_ascii_case(b"close");
        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    !close && (version == Version::Http11 || keep_alive)
}

/// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1). HTTP/1.0 cannot.
#[must_use]
pub fn expects_continue(head: &RequestHead, block: &[u8]) -> bool {
    head.version == Version::Http11 && head.fields.list_has(block, "expect", "100-continue")
}

/// The host (and port, where given) the request is meant for, as the client spelled it in `Host`.
///
/// Empty only for an HTTP/1.0 request without `Host`.
///
/// # Errors
/// Without exactly one well-formed `Host`, or when an absolute-form target names another host or port (RFC 9112 §3.2).
pub fn authority<'a>(head: &RequestHead, block: &'a [u8]) -> Result<&'a [u8], FramingError> {
    let mut values = head.fields.all(block, "host");
    let (host, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(FramingError::Host("the request has more than one Host field"));
    }
    let from_target = split_absolute(head.target.of(block));
    match (host, from_target) {
        (None, _) if head.version == Version::Http11 => Err(FramingError::Host("the request has no Host field")),
        (None, None) => Ok(b""),
        (None, Some((_, name, _))) => check_host(name).map(|_| name),
        (Some(value), None) => check_host(value).map(|_| value),
        (Some(value), Some((default_port, name, _))) => {
            if check_host(value)?.agrees_with(&check_host(name)?, default_port) {
                Ok(value)
            } else {
                Err(FramingError::Host("the URL in the request target and the Host field name different hosts"))
            }
        }
    }
}

/// Path and query as they are to be forwarded: the raw bytes of an origin-form target, what follows the authority of an
/// absolute-form one (RFC 9112 §3.2.2), or `*`.
#[must_use]
pub fn origin_target<'a>(head: &RequestHead, block: &'a [u8]) -> &'a [u8] {
    let target = head.target.of(block);
    match split_absolute(target) {
        Some((_, _, [])) => b"/",
        Some((_, _, rest)) => rest,
        None => target,
    }
}

/// What the fields announce about the body.
enum Announced {
    Nothing,
    Length(u64),
    Chunked,
}

fn announced(version: Version, fields: &Fields, block: &[u8]) -> Result<Announced, FramingError> {
    let (mut length, mut coding) = (None, None);
    for field in fields.as_slice() {
        let seen = match field.name.len() {
            14 if is_spelled(field.name.of(block), CONTENT_LENGTH)? => &mut length,
            17 if is_spelled(field.name.of(block), TRANSFER_ENCODING)? => &mut coding,
            _ => continue,
        };
        if seen.replace(field.value.of(block)).is_some() {
            return Err(FramingError::Length("Content-Length or Transfer-Encoding is given twice"));
        }
    }
    match (length, coding) {
        (None, None) => Ok(Announced::Nothing),
        (Some(value), None) => parse_length(value).map(Announced::Length),
        (None, Some(_)) if version == Version::Http10 => {
            Err(FramingError::Length("an HTTP/1.0 message has a Transfer-Encoding"))
        }
        (None, Some(value)) => check_coding(value).map(|()| Announced::Chunked),
        (Some(_), Some(_)) => Err(FramingError::Length("both Content-Length and Transfer-Encoding are given")),
    }
}

/// Whether `name` is `wanted`. With `_` for `-` it is neither one thing nor the other: servers that hand fields on as
/// environment variables take it for the real one.
fn is_spelled(name: &[u8], wanted: &[u8]) -> Result<bool, FramingError> {
    if name.eq_ignore_ascii_case(wanted) {
        return Ok(true);
    }
    let alike = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
    if name.iter().zip(wanted).all(alike) {
        return Err(FramingError::Length("Content-Length or Transfer-Encoding is spelled with an underscore"));
    }
    Ok(false)
}

fn parse_length(value: &[u8]) -> Result<u64, FramingError> {
    const MALFORMED: FramingError = FramingError::Length("Content-Length is not a single decimal number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    // 19 digits hold every length a signed 64-bit reader can hold; longer ones are read differently by different
    // parsers even when they are zeros.
    let fits = value.len() <= 19;
    let length = value.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    length
        .filter(|&length| fits && length <= LENGTH_MAX)
        .ok_or(FramingError::Length("Content-Length is larger than any body"))
}

fn check_coding(value: &[u8]) -> Result<(), FramingError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let well_formed = value.split(|&byte| byte == b',').all(|coding| is_token(super::trim(coding)));
    let has_other = members(value).any(|coding| !coding.eq_ignore_ascii_case(b"chunked"));
    Err(if well_formed && has_other {
        FramingError::UnknownCoding
    } else {
        FramingError::Length("Transfer-Encoding is not exactly one \"chunked\"")
    })
}

fn check_host(value: &[u8]) -> Result<Host<'_>, FramingError> {
    Host::parse(value).ok_or(FramingError::Host("the host is not a name or address with an optional port"))
}

/// Default port, authority and what follows it, of an absolute-form target.
fn split_absolute(target: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    if target.starts_with(b"/") {
        return None;
    }
    let (default_port, rest) = split_scheme(target)?;
    let (authority, rest) = rest.split_at(rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len()));
    Some((default_port, authority, rest))
}

/// Largest length accepted: many readers count in signed 64-bit integers.
pub(crate) const LENGTH_MAX: u64 = i64::MAX as u64;

const CONTENT_LENGTH: &[u8] = b"content-length";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: &str = "length";
    const CODING: &str = "coding";
    const HOST: &str = "host";

    fn kind(error: FramingError) -> &'static str {
        assert!(!error.to_string().is_empty());
        match error {
            FramingError::Length(_) => LENGTH,
            FramingError::UnknownCoding => CODING,
            FramingError::Host(_) => HOST,
        }
    }

    fn request_body(line: &str, fields: &str) -> Result<RequestBody, &'static str> {
        let block = format!("{line}\r\n{fields}\r\n").into_bytes();
        let head = RequestHead::parse(&block).unwrap_or_else(|error| panic!("{fields:?}: {error}"));
        request(&head, &block).map_err(kind)
    }

    fn response_body(status: &str, fields: &str, method: &str) -> Result<ResponseBody, &'static str> {
        let block = format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes();
        let head = ResponseHead::parse(&block).unwrap_or_else(|error| panic!("{fields:?}: {error}"));
        response(&head, &block, method.as_bytes()).map_err(kind)
    }

    #[test]
    fn a_request_body_is_as_long_as_exactly_one_field_says() {
        use RequestBody::{Chunked, Length, None};
        for (fields, expected) in [
            ("", Ok(None)),
            ("Content-Length: 0\r\n", Ok(Length(0))),
            ("content-LENGTH:5\r\n", Ok(Length(5))),
            ("Content-Length: \t5 \r\n", Ok(Length(5))),
            ("Content-Length: 003\r\n", Ok(Length(3))),
            ("Content-Length: 5000000000000\r\n", Ok(Length(5_000_000_000_000))),
            ("Content-Length: 9223372036854775807\r\n", Ok(Length(i64::MAX as u64))),
            ("Content-Length: 9223372036854775808\r\n", Err(LENGTH)),
            ("Content-Length: 18446744073709551616\r\n", Err(LENGTH)),
            ("Content-Length: 36893488147419103237\r\n", Err(LENGTH)),
            ("Content-Length: 00000000000000000005\r\n", Err(LENGTH)),
            ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
            ("transfer-encoding: CHUNKED\r\n", Ok(Chunked)),
            ("Transfer-Encoding: gzip\r\n", Err(CODING)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(CODING)),
            ("Transfer-Encoding: identity\r\n", Err(CODING)),
            ("Transfer-Encoding: chunked, identity\r\n", Err(CODING)),
            ("Transfer-Encoding: xchunked\r\n", Err(CODING)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(LENGTH)),
            ("Transfer-Encoding: chunked,\r\n", Err(LENGTH)),
            ("Transfer-Encoding: ,chunked\r\n", Err(LENGTH)),
            ("Transfer-Encoding:\r\n", Err(LENGTH)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(LENGTH)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(LENGTH)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(LENGTH)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(LENGTH)),
            ("Content-Lengt: 5\r\nContent-Lengthy: 6\r\nTransfer-Encodin: x\r\n", Ok(None)),
        ] {
            assert_eq!(request_body("PUT / HTTP/1.1", fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_content_length_that_is_not_one_plain_number_is_refused() {
        for value in [
            "", "+5", "-5", "-0", "0x5", "5x", "5 5", "5, 5", "5,5", ",5", "5,", "5;", "5.0", "1e3", "5_0", "'5'",
            "\"5\"", "\u{b2}", "\u{ff15}", "five", "0b1", "5\t5",
        ] {
            let fields = format!("Content-Length: {value}\r\n");
            assert_eq!(request_body("PUT / HTTP/1.1", &fields), Err(LENGTH), "{value:?}");
            assert_eq!(response_body("200 OK", &fields, "GET"), Err(LENGTH), "{value:?}");
        }
    }

    #[test]
    fn two_announcements_are_refused_even_when_they_agree() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\ncontent-length: 6\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
            "Content_Length: 5\r\n",
            "Transfer_Encoding: chunked\r\n",
            "transfer_encoding: chunked\r\nContent-Length: 5\r\n",
        ] {
            assert_eq!(request_body("PUT / HTTP/1.1", fields), Err(LENGTH), "{fields:?}");
            assert_eq!(response_body("200 OK", fields, "GET"), Err(LENGTH), "{fields:?}");
            assert_eq!(response_body("200 OK", fields, "HEAD"), Err(LENGTH), "{fields:?}");
        }
    }

    #[test]
    fn http_1_0_knows_no_transfer_coding() {
        assert_eq!(request_body("PUT / HTTP/1.0", "Transfer-Encoding: chunked\r\n"), Err(LENGTH));
        assert_eq!(request_body("PUT / HTTP/1.0", "Content-Length: 5\r\n"), Ok(RequestBody::Length(5)));
        let block = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head = ResponseHead::parse(block).unwrap();
        assert_eq!(response(&head, block, b"GET").map_err(kind), Err(LENGTH));
    }

    #[test]
    fn a_response_body_follows_the_order_of_precedence() {
        use ResponseBody::{Chunked, Length, None, UntilClose};
        const FIVE: &str = "Content-Length: 5\r\n";
        const PIECES: &str = "Transfer-Encoding: chunked\r\n";
        for (status, fields, method, expected) in [
            ("200 OK", FIVE, "GET", Ok(Length(5))),
            ("200 OK", PIECES, "GET", Ok(Chunked)),
            ("200 OK", "", "GET", Ok(UntilClose)),
            ("200 OK", FIVE, "HEAD", Ok(None)),
            ("200 OK", PIECES, "HEAD", Ok(None)),
            ("200 OK", "", "HEAD", Ok(None)),
            ("200 OK", FIVE, "head", Ok(Length(5))),
            ("206 ", FIVE, "GET", Ok(Length(5))),
            ("403 Forbidden", PIECES, "PUT", Ok(Chunked)),
            ("403 Forbidden", PIECES, "HEAD", Ok(None)),
            ("304 Not Modified", FIVE, "GET", Ok(None)),
            ("304 Not Modified", "", "GET", Ok(None)),
            ("204 No Content", "", "DELETE", Ok(None)),
            ("204 No Content", "Content-Length: 0\r\n", "DELETE", Ok(None)),
            ("204 No Content", FIVE, "DELETE", Err(LENGTH)),
            ("204 No Content", PIECES, "DELETE", Err(LENGTH)),
            ("100 Continue", "", "PUT", Ok(None)),
            ("100 Continue", FIVE, "PUT", Err(LENGTH)),
            ("103 Early Hints", "", "GET", Ok(None)),
            ("101 Switching Protocols", "", "GET", Err(LENGTH)),
            ("200 OK", "Transfer-Encoding: gzip, chunked\r\n", "GET", Err(CODING)),
        ] {
            assert_eq!(response_body(status, fields, method), expected, "{status} {fields:?} to {method}");
        }
    }

    #[test]
    fn a_connection_lives_on_as_version_and_options_say() {
        for (version, fields, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: x, CLOSE\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let block = format!("GET / HTTP/{version}\r\n{fields}\r\n").into_bytes();
            let head = RequestHead::parse(&block).unwrap();
            assert_eq!(keeps_alive(head.version, &head.fields, &block), expected, "{version} {fields:?}");
        }
    }

    #[test]
    fn only_http_1_1_waits_for_continue() {
        for (line, expected) in [
            ("PUT / HTTP/1.1\r\nExpect: 100-Continue\r\n", true),
            ("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n", false),
            ("PUT / HTTP/1.1\r\nExpect: 200-ok\r\n", false),
            ("PUT / HTTP/1.1\r\n", false),
        ] {
            let block = format!("{line}\r\n").into_bytes();
            assert_eq!(expects_continue(&RequestHead::parse(&block).unwrap(), &block), expected, "{line:?}");
        }
    }

    #[test]
    fn a_request_is_for_exactly_one_host() {
        for (head, expected, target) in [
            ("GET /a?b HTTP/1.1\r\nHost: H.example:8443\r\n", Ok("H.example:8443"), "/a?b"),
            ("GET //h/a HTTP/1.1\r\nHost: h\r\n", Ok("h"), "//h/a"),
            ("GET /http://g/a HTTP/1.1\r\nHost: h\r\n", Ok("h"), "/http://g/a"),
            ("GET / HTTP/1.0\r\n", Ok(""), "/"),
            ("OPTIONS * HTTP/1.1\r\nHost: h\r\n", Ok("h"), "*"),
            ("GET http://h/a%2F?x=/y HTTP/1.1\r\nHost: H\r\n", Ok("H"), "/a%2F?x=/y"),
            ("GET HTTPS://H:443 HTTP/1.1\r\nHost: h\r\n", Ok("h"), "/"),
            ("GET http://h HTTP/1.1\r\nHost: h:80\r\n", Ok("h:80"), "/"),
            ("GET http://h/ HTTP/1.0\r\n", Ok("h"), "/"),
            ("GET http://h:443/ HTTP/1.1\r\nHost: h\r\n", Err(HOST), "/"),
            ("GET http://h/ HTTP/1.1\r\nHost: g\r\n", Err(HOST), "/"),
            ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n", Err(HOST), "/"),
            ("GET http://h/ HTTP/1.1\r\n", Err(HOST), "/"),
            ("GET / HTTP/1.1\r\n", Err(HOST), "/"),
            ("GET / HTTP/1.1\r\nHost:\r\n", Err(HOST), "/"),
            ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n", Err(HOST), "/"),
            ("GET / HTTP/1.0\r\nHost: h\r\nHOST: g\r\n", Err(HOST), "/"),
            ("GET / HTTP/1.1\r\nHost: h/a\r\n", Err(HOST), "/"),
        ] {
            let block = format!("{head}\r\n").into_bytes();
            let parsed = RequestHead::parse(&block).unwrap_or_else(|error| panic!("{head:?}: {error}"));
            let host = authority(&parsed, &block).map_err(kind);
            assert_eq!(host, expected.map(str::as_bytes), "{head:?}");
            assert_eq!(origin_target(&parsed, &block), target.as_bytes(), "{head:?}");
        }
    }
}
