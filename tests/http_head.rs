//! Heads: where they end and what is in them, whole, byte by byte and with trailing bytes.

use filmgate::http::head::{HeadError, RequestHead, ResponseHead, Scan, Version};
use filmgate::limits;

/// Scans `stream` as it arrives in steps of `step` bytes.
fn scan(stream: &[u8], step: usize) -> Result<Option<usize>, HeadError> {
    let (mut scan, mut arrived) = (Scan::default(), 0);
    loop {
        let found = scan.feed(&stream[..arrived])?;
        if found.is_some() || arrived == stream.len() {
            return Ok(found);
        }
        arrived = (arrived + step).min(stream.len());
    }
}

#[test]
fn the_end_of_a_head_is_found_whole_byte_by_byte_and_with_trailing_bytes() {
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "HTTP/1.1 200 \r\nA:\r\n\r\n",
        "x\r\n\r\n",
    ] {
        for step in [1, 2, 3, 1000] {
            assert_eq!(scan(head.as_bytes(), step), Ok(Some(head.len())), "{head:?} by {step}");
            for more in ["\r\n", "\n", "\0", "GET", "GET / HTTP/1.1\r\n\r\n"] {
                let stream = format!("{head}{more}");
                assert_eq!(scan(stream.as_bytes(), step), Ok(Some(head.len())), "{stream:?} by {step}");
            }
        }
        for end in 0..head.len() {
            assert_eq!(scan(&head.as_bytes()[..end], 1), Ok(None), "{:?}", &head[..end]);
        }
    }
}

#[test]
fn a_scan_refuses_what_must_not_stand_in_a_head() {
    for stream in [
        "\n",
        "\nGET / HTTP/1.1\r\n\r\n",
        "\rGET",
        "\r\r\n",
        "\0",
        "\r\n\r\n\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\r\n",
        "GET / HTTP/1.1\rHost: h\r\n",
        "GET /\0 HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\0\r\n",
        "GET / HTTP/1.1\r\n\n",
        "GET / HTTP/1.1\r\n\r\r\n",
        "\u{16}\u{3}\u{1}\u{0}",
    ] {
        for step in [1, 2, 1000] {
            let found = scan(stream.as_bytes(), step);
            assert!(matches!(found, Err(HeadError::Malformed(_))), "{stream:?} by {step}: {found:?}");
        }
    }
}

#[test]
fn a_head_may_fill_its_bound_and_not_a_byte_more() {
    let head = |bytes: usize| {
        let frame = "GET / HTTP/1.1\r\na: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(bytes - frame)).into_bytes()
    };
    let fits = head(limits::HEAD_BYTES_MAX);
    let over = head(limits::HEAD_BYTES_MAX + 1);
    for step in [1, 4096, usize::MAX / 2] {
        assert_eq!(scan(&fits, step), Ok(Some(limits::HEAD_BYTES_MAX)));
        assert_eq!(scan(&over, step), Err(HeadError::TooLarge));
        assert_eq!(scan(&over[..limits::HEAD_BYTES_MAX], step), Err(HeadError::TooLarge));
        assert_eq!(scan(&vec![b'a'; limits::HEAD_BYTES_MAX], step), Err(HeadError::LineTooLarge));
        assert_eq!(scan(&vec![b'a'; limits::HEAD_BYTES_MAX - 1], step), Ok(None));
    }
    assert!(RequestHead::parse(&fits).is_ok());
    assert_eq!(RequestHead::parse(&over).err(), Some(HeadError::TooLarge));
}

#[test]
fn a_request_line_of_sixteen_kilobytes_and_more_works() {
    for bytes in [16 * 1024, 30 * 1024] {
        let target = format!("/k?X-Amz-Security-Token={}", "A".repeat(bytes));
        let block = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
        assert_eq!(scan(&block, 1460), Ok(Some(block.len())));
        assert_eq!(RequestHead::parse(&block).unwrap().target(&block), target.as_bytes());
    }
}

