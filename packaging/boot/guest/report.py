"""The checks in the order of the file they stand in, and a line about each as it is done."""

import signal
import sys
import time
import traceback
from pathlib import Path

import service

JOURNAL_LINES = 40
# On a quiet machine; what takes longer will never end.
CHECK_SECONDS = 60
_checks = []


class NotHere(Exception):
    """Raised by a check of something that this system does not have."""


def check(name: str, own_kernel: bool = False, vital: bool = False):
    """Makes a check of a function, which raises what is wrong.

    `own_kernel`: a container on the kernel of somebody else cannot do it. `vital`: nothing can follow a failure."""

    def register(function):
        _checks.append((name, function, own_kernel, vital))
        return function

    return register


def say(fact: str) -> None:
    """A figure that is worth knowing, whatever it is."""
    print(f"        {fact}", flush=True)


def run_all() -> int:
    """Runs every check, and gives the exit status of the whole."""
    failures, skipped, began = 0, 0, time.monotonic()
    signal.signal(signal.SIGALRM, stuck)
    for name, function, own_kernel, vital in _checks:
        if own_kernel and not service.SETTINGS["own_kernel"]:
            skipped += 1
            print(f"-       {name} (needs a kernel of its own)", flush=True)
            continue
        try:
            within_its_time(function)
            print(f"ok      {name}", flush=True)
        except NotHere as why:
            skipped += 1
            print(f"-       {name} ({why})", flush=True)
        except Exception as failure:
            failures += 1
            what = failure if isinstance(failure, AssertionError) else repr(failure)
            print(f"FAILED  {name}: {what or where(failure)}", flush=True)
            if failures == 1:
                show_journal()
            if vital:
                break
    print(f"{len(_checks)} checks, {failures} failed, {skipped} not done, {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failures else 0


def within_its_time(function) -> None:
    signal.alarm(round(service.seconds(CHECK_SECONDS)))
    try:
        function()
    finally:
        signal.alarm(0)


def stuck(_, frame) -> None:
    """Ends a check that does not end by itself, and says where it was."""
    lines = [f"{Path(at.filename).name}:{at.lineno}" for at in traceback.extract_stack(frame)[-6:]]
    raise AssertionError(f"it does not end: {' '.join(lines)}")


def where(failure: Exception) -> str:
    """The line of a bare assertion."""
    frame = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}: {frame.line}"


def show_journal() -> None:
    for line in service.journal().splitlines()[-JOURNAL_LINES:]:
        print(f"      | {line}")
    sys.stdout.flush()
