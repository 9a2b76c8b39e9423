//! The one table from what went wrong to what the client is told.
//!
//! Every failure of the line is a [`Failure`]; [`Failure::row`] is total, and only it chooses status codes. Codes are
//! ones S3 SDKs know, so that their own retry rules apply:
//!
//! * 502 and 504, not 500 and 503, for a failed *upload*: `shotgun_api3` repeats a part after 500 and 503 without
//!   rewinding its file, promises N bytes, sends none and hangs; every AWS SDK repeats 502 and 504 as well.
//! * 408 for a body that stops coming, so that exactly that hang ends.

use std::borrow::Cow;

use crate::access::{Party, Phase};
use crate::http::framing::FramingError;
use crate::http::head::HeadError;
use crate::link::DialError;
use crate::proxy::refusal::Refused;

/// Everything that can go wrong between the first byte of a request and the last byte of its response, by who is at
/// fault.
#[derive(Debug)]
pub enum Failure {
    /// The client.
    Client(ClientFault),
    /// The upstream, or the way to it.
    Upstream(UpstreamFault),
    /// The gate holds as much as it may.
    Overloaded,
    /// The gate does not sign for it.
    Refused(Box<Refused>),
}

/// What a client can do wrong.
#[derive(Debug)]
pub enum ClientFault {
    /// Plain HTTP spoken to the HTTPS port.
    PlainHttp,
    /// The request head is not HTTP/1.1.
    Head(HeadError),
    /// The request head did not arrive in time.
    HeadTimedOut,
    /// The request's length or authority is ambiguous or missing.
    Framing(FramingError),
    /// A method a proxy must not pass on (CONNECT, TRACE).
    Method,
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// No route has this name.
    UnknownHost,
    /// A length-less body is larger than the spool.
    SpoolExceeded,
    /// A length-less body, and spooling is switched off.
    LengthRequired,
    /// The chunked coding of the request body is broken.
    BodyMalformed,
    /// The client ended its stream before its body.
    BodyIncomplete,
    /// The client sent nothing more of its body for too long.
    BodyTimedOut,
    /// The client went away before it had its response.
    Gone,
    /// The client took nothing more of the response for too long.
    Stalled,
}

/// What an upstream can do wrong.
#[derive(Debug)]
pub enum UpstreamFault {
    /// No connection came about.
    Dial(DialError),
    /// Its certificate is not to be trusted.
    Untrusted(String),
    /// The TLS handshake failed otherwise.
    Handshake(String),
    /// It took nothing more of the request for too long.
    Stalled,
    /// It closed or broke the connection before it answered.
    Closed,
    /// It did not answer in time.
    TimedOut,
    /// Its answer is not HTTP/1.1.
    Malformed(&'static str),
    /// It does not take the gate's own signature any more, and this is what it calls it.
    Revoked(String),
    /// It does not take this one signature, which it calls that; others that were made alike it takes.
    NotTaken(String),
    /// It says that the bucket is in another region: which, if it says.
    Elsewhere(String),
    /// It broke off in the middle of its response body. The client already has a head, so it gets a visible break
    /// instead of an answer.
    ResponseTruncated,
    /// Its response body stopped coming.
    ResponseStalled,
    /// Its response body has broken framing.
    ResponseMalformed,
}

impl From<ClientFault> for Failure {
    fn from(fault: ClientFault) -> Self {
        Self::Client(fault)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<UpstreamFault> for Failure {
    fn from(fault: UpstreamFault) -> Self {
        Self::Upstream(fault)
    }
}

/// What a failure means for the client and for the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Status of the answer. 499 and 599 are never sent: they stand in the log for a client that left and for a
    /// response that broke after its head was out.
    pub status: u16,
    /// S3's error code.
    pub code: &'static str,
    /// The gate's own name of the failure: the `x-filmgate-error` field and the log's `failure`.
    pub slug: &'static str,
    /// For an artist or an administrator to act on.
    pub message: Cow<'static, str>,
    /// Who ended the exchange.
    pub by: Party,
    /// Where it ended.
    pub at: Phase,
}

impl Row {
    /// Whether this row is sent. The others end the connection without a word.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self.status, 499 | 599)
    }
}

impl Failure {
    /// The table.
    #[must_use]
    pub fn row(&self) -> Row {
        match self {
            Self::Client(fault) => fault.row(),
            Self::Upstream(fault) => fault.row(),
            Self::Overloaded => Row {
                status: 503,
                code: "SlowDown",
                slug: "overloaded",
                message: "The gate is at its configured limits. Please try again in a moment.".into(),
                by: Party::Gate,
                at: Phase::Route,
            },
            Self::Refused(refused) => refused.row(),
        }
    }

