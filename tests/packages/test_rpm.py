"""The .rpm: what rpmlint says, what it asks for, and install, upgrade and erase in a root of its own."""

import os
import re

import pytest
from conftest import PROJECT, build, run
from test_deb import CONFIG, UPGRADES, a_running_service, called, is_upgraded, machine  # noqa: F401  (one is a fixture)

AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="rpm --root needs root")


def query(rpm, *arguments):
    return run("rpm", "--query", "--package", *arguments, rpm)


def test_rpmlint_finds_nothing(rpm):
    printed = run("rpmlint", "-c", PROJECT / "packaging/rpm/rpmlintrc.toml", *rpm.parent.glob("*.rpm"))
    assert re.search(r"\b2 packages\b.*\b0 errors, 0 warnings", printed), printed


def test_every_filter_says_why():
    lines = (PROJECT / "packaging/rpm/rpmlintrc.toml").read_text().splitlines()
    for line, above in zip(lines[1:], lines):
        if line.startswith('    "'):
            assert above.startswith("    #"), line


def test_it_asks_for_the_c_library_of_debian_12_or_older(rpm):
    versions = re.findall(r"GLIBC_([\d.]+)\)", query(rpm, "--requires"))
    assert versions and max(tuple(map(int, version.split("."))) for version in versions) <= (2, 36)


def test_it_holds_the_files_of_the_deb(rpm, tree):
    packed = set(query(rpm, "--list").split())
    inside = {f"/{path.relative_to(tree)}" for path in tree.rglob("*") if path.is_file()}
    family = ("/usr/share/zsh/", "/usr/share/lintian/", "/usr/share/doc/filmgate/changelog.Debian.gz")
    assert {path for path in inside if not path.startswith(family)} <= packed
    assert "/usr/share/zsh/site-functions/_filmgate" in packed
    assert query(rpm, "--configfiles").split() == [f"/{CONFIG}"]
    assert query(rpm, "--licensefiles").split() == ["/usr/share/doc/filmgate/copyright"]


def test_the_changelog_is_the_projects_own(rpm):
    first, second, *_ = query(rpm, "--changelog").splitlines()
    assert re.match(r"\* \w{3} \w{3} \d\d \d{4} .* <.*> - [\d.]+-1$", first)
    assert second.startswith("- ")


def test_the_same_program_is_packed_to_the_same_bytes(rpm, program, tmp_path):
    again = build("rpm", program, tmp_path, "--no-symbols")
    assert query(again, "--queryformat", "%{SIGMD5}") == query(rpm, "--queryformat", "%{SIGMD5}")


@pytest.fixture(scope="module")
def newer(program, tmp_path_factory):
    return build("rpm", program, tmp_path_factory.mktemp("newer"), "--revision", "2", "--no-symbols")


@AS_ROOT
@pytest.mark.parametrize("how", UPGRADES)
def test_an_upgrade_asks_as_the_service_would_be_and_restarts_what_would_start(rpm, newer, machine, how):  # noqa: F811
    command = ["rpm", f"--root={machine}", "--nodeps"]
    run("rpmdb", f"--root={machine}", "--initdb")
    run(*command, "--install", rpm)
    a_running_service(machine, how)
    printed = run(*command, "--upgrade", newer)
    is_upgraded(machine, how, printed, "systemctl")


@AS_ROOT
def test_install_upgrade_and_erase(rpm, newer, machine):  # noqa: F811
    command = ["rpm", f"--root={machine}", "--nodeps"]
    run("rpmdb", f"--root={machine}", "--initdb")
    printed = run(*command, "--install", rpm)
    assert "systemctl enable --now filmgate" in printed
    run(*command, "--verify", "filmgate")
    (machine / CONFIG).write_text("# mine\n")
    printed = run(*command, "--upgrade", newer)
    assert "Next:" not in printed
    assert (machine / CONFIG).read_text() == "# mine\n"
    assert run(*command[:2], "--query", "filmgate").strip().endswith("-2.x86_64") or os.uname().machine != "x86_64"
    done = called(machine)
    assert "enable" not in done and "stop" not in done, done
    wanted = machine / "etc/systemd/system/multi-user.target.wants/filmgate.service"
    wanted.symlink_to("/usr/lib/systemd/system/filmgate.service")
    run(*command, "--erase", "filmgate")
    assert (machine / f"{CONFIG}.rpmsave").read_text() == "# mine\n"
    left = [str(path) for path in machine.rglob("*filmgate*") if "var/lib/rpm" not in str(path)]
    assert sorted(left) == [str(machine / "etc/filmgate"), str(machine / f"{CONFIG}.rpmsave")]

