"""What S3 gets to see of a request and the client of a response, byte for byte, by a recording upstream."""

import hashlib
import os
import socket

import pytest

import wire
from conftest import RECORDER
from gate import Route
from ports import poll
from seaweed import HOST
from test_keys import KEYS, REFUSED_BY_SEAWEEDFS
from upstream import OK, answer

# What the gate may say of its own on its way to S3: nothing that could need signing.
OWN_FIELDS = {"connection"}


def only(recorder):
    """The one request that was made."""
    assert len(recorder.requests) == 1, [request.line for request in recorder.requests]
    return recorder.requests[0]


@pytest.fixture
def connection(recorded_gate):
    """A client connection to the gate in front of the recorder."""
    with recorded_gate.connect() as made:
        yield made


@pytest.mark.parametrize("key", KEYS + REFUSED_BY_SEAWEEDFS, ids=lambda key: ascii(key)[1:-1][:40])
def test_the_target_of_every_key_arrives_byte_for_byte(connection, recorder, links, key):
    for link in (links.make("GET", key), links.make_v2("GET", key), links.shotgrid("GET", key)):
        recorder.requests.clear()
        assert connection.exchange("GET", link.target).status == 200
        assert only(recorder).target == link.target.encode()


@pytest.mark.parametrize(
    "target",
    [
        "/a/../b?X-Amz-Signature=0",
        "/..",
        "/.",
        "//",
        "/%2e%2E/%2f",
        "/%",
        "/%zz?%",
        "/a?",
        "/a??b&&c==&=",
        "/a;b=c:d@e!$&'()*+,~-._",
        '/"<>\\^`{|}',
        "/a%0d%0aX-Injected:%201%0d%0a",
        "/%00",
        "/caf\xc3\xa9",
        "/?list-type=2",
        "/x?" + "y=" + "z" * 16_384,
    ],
    ids=lambda target: ascii(target)[1:-1][:30],
)
def test_an_odd_target_arrives_byte_for_byte(connection, recorder, target):
    response = connection.exchange("GET", target)
    assert response.status == 200, response
    assert only(recorder).target == target.encode("latin-1")


