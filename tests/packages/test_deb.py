"""The .deb: what is in it, what lintian says, and what installing, upgrading and removing it leaves."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess

import pytest
from conftest import PROJECT, build, run

CONFIG = "etc/filmgate/filmgate.toml"


def field(deb, name):
    return run("dpkg-deb", "--field", deb, name).strip()


def test_it_holds_what_an_administrator_needs(tree):
    for path in (
        "usr/bin/filmgate",
        "usr/lib/systemd/system/filmgate.service",
        CONFIG,
        "usr/share/bash-completion/completions/filmgate",
        "usr/share/zsh/vendor-completions/_filmgate",
        "usr/share/fish/vendor_completions.d/filmgate.fish",
        "usr/share/man/man8/filmgate.8.gz",
        "usr/share/man/man5/filmgate.toml.5.gz",
        "usr/share/doc/filmgate/changelog.Debian.gz",
        "usr/share/doc/filmgate/copyright",
        "usr/share/doc/filmgate/sbom.cdx.json",
        "usr/share/doc/filmgate/tls.md",
        "usr/share/doc/filmgate/vpc-endpoint.md",
        "usr/share/doc/filmgate/migration.md",
        "usr/share/doc/filmgate/tuning.md",
        "usr/share/doc/filmgate/security.md",
        "usr/share/doc/filmgate/README.md",
    ):
        assert (tree / path).stat().st_size > 0, path
    # A guide that the README or another guide names is there.
    documents = tree / "usr/share/doc/filmgate"
    for document in documents.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:/]+\.md)", document.read_text()):
            assert (documents / target).is_file() or target == "CHANGELOG.md", f"{document.name}: {target}"
    # What stands in systemd/ is somewhere in the package, whoever adds it.
    packed = {path.name for path in tree.rglob("*")}
    assert {path.name for path in (PROJECT / "systemd").rglob("*") if path.is_file()} <= packed
    assert (tree / CONFIG).read_text() == (PROJECT / "packaging/filmgate.toml").read_text()


def test_files_are_roots_and_nobody_elses_to_write(deb):
    for line in run("dpkg-deb", "--contents", deb).splitlines():
        mode, owner, *_ = line.split()
        assert owner == "root/root", line
        assert mode[0] == "l" or (mode[5] == "-" and mode[8] == "-" and "s" not in mode), line


def test_the_configuration_is_a_conffile(deb, tmp_path):
    run("dpkg-deb", "--control", deb, tmp_path)
    assert (tmp_path / "conffiles").read_text() == f"/{CONFIG}\n"


def test_the_program_runs_where_debian_12_does(deb, tree):
    depends = field(deb, "Depends")
    (wanted,) = re.findall(r"libc6 \(>= ([\d.]+)\)", depends)
    symbols = re.findall(r"GLIBC_([\d.]+)", run("objdump", "-T", tree / "usr/bin/filmgate"))
    newest = max(tuple(map(int, version.split("."))) for version in symbols)
    assert tuple(map(int, wanted.split("."))) == newest <= (2, 36)
    assert f"glibc {wanted}" in (PROJECT / "README.md").read_text()
    assert field(deb, "Architecture") == run("dpkg", "--print-architecture").strip()


def test_it_asks_for_the_packages_of_the_programs_that_the_unit_calls(deb):
    packages = {"/usr/bin/filmgate": "filmgate", "/bin/kill": "procps", "/sbin/modprobe": "kmod"}
    called_by_unit = re.findall(r"^Exec\w+=[-+!@:]*(\S+)", UNIT, re.M)
    named = re.findall(r"[a-z][\w-]+", f"filmgate, {field(deb, 'Depends')}, {field(deb, 'Recommends')}")
    for path in called_by_unit:
        assert packages[path] in named, path
    # Without its roots nothing of S3's can be verified.
    assert {"procps", "systemd", "ca-certificates"} <= set(re.findall(r"[a-z][\w-]+", field(deb, "Depends")))


def test_the_program_is_stripped_and_its_symbols_are_apart(deb, tree, tmp_path):
    packed = tree / "usr/bin/filmgate"
    assert ".symtab" not in run("readelf", "--sections", "--wide", packed)
    assert ".debug_line" not in run("readelf", "--sections", "--wide", packed)
    (build_id,) = re.findall(r"Build ID: (\w+)", run("readelf", "--notes", packed))
    symbols = deb.with_name(deb.name.replace("filmgate_", "filmgate-dbgsym_"))
    assert field(symbols, "Build-Ids") == build_id
    assert field(symbols, "Depends") == f"filmgate (= {field(deb, 'Version')})"
    run("dpkg-deb", "--extract", symbols, tmp_path)
    file = tmp_path / f"usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    assert ".debug_line" in run("readelf", "--sections", "--wide", file)


def test_the_sums_are_those_of_the_files(deb, tree, tmp_path):
    run("dpkg-deb", "--control", deb, tmp_path)
    sums = dict(line.split("  ")[::-1] for line in (tmp_path / "md5sums").read_text().splitlines())
    files = {str(path.relative_to(tree)): path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()}
    assert set(sums) == set(files)
    for name, path in files.items():
        assert hashlib.md5(path.read_bytes()).hexdigest() == sums[name], name


def test_the_same_program_is_packed_to_the_same_bytes(deb, program, tmp_path):
    again = build("deb", program, tmp_path, "--no-symbols")
    assert again.read_bytes() == deb.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [again.name]


def test_lintian_finds_nothing(deb):
    root = ["--allow-root"] if os.getuid() == 0 else []
    printed = run("lintian", "--no-cfg", "--pedantic", "--fail-on", "error,warning", *root, deb)
    assert not re.search("^[EW]:", printed, re.M), printed


def test_a_program_with_the_demonstration_is_packed_for_tests_only(program, tmp_path):
    fake = tmp_path / "filmgate"
    fake.write_bytes(b"cargo/registry/src/index/s3s-0.14.1/src/lib.rs")
    command = PROJECT / "packaging/build-deb"
    # Where it is said to be is where the caller says, not where the sources are.
    printed = run(command, "--program", "filmgate", "--out", "out", cwd=tmp_path, status=1)
    assert f"{fake} is not a program" in printed
    fake.chmod(0o755)
    printed = run(command, "--program", "filmgate", "--out", "out", cwd=tmp_path, status=1)
    assert "has the demonstration in it" in printed


def test_every_override_says_why():
    for line in (PROJECT / "packaging/deb/lintian-overrides").read_text().splitlines():
        if line.startswith("#"):
            comment = True
        else:
            assert comment, line
            comment = False


def test_the_changelog_is_the_projects_own(tree, deb):
    text = gzip.decompress((tree / "usr/share/doc/filmgate/changelog.Debian.gz").read_bytes()).decode()
    assert text.startswith(f"filmgate ({field(deb, 'Version')}) unstable; urgency=medium\n\n  * ")
    assert "`" not in text and all(len(line) <= 80 for line in text.splitlines() if not line.startswith(" -- "))


# dpkg on a root of its own: the scripts run in there, too, and find a machine on which systemd does not run.


@pytest.fixture
def machine(tmp_path):
    """A root with a shell and what the scripts call, and dpkg's records of it."""
    if os.getuid() != 0:
        pytest.skip("dpkg --root needs root")
    root = tmp_path / "machine"
    for directory in ("bin", "usr/bin", "lib", "lib64", "usr/lib", "tmp", "etc/systemd/system/multi-user.target.wants"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    for directory in ("info", "updates", "triggers"):
        (root / "var/lib/dpkg" / directory).mkdir(parents=True)
    for file in ("var/lib/dpkg/status", "var/lib/dpkg/available", "dev/null"):
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).touch()
    for tool in ("sh", "rm", "cat", "ls", "env"):
        copy_program(shutil.which(tool), root)
    # What Debian's own does for packages: written down instead of done, and answered as `answer` says.
    for tool in ("deb-systemd-helper", "deb-systemd-invoke", "systemctl", "modprobe", "systemd-sysusers", "runuser"):
        script = root / "usr/bin" / tool
        script.write_text(FAKE.replace("TOOL", tool))
        script.chmod(0o755)
    answer(root, **NOTHING_REMEMBERED)
    return root


