"""Requests that must not be signed for: each is refused in S3's words, and nothing of it reaches S3."""

import re
import time

import pytest

import forge
import forgeries
import sigv4
import wire
from forge import OBJECT, Raw, form, header, link, put, signed_chunks, signed_trailer, unsigned_trailer
from forgeries import (
    COPIER,
    DAY,
    ELSEWHERE,
    ENDED,
    FUTURE,
    GUARDED,
    KEYS,
    LINKS,
    NOBODY,
    READER,
    SHOTGRID,
    TEMPORARY,
    XML,
    copy,
    delete_objects,
    replay,
    restore,
)
from gate import Client, ReSign, Route, binary
from identity import EACH, ENDPOINT, MEDIA, STUDIO_KEY, process_credential
from ports import poll
from programs import run
from seaweed import BUCKET, DOMAIN, HOST, PLATES, REGION
from strict import Strict

AT_ONCE = [pytest.param(*case[1:], id=case[0]) for table in forgeries.TABLES for case in table()]
IN_THE_BODY = [pytest.param(*case[1:], id=case[0]) for case in forgeries.bodies()]


@pytest.fixture(scope="module")
def storage(upstream_identity):
    strict = Strict(upstream_identity, REGION, {HOST, f"{PLATES}.{DOMAIN}", DOMAIN})
    yield strict
    strict.close()


@pytest.fixture(scope="module")
def guarded(start_gate, storage, authority, resign_identity, workspace):
    """A gate with rules, in front of an S3 that writes down what it gets."""
    upstream = {"connect": [storage.address], "ca": authority.ca, "server_name": HOST}
    rules = {
        "credential": "role",
        "allow": [
            {
                "clients": ["studio", "temporary"],
                "operations": ["read", "write", "delete", "list", "multipart"],
                "prefixes": ["shots/"],
            },
            {"clients": ["reader"], "operations": ["GetObject"], "prefixes": ["shots/"]},
            {
                "clients": ["copier"],
                "operations": ["read", "write", "delete"],
                "prefixes": ["shots/"],
                "features": ["copy", "bulk-delete", "post-form", "restore", "acl"],
            },
            {"clients": ["elsewhere", "ended", "future", "guarded"], "operations": ["read", "write", "list"]},
        ],
        "deny": [{"prefixes": ["shots/secret/"]}, {"operations": ["PutObjectAcl"]}],
    }
    visitors = {
        "credential": "role",
        "allow": [{"clients": ["visitors"], "operations": ["GetObject"], "prefixes": ["shots/"]}],
    }
    clients = [
        Client("studio", STUDIO_KEY),
        Client("temporary", TEMPORARY),
        Client("reader", READER),
        Client("copier", COPIER),
        Client("elsewhere", ELSEWHERE, {"addresses": ["10.0.0.0/8", "fd00::/8"]}),
        Client("guarded", GUARDED, {"certificate-names": ["farm.mystudio.test"]}),
        Client("ended", ENDED, {"not-after": "2020-01-01T00:00:00Z"}),
        Client("future", FUTURE, {"not-before": "2099-01-01T00:00:00Z"}),
        Client("visitors", None, {"addresses": ["127.0.0.0/8"]}),
    ]
    gate = start_gate(
        Route([ENDPOINT], host=EACH, resign=ReSign(buckets=[BUCKET, PLATES], **rules), **upstream),
        Route([MEDIA], host=HOST, resign=ReSign(**rules, options={"verify-payload": True}), **upstream),
        Route([LINKS], host=HOST, resign=ReSign(**visitors), **upstream),
        identities=[resign_identity],
        clients=clients,
        credentials=[process_credential(workspace / "forged.json", storage)],
        client_ca=authority.ca,
        workers=1,
    )
    storage.forbidden |= {STUDIO_KEY.id, TEMPORARY.id, TEMPORARY.token, SHOTGRID.id, SHOTGRID.token}
    return gate


