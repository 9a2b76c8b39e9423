//! What a hostile client sends, and what becomes of it.
//!
//! Each case is followed on the wire by a second request, as a smuggler would have it. The gate must see the reason for
//! refusing the first one and must never see the second.

#[allow(dead_code)]
#[path = "fuzz/bodies/mod.rs"]
mod bodies;

use bodies::exchange::{End, Request, read};
use filmgate::http::body::BodyError;
use filmgate::http::framing::FramingError;
use filmgate::http::head::HeadError;

/// Why a case is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The head is malformed.
    Head,
    /// The version is not ours.
    Version,
    /// The head has too many fields.
    Fields,
    /// The length is ambiguous.
    Length,
    /// The transfer coding is unknown.
    Coding,
    /// The host is missing, malformed or contradictory.
    Host,
    /// The body violates the chunked coding.
    Body,
}
use Why::{Body, Coding, Fields, Head, Host, Length, Version};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

fn why(end: &End) -> Option<Why> {
    Some(match end {
        End::Clean | End::InHead | End::InBody => return None,
        End::Head(HeadError::Malformed(_)) => Head,
        End::Head(HeadError::Version) => Version,
        End::Head(HeadError::TooLarge | HeadError::LineTooLarge | HeadError::TooManyFields) => Fields,
        End::Framing(FramingError::Length(_)) => Length,
        End::Framing(FramingError::UnknownCoding) => Coding,
        End::Framing(FramingError::Host(_)) => Host,
        End::Body(BodyError::Malformed(_) | BodyError::TooLarge(_)) => Body,
        End::Body(BodyError::CutShort) => return None,
    })
}

/// Sends `hostile` and something to smuggle, whole and byte by byte.
fn assert_refused(what: &str, hostile: &[u8], expected: Why) {
    let stream = [hostile, SMUGGLED.as_bytes()].concat();
    for step in [1, stream.len()] {
        let (requests, end) = read(&stream, &mut || step);
        assert!(requests.is_empty(), "{what}: {requests:?} got through");
        assert_eq!(why(&end), Some(expected), "{what}: {end:?}");
    }
    bodies::run_all(&stream);
}