    /// Whether it lies in the request: then that is what the client is told, whatever else went wrong for it.
    #[must_use]
    pub fn is_of_the_request(&self) -> bool {
        matches!(self, Self::Client(_) | Self::Refused(_))
    }

    /// What else the answer says, as elements of its XML.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Refused(refused) => refused.details(),
            _ => Vec::new(),
        }
    }
}

impl ClientFault {
    fn row(&self) -> Row {
        use Phase::{RequestBody, RequestHead, ResponseBody, Route};
        let row = |status, code, slug, at, message: Cow<'static, str>| Row {
            status,
            code,
            slug,
            message,
            by: Party::Client,
            at,
        };
        match self {
            Self::PlainHttp => row(400, "InvalidRequest", "plain-http", Phase::Handshake,
                "This is the gate's HTTPS port; the link must begin with https://.".into()),
            Self::Head(HeadError::LineTooLarge) => row(414, "RequestHeaderSectionTooLarge", "line-too-large", RequestHead,
                "The request line is longer than the gate accepts.".into()),
            Self::Head(HeadError::TooLarge | HeadError::TooManyFields) => row(431, "RequestHeaderSectionTooLarge", "head-too-large", RequestHead,
                "The request line and headers are larger than the gate accepts.".into()),
            Self::Head(HeadError::Version) => row(505, "InvalidRequest", "version", RequestHead,
                "The gate speaks HTTP/1.1 and HTTP/1.0.".into()),
            Self::Head(error) => row(400, "InvalidRequest", "head-malformed", RequestHead,
                format!("The request is not valid HTTP/1.1: {error}.").into()),
            Self::HeadTimedOut => row(408, "RequestTimeout", "head-timeout", RequestHead,
                "The request's headers did not arrive in time. Please try again.".into()),
            Self::Framing(error @ FramingError::UnknownCoding) => row(501, "NotImplemented", "transfer-coding", RequestHead,
                format!("The request uses a transfer coding the gate does not have: {error}.").into()),
            Self::Framing(error) => row(400, "InvalidRequest", "framing", RequestHead,
                format!("The request can be read in more than one way: {error}.").into()),
            Self::Method => row(405, "MethodNotAllowed", "method", RequestHead,
                "The gate passes on requests for objects; it does not tunnel or echo.".into()),
            Self::Expectation => row(417, "InvalidRequest", "expectation", RequestHead,
                "The only expectation the gate can meet is 100-continue.".into()),
            Self::UnknownHost => row(421, "MisdirectedRequest", "unknown-host", Route,
                "This gate serves no bucket under the name this request was sent to. If the name is right, the administrator \
                 must add it to the hosts of a route in the gate's configuration.".into()),
            Self::SpoolExceeded => row(413, "EntityTooLarge", "spool-exceeded", RequestBody,
                "The upload did not say how long it is and is too long to be held until that is known. \
                 Send a Content-Length, or raise limits.spool-bytes.".into()),
            Self::LengthRequired => row(411, "MissingContentLength", "length-required", RequestBody,
                "The upload must say how long it is in a Content-Length header.".into()),
            Self::BodyMalformed => row(400, "IncompleteBody", "body-malformed", RequestBody,
                "The upload's chunked coding is broken; nothing was stored.".into()),
            Self::BodyIncomplete => row(400, "IncompleteBody", "body-incomplete", RequestBody,
                "The upload ended before the number of bytes it had promised; nothing was stored.".into()),
            Self::BodyTimedOut => row(408, "RequestTimeout", "body-timeout", RequestBody,
                "The upload stopped sending before the number of bytes it had promised; nothing was stored. \
                 Please start it again.".into()),
            Self::Gone => row(499, "ClientGone", "client-gone", ResponseBody, "The client went away.".into()),
            Self::Stalled => row(499, "ClientStalled", "client-stalled", ResponseBody,
                "The client took nothing more of the response.".into()),
        }
    }
}

