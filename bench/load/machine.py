"""The machine: a network of our own, our share of the CPUs, the programs that are needed, and what to say about it."""

import contextlib
import ctypes
import datetime
import fcntl
import gzip
import hashlib
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "bench" / "load"


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def install_peers():
    """Installs nginx and haproxy from the distribution when they are missing; no service is started."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    wanted = {"nginx": "nginx-light", "haproxy": "haproxy", "openssl": "openssl", "ip": "iproute2"}
    missing = [package for program, package in wanted.items() if not shutil.which(program)]
    if not missing:
        return
    print("installing", *missing, file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt, "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    with no_services():
        subprocess.run([*apt, "install", "--yes", "--no-install-recommends", *missing], check=True, env=environment,
                       stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def no_services(policy=pathlib.Path("/usr/sbin/policy-rc.d")):
    """Keeps Debian from starting what it installs, unless somebody else has a policy for that."""
    try:
        with open(policy, "x", encoding="utf-8") as script:
            script.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink()


def build(directory, *words, target):
    """Builds a release binary and returns its path."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / target).resolve()
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--release", *words], check=True, cwd=directory,
                   env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return target / "release"


def end_with_parent():
    """Has the kernel end this process when the one that started it is gone, however that went."""
    libc().prctl(1, signal.SIGTERM)


def end(number, _):
    """Ends the run in order. Whoever asks twice has to wait: a clean-up that is cut short leaves a namespace behind."""
    undisturbed()
    sys.exit(128 + number)