#[test]
fn requests_are_read_as_written() {
    for (line, method, target, version) in [
        ("GET / HTTP/1.1", "GET", "/", Version::Http11),
        ("GET /a%20b%2Fc+d//../.?q=%26&r HTTP/1.1", "GET", "/a%20b%2Fc+d//../.?q=%26&r", Version::Http11),
        ("PUT /caf\u{e9}/\u{65e5}\u{672c} HTTP/1.1", "PUT", "/caf\u{e9}/\u{65e5}\u{672c}", Version::Http11),
        ("HEAD /\"<>\\^`{|}~[]@!$&'()*,;=: HTTP/1.0", "HEAD", "/\"<>\\^`{|}~[]@!$&'()*,;=:", Version::Http10),
        ("OPTIONS * HTTP/1.1", "OPTIONS", "*", Version::Http11),
        ("GET http://h/a HTTP/1.1", "GET", "http://h/a", Version::Http11),
        ("GET HTTPS://h HTTP/1.1", "GET", "HTTPS://h", Version::Http11),
        ("M!#$%&'*+-.^_`|~09azAZ / HTTP/1.1", "M!#$%&'*+-.^_`|~09azAZ", "/", Version::Http11),
    ] {
        for front in ["", "\r\n", "\r\n\r\n"] {
            let block = format!("{front}{line}\r\nHost: h\r\nA:  b c \t\r\n\r\n").into_bytes();
            let head = RequestHead::parse(&block).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert_eq!(head.method(&block), method.as_bytes());
            assert_eq!(head.target(&block), target.as_bytes());
            assert_eq!(head.version, version);
            let fields: Vec<_> = head.fields.iter(&block).collect();
            assert_eq!(fields, [(&b"Host"[..], &b"h"[..]), (b"A", b"b c")]);
        }
    }
}

#[test]
fn responses_are_read_as_written() {
    for (line, status, reason, version) in [
        ("HTTP/1.1 200 OK", 200, "OK", Version::Http11),
        ("HTTP/1.0 404 Not  Found ", 404, "Not  Found ", Version::Http10),
        ("HTTP/1.1 206 ", 206, "", Version::Http11),
        ("HTTP/1.1 206", 206, "", Version::Http11),
        ("HTTP/1.1 503 Slow\tDown \u{e9}", 503, "Slow\tDown \u{e9}", Version::Http11),
        ("HTTP/1.1 100 Continue", 100, "Continue", Version::Http11),
        ("HTTP/1.1 599 x", 599, "x", Version::Http11),
    ] {
        for fields in ["", "ETag: \"a\"\r\n"] {
            let block = format!("{line}\r\n{fields}\r\n").into_bytes();
            let head = ResponseHead::parse(&block).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert_eq!((head.status, head.reason(&block), head.version), (status, reason.as_bytes(), version));
            assert_eq!(head.fields.len(), usize::from(!fields.is_empty()));
        }
    }
}

#[test]
fn malformed_status_lines_are_refused() {
    for line in [
        "",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1 999 x",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        " HTTP/1.1 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 200 a\u{1}b",
        "HTTP/1.1 200 \u{7f}",
        "\r\nHTTP/1.1 200 OK",
        "GET / HTTP/1.1",
        "HTTP/1.1 +20 OK",
    ] {
        let block = format!("{line}\r\nA: b\r\n\r\n").into_bytes();
        let refused = ResponseHead::parse(&block);
        assert!(matches!(refused, Err(HeadError::Malformed(_))), "{line:?}: {refused:?}");
    }
    for line in ["HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "HTTP/0.9 200 OK"] {
        let block = format!("{line}\r\n\r\n").into_bytes();
        assert_eq!(ResponseHead::parse(&block).err(), Some(HeadError::Version), "{line:?}");
    }
}