def test_host_is_replaced_and_nothing_is_added_or_lost(connection, recorder, links):
    kept = [
        ("User-Agent", "shotgun-json (3.10.3); Python 3.11"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("Range", "bytes=0-99"),
        ("If-None-Match", '"abc"'),
        ("If-Modified-Since", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("If-Range", '"abc"'),
        ("Origin", "https://mystudio.shotgrid.example"),
        ("Content-Type", "video/quicktime"),
        ("Icy-MetaData", "1"),
        ("X-Custom", "a  b\tc"),
        ("x-amz-request-payer", "requester"),
    ]
    dropped = [
        ("Cookie", "_session_id=0123456789abcdef"),
        ("Authorization", "Bearer not-for-s3"),
        ("Proxy-Authorization", "Basic bm90OnMz"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("X-Per-Hop", "1"),
        ("Connection", "keep-alive, X-Per-Hop, Upgrade"),
    ]
    mixed = [field for pair in zip(kept, dropped) for field in pair] + kept[len(dropped) :]
    response = connection.exchange("GET", links.shotgrid("GET", "a.mov").target, mixed)
    assert (response.status, response.body) == (200, b"ok")
    request = only(recorder)
    expected = sorted([("host", HOST), *((name.lower(), value) for name, value in kept)])
    got = sorted((name.lower(), value) for name, value in request.fields if name.lower() not in OWN_FIELDS)
    assert got == expected


def test_sni_and_version_towards_s3_are_as_configured(start_gate, authority, spare_upstream):
    upstream = spare_upstream()
    route = Route([RECORDER], [upstream.address], "elsewhere.example", HOST, authority.ca, max_version="1.2")
    gate = start_gate(route, workers=1)
    with gate.connect() as connection:
        assert connection.exchange("GET", "/a").status == 200
    assert upstream.server_names == [HOST]
    assert only(upstream).get("host") == "elsewhere.example"
    assert upstream.versions == ["TLSv1.2"]


def test_host_and_a_header_signature_survive_where_the_route_keeps_the_host(
    start_gate, authority, spare_upstream, links
):
    upstream = spare_upstream()
    gate = start_gate(Route([RECORDER], [upstream.address], "keep", HOST, authority.ca), workers=1)
    signature = "AWS4-HMAC-SHA256 Credential=A/B, SignedHeaders=host, Signature=0"
    with gate.connect() as connection:
        fields = [("Authorization", signature), ("Cookie", "a=b")]
        assert connection.exchange("GET", "/a", fields).status == 200
        assert connection.exchange("GET", links.make("GET", "a").target, fields).status == 200
    plain, presigned = upstream.requests
    assert plain.get("host") == presigned.get("host") == f"{RECORDER}:{gate.https}"
    assert (plain.get("authorization"), presigned.get("authorization")) == (signature, None)
    assert plain.get("cookie") is presigned.get("cookie") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"])
def test_the_method_is_never_changed(connection, recorder, method):
    body = b"body" if method in ("PUT", "POST") else None
    response = connection.exchange(method, "/a", body=body)
    assert response.status == 200
    request = only(recorder)
    assert (request.method, request.body) == (method, body or b"")


def test_an_upload_always_has_a_content_length_even_of_nothing(connection, recorder):
    assert connection.exchange("PUT", "/empty", body=b"").status == 200
    assert connection.exchange("PUT", "/none").status == 200
    assert [request.get("content-length") for request in recorder.requests] == ["0", "0"]
    assert connection.exchange("PUT", "/ten", body=b"0123456789").status == 200
    assert (recorder.requests[-1].get("content-length"), recorder.requests[-1].body) == ("10", b"0123456789")


def test_an_upload_without_length_is_sent_on_with_one(connection, recorder):
    body = hashlib.sha256(b"seed").digest() * 8000
    pieces = [body[at : at + 7001] for at in range(0, len(body), 7001)]
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-Trailer: 1\r\n\r\n"
    connection.send(connection.head("PUT", "/spooled", [("Transfer-Encoding", "chunked")]) + framed)
    assert connection.response("PUT").status == 200
    request = only(recorder)
    assert (request.get("content-length"), request.get("transfer-encoding")) == (str(len(body)), None)
    assert request.body == body


def test_an_upload_without_length_beyond_the_bound_is_refused(connection, recorder):
    framed = b"100000\r\n" + bytes(1 << 20) + b"\r\n10\r\n" + bytes(16) + b"\r\n0\r\n\r\n"
    connection.send(connection.head("PUT", "/too-long", [("Transfer-Encoding", "chunked")]) + framed)
    response = connection.response("PUT")
    assert response.status in (411, 413)
    assert response.get("content-type") == "application/xml"
    assert response.get("x-filmgate-error")
    assert not recorder.requests


def test_an_aws_chunked_upload_that_announces_its_length_passes_as_it_came(connection, recorder):
    framed = b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    fields = [
        ("Transfer-Encoding", "chunked"),
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "1000"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ]
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(framed), framed)
    connection.send(connection.head("PUT", "/aws-chunked", fields) + body)
    assert connection.response("PUT").status == 200
    request = only(recorder)
    assert (request.get("transfer-encoding"), request.get("content-length")) == ("chunked", None)
    assert (request.get("x-amz-decoded-content-length"), request.body) == ("1000", framed)


def test_expect_100_continue_waits_for_s3(connection, recorder):
    fields = [("Expect", "100-continue"), ("Content-Length", "5")]
    connection.send(connection.head("PUT", "/expect", fields))
    interim = connection.response_head()
    assert interim.status == 100
    assert only(recorder).body == b"", "S3 answered 100 before a byte of the body was there"
    connection.send(b"hello")
    assert connection.response("PUT").status == 200
    assert only(recorder).body == b"hello"


def test_a_refusal_instead_of_100_continue_reaches_the_client_before_its_body(connection, recorder):
    def refuse(request, peer):
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.finish()

    recorder.script = refuse
    connection.send(connection.head("PUT", "/refused", [("Expect", "100-continue"), ("Content-Length", "1000000")]))
    response = connection.response("PUT")
    assert (response.status, response.interim) == (403, [])


def test_responses_come_unchanged(connection, recorder):
    fields = [
        ("x-amz-id-2", "I/2+="),
        ("x-amz-request-id", "RID"),
        ("Date", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("ETag", '"d41d8cd98f00b204e9800998ecf8427e-3"'),
        ("x-amz-meta-nasty", "a  b"),
        ("x-amz-server-side-encryption", "AES256"),
        ("Cache-Control", "private"),
        ("Content-Disposition", 'filename="a b.mov"'),
        ("Accept-Ranges", "bytes"),
        ("Content-Range", "bytes 0-4/10"),
        ("Content-Type", "video/quicktime"),
        ("Vary", "Origin, Access-Control-Request-Headers"),
        ("Access-Control-Expose-Headers", "ETag"),
        ("Server", "AmazonS3"),
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d"),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    hop = "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
    recorder.script = answer(f"HTTP/1.1 206 Partial Content\r\n{lines}{hop}Content-Length: 5\r\n\r\nhello".encode())
    response = connection.exchange("GET", "/a")
    assert (response.status, response.reason, response.body) == (206, "Partial Content", b"hello")
    got = [(name, value) for name, value in response.fields if name.lower() not in ("connection", "content-length")]
    assert sorted(got) == sorted(fields)
    assert [value for name, value in response.fields if name == "Set-Cookie"] == ["a=b", "c=d"]


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_body_ends_at_its_head(connection, recorder, status):
    recorder.script = answer(f'HTTP/1.1 {status} X\r\nETag: "e"\r\n\r\n'.encode())
    first = connection.exchange("GET", "/a")
    recorder.script = answer()
    assert (first.status, first.get("etag")) == (status, '"e"')
    assert connection.exchange("GET", "/b").body == b"ok"


def test_a_head_response_keeps_its_content_length(connection, recorder):
    recorder.script = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n\r\n")
    assert connection.exchange("HEAD", "/a").get("content-length") == "5368709120"
    recorder.script = answer()
    assert connection.exchange("GET", "/b").body == b"ok"


def test_a_chunked_response_arrives_whole(connection, recorder):
    recorder.script = answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\n\r\n"
    )
    response = connection.exchange("GET", "/a")
    assert (response.body, response.complete) == (b"hello world", True)


def test_a_response_that_ends_with_its_connection_arrives_whole(connection, recorder):
    def script(_, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")
        peer.finish()

    recorder.script = script
    response = connection.exchange("GET", "/a")
    assert (response.body, response.complete) == (b"until the end", True)


def test_pipelined_requests_are_answered_in_order(connection, recorder):
    def script(request, peer):
        peer.read_body(request)
        body = request.target + request.body
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    recorder.script = script
    put = connection.head("PUT", "/2", [("Content-Length", "3")]) + b"two"
    connection.send(connection.head("GET", "/1") + put + connection.head("GET", "/3"))
    assert [connection.response().body for _ in range(3)] == [b"/1", b"/2two", b"/3"]


def test_a_client_that_closes_its_sending_side_still_gets_its_answer(recorded_gate, recorder):
    with recorded_gate.connect() as connection:
        connection.send(connection.head("GET", "/half", [("Connection", "close")]))
        # A second socket object: SSLSocket.shutdown would take the TLS session down with it.
        with socket.socket(fileno=os.dup(connection.sock.fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)
        response = connection.response()
    assert (response.status, response.body) == (200, b"ok")


def test_an_http_1_0_client_gets_a_whole_answer_and_an_end(connection, recorder):
    recorder.script = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    response = connection.exchange("GET", "/a", version="HTTP/1.0")
    assert (response.status, response.body, response.complete) == (200, b"hello", True)
    assert response.get("transfer-encoding") is None, "HTTP/1.0 knows no chunks"
    assert not connection.stream.fill(), "the gate closes"


def test_an_absolute_target_is_understood(connection, recorder):
    target = f"https://{RECORDER}:{connection.port}/abs%20olute?x=1"
    assert connection.exchange("GET", target).status == 200
    assert (only(recorder).target, only(recorder).get("host")) == (b"/abs%20olute?x=1", HOST)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: H\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 0x3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost : H\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\nHost: H\n\n",
        b"GET / HTTP/1.1\r\nHost: H\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H\r\nA: b\0c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H\r\nHost: H\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H, H\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET http://other.example/ HTTP/1.1\r\nHost: H\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"CONNECT H:443 HTTP/1.1\r\nHost: H:443\r\n\r\n",
    ],
    ids=lambda data: ascii(data.replace(b"Host: H\r\n", b""))[2:60],
)
def test_an_ambiguous_or_broken_request_reaches_nobody(connection, recorder, request_bytes):
    connection.send(request_bytes.replace(b" H", b" " + RECORDER.encode()))
    response = connection.response()
    assert 400 <= response.status <= 505 and response.status != 404, response
    assert response.get("x-filmgate-error"), "the gate said so"
    assert not connection.stream.fill(), "and trusts nothing that follows"
    assert not recorder.requests


def test_a_gigantic_head_is_refused_in_bounded_memory(recorded_gate, recorder):
    with recorded_gate.connect() as connection:
        try:
            connection.send(b"GET / HTTP/1.1\r\nHost: " + RECORDER.encode() + b"\r\n")
            for _ in range(400):
                connection.send(b"X-Padding: " + b"x" * 1000 + b"\r\n")
        except OSError:
            pass
        try:
            response = connection.response()
        except (wire.Incomplete, OSError):
            response = None
    assert response is None or response.status in (400, 414, 431)
    assert not recorder.requests


def test_ping_answers_get_and_head_for_any_host_on_both_listeners(recorded_gate, recorder):
    with recorded_gate.connect() as connection:
        for host in ("", "whoever.example", "10.0.0.1"):
            got = connection.exchange("GET", "/ping", host=host)
            assert (got.status, got.get("content-type")) == (200, "text/plain")
            head = connection.exchange("HEAD", "/ping", host=host)
            assert (head.status, head.get("content-length")) == (200, got.get("content-length"))
    with wire.Connection(recorded_gate.admin, "127.0.0.1", tls=False) as connection:
        assert connection.exchange("GET", "/ping").status == 200
    assert not recorder.requests


def test_an_unknown_host_gets_421_in_s3s_shape(connection, recorder):
    response = connection.exchange("GET", "/a.mov?X-Amz-Signature=not-to-be-echoed", host="who.example")
    assert (response.status, response.get("content-type")) == (421, "application/xml")
    assert response.get("x-filmgate-error") == "unknown-host"
    assert response.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    assert b"<Code>" in response.body and b"<Message>" in response.body
    assert b"not-to-be-echoed" not in response.body
    assert not recorder.requests


def test_a_plain_listener_and_a_plain_upstream_serve_a_load_balancer(start_gate, spare_upstream):
    upstream = spare_upstream(identity=None)
    route = Route([RECORDER], [f"http://{upstream.address}"], HOST, plaintext=True, default=True)
    gate = start_gate(route, workers=1, plain=True)
    with wire.Connection(gate.http, "any.example", tls=False) as connection:
        assert connection.exchange("GET", "/ping").status == 200
        assert connection.exchange("GET", "/a").body == b"ok"
    assert (only(upstream).target, only(upstream).get("host")) == (b"/a", HOST)


def test_sequential_requests_share_one_upstream_connection(recorded_gate, recorder):
    with recorded_gate.connect() as connection:
        for number in range(30):
            assert connection.exchange("GET", f"/{number}").status == 200
    assert len({id(request.peer) for request in recorder.requests}) == 1
    assert len(recorder.peers) <= 1, "at most one new connection, none when an idle one was there already"


def test_an_upstream_that_closes_idle_connections_costs_no_request(recorded_gate, recorder):
    def script(request, peer):
        answer()(request, peer)
        peer.finish()

    recorder.script = script
    with recorded_gate.connect() as connection:
        for number in range(40):
            method = ("GET", "HEAD", "PUT")[number % 3]
            body = b"part" if method == "PUT" else None
            response = connection.exchange(method, f"/{number}", body=body)
            assert response.status == 200, (method, response)
            poll("the upstream's end", lambda: recorder.requests[-1].peer.closed_at)
    assert len(recorder.requests) == 40


def test_a_reused_connection_that_dies_before_an_answer_is_retried_once(recorded_gate, recorder):
    def script(request, peer):
        if peer.served % 2 == 0:
            peer.reset()
        else:
            answer(OK)(request, peer)

    recorder.script = script
    with recorded_gate.connect() as connection:
        for number in range(10):
            assert connection.exchange("GET", f"/{number}").status == 200
    assert len(recorder.requests) > 10, "some died and were asked again"


@pytest.mark.parametrize(("method", "size"), [("PUT", 1_000_000), ("POST", 10)])
def test_what_cannot_be_repeated_is_not_repeated(recorded_gate, recorder, method, size):
    """A body that is no longer at hand, or a method that may have had its effect."""

    def script(request, peer):
        peer.read_body(request)
        if request.method == "GET":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.reset()

    recorder.script = script
    with recorded_gate.connect() as connection:
        assert connection.exchange("GET", "/before").status == 200
        response = connection.exchange(method, "/once", body=bytes(size))
    assert (response.status, response.get("x-filmgate-error")) == (502, "upstream-closed")
    first, *others = recorder.requests
    assert [request.method for request in others] == [method]
    if method == "PUT":
        assert others[0].peer is first.peer, "only a reused connection would be tempting"