FAKE = """#!/bin/sh
echo "TOOL $*" >>/called
while IFS='|' read -r status pattern output; do
    case "TOOL $*" in $pattern) [ -z "$output" ] || echo "$output"; exit "$status" ;; esac
done </answers
"""
NOTHING_REMEMBERED = {"deb-systemd-helper debian-installed *": (1, "")}
UNIT = (PROJECT / "systemd/filmgate.service").read_text()
START = "{ path=/usr/bin/filmgate ; argv[]=COMMAND ; ignore_errors=no ; pid=0 }"
PACKAGED = START.replace("COMMAND", re.search(r"^ExecStart=(.*)$", UNIT, re.M)[1])
RUNNING = {
    "systemctl *is-active filmgate.service": (0, ""),
    "systemctl show *=User *": (0, "filmgate"),
    "systemctl show *=Group *": (0, "filmgate"),
    "systemctl show *=ExecStart *": (0, PACKAGED),
}


def answer(root, **given):
    """What the tools say: exit status and output for each command line that fits a pattern, the first that does."""
    lines = [f"{int(status)}|{pattern}|{output}\n" for pattern, (status, output) in given.items()]
    (root / "answers").write_text("".join(lines))


def copy_program(path, root):
    """A program with its libraries, at the places where the loader looks."""
    shutil.copy(path, root / "bin")
    for library in re.findall(r"(/\S+)", run("ldd", path)):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def chrooted(root, *arguments):
    """dpkg as it is on the machine: its scripts see the root as /."""
    return run("dpkg", f"--root={root}", "--force-depends", *arguments)


