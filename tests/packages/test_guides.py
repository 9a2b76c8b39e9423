"""What the README and the guides tell people to write and to type is right.

A block marked `toml` is a configuration, or a part of one: filmgate check accepts it. One marked `sh` is typed as it
stands; those of the README are what tests/run is made of. `console` is for the reader's machines, and those of the README's
installation are typed by the boot test. Here filmgate's own are: `policy` and `presign` with the block of toml before them as the
configuration, and their output is what the block goes on with.
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


def test_the_small_authority_of_the_guide_works(tmp_path):
    ((_, text),) = [block for path in GUIDES for block in blocks(path, "sh")]
    run("bash", "-euo", "pipefail", "-c", text, cwd=tmp_path)
    assert (tmp_path / "fullchain.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_the_hook_of_the_guide_hands_out_what_was_renewed_whether_the_gate_runs_or_not(tmp_path):
    tls = PROJECT / "packaging/docs/tls.md"
    ((_, hook),) = [block for block in blocks(tls, "text") if block[1].startswith("#!/bin/sh\n")]
    lineage, to, tools = tmp_path / "live", tmp_path / "tls", tmp_path / "bin"
    for directory in (lineage, to, tools):
        directory.mkdir()
    (tmp_path / "hook").write_text(hook.replace("to=/etc/filmgate/tls", f"to={to}").replace("-g filmgate", ""))
    for status, renewed in ((0, "first"), (3, "second")):
        (tools / "systemctl").write_text(f'#!/bin/sh\necho "$*"\n[ "$1" = reload ] || exit {status}\n')
        (tools / "systemctl").chmod(0o755)
        for name in ("privkey.pem", "fullchain.pem"):
            (lineage / name).write_text(f"{renewed} {name}")
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "RENEWED_LINEAGE": str(lineage)}
        said = run("sh", tmp_path / "hook", env=environment)
        assert ("reload filmgate" in said) == (status == 0)
        assert {path.name: path.read_text() for path in to.iterdir()} == {
            "key.pem": f"{renewed} privkey.pem",
            "fullchain.pem": f"{renewed} fullchain.pem",
        }
        assert (to / "key.pem").stat().st_mode & 0o777 == 0o640
    # certbot looks for the hook when it is named.
    text = tls.read_text()
    assert 0 < text.index("install -m 755 filmgate-hook /etc/letsencrypt/filmgate-hook") < text.index("--deploy-hook /etc/letsencrypt/filmgate-hook")


def test_a_load_balancer_closes_idle_connections_before_the_gate_does():
    text = (PROJECT / "packaging/docs/migration.md").read_text()
    (balancer,) = re.findall(r"Idle timeout of the load balancer: (\d+) seconds", text)
    (gate,) = re.findall(r'^client-idle = "(\d+)s"', text, re.M)
    assert int(balancer) < int(gate)
    assert "timeout\n*shorter* than `client-idle`" in (PROJECT / "packaging/docs/tuning.md").read_text()


def typed(text):
    """(words, output) of each command of filmgate's in a block for the console, whoever is to type it."""
    commands = []
    for line in text.splitlines():
        if line.startswith(("$ ", "# ")):
            line = line[2:].removeprefix("runuser -u filmgate -- ")
            ours = line.split("|")[0].split(">")[0] if line.startswith("filmgate ") else ""
            commands.append((shlex.split(ours, comments=True), []))
        elif commands:
            commands[-1][1].append(line)
    return [(words, output) for words, output in commands if words]


def asking():
    """Questions about rules and their answers, each with the configuration before it."""
    for path in TEXTS:
        configurations = list(blocks(path, "toml"))
        for at, text in blocks(path, "console"):
            for words, output in typed(text):
                if words[1] in ("policy", "presign"):
                    before = [configuration for line, configuration in configurations if line < at][-1]
                    yield pytest.param(before, words, output, id=f"{path.name}:{at}:{words[1]}")


@pytest.mark.parametrize("configuration, words, output", list(asking()))
def test_questions_have_the_answer_that_is_printed(configuration, words, output, program, etc, tmp_path):
    file = tmp_path / "filmgate.toml"
    file.write_text(completed(configuration).replace("/etc/filmgate/", f"{etc}/"))
    said = run(program, *words[1:], "--config", file).splitlines()
    expected = [line.split("…")[0] for line in output if line != "…"]
    assert expected and len(said) >= len(expected), said
    for shown, line in zip(expected, said[-len(expected) :]):
        assert line.startswith(shown) and shown, said


def test_nobody_is_told_to_check_as_somebody_who_is_not_the_service():
    for path in TEXTS:
        for line, text in blocks(path, "console"):
            assert not re.search(r"^[$#] filmgate (check|policy|presign)", text, re.M), f"{path.name}:{line}"


@pytest.mark.parametrize("text", list(cases("console")))
def test_commands_of_filmgate_exist(text, program):
    for words, _ in typed(text):
        name, *rest = words[1:]
        help_text = run(program, *([name, rest[0]] if name == "policy" else [name]), "--help")
        for option in (word for word in rest if word.startswith("--")):
            assert option in help_text, words


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
