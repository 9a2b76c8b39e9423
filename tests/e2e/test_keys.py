"""Every key S3 can hold, by presigned PUT, HEAD and GET, against an S3 that verifies signatures."""

import pytest

from conftest import LEGACY
from seaweed import DOMAIN, HOST
from wire import Connection

LONG = "/".join(["kilobyte-" + "k" * 194] * 5) + "/mov!"
assert len(LONG) == 1024

KEYS = [
    "plain.mov",
    "shot 010 v002.mov",
    "a+b.mov",
    "100%.mov",
    "a%2Fb.mov",
    "%41%zz%.mov",
    "ab//cd.mov",
    "/leading.mov",
    "a?b.mov",
    "a#b.mov",
    "folder/été/日本語 🎬.mov",
    "combining-e\u0301-n\u0303-a\u030a.mov",
    "&=;:@,$'()*!~.mov",
    '[v]{1}|^`"<>.mov',
    "back\\slash.mov",
    "tab\tand\x7f.mov",
    "ends with space ",
    "...",
    "a/..b/c..",
    LONG,
]

# SeaweedFS refuses keys that look like a walk through directories. What it answers must come through all the same.
REFUSED_BY_SEAWEEDFS = ["a/../b.mov", "../b.mov", "a/./b.mov", "a/.."]


def exchange(port: int, host: str, link, method: str, body=None):
    """One request to `port`, with the link's target byte for byte."""
    with Connection(port, host) as connection:
        return connection.exchange(method, link.target, body=body, host=host)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[1:-1][:40])
def test_every_key_is_stored_and_read_back_under_its_own_name(gate, seaweed, links, key):
    body = b"the object called " + key.encode()
    host = gate.routes[0].hosts[0]
    put = exchange(gate.https, host, links.make("PUT", key), "PUT", body)
    assert (put.status, put.body) == (200, b""), put
    assert seaweed.get(key) == body, "S3 must hold it under exactly this key"
    head = exchange(gate.https, host, links.make("HEAD", key), "HEAD")
    assert (head.status, head.get("content-length")) == (200, str(len(body)))
    got = exchange(gate.https, host, links.make("GET", key), "GET")
    assert (got.status, got.body, got.complete) == (200, body, True)
    assert got.get("etag") == put.get("etag") == head.get("etag")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[1:-1][:40])
def test_every_key_passes_with_a_sigv2_link(gate, links, key):
    body = b"by SigV2: " + key.encode()
    put = exchange(gate.https, LEGACY, links.make_v2("PUT", key), "PUT", body)
    assert put.status == 200, put
    got = exchange(gate.https, LEGACY, links.make_v2("GET", key), "GET")
    assert (got.status, got.body) == (200, body)
    head = exchange(gate.https, LEGACY, links.make_v2("HEAD", key), "HEAD")
    assert (head.status, head.get("content-length")) == (200, str(len(body)))


@pytest.mark.parametrize("key", REFUSED_BY_SEAWEEDFS)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_a_key_that_s3_refuses_is_refused_in_s3s_own_words(gate, seaweed, links, key, method):
    body = b"refused" if method == "PUT" else None
    link = links.make(method, key)
    direct = exchange(seaweed.https, HOST, link, method, body)
    through = exchange(gate.https, gate.routes[0].hosts[0], link, method, body)
    assert direct.status == through.status == 400
    assert without_ids(direct.body) == without_ids(through.body)
    assert through.get("x-filmgate-error") is None, "S3 said it, not the gate"


def test_a_shotgrid_link_with_temporary_credentials_passes(gate, seaweed, links):
    key = "shotgun/0f3a/9b2c/shot 010+comp (v002) été.mov"
    host = gate.routes[0].hosts[0]
    link = links.shotgrid("PUT", key)
    assert len(link.target) > 1000, "today's tokens are long"
    assert exchange(gate.https, host, link, "PUT", b"media").status == 200
    got = exchange(gate.https, host, links.shotgrid("GET", key), "GET")
    assert (got.status, got.body) == (200, b"media")
    assert "shot 010+comp" in got.get("content-disposition")
    record = gate.record_of(lambda r: r.get("key") == key and r.get("method") == "GET")
    assert (record["user_id"], record["user_type"], record["status"]) == ("93", "ApiUser", 200)


def test_a_link_signed_for_the_gates_own_name_is_refused_by_s3(gate, links):
    """The check has teeth: the upstream verifies the Host that was signed."""
    link = links.make("GET", "plain.mov")
    through = exchange(gate.https, LEGACY, link, "GET")
    assert (through.status, b"SignatureDoesNotMatch" in through.body) == (403, True), (
        f"signed for {HOST}, sent as {DOMAIN}"
    )


def without_ids(body: bytes) -> bytes:
    """An S3 error body without its request id."""
    start = body.find(b"<RequestId>")
    return body if start < 0 else body[:start] + body[body.index(b"</RequestId>") :]
