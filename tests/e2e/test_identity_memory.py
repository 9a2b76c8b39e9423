"""What clients can make the gate hold for them, where it has to look at what they send before it passes it on."""

import base64
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import forge
import sigv4
import wire
from forge import Raw, header
from gate import Client, MemoryWatch, ReSign, Route
from identity import MEDIA, STUDIO_KEY, matrix_rule, process_credential
from ports import poll
from seaweed import HOST, REGION
from strict import Strict, success

BUDGET_MIB = 32
CHUNK = 1024**2
# Exchanges of just under 1 MB in five eighths of the budget, half of that for uploads in signed chunks: six for a large one,
# two for a small one.
UPLOADS, SMALL_UPLOADS_AT_ONCE = 60, 5
# A document as long as may be takes twice its length: an eighth of the budget.
DOCUMENTS = 2 * CHUNK


@pytest.fixture(scope="module")
def strict(upstream_identity):
    server = Strict(upstream_identity, REGION, {HOST})
    yield server
    server.close()


@pytest.fixture
def gate(start_gate, strict, authority, resign_identity, tmp_path):
    strict.forget()
    upstream = {"connect": [strict.address], "ca": authority.ca, "server_name": HOST}
    return start_gate(
        Route([MEDIA], host=HOST, resign=ReSign("role", [{**matrix_rule("*"), "prefixes": ["shots/"]}]), **upstream),
        identities=[resign_identity],
        clients=[Client("studio", STUDIO_KEY)],
        credentials=[process_credential(tmp_path / "key.json", strict)],
        workers=1,
        timeouts={"client-body": "60s"},
        limits={"buffer-bytes": f"{BUDGET_MIB} MiB", "spool-bytes": "1 MiB"},
    )


def connect(gate) -> wire.Connection:
    return gate.connect(MEDIA, context=wire.client_context(verify=False))


def ask(gate, raw: Raw | None = None) -> wire.Response:
    raw = raw or header(target="/shots/a.mov", host=MEDIA)
    with connect(gate) as connection:
        connection.send(raw.data())
        return connection.response(raw.method)


def upload() -> tuple[bytes, bytes]:
    """An upload of two of the largest chunks: all but the end of the second one, and that end."""
    fields = [("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", str(2 * CHUNK))]
    raw = header("PUT", "/shots/big.mov", *fields, host=MEDIA, payload=sigv4.SIGNED_CHUNKS)
    data = forge.chunks(raw, pieces=[b"a" * CHUNK, b"b" * CHUNK, b""]).data()
    return data[:-200], data[-200:]


def test_uploads_in_signed_chunks_hold_no_more_than_the_budget(gate, strict, capfd):
    assert ask(gate).status == 200
    before, everybody_holds = gate.memory_kib(), threading.Event()

    def put() -> int:
        most, last = upload()
        with connect(gate) as connection:
            try:
                connection.send(most)
                everybody_holds.wait(60)
                connection.send(last)
            except OSError:
                pass  # Whoever found no room is answered before the end.
            return connection.response("PUT").status

    with MemoryWatch(gate) as watch, ThreadPoolExecutor(UPLOADS) as pool:
        running = [pool.submit(put) for _ in range(UPLOADS)]
        time.sleep(5)
        held = watch.highest_kib
        everybody_holds.set()
        statuses = [each.result() for each in running]
    with capfd.disabled():
        print(
            f"\n{UPLOADS} uploads in signed chunks: RSS {before} KiB before, {held} KiB while all wait, {watch.highest_kib} KiB at most; "
            f"{statuses.count(200)} stored, {statuses.count(503)} told to slow down"
        )
    assert statuses.count(200) >= 3 and set(statuses) <= {200, 503}, statuses
    # Besides the budget there are sixty connections with a head each that waits, and what the allocator keeps. Uploads
    # that took the room of one exchange only came to 140 MiB.
    assert watch.highest_kib - before < 3 * BUDGET_MIB * 1024
    assert ask(gate).status == 200


