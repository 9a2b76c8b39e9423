"""A Debian to boot, made once and kept: a root with systemd and Python, for machines with kernel and initrd."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

DISTROS = ("bookworm", "trixie")
KERNELS = ("stable", "backports")
# Where to take Debian from, instead of where this machine has it from.
MIRROR_VARIABLE = "FILMGATE_BOOT_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What the package under test asks for, so that a missing word there shows, and what the test needs itself.
CONTROL = Path(__file__).resolve().parents[1] / "deb" / "control"
PACKAGES = ["systemd-sysv", "dbus", "openssl", "python3-minimal", "libpython3-stdlib"]
PACKAGES_MACHINE = ["udev", "kmod", "zstd"]
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MAKING_SECONDS = 400
ROOM_IN_MEMORY = 3 << 30
# What everything begins with that is made for this run only, and the file in it that is locked until it is over.
NAME = "boot-test-"
LOCK = "lock"

# Nothing of a test depends on them, and each costs a second in emulation.
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"]
MASKED += ["getty@.service", "serial-getty@.service", "console-getty.service", "systemd-hwdb-update.service"]
MASKED += ["systemd-firstboot.service", "systemd-pstore.service", "ldconfig.service", "e2scrub_reap.service"]
FILES = {
    "etc/hostname": "edge\n",
    "etc/hosts": "127.0.0.1 localhost edge\n",
    "etc/fstab": "",
    "etc/machine-id": "",
    "etc/systemd/journald.conf.d/test.conf": "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n",
    "etc/systemd/system.conf.d/test.conf": "[Manager]\nDefaultTimeoutStartSec=600s\nDefaultDeviceTimeoutSec=600s\n",
    "etc/systemd/system/boot-test.service": """\
