"""The program as an administrator meets it."""

import signal
import subprocess
import threading

import pytest

import ports
from conftest import RECORDER
from gate import Route, binary
from programs import run
from seaweed import HOST
from upstream import answer


def test_print_default_parses(tmp_path):
    text = run(binary(), "print-default", text=True).stdout
    assert "[[route]]" in text and "[listen]" in text
    file = tmp_path / "default.toml"
    file.write_text(text)
    done = run(binary(), "check", "--config", file, check=False, text=True)
    said = done.stdout + done.stderr
    assert "not TOML" not in said and "unknown key" not in said, said


def test_check_names_every_problem_with_its_key_and_line(recorded_gate, tmp_path):
    file = tmp_path / "broken.toml"
    good = recorded_gate.config.read_text()
    broken = good.replace('region = "us-west-2"', 'regoin = "us-west-2"').replace(
        'min-version = "1.2"', 'min-version = "1.1"'
    )
    assert broken != good
    file.write_text(broken)
    for command in ("check", "run"):
        done = run(binary(), command, "--config", file, check=False, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 2, said
        assert "regoin" in said and "region" in said and "tls.min-version" in said
        for wrong in ("regoin", "min-version"):
            line = next(number for number, text in enumerate(broken.splitlines(), 1) if wrong in text)
            assert str(line) in said
    assert run(binary(), "check", "--config", recorded_gate.config).returncode == 0


def test_a_transfer_under_way_is_finished_before_the_program_ends(start_gate, authority, spare_upstream):
    upstream, go = spare_upstream(), threading.Event()

    def script(request, peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(1_000_000))
        assert go.wait(30)
        peer.send(bytes(1_000_000))

    upstream.script = script
    gate = start_gate(Route([RECORDER], [upstream.address], HOST, ca=authority.ca))
    with gate.connect() as connection:
        connection.send(connection.head("GET", "/long"))
        head = connection.response_head()
        gate.process.send_signal(signal.SIGTERM)
        ports.poll("the listener's end", lambda: not ports.answers(gate.https), 10)
        assert gate.process.poll() is None, "it waits for the transfer"
        go.set()
        connection.read_body(head, "GET")
        assert head.complete and len(head.body) == 2_000_000
    assert gate.process.wait(10) == 0


def test_idle_connections_do_not_delay_the_end(start_gate, authority, spare_upstream):
    upstream = spare_upstream()
    upstream.script = answer()
    gate = start_gate(Route([RECORDER], [upstream.address], HOST, ca=authority.ca))
    with gate.connect() as connection:
        assert connection.exchange("GET", "/a").status == 200
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(5) == 0


def test_a_port_that_is_taken_is_named(recorded_gate):
    """The admin port stays taken; the data ports can be shared by design."""
    try:
        done = run(binary(), "run", "--config", recorded_gate.config, check=False, text=True, seconds=10)
    except subprocess.TimeoutExpired:
        pytest.fail("it started although its admin port was taken")
    assert done.returncode != 0
    assert str(recorded_gate.admin) in done.stdout + done.stderr
