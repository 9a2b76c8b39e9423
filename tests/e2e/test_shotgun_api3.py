"""shotgun_api3 itself, uploading and downloading media through the gate."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import shotgun_api3

import ports
from gate import Route
from seaweed import HOST
from shotgrid_site import Site


@pytest.fixture(scope="module")
def site(seaweed, links, gate):
    made = Site(seaweed, links, gate.authority("localhost"))
    yield made
    made.close()


@pytest.fixture(params=["ca_certs", "SHOTGUN_API_CACERTS"])
def shotgun(site, authority, request, monkeypatch):
    """A connection to the site that trusts the studio's CA, by argument or by environment."""
    given = {}
    if request.param == "ca_certs":
        given["ca_certs"] = str(authority.ca)
    else:
        monkeypatch.setenv("SHOTGUN_API_CACERTS", str(authority.ca))
    return shotgun_api3.Shotgun(site.url, script_name="e2e", api_key="key", **given)


def make_file(path, size: int) -> str:
    """A file of random bytes; returns its SHA-256."""
    data = os.urandom(size)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def sha256(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize(
    ("name", "size", "parts"),
    [
        ("tiny.jpg", 1, 0),
        ("shot 010 + comp v002 (été) 100%.mov", 19_999_999, 0),
        ("exactly twenty.mov", 20_000_000, 0),
        ("just over.mov", 20_000_001, 2),
        ("étage&co=#1?.mov", 45_000_000, 3),
    ],
)
def test_an_upload_comes_back_as_it_was(shotgun, site, gate, tmp_path, name, size, parts):
    original = tmp_path / name
    digest = make_file(original, size)
    site.parts_asked.clear()
    attachment = shotgun.upload("Version", 7115, str(original), field_name="sg_uploaded_movie")
    assert site.parts_asked == list(range(1, parts + 1)), "single up to 20 MB, in parts above"
    key = site.attachments[attachment]
    assert hashlib.sha256(site.seaweed.get(key)).hexdigest() == digest, "S3 holds what the artist had"
    copy = tmp_path / "downloaded"
    shotgun.download_attachment({"type": "Attachment", "id": attachment}, file_path=str(copy))
    assert sha256(copy) == digest
    in_memory = shotgun.download_attachment(attachment)
    assert hashlib.sha256(in_memory).hexdigest() == digest
    record = gate.record_of(lambda r: r.get("key") == key and r["method"] == "GET")
    assert (record["status"], record["user_id"], record["user_type"]) == (200, "93", "ApiUser")
    puts = [r for r in gate.records() if r.get("key") == key and r["method"] == "PUT"]
    assert len(puts) == max(parts, 1) and sum(r["bytes_in"] for r in puts) == size


def test_a_missing_attachment_is_reported_as_s3_reports_it(shotgun, site):
    site.attachments[9] = "shotgun/never/uploaded.mov"
    with pytest.raises(shotgun_api3.ShotgunFileDownloadError, match="404"):
        shotgun.download_attachment({"type": "Attachment", "id": 9})


def test_an_upload_while_s3_is_down_fails_with_a_message(seaweed, links, start_gate, authority, tmp_path):
    gate = start_gate(Route(["localhost"], [f"127.0.0.1:{ports.free()}"], HOST, ca=authority.ca))
    site = Site(seaweed, links, gate.authority("localhost"))
    try:
        broken = shotgun_api3.Shotgun(site.url, script_name="e2e", api_key="key", ca_certs=str(authority.ca))
        make_file(tmp_path / "a.mov", 1_000_000)
        with pytest.raises(shotgun_api3.ShotgunError, match="502"):
            broken.upload("Version", 1, str(tmp_path / "a.mov"), field_name="sg_uploaded_movie")
    finally:
        site.close()


def test_many_artists_at_once_do_not_mix_up_their_media(site, authority, tmp_path):
    def round_trip(number: int) -> bool:
        connection = shotgun_api3.Shotgun(site.url, script_name="e2e", api_key="key", ca_certs=str(authority.ca))
        original = tmp_path / f"artist {number}.mov"
        digest = make_file(original, 2_000_000 + number)
        attachment = connection.upload("Version", number, str(original), field_name="sg_uploaded_movie")
        return hashlib.sha256(connection.download_attachment(attachment)).hexdigest() == digest

    with ThreadPoolExecutor(8) as artists:
        assert all(artists.map(round_trip, range(16)))