def small_upload() -> Raw:
    """What old SDKs make of a small object."""
    fields = [("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", "1000")]
    raw = header("PUT", "/shots/small.exr", *fields, host=MEDIA, payload=sigv4.SIGNED_CHUNKS)
    return forge.chunks(raw, pieces=[b"a" * 1000, b""])


def test_slow_uploads_in_signed_chunks_leave_room_for_others(gate):
    begun = [connect(gate) for _ in range(20)]
    for connection in begun:
        connection.send(upload()[0][:100_000])
    time.sleep(0.5)
    began = time.monotonic()
    for _ in range(5):
        assert ask(gate).status == 200
    assert time.monotonic() - began < 5
    for connection in begun:
        connection.close()


def test_small_uploads_in_signed_chunks_take_little_room(gate, strict):
    """More of them at once than of large ones."""
    begun = [connect(gate) for _ in range(SMALL_UPLOADS_AT_ONCE)]
    raws = [small_upload() for _ in begun]
    for connection, raw in zip(begun, raws, strict=True):
        connection.send(raw.data()[:-1])
    arrived = lambda: sum(b"small" in request.target for request in strict.requests) == len(begun)
    poll("all of them at the storage", arrived, 5)
    for connection, raw in zip(begun, raws, strict=True):
        connection.send(raw.data()[-1:])
        assert connection.response("PUT").status == 200
        connection.close()


def deletion(length: int = 0) -> Raw:
    """A document of at least so many bytes."""
    body = b"<Delete><Object><Key>shots/a.mov</Key></Object></Delete>".ljust(length)
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    return header("POST", "/?delete=", ("content-md5", digest), host=MEDIA, body=body)


def test_small_documents_take_little_room(gate):
    begun = [connect(gate) for _ in range(30)]
    for connection in begun:
        connection.send(deletion().data()[:-1])
    time.sleep(0.5)
    began = time.monotonic()
    assert ask(gate, deletion()).status == 200
    assert time.monotonic() - began < 5
    for connection in begun:
        connection.close()


def test_a_document_is_held_for_as_long_as_its_request_takes_and_no_longer(gate, strict):
    """Its answer may be read slowly."""
    strict.injected = [success("<DeleteResult/>" + " " * 32 * CHUNK)] * 2
    slow = [gate.connect(MEDIA, context=wire.client_context(verify=False), receive_buffer=4096) for _ in range(2)]
    for connection in slow:
        connection.send(deletion(DOCUMENTS).data())
        assert connection.response_head().status == 200
    began = time.monotonic()
    assert ask(gate, deletion(DOCUMENTS)).status == 200
    assert time.monotonic() - began < 5
    for connection in slow:
        connection.close()


def test_slow_documents_and_slow_spools_do_not_starve_each_other(gate, strict):
    """Two bodies fit into the budget of either kind; three more of the one leave the other its own."""

    def spooled() -> Raw:
        raw = header("PUT", "/shots/spooled.mov", host=MEDIA, payload=sigv4.UNSIGNED)
        return replace(raw, fields=[*raw.fields, ("Transfer-Encoding", "chunked")], body=b"5\r\nframe\r\n0\r\n\r\n")

    def delete() -> Raw:
        return deletion(DOCUMENTS // 2)

    assert (ask(gate, delete()).status, ask(gate, spooled()).status) == (200, 200)
    for slow, other in ((delete, spooled), (spooled, delete)):
        begun = [connect(gate) for _ in range(10)]
        for connection in begun:
            connection.send(slow().data()[:-1][:2000])
        time.sleep(0.5)
        began = time.monotonic()
        assert ask(gate, other()).status == 200, f"{other} beside {slow}"
        assert ask(gate).status == 200
        assert time.monotonic() - began < 5
        for connection in begun:
            connection.close()
