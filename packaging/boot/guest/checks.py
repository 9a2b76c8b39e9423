"""What administrators do with the package, and what must be true then. Runs as root where everything is thrown away."""

import contextlib
import http.client
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import artist
import service
import studio
from bucket import Bucket
from desk import CLIENTS, PROCESS, RESIGN, TLS_FILES, edit, renew_certificate, type_from_readme
from report import NotHere, check, run_all, say
from service import run, until

FIRST, SECOND = "/boot-test/first.deb", "/boot-test/second.deb"
EXPOSURE_MOST = 1.6
WATCHDOG_SECONDS = 3 * service.PATIENCE
WATCHDOG = f"[Service]\nWatchdogSec={WATCHDOG_SECONDS}s\nTimeoutAbortSec={4 * WATCHDOG_SECONDS}s\n"


def pings() -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return artist.fetch("GET", "/ping")[0] == 200
    return False


def serving() -> int:
    """The process of a service that serves, started if the check before left none."""
    if service.state() != "active":
        run("systemctl", "reset-failed", service.UNIT, expect=None)
        run("systemctl", "start", service.UNIT)
    until("it answers /ping", lambda: pings() or service.state() == "failed", 20)
    assert service.state() == "active", f"it is {service.state()}"
    return service.main_pid()


def replaced(old: int, what: str) -> None:
    """Waits for another process that serves."""
    until(f"it is started again after {what}", lambda: service.main_pid() not in (0, old) and pings(), 40)


def transfers(key: str) -> list[artist.Transfer]:
    """A download and an upload that are under way."""
    both = [kind(bucket, f"films/{key}-{kind.__name__.lower()}.mov") for kind in (artist.Download, artist.Upload)]
    for transfer in both:
        transfer.start()
    still_moving(both)
    return both


def still_moving(both: list[artist.Transfer]) -> None:
    """Waits until each has moved on from where it is."""
    for transfer in both:
        moved = transfer.moved
        until(f"{transfer} goes on", lambda: transfer.moved > moved or not transfer.is_alive(), 20)
        if not transfer.is_alive():
            transfer.finish(1)
            raise AssertionError(f"{transfer} was over too early to tell")


def finish(both: list[artist.Transfer]) -> None:
    for transfer in both:
        transfer.finish(service.seconds(60))


def install_again() -> str:
    """What dpkg says while it installs the newer package, which may be there already."""
    return run("dpkg", "--install", SECOND)


def version() -> str:
    return run("dpkg-query", "--show", "--showformat=${Version}", "filmgate")


@check("a first install starts nothing and says what to do next", vital=True)
def _():
    said = run("dpkg", "--install", FIRST)
    assert "filmgate.toml" in said and "enable" in said, f"it says:\n{said}"
    assert service.state() == "inactive", service.state()
    assert run("systemctl", "is-enabled", service.UNIT, expect=None).strip() == "disabled"


@check("the unit is one that systemd reads without a complaint")
def _():
    said = run("systemd-analyze", "verify", "--man=no", service.UNIT)
    assert not said, said


@check(f"the unit's exposure is {EXPOSURE_MOST} at most")
def _():
    said = run("systemd-analyze", "security", "--no-pager", service.UNIT)
    figure = re.search(r"Overall exposure level for filmgate.service: ([0-9.]+)", said)[1]
    say(f"systemd-analyze security: {figure}")
    assert float(figure) <= EXPOSURE_MOST, f"it is {figure}"


@check("a check of the configuration that came with it names the files that are missing")
def _():
    said = run(service.PROGRAM, "check", expect=None)
    assert f"{TLS_FILES}/fullchain.pem" in said, said


@check("a check of the edited configuration finds nothing wrong, as the README has it typed", vital=True)
def _():
    type_from_readme("install")
    edit("route", hosts=f'["{studio.HOST}"]', bucket=f'"{studio.BUCKET}"', region=f'"{studio.REGION}"')
    edit("route.upstream", connect=f'["127.0.0.1:{studio.S3_PORT}"]')
    edit("route.upstream.tls", ca_file=f'"{TLS_FILES}/ca.pem"')
    shutil.copy(studio.PKI / "ca.pem", TLS_FILES / "ca.pem")
    type_from_readme("runuser")