impl UpstreamFault {
    fn row(&self) -> Row {
        use Phase::{Connect, RequestBody, Response, ResponseBody, UpstreamHandshake};
        let row = |status, code, slug, at, message: Cow<'static, str>| Row {
            status,
            code,
            slug,
            message,
            by: Party::Upstream,
            at,
        };
        let tell = "Please try again in a minute; if it stays so, tell your administrator";
        match self {
            Self::Dial(DialError::TimedOut) => row(504, "ServiceUnavailable", "upstream-connect-timeout", Connect,
                format!("The gate could not connect to the storage in time. {tell}: is the route to the S3 endpoint up?").into()),
            Self::Dial(DialError::Unresolved(_)) => row(502, "ServiceUnavailable", "upstream-unresolved", Connect,
                format!("The gate could not find the storage's address. {tell}: does the name in upstream.connect resolve?").into()),
            Self::Dial(error @ DialError::Unreachable(..)) => row(502, "ServiceUnavailable", "upstream-unreachable", Connect,
                format!("The gate could not connect to the storage. {tell}: {error}.").into()),
            Self::Untrusted(why) => row(502, "ServiceUnavailable", "upstream-untrusted", UpstreamHandshake,
                format!("The gate does not trust the storage's certificate, so nothing was sent. Tell your administrator: {why}").into()),
            Self::Handshake(why) => row(502, "ServiceUnavailable", "upstream-handshake", UpstreamHandshake,
                format!("The gate and the storage did not agree on TLS. {tell}: {why}").into()),
            Self::Stalled => row(504, "RequestTimeout", "upstream-stalled", RequestBody,
                format!("The storage stopped taking the upload; nothing was stored. {tell}.").into()),
            Self::Closed => row(502, "ServiceUnavailable", "upstream-closed", Response,
                format!("The storage closed the connection without an answer. {tell}.").into()),
            Self::TimedOut => row(504, "RequestTimeout", "upstream-timeout", Response,
                format!("The storage did not answer in time. {tell}.").into()),
            Self::Malformed(why) => row(502, "InternalError", "upstream-malformed", Response,
                format!("The storage's answer is not valid HTTP/1.1: {why}. {tell}.").into()),
            Self::Revoked(code) => row(503, "ServiceUnavailable", "credentials-revoked", Response,
                format!("The storage does not take the gate's own signature ({code}). {tell}: its credentials are being renewed, \
                         and if that does not help the role was revoked or the gate's clock is wrong.").into()),
            Self::NotTaken(code) => row(502, "ServiceUnavailable", "signature-refused", Response,
                format!("The storage does not take the gate's signature of this request ({code}), though it takes others. It may read \
                         one of the request's headers in another way. If it stays so, tell your administrator.").into()),
            Self::Elsewhere(region) if region.is_empty() => row(502, "ServiceUnavailable", "redirected", Response,
                format!("The storage sends this request somewhere else, where the gate does not go. {tell}: \
                         are bucket, region and upstream of the route right?").into()),
            Self::Elsewhere(region) => row(503, "SlowDown", "other-region", Response,
                format!("The bucket is in region {region}, and the gate has only learned that now. Please try again; the administrator \
                         should write it into the route.").into()),
            Self::ResponseTruncated => row(599, "InternalError", "response-truncated", ResponseBody,
                "The storage broke off in the middle of its response.".into()),
            Self::ResponseStalled => row(599, "InternalError", "response-stalled", ResponseBody,
                "The storage's response stopped coming.".into()),
            Self::ResponseMalformed => row(599, "InternalError", "response-malformed", ResponseBody,
                "The storage's response has broken framing.".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Every failure there is, in the order of the table.
    fn all() -> Vec<Failure> {
        let client = [
            ClientFault::PlainHttp,
            ClientFault::Head(HeadError::LineTooLarge),
            ClientFault::Head(HeadError::TooLarge),
            ClientFault::Head(HeadError::TooManyFields),
            ClientFault::Head(HeadError::Version),
            ClientFault::Head(HeadError::Malformed("a bare line feed")),
            ClientFault::HeadTimedOut,
            ClientFault::Framing(FramingError::Length("two lengths")),
            ClientFault::Framing(FramingError::UnknownCoding),
            ClientFault::Framing(FramingError::Host("no host")),
            ClientFault::Method,
            ClientFault::Expectation,
            ClientFault::UnknownHost,
            ClientFault::SpoolExceeded,
            ClientFault::LengthRequired,
            ClientFault::BodyMalformed,
            ClientFault::BodyIncomplete,
            ClientFault::BodyTimedOut,
            ClientFault::Gone,
            ClientFault::Stalled,
        ];
        let upstream = [
            UpstreamFault::Dial(DialError::Unresolved("no such name".into())),
            UpstreamFault::Dial(DialError::Unreachable(io::ErrorKind::ConnectionRefused.into(), 2)),
            UpstreamFault::Dial(DialError::TimedOut),
            UpstreamFault::Untrusted("expired".into()),
            UpstreamFault::Handshake("no version in common".into()),
            UpstreamFault::Stalled,
            UpstreamFault::Closed,
            UpstreamFault::TimedOut,
            UpstreamFault::Malformed("no status line"),
            UpstreamFault::NotTaken("SignatureDoesNotMatch".into()),
            UpstreamFault::ResponseTruncated,
            UpstreamFault::ResponseStalled,
            UpstreamFault::ResponseMalformed,
        ];
        client
            .into_iter()
            .map(Failure::from)
            .chain(upstream.into_iter().map(Failure::from))
            .chain([Failure::Overloaded])
            .collect()
    }

    #[test]
    fn the_table_is_this_one() {
        let seen: Vec<_> = all().iter().map(|failure| (failure.row().status, failure.row().slug)).collect();
        let expected = [
            (400, "plain-http"),
            (414, "line-too-large"),
            (431, "head-too-large"),
            (431, "head-too-large"),
            (505, "version"),
            (400, "head-malformed"),
            (408, "head-timeout"),
            (400, "framing"),
            (501, "transfer-coding"),
            (400, "framing"),
            (405, "method"),
            (417, "expectation"),
            (421, "unknown-host"),
            (413, "spool-exceeded"),
            (411, "length-required"),
            (400, "body-malformed"),
            (400, "body-incomplete"),
            (408, "body-timeout"),
            (499, "client-gone"),
            (499, "client-stalled"),
            (502, "upstream-unresolved"),
            (502, "upstream-unreachable"),
            (504, "upstream-connect-timeout"),
            (502, "upstream-untrusted"),
            (502, "upstream-handshake"),
            (504, "upstream-stalled"),
            (502, "upstream-closed"),
            (504, "upstream-timeout"),
            (502, "upstream-malformed"),
            (502, "signature-refused"),
            (599, "response-truncated"),
            (599, "response-stalled"),
            (599, "response-malformed"),
            (503, "overloaded"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_row_claims_success_and_shotgun_api3_is_never_told_to_repeat_an_upload() {
        for failure in all() {
            let row = failure.row();
            assert!(row.status >= 400, "{}", row.slug);
            assert!(row.status != 500, "{}: shotgun_api3 repeats a part after 500 without its bytes", row.slug);
            assert_eq!(row.status == 503, matches!(failure, Failure::Overloaded), "{}", row.slug);
            assert!(!row.message.is_empty() && !row.code.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_answered_any_more_is_not_answered() {
        let silent: Vec<_> =
            all().iter().map(Failure::row).filter(|row| !row.is_answered()).map(|row| row.slug).collect();
        let expected =
            ["client-gone", "client-stalled", "response-truncated", "response-stalled", "response-malformed"];
        assert_eq!(silent, expected);
    }
}
