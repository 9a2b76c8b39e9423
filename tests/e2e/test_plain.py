"""Long bodies between two plain connections: the ones that may travel inside the kernel."""

import hashlib
import random

import pytest

import wire
from conftest import RECORDER
from gate import Route
from ports import poll
from seaweed import HOST
from upstream import Upstream, answer

# Longer than all socket buffers and pipes on the way.
BODY = random.Random(7).randbytes(20_000_003)
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(scope="module")
def plain(start_gate, upstream_identity):
    upstream = Upstream(None)
    route = Route([RECORDER], [f"http://{upstream.address}"], HOST, plaintext=True, default=True)
    timeouts = {"upstream-body": "3s", "client-body": "3s", "client-write": "3s"}
    gate = start_gate(route, workers=1, plain=True, timeouts=timeouts)
    gate.upstream = upstream
    yield gate
    upstream.close()


@pytest.fixture
def upstream(plain):
    plain.upstream.forget()
    return plain.upstream


@pytest.fixture
def connection(plain):
    with wire.Connection(plain.http, RECORDER, tls=False) as made:
        yield made


def record(gate, key):
    return gate.record_of(lambda r: r.get("key") == key)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_downloads_and_uploads_take_turns_on_one_connection(plain, upstream, connection):
    for round in range(3):
        upstream.script = answer(WHOLE + BODY)
        response = connection.exchange("GET", f"/down{round}")
        assert response.complete and digest(response.body) == digest(BODY)
        upstream.script = answer()
        response = connection.exchange("PUT", f"/up{round}", body=BODY)
        assert response.status == 200 and digest(upstream.requests[-1].body) == digest(BODY)
        assert connection.exchange("GET", "/short").body == b"ok"
    assert (record(plain, "down2")["bytes_out"], record(plain, "up2")["bytes_in"]) == (len(BODY), len(BODY))


def test_requests_behind_a_long_upload_are_served(plain, upstream, connection):
    put = connection.head("PUT", "/piped", [("Content-Length", str(len(BODY)))]) + BODY
    connection.send(put + connection.head("GET", "/behind"))
    assert [connection.response().body for _ in range(2)] == [b"ok", b"ok"]
    assert [request.target for request in upstream.requests] == [b"/piped", b"/behind"]
    assert digest(upstream.requests[0].body) == digest(BODY)


def test_bytes_behind_a_long_response_reach_nobody(plain, upstream, connection):
    upstream.script = answer(WHOLE + BODY + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    assert digest(connection.exchange("GET", "/surplus").body) == digest(BODY)
    upstream.script = answer()
    assert connection.exchange("GET", "/next").body == b"ok"
    assert upstream.requests[0].peer is not upstream.requests[1].peer


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_long_response_that_is_cut_never_looks_complete(plain, upstream, connection, end):
    def script(request, peer):
        peer.send(WHOLE + BODY[:5_000_000])
        getattr(peer, end)()

    upstream.script = script
    response = connection.exchange("GET", f"/cut-{end}")
    assert not response.complete and BODY.startswith(response.body)
    assert record(plain, f"cut-{end}")["ended"] == {"by": "upstream", "at": "response_body"}


def test_a_long_response_that_stops_coming_is_given_up(plain, upstream, connection):
    def script(request, peer):
        peer.send(WHOLE + BODY[:1_000_000])
        peer.stream.fill()

    upstream.script = script
    response = connection.exchange("GET", "/stalled")
    assert not response.complete and response.body == BODY[:1_000_000]


def test_a_client_that_stops_reading_is_given_up(plain, upstream):
    upstream.script = answer(WHOLE + BODY)
    with wire.Connection(plain.http, RECORDER, tls=False, receive_buffer=64 * 1024) as connection:
        connection.send(connection.head("GET", "/unread"))
        assert record(plain, "unread")["ended"]["by"] == "client"


def test_a_client_that_leaves_in_the_middle_of_a_download_is_noticed(plain, upstream, connection):
    upstream.script = answer(WHOLE + BODY)
    connection.send(connection.head("GET", "/left"))
    connection.stream.exactly(1_000_000)
    connection.reset()
    assert record(plain, "left")["ended"]["by"] == "client"


def test_an_upload_that_is_cut_never_looks_complete(plain, upstream, connection):
    connection.send(connection.head("PUT", "/halved", [("Content-Length", str(len(BODY)))]) + BODY[:5_000_000])
    connection.close()
    assert record(plain, "halved")["ended"]["by"] == "client"
    poll("the end of the half upload", lambda: not upstream.requests[0].whole)


def test_an_upload_that_stops_coming_is_given_up(plain, upstream, connection):
    connection.send(connection.head("PUT", "/paused", [("Content-Length", str(len(BODY)))]) + BODY[:5_000_000])
    response = connection.response("PUT")
    assert (response.status, response.get("x-filmgate-error")) == (408, "body-timeout")


def test_an_early_refusal_reaches_a_client_that_is_still_sending(plain, upstream, connection):
    def script(request, peer):
        peer.stream.exactly(1_000_000)
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nConnection: close\r\n\r\ndenied")
        peer.finish()

    upstream.script = script
    connection.send(connection.head("PUT", "/refused", [("Content-Length", str(1 << 30))]) + BODY[:1_500_000])
    response = connection.response("PUT")
    assert (response.status, response.body) == (403, b"denied")
