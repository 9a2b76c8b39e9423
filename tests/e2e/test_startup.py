"""What a gate says when it cannot start, or starts in spite of something."""

import errno
import os
import resource
import shutil
import socket
import subprocess

import pytest

import ports
import sandbox
from gate import Gate, Route, binary
from notified import Manager
from programs import run
from seaweed import HOST

DISABLED = "/proc/sys/kernel/io_uring_disabled"


@pytest.fixture
def ground(tmp_path, identity):
    """A directory that everybody may read, with a certificate, and what makes configurations in it."""
    os.chmod(tmp_path, 0o755)
    for parent in tmp_path.parents:
        if not os.stat(parent).st_mode & 0o001 and os.stat(parent).st_uid == os.getuid() and len(parent.parts) > 2:
            os.chmod(parent, 0o711)
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key")}
    shutil.copy(identity.certificate, files["certificate"])
    shutil.copy(identity.key, files["key"])
    files["key"].chmod(0o644)
    program = tmp_path / "filmgate"
    shutil.copy(binary(), program)

    def configure(https: str | None = None, workers: int = 2, connect: str = "127.0.0.1:9", connections: int = 100):
        config = tmp_path / "filmgate.toml"
        config.write_text(
            f'[listen]\nhttps = ["{https or f"127.0.0.1:{ports.free()}"}"]\nadmin = "off"\n'
            f'[tls]\ncertificate = "{files["certificate"]}"\nprivate-key = "{files["key"]}"\n'
            f"[workers]\ncount = {workers}\npin = false\n"
            f'[limits]\nconnections = {connections}\n[access-log]\nfile = "off"\n'
            f'[[route]]\nhosts = ["s3-proxy.mystudio.com"]\nbucket = "mystudio-media"\nregion = "us-west-2"\n'
            f'[route.upstream]\nconnect = ["http://{connect}"]\nallow-plaintext = true\n'
        )
        return config

    configure.program, configure.files, configure.directory = str(program), files, tmp_path
    return configure


def both(ground, config, before=(), **options) -> tuple[str, str]:
    """What `run` says when it ends with a failure, and what `check` says, which lets it pass."""
    words = [*before, ground.program]
    started = run(*words, "run", "--config", config, check=False, text=True, seconds=20, **options)
    assert started.returncode == 1, started.stdout + started.stderr
    checked = run(*words, "check", "--config", config, text=True, seconds=20, **options)
    return started.stderr, checked.stderr


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("io_uring_setup", errno.EPERM, "a sandbox forbids io_uring"),
        ("io_uring_enter", errno.EPERM, "a sandbox forbids io_uring"),
        ("io_uring_setup", errno.ENOSYS, "Linux 5.19 or newer"),
        ("io_uring_setup", errno.EINVAL, "too old; Linux 5.19 or newer"),
        ("io_uring_setup", errno.ENOMEM, "LimitMEMLOCK"),
        ("io_uring_setup", errno.EMFILE, "LimitNOFILE"),
    ],
)
def test_a_kernel_that_grants_no_ring_is_explained(ground, call, error, said):
    for text in both(ground, ground(), preexec_fn=sandbox.refuse(call, error)):
        assert "cannot set up io_uring" in text and said in text, text


def test_a_ring_need_not_be_asked_what_it_can_do(ground):
    """A profile that forbids only what is not needed."""
    checked = run(
        ground.program, "check", "--config", ground(), preexec_fn=sandbox.refuse("io_uring_register"), text=True
    )
    assert "io_uring" not in checked.stderr


@pytest.mark.parametrize("value", [1, 2])
def test_io_uring_that_is_switched_off_is_told_from_a_sandbox(ground, tmp_path, value):
    file = tmp_path / "io_uring_disabled"
    file.write_text(f"{value}\n")
    before = sandbox.with_file_at(DISABLED, str(file))
    for text in both(ground, ground(), before, preexec_fn=sandbox.refuse("io_uring_setup")):
        assert f"kernel.io_uring_disabled={value}" in text and "sysctl -w kernel.io_uring_disabled=0" in text, text


def test_rings_fit_the_locked_memory_that_is_said_to_be_needed(ground):
    """Linux counts rings against the limit, but for some years it did not."""
    workers, each, counts = 4, 208 * 1024, sandbox.rings_are_counted()
    config = ground(workers=workers)
    for share, fits in ((1.0, True), (0.25, False)):
        limits = sandbox.limit((resource.RLIMIT_MEMLOCK, int(workers * each * share)))
        checked = run(ground.program, "check", "--config", config, preexec_fn=limits, text=True).stderr
        if fits or not counts:
            assert "io_uring" not in checked, checked
        else:
            assert "208 KiB for each worker are needed and 208 KiB are allowed" in checked


def test_too_few_descriptors_are_counted(ground):
    too_few = sandbox.limit((resource.RLIMIT_NOFILE, 24))
    started = run(ground.program, "run", "--config", ground(), preexec_fn=too_few, check=False, text=True)
    assert started.returncode == 1
    assert "only 24 descriptors may be open, and 2 workers need 46" in started.stderr, started.stderr
    assert "LimitNOFILE" in started.stderr
    few = sandbox.limit((resource.RLIMIT_NOFILE, 1000))
    checked = run(ground.program, "check", "--config", ground(connections=1000), preexec_fn=few, text=True)
    assert "1000 descriptors may be open; 2 workers with limits.connections = 1000" in checked.stderr
    assert "LimitNOFILE" in checked.stderr


