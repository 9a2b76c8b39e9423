"""Five gigabytes each way in constant memory, with nginx as a fast upstream."""

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

import ports
from conftest import GATE
from gate import MemoryWatch, Route
from programs import run
from seaweed import HOST

# The largest object S3 takes in one PUT.
SIZE = 5 * 1024**3
STRIDE = 8 * 1024**2
HIGHEST_KIB = 150 * 1024

NGINX = """
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {directory}/store;
        dav_methods PUT;
        # Without a limit nginx serves one connection until its socket is full, and others wait for seconds.
        location /shared/ {{
            alias {directory}/store/;
            limit_rate 20m;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def nginx(workspace, upstream_identity):
    """Serves and takes files over TLS; its port and its directory of files."""
    directory = workspace / "nginx"
    (directory / "store").mkdir(parents=True)
    port = ports.free()
    names = {"certificate": upstream_identity.certificate, "key": upstream_identity.key}
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=port, **names))
    server = subprocess.Popen(["nginx", "-e", directory / "error.log", "-c", directory / "nginx.conf"])
    ports.poll("nginx", lambda: server.poll() is None and ports.answers(port))
    yield port, directory / "store"
    server.terminate()
    server.wait(10)
    shutil.rmtree(directory / "store")


@pytest.fixture(scope="module")
def source(nginx) -> Path:
    """Five gigabytes with a mark every 8 MiB; the rest are holes. More marks cost minutes where deleting an extent
    of a file means a discard of the disk below."""
    file = nginx[1] / "five gigabytes.mov"
    with file.open("wb", buffering=0) as out:
        out.truncate(SIZE)
        for offset in range(0, SIZE, STRIDE):
            out.seek(offset)
            out.write(struct.pack(">Q", offset) * 4096)
    return file


@pytest.fixture(scope="module")
def big_gate(start_gate, nginx, authority):
    return start_gate(Route([GATE], [f"127.0.0.1:{nginx[0]}"], HOST, ca=authority.ca))


def curl(gate, authority, *arguments) -> list[str]:
    where = ("--cacert", authority.ca, "--resolve", f"{GATE}:{gate.https}:127.0.0.1")
    return [str(word) for word in ("curl", "--silent", "--show-error", "--fail", "--http1.1", *where, *arguments)]


def report(what: str, gate, watch: MemoryWatch, before: int, began: float) -> None:
    seconds = time.monotonic() - began
    print(
        f"\n{what}: {SIZE} bytes in {seconds:.1f} s ({SIZE / seconds / 1e6:.0f} MB/s); RSS {before} KiB before, "
        f"{watch.highest_kib} KiB at most ({len(watch.samples)} samples), VmHWM {gate.memory_kib('VmHWM')} KiB"
    )
    assert watch.highest_kib < HIGHEST_KIB
    assert gate.memory_kib("VmHWM") < HIGHEST_KIB


def test_five_gigabytes_come_down_in_constant_memory(big_gate, authority, source, capfd):
    before, began = big_gate.memory_kib(), time.monotonic()
    with MemoryWatch(big_gate) as watch:
        get = curl(big_gate, authority, f"https://{big_gate.authority()}/five%20gigabytes.mov")
        with subprocess.Popen(get, stdout=subprocess.PIPE) as download:
            run("cmp", "-", source, stdin=download.stdout, seconds=300)
        assert download.returncode == 0
    with capfd.disabled():
        report("GET", big_gate, watch, before, began)


def test_five_gigabytes_go_up_in_constant_memory(big_gate, authority, nginx, source, capfd):
    stored = nginx[1] / "uploaded.mov"
    before, began = big_gate.memory_kib(), time.monotonic()
    with MemoryWatch(big_gate) as watch:
        put = curl(big_gate, authority, "--upload-file", source, f"https://{big_gate.authority()}/uploaded.mov")
        run(*put, seconds=300)
    with capfd.disabled():
        report("PUT", big_gate, watch, before, began)
    run("cmp", stored, source, seconds=120)
    stored.unlink()


def test_many_transfers_at_once_stay_within_bounds(big_gate, authority, source, capfd):
    part, number = 64 * 1024**2, 32
    before, began = big_gate.memory_kib(), time.monotonic()
    with MemoryWatch(big_gate) as watch:
        running = []
        for index in range(number):
            first = index * 2 * part
            words = ("--range", f"{first}-{first + part - 1}")
            url = f"https://{big_gate.authority()}/shared/five%20gigabytes.mov"
            get = subprocess.Popen(curl(big_gate, authority, *words, url), stdout=subprocess.PIPE)
            compare = ("cmp", "--ignore-initial", f"0:{first}", "--bytes", str(part), "-", source)
            running += [get, subprocess.Popen(compare, stdin=get.stdout)]
            get.stdout.close()
        assert [each.wait(120) for each in running] == [0] * len(running)
    seconds = time.monotonic() - began
    with capfd.disabled():
        print(
            f"\n{number} ranges of {part} bytes at once in {seconds:.1f} s; RSS {before} KiB before, "
            f"{watch.highest_kib} KiB at most"
        )
    assert watch.highest_kib < 2 * HIGHEST_KIB
