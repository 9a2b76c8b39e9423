"""Boots what `debian` made, follows the transcript of the checks inside, and leaves nothing running behind."""

import ctypes
import os
import shutil
import signal
import subprocess
import tarfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import debian

# The last line of a transcript: this and the exit status of the checks.
END = "END "
# Older groups without processes are what a run left that was killed.
GROUP_SECONDS = 7200
BOOT_TRIES = 3
STOP_SECONDS = 15
PR_SET_PDEATHSIG = 1
START = """\
exec >{transcript} 2>&1 </dev/null
cd /boot-test
python3 -B checks.py
echo "{end}$?"
sync
exec systemctl --force poweroff
"""


class Broken(Exception):
    """No verdict came out of the guest."""


class NoBoot(Broken):
    """Not even a first line did."""


@dataclass
class Outcome:
    """What the guest said."""

    lines: list[str] = field(default_factory=list)
    passed: bool = False


class Container:
    """systemd-nspawn with the root unpacked for this one run, and no network but its own loopback."""

    RUN_SECONDS = 400
    BOOT_SECONDS = 90

    def __init__(self, root: Path, cargo: Path):
        self.root, self.cargo = root, cargo

    def run(self) -> Outcome:
        with debian.scratch(self.root.parent) as work, cgroups() as join:
            tree, console = work / "tree", work / "console"
            debian.unpack(self.root, tree)
            shutil.copytree(self.cargo, tree / "boot-test")
            transcript = tree / "boot-test" / "transcript"
            (tree / "boot-test" / "start").write_text(START.format(transcript="/boot-test/transcript", end=END))
            command = ["systemd-nspawn", "--quiet", "--boot", "--private-network", "--register=no", "--keep-unit"]
            command += ["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off"]
            command += [f"--machine=boot-test-{os.getpid()}", f"--directory={tree}"]
            environment = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
            with started(command, console, join, environment) as process:
                return follow(process, transcript, console, self.BOOT_SECONDS, self.RUN_SECONDS)


class Emulator:
    """qemu with a disk whose changes are forgotten and no network at all."""

    RUN_SECONDS = 3600
    BOOT_SECONDS = 240

    def __init__(self, image: debian.Image, cargo: Path, work: Path, kvm: bool):
        self.image, self.cargo, self.work = image, cargo, work
        self.accelerator = "kvm" if kvm else "tcg,thread=multi"

    def run(self) -> Outcome:
        (self.cargo / "start").write_text(START.format(transcript="/dev/ttyS1", end=END))
        archive = self.work / "payload.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(self.cargo, ".")
        for left in reversed(range(BOOT_TRIES)):
            try:
                return self._once(archive)
            except NoBoot:
                # On a busy machine the emulated clocks may be measured so wrongly at boot that the guest crawls.
                if not left:
                    raise
                print("boot-test: it did not boot in time; once more", flush=True)
        raise AssertionError

    def _once(self, archive: Path) -> Outcome:
        console, transcript = self.work / "console", self.work / "transcript"
        transcript.write_bytes(b"")
        words = "root=/dev/vda rw console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on"
        words += " tsc=reliable no_timer_check net.ifnames=0 systemd.show_status=0 audit=0"
        command = ["qemu-system-x86_64", "-accel", self.accelerator, "-M", "q35", "-cpu", "max", "-smp", "2"]
        command += ["-m", "1536", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"]
        command += ["-kernel", self.image.kernel, "-initrd", self.image.initrd, "-append", words]
        command += ["-serial", f"file:{console}", "-serial", f"file:{transcript}", "-device", "virtio-rng-pci"]
        command += ["-drive", f"if=virtio,file={self.image.disk},format=raw,cache=unsafe,snapshot=on"]
        command += ["-drive", f"if=virtio,file={archive},format=raw,readonly=on"]
        with started(command, console, os.setpgrp, {}) as process:
            return follow(process, transcript, console, self.BOOT_SECONDS, self.RUN_SECONDS)


@contextmanager
def started(command: list, console: Path, prepare, environment: dict[str, str]):
    """The process, which is gone at the end, and which does not outlive this one either."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec():
        prepare()
        os.nice(10)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with console.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            preexec_fn=before_exec,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def cgroups():
    """A group of its own in each hierarchy systemd could look at; gives the function that joins them."""
    groups, seen = [], set()
    name = f"{debian.NAME}{os.getpid()}-{time.time_ns():x}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split()[:3]
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            hierarchy = Path(before.split()[4])
            # Container hosts may have one mounted in two places.
            device = hierarchy.stat().st_dev
            if device in seen:
                continue
            seen.add(device)
            for left in hierarchy.glob(f"{debian.NAME}*"):
                if time.time() - left.stat().st_mtime > GROUP_SECONDS:
                    gone(left, tries=1)
            groups.append(hierarchy / name)

    def join():
        os.setpgrp()
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        for group in groups:
            group.mkdir()
        yield join
    finally:
        for group in groups:
            gone(group)


def gone(group: Path, tries: int = 50) -> None:
    """Removes a group and those in it, as soon as the last of their processes has been buried."""
    for directory, _, _ in os.walk(group, topdown=False):
        for _ in range(tries):
            with suppress(OSError):
                os.rmdir(directory)
                break
            time.sleep(0.1)


def follow(process, transcript: Path, console: Path, boot_seconds: float, run_seconds: float) -> Outcome:
    """Prints the transcript as it grows, to its end."""
    outcome, began, read = Outcome(), time.monotonic(), 0
    while True:
        ended = process.poll() is not None
        whole = transcript.read_bytes() if transcript.exists() else b""
        *lines, rest = whole[read:].split(b"\n")
        read = len(whole) - len(rest)
        for line in (line.decode(errors="replace").rstrip("\r") for line in lines):
            if line.startswith(END):
                outcome.passed = line == f"{END}0"
                return outcome
            outcome.lines.append(line)
            print(f"    {line}", flush=True)
        seconds = time.monotonic() - began
        if ended or seconds > (run_seconds if outcome.lines else boot_seconds):
            tail = "\n".join(console.read_text(errors="replace").splitlines()[-15:])
            kind = Broken if outcome.lines else NoBoot
            raise kind(f"{'it ended' if ended else 'it was stopped'} after {seconds:.0f} s, without a verdict\n{tail}")
        time.sleep(0.2)