@pytest.fixture(scope="module")
def newer(deb, tmp_path_factory):
    """The same package, a revision later."""
    directory = tmp_path_factory.mktemp("newer")
    run("dpkg-deb", "--raw-extract", deb, directory / "newer")
    control = directory / "newer/DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)-1$", r"\1-2", control.read_text(), flags=re.M))
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", directory / "newer", directory / "newer.deb")
    return directory / "newer.deb"


def called(root):
    file = root / "called"
    text = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return text


def test_installing_starts_nothing_and_says_what_is_next(deb, machine):
    printed = chrooted(machine, "--install", deb)
    assert "systemctl enable --now filmgate" in printed
    assert "filmgate check" in printed
    done = called(machine)
    assert " enable " not in done and "start" not in done, done


def test_an_upgrade_keeps_what_was_edited(deb, newer, machine):
    chrooted(machine, "--install", deb)
    (machine / CONFIG).write_text("# mine\n")
    called(machine)
    printed = chrooted(machine, "--force-confold", "--install", newer)
    assert (machine / CONFIG).read_text() == "# mine\n"
    assert "Next:" not in printed
    done = called(machine)
    assert " enable " not in done and " stop " not in done, done
    assert field(newer, "Version").endswith("-2")


def test_a_service_that_was_enabled_is_so_again_after_a_removal(deb, machine):
    chrooted(machine, "--install", deb)
    assert " mask " not in called(machine)
    chrooted(machine, "--remove", "filmgate")
    assert "deb-systemd-helper mask filmgate.service" in called(machine)
    for was_enabled in (0, 1):
        answer(machine, **{"deb-systemd-helper *was-enabled *": (was_enabled, "")})
        chrooted(machine, "--install", deb)
        done = called(machine)
        assert "deb-systemd-helper unmask filmgate.service" in done
        assert ("deb-systemd-helper enable filmgate.service" in done) == (was_enabled == 0), done
        chrooted(machine, "--remove", "filmgate")


def test_a_running_systemd_is_told_to_stop_what_is_removed_and_never_to_start_what_is_installed(deb, machine):
    a_running_service(machine, "stopped")
    chrooted(machine, "--install", deb)
    done = called(machine)
    assert "systemctl --system daemon-reload" in done and " start " not in done and " enable " not in done, done
    chrooted(machine, "--remove", "filmgate")
    assert "deb-systemd-invoke stop filmgate.service" in called(machine)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_removal_that_does_not_come_about_starts_again_what_it_stopped(deb, machine, enabled):
    chrooted(machine, "--install", deb)
    a_running_service(machine, "accepted")
    answer(machine, **{"systemctl *is-enabled filmgate.service": (not enabled, ""), "systemctl *is-enabled *": (1, "")})
    run("chroot", machine, "sh", "/var/lib/dpkg/info/filmgate.postinst", "abort-remove", "in-favour", "other", "1")
    done = called(machine)
    assert ("deb-systemd-invoke start filmgate.service" in done) == enabled, done
    assert "start filmgate.socket" not in done, done


