"""What the logs of the whole session say, and what they must never say. Runs last."""

import json

import links as made_links
from conftest import GATE, RECORDER
from ports import poll
from upstream import answer


def test_one_record_an_exchange_with_what_an_administrator_asks_for(gate, links, seaweed):
    key = "logged/shot 030 é.mov"
    seaweed.put(key, b"0123456789")
    seen = len(gate.records())
    with gate.connect() as connection:
        for fields in ([], [("Range", "bytes=2-5")]):
            connection.exchange("GET", links.shotgrid("GET", key, user=4711).target, fields)
        connection.exchange(
            "GET", links.make("GET", "logged/absent.mov").target, [("Cookie", "_session_id=c00kie-s3cret")]
        )
    poll("three records", lambda: len(gate.records()) >= seen + 3)
    whole, part, absent = gate.records()[seen:]
    for record in (whole, part):
        assert record["time"] and record["client"].startswith("127.0.0.1:")
        assert (record["method"], record["key"], record["bucket"]) == ("GET", key, "mystudio-media")
        assert record["host"].startswith(GATE)
        assert (record["user_id"], record["user_type"]) == ("4711", "ApiUser")
        assert record["s3_request_id"] and record["total_ms"] >= record["ttfb_ms"] > 0
        assert record["ended"]["at"] == "complete"
    assert (whole["status"], whole["bytes_out"], whole.get("range")) == (200, 10, None)
    assert (part["status"], part["bytes_out"], part["range"]) == (206, 4, "bytes=2-5")
    assert (absent["status"], absent["s3_code"]) == (404, "NoSuchKey")
    assert len(gate.records()) == seen + 3, "and no more than one each"


def test_uploads_and_refusals_are_recorded(gate, links):
    with gate.connect() as connection:
        connection.exchange("PUT", links.make("PUT", "logged/up.mov").target, body=b"x" * 1000)
        connection.exchange("GET", "/logged/who", host="who.example")
    put = gate.record_of(lambda r: r.get("key") == "logged/up.mov")
    assert (put["status"], put["bytes_in"], put["method"]) == (200, 1000, "PUT")
    refused = gate.record_of(lambda r: r.get("host") == "who.example")
    assert (refused["status"], refused["failure"]) == (421, "unknown-host")


def test_secrets_in_odd_places_stay_out_of_the_log(recorded_gate, recorder, links):
    recorder.script = answer()
    link = links.shotgrid("GET", "a.mov")
    signature = link.url.rsplit("=", 1)[1]
    odd = [
        ("GET", "/%3FX-Amz-Signature=" + signature, []),
        ("GET", "/x;X-Amz-Signature=" + signature, []),
        ("GET", "/a?x=" + link.query.replace("&", "%26"), [("User-Agent", link.url), ("Referer", link.url)]),
        ("GET", "/a", [("Range", link.url), ("X-Amz-Security-Token", links.temporary.token)]),
        ("GET", "/a", [("Authorization", "AWS4-HMAC-SHA256 Credential=x, Signature=" + signature)]),
        ("GET", link.target + "&x-amz-meta-user-id=" + signature, []),
    ]
    with recorded_gate.connect() as connection:
        for method, target, fields in odd:
            assert connection.exchange(method, target, fields).status == 200
    recorded_gate.record_of(lambda r: r.get("host", "").startswith(RECORDER))
    poll("all records", lambda: len([r for r in recorded_gate.records() if r.get("status")]) >= len(odd))


def test_no_log_of_the_session_holds_a_secret(workspace, gate):
    """Every signature, token, credential and cookie of every link used so far, in every log of every gate."""
    files = sorted((workspace / "gates").glob("*/access.log")) + sorted((workspace / "gates").glob("*/stderr.log"))
    forbidden = {secret for secret in made_links.secrets if len(secret) > 7}
    forbidden |= {"0123456789abcdef", "c00kie-s3cret", "not-for-s3", "_session_id", "X-Amz-Signature", "Bearer"}
    assert len(forbidden) > 12
    records = 0
    for file in files:
        text = file.read_text(errors="strict")
        found = [secret for secret in forbidden if secret in text]
        assert not found, f"{file} holds {found[0]}"
        if file.name == "access.log":
            for line in text.splitlines():
                record = json.loads(line)
                assert {"time", "client", "ended", "bytes_in", "bytes_out"} <= record.keys()
                records += 1
    assert records > 5