def send(gate, raw: Raw):
    """Sends a request as it is, and reads whatever comes."""
    with wire.Connection(gate.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
        try:
            connection.send(raw.data())
        except OSError:
            pass  # Refused while it was still being sent.
        return connection.response(raw.method)


def is_refused(response, status, code) -> None:
    assert response.status in (status if isinstance(status, set) else {status}), (response.status, response.body)
    found = re.search(rb"<Code>(\w+)</Code>", response.body)
    if response.body:
        assert response.get("content-type") == "application/xml" and found, response
    if code and response.body:
        assert found.group(1).decode() in (code if isinstance(code, set) else {code}), response.body
    for secret in (key.secret for key in (STUDIO_KEY, *KEYS)):
        assert secret.encode() not in response.body


def test_there_are_enough_of_them():
    assert len(AT_ONCE) + len(IN_THE_BODY) >= 100


@pytest.mark.parametrize(("make", "status", "code"), AT_ONCE)
def test_a_forged_request_is_refused_and_reaches_nobody(guarded, storage, make, status, code):
    storage.forget()
    response = send(guarded, make())
    is_refused(response, status, code)
    assert not storage.requests, (storage.requests[0].head, [verdict.faults for verdict in storage.verdicts])


def test_nothing_of_all_these_came_late(guarded, storage):
    time.sleep(0.2)
    assert not storage.history, storage.history[0].request.head


@pytest.mark.parametrize(("make", "status", "code"), IN_THE_BODY)
def test_a_forged_body_is_refused_and_not_stored(guarded, storage, make, status, code):
    storage.forget()
    response = send(guarded, make())
    is_refused(response, status, code)
    poll("the end of what was sent to S3", lambda: len(storage.verdicts) == len(storage.requests))
    assert not any(request.whole for request in storage.requests), "S3 has stored it"


def test_nothing_of_all_these_bodies_came_late(guarded, storage):
    time.sleep(0.2)
    assert not [verdict.request.head for verdict in storage.history if verdict.request.whole]


@pytest.mark.parametrize(
    "make",
    [
        header,
        put,
        lambda: header("HEAD"),
        lambda: header("DELETE"),
        lambda: header("PUT", OBJECT, ("x-amz-storage-class", "STANDARD"), body=b"frame"),
        lambda: header("PUT", OBJECT + "?partNumber=1&uploadId=x", body=b"frame"),
        lambda: restore(""),
        lambda: restore("<RestoreRequest><Days>1</Days></RestoreRequest>"),
        lambda: header(key=TEMPORARY),
        lambda: header(key=READER),
        lambda: header(date=sigv4.stamp(-800)),
        lambda: header(date=sigv4.stamp(800)),
        lambda: header(target=f"/{BUCKET}?list-type=2&prefix=shots%2Fa"),
        lambda: header(target=f"/{BUCKET}/shots/%252e%252e/a"),
        lambda: header(target="/shots/a.mov", host=f"{BUCKET}.{ENDPOINT}"),
        lambda: header(target="/shots/a.mov", host=MEDIA),
        lambda: header("PUT", "/shots/a.mov", host=MEDIA, body=b"a" * 3_000_000),
        lambda: put(payload=sigv4.UNSIGNED),
        lambda: copy(f"{BUCKET}/shots/b%20c.mov"),
        lambda: delete_objects(XML("<Object><Key>shots/a.mov</Key></Object>")),
        link,
        lambda: link(key=TEMPORARY),
        lambda: link("PUT", body=b"frame"),
        lambda: link("PUT", OBJECT + "?x-amz-meta-shot=010", body=b"frame"),
        lambda: link(date=sigv4.stamp(-7 * DAY + 60), expires="604800"),
        lambda: link(target="/shots/a.mov", host=LINKS, key=SHOTGRID),
        signed_chunks,
        signed_trailer,
        unsigned_trailer,
        lambda: form(key=COPIER),
        lambda: form({"key": "shots/${filename}"}, key=COPIER),
    ],
)
def test_the_same_requests_pass_as_long_as_nobody_spoils_them(guarded, storage, make):
    """The table has teeth only if what it starts from is good."""
    storage.forget()
    raw = make()
    response = send(guarded, raw)
    assert response.status == 200, (response.body, [verdict.faults for verdict in storage.verdicts])
    verdict = storage.only()
    assert verdict.request.method == raw.method
    if raw.method == "POST" and "multipart" in raw.get("content-type"):
        assert (verdict.body, verdict.form["key"]) in [(b"frame", "shots/form.mov"), (b"frame", "shots/frame.mov")]
    elif raw.body and raw.signer is None or not raw.get("x-amz-decoded-content-length"):
        assert verdict.body == raw.body
    else:
        assert verdict.body == b"".join(forge.DATA)


def test_a_forged_request_behind_a_good_one_is_still_forged(guarded, storage):
    """Both in one piece: what was found out about the first is not believed of the second."""
    for second in (replay(), header(key=NOBODY), Raw("GET", OBJECT, [("Host", ENDPOINT)])):
        storage.forget()
        with wire.Connection(guarded.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
            connection.send(header().data() + second.data())
            assert [connection.response().status, connection.response().status] == [200, 403]
        storage.only()


def test_a_good_upload_does_not_carry_a_forged_one_behind_it(guarded, storage):
    storage.forget()
    raw = signed_chunks()
    smuggled = Raw("PUT", f"/{BUCKET}/others/b.mov", [("Host", DOMAIN)], b"smuggled").data()
    length = str(len(raw.body))
    raw.body += smuggled
    with wire.Connection(guarded.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
        connection.send(raw.also("Content-Length", length).data())
        assert connection.response("PUT").status == 200
        assert connection.response("PUT").status in (403, 421)
    storage.only()


def test_only_the_owner_of_a_key_is_told_what_was_signed(guarded, storage):
    for raw, is_told in ((replay(), True), (header(key=NOBODY), False), (header(region="us-east-1"), False)):
        body = send(guarded, raw).body
        assert (b"<CanonicalRequest>" in body) == is_told == (b"<StringToSign>" in body), body


def test_what_is_explained_is_what_is_done(guarded, storage):
    """`filmgate policy explain` on every request of the policy's table that it is about, and on good ones."""
    good = [header(), put(), header(key=READER), copy(f"{BUCKET}/shots/b.mov"), header("DELETE", key=COPIER)]
    names = {STUDIO_KEY.id: "studio", READER.id: "reader", COPIER.id: "copier"}
    told = 0
    for raw, allowed in [
        *((raw, True) for raw in good),
        *((case[1](), False) for case in forgeries.policy() if case[3] == "AccessDenied"),
    ]:
        signed = re.search(r"Credential=(\w+)/", raw.get("authorization") or "")
        client = names.get(signed.group(1)) if signed else None
        if not client:
            continue
        fields = [f"{name}: {value}" for name, value in raw.fields if name.lower().startswith("x-amz-")]
        words = ["--route", ENDPOINT, "--client", client, *(word for field in fields for word in ("-H", field))]
        words += ["--key", "shots/a.mov"] if raw.target.endswith("?delete=") else []
        said = run(
            binary(), "policy", "explain", "--config", guarded.config, *words, raw.method, raw.target, check=False
        )
        assert said.returncode == (0 if allowed else 1), (raw.method, raw.target, said.stdout, said.stderr)
        told += 1
    assert told > 40


def test_several_forgeries_on_one_connection_leave_it_usable_or_closed(guarded, storage):
    storage.forget()
    with wire.Connection(guarded.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
        for make in (replay, lambda: header(key=NOBODY), lambda: header(target=f"/{BUCKET}/others/a")):
            connection.send(make().data())
            response = connection.response()
            assert response.status == 403
            if (response.get("connection") or "").lower() == "close":
                return
        connection.send(header().data())
        assert connection.response().status == 200
    storage.only()
