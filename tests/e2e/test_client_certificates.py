"""Clients that present certificates, as curl does, to a gate that asks for them."""

import ssl

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

import wire
from conftest import GATE
from gate import Route
from pki import Authority
from programs import run
from seaweed import HOST

VERSIONS = [("--tlsv1.2", "--tls-max", "1.2"), ("--tlsv1.3",)]
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@pytest.fixture(scope="module")
def farm(workspace) -> Authority:
    """Who vouches for the studio's clients."""
    return Authority(workspace / "farm", "Render farm")


@pytest.fixture(scope="module")
def asking_gate(start_gate, recorder_upstream, authority, farm):
    """A gate that asks its clients for certificates of the farm."""
    route = Route([GATE], [recorder_upstream.address], HOST, ca=authority.ca)
    return start_gate(route, client_ca=farm.ca)


@pytest.fixture
def curl(asking_gate, authority):
    """Gets an object with curl."""

    def get(*arguments, identity=None, check=True):
        if identity:
            arguments += ("--cert", identity.certificate, "--key", identity.key)
        link = f"https://{asking_gate.authority()}/shots/010.mov"
        return run(
            *("curl", "--silent", "--show-error", "--http1.1", "--max-time", 20, "--cacert", authority.ca),
            *("--resolve", f"{GATE}:{asking_gate.https}:127.0.0.1", "--write-out", "[%{http_code}]"),
            *arguments,
            link,
            check=check,
            text=True,
        )

    return get


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_with_a_certificate_and_one_without_are_both_served(curl, recorder, farm, version):
    node = farm.issue("node7.render.example", purpose=CLIENT)
    assert curl(*version, identity=node).stdout == "ok[200]"
    assert curl(*version).stdout == "ok[200]"
    assert len(recorder.requests) == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_with_a_certificate_resume(asking_gate, farm, version):
    node = farm.issue("node7.render.example", purpose=CLIENT)
    context = wire.client_context(version=version)
    context.load_cert_chain(node.certificate, node.key)
    session, resumed = None, []
    for _ in range(3):
        with asking_gate.connect(context=context, session=session) as connection:
            assert connection.exchange("GET", "/ping").status == 200
            resumed.append(connection.sock.session_reused)
            session = connection.sock.session
    assert resumed == [False, True, True]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make", "alert"),
    [
        (lambda farm, other: other.issue("node7.render.example", purpose=CLIENT), "unknown CA"),
        (lambda farm, other: farm.issue("node7.render.example", purpose=CLIENT, days=-0.01), "certificate expired"),
        (lambda farm, other: farm.issue("node7.render.example"), "unsupported certificate"),
    ],
    ids=["stranger", "expired", "server"],
)
def test_a_certificate_that_does_not_verify_is_refused(curl, recorder, farm, authority, version, make, alert):
    done = curl(*version, "--verbose", identity=make(farm, authority), check=False)
    assert done.returncode != 0 and done.stdout == "[000]"
    assert f"(IN), TLS alert, {alert} " in done.stderr, done.stderr
    assert not recorder.requests
