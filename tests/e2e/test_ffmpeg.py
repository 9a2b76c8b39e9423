"""RV's way of playing a movie: ffmpeg over https with seeks, the index at the end of the file."""

import json

import pytest

from conftest import GATE
from programs import run

SECONDS, FRAMES_A_SECOND = 20, 24


@pytest.fixture(scope="module")
def movie(seaweed, tmp_path_factory):
    """An mp4 with its `moov` atom last, stored in S3."""
    file = tmp_path_factory.mktemp("movie") / "shot 010+v002.mp4"
    run(
        *("ffmpeg", "-v", "error", "-y", "-f", "lavfi"),
        *("-i", f"testsrc2=size=640x360:rate={FRAMES_A_SECOND}:duration={SECONDS}"),
        *("-c:v", "mpeg4", "-b:v", "6000k", "-g", "24", "-movflags", "0", file),
    )
    data = file.read_bytes()
    assert data.rfind(b"moov") > data.rfind(b"mdat"), "the index is last, so that a player has to seek"
    seaweed.put("movies/shot 010+v002.mp4", data)
    return file


@pytest.fixture
def url(gate, links, movie) -> str:
    return links.shotgrid("GET", "movies/shot 010+v002.mp4").at(gate.authority("localhost"))


def trust(authority) -> tuple:
    return ("-tls_verify", "1", "-ca_file", authority.ca)


def test_ffprobe_reads_the_index_at_the_end(gate, authority, url):
    seen = len(gate.records())
    done = run("ffprobe", "-v", "error", *trust(authority), "-show_format", "-show_streams", "-of", "json", url)
    found = json.loads(done.stdout)
    assert float(found["format"]["duration"]) == pytest.approx(SECONDS, abs=0.2)
    assert found["streams"][0]["codec_name"] == "mpeg4"
    gate.record_of(lambda r: r["host"].startswith("localhost") and (r.get("range") or "bytes=0-") != "bytes=0-")
    assert len(gate.records()) > seen


def test_every_frame_after_a_seek_is_the_frame_of_the_file(authority, url, movie):
    def frames(source, *options):
        command = (
            "ffmpeg",
            "-v",
            "error",
            *options,
            "-ss",
            "12.5",
            "-i",
            source,
            "-frames:v",
            "10",
            "-f",
            "framemd5",
            "-",
        )
        return [line for line in run(*command).stdout.splitlines() if not line.startswith(b"#")]

    through = frames(url, *trust(authority))
    assert len(through) == 10
    assert through == frames(movie)


def test_a_whole_movie_is_decoded_without_an_error(authority, url, movie):
    options = ("-reconnect", "1", "-seekable", "1", "-multiple_requests", "1")
    command = ("ffmpeg", "-v", "error", *options, *trust(authority), "-i", url, "-map", "0:v", "-f", "md5", "-")
    through = run(*command)
    assert through.stderr == b""
    assert through.stdout == run("ffmpeg", "-v", "error", "-i", movie, "-map", "0:v", "-f", "md5", "-").stdout


def test_a_player_that_jumps_about_gets_every_frame(gate, authority, url):
    for at in (19, 1, 10, 5, 15):
        done = run(
            "ffmpeg", "-v", "error", *trust(authority), "-ss", at, "-i", url, "-frames:v", "1", "-f", "null", "-"
        )
        assert done.stderr == b""
    assert gate.connect(GATE).exchange("GET", "/ping").status == 200
