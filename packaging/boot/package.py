"""The package under test, and the same as a newer version to upgrade to."""

import subprocess
from pathlib import Path


def build(project: Path, program: Path | None) -> Path:
    """Runs packaging/build-deb, whose last line of output is the package."""
    command = [project / "packaging" / "build-deb", "--no-symbols"]
    if program:
        command += ["--program", program.resolve()]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=project).stdout
    return (project / output.splitlines()[-1]).resolve()


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
