"""Free ports and polling: what every server in the tests needs."""

import random
import socket
import time

# Below the kernel's ephemeral range, so that no outgoing connection takes a port between choosing and binding it.
_RANGE = range(14000, 32000)
_given: set[int] = set()


def free() -> int:
    """A port of the loopback interface that nobody listens on, given out once a session."""
    for port in random.Random().sample(_RANGE, 500):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port on the loopback interface")


def poll(what: str, check, seconds: float = 10.0, pause: float = 0.01):
    """Waits until `check()` is truthy and returns that; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)


def answers(port: int, seconds: float = 0.5) -> bool:
    """Whether somebody accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), seconds).close()
    except OSError:
        return False
    return True
