"""The client side's TLS: versions, certificates by name, resumption, and an outside judge."""

import socket
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509

import wire
from conftest import GATE, SECOND
from programs import run


def certificate_names(gate, server_name: str | None) -> list[str]:
    """The names in the certificate a client gets that asks for `server_name`, or for nothing."""
    context = wire.client_context(verify=False)
    with socket.create_connection(("127.0.0.1", gate.https), 10) as raw:
        with context.wrap_socket(raw, server_hostname=server_name) as tls:
            certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def s_client(gate, authority, *arguments, check=True):
    """openssl's own client: one request, and what it says of the session."""
    request = f"GET /ping HTTP/1.1\r\nHost: {GATE}\r\nConnection: close\r\n\r\n".encode()
    where = ("-connect", f"127.0.0.1:{gate.https}", "-CAfile", authority.ca, "-verify_return_error", "-ign_eof")
    return run("openssl", "s_client", *where, *arguments, input=request, check=check, seconds=20)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("name", [GATE, SECOND])
def test_openssl_agrees_on_the_version_and_trusts_the_certificate(gate, authority, version, name):
    option = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}[version]
    done = s_client(gate, authority, option, "-servername", name, "-verify_hostname", name, "-alpn", "http/1.1")
    said = done.stdout.decode(errors="replace")
    assert "HTTP/1.1 200" in said and f"New, {version}" in said
    assert "ALPN protocol: http/1.1" in said
    assert ("RSA" if name == SECOND else "ECDSA") in said.split("Peer signature type:")[1].split("\n")[0]


@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
def test_versions_before_1_2_are_refused(gate, authority, option):
    done = s_client(gate, authority, option, "-cipher", "DEFAULT:@SECLEVEL=0", "-servername", GATE, check=False)
    assert done.returncode != 0 and b"HTTP/1.1" not in done.stdout


def test_a_gate_set_to_1_3_refuses_1_2(start_gate, gate, authority):
    strict = start_gate(gate.routes[0], min_version="1.3")
    assert b"New, TLSv1.3" in s_client(strict, authority, "-servername", GATE).stdout
    assert s_client(strict, authority, "-tls1_2", "-servername", GATE, check=False).returncode != 0


def test_the_certificate_follows_the_name_asked_for(gate):
    assert GATE in certificate_names(gate, GATE)
    assert certificate_names(gate, SECOND) == [SECOND]
    assert GATE in certificate_names(gate, "nobody.example"), "an unknown name gets the first"
    assert GATE in certificate_names(gate, None), "no name gets the first"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_on_every_worker(gate, version):
    context = wire.client_context(version=version)
    with gate.connect(context=context) as connection:
        connection.exchange("GET", "/ping")
        session = connection.sock.session
        assert not connection.sock.session_reused
    resumed = []
    for _ in range(8):
        with gate.connect(context=context, session=session) as connection:
            assert connection.exchange("GET", "/ping").status == 200
            resumed.append(connection.sock.session_reused)
            session = connection.sock.session
    assert all(resumed), resumed


def test_http_1_1_is_chosen_among_others_and_needed_among_any(gate):
    with gate.connect(context=wire.client_context(alpn=["h2", "http/1.1"])) as connection:
        assert connection.sock.selected_alpn_protocol() == "http/1.1"
        assert connection.exchange("GET", "/ping").status == 200
    with gate.connect() as connection:
        assert connection.sock.selected_alpn_protocol() is None
        assert connection.exchange("GET", "/ping").status == 200
    with pytest.raises(ssl.SSLError):
        gate.connect(context=wire.client_context(alpn=["h2"]))


def test_plain_http_on_the_tls_port_is_closed_not_served(gate):
    with wire.Connection(gate.https, GATE, tls=False, seconds=10) as connection:
        connection.send(connection.head("GET", "/ping"))
        assert b"200 OK" not in connection.stream.rest()


def test_closing_says_so(gate):
    """Without close_notify a client cannot tell an end from a cut."""
    with gate.connect() as connection:
        connection.exchange("GET", "/ping", [("Connection", "close")])
        assert connection.stream.rest() == b"" and connection.stream.ended == "orderly"


def test_sslyze_finds_mozillas_intermediate_profile(gate, authority):
    judge = Path(sys.executable).parent / "sslyze"
    target = f"localhost:{gate.https}"
    done = run(judge, "--mozilla_config=intermediate", f"--certinfo_ca_file={authority.ca}", target, text=True)
    assert f"{target}: OK - Compliant." in done.stdout, done.stdout[-2000:]
