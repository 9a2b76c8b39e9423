"""Clients that are known by where they are or by their certificate, with or without a key."""

import ssl

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

import wire
from forge import header, link
from gate import Client, ReSign, Route
from identity import MEDIA, process_credential
from pki import Authority
from seaweed import HOST, REGION
from sigv4 import Key
from strict import Strict

FARM_KEY = Key("AKFARM00000000000001", "TheFarmSecretIsForTestsOnly000000000001")
SHOTGRID = Key("ASIASHOTGRID00000002", "NobodyHereKnowsThisSecret000000000000002", "token-of-shotgrid" + "y" * 60)
SHOT = "/shots/a.mov"
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@pytest.fixture(scope="module")
def storage(upstream_identity):
    strict = Strict(upstream_identity, REGION, {HOST})
    strict.forbidden |= {SHOTGRID.id, SHOTGRID.token, FARM_KEY.id}
    yield strict
    strict.close()


@pytest.fixture(scope="module")
def gate(start_gate, storage, authority, resign_identity, workspace):
    allow = [
        {"clients": ["farm"], "operations": ["read", "write"], "prefixes": ["shots/"]},
        {"clients": ["workstations"], "operations": ["GetObject", "HeadObject"], "prefixes": ["shots/"]},
    ]
    upstream = {"connect": [storage.address], "ca": authority.ca, "server_name": HOST}
    return start_gate(
        Route([MEDIA], host=HOST, resign=ReSign("role", allow), **upstream),
        identities=[resign_identity],
        clients=[
            Client("farm", FARM_KEY, {"certificate-names": ["*.render.mystudio.test"]}),
            Client("workstations", None, {"certificate-names": ["desk.mystudio.test", "CN=office"]}),
        ],
        credentials=[process_credential(workspace / "trust.json", storage)],
        client_ca=authority.ca,
        workers=1,
    )


def context(identity=None) -> ssl.SSLContext:
    made = wire.client_context(verify=False)
    if identity:
        made.load_cert_chain(identity.certificate, identity.key)
    return made


def ask(gate, storage, raw, identity=None):
    storage.forget()
    with wire.Connection(gate.https, MEDIA, context=context(identity)) as connection:
        connection.send(raw.data())
        return connection.response(raw.method)


def test_a_key_that_needs_a_certificate_is_good_with_it_only(gate, storage, authority):
    node = authority.issue("node7.render.mystudio.test", purpose=CLIENT)
    desk = authority.issue("desk.mystudio.test", purpose=CLIENT)
    deep = authority.issue("a.node7.render.mystudio.test", purpose=CLIENT)
    raw = lambda: header(target=SHOT, host=MEDIA, key=FARM_KEY)
    assert ask(gate, storage, raw(), node).status == 200
    storage.only()
    for other in (None, desk, deep):
        response = ask(gate, storage, raw(), other)
        assert (response.status, b"AccessDenied" in response.body) == (403, True)
        assert not storage.requests
    response = ask(gate, storage, header(target=SHOT, host=MEDIA, key=Key(FARM_KEY.id, "x")), node)
    assert (response.status, b"SignatureDoesNotMatch" in response.body) == (403, True), "a certificate is no key"


def test_a_link_of_shotgrid_is_good_from_a_trusted_desk_only(gate, storage, authority):
    desk = authority.issue("desk.mystudio.test", purpose=CLIENT)
    office = authority.issue("office", "other.mystudio.test", purpose=CLIENT)
    node = authority.issue("node7.render.mystudio.test", purpose=CLIENT)
    raw = lambda: link(
        target=f"{SHOT}?response-content-disposition=filename%3Da&x-amz-meta-user-id=93", host=MEDIA, key=SHOTGRID
    )
    for trusted in (desk, office):
        response = ask(gate, storage, raw(), trusted)
        assert response.status == 200, response.body
        assert b"response-content-disposition" in storage.only().request.target
    for other in (None, node):
        response = ask(gate, storage, raw(), other)
        assert (response.status, b"InvalidAccessKeyId" in response.body) == (403, True)
        assert not storage.requests
    for forged in (
        link("PUT", SHOT, host=MEDIA, key=SHOTGRID, body=b"a"),
        link(target="/others/a.mov", host=MEDIA, key=SHOTGRID),
        header(target=SHOT, host=MEDIA, key=SHOTGRID),
    ):
        assert ask(gate, storage, forged, desk).status == 403
        assert not storage.requests


def test_a_certificate_of_a_stranger_ends_the_handshake(gate, storage, workspace):
    stranger = Authority(workspace / "stranger-of-clients", "somebody else").issue("desk.mystudio.test", purpose=CLIENT)
    storage.forget()
    with pytest.raises((OSError, wire.Incomplete)):
        ask(gate, storage, link(target=SHOT, host=MEDIA, key=SHOTGRID), stranger)
    assert not storage.requests


def test_a_resumed_session_is_still_the_client_it_was(gate, storage, authority):
    """A ticket must not give a certificate's rights to somebody else, nor lose them."""
    desk = authority.issue("desk.mystudio.test", purpose=CLIENT)
    made = context(desk)
    raw = lambda: link(target=SHOT, host=MEDIA, key=SHOTGRID)
    session = None
    for _ in range(3):
        storage.forget()
        with wire.Connection(gate.https, MEDIA, context=made, session=session) as connection:
            connection.send(raw().data())
            assert connection.response().status == 200
            session = connection.sock.session
    storage.forget()
    with wire.Connection(gate.https, MEDIA, context=context()) as connection:
        connection.send(raw().data())
        assert connection.response().status == 403, "others are who they are"
