"""A service manager's side of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3)."""

import contextlib
import ctypes
import os
import socket
import time
from pathlib import Path

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


class Manager:
    """Hears what a service says; `environment` is what it has to be started with."""

    def __init__(self, path: Path, watchdog: float | None = None):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path)}
        if watchdog:
            self.environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def next(self, seconds: float) -> dict[str, str] | None:
        """The next message, or nothing within so many seconds."""
        self.socket.settimeout(seconds)
        try:
            return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))
        except TimeoutError:
            return None

    def until(self, key: str, seconds: float, value: str = "") -> dict[str, str]:
        """The next message that holds `key` with a value that has `value` in it."""
        seen, end = [], time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            message = self.next(left)
            if message and key in message and value in message[key]:
                return message
            seen.append(message)
        raise AssertionError(f"no {key}={value} within {seconds} s, only {seen}")

    def forget(self) -> None:
        """Throws away what was said so far."""
        while self.next(0.01):
            pass


@contextlib.contextmanager
def held(process: int, name: str):
    """Stops one thread of a child, and no other, for as long as the block runs: a worker that is stuck."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4

    def ptrace(request: int) -> None:
        if libc.ptrace(request, thread, 0, 0):
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {name}")

    tasks = Path(f"/proc/{process}/task")
    thread = next(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == name)
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)
