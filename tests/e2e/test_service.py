"""The gate under a service manager: what it tells, how it ends, and the sockets it is given."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import ports
from conftest import RECORDER
from gate import Route, binary
from notified import Manager, held
from seaweed import HOST
from upstream import answer

WATCHDOG = 4.0


@pytest.fixture
def manager(tmp_path):
    with Manager(tmp_path / "notify", WATCHDOG) as made:
        yield made


@pytest.fixture
def managed(start_gate, authority, spare_upstream, manager):
    """Starts a gate that tells `manager`, in front of an upstream that runs `script`."""

    def start(script=None, **options):
        upstream = spare_upstream()
        upstream.script = script or answer()
        route = Route([RECORDER], [upstream.address], HOST, ca=authority.ca)
        return start_gate(route, environment=manager.environment, **options)

    return start


def test_the_manager_is_told_of_readiness_of_connections_and_of_the_end(managed, manager):
    gate = managed(workers=2)
    assert manager.until("READY", 5)["STATUS"] == "Serving 1 route, 0 connections"
    with gate.connect() as connection:
        assert connection.exchange("GET", "/a").status == 200
        manager.until("STATUS", 15, "Serving 1 route, 1 connection")
    manager.until("STATUS", 15, "0 connections")
    gate.process.send_signal(signal.SIGTERM)
    stopping = manager.until("STOPPING", 5)
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 30_000_000
    assert gate.process.wait(10) == 0


def test_a_reload_is_told_with_its_time_and_its_outcome(managed, manager):
    gate = managed(workers=2)
    manager.until("READY", 5)
    good = gate.config.read_text()
    for text, said in ((good + "nonsense = 1\n", "refused"), (good, "Serving 1 route")):
        gate.config.write_text(text)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        gate.process.send_signal(signal.SIGHUP)
        stamp = int(manager.until("RELOADING", 10)["MONOTONIC_USEC"])
        assert before <= stamp <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        status = manager.until("READY", 10)["STATUS"]
        assert said in status and status.startswith("Serving 1 route, 0 connections"), status
    with gate.connect() as connection:
        assert connection.exchange("GET", "/ping").status == 200


def test_signs_of_life_stop_while_one_worker_is_stuck(managed, manager):
    gate = managed(workers=2)
    for _ in range(3):
        manager.until("WATCHDOG", WATCHDOG)
    with held(gate.process.pid, "shard-1"):
        # One that was due before the worker was held may still be on its way.
        manager.next(WATCHDOG / 2)
        manager.forget()
        end = time.monotonic() + 1.5 * WATCHDOG
        while (left := end - time.monotonic()) > 0:
            message = manager.next(left)
            assert message is None or "WATCHDOG" not in message, "a sign of life of a gate that is stuck"
        ports.poll("the complaint", lambda: re.search("a shard is stuck.*shard=1", gate.output()), 10)
    manager.until("WATCHDOG", WATCHDOG)
    assert gate.process.poll() is None
    with gate.connect() as connection:
        assert connection.exchange("GET", "/ping").status == 200


def test_signs_of_life_go_on_while_transfers_and_the_end_take_their_time(managed, manager):
    go = threading.Event()

    def script(request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(1_000_000))
        assert go.wait(60)
        peer.send(bytes(1_000_000))

    gate = managed(script, workers=2)
    with gate.connect() as connection:
        connection.send(connection.head("GET", "/long"))
        head = connection.response_head()
        gate.process.send_signal(signal.SIGTERM)
        manager.until("STATUS", 10, "Stopping: 1 connection left")
        for _ in range(3):
            manager.until("WATCHDOG", WATCHDOG)
        go.set()
        connection.read_body(head, "GET")
        assert len(head.body) == 2_000_000
    assert gate.process.wait(10) == 0
    assert "all connections have ended" in gate.output()


def test_what_does_not_end_in_time_is_broken_off_and_counted(managed, manager):
    gone = threading.Event()

    def script(request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(1_000_000))
        gone.wait(60)

    gate = managed(script, workers=2, timeouts={"drain": "2s", "upstream-body": "50s"})
    connections = [gate.connect() for _ in range(3)]
    try:
        for connection in connections[:2]:
            connection.send(connection.head("GET", "/long"))
            connection.response_head()
        began = time.monotonic()
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(15) == 0
        took = time.monotonic() - began
        assert 2 <= took < 10, f"{took} s"
        assert re.search("broke off connections.*cut=2 ", gate.output()), gate.output()
    finally:
        gone.set()
        for connection in connections:
            connection.close()


def with_sockets(config, sockets, environment) -> subprocess.Popen:
    """The gate as systemd starts it: sockets from descriptor 3 on, named in its environment."""
    numbers = [each.fileno() for each in sockets]
    # Out of the way first: a socket may have the number that another is to have.
    program = (
        "import fcntl, os, sys;"
        f"moved = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in {numbers}];"
        "[os.dup2(number, 3 + at) for at, number in enumerate(moved)];"
        "[os.close(number) for number in moved];"
        f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(sockets)}');"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = ["python3", "-c", program, binary(), "run", "--config", str(config)]
    return subprocess.Popen(command, pass_fds=numbers, stdin=subprocess.DEVNULL, env={**os.environ, **environment})


def test_clients_of_a_socket_that_systemd_holds_wait_for_the_next_process(managed, manager, tmp_path):
    """The socket lives on: nobody is refused between two processes, and all workers serve it."""
    gate = managed(workers=2)
    assert gate.stop() == 0
    config = tmp_path / "filmgate.toml"

    def workers():
        return {record["id"][:16] for record in gate.records() if record.get("status") == 200}

    with socket.create_server(("127.0.0.1", 0), backlog=64) as kept, socket.create_server(("127.0.0.1", 0)) as stray:
        old, gate.https = gate.https, kept.getsockname()[1]
        config.write_text(gate.config.read_text().replace(f":{old}", f":{gate.https}"))
        served_before = workers()
        for _ in range(3):
            waiting = socket.create_connection(("127.0.0.1", gate.https), timeout=20)
            waiting.sendall(b"GET / HTTP/1.1\r\n\r\n")
            manager.forget()
            process = with_sockets(config, [kept, stray], manager.environment)
            try:
                manager.until("READY", 20)
                assert waiting.recv(12) == b"HTTP/1.1 400", "it speaks plain HTTP to the TLS port, and is told so"
                waiting.close()
                connections = [gate.connect() for _ in range(8)]
                for connection in connections:
                    assert connection.exchange("GET", "/a").status == 200
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
                for connection in connections:
                    connection.close()
                assert len(workers() - served_before) == 2, "both workers serve it"
                served_before = workers()
            finally:
                process.kill()
                process.wait()
        with socket.create_connection(("127.0.0.1", gate.https), timeout=5):
            kept.settimeout(5)
            kept.accept()[0].close()
