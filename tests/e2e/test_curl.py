"""Links made by awscli and boto3, used with curl."""

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest

from conftest import GATE
from links import Link
from programs import Curl, run
from seaweed import ACCESS_KEY, BUCKET, REGION, SECRET_KEY

MEDIA = hashlib.shake_256(b"media").digest(3_000_000)
KEY = "shots/010 + comp/v002 100% été.mov"


@pytest.fixture
def curl(gate, authority, tmp_path) -> Curl:
    return Curl(tmp_path, authority.ca, GATE, gate.https)


@pytest.fixture(scope="module")
def stored(seaweed) -> str:
    """The key of a stored object of three million bytes."""
    seaweed.put(KEY, MEDIA, ContentType="video/quicktime")
    return KEY


@pytest.fixture
def get(links, gate, stored) -> str:
    """A presigned GET link for it at the gate."""
    return links.make("GET", stored).at(gate.authority())


def test_a_link_made_by_awscli_downloads(curl, gate, stored, tmp_path):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "LC_ALL": "C.UTF-8",
    }
    (tmp_path / ".aws").mkdir()
    config = "[default]\ns3 =\n  addressing_style = virtual\n  signature_version = s3v4\n"
    (tmp_path / ".aws" / "config").write_text(config)
    aws = Path(sys.executable).parent / "aws"
    made = run(aws, "s3", "presign", f"s3://{BUCKET}/{stored}", "--expires-in", "600", env=environment, text=True)
    link = Link(made.stdout.strip())
    assert link.authority == f"{BUCKET}.s3.{REGION}.amazonaws.com" and "X-Amz-Signature" in link.query
    answer = curl(link.at(gate.authority()))
    assert (answer.status, answer.body == MEDIA) == (200, True)


def test_a_plain_get_brings_body_type_etag_and_request_id(curl, get):
    answer = curl(get)
    assert (answer.status, answer.body == MEDIA) == (200, True)
    assert answer.fields["content-type"] == "video/quicktime"
    assert answer.fields["etag"] == f'"{hashlib.md5(MEDIA).hexdigest()}"'
    assert answer.fields["x-amz-request-id"]
    assert "x-filmgate-error" not in answer.fields


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("0-0", slice(0, 1)),
        ("0-1", slice(0, 2)),
        ("1000-1999999", slice(1000, 2_000_000)),
        ("2999999-", slice(2_999_999, None)),
        ("0-", slice(0, None)),
        ("-500", slice(-500, None)),
    ],
)
def test_a_range_brings_exactly_its_bytes(curl, get, text, part):
    answer = curl("--range", text, get)
    assert (answer.status, answer.body == MEDIA[part]) == (206, True)
    start = part.start % len(MEDIA) if part.start else 0
    assert answer.fields["content-range"] == f"bytes {start}-{start + len(MEDIA[part]) - 1}/{len(MEDIA)}"


def test_a_range_beyond_the_end_is_refused_by_s3(curl, get):
    answer = curl("--range", "9000000-", get)
    assert answer.status == 416
    assert b"InvalidRange" in answer.body and "x-filmgate-error" not in answer.fields


def test_several_ranges_are_answered_as_s3_does(curl, get, seaweed, links, stored, authority, tmp_path):
    link = links.make("GET", stored)
    direct = Curl(tmp_path, authority.ca, link.authority, seaweed.https)
    through = curl("--range", "0-9,100-109", get)
    at = link.at(f"{direct.name}:{direct.port}")
    straight = direct("--range", "0-9,100-109", "--header", f"Host: {link.authority}", at)
    assert (through.status, len(through.body)) == (straight.status, len(straight.body))


def test_if_none_match_gives_304_and_if_match_412(curl, get):
    etag = curl(get).fields["etag"]
    same = curl("--header", f"If-None-Match: {etag}", get)
    assert (same.status, same.body, same.fields["etag"]) == (304, b"", etag)
    other = curl("--header", 'If-None-Match: "0"', get)
    assert (other.status, other.body == MEDIA) == (200, True)
    assert curl("--header", 'If-Match: "0"', get).status == 412


def test_head_is_head_and_a_get_link_is_no_head_link(curl, get, links, gate, stored):
    answer = curl("--head", links.make("HEAD", stored).at(gate.authority()))
    assert (answer.status, answer.fields["content-length"]) == (200, str(len(MEDIA)))
    assert curl("--head", get).status == 403, "the method is signed, and stays what it was"


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"], ids=["with Expect", "without Expect"])
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_put_stores_exactly_the_file(curl, gate, links, seaweed, tmp_path, expect, size):
    key = f"put/{size} {len(expect)}.mov"
    file = tmp_path / "upload.mov"
    file.write_bytes(MEDIA[:size])
    answer = curl("--upload-file", file, "--header", expect, links.make("PUT", key).at(gate.authority()))
    assert answer.status == 200
    assert answer.fields["etag"] == f'"{hashlib.md5(MEDIA[:size]).hexdigest()}"'
    assert seaweed.get(key) == MEDIA[:size]


