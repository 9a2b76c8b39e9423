"""What is handed to the guest: the packages, the checks and what they need. Nothing comes over a network."""

import json
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
# How many times longer than on a quiet machine something may take: here, and in software emulation.
PATIENCE, PATIENCE_EMULATED = 2, 8


def gather(project: Path, directory: Path, first: Path, second: Path, emulated: bool) -> Path:
    """Fills `directory` anew."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(HERE / "guest", directory, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project / "tests" / "e2e" / "sigv4.py", directory)
    # Its commands are typed as they stand.
    shutil.copy(project / "README.md", directory)
    shutil.copy(first, directory / "first.deb")
    shutil.copy(second, directory / "second.deb")
    settings = {"own_kernel": emulated, "patience": PATIENCE_EMULATED if emulated else PATIENCE}
    (directory / "settings.json").write_text(json.dumps(settings))
    return directory
