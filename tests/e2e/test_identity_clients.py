"""Every client with keys of the gate's own, every operation it has, in each style of address, onto an S3 that verifies
the gate's signatures and takes none but its role's. The summary shows the matrix."""

import os
import time

import pytest

from clients import CLIENTS, MIB, Door
from gate import Client, ReSign, Route
from identity import (
    EACH,
    ENDPOINT,
    FORMS,
    ONE,
    ONE_FORMS,
    STUDIO_KEY,
    credential_of,
    matrix_rule,
    process_credential,
)
from programs import run
from seaweed import ACCESS_KEY, BUCKET, DOMAIN, HOST, PLATES, SECRET_KEY
from sigv4 import Key
from sts import Tunnel

STYLES = ["path", "virtual", "bucket"]
# What a client can do is tested in one style by every client, and in the others where it takes no time.
EVERYWHERE = {"boto3", "js", "curl"}
IN_STYLE = {
    "awscli1": ["path", "bucket"],
    "awscli1-plain": ["virtual"],
    "awscli2": ["virtual"],
    "boto3-plain": ["path"],
    "rclone": ["path", "bucket"],
    "s3cmd": ["path", "virtual"],
    "s5cmd": ["path"],
}
SHORT = {"awscli1", "rclone", "s3cmd"}
OPERATIONS = [
    *("put", "put_plain", "put_file", "put_stream", "checksums", "get", "range", "head", "list", "list_v1", "names"),
    *("multipart", "parts", "abort", "copy", "delete", "delete_many", "sync", "versions", "tagging"),
    *("presign_get", "presign_put", "form"),
]
# What is worth its time in a client's second style.
FEW = ["put", "get", "list", "multipart", "copy", "presign_get"]
# For clients that take a second for each.
NAME = "shot 010+comp&b=c 100%25 ~(1)!',;@[x] été 日本語 🎬.mov"
NAMES = ["shot 010 v002.mov", "a+b&c=d.mov", "100% 50%25.mov", "été/日本語 🎬.mov", "tilde~(1)!'$,;:@[x].mov"]
BODY = b"frame " * 500
LARGE = bytes(range(251)) * (11 * MIB // 251)

# Forcing the way of the bytes changes nothing of what programs that take a second each say.
FORCED = bool(os.environ.get("FILMGATE_PATH"))
# `FILMGATE_E2E_DIRECT=1` leads the same clients straight to S3: what fails there as well is not the gate's doing.
IS_DIRECT = bool(os.environ.get("FILMGATE_E2E_DIRECT"))


def cases():
    for name, kind in CLIENTS.items():
        for style in STYLES if name in EVERYWHERE else IN_STYLE[name]:
            if (IS_DIRECT and style == "bucket") or (FORCED and name not in EVERYWHERE):
                continue
            for operation in OPERATIONS:
                method = {"names": "put", "checksums": "checksum"}.get(operation, operation)
                if not hasattr(kind, method) or (operation == "versions" and style == "bucket"):
                    continue
                if name in SHORT and style != IN_STYLE[name][0] and operation not in FEW:
                    continue
                yield pytest.param(name, style, operation, id=f"{name}-{style}-{operation}")


@pytest.fixture(scope="module")
def doors(request, seaweed, authority):
    """The three ways to the bucket, by style."""
    if IS_DIRECT:
        key, port, host = Key(ACCESS_KEY, SECRET_KEY), seaweed.https, DOMAIN
    else:
        port, key, host = request.getfixturevalue("resigning").https, STUDIO_KEY, ENDPOINT
    tunnel = Tunnel(port)
    usual = {"key": key, "tunnel": tunnel.url, "port": port, "ca": authority.ca}
    forms = (
        ("path-form", DOMAIN if IS_DIRECT else FORMS),
        ("virtual-form", DOMAIN if IS_DIRECT else FORMS),
        ("bucket-form", ONE_FORMS),
    )
    yield {
        **{style: Door(style, host, BUCKET, style == "path-form", **usual) for style, host in forms},
        "path": Door("path", host, BUCKET, True, versioned=PLATES, **usual),
        "virtual": Door("virtual", host, BUCKET, False, versioned=PLATES, **usual),
        "bucket": Door("bucket", ONE, BUCKET, False, **usual),
    }
    tunnel.close()


@pytest.fixture(scope="module")
def resigning(start_gate, seaweed, authority, resign_identity, workspace):
    """A gate with its own identity: an S3 endpoint for two buckets, and a name that is a bucket. S3 wants the bucket in
    the host for one and in the path for the other."""
    upstream = {"connect": [f"127.0.0.1:{seaweed.https}"], "ca": authority.ca, "server_name": HOST}
    usual = {"credential": "role", "allow": [matrix_rule("studio")]}
    lasting = {**usual, "credential": "lasting"}
    key = process_credential(workspace / "lasting.json", key=Key(ACCESS_KEY, SECRET_KEY), name="lasting")
    return start_gate(
        Route([FORMS], host=EACH, resign=ReSign(buckets=[BUCKET, PLATES], **lasting), **upstream),
        Route([f"{BUCKET}.{ONE_FORMS}"], host=HOST, resign=ReSign(**lasting), **upstream),
        Route([ENDPOINT], host=EACH, resign=ReSign(buckets=[BUCKET, PLATES], **usual), **upstream),
        Route([f"{BUCKET}.{ONE}"], host=DOMAIN, resign=ReSign(**usual, upstream={"style": "path"}), **upstream),
        identities=[resign_identity],
        clients=[Client("studio", STUDIO_KEY)],
        credentials=[credential_of(seaweed), key],
        **seaweed.gate_environment(),
    )


@pytest.fixture(scope="module")
def clients(doors, tmp_path_factory):
    """Clients by name and style, each made when it is first wanted."""
    made = {}

    def make(name, style):
        if (name, style) not in made:
            made[name, style] = CLIENTS[name](doors[style], tmp_path_factory.mktemp(f"{name}-{style}"))
        return made[name, style]

    yield make
    for client in made.values():
        client.close()


@pytest.mark.parametrize(("name", "style", "operation"), list(cases()))
def test_a_client_does(clients, seaweed, name, style, operation):
    client = clients(name, f"{style}-form" if operation == "form" else style)
    globals()[f"does_{operation}"](client, seaweed, f"matrix/{name}-{style}/{operation}/")


def does_put(client, seaweed, prefix):
    client.put(prefix + "a.mov", BODY)
    assert seaweed.get(prefix + "a.mov") == BODY


def does_put_plain(client, seaweed, prefix):
    client.put_plain(prefix + "a.mov", BODY)
    assert seaweed.get(prefix + "a.mov") == BODY


def does_put_file(client, seaweed, prefix):
    client.put_file(prefix + "a.mov", LARGE[: 3 * MIB])
    assert seaweed.get(prefix + "a.mov") == LARGE[: 3 * MIB], "and no framing in it"


def does_put_stream(client, seaweed, prefix):
    client.put_stream(prefix + "a.mov", LARGE[: 3 * MIB])
    assert seaweed.get(prefix + "a.mov") == LARGE[: 3 * MIB], "and no framing in it"


def does_checksums(client, seaweed, prefix):
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        done = client.checksum(prefix + algorithm, BODY, algorithm)
        assert done[f"Checksum{algorithm}"]
        assert seaweed.get(prefix + algorithm) == BODY


def does_get(client, seaweed, prefix):
    seaweed.put(prefix + "a.mov", BODY)
    assert client.get(prefix + "a.mov") == BODY


def does_range(client, seaweed, prefix):
    seaweed.put(prefix + "a.mov", BODY)
    assert client.range(prefix + "a.mov", 7, 99) == BODY[7:100]


def does_head(client, seaweed, prefix):
    seaweed.put(prefix + "a.mov", BODY)
    assert client.head(prefix + "a.mov") == len(BODY)


def does_list(client, seaweed, prefix, list=None):
    keys = sorted(prefix + name for name in ("a b.mov", "a+b.mov", "z/é.mov"))
    for key in keys:
        seaweed.put(key, b"1")
    assert sorted((list or client.list)(prefix)) == keys


def does_list_v1(client, seaweed, prefix):
    does_list(client, seaweed, prefix, client.list_v1)


def does_names(client, seaweed, prefix):
    for name in NAMES + [NAME] if client.is_quick else [NAME]:
        client.put(prefix + name, name.encode())
        assert seaweed.get(prefix + name) == name.encode()
        assert client.get(prefix + name) == name.encode()


def does_multipart(client, seaweed, prefix):
    client.multipart(prefix + "large.mov", LARGE)
    assert seaweed.get(prefix + "large.mov") == LARGE
    assert seaweed.admin.head_object(Bucket=BUCKET, Key=prefix + "large.mov")["ETag"].strip('"')[-2:] == "-3"


def does_parts(client, seaweed, prefix):
    client.parts(prefix + "large.mov", LARGE[: 6 * MIB])
    assert seaweed.get(prefix + "large.mov") == LARGE[: 6 * MIB]


def does_abort(client, seaweed, prefix):
    client.abort(prefix + "large.mov", BODY)
    assert absent(seaweed, prefix + "large.mov")


def does_copy(client, seaweed, prefix):
    seaweed.put(prefix + client.source, BODY)
    client.copy(prefix + client.source, prefix + "to.mov")
    assert seaweed.get(prefix + "to.mov") == BODY


def does_delete(client, seaweed, prefix):
    seaweed.put(prefix + "a.mov", BODY)
    client.delete(prefix + "a.mov")
    assert absent(seaweed, prefix + "a.mov")


def does_delete_many(client, seaweed, prefix):
    keys = [f"{prefix}{number} é.mov" for number in range(5)]
    for key in keys:
        seaweed.put(key, b"1")
    client.delete_many(keys[:4])
    assert [absent(seaweed, key) for key in keys] == [True] * 4 + [False]


def does_sync(client, seaweed, prefix):
    source, target = client.directory / "source", client.directory / "target"
    for name in ("a.exr", "b c/d+e.exr", "é/f.exr"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        # S3 knows seconds only: what is uploaded in its second would be newer than itself.
        os.utime(path, (time.time() - 60,) * 2)
    target.mkdir()
    client.sync(source, prefix, target)
    assert seaweed.get(prefix + "b c/d+e.exr") == b"b c/d+e.exr"
    run("diff", "--recursive", source, target)


def does_versions(client, seaweed, prefix):
    client.versions(prefix + "a.mov")


def does_tagging(client, seaweed, prefix):
    seaweed.put(prefix + "a.mov", BODY)
    client.tagging(prefix + "a.mov")


def does_presign_get(client, seaweed, prefix):
    seaweed.put(prefix + "a b+c.mov", BODY)
    said = client.curl(client.presign_get(prefix + "a b+c.mov"))
    assert (said.status, said.body) == (200, BODY), said


def does_presign_put(client, seaweed, prefix):
    said = client.curl("--upload-file", client.file(BODY), client.presign_put(prefix + "a b+c.mov"))
    assert said.status == 200, said
    assert seaweed.get(prefix + "a b+c.mov") == BODY


def does_form(client, seaweed, prefix):
    said = client.form(prefix + "a é.mov", BODY[:900])
    assert said.status == 201, (said.status, said.body)
    assert seaweed.get(prefix + "a é.mov") == BODY[:900]


def absent(seaweed, key) -> bool:
    """Whether S3 has no such object."""
    return not seaweed.admin.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents")