[Unit]
After=multi-user.target
[Service]
Environment=LC_ALL=C.UTF-8 SYSTEMD_COLORS=0 DEBIAN_FRONTEND=noninteractive
# A machine is handed the files as an archive on its second disk.
ExecStartPre=/bin/sh -c '! test -b /dev/vdb || { mkdir -p /boot-test && tar -xf /dev/vdb -C /boot-test; }'
ExecStart=/bin/sh /boot-test/start
[Install]
WantedBy=multi-user.target
""",
}


@dataclass(frozen=True)
class Image:
    """What a machine is started with."""

    kernel: Path
    initrd: Path
    disk: Path


@dataclass(frozen=True)
class Debian:
    """A release, and for machines the kernel that goes with it."""

    distro: str
    kernel: str
    with_kernel: bool

    def root(self, cache: Path) -> Path:
        """The root as an archive, from `cache` if it is there."""
        archive = self._cached(cache, "tar")
        if not archive.exists():
            print(f"boot-test: making a {self.distro} root; the next run has it already", flush=True)
            for outdated in cache.glob(f"{self._kind()}-*"):
                outdated.unlink()
            with scratch(cache) as work:
                self._make_root(work, work / "root.tar")
                keep(work / "root.tar", archive)
        return archive

    def image(self, cache: Path) -> Image:
        """The same as a disk, with its kernel and initrd beside it."""
        image = Image(*(self._cached(cache, suffix) for suffix in ("vmlinuz", "initrd", "ext4")))
        if not image.disk.exists():
            with scratch(cache) as work:
                tree, disk = work / "tree", work / "disk"
                unpack(self.root(cache), tree)
                keep(only(tree.glob("boot/vmlinuz-*")), image.kernel)
                keep(only(tree.glob("boot/initrd.img-*")), image.initrd)
                with disk.open("wb") as file:
                    file.truncate(2 << 30)
                run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tree, disk])
                keep(disk, image.disk)
        return image

    def _cached(self, cache: Path, suffix: str) -> Path:
        cache.mkdir(parents=True, exist_ok=True)
        # Another recipe makes another root.
        recipe = sha256(Path(__file__).read_bytes() + CONTROL.read_bytes()).hexdigest()[:8]
        return cache / f"{self._kind()}-{recipe}.{suffix}"

    def _kind(self) -> str:
        return f"{self.distro}-{f'kernel-{self.kernel}' if self.with_kernel else 'container'}"

    def _make_root(self, work: Path, archive: Path) -> None:
        packages, suites = [*PACKAGES, *depends()], [self.distro]
        if self.with_kernel:
            backported = self.kernel == "backports"
            suite = f"{self.distro}-backports" if backported else self.distro
            suites += [suite] if backported else []
            packages += [*PACKAGES_MACHINE, f"{KERNEL_PACKAGE}/{suite}"]
        overlay = work / "overlay"
        lay_out(overlay)
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
        command += ['--aptopt=Acquire::Languages "none"', "--aptopt=Acquire::Retries 3", "--dpkgopt=force-unsafe-io"]
        for unread in ("doc", "man", "locale"):
            command.append(f"--dpkgopt=path-exclude=/usr/share/{unread}/*")
        # Before the packages, for the initrd is made by the kernel's.
        command += [f"--essential-hook=tar -C {overlay} -c . | tar -C \"$1\" -x --no-same-owner"]
        # These two are rewritten by packages on their way in.
        command += ["--customize-hook=: >\"$1/etc/machine-id\"", f"--customize-hook=cp {overlay}/etc/host* \"$1/etc/\""]
        command += ["--customize-hook=systemctl --root=\"$1\" --quiet enable boot-test.service"]
        # What was left out of the root is to be installed by the package under test.
        command += ["--customize-hook=rm -f \"$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap\""]
        signed = f"[signed-by={KEYRING}] " if Path(KEYRING).exists() else ""
        # Without a mirror, mmdebstrap knows one.
        sources = [f"deb {signed}{where} {suite} main" for where in mirror() for suite in suites]
        run([*command, self.distro, archive, *sources], TMPDIR=str(work))


def depends() -> list[str]:
    """The names of the packages that the package under test depends on."""
    line = re.search(r"^Depends: (.*)$", CONTROL.read_text(), re.M)[1]
    return [word.split()[0] for word in line.split(", ")]


def mirror() -> list[str]:
    """Where Debian's packages are, if the environment or this machine's own sources say so."""
    if chosen := os.environ.get(MIRROR_VARIABLE):
        return [chosen]
    form = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return re.findall(r"^Debian main [a-z]+ (\S+)$", listed, re.M)[:1]


def lay_out(overlay: Path) -> None:
    files = dict(FILES)
    # The disk, its bus and its file system; an initrd for all hardware takes half a minute to unpack in emulation.
    files["etc/initramfs-tools/conf.d/test"] = "MODULES=list\nFSTYPE=ext4\n"
    files["usr/share/initramfs-tools/modules.d/test"] = "virtio_pci\nvirtio_blk\next4\n"
    for path, text in files.items():
        file = overlay / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for unit in MASKED:
        (overlay / "etc/systemd/system" / unit).symlink_to("/dev/null")


def unpack(archive: Path, tree: Path) -> None:
    """The archive with its owners and attributes."""
    tree.mkdir()
    run(["tar", "-C", tree, "--numeric-owner", "--xattrs", "-xpf", archive])


@contextmanager
def scratch(cache: Path):
    """A directory for the time being, in memory where that has room: packages are slow to install elsewhere."""
    memory = Path("/dev/shm")
    # How full the memory itself is, its file system does not know.
    available = int(re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.M)[1]) << 10
    roomy = available > 2 * ROOM_IN_MEMORY and memory.is_dir() and shutil.disk_usage(memory).free > ROOM_IN_MEMORY
    with directory(memory if roomy else cache) as made:
        yield made


@contextmanager
def directory(parent: Path):
    """One for this run, which is known by its lock to be in use: other runs leave it alone."""
    sweep(parent)
    made = Path(tempfile.mkdtemp(prefix=NAME, dir=parent))
    made.chmod(0o755)
    with (made / "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Under this name it is locked from the first moment on.
        (made / "new").rename(made / LOCK)
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Removes what a run left that was killed."""
    for left in parent.glob(f"{NAME}*/{LOCK}"):
        with suppress(OSError), left.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)


def keep(made: Path, cached: Path) -> None:
    """Moves a finished file to the cache, where it appears whole or not at all."""
    partial = cached.with_suffix(f".{os.getpid()}")
    # By cp, which leaves the disk's holes alone.
    run(["cp", "--sparse=always", made, partial])
    partial.rename(cached)


def only(paths) -> Path:
    (path,) = paths
    return path


def run(command: list, **environment: str) -> None:
    """As an aside: whoever waits for this machine's cores is waited for. Interrupted, it may clean up."""
    command = [str(word) for word in ("nice", "-n", "10", *command)]
    with subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            status = process.wait(MAKING_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if status:
        raise subprocess.CalledProcessError(status, command[3])
