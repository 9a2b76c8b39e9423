"""What the README and the guides tell people to write and to type is right.

A block marked `toml` is a configuration, or a part of one: filmgate check accepts it. One marked `sh` is typed as it
stands; those of the README are what tests/run is made of. `console` is for the reader's machines: of these, the commands of
filmgate are looked at.
"""

import re
import shlex
import shutil
import tomllib

import pytest
from conftest import PROJECT, run

GUIDES = sorted((PROJECT / "packaging/docs").glob("*.md"))
TEXTS = [PROJECT / "README.md", *GUIDES]

ROUTE = '[[route]]\nhosts = ["s3-proxy.mystudio.com"]\nbucket = "mystudio-media"\nregion = "us-west-2"\n'
TLS = '[tls]\ncertificate = "/etc/filmgate/tls/fullchain.pem"\nprivate-key = "/etc/filmgate/tls/key.pem"\n'
CREDENTIAL = '[[credential]]\nname = "media-role"\nregion = "us-west-2"\n'


def blocks(path, language):
    """(line, text) of each block, the indentation of a list taken away."""
    found = re.finditer(rf"^( *)```{language}\n(.*?)^ *```$", path.read_text(), re.M | re.S)
    for match in found:
        indent = len(match[1])
        text = "".join(line[indent:] if line.strip() else line for line in match[2].splitlines(keepends=True))
        yield path.read_text()[: match.start()].count("\n") + 2, text


def cases(language):
    for path in TEXTS:
        for line, text in blocks(path, language):
            yield pytest.param(text, id=f"{path.name}:{line}")


def completed(text):
    """A part of a configuration with the rest that a whole one needs."""
    given = tomllib.loads(text)
    if isinstance(given.get("route"), dict):
        text = text.replace("[route.", ROUTE + "[route.", 1)
    elif "route" not in given:
        text = f"{text}\n{ROUTE}"
    given = tomllib.loads(text)
    tls = given.get("tls", {})
    if given.get("listen", {}).get("https") != [] and not {"certificate", "identity"} & set(tls):
        text = text.replace("[tls]\n", TLS) if "tls" in given else f"{TLS}{text}"
    if any(route.get("credential") for route in given["route"]) and "credential" not in given:
        text = f"{CREDENTIAL}{text}"
    return text


@pytest.fixture(scope="module")
def etc(tmp_path_factory):
    """What the examples name below /etc/filmgate."""
    root = tmp_path_factory.mktemp("etc")
    for directory in ("tls/eu", "clients"):
        (root / directory).mkdir(parents=True)
    for name in ("tls", "tls/eu"):
        hosts = ",".join(f"DNS:{host}" for host in every_host())
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90",
            "-subj", "/CN=s3-proxy.mystudio.com", "-addext", f"subjectAltName={hosts}",
            "-keyout", root / name / "key.pem", "-out", root / name / "fullchain.pem",
        )  # fmt: skip
    for name in ("client-ca.pem", "studio-ca.pem", "firewall-ca.pem"):
        shutil.copy(root / "tls/fullchain.pem", root / "tls" / name)
    for name in ("render-farm",):
        (root / "clients" / name).write_text("a-secret-of-the-test")
        (root / "clients" / name).chmod(0o600)
    return root


def every_host():
    """All names that routes of the examples have."""
    found = {"s3-proxy.mystudio.com"}
    for path in TEXTS:
        for _, text in blocks(path, "toml"):
            routes = tomllib.loads(text).get("route", [])
            found |= {host for route in routes if isinstance(route, dict) for host in route.get("hosts", [])}
    return sorted(found)


def test_there_are_examples_in_every_guide_and_in_the_readme():
    names = ["migration.md", "operation.md", "security.md", "tls.md", "tuning.md", "vpc-endpoint.md"]
    assert [path.name for path in GUIDES] == names
    for path in TEXTS:
        assert any(list(blocks(path, language)) for language in ("toml", "console")), path


@pytest.mark.parametrize("text", list(cases("toml")))
def test_filmgate_accepts_the_configuration(text, program, etc, tmp_path):
    whole = completed(text).replace("/etc/filmgate/", f"{etc}/").replace("/var/log/filmgate/", f"{tmp_path}/")
    file = tmp_path / "filmgate.toml"
    file.write_text(whole)
    assert f"{file}: ok" in run(program, "check", "--config", file)


def test_a_wrong_example_would_be_found(program, etc, tmp_path):
    file = tmp_path / "filmgate.toml"
    file.write_text(completed('[route.upstream]\nserver_name = "x"\n').replace("/etc/filmgate/", f"{etc}/"))
    assert "server-name" in run(program, "check", "--config", file, status=2)


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_commands_do_what_the_guide_says(path, tmp_path):
    for line, text in blocks(path, "sh"):
        run("bash", "-euo", "pipefail", "-c", text, cwd=tmp_path)
    if path.name == "tls.md":
        assert (tmp_path / "fullchain.pem").read_text().count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("text", list(cases("console")))
def test_commands_of_filmgate_exist(text, program):
    lines = [line.lstrip("$# ") for line in text.splitlines()]
    for words in (shlex.split(line.split("|")[0].split(">")[0], comments=True) for line in lines if line.startswith("filmgate ")):
        name, *rest = words[1:]
        help_text = run(program, *([name, rest[0]] if name == "policy" else [name]), "--help")
        for option in (word for word in rest if word.startswith("--")):
            assert option in help_text, words


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
