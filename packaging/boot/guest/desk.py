"""What the administrator types and writes: commands of the README, the configuration, certificates."""

import re
import shutil
from pathlib import Path

import artist
import service
import studio
from service import run

README, TYPED = Path("/boot-test/README.md"), Path("/boot-test/typed")
TLS_FILES, CLIENTS = Path("/etc/filmgate/tls"), Path("/etc/filmgate/clients")
PROCESS = Path("/etc/filmgate/credentials")
RESIGN = f"""
[[credential]]
name    = "media-role"
process = "{PROCESS}"
[[client]]
name        = "farm"
access-key  = "{studio.FARM.id}"
secret-file = "{CLIENTS}/farm"
[[client]]
name              = "tool"
access-key        = "{studio.TOOL.id}"
secret-credential = "tool"
[[route]]
hosts = ["{studio.FARM_HOST}"]
bucket = "{studio.BUCKET}"
region = "{studio.REGION}"
mode = "re-sign"
credential = "media-role"
allow = [{{ clients = ["farm", "tool"], operations = ["read"], prefixes = ["films/"] }}]
upstream = {{ connect = ["127.0.0.1:{studio.S3_PORT}"], tls = {{ ca-file = "{TLS_FILES}/ca.pem" }} }}
"""


def edit(section: str, **values: str) -> None:
    """Sets keys of a section of the configuration, which must be there already, as a comment at least, and once."""
    text = service.CONFIGURATION.read_text()
    start = re.search(rf"^\[+{re.escape(section)}\]+$", text, re.M).end()
    header = re.compile(r"^#?\[", re.M).search(text, start)
    end = header.start() if header else len(text)
    part = text[start:end]
    for key, value in values.items():
        key = key.replace("_", "-")
        part, times = re.subn(rf"^#?{key} *= .*$", lambda _: f"{key} = {value}", part, flags=re.M)
        assert times == 1, f"{key} is {times} times in [{section}] of {service.CONFIGURATION}"
    service.CONFIGURATION.write_text(text[:start] + part + text[end:])


def hand_out_certificate() -> None:
    """Puts the gate's certificate where the configuration says, its key first and each in one step."""
    TLS_FILES.mkdir(mode=0o755, exist_ok=True)
    for made, name, mode in (("gate.key", "key.pem", 0o640), ("gate.pem", "fullchain.pem", 0o644)):
        coming = TLS_FILES / f"{name}.new"
        shutil.copy(studio.PKI / made, coming)
        coming.chmod(mode)
        shutil.chown(coming, group="filmgate")
        coming.rename(TLS_FILES / name)


def renew_certificate() -> bytes:
    """The certificate served so far; the next one is in its place, with a key of its own."""
    before = artist.certificate_served()
    studio.certify("gate", studio.HOST)
    hand_out_certificate()
    return before


def type_from_readme(program: str) -> None:
    """Types the lines of the README's installation that call a program as root, as they stand."""
    chapter = README.read_text().partition("## Ten-minute install\n")[2].partition("\n## ")[0]
    lines = re.findall(rf"^ *# ({program} .*)$", chapter, re.M)
    assert lines, f"the README has no {program}"
    TYPED.mkdir(exist_ok=True)
    for made, name in (("gate.pem", "fullchain.pem"), ("gate.key", "key.pem")):
        shutil.copy(studio.PKI / made, TYPED / name)
    for line in lines:
        run("sh", "-ec", f"cd {TYPED}; {line}")