#[test]
fn every_byte_is_allowed_or_refused_wherever_it_stands() {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let value = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    for byte in 0..=255_u8 {
        for place in [0, 1, 7, 8, 15, 16, 31, 32, 33, 63, 64] {
            let (front, back) = ("x".repeat(place), "x".repeat(70 - place));
            let with =
                |a: &str, b: &str| [a.as_bytes(), front.as_bytes(), &[byte], back.as_bytes(), b.as_bytes()].concat();

            let block = with("GET / HTTP/1.1\r\n", ": b\r\n\r\n");
            let split_early = byte == b':' && place > 0;
            assert_eq!(
                RequestHead::parse(&block).is_ok(),
                token(byte) || split_early,
                "{byte:#x} in a name at {place}"
            );

            let block = with("GET / HTTP/1.1\r\na: ", "\r\n\r\n");
            assert_eq!(RequestHead::parse(&block).is_ok(), value(byte), "{byte:#x} in a value at {place}");
            let block = with("HTTP/1.1 200 OK\r\na: ", "\r\n\r\n");
            assert_eq!(ResponseHead::parse(&block).is_ok(), value(byte), "{byte:#x} in a response value at {place}");
            let block = with("HTTP/1.1 200 ", "\r\n\r\n");
            assert_eq!(ResponseHead::parse(&block).is_ok(), value(byte), "{byte:#x} in a reason at {place}");

            let good = byte > b' ' && byte < 0x7f && byte != b'#';
            let block = with("GET /", " HTTP/1.1\r\n\r\n");
            assert_eq!(RequestHead::parse(&block).is_ok(), good, "{byte:#x} in a target at {place}");
        }
    }
}

#[test]
fn a_head_without_its_empty_line_or_with_more_behind_it_is_refused() {
    let good = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for end in 0..good.len() {
        assert!(RequestHead::parse(&good[..end]).is_err(), "{end}");
    }
    for more in [&b"x"[..], b"\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        assert!(RequestHead::parse(&[good, more].concat()).is_err(), "{more:?}");
    }
    for bad in [
        &b"GET / HTTP/1.1\nHost: h\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\n\r\n",
        b"\nGET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        assert!(
            matches!(RequestHead::parse(bad), Err(HeadError::Malformed(_))),
            "{:?}",
            bad.escape_ascii().to_string()
        );
    }
    for bad in [&b"HTTP/1.1 200 OK\n\r\n"[..], b"HTTP/1.1 200\n\r\n", b"HTTP/1.1 200 OK\nA: b\r\n\r\n"] {
        assert!(
            matches!(ResponseHead::parse(bad), Err(HeadError::Malformed(_))),
            "{:?}",
            bad.escape_ascii().to_string()
        );
    }
}

#[test]
fn as_many_fields_as_the_bound_and_no_more() {
    let head = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n)).into_bytes();
    assert_eq!(RequestHead::parse(&head(limits::HEAD_FIELDS_MAX)).unwrap().fields.len(), limits::HEAD_FIELDS_MAX);
    let refused = RequestHead::parse(&head(limits::HEAD_FIELDS_MAX + 1));
    assert_eq!(refused.err(), Some(HeadError::TooManyFields));
}

#[test]
fn a_head_that_is_read_again_keeps_nothing_of_the_one_before() {
    let mut head = RequestHead::default();
    head.parse_into(b"PUT /a HTTP/1.0\r\nA: b\r\nConnection: x\r\n\r\n").unwrap();
    let block = b"GET /longer HTTP/1.1\r\nC: d\r\n\r\n";
    head.parse_into(block).unwrap();
    assert_eq!((head.method(block), head.target(block), head.version), (&b"GET"[..], &b"/longer"[..], Version::Http11));
    assert_eq!(head.fields.iter(block).collect::<Vec<_>>(), [(&b"C"[..], &b"d"[..])]);

    let mut head = ResponseHead::default();
    head.parse_into(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n").unwrap();
    let block = b"HTTP/1.1 200 \r\n\r\n";
    head.parse_into(block).unwrap();
    assert_eq!((head.status, head.reason(block), head.fields.len()), (200, &b""[..], 0));
}

#[test]
fn errors_say_what_is_wrong_and_repeat_nothing_the_peer_sent() {
    for block in [
        "GET /SECRET#x HTTP/1.1\r\n\r\n",
        "GET SECRET HTTP/1.1\r\n\r\n",
        "SECRET / HTTP/3.0\r\n\r\n",
        "GET / HTTP/1.1\r\nA\u{1}SECRET: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: SECRET\u{1}\r\n\r\n",
    ] {
        let error = RequestHead::parse(block.as_bytes()).unwrap_err();
        assert!(!error.to_string().is_empty() && !format!("{error} {error:?}").contains("SECRET"), "{error:?}");
    }
}
