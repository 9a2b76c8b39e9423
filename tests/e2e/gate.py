"""One running `filmgate`."""

import json
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import ports
import sigv4
import wire
from pki import Identity

# `FILMGATE_PATH` forces one way for every body: `transfer.splice` and `tls.records`, and no records left to the kernel, which
# would take them from either way where it can. Without it the gate chooses.
FORCED = {"splice": ("always", "own"), "copy": ("off", "library")}

IN_FORCE, REFUSED = "the configuration was read anew and is in force", "the new configuration is refused"

REPOSITORY = Path(__file__).resolve().parents[2]


def binary() -> str:
    """The program under test: `FILMGATE_BIN`, or what `cargo build --release` made."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return os.environ.get("FILMGATE_BIN") or str(target / "release" / "filmgate")


@dataclass
class Client:
    """One `[[client]]`; without a key it is trusted for where it is."""

    name: str
    key: sigv4.Key | None = None
    options: dict = field(default_factory=dict)

    def toml(self, directory: Path) -> str:
        """The table of the client; its secrets go to files of their own."""
        lines = ["[[client]]", f"name = {_toml(self.name)}"]
        if self.key:
            lines.append(f"access-key = {_toml(self.key.id)}")
            lines.append(f"secret-file = {_toml(str(secret_file(directory / f'{self.name}.secret', self.key.secret)))}")
            if self.key.token:
                path = secret_file(directory / f"{self.name}.token", self.key.token)
                lines.append(f"session-token-file = {_toml(str(path))}")
        lines += [f"{name} = {_toml(value)}" for name, value in self.options.items()]
        return "\n".join(lines) + "\n"


@dataclass
class Credential:
    """One `[[credential]]`: what the gate itself is, and the roles it assumes from there."""

    name: str
    options: dict = field(default_factory=dict)
    roles: list[dict] = field(default_factory=list)
    sts: dict = field(default_factory=dict)

    def toml(self) -> str:
        """The tables of the credential."""
        tables = [("[[credential]]", {"name": self.name, **self.options})]
        tables += [("[[credential.role]]", role) for role in self.roles]
        tables += [("[credential.sts]", self.sts)] if self.sts else []
        return "".join(_table(header, values) for header, values in tables)


@dataclass
class ReSign:
    """What a route that signs anew has more than others. `buckets` make it an S3 endpoint."""

    credential: str
    allow: list[dict]
    deny: list[dict] = field(default_factory=list)
    buckets: list[str] = field(default_factory=list)
    options: dict = field(default_factory=dict)
    upstream: dict = field(default_factory=dict)


@dataclass
class Route:
    """One `[[route]]`: `connect` is where S3 is, `host` what was signed."""

    hosts: list[str]
    connect: list[str]
    host: str
    server_name: str = ""
    ca: Path | None = None
    bucket: str = "mystudio-media"
    region: str = "us-west-2"
    default: bool = False
    plaintext: bool = False
    max_version: str = "1.3"
    resign: ReSign | None = None

    def toml(self) -> str:
        """The tables of the route."""
        lines = ["[[route]]", f"hosts = {_toml(self.hosts)}"]
        resign = self.resign
        if resign and resign.buckets:
            lines.append(f"buckets = {_toml(resign.buckets)}")
        else:
            lines.append(f"bucket = {_toml(self.bucket)}")
        lines.append(f"region = {_toml(self.region)}")
        if resign:
            lines += ['mode = "re-sign"', f"credential = {_toml(resign.credential)}"]
            lines += [f"{name} = {_toml(value)}" for name, value in resign.options.items()]
        else:
            lines.append('mode = "pass-through"')
        if self.default:
            lines.append("default = true")
        lines += ["[route.upstream]", f"connect = {_toml(self.connect)}", f"host = {_toml(self.host)}"]
        if self.plaintext:
            lines.append("allow-plaintext = true")
        else:
            tls = f'ca-file = {_toml(str(self.ca))}, max-version = "{self.max_version}"'
            lines += [f"server-name = {_toml(self.server_name or self.host)}", f"tls = {{ {tls} }}"]
        if not resign:
            return "\n".join(lines) + "\n"
        lines += [f"{name} = {_toml(value)}" for name, value in resign.upstream.items()]
        rules = [("[[route.allow]]", rule) for rule in resign.allow] + [
            ("[[route.deny]]", rule) for rule in resign.deny
        ]
        return "\n".join(lines) + "\n" + "".join(_table(header, values) for header, values in rules)


@dataclass
class Gate:
    """Starts on construction by `start`, ends by `stop`."""

    directory: Path
    identities: list[Identity]
    routes: list[Route]
    timeouts: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int | str] = field(default_factory=dict)
    workers: int | str = "auto"
    min_version: str = "1.2"
    plain: bool = False
    clients: list[Client] = field(default_factory=list)
    credentials: list[Credential] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    client_ca: Path | None = None

    def start(self) -> "Gate":
        """Writes the configuration, starts the program and waits until `/ping` answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.https, self.admin = ports.free(), ports.free()
        self.http = ports.free() if self.plain else None
        self.log = self.directory / "access.log"
        self.stderr = self.directory / "stderr.log"
        self.config = self.directory / "filmgate.toml"
        self.config.write_text(self._toml())
        with self.stderr.open("wb") as out:
            self.process = subprocess.Popen(
                [binary(), "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment},
            )
        ports.poll(f"/ping of a gate started with {self.config}", self._is_up, 20)
        return self

    def reload(self, text: str | None = None) -> bool:
        """Writes the configuration anew (`text` instead of it), has it read, and returns whether it is in force."""
        beside = self.config.with_suffix(".new")
        beside.write_text(text or self._toml())
        os.replace(beside, self.config)
        said = [self.output().count(line) for line in (IN_FORCE, REFUSED)]
        self.process.send_signal(signal.SIGHUP)

        def outcome():
            now = [self.output().count(line) for line in (IN_FORCE, REFUSED)]
            return now != said and now

        return ports.poll("the outcome of a reload", outcome, 20)[0] > said[0]

    def stop(self) -> int:
        """Asks the program to end, waits, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(45)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the gate did not end within 45 s of SIGTERM:\n{self.output()}") from None
        return self.process.returncode

    def connect(self, host: str | None = None, **options) -> wire.Connection:
        """A TLS connection as a client of `host` (the first route's first name unless given)."""
        return wire.Connection(self.https, host or self.routes[0].hosts[0], **options)

    def authority(self, host: str | None = None) -> str:
        """What stands in a link between `https://` and the path."""
        return f"{host or self.routes[0].hosts[0]}:{self.https}"

    def output(self) -> str:
        """What the program printed."""
        return self.stderr.read_text(errors="replace")

    def records(self) -> list[dict]:
        """The access log so far."""
        if not self.log.exists():
            return []
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def record_of(self, matches, seconds: float = 5.0) -> dict:
        """The first access record that `matches`; records come a moment after their exchange."""
        return ports.poll(
            "an access record of the exchange", lambda: next((r for r in self.records() if matches(r)), None), seconds
        )

    def memory_kib(self, key: str = "VmRSS") -> int:
        """`VmRSS` (now) or `VmHWM` (ever) of the process, in KiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {key} for process {self.process.pid}")

    def descriptors(self) -> int:
        """Open file descriptors of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the gate ended with status {self.process.returncode}:\n{self.output()}")
        try:
            with self.connect(seconds=2) as connection:
                return connection.exchange("GET", "/ping").status == 200
        except OSError:
            return False

    def _toml(self) -> str:
        plain = [f"127.0.0.1:{self.http}"] if self.http else []
        parts = [
            "[listen]\n",
            f'https = ["127.0.0.1:{self.https}"]\nhttp = {_toml(plain)}\nadmin = "127.0.0.1:{self.admin}"\n',
            f'[tls]\nmin-version = "{self.min_version}"\n',
        ]
        path = os.environ.get("FILMGATE_PATH")
        splice, records = FORCED[path] if path else (None, None)
        if path:
            parts.append(f'records = {_toml(records)}\nkernel = "off"\n')
        if self.client_ca:
            parts.append(f"client-ca-file = {_toml(str(self.client_ca))}\n")
        if len(self.identities) == 1:
            only = self.identities[0]
            parts.append(f"certificate = {_toml(str(only.certificate))}\nprivate-key = {_toml(str(only.key))}\n")
        else:
            for each in self.identities:
                pair = f"certificate = {_toml(str(each.certificate))}\nprivate-key = {_toml(str(each.key))}\n"
                parts.append("[[tls.identity]]\n" + pair)
        parts.append(f"[workers]\ncount = {_toml(self.workers)}\n")
        # No test waits for the five minutes of the default.
        timeouts = {"drain": "30s", **self.timeouts}
        for section, values in (("timeouts", timeouts), ("limits", self.limits)):
            if values:
                parts.append(f"[{section}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items()))
        if path:
            parts.append(f"[transfer]\nsplice = {_toml(splice)}\n")
        parts.append(f"[access-log]\nfile = {_toml(str(self.log))}\n")
        parts += [client.toml(self.directory) for client in self.clients]
        parts += [credential.toml() for credential in self.credentials]
        parts += [route.toml() for route in self.routes]
        return "".join(parts)


def secret_file(path: Path, secret: str) -> Path:
    """A file only its owner can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    return path


class MemoryWatch:
    """Samples `VmRSS` of a gate while a block runs; `highest_kib` is the largest seen."""

    def __init__(self, gate: Gate, every: float = 0.05):
        self.gate, self.every = gate, every
        self.samples: list[int] = []

    def __enter__(self) -> "MemoryWatch":
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def highest_kib(self) -> int:
        """The largest resident size seen, in KiB."""
        return max(self.samples)

    def _run(self) -> None:
        while True:
            self.samples.append(self.gate.memory_kib())
            if self._stop.wait(self.every):
                return


def _table(header: str, values: dict) -> str:
    return header + "\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + " }"
    # JSON strings, numbers and lists of strings are TOML ones as well.
    return json.dumps(value, ensure_ascii=False)
