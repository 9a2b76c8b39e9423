"""Both packages, built once from the program that FILMGATE_BIN names."""

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# A user's shell has no /usr/sbin, where some of the tools are.
os.environ["PATH"] += ":/usr/sbin:/sbin"
os.environ["LC_ALL"] = "C.UTF-8"


def run(*command, status=0, **options):
    """Runs a command that ends with `status`, and returns its output, errors included."""
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == status, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def program():
    path = Path(os.environ.get("FILMGATE_BIN", PROJECT / "target/release/filmgate"))
    assert path.is_file(), f"{path} is not built: cargo build --release, or set FILMGATE_BIN"
    return path


def build(kind, program, out, *options):
    """Runs packaging/build-KIND; the package is the last line it prints."""
    printed = run(PROJECT / f"packaging/build-{kind}", "--program", program, "--for-test", "--out", out, *options, cwd="/")
    return Path(printed.splitlines()[-1])


@pytest.fixture(scope="session")
def deb(program, tmp_path_factory):
    return build("deb", program, tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def rpm(program, tmp_path_factory):
    return build("rpm", program, tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="session")
def tree(deb, tmp_path_factory):
    """What the .deb puts on a machine."""
    root = tmp_path_factory.mktemp("tree")
    run("dpkg-deb", "--extract", deb, root)
    return root
