"""The cast: a certificate authority, SeaweedFS as S3, a scripted upstream, and the gate in front of them."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import gate as gates
import identity as identities
import seaweed as seaweeds
import wire
from gate import Gate, Route
from links import Links
from pki import Authority
from upstream import Upstream

GATE = "s3-proxy.mystudio.test"
LEGACY = "s3-legacy.mystudio.test"
SECOND = "second.mystudio.test"
RECORDER = "recorder.mystudio.test"


# Five gigabytes up, what SeaweedFS preallocates, and the margin below which it refuses writes.
DISK_BYTES = 10 * 1024**3


def pytest_sessionstart():
    directory = tempfile.gettempdir()
    if shutil.disk_usage(directory).free < DISK_BYTES:
        pytest.exit(f"{directory} needs {DISK_BYTES >> 30} GiB free for these tests", 3)
    program = gates.binary()
    if not Path(program).is_file():
        pytest.exit(f"no program to test at {program}: run `cargo build --release`, or set FILMGATE_BIN", 3)
    # A studio's proxy settings or AWS profile must not reach the tests' clients.
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("AWS_", "SHOTGUN_", "SSL_CERT")):
            del os.environ[name]


def pytest_report_header():
    version = subprocess.run([gates.binary(), "--version"], capture_output=True, text=True, timeout=20)
    return f"program: {version.stdout.strip() or gates.binary()}"


def pytest_terminal_summary(terminalreporter):
    """The matrix of clients and operations, as it came out."""
    outcomes: dict[str, dict[str, str]] = {}
    for outcome, mark in (
        ("passed", "yes"),
        ("skipped", "skip"),
        ("xfailed", "no"),
        ("failed", "FAIL"),
        ("error", "FAIL"),
    ):
        for report in terminalreporter.stats.get(outcome, []):
            _, found, case = report.nodeid.partition("test_identity_clients.py::test_a_client_does[")
            if found:
                client, operation = case.rstrip("]").rsplit("-", 1)
                outcomes.setdefault(client, {})[operation] = mark
    if not outcomes:
        return
    operations = list(dict.fromkeys(name for row in outcomes.values() for name in row))
    terminalreporter.section("clients and operations through a gate with an identity of its own")
    width = max(map(len, outcomes))
    terminalreporter.write_line(" " * width + "  " + " ".join(operations))
    for client, row in outcomes.items():
        cells = " ".join(f"{row.get(name, '.'):^{len(name)}}" for name in operations)
        terminalreporter.write_line(f"{client:<{width}}  {cells}")


def pytest_collection_modifyitems(items):
    # The sweep of all logs comes last, when every link of the session has been used.
    items.sort(key=lambda item: "test_access_log" in item.nodeid)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """A directory for the whole session; every gate has one below `gates`."""
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def authority(workspace) -> Authority:
    """The studio's certificate authority."""
    made = Authority(workspace / "pki")
    wire.trusted = made.ca
    return made


@pytest.fixture(scope="session")
def identity(authority):
    """The gate's certificate."""
    return authority.issue(GATE, LEGACY, RECORDER, "localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def resign_identity(authority):
    """The certificate of gates with an identity of their own towards S3."""
    return authority.issue(*identities.NAMES, "localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def seaweed(workspace, authority):
    """The S3 that verifies signatures."""
    server = seaweeds.SeaweedFS(workspace / "seaweed", authority)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def links(seaweed) -> Links:
    """Presigned links for SeaweedFS."""
    return Links(seaweed)


@pytest.fixture(scope="session")
def gate(workspace, authority, identity, seaweed):
    """The gate in front of SeaweedFS: one route for today's links, one for SigV2 ones of path style."""
    second = authority.issue(SECOND, algorithm="rsa")
    upstream = {"connect": [f"127.0.0.1:{seaweed.https}"], "ca": authority.ca}
    routes = [
        Route([GATE, "localhost", SECOND], host=seaweeds.HOST, **upstream),
        Route([LEGACY], host=seaweeds.DOMAIN, **upstream),
    ]
    started = Gate(workspace / "gates" / "main", [identity, second], routes).start()
    yield started
    assert started.stop() == 0, started.output()


@pytest.fixture(scope="session")
def start_gate(workspace, identity):
    """Starts gates of other shapes; they end with the session."""
    running: list[Gate] = []

    def start(*routes: Route, identities=None, **options) -> Gate:
        directory = workspace / "gates" / str(len(running) + 1)
        running.append(Gate(directory, identities or [identity], list(routes), **options))
        return running[-1].start()

    yield start
    statuses = [(each.stop(), each.output()) for each in running]
    assert all(status == 0 for status, _ in statuses), statuses


@pytest.fixture(scope="session")
def upstream_identity(authority):
    """A certificate for the name links are signed for."""
    return authority.issue(seaweeds.HOST, "127.0.0.1")


@pytest.fixture(scope="module")
def recorder_upstream(upstream_identity):
    server = Upstream(upstream_identity)
    yield server
    server.close()


@pytest.fixture
def recorder(recorder_upstream) -> Upstream:
    """A scripted upstream, fresh for each test."""
    recorder_upstream.forget()
    return recorder_upstream


@pytest.fixture(scope="module")
def recorded_gate(start_gate, recorder_upstream, authority) -> Gate:
    """A gate of one worker in front of the scripted upstream, with short timeouts."""
    route = Route([RECORDER], [recorder_upstream.address], seaweeds.HOST, ca=authority.ca)
    timeouts = {"upstream-connect": "1s", "upstream-response": "3s", "upstream-body": "3s", "client-body": "2s"}
    return start_gate(route, workers=1, timeouts=timeouts, limits={"spool-bytes": "1 MiB"})


@pytest.fixture
def spare_upstream(upstream_identity):
    """Makes further scripted upstreams that end with the test."""
    made: list[Upstream] = []

    def make(identity=upstream_identity) -> Upstream:
        made.append(Upstream(identity))
        return made[-1]

    yield make
    for each in made:
        each.close()