# What an upgrade does to a service that runs: (what is asked, what is answered) and whether it is restarted.
QUESTION = "runuser -u filmgate -g filmgate -- env /usr/bin/filmgate check --to-start --config /etc/filmgate/filmgate.toml"
CREDENTIALS = "run/credentials/filmgate.service"
UPGRADES = {
    "accepted": ({}, QUESTION, True),
    "refused": ({"runuser *": (2, "")}, QUESTION, False),
    "another configuration": ({"systemctl show *=ExecStart *": (0, PACKAGED.replace("/etc/filmgate", "/srv"))}, None, True),
    "another user": ({"systemctl show *=User *": (0, "media")}, QUESTION.replace("-u filmgate", "-u media"), True),
    "more groups": (
        {"systemctl show *=SupplementaryGroups *": (0, "ssl-cert media")},
        QUESTION.replace(" -- ", " -G ssl-cert -G media -- "),
        True,
    ),
    "with credentials": ({}, QUESTION.replace("env ", f"env CREDENTIALS_DIRECTORY=/{CREDENTIALS} "), True),
    "stopped": ({"systemctl *is-active filmgate.service": (3, "")}, None, False),
}


def a_running_service(root, how):
    """systemd as the scripts see it."""
    answers, *_ = UPGRADES[how]
    answer(root, **answers, **{pattern: what for pattern, what in RUNNING.items() if pattern not in answers}, **NOTHING_REMEMBERED)
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    if how == "with credentials":
        (root / CREDENTIALS).mkdir(parents=True)
    called(root)


def is_upgraded(root, how, printed, command):
    """The service was asked for as it should be, and restarted or not."""
    _, question, restarted = UPGRADES[how]
    done = called(root)
    assert [line for line in done.splitlines() if line.startswith("runuser ")] == ([question] if question else []), done
    assert (f"{command} try-restart filmgate.service" in done) == restarted, done
    assert ("still running as before" in printed) == (how == "refused"), printed


@pytest.mark.parametrize("how", UPGRADES)
def test_an_upgrade_asks_as_the_service_would_be_and_restarts_what_would_start(deb, newer, machine, how):
    chrooted(machine, "--install", deb)
    a_running_service(machine, how)
    printed = chrooted(machine, "--install", newer)
    is_upgraded(machine, how, printed, "deb-systemd-invoke")


def test_removing_keeps_the_configuration_and_purging_leaves_nothing(deb, machine):
    before = {str(path.relative_to(machine)) for path in machine.rglob("*") if "var/lib/dpkg" not in str(path)}
    chrooted(machine, "--install", deb)
    (machine / CONFIG).write_text("# mine\n")
    (machine / "etc/filmgate/tls").mkdir()
    (machine / "etc/filmgate/tls/key.pem").write_text("key")
    (machine / "var/log/private/filmgate").mkdir(parents=True)
    (machine / "var/log/filmgate").symlink_to("private/filmgate")
    wanted = machine / "etc/systemd/system/multi-user.target.wants/filmgate.service"
    wanted.symlink_to("/usr/lib/systemd/system/filmgate.service")
    chrooted(machine, "--remove", "filmgate")
    assert (machine / CONFIG).read_text() == "# mine\n"
    assert not (machine / "usr/bin/filmgate").exists()
    chrooted(machine, "--purge", "filmgate")
    called(machine)
    left = {str(path.relative_to(machine)) for path in machine.rglob("*") if "var/lib/dpkg" not in str(path)} - before
    assert {path for path in left if "filmgate" in path} == set(), left
    assert subprocess.run(["dpkg-query", f"--admindir={machine}/var/lib/dpkg", "-W", "filmgate"]).returncode == 1


def test_the_scripts_are_plain_sh(tmp_path):
    run("sh", "-n", PROJECT / "packaging/restart.sh")
    for name in ("postinst", "prerm", "postrm"):
        text = (PROJECT / "packaging/deb" / name).read_text()
        assert text.startswith("#!/bin/sh\n") and "\nset -e\n" in text
        run("sh", "-n", PROJECT / "packaging/deb" / name)