def undisturbed():
    """Ignores the signals that end a run: its clean-up has begun."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)


def in_own_session(work):
    """Runs `work` in a session of its own, which gets nearly all CPU time while it wants any: with autogroup the nice
    value of a process counts only inside its session. Interrupting this process ends that one, in order. Returns the
    status `work` did."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    child = os.fork()
    if child == 0:
        os.setsid()
        end_with_parent()
        for number in STOPS:
            signal.signal(number, end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/self/autogroup").write_text("-20")
        status = 1
        try:
            status = work()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    for number in STOPS:
        signal.signal(number, lambda received, _: os.kill(child, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def alone():
    """Keeps two runs on one machine from measuring each other: the second waits."""
    with open(pathlib.Path(tempfile.gettempdir()) / "filmgate-load.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("another run is under way: waiting for its end", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def own_network():
    """Moves this process into a network namespace that holds nothing but a loopback interface with CUBIC: a pacing
    congestion control distorts loopback."""
    name = f"filmgate-load-{os.getpid()}"
    old = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        subprocess.run(["ip", "netns", "add", name], check=True)
        enter(f"/run/netns/{name}")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        set_kernel("net/ipv4/ip_local_port_range", "20000 65535")
        set_kernel("net/core/somaxconn", "4096")
        for route in ("127.0.0.0/8", "127.0.0.1"):
            subprocess.run(["ip", "route", "replace", "local", route, "dev", "lo", "table", "local", "proto", "kernel",
                            "scope", "host", "src", "127.0.0.1", "congctl", "cubic"], check=True)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        if limit < 20000:
            raise SystemExit(f"the limit of open files is {limit}: 20000 are needed (ulimit -n)")
        yield
    finally:
        undisturbed()
        libc().setns(old, 0)
        subprocess.run(["ip", "netns", "delete", name], check=False)


def libc():
    return ctypes.CDLL(None, use_errno=True)


def enter(path):
    descriptor = os.open(path, os.O_RDONLY)
    if libc().setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)


def set_kernel(name, value):
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/sys", name).write_text(value)


def tree(root):
    """A process and all its descendants."""
    found, pending = [], [root]
    while pending:
        process = pending.pop()
        found.append(process)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{process}/task"):
                pending += map(int, pathlib.Path(f"/proc/{process}/task/{task}/children").read_text().split())
    return found


def memory(root):
    """The proportional share of memory of a process tree, and the kernel's slab of the whole machine, in bytes."""
    share = 0
    for process in tree(root):
        with contextlib.suppress(OSError):
            share += kilobytes(f"/proc/{process}/smaps_rollup", "Pss")
    return share * 1024, kilobytes("/proc/meminfo", "Slab") * 1024


def kilobytes(file, field):
    return int(re.search(rf"^{field}:\s+(\d+) kB", pathlib.Path(file).read_text(), re.M).group(1))


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return (done.stdout + done.stderr).strip()


def first_match(pattern, text):
    found = re.search(pattern, text)
    return found.group(1).strip() if found else None


def irq_time():
    """Whether the kernel charges interrupts to nobody ("set"), to whom they hit ("unset"), or does not tell ("unknown")."""
    for file in ("/proc/config.gz", f"/boot/config-{platform.release()}"):
        with contextlib.suppress(OSError):
            found = pathlib.Path(file).read_bytes()
            text = gzip.decompress(found) if file.endswith(".gz") else found
            return "set" if b"\nCONFIG_IRQ_TIME_ACCOUNTING=y" in text else "unset"
    return "unknown"


def running_openssl():
    """The version of OpenSSL that nginx runs with, as its library says it."""
    told = output("nginx", "-V")
    return first_match(r"running with (OpenSSL \S+)", told) or first_match(r"built with (OpenSSL \S+)", told) or "unknown"


def digest(program):
    """A program's SHA-256."""
    return hashlib.sha256(pathlib.Path(shutil.which(program)).read_bytes()).hexdigest()


def describe(gates, built_here):
    """What a reader has to know about the machine and the programs, as (name, value) pairs."""
    cpu = output("lscpu")
    dirty = " (with uncommitted changes)" if output("git", "status", "--porcelain", "--", "src", "bench/load",
                                                    "Cargo.toml", "Cargo.lock") else ""
    nginx, built_with = (first_match(pattern, output("nginx", "-V"))
                         for pattern in (r"nginx/(\S+)", r"built with (OpenSSL \S+)"))
    haproxy = output("haproxy", "-vv")
    version = first_match(r"version (\S+)", haproxy)
    built, running = (first_match(rf"{word} OpenSSL version : (OpenSSL \S+)", haproxy)
                      for word in ("Built with", "Running on"))
    origin = "built from this commit" if built_here else "given as a file, of whatever commit"
    about = [(f"gate `{gate.name}`", f"{output(gate.program, '--version')}, {origin}, SHA-256 {digest(gate.program)}")
             for gate in gates]
    return [
        ("begun", datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")),
        ("commit of the benchmark", output("git", "rev-parse", "--short=12", "HEAD") + dirty),
        *about,
        ("CPU", f"{first_match(r'Model name:(.*)', cpu)}, family {first_match(r'CPU family:(.*)', cpu)}, model "
                f"{first_match(r'Model: (.*)', cpu)}, {os.cpu_count()} cores, "
                f"{first_match(r'L2 cache:(.*)', cpu)} L2, hypervisor {first_match(r'Hypervisor vendor:(.*)', cpu)}"),
        ("memory", f"{kilobytes('/proc/meminfo', 'MemTotal') / 2**20:.1f} GiB"),
        ("kernel", platform.release()),
        ("CONFIG_IRQ_TIME_ACCOUNTING", irq_time()),
        ("distribution", first_match(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())),
        ("kernel TLS", "in the kernel" if pathlib.Path("/proc/net/tls_stat").exists() else "none"),
        ("nginx", f"{nginx}, built with {built_with}, running with {running_openssl()}, SHA-256 {digest('nginx')}"),
        ("HAProxy", f"{version}, built with {built}, running with {running}, SHA-256 {digest('haproxy')}"),
        ("rustc", output("rustc", "--version")),
    ]


def host():
    """A name for the machine that says nothing about it when its own is a random identifier."""
    name = re.sub(r"[^a-z0-9-]", "-", platform.node().split(".")[0].lower()).strip("-")
    random = not name or name == "localhost" or (len(name) >= 12 and sum(letter.isdigit() for letter in name) > 3)
    return f"vm{os.cpu_count()}" if random or name == "vm" else name
