"""The package under a real systemd: installs it, runs it, breaks it, upgrades it and removes it.

--quick does so in a container (seconds, this machine's kernel), else it is a machine in software emulation with a
kernel of Debian's own (minutes). Debian comes from where this machine has its packages from, or FILMGATE_BOOT_MIRROR.
Exit status: 0 all checks are ok, 1 one is not, 2 the test could not be done."""

import argparse
import datetime
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import debian
import machine
import package
import payload

PROJECT = Path(__file__).resolve().parents[2]
RUNS = PROJECT / "packaging" / "runs"
TOOLS = {"mmdebstrap": "mmdebstrap", "dpkg-deb": "dpkg"}
TOOLS_QUICK = {"systemd-nspawn": "systemd-container"}
TOOLS_FULL = {"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs"}
# Debian 12's own kernel, and the newest stable Debian with its.
BOTH = [("bookworm", "stable"), ("trixie", "stable")]


def main() -> int:
    options = arguments()
    missing_tools(options.quick)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    target = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target")).resolve()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with debian.directory(target) as work:
            first = options.deb.resolve() if options.deb else package.build(PROJECT, options.program, work)
            second = package.renumbered(first, work)
            passed = [run(options, target, work, first, second, *chosen) for chosen in to_boot(options)]
    # No check has failed: none could be made.
    except (machine.Broken, OSError, subprocess.SubprocessError) as broken:
        stop(str(broken))
    return 0 if all(passed) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="packaging/boot-test", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a container instead of a machine")
    parser.add_argument("--deb", type=Path, metavar="PATH", help="test this package instead of building one")
    parser.add_argument("--program", type=Path, metavar="PATH", help="build the package around this program")
    parser.add_argument("--distro", choices=debian.DISTROS, help="default: bookworm with --quick, else both")
    parser.add_argument("--kernel", choices=debian.KERNELS, help="the distribution's own, or its backports'")
    parser.add_argument("--kvm", action="store_true", help="not in software, for machines where KVM works")
    parser.add_argument("--record", action="store_true", help="keep the transcript in packaging/runs")
    return parser.parse_args()


def missing_tools(quick: bool) -> None:
    """Ends the program if it would fail later."""
    tools = TOOLS | (TOOLS_QUICK if quick else TOOLS_FULL)
    packages = [package for tool, package in tools.items() if not shutil.which(tool)]
    if packages:
        hint = "" if quick else " (on Debian 12 take qemu-system-x86 from bookworm-backports if it conflicts)"
        stop(f"please install {' '.join(packages)}{hint}")
    if os.geteuid() != 0:
        stop("please run as root: it makes a Debian root and boots it")


def stop(message: str) -> None:
    print(f"boot-test: {message}", file=sys.stderr)
    sys.exit(2)


def to_boot(options: argparse.Namespace) -> list[tuple[str, str]]:
    if options.quick or options.distro or options.kernel:
        return [(options.distro or "bookworm", options.kernel or "stable")]
    return BOTH


def run(options, target: Path, work: Path, first: Path, second: Path, distro: str, kernel: str) -> bool:
    """One boot, from the cached root to the verdict."""
    began = time.monotonic()
    chosen = debian.Debian(distro, kernel, with_kernel=not options.quick)
    cache = target / "boot"
    root = chosen.root(cache)
    image = None if options.quick else chosen.image(cache)
    prepared = time.monotonic()
    cargo = payload.gather(PROJECT, work / "payload", first, second, emulated=not options.quick)
    booted = machine.Container(root, cargo) if options.quick else machine.Emulator(image, cargo, work, options.kvm)
    outcome = booted.run()
    done = time.monotonic()
    kind = "container" if options.quick else f"kernel {kernel}"
    verdict = "all ok" if outcome.passed else "FAILED"
    summary = f"{distro}, {kind}: {verdict}; prepared in {prepared - began:.0f} s, run in {done - prepared:.0f} s"
    print(f"boot-test: {summary}", flush=True)
    if options.record:
        record(outcome, summary)
    return outcome.passed


def record(outcome: machine.Outcome, summary: str) -> None:
    """Only the guest's own words go to the file: nothing of the machine that ran it."""
    RUNS.mkdir(exist_ok=True)
    kernel = next((line.split()[1] for line in outcome.lines if line.startswith("kernel ")), platform.release())
    path = RUNS / f"{datetime.date.today()}-{kernel}.txt"
    path.write_text("\n".join([*outcome.lines, summary, ""]))
    print(f"boot-test: wrote {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    sys.exit(main())