@check("it starts, and answers /ping", vital=True)
def _():
    type_from_readme("systemctl")
    pid = serving()
    assert run("systemctl", "is-enabled", service.UNIT).strip() == "enabled"
    for limit in ("Max open files", "Max locked memory"):
        say(re.search(rf"^{limit}.*$", Path(f"/proc/{pid}/limits").read_text(), re.M)[0])
    say(f"status: {service.show('StatusText') or 'none'}")
    time.sleep(2)
    workers = service.status_field(pid, "Threads")
    say(f"memory of the idle service: {service.status_field(pid, 'VmRSS')} in {workers} threads")


@check("it runs as nobody in particular")
def _():
    pid = serving()
    assert service.status_field(pid, "Uid").split()[0] != "0", "it runs as root"
    bound = int(service.status_field(pid, "CapBnd"), 16)
    assert bound & ~(1 << 10) == 0, f"capabilities {bound:x}"


@check("systemd is told when it is ready")
def _():
    serving()
    assert service.show("Type").startswith("notify"), f"the unit is of type {service.show('Type')}"
    assert service.show("StatusText"), "it says nothing about itself"


@check("a presigned upload and download are byte for byte the same")
def _():
    serving()
    data, key = os.urandom(artist.BODY_BYTES), "films/one & two/ä.mov"
    status, _ = artist.fetch("PUT", studio.link("PUT", key), data)
    assert status == 200, f"PUT gave {status}"
    status, got = artist.fetch("GET", studio.link("GET", key))
    assert (status, artist.digest(got)) == (200, artist.digest(data)), f"GET gave {status}, {len(got)} bytes"
    say(f"SHA-256 of both: {artist.digest(got)}")


@check("S3 refuses a link for something else")
def _():
    serving()
    status, _ = artist.fetch("GET", studio.link("GET", "films/mine").replace("mine", "yours"))
    assert status == 403, f"it gave {status}"


@check("the kernel takes over the records of long transfers", own_kernel=True)
def _():
    def counted() -> dict[str, int]:
        lines = Path("/proc/net/tls_stat").read_text().splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines)}

    serving()
    assert Path("/proc/net/tls_stat").exists(), "the tls module is not loaded"
    before = counted()
    data = os.urandom(artist.BODY_BYTES)
    status, _ = artist.fetch("PUT", studio.link("PUT", "kernel.mov"), data)
    assert status == 200, f"PUT gave {status}"
    status, got = artist.fetch("GET", studio.link("GET", "kernel.mov"))
    assert (status, artist.digest(got)) == (200, artist.digest(data)), f"GET gave {status}, {len(got)} bytes"
    totals = {name: value for name, value in counted().items() if "Curr" not in name}
    grown = {name: value - before[name] for name, value in totals.items() if value != before[name]}
    say(", ".join(f"{name} {value:+}" for name, value in grown.items()) or "no counter of the kernel moved")
    assert grown.get("TlsTxSw", 0) > 0, "no connection was handed to the kernel"
    assert not any("Error" in name for name in grown), grown


@check("a reload shows new clients the new certificate and cuts no transfer")
def _():
    pid, both = serving(), transfers("reload")
    before = renew_certificate()
    run("systemctl", "reload", service.UNIT)
    until("the new certificate is shown", lambda: artist.certificate_served() != before, 10)
    still_moving(both)
    finish(both)
    assert service.main_pid() == pid, "it was started anew"


@check("a renewed certificate is found without being told")
def _():
    pid, before = serving(), renew_certificate()
    until("the new certificate is shown", lambda: artist.certificate_served() != before, 20)
    assert service.main_pid() == pid, "it was started anew"


@check("a configuration that is wrong is refused, and the one before keeps serving")
def _():
    pid, since, good = serving(), len(service.journal()), service.CONFIGURATION.read_text()
    try:
        edit("route", hosts='["not a host"]')
        run("systemctl", "reload", service.UNIT)
        until("the journal says why", lambda: "hosts" in service.journal(since), 10)
        assert pings() and service.main_pid() == pid, "it serves no more"
    finally:
        service.CONFIGURATION.write_text(good)
        run("systemctl", "reload", service.UNIT)


@check("a stop lets transfers finish, takes no new ones, and is over then")
def _():
    serving()
    both = transfers("stop")
    run("systemctl", "stop", "--no-block", service.UNIT)
    until("new clients are turned away", lambda: not pings(), 10)
    still_moving(both)
    assert service.state() == "deactivating", service.state()
    finish(both)
    until("it ends", lambda: service.state() not in ("active", "deactivating"), 20)
    assert (service.state(), service.show("Result")) == ("inactive", "success"), service.show("Result")


