"""The installed service, as systemctl and the journal show it."""

import json
import re
import subprocess
import time
from pathlib import Path

SETTINGS = json.loads(Path("/boot-test/settings.json").read_text())
PATIENCE = SETTINGS["patience"]
# One that takes longer has hung.
COMMAND_SECONDS = 50
UNIT = "filmgate.service"
PROGRAM = "/usr/bin/filmgate"
CONFIGURATION = Path("/etc/filmgate/filmgate.toml")
DROP_INS = Path("/etc/systemd/system/filmgate.service.d")


def seconds(quiet: float) -> float:
    """How long to wait for what takes at most this long on a quiet machine."""
    return quiet * PATIENCE


def run(*command, expect: int | None = 0) -> str:
    """The command's output, both streams; `expect` is the exit status, None any."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds(COMMAND_SECONDS),
        text=True,
    )
    line = " ".join(str(word) for word in command)
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"`{line}` gave {done.returncode}, not {expect}:\n{done.stdout}")
    return done.stdout


def show(name: str) -> str:
    """A property of the unit."""
    return run("systemctl", "show", "--value", f"--property={name}", UNIT).strip()


def main_pid() -> int:
    return int(show("MainPID"))


def state() -> str:
    return show("ActiveState")


def journal(since: int = 0) -> str:
    """What the service and systemd said about it, from a character on."""
    return run("journalctl", "--unit", UNIT, "--output=cat", "--no-pager", "--quiet")[since:]


def status_field(pid: int, name: str) -> str:
    """A line of /proc/PID/status."""
    return re.search(rf"^{name}:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M)[1]


def drop_in(name: str, text: str | None) -> None:
    """Writes or removes an administrator's change to the unit."""
    path = DROP_INS / f"{name}.conf"
    if text is None:
        path.unlink()
    else:
        DROP_INS.mkdir(exist_ok=True)
        path.write_text(text)
    run("systemctl", "daemon-reload")


def until(what: str, condition, quiet: float):
    """Waits for a true value, and gives it."""
    limit = time.monotonic() + seconds(quiet)
    while not (value := condition()):
        assert time.monotonic() < limit, f"{what}: not within {seconds(quiet):.0f} s; the service is {state()}"
        time.sleep(0.1)
    return value
