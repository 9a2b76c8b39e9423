"""A browser's cross-origin upload: preflight, PUT with Origin, and an ETag that scripts may read."""

import pytest

from conftest import GATE
from seaweed import HOST, ORIGIN
from wire import Connection


def ask(port, host, method, link, fields, body=None):
    with Connection(port, host) as connection:
        return connection.exchange(method, link.target, fields, body, host=host)


def cross_origin_fields(response) -> dict[str, str]:
    return {
        name: value for name, value in response.lower().items() if name.startswith("access-control-") or name == "vary"
    }


PREFLIGHT = [
    ("Origin", ORIGIN),
    ("Access-Control-Request-Method", "PUT"),
    ("Access-Control-Request-Headers", "content-type"),
    ("Sec-Fetch-Mode", "cors"),
]


def test_a_preflight_is_answered_by_the_buckets_own_rules(gate, seaweed, links):
    link = links.shotgrid("PUT", "cors/a b.mov")
    through = ask(gate.https, GATE, "OPTIONS", link, PREFLIGHT)
    assert through.status == 200
    fields = through.lower()
    assert fields["access-control-allow-origin"] == ORIGIN
    assert "PUT" in fields["access-control-allow-methods"]
    assert "content-type" in fields["access-control-allow-headers"]
    assert fields["access-control-max-age"] == "3000"
    direct = ask(seaweed.https, HOST, "OPTIONS", link, PREFLIGHT)
    assert cross_origin_fields(through) == cross_origin_fields(direct)


def test_a_preflight_from_a_stranger_is_refused_by_s3(gate, links):
    fields = [("Origin", "https://evil.example"), *PREFLIGHT[1:]]
    through = ask(gate.https, GATE, "OPTIONS", links.shotgrid("PUT", "cors/a b.mov"), fields)
    assert through.status == 403
    assert through.get("access-control-allow-origin") is None and through.get("x-filmgate-error") is None


def test_a_cross_origin_upload_exposes_its_etag(gate, seaweed, links):
    link = links.shotgrid("PUT", "cors/a b.mov")
    browser = [
        ("Origin", ORIGIN),
        ("Referer", ORIGIN + "/"),
        ("Content-Type", "video/quicktime"),
        ("User-Agent", "Mozilla/5.0"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Cookie", "_session_id=0123456789abcdef"),
    ]
    through = ask(gate.https, GATE, "PUT", link, browser, b"from a browser")
    fields = through.lower()
    assert (through.status, fields["access-control-allow-origin"]) == (200, ORIGIN)
    assert "ETag" in fields["access-control-expose-headers"]
    assert fields["etag"].strip('"') and seaweed.get("cors/a b.mov") == b"from a browser"
    direct = ask(seaweed.https, HOST, "PUT", link, browser, b"from a browser")
    assert cross_origin_fields(through) == cross_origin_fields(direct)


@pytest.mark.parametrize(("method", "status", "body"), [("GET", 206, b"01"), ("HEAD", 200, b"")])
def test_a_cross_origin_read_is_allowed(gate, seaweed, links, method, status, body):
    """SeaweedFS takes no notice of Range in a HEAD."""
    seaweed.put("cors/read.mov", b"0123456789")
    link = links.make(method, "cors/read.mov")
    through = ask(gate.https, GATE, method, link, [("Origin", ORIGIN), ("Range", "bytes=0-1")])
    assert (through.status, through.body) == (status, body)
    assert through.get("access-control-allow-origin") == ORIGIN