/// First lines, each followed by a good `Host` field.
#[rustfmt::skip]
const LINES: &[(&str, &str, Why)] = &[
    ("no version at all",               "GET /",                              Head),
    ("nothing but a method",            "GET",                                Head),
    ("two spaces before the target",    "GET  / HTTP/1.1",                    Head),
    ("two spaces before the version",   "GET /  HTTP/1.1",                    Head),
    ("tab before the target",           "GET\t/ HTTP/1.1",                    Head),
    ("tab before the version",          "GET /\tHTTP/1.1",                    Head),
    ("form feed as a delimiter",        "GET\u{c}/ HTTP/1.1",                 Head),
    ("space in front",                  " GET / HTTP/1.1",                    Head),
    ("space behind",                    "GET / HTTP/1.1 ",                    Head),
    ("tab behind",                      "GET / HTTP/1.1\t",                   Head),
    ("a fourth word",                   "GET / HTTP/1.1 HTTP/1.1",            Head),
    ("space in the target",             "GET /a b HTTP/1.1",                  Head),
    ("request within the target",       "GET / HTTP/1.1 /x HTTP/1.1",         Head),
    ("empty method",                    " / HTTP/1.1",                        Head),
    ("method with a colon",             "GET: / HTTP/1.1",                    Head),
    ("method in quotes",                "\"GET\" / HTTP/1.1",                 Head),
    ("method with a slash",             "G/T / HTTP/1.1",                     Head),
    ("method with a delete character",  "GE\u{7f}T / HTTP/1.1",               Head),
    ("method that is not ASCII",        "G\u{c9}T / HTTP/1.1",                Head),
    ("method of 33 letters",            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", Head),
    ("byte order mark",                 "\u{feff}GET / HTTP/1.1",             Head),
    ("tunnel to a host",                "CONNECT h:443 HTTP/1.1",             Head),
    ("tunnel to a path",                "CONNECT / HTTP/1.1",                 Head),
    ("authority as target",             "GET h:80 HTTP/1.1",                  Head),
    ("asterisk with GET",               "GET * HTTP/1.1",                     Head),
    ("asterisk and more",               "OPTIONS *a HTTP/1.1",                Head),
    ("target without a slash",          "GET a/b HTTP/1.1",                   Head),
    ("target that is a query",          "GET ?a HTTP/1.1",                    Head),
    ("backslash for a slash",           "GET \\a HTTP/1.1",                   Head),
    ("fragment",                        "GET /a#b HTTP/1.1",                  Head),
    ("fragment alone",                  "GET # HTTP/1.1",                     Head),
    ("delete character in the target",  "GET /a\u{7f} HTTP/1.1",              Head),
    ("escape character in the target",  "GET /a\u{1b} HTTP/1.1",              Head),
    ("file URL",                        "GET file:///etc/passwd HTTP/1.1",    Head),
    ("ftp URL",                         "GET ftp://h/ HTTP/1.1",              Head),
    ("URL with one slash",              "GET http:/h/ HTTP/1.1",              Head),
    ("URL without a host",              "GET http:///a HTTP/1.1",             Head),
    ("URL with a query but no path",    "GET http://h?a HTTP/1.1",            Head),
    ("URL of another host",             "GET http://evil.example/ HTTP/1.1",  Host),
    ("URL of another port",             "GET http://h:81/ HTTP/1.1",          Host),
    ("URL of the other scheme's port",  "GET http://h:443/ HTTP/1.1",         Host),
    ("URL with a user",                 "GET http://h@evil.example/ HTTP/1.1", Host),
    ("URL with a user called h",        "GET http://h:80@evil/ HTTP/1.1",     Host),
    ("URL with a backslash",            "GET http://h\\@evil/ HTTP/1.1",      Host),
    ("URL with an empty port",          "GET http://h:/ HTTP/1.1",            Host),
    ("HTTP/2 preface",                  "PRI * HTTP/2.0",                     Version),
    ("version 2",                       "GET / HTTP/2.0",                     Version),
    ("version 0.9",                     "GET / HTTP/0.9",                     Version),
    ("version 1.2",                     "GET / HTTP/1.2",                     Version),
    ("version 1.9",                     "GET / HTTP/1.9",                     Version),
    ("version with a leading zero",     "GET / HTTP/01.1",                    Head),
    ("version with two digits",         "GET / HTTP/1.10",                    Head),
    ("version with a comma",            "GET / HTTP/1,1",                     Head),
    ("version without a minor",         "GET / HTTP/1",                       Head),
    ("version in small letters",        "GET / http/1.1",                     Head),
    ("version of another protocol",     "GET / HTTPS/1.1",                    Head),
    ("version with a space",            "GET / HTTP/ 1.1",                    Head),
    ("version with a plus",             "GET / HTTP/+1.1",                    Head),
    ("response instead of a request",   "HTTP/1.1 200 OK",                    Head),
];

#[test]
fn hostile_request_lines_are_refused() {
    for (what, line, expected) in LINES {
        assert_refused(what, format!("{line}\r\nHost: h\r\n\r\n").as_bytes(), *expected);
    }
}

/// Field lines of `POST / HTTP/1.1`.
#[rustfmt::skip]
const FIELDS: &[(&str, &str, Why)] = &[
    ("no host",                         "",                                                        Host),
    ("empty host",                      "Host:\r\n",                                               Host),
    ("two hosts",                       "Host: h\r\nHost: evil\r\n",                               Host),
    ("the same host twice",             "Host: h\r\nhost: h\r\n",                                  Host),
    ("two hosts in one",                "Host: h, evil\r\n",                                       Host),
    ("host with a path",                "Host: h/evil\r\n",                                        Host),
    ("host with a user",                "Host: evil@h\r\n",                                        Host),
    ("host with a space",               "Host: h evil\r\n",                                        Host),
    ("host with a bad port",            "Host: h:port\r\n",                                        Host),
    ("host with a port too large",      "Host: h:65536\r\n",                                       Host),
    ("host with two ports",             "Host: h:80:80\r\n",                                       Host),
    ("host that is a URL",              "Host: http://h\r\n",                                      Host),
    ("host in percent code",            "Host: %68\r\n",                                           Host),
    ("host that is not ASCII",          "Host: h\u{f6}st\r\n",                                     Host),
    ("host with a broken address",      "Host: [::1\r\n",                                          Host),
    ("space before the colon",          "Host : h\r\n",                                            Head),
    ("tab before the colon",            "Host\t: h\r\n",                                           Head),
    ("no colon",                        "Host: h\r\nX\r\n",                                        Head),
    ("no name",                         "Host: h\r\n: x\r\n",                                      Head),
    ("name with a space",               "Host: h\r\nX Y: z\r\n",                                   Head),
    ("name with a slash",               "Host: h\r\nX/Y: z\r\n",                                   Head),
    ("name in brackets",                "Host: h\r\n[X]: z\r\n",                                   Head),
    ("name with a control character",   "Host: h\r\nX\u{1}: z\r\n",                                Head),
    ("name that is not ASCII",          "Host: h\r\nX\u{e9}: z\r\n",                               Head),
    ("space before the first name",     " Host: h\r\n",                                            Head),
    ("tab before the first name",       "\tHost: h\r\n",                                           Head),
    ("value folded by a space",         "Host: h\r\nX: a\r\n b\r\n",                               Head),
    ("value folded by a tab",           "Host: h\r\nX: a\r\n\tb\r\n",                              Head),
    ("host folded",                     "Host:\r\n h\r\n",                                         Head),
    ("line of white space",             "Host: h\r\n \r\nX: y\r\n",                                Head),
    ("value with a bell",               "Host: h\r\nX: a\u{7}b\r\n",                               Head),
    ("value with a delete character",   "Host: h\r\nX: a\u{7f}b\r\n",                              Head),
    ("value with a vertical tab",       "Host: h\r\nX: \u{b}b\r\n",                                Head),
    ("value with NUL",                  "Host: h\r\nX: a\0b\r\n",                                  Head),
    ("NUL behind a length",             "Host: h\r\nContent-Length: 0\0\r\n",                      Head),
    ("bare CR in a value",              "Host: h\r\nX: a\rContent-Length: 5\r\n",                  Head),
    ("bare CR behind a coding",         "Host: h\r\nTransfer-Encoding: chunked\r\r\n",             Head),
    ("bare LF between fields",          "Host: h\nX: y\r\n",                                       Head),
    ("bare LF before a coding",         "Host: h\r\nX: y\nTransfer-Encoding: chunked\r\n",         Head),
    ("bare LF in a value",              "Host: h\r\nX:\ny\r\n",                                    Head),
    ("LF CR for CR LF",                 "Host: h\n\rX: y\r\n",                                     Head),
    ("length and coding",               "Host: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n", Length),
    ("coding and length",               "Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n", Length),
    ("coding and a length of nothing",  "Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length:\r\n", Length),
    ("length and an odd coding",        "Host: h\r\nContent-Length: 6\r\nTransfer-Encoding: identity\r\n", Length),
    ("two lengths",                     "Host: h\r\nContent-Length: 0\r\nContent-Length: 36\r\n",  Length),
    ("two lengths that agree",          "Host: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n",   Length),
    ("two lengths far apart",           "Content-Length: 0\r\nHost: h\r\nX: y\r\nCONTENT-LENGTH: 36\r\n", Length),
    ("two lengths in one",              "Host: h\r\nContent-Length: 0, 36\r\n",                    Length),
    ("two lengths in one that agree",   "Host: h\r\nContent-Length: 0, 0\r\n",                     Length),
    ("length and a comma",              "Host: h\r\nContent-Length: 0,\r\n",                       Length),
    ("empty length",                    "Host: h\r\nContent-Length:\r\n",                          Length),
    ("length with a plus",              "Host: h\r\nContent-Length: +0\r\n",                       Length),
    ("length with a minus",             "Host: h\r\nContent-Length: -1\r\n",                       Length),
    ("length of minus zero",            "Host: h\r\nContent-Length: -0\r\n",                       Length),
    ("hexadecimal length",              "Host: h\r\nContent-Length: 0x0\r\n",                      Length),
    ("hexadecimal length without mark", "Host: h\r\nContent-Length: a\r\n",                        Length),
    ("length with an underscore",       "Host: h\r\nContent-Length: 3_6\r\n",                      Length),
    ("length with a space",             "Host: h\r\nContent-Length: 3 6\r\n",                      Length),
    ("length with a fraction",          "Host: h\r\nContent-Length: 0.0\r\n",                      Length),
    ("length with an exponent",         "Host: h\r\nContent-Length: 0e1\r\n",                      Length),
    ("length in quotes",                "Host: h\r\nContent-Length: \"0\"\r\n",                    Length),
    ("length with a unit",              "Host: h\r\nContent-Length: 0 bytes\r\n",                  Length),
    ("length in wide digits",           "Host: h\r\nContent-Length: \u{ff10}\r\n",                 Length),
    ("length beyond 63 bits",           "Host: h\r\nContent-Length: 9223372036854775808\r\n",      Length),
    ("length that wraps to 0",          "Host: h\r\nContent-Length: 18446744073709551616\r\n",     Length),
    ("length of many zeros",            "Host: h\r\nContent-Length: 00000000000000000000\r\n",     Length),
    ("length with an underscored name", "Host: h\r\nContent_Length: 36\r\n",                       Length),
    ("coding with an underscored name", "Host: h\r\nTransfer_Encoding: chunked\r\n",               Length),
    ("space before a length's colon",   "Host: h\r\nContent-Length : 36\r\n",                      Head),
    ("space before a coding's colon",   "Host: h\r\nTransfer-Encoding : chunked\r\n",              Head),
    ("space before a coding",           "Host: h\r\n Transfer-Encoding: chunked\r\n",              Head),
    ("vertical tab before the coding",  "Host: h\r\nTransfer-Encoding: \u{b}chunked\r\n",          Head),
    ("form feed behind the coding",     "Host: h\r\nTransfer-Encoding: chunked\u{c}\r\n",          Head),
    ("folded coding",                   "Host: h\r\nTransfer-Encoding:\r\n chunked\r\n",           Head),
    ("no-break space before a coding",  "Host: h\r\nTransfer-Encoding: \u{a0}chunked\r\n",         Length),
    ("empty coding",                    "Host: h\r\nTransfer-Encoding:\r\n",                       Length),
    ("chunked twice",                   "Host: h\r\nTransfer-Encoding: chunked, chunked\r\n",      Length),
    ("chunked on two lines",            "Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Length),
    ("chunked, then another line",      "Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Length),
    ("another line, then chunked",      "Host: h\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", Length),
    ("chunked and a comma",             "Host: h\r\nTransfer-Encoding: chunked,\r\n",              Length),
    ("a comma and chunked",             "Host: h\r\nTransfer-Encoding: , chunked\r\n",             Length),
    ("chunked with a parameter",        "Host: h\r\nTransfer-Encoding: chunked;x=y\r\n",           Length),
    ("chunked in quotes",               "Host: h\r\nTransfer-Encoding: \"chunked\"\r\n",           Length),
    ("chunked in a value's second word", "Host: h\r\nTransfer-Encoding: x chunked\r\n",            Length),
    ("chunked with a name",             "Host: h\r\nTransfer-Encoding: x=chunked\r\n",             Length),
    ("a coding like chunked",           "Host: h\r\nTransfer-Encoding: chunke\r\n",                Coding),
    ("another coding like chunked",     "Host: h\r\nTransfer-Encoding: xchunked\r\n",              Coding),
    ("identity",                        "Host: h\r\nTransfer-Encoding: identity\r\n",              Coding),
    ("chunked, identity",               "Host: h\r\nTransfer-Encoding: chunked, identity\r\n",     Coding),
    ("identity, chunked",               "Host: h\r\nTransfer-Encoding: identity, chunked\r\n",     Coding),
    ("gzip, chunked",                   "Host: h\r\nTransfer-Encoding: gzip, chunked\r\n",         Coding),
    ("a connection with 33 options",    "Host: h\r\nConnection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,a,b,c,d,e,f,g\r\n", Head),
];

#[test]
fn hostile_fields_are_refused() {
    for (what, fields, expected) in FIELDS {
        assert_refused(what, format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes(), *expected);
    }
}

/// Bodies of a request with `Transfer-Encoding: chunked`.
#[rustfmt::skip]
const CHUNKS: &[(&str, &str)] = &[
    ("size with a plus",                "+5\r\nhello\r\n0\r\n\r\n"),
    ("size with a minus",               "-5\r\nhello\r\n0\r\n\r\n"),
    ("size of minus zero",              "-0\r\n\r\n"),
    ("size with a hexadecimal mark",    "0x5\r\nhello\r\n0\r\n\r\n"),
    ("size with an underscore",         "0_5\r\nhello\r\n0\r\n\r\n"),
    ("size with a space before",        " 5\r\nhello\r\n0\r\n\r\n"),
    ("size with a space behind",        "5 \r\nhello\r\n0\r\n\r\n"),
    ("size with a tab behind",          "5\t\r\nhello\r\n0\r\n\r\n"),
    ("size with a comma",               "5,5\r\nhello\r\n0\r\n\r\n"),
    ("size that is not hexadecimal",    "g\r\nhello\r\n0\r\n\r\n"),
    ("no size",                         "\r\nhello\r\n0\r\n\r\n"),
    ("size of 17 digits",               "00000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("size that wraps to 5",            "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("size beyond 63 bits",             "8000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("sizes that sum up beyond 63 bits", "1\r\nx\r\n7fffffffffffffff\r\nhello"),
    ("size line with a bare LF",        "5\nhello\r\n0\r\n\r\n"),
    ("size line with a bare CR",        "5\rhello\r\n0\r\n\r\n"),
    ("size line with CR CR LF",         "5\r\r\nhello\r\n0\r\n\r\n"),
    ("size line with NUL",              "5\0\r\nhello\r\n0\r\n\r\n"),
    ("last size line with a bare LF",   "5\r\nhello\r\n0\n\r\n"),
    ("data with a bare LF behind",      "5\r\nhello\n0\r\n\r\n"),
    ("data with a bare CR behind",      "5\r\nhello\r0\r\n\r\n"),
    ("data with any two bytes behind",  "5\r\nhelloXX0\r\n\r\n"),
    ("more data than announced",        "5\r\nhello!\r\n0\r\n\r\n"),
    ("less data than announced",        "6\r\nhello\r\n0\r\n\r\n"),
    ("data without a line end",         "5\r\nhello0\r\n\r\n"),
    ("extension without a name",        "5;\r\nhello\r\n0\r\n\r\n"),
    ("extension with a bare LF",        "5;\nxx\r\n4c\r\n0\r\n\r\n"),
    ("extension with LF in a name",     "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("extension with CR in a name",     "5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("extension with NUL",              "5;a\0\r\nhello\r\n0\r\n\r\n"),
    ("extension after a space",         "5 ;a=b\r\nhello\r\n0\r\n\r\n"),
    ("extension with a space",          "5;a b\r\nhello\r\n0\r\n\r\n"),
    ("extension with an open quote",    "5;a=\"\r\nhello\r\n0\r\n\r\n"),
    ("extension with quoted line end",  "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n"),
    ("extension with an escaped LF",    "5;a=\"\\\n\"\r\nhello\r\n0\r\n\r\n"),
    ("final line with a bare LF",       "0\r\n\n"),
    ("final line with CR CR LF",        "0\r\n\r\r\n"),
    ("trailer without a colon",         "0\r\nGET / HTTP/1.1\r\n\r\n"),
    ("trailer with a space in front",   "0\r\n a: b\r\n\r\n"),
    ("trailer with a space in its name", "0\r\na : b\r\n\r\n"),
    ("trailer without a name",          "0\r\n: b\r\n\r\n"),
    ("trailer that is folded",          "0\r\na: b\r\n c\r\n\r\n"),
    ("trailer with a bare LF",          "0\r\na: b\n\r\n"),
    ("trailer with a bare CR",          "0\r\na: b\rc: d\r\n\r\n"),
    ("trailer with NUL",                "0\r\na: \0\r\n\r\n"),
    ("trailer that sets a length",      "0\r\nContent-Length: 36\r\n\r\n"),
    ("trailer that sets a coding",      "0\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("trailer that sets a host",        "0\r\nHost: evil\r\n\r\n"),
    ("trailer that authorises",         "0\r\nAuthorization: x\r\n\r\n"),
    ("trailer with an underscore",      "0\r\nContent_Length: 36\r\n\r\n"),
];

#[test]
fn hostile_chunked_bodies_are_refused() {
    for (what, body) in CHUNKS {
        let stream = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_refused(what, stream.as_bytes(), Body);
    }
}

/// Anything else, from its first byte.
#[rustfmt::skip]
const STREAMS: &[(&str, &[u8], Why)] = &[
    ("bare LF everywhere",              b"GET / HTTP/1.1\nHost: h\n\n",                           Head),
    ("bare LF behind the line",         b"GET / HTTP/1.1\nHost: h\r\n\r\n",                       Head),
    ("bare LF at the end",              b"GET / HTTP/1.1\r\nHost: h\r\n\n",                       Head),
    ("bare CR behind the line",         b"GET / HTTP/1.1\rHost: h\r\n\r\n",                       Head),
    ("CR CR LF behind the line",        b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n",                   Head),
    ("CR CR LF at the end",             b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n",                   Head),
    ("LF in front",                     b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",                   Head),
    ("CR in front",                     b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n",                   Head),
    ("three empty lines in front",      b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",         Head),
    ("NUL in front",                    b"\0GET / HTTP/1.1\r\nHost: h\r\n\r\n",                   Head),
    ("NUL in the target",               b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",                   Head),
    ("LF in the target",                b"GET /\nX: y HTTP/1.1\r\nHost: h\r\n\r\n",               Head),
    ("target that is not UTF-8",        b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",                 Head),
    ("overlong slash in the target",    b"GET /\xc0\xaf HTTP/1.1\r\nHost: h\r\n\r\n",             Head),
    ("TLS on a plain port",             b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",          Head),
    ("SSH",                             b"SSH-2.0-OpenSSH_9.6\r\n\r\n",                           Head),
    ("SMTP",                            b"EHLO h\r\n\r\n",                                        Head),
    ("HTTP/0.9 and more",               b"GET /\r\n\r\n",                                         Head),
    ("fields without a line",           b"Host: h\r\nX: y\r\n\r\n",                               Head),
    ("a coding in HTTP/1.0",            b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Length),
    ("two hosts in HTTP/1.0",           b"GET / HTTP/1.0\r\nHost: h\r\nHost: evil\r\n\r\n",       Host),
    ("URL without Host in HTTP/1.1",    b"GET http://h/ HTTP/1.1\r\n\r\n",                        Host),
    ("HEAD with two lengths",           b"HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\n", Length),
    ("GET with a length and a coding",  b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Length),
];

#[test]
fn hostile_streams_are_refused() {
    for (what, stream, expected) in STREAMS {
        assert_refused(what, stream, *expected);
    }
}

#[test]
fn a_flood_of_fields_is_refused() {
    let flood = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(128));
    assert_refused("129 fields", flood.as_bytes(), Fields);
    let wide = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(32 * 1024));
    assert_refused("a value of 32 KiB", wide.as_bytes(), Fields);
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(32 * 1024));
    assert_refused("a target of 32 KiB", long.as_bytes(), Fields);
}

/// What looks odd and is right: what follows must be seen.
#[rustfmt::skip]
const ODD_BUT_RIGHT: &[(&str, &str, &str)] = &[
    ("empty lines in front",            "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",                       ""),
    ("HTTP/1.0 without a host",         "GET / HTTP/1.0\r\n\r\n",                                          ""),
    ("GET with a body",                 "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",     "hello"),
    ("body that is a request",          "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"),
    ("length with white space around",  "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \t 5 \t\r\n\r\nhello", "hello"),
    ("length with leading zeros",       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0005\r\n\r\nhello", "hello"),
    ("CRLF behind a body",              "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\r\n", "hello"),
    ("chunked in capitals",             "POST / HTTP/1.1\r\nHost: h\r\nTRANSFER-ENCODING:CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
    ("chunk extensions",                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b;c\";d\r\nhello\r\n00;e\r\n\r\n", "hello"),
    ("trailers",                        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n", "hello"),
    ("field values that are not ASCII", "GET / HTTP/1.1\r\nHost: h\r\nX: \u{e9}\u{1f3ac}\r\n\r\n",         ""),
    ("the host as a URL, too",          "GET HTTP://H:80/ HTTP/1.1\r\nHost: h\r\n\r\n",                    ""),
    ("names like those of framing",     "GET / HTTP/1.1\r\nHost: h\r\nX-Content-Length: 5\r\nContent-Lengthx: 6\r\nTE: trailers\r\n\r\n", ""),
];

#[test]
fn what_looks_odd_but_is_right_passes_and_so_does_what_follows() {
    for (what, stream, payload) in ODD_BUT_RIGHT {
        let stream = format!("{stream}GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        for step in [1, 2, stream.len()] {
            let (requests, end) = read(stream.as_bytes(), &mut || step);
            assert_eq!((requests.len(), end), (2, End::Clean), "{what}");
            assert_eq!(requests[0].payload, payload.as_bytes(), "{what}");
            let next = Request { target: b"/next".to_vec(), host: b"h".to_vec(), payload: Vec::new() };
            assert_eq!(requests[1], next, "{what}");
        }
    }
}