@check("it is started again when it is killed")
def _():
    pid = serving()
    os.kill(pid, signal.SIGKILL)
    replaced(pid, "kill -9")
    assert service.show("NRestarts") != "0"


@check("the watchdog leaves a working service alone")
def _():
    service.drop_in("watchdog", WATCHDOG)
    run("systemctl", "restart", service.UNIT)
    pid = serving()
    time.sleep(2 * WATCHDOG_SECONDS)
    assert service.main_pid() == pid and pings(), "it was killed while it worked"


@check("the watchdog ends a process that does nothing any more")
def _():
    pid, since = serving(), len(service.journal())
    assert service.show("WatchdogUSec") not in ("0", "infinity"), "there is no watchdog"
    os.kill(pid, signal.SIGSTOP)
    try:
        replaced(pid, "the process was stopped")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert "atchdog timeout" in service.journal(since)


@check("the watchdog ends a process one of whose shards is stuck")
def _():
    pid, since = serving(), len(service.journal())
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
               if (task / "comm").read_text().startswith("shard")]
    assert threads, "it has no threads named shard"
    holder = subprocess.Popen([sys.executable, "/boot-test/hold_thread.py", str(max(threads))], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n", "the thread could not be held"
        until("another process runs", lambda: service.main_pid() not in (0, pid), 40)
        serving()
    finally:
        holder.kill()
        holder.wait()
        service.drop_in("watchdog", None)
    assert "atchdog timeout" in service.journal(since)


@check("an upgrade lets transfers finish and keeps the configuration")
def _():
    run("systemctl", "restart", service.UNIT)
    pid, both, before = serving(), transfers("upgrade"), version()
    configuration = service.CONFIGURATION.read_text()
    with open("/boot-test/upgrade.log", "w+") as log:
        upgrade = subprocess.Popen(["dpkg", "--install", SECOND], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("the old process is told to stop", lambda: service.state() == "deactivating" or upgrade.poll(), 40)
        still_moving(both)
        finish(both)
        upgrade.wait(service.seconds(60))
        log.seek(0)
        assert upgrade.returncode == 0, log.read()
    replaced(pid, "the upgrade")
    assert version() != before, "the version is the same"
    assert service.CONFIGURATION.read_text() == configuration, "the configuration is another"


@check("an upgrade to what would not start leaves the process that runs")
def _():
    pid, good, key = serving(), service.CONFIGURATION.read_text(), TLS_FILES / "key.pem"
    try:
        edit("route", hosts='["not a host"]')
        said = install_again()
        assert "still running as before" in said and "hosts" in said, said
        service.CONFIGURATION.write_text(good)
        # As a renewal by hand leaves it: root can read it, the service cannot.
        shutil.chown(key, group="root")
        key.chmod(0o600)
        said = install_again()
        assert "still running as before" in said and "key.pem" in said, said
        assert service.main_pid() == pid and pings(), "it serves no more"
    finally:
        service.CONFIGURATION.write_text(good)
        shutil.chown(key, group="filmgate")
        key.chmod(0o640)
    install_again()
    replaced(pid, "an upgrade with everything mended")


@check("it signs anew for clients whose secrets are in a file and with systemd, after an upgrade as well")
def _():
    good = service.CONFIGURATION.read_text()
    keys = {"Version": 1, "AccessKeyId": studio.KEY.id, "SecretAccessKey": studio.KEY.secret}
    PROCESS.with_suffix(".json").write_text(json.dumps(keys | {"SessionToken": studio.KEY.token}))
    PROCESS.write_text(f"#!/bin/sh\nexec cat {PROCESS}.json\n")
    PROCESS.chmod(0o755)
    CLIENTS.mkdir()
    for name, key, group, mode in (("farm", studio.FARM, "filmgate", 0o640), ("tool", studio.TOOL, "root", 0o600)):
        (CLIENTS / name).write_text(f"{key.secret}\n")
        shutil.chown(CLIENTS / name, "root", group)
        (CLIENTS / name).chmod(mode)
    bucket.objects["/films/resigned.mov"] = os.urandom(1 << 20)

    def served():
        until("it answers /ping", pings, 20)
        for key in (studio.FARM, studio.TOOL):
            link = studio.link("GET", "films/resigned.mov", key, studio.FARM_HOST)
            status, got = artist.fetch("GET", link, host=studio.FARM_HOST)
            assert (status, got) == (200, bucket.objects["/films/resigned.mov"]), f"{key.id}: {status}, {got[:300]}"

    try:
        service.CONFIGURATION.write_text(good + RESIGN)
        service.drop_in("credential", f"[Service]\nLoadCredential=tool:{CLIENTS}/tool\n")
        run("systemctl", "restart", service.UNIT)
        served()
        pid = service.main_pid()
        said = install_again()
        assert "still running" not in said, said
        replaced(pid, "the upgrade")
        served()
    finally:
        service.CONFIGURATION.write_text(good)
        service.drop_in("credential", None)
        run("systemctl", "restart", service.UNIT)


@check("it says so when the kernel was told to refuse rings", own_kernel=True)
def _():
    setting = Path("/proc/sys/kernel/io_uring_disabled")
    if not setting.exists():
        raise NotHere("this kernel has no such setting")
    serving()
    since = len(service.journal())
    run("systemctl", "stop", service.UNIT)
    setting.write_text("2")
    try:
        run("systemctl", "start", "--no-block", service.UNIT)
        # The check before the start says so as well, but it does not decide: the start itself has to end by it.
        refused = re.compile(r"^filmgate: cannot set up io_uring.*io_uring_disabled.*", re.M)
        until("the start fails by it", lambda: refused.search(service.journal(since)), 20)
        say(refused.search(service.journal(since))[0])
        until("systemd takes note", lambda: service.show("Result") == "exit-code", 10)
        assert service.state() != "active" and not pings(), "it serves all the same"
    finally:
        setting.write_text("0")
        run("systemctl", "stop", service.UNIT)
    serving()


@check("the journal holds the requests and none of their secrets")
def _():
    said = service.journal() + run("systemctl", "status", "--no-pager", service.UNIT, expect=None)
    assert "films/reload" in said, "there are no requests in it"
    found = [secret for secret in studio.secrets() if secret in said]
    assert not found, f"{len(found)} secrets are in it"


@check("an upgrade leaves a disabled service disabled")
def _():
    run("systemctl", "disable", "--now", service.UNIT)
    install_again()
    assert run("systemctl", "is-enabled", service.UNIT, expect=None).strip() == "disabled"
    assert service.state() == "inactive", service.state()


@check("removed, it is gone but for its configuration")
def _():
    run("systemctl", "enable", service.UNIT)
    serving()
    before = service.CONFIGURATION.read_text()
    run("dpkg", "--remove", "filmgate")
    assert service.state() in ("inactive", "failed"), service.state()
    assert not Path(service.PROGRAM).exists(), "the program is there"
    assert service.CONFIGURATION.read_text() == before, "the configuration is gone or another"


@check("installed once more, it is enabled as it was, and not started")
def _():
    install_again()
    assert run("systemctl", "is-enabled", service.UNIT, expect=None).strip() == "enabled"
    assert service.state() in ("inactive", "failed"), service.state()
    serving()
    run("dpkg", "--remove", "filmgate")


@check("purged, nothing of it is left but the user and the administrator's drop-ins")
def _():
    service.drop_in("mine", "[Service]\n")
    assert (TLS_FILES / "key.pem").exists(), "there are no keys to be deleted"
    run("dpkg", "--purge", "filmgate")
    run("systemctl", "daemon-reload")
    left = run("find", "/", "-xdev", "-path", "/boot-test", "-prune", "-o", "-name", "*filmgate*", "-print")
    assert left.split() == [str(service.DROP_INS)], f"left behind:\n{left}"
    run("id", "filmgate")


def system() -> str:
    release = Path("/etc/os-release").read_text()
    return re.search(r'^PRETTY_NAME="(.*)"', release, re.M)[1]


if __name__ == "__main__":
    print(f"kernel {platform.release()}\n{system()}, {run('systemctl', '--version').splitlines()[0]}", flush=True)
    with open("/etc/hosts", "a") as hosts:
        hosts.write(f"127.0.0.1 {studio.HOST} {studio.FARM_HOST}\n")
    studio.make_pki()
    bucket = Bucket()
    sys.exit(run_all())