def test_put_from_a_pipe_has_no_length_and_is_stored_all_the_same(curl, gate, links, seaweed):
    link = links.make("PUT", "put/pipe.mov").at(gate.authority())
    answer = curl("--upload-file", "-", link, input=MEDIA)
    assert (answer.status, seaweed.get("put/pipe.mov") == MEDIA) == (200, True)


def test_put_from_a_pipe_beyond_the_bound_is_refused_and_not_stored(curl, gate, links, seaweed):
    link = links.make("PUT", "put/endless.mov").at(gate.authority())
    answer = curl("--upload-file", "-", link, input=MEDIA * 4, check=False)
    assert answer.status in (411, 413), "limits.spool-bytes is 8 MiB"
    assert answer.fields["content-type"] == "application/xml" and answer.fields["x-filmgate-error"]
    stored = seaweed.admin.list_objects_v2(Bucket=BUCKET, Prefix="put/endless")
    assert stored["KeyCount"] == 0


def test_a_broken_download_resumes(curl, get, tmp_path):
    file = tmp_path / "resumed.mov"
    file.write_bytes(MEDIA[:1_234_567])
    answer = curl("--continue-at", "-", get, output=file)
    assert answer.status == 206
    assert file.read_bytes() == MEDIA


@pytest.mark.parametrize("alpn", ["--alpn", "--no-alpn"])
def test_an_http_1_0_client_downloads(curl, get, alpn):
    """With ALPN such a client offers `http/1.0` and nothing else."""
    answer = curl("--http1.0", alpn, get)
    assert (answer.status, answer.body == MEDIA) == (200, True)


def test_several_links_go_over_one_connection(gate, authority, get, tmp_path):
    files = [tmp_path / str(number) for number in range(4)]
    outputs = [word for file in files for word in ("--output", file, get)]
    where = ("--cacert", authority.ca, "--resolve", f"{GATE}:{gate.https}:127.0.0.1")
    done = run("curl", "--silent", "--http1.1", *where, "--write-out", "%{num_connects} ", *outputs, text=True)
    assert done.stdout.split() == ["1", "0", "0", "0"]
    assert all(file.read_bytes() == MEDIA for file in files)


@pytest.mark.parametrize("how", ["signature", "key", "expiry", "added"])
def test_a_tampered_link_gets_s3s_own_refusal(curl, gate, links, stored, how):
    url = links.make("GET", stored).at(gate.authority())
    tampered = {
        "signature": url[:-4] + ("0000" if url[-4:] != "0000" else "1111"),
        "key": url.replace("v002", "v003"),
        "expiry": url.replace("X-Amz-Expires=900", "X-Amz-Expires=901"),
        "added": url + "&versionId=1",
    }[how]
    assert tampered != url
    answer = curl(tampered)
    assert (answer.status, answer.fields["content-type"]) == (403, "application/xml")
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.body
    assert answer.fields["x-amz-request-id"] and "x-filmgate-error" not in answer.fields


def test_an_expired_link_gets_s3s_own_refusal(curl, gate, links, stored):
    url = links.make("GET", stored, expires=1).at(gate.authority())
    time.sleep(2.1)
    answer = curl(url)
    assert answer.status == 403
    assert b"<Error>" in answer.body and "x-filmgate-error" not in answer.fields


def test_a_cookie_and_authorization_do_not_spoil_a_link(curl, get):
    """Toolkit carries ShotGrid's session along a redirect; S3 refuses two kinds of authentication at once."""
    answer = curl("--header", "Cookie: _session_id=0123456789abcdef", "--header", "Authorization: Bearer token", get)
    assert (answer.status, answer.body == MEDIA) == (200, True)


def test_multipart_parts_pass_with_their_own_links(curl, gate, seaweed, links, tmp_path):
    key = "multipart/shot 020+.mov"
    upload = seaweed.admin.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    parts, whole = [], b""
    for number in (1, 2, 3):
        data = hashlib.shake_256(bytes([number])).digest(5 << 20 if number < 3 else 1000)
        whole += data
        file = tmp_path / f"part{number}"
        file.write_bytes(data)
        url = links.shotgrid("PUT", key, partNumber=str(number), uploadId=upload).at(gate.authority())
        answer = curl("--upload-file", file, url)
        assert answer.status == 200
        parts.append({"PartNumber": number, "ETag": answer.fields["etag"]})
    seaweed.admin.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    assert hashlib.sha256(seaweed.get(key)).digest() == hashlib.sha256(whole).digest()
