"""What clients get when S3, the network or they themselves fail."""

import itertools
import socket
import ssl
import time

import pytest

import ports
import wire
from conftest import GATE, RECORDER
from gate import Route
from pki import Authority
from ports import poll
from seaweed import HOST
from upstream import answer

BLOCK = bytes(range(256)) * 256


def is_from_the_gate(response, statuses, error=None):
    """Asserts that the gate itself answered, in S3's shape."""
    assert response.status in statuses, response
    assert response.get("content-type") == "application/xml", "exactly: shotgun_api3 compares"
    assert response.get("x-filmgate-error"), response
    if error:
        assert response.get("x-filmgate-error") == error
    assert response.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    assert b"<Code>" in response.body and b"<Message>" in response.body


def test_an_upstream_that_is_down_gives_502_while_ping_still_answers(start_gate, authority):
    dead = ports.free()
    gate = start_gate(Route([GATE], [f"127.0.0.1:{dead}"], HOST, ca=authority.ca), timeouts={"upstream-connect": "2s"})
    for method, body in (("GET", None), ("PUT", b"part")):
        with gate.connect() as connection:
            is_from_the_gate(connection.exchange(method, "/a.mov?X-Amz-Signature=s", body=body), (502, 503))
    with gate.connect() as connection:
        assert connection.exchange("HEAD", "/a.mov").body == b""
    with gate.connect() as connection:
        began = time.monotonic()
        assert connection.exchange("GET", "/ping").status == 200
        assert time.monotonic() - began < 1


def test_an_upstream_address_that_is_down_is_passed_over(start_gate, authority, recorder_upstream, recorder):
    dead = f"127.0.0.1:{ports.free()}"
    route = Route([GATE], [dead, recorder_upstream.address], HOST, ca=authority.ca)
    gate = start_gate(route, workers=1)
    with gate.connect() as connection:
        for _ in range(6):
            assert connection.exchange("GET", "/a").status == 200


def test_an_upstream_with_a_strangers_certificate_is_told_nothing(start_gate, workspace, spare_upstream):
    stranger = Authority(workspace / "stranger", "somebody else")
    upstream = spare_upstream()
    gate = start_gate(Route([GATE], [upstream.address], HOST, ca=stranger.ca))
    with gate.connect() as connection:
        response = connection.exchange("GET", "/a?X-Amz-Signature=s", [("Range", "bytes=0-1")])
    is_from_the_gate(response, (502,), "upstream-untrusted")
    assert not upstream.requests


def test_an_upstream_with_a_certificate_for_another_name_is_told_nothing(start_gate, authority, spare_upstream):
    upstream = spare_upstream()
    gate = start_gate(Route([GATE], [upstream.address], HOST, "another.example", authority.ca))
    with gate.connect() as connection:
        is_from_the_gate(connection.exchange("GET", "/a"), (502,), "upstream-untrusted")
    assert not upstream.requests


def test_an_upstream_that_does_not_answer_gives_504(recorded_gate, recorder):
    recorder.script = lambda request, peer: poll("never", lambda: not peer.stream.fill(), 20)
    with recorded_gate.connect() as connection:
        began = time.monotonic()
        is_from_the_gate(connection.exchange("GET", "/slow"), (504,))
        assert 2.5 < time.monotonic() - began < 8, "upstream-response is 3s"


def test_an_upstream_that_hangs_up_before_it_answers_gives_502(recorded_gate, recorder):
    recorder.script = lambda request, peer: peer.reset()
    with recorded_gate.connect() as connection:
        is_from_the_gate(connection.exchange("GET", "/reset"), (502,))


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
    ids=lambda data: ascii(data)[2:40],
)
def test_a_broken_answer_is_not_passed_on(recorded_gate, recorder, data):
    def script(request, peer):
        peer.send(data)
        peer.finish()

    recorder.script = script
    with recorded_gate.connect() as connection:
        is_from_the_gate(connection.exchange("GET", "/broken"), (502,))


