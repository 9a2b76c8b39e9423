"""The package under test, and the same as a newer version to upgrade to."""

import subprocess
import sys
from pathlib import Path


def build(project: Path, program: Path | None, work: Path) -> Path:
    """Runs packaging/build-deb, whose last line of output is the package. It is this run's, and no one else's to install."""
    command = [project / "packaging" / "build-deb", "--no-symbols", "--out", work / "package"]
    if program:
        command += ["--program", program.resolve(), "--for-test"]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        # It has said why. That is a failure, and not a test that cannot be made here.
        sys.exit(1)
    return Path(built.stdout.splitlines()[-1])


def renumbered(deb: Path, work: Path) -> Path:
    """The same content with a higher version."""
    tree, newer = work / "newer", work / "newer.deb"
    quietly(["dpkg-deb", "--raw-extract", deb, tree])
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines(keepends=True)
    lines = [line.rstrip("\n") + "+upgraded\n" if line.startswith("Version:") else line for line in lines]
    control.write_text("".join(lines))
    quietly(["dpkg-deb", "--build", "--root-owner-group", "-Znone", tree, newer])
    return newer


def quietly(command: list) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
