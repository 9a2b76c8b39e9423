"""Other people's programs, run with a time limit."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


def run(*command, check: bool = True, seconds: float = 120, **options) -> subprocess.CompletedProcess:
    """Runs a command and captures what it says; fails with that unless it exits 0."""
    words = [str(word) for word in command]
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(words, capture_output=True, timeout=seconds, **options)
    if check and done.returncode != 0:
        said = (done.stdout + done.stderr)[-3000:]
        said = said if isinstance(said, str) else said.decode(errors="replace")
        raise AssertionError(f"exit status {done.returncode} of {words[0]}:\n{said}")
    return done


@dataclass
class Answer:
    """What curl got."""

    status: int
    fields: dict[str, str]
    body: bytes
    exit_status: int
    heads: list[str]


class Curl:
    """curl as an artist's script would run it: trusts the studio's CA, knows where the gate's name leads."""

    def __init__(self, directory: Path, ca: Path, name: str, port: int):
        self.directory, self.ca, self.name, self.port = directory, ca, name, port

    def __call__(self, *arguments, check: bool = True, output: Path | None = None, **options) -> Answer:
        heads, body = self.directory / "curl.heads", output or self.directory / "curl.body"
        heads.unlink(missing_ok=True)
        if not output:
            body.unlink(missing_ok=True)
        done = run(
            *("curl", "--silent", "--show-error", "--http1.1", "--max-time", 60, "--cacert", self.ca),
            *("--resolve", f"{self.name}:{self.port}:127.0.0.1", "--dump-header", heads, "--output", body),
            *arguments,
            check=check,
            **options,
        )
        blocks = [block for block in heads.read_bytes().decode("latin-1").split("\r\n\r\n") if block]
        lines = blocks[-1].split("\r\n") if blocks else ["HTTP/1.1 0"]
        fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
        content = body.read_bytes() if body.exists() else b""
        return Answer(int(lines[0].split(" ")[1]), fields, content, done.returncode, blocks)