def test_a_port_below_1024_names_the_capability(ground):
    for text in both(ground, ground("127.0.0.1:443"), preexec_fn=sandbox.limit()):
        assert "cannot listen on 127.0.0.1:443: port 443" in text and "CAP_NET_BIND_SERVICE" in text, text


def test_a_port_that_another_program_has_is_named(ground):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for text in both(ground, ground(f"127.0.0.1:{port}")):
            assert f"cannot listen on 127.0.0.1:{port}" in text and f"sport = :{port}" in text, text


def test_the_admin_port_that_another_program_has_is_named(ground):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, config = taken.getsockname()[1], ground()
        config.write_text(config.read_text().replace('admin = "off"', f'admin = "127.0.0.1:{port}"'))
        taken.settimeout(0.01)
        for text in both(ground, config):
            assert "listen.admin: " in text and f"cannot listen on 127.0.0.1:{port}" in text, text


def test_a_check_by_anybody_knows_the_ports_of_a_gate_that_runs_from_those_of_others(ground):
    config, admin = ground(), ports.free()
    text = config.read_text().replace('admin = "off"', f'admin = "127.0.0.1:{admin}"')
    config.write_text(text)
    config.chmod(0o644)
    process = subprocess.Popen([ground.program, "run", "--config", str(config)], stdin=subprocess.DEVNULL)
    try:
        ports.poll("the gate", lambda: ports.answers(admin))
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            more = config.with_name("more.toml")
            more.write_text(text.replace("admin =", f'http = ["127.0.0.1:{taken}"]\nadmin ='))
            more.chmod(0o644)
            for who in (None, sandbox.limit()):
                checked = run(ground.program, "check", "--config", config, text=True, preexec_fn=who)
                assert "cannot listen" not in checked.stderr, checked.stderr
                checked = run(ground.program, "check", "--config", more, text=True, preexec_fn=who)
                assert f"cannot listen on 127.0.0.1:{taken}" in checked.stderr, checked.stderr
                assert checked.stderr.count("cannot listen") == 1, checked.stderr
                checked = run(ground.program, "check", "--to-start", "--config", more, text=True, preexec_fn=who)
                assert "cannot listen" not in checked.stderr, checked.stderr
            other.settimeout(0.01)
            with pytest.raises(TimeoutError):
                other.accept()
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_key_that_may_not_be_read_and_one_of_another_certificate(ground, authority):
    config = ground()
    other = authority.issue("other.mystudio.com")
    key = ground.files["key"]
    shutil.copy(other.key, key)
    for command in ("run", "check"):
        done = run(ground.program, command, "--config", config, check=False, text=True)
        assert done.returncode == 2 and "tls.certificate" in done.stderr, done.stderr
        assert str(key) in done.stderr, done.stderr
    key.chmod(0)
    done = run(ground.program, "run", "--config", config, check=False, text=True, preexec_fn=sandbox.limit())
    assert done.returncode == 2
    assert f"{key} may not be read by the user the gate runs as" in done.stderr


def test_what_is_no_file_is_refused_at_once(ground):
    config, certificate = ground(), ground.files["certificate"]
    certificate.unlink()
    os.mkfifo(certificate)
    for command in (["run"], ["check"], ["check", "--to-start"]):
        done = run(ground.program, *command, "--config", config, check=False, text=True, seconds=10)
        assert done.returncode == 2 and "no ordinary file" in done.stderr, done.stderr


def started(ground, config, tmp_path, before=()) -> str:
    """What a gate says that starts all the same."""
    with Manager(tmp_path / "notify") as manager:
        log = tmp_path / "stderr"
        environment = {**os.environ, **manager.environment}
        with log.open("wb") as out:
            command = [*before, ground.program, "run", "--config", str(config)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        try:
            manager.until("READY", 30)
        finally:
            process.terminate()
            process.wait(20)
        return log.read_text()


def test_a_clock_before_the_build_is_loud_and_not_fatal(ground, tmp_path):
    config, before = ground(), ["faketime", "2020-01-01 00:00:00"]
    said = started(ground, config, tmp_path, before)
    assert "this machine's clock is wrong" in said, said
    checked = run(*before, ground.program, "check", "--config", config, check=False, text=True)
    assert "warning: this machine's clock is wrong" in checked.stderr, checked.stderr


def test_an_upstream_without_an_address_is_loud_and_not_fatal(ground, tmp_path):
    config = ground(connect="s3.nowhere.invalid:80")
    said = started(ground, config, tmp_path)
    assert "no address for" in said and "s3.nowhere.invalid" in said, said
    checked = run(ground.program, "check", "--config", config, text=True)
    assert "route[0].upstream.connect: warning: no address for" in checked.stderr, checked.stderr


def test_a_certificate_that_has_expired_is_refused_by_a_check_and_served_with_complaints(ground, tmp_path):
    config, before = ground(), ["faketime", "2060-01-01 00:00:00"]
    checked = run(*before, ground.program, "check", "--config", config, check=False, text=True)
    assert checked.returncode == 2 and "expired" in checked.stderr, checked.stderr
    said = started(ground, config, tmp_path, before)
    assert "ERROR" in said and "expired" in said, said


def test_a_gate_that_cannot_start_is_not_said_to_be_ready(ground, tmp_path):
    with Manager(tmp_path / "notify") as manager, socket.create_server(("127.0.0.1", 0)) as taken:
        config = ground(f"127.0.0.1:{taken.getsockname()[1]}")
        run(ground.program, "run", "--config", config, check=False, env={**os.environ, **manager.environment})
        assert manager.next(0.2) is None
