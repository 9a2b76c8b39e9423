"""Clients that present certificates, as curl does, to a gate that asks for them."""

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

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
    """Gets an object with curl, once or several times over one connection or resumed sessions."""

    def get(*arguments, identity=None, targets=1, check=True):
        if identity:
            arguments += ("--cert", identity.certificate, "--key", identity.key)
        link = f"https://{asking_gate.authority()}/shots/010.mov"
        return run(
            *("curl", "--silent", "--show-error", "--http1.1", "--max-time", 20, "--cacert", authority.ca),
            *("--resolve", f"{GATE}:{asking_gate.https}:127.0.0.1", "--write-out", "[%{http_code}]"),
            *arguments,
            *[link] * targets,
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


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_with_a_certificate_resume(curl, recorder, farm, version):
    node = farm.issue("node7.render.example", purpose=CLIENT)
    done = curl(*version, "--verbose", "--header", "Connection: close", identity=node, targets=3)
    assert done.stdout == "ok[200]" * 3
    assert done.stderr.count("SSL re-using session ID") == 2, done.stderr
    assert len(recorder.requests) == 3


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make", "alert"),
    [
        (lambda farm, other: other.issue("node7.render.example", purpose=CLIENT), "unknown ca"),
        (lambda farm, other: farm.issue("node7.render.example", purpose=CLIENT, days=-0.01), "certificate expired"),
        (lambda farm, other: farm.issue("node7.render.example"), "unsupported certificate"),
    ],
    ids=["stranger", "expired", "server"],
)
def test_a_certificate_that_does_not_verify_is_refused(curl, recorder, farm, authority, version, make, alert):
    done = curl(*version, identity=make(farm, authority), check=False)
    assert done.returncode != 0 and done.stdout == "[000]"
    assert alert in done.stderr, done.stderr
    assert not recorder.requests