CUTS = {
    "content-length": b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n",
    "until-close": b"HTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("end", ["cut", "reset"])
@pytest.mark.parametrize("framing", CUTS)
def test_a_response_cut_short_never_looks_complete(recorded_gate, recorder, framing, end, version):
    def script(request, peer):
        peer.send(CUTS[framing] + BLOCK)
        getattr(peer, end)()

    recorder.script = script
    with recorded_gate.connect() as connection:
        try:
            response = connection.exchange("GET", "/cut", version=version)
        except (wire.Incomplete, OSError):
            return
        assert not response.complete or response.status >= 500, (
            response.head,
            len(response.body),
            connection.stream.ended,
        )


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_response_that_ends_in_order_but_too_soon_never_looks_complete(recorded_gate, recorder, framing):
    def script(request, peer):
        peer.send(CUTS[framing] + BLOCK)
        peer.finish()

    recorder.script = script
    with recorded_gate.connect() as connection:
        response = connection.exchange("GET", "/short")
        assert not response.complete
    record = recorded_gate.record_of(lambda r: r.get("key") == "short")
    assert record["ended"] == {"by": "upstream", "at": "response_body"}


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_the_head_and_the_beginning_of_a_short_response_that_is_cut_arrive(recorded_gate, recorder, end):
    def script(request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        time.sleep(0.2)
        getattr(peer, end)()

    recorder.script = script
    with recorded_gate.connect() as connection:
        response = connection.exchange("GET", f"/short-{end}")
        assert response.status == 200 and not response.complete
        assert end == "reset" or response.body == b"x" * 500
    record = recorded_gate.record_of(lambda r: r.get("key") == f"short-{end}")
    assert record["status"] == 200 and record["ended"] == {"by": "upstream", "at": "response_body"}


def test_a_response_that_stops_coming_is_given_up(recorded_gate, recorder):
    def script(request, peer):
        peer.send(CUTS["content-length"] + BLOCK)
        peer.stream.fill()

    recorder.script = script
    with recorded_gate.connect() as connection:
        began = time.monotonic()
        assert not connection.exchange("GET", "/stalled").complete
        assert 2.5 < time.monotonic() - began < 8, "upstream-body is 3s"


def test_an_early_refusal_reaches_a_client_that_is_still_sending(recorded_gate, recorder):
    refusal = b"<Error><Code>AccessDenied</Code></Error>"

    def script(request, peer):
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n")
        peer.send(b"Content-Length: %d\r\n\r\n%b" % (len(refusal), refusal))
        peer.finish()

    recorder.script = script
    with recorded_gate.connect() as connection:
        connection.send(connection.head("PUT", "/refused", [("Content-Length", str(1 << 30))]) + BLOCK)
        response = connection.response("PUT")
        assert (response.status, response.body) == (403, refusal)
        assert response.get("x-filmgate-error") is None


def test_an_early_refusal_reaches_a_client_that_sends_everything_first(recorded_gate, recorder):
    """Python's http.client, and so shotgun_api3, reads the answer only after the last byte of the body."""

    def script(request, peer):
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nConnection: close\r\n\r\ndenied")
        peer.finish()

    recorder.script = script
    size = 20_000_000
    with recorded_gate.connect() as connection:
        connection.send(connection.head("PUT", "/part", [("Content-Length", str(size))]))
        for at in range(0, size, len(BLOCK)):
            connection.send(BLOCK[: size - at])
        response = connection.response("PUT")
    assert (response.status, response.body) == (403, b"denied")


def test_a_body_that_never_comes_is_answered_and_closed(recorded_gate, recorder):
    """What shotgun_api3 does when it repeats a part: it promises N bytes and sends none."""
    recorder.script = answer()
    with recorded_gate.connect() as connection:
        began = time.monotonic()
        connection.send(connection.head("PUT", "/no-body", [("Content-Length", "1000")]))
        response = connection.response("PUT")
        is_from_the_gate(response, (408, 400))
        assert 1.5 < time.monotonic() - began < 6, "client-body is 2s"
        assert not connection.stream.fill()
    assert not any(request.whole for request in recorder.requests if request.body), "S3 must not store it"


def test_an_upload_the_client_breaks_off_is_not_completed_towards_s3(recorded_gate, recorder):
    done = []

    def script(request, peer):
        peer.read_body(request)
        done.append(request)
        if request.whole:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    recorder.script = script
    for fields, body in (
        ([("Content-Length", "1000000")], BLOCK),
        ([("Transfer-Encoding", "chunked"), ("x-amz-decoded-content-length", "1000000")], b"10000\r\n" + BLOCK),
    ):
        done.clear()
        with recorded_gate.connect() as connection:
            connection.send(connection.head("PUT", "/broken-off", fields) + body)
            poll("the request at S3", lambda: recorder.requests)
        poll("the end of the upload at S3", lambda: done)
        assert not done[0].whole
        recorder.requests.clear()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_cancels_its_download_at_once(recorded_gate, recorder, how):
    def endless(request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        for _ in itertools.count():
            peer.send(BLOCK)

    recorder.script = endless
    connection = recorded_gate.connect()
    connection.send(connection.head("GET", f"/seek-{how}"))
    assert connection.response_head().status == 200
    connection.stream.exactly(1_000_000)
    left = time.monotonic()
    connection.reset() if how == "reset" else connection.close()
    poll("the upstream's end", lambda: recorder.requests[-1].peer.closed_at, 5)
    assert recorder.requests[-1].peer.closed_at - left < 2
    record = recorded_gate.record_of(lambda r: r.get("key") == f"seek-{how}")
    assert record["ended"]["by"] == "client"


def test_a_client_that_leaves_before_the_answer_cancels_its_request(recorded_gate, recorder):
    """By a reset: a mere FIN could be a client that has closed its sending side and still waits."""
    recorder.script = lambda request, peer: peer.stream.fill()
    connection = recorded_gate.connect()
    connection.send(connection.head("GET", "/impatient"))
    poll("the request at S3", lambda: recorder.requests)
    left = time.monotonic()
    connection.reset()
    poll("the upstream's end", lambda: recorder.requests[-1].peer.closed_at, 5)
    assert recorder.requests[-1].peer.closed_at - left < 2


def test_a_slow_reader_slows_s3_down_and_fills_no_memory(recorded_gate, recorder):
    total = 400_000_000

    def script(request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for at in range(0, total, len(BLOCK)):
            peer.send(BLOCK[: total - at])

    recorder.script = script
    before = recorded_gate.memory_kib()
    with recorded_gate.connect(receive_buffer=65536) as connection:
        connection.send(connection.head("GET", "/slow-reader"))
        assert connection.response_head().status == 200
        peer = recorder.requests[-1].peer
        assert settled(lambda: peer.sent) < 64_000_000, "what fits into sockets and a few buffers, no more"
        grown = recorded_gate.memory_kib() - before
        print(f"upstream stopped after {peer.sent} bytes; RSS grew by {grown} KiB")
        assert grown < 32 * 1024
        body = connection.stream.exactly(total)
    assert len(body) == total and body[: len(BLOCK)] == BLOCK and body[-1000:] == BLOCK[: total % len(BLOCK)][-1000:]


def test_a_slow_s3_slows_the_uploader_down_and_fills_no_memory(recorded_gate, recorder):
    go = []

    def script(request, peer):
        poll("the test's word", lambda: go, 30)
        answer()(request, peer)

    recorder.script = script
    total, sent = 200_000_000, 0
    before = recorded_gate.memory_kib()
    with recorded_gate.connect(seconds=1) as connection:
        connection.send(connection.head("PUT", "/slow-s3", [("Content-Length", str(total))]))
        try:
            while sent < total:
                sent += connection.sock.send(BLOCK[: total - sent])
        except (TimeoutError, ssl.SSLWantWriteError):
            pass
        grown = recorded_gate.memory_kib() - before
        print(f"the uploader stopped after {sent} bytes; RSS grew by {grown} KiB")
        assert 0 < sent < 64_000_000
        assert grown < 32 * 1024
        go.append(True)
    poll("the request's end at S3", lambda: recorder.requests[-1].peer.closed_at)
    assert not recorder.requests[-1].whole


def test_idle_and_abandoned_connections_leave_nothing_behind(recorded_gate, recorder):
    def settle():
        recorder.forget()
        with recorded_gate.connect() as connection:
            assert connection.exchange("GET", "/ping").status == 200

    settle()
    before = settled(recorded_gate.descriptors)
    idle = [recorded_gate.connect() for _ in range(150)]
    for connection in idle[:50]:
        connection.send(b"GET /never-finished HTTP/1.1\r\nHost: " + RECORDER.encode())
    for _ in range(20):
        socket.create_connection(("127.0.0.1", recorded_gate.https)).close()
    with recorded_gate.connect() as connection:
        assert connection.exchange("GET", "/while-many-idle").status == 200
    for connection in idle:
        connection.close()
    poll("as many descriptors as before", lambda: recorded_gate.descriptors() <= before + 3, 10)


def settled(value, seconds: float = 0.5):
    """Waits until `value()` has not changed for a while and returns it."""
    last, since = value(), time.monotonic()
    end = since + 20
    while time.monotonic() - since < seconds:
        assert time.monotonic() < end, "it never settled"
        time.sleep(0.02)
        now = value()
        if now != last:
            last, since = now, time.monotonic()
    return last
