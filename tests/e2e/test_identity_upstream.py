"""What S3 gets to see of a request the gate signs, by an S3 that computes every signature anew."""

import re
import threading
import urllib.parse

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import forge
import sigv4
import wire
from forge import Forge, header, link, put, signed_chunks, signed_trailer, unsigned_trailer
from gate import Client, ReSign, Route
from identity import EACH, ENDPOINT, EVERYTHING, FEATURES, MEDIA, STUDIO_KEY, process_credential
from seaweed import BUCKET, DOMAIN, HOST, PLATES, REGION
from sigv4 import Key, Scope
from strict import Strict, judge
from test_keys import KEYS
from upstream import Request

EXAMPLE = Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "a-token")
ODD_QUERIES = [
    "?list-type=2&prefix=a%20b%2B%26%3D/&delimiter=/",
    "?prefix=%E6%97%A5&list-type=2",
    "?list-type=2&prefix=a+b",
    "?list-type=2&start-after=~a!*'()&prefix=",
    "?prefix=a=b==&list-type=2",
    "?delimiter&list-type=2",
]


def requested(raw: forge.Raw) -> Request:
    """A forged request as an upstream would have read it."""
    line, fields = wire.parse_head(raw.data().partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    return Request(raw.data().partition(b"\r\n\r\n")[0], line, fields, None, raw.body)


def faults(raw: forge.Raw, key: Key = STUDIO_KEY) -> list[str]:
    return judge(requested(raw), {key.id: key}, {REGION}, {ENDPOINT}).faults


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[1:-1][:40])
def test_the_forge_signs_as_botocore_does(key):
    path = urllib.parse.quote(key, safe="/~")
    date = sigv4.stamp()
    for query in ("", "?list-type=2&prefix=a%20b%2F&x=", "?uploads="):
        url = f"https://{HOST}/{path}{query}"
        request = AWSRequest("PUT", url, headers={"x-amz-meta-a": "b  c ", "Content-MD5": "x"}, data=b"frame")
        auth = S3SigV4Auth(Credentials(EXAMPLE.id, EXAMPLE.secret, EXAMPLE.token), "s3", REGION)
        auth.add_auth(request)
        date = request.context["timestamp"]
        own = Forge(
            "PUT",
            f"/{path}{query}",
            HOST,
            [("x-amz-meta-a", "b  c "), ("Content-MD5", "x")],
            b"frame",
            EXAMPLE,
            date=date,
        ).signed()
        assert own.get("authorization") == request.headers["Authorization"]
    request = AWSRequest("GET", f"https://{HOST}/{path}")
    auth = S3SigV4QueryAuth(Credentials(EXAMPLE.id, EXAMPLE.secret, EXAMPLE.token), "s3", REGION, expires=300)
    auth.add_auth(request)
    own = Forge("GET", f"/{path}", HOST, key=EXAMPLE, date=request.context["timestamp"]).presigned()
    assert own.target.rpartition("=")[2] == request.url.rpartition("=")[2]


def test_chunks_are_signed_as_in_the_example_of_aws():
    """ "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks"."""
    scope, date = Scope("20130524", "us-east-1"), "20130524T000000Z"
    signature = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    for data, expected in [
        (b"a" * 65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (b"a" * 1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ]:
        signature = sigv4.chunk_signature(EXAMPLE.secret, date, scope, signature, data)
        assert signature == expected


def test_the_strict_s3_finds_every_fault():
    """The other half of this file believes it."""
    for good in (header(), put(), put(payload=sigv4.UNSIGNED), signed_chunks(), signed_trailer(), unsigned_trailer()):
        assert faults(good) == []
    for bad, found in [
        (header().but("x-amz-date", sigv4.stamp(-3600)), "x-amz-date"),
        (header(region="eu-west-1"), "scope"),
        (header(key=Key("A", "b")), "unknown key"),
        (header(key=Key(STUDIO_KEY.id, "b")), "another one"),
        (header().at("a.mov", "b.mov"), "another one"),
        (header().also("x-amz-meta-a", "b"), "not signed"),
        (header().also("Cookie", "a"), "cookie"),
        (header("GET", forge.OBJECT, ("connection", "close")), "hop-by-hop"),
        (header().also("x-amz-security-token", "b"), "session token"),
        (header().at("a.mov", "a.mov?X-Amz-Signature=1"), "beside"),
        (forge.Raw("GET", "/", [("Host", ENDPOINT)]), "0 Authorization"),
        (put(payload=sigv4.EMPTY), "another body"),
        (signed_chunks(lambda body: body.replace(b"bbb", b"bab", 1)), "the signature of the chunk"),
        (signed_chunks(length="1"), "decoded"),
        (signed_trailer(lambda body: body.replace(b"crc32:", b"crc32:A")), "the signature of the trailer"),
        (unsigned_trailer(lambda body: body.replace(b"bbb", b"bab", 1)), "another body"),
        (unsigned_trailer(trailers=()), "announced"),
        (unsigned_trailer(lambda body: body[:-10] + b"x"), ""),
    ]:
        said = faults(bad)
        assert said and any(found in fault for fault in said), (said, found)


@pytest.fixture(scope="module")
def storage(upstream_identity):
    strict = Strict(upstream_identity, REGION, {HOST, f"{PLATES}.{DOMAIN}", DOMAIN})
    strict.forbidden |= {STUDIO_KEY.id, "c00kie-s3cret"}
    yield strict
    strict.close()


@pytest.fixture(scope="module")
def signing(start_gate, storage, authority, resign_identity, workspace):
    upstream = {"connect": [storage.address], "ca": authority.ca, "server_name": HOST}
    usual = {"credential": "role", "allow": [{"clients": ["*"], "operations": EVERYTHING, "features": FEATURES}]}
    return start_gate(
        Route([ENDPOINT], host=EACH, resign=ReSign(buckets=[BUCKET, PLATES], **usual), **upstream),
        Route([MEDIA], host=HOST, resign=ReSign(**usual), **upstream),
        identities=[resign_identity],
        clients=[Client("studio", STUDIO_KEY)],
        credentials=[process_credential(workspace / "signing.json", storage)],
        workers=1,
    )


@pytest.fixture
def connection(signing, storage):
    storage.forget()
    with wire.Connection(signing.https, ENDPOINT, context=wire.client_context(verify=False)) as made:
        yield made


def passes(connection, storage, raw: forge.Raw):
    """Sends a request and returns what S3 found out about it, which must be nothing bad."""
    storage.forget()
    connection.send(raw.data())
    response = connection.response(raw.method)
    assert response.status == 200, (response.status, response.body, [verdict.faults for verdict in storage.verdicts])
    return storage.only()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[1:-1][:40])
def test_every_key_is_signed_as_it_is(connection, storage, key):
    path = urllib.parse.quote(key, safe="/~")
    for raw in (
        header(target=f"/{BUCKET}/{path}"),
        header(target=f"/{path}", host=MEDIA),
        header(target=f"/{path}", host=f"{BUCKET}.{ENDPOINT}"),
        link(target=f"/{BUCKET}/{path}"),
        link("PUT", f"/{path}", host=MEDIA, body=b"frame"),
    ):
        verdict = passes(connection, storage, raw)
        target = verdict.request.target.decode("latin-1").partition("?")[0]
        assert urllib.parse.unquote_to_bytes(target).removeprefix(f"/{BUCKET}".encode()) == b"/" + key.encode()
        assert "?" not in verdict.request.target.decode("latin-1"), "nothing of the link's signature is left"


@pytest.mark.parametrize("query", ODD_QUERIES)
def test_every_query_is_signed_as_it_is(connection, storage, query):
    expected = urllib.parse.parse_qsl(query[1:], keep_blank_values=True)
    for raw in (header(target=f"/{BUCKET}{query}"), header(target=f"/{BUCKET}/{query}"), link(target=f"/{BUCKET}{query}")):
        sent = passes(connection, storage, raw).request.target.decode().partition("?")[2]
        assert urllib.parse.parse_qsl(sent, keep_blank_values=True) == expected
        # As it was verified and decided about, so that nobody reads it in another way.
        for part in sent.replace("=", "&").split("&"):
            assert part == urllib.parse.quote(urllib.parse.unquote_plus(part), safe="-_.~")


def test_the_buckets_are_told_apart(connection, storage):
    for bucket in (BUCKET, PLATES):
        for raw in (header(target=f"/{bucket}/a"), header(target="/a", host=f"{bucket}.{ENDPOINT}")):
            request = passes(connection, storage, raw).request
            assert (request.get("host"), request.target) in [
                (f"{bucket}.{DOMAIN}", b"/a"),
                (DOMAIN, f"/{bucket}/a".encode()),
            ]


def test_fields_of_the_request_travel_and_those_of_the_hop_and_of_the_client_do_not(connection, storage):
    kept = [
        ("user-agent", "rclone/v1"),
        ("if-match", '"a"'),
        ("if-none-match", '"b"'),
        ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("range", "bytes=0-9"),
        ("content-type", "video/quicktime"),
        ("cache-control", "no-cache"),
        ("content-disposition", 'attachment; filename="a  b"'),
        ("x-amz-meta-shot", "a  b"),
        ("x-amz-checksum-mode", "ENABLED"),
    ]
    dropped = [
        ("cookie", "_session_id=c00kie-s3cret"),
        ("proxy-authorization", "Basic YTpi"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("x-per-hop", "1"),
        ("connection", "keep-alive, x-per-hop, upgrade"),
    ]
    raw = header("GET", forge.OBJECT, *kept)
    raw.fields += dropped
    verdict = passes(connection, storage, raw)
    names = verdict.request.names()
    for name, value in kept:
        assert verdict.request.get(name) == value
    assert not {name for name, _ in dropped} - {"connection"} & set(names)
    assert names.count("authorization") == names.count("x-amz-date") == names.count("host") == 1
    assert verdict.payload in (sigv4.EMPTY, sigv4.UNSIGNED)


@pytest.mark.parametrize(
    ("make", "payload"),
    [
        (put, sigv4.sha256(b"frame")),
        (lambda: put(b""), sigv4.EMPTY),
        (lambda: put(b"x" * 3_000_000), sigv4.sha256(b"x" * 3_000_000)),
        (lambda: put(payload=sigv4.UNSIGNED), sigv4.UNSIGNED),
        (lambda: link("PUT", body=b"frame"), sigv4.UNSIGNED),
        (signed_chunks, sigv4.SIGNED_CHUNKS),
        (lambda: signed_chunks(pieces=[b""], length="0"), sigv4.SIGNED_CHUNKS),
        (
            lambda: signed_chunks(pieces=[*(b"%d" % n * 65_536 for n in range(10)), b""], length="655360"),
            sigv4.SIGNED_CHUNKS,
        ),
        (signed_trailer, sigv4.SIGNED_TRAILER),
        (unsigned_trailer, sigv4.UNSIGNED_TRAILER),
        (
            lambda: unsigned_trailer(
                trailers=(("x-amz-checksum-sha256", sigv4.checksum("sha256", b"".join(forge.DATA))),),
                trailer="x-amz-checksum-sha256",
            ),
            sigv4.UNSIGNED_TRAILER,
        ),
        (
            lambda: unsigned_trailer(
                trailers=(("x-amz-checksum-crc64nvme", sigv4.checksum("crc64nvme", b"".join(forge.DATA))),),
                trailer="x-amz-checksum-crc64nvme",
            ),
            sigv4.UNSIGNED_TRAILER,
        ),
    ],
)
@pytest.mark.parametrize("coding", ["content-length", "chunked"])
def test_what_the_client_says_of_its_body_is_what_s3_is_told(connection, storage, make, payload, coding):
    raw = make()
    if coding == "chunked":
        if payload not in (sigv4.SIGNED_CHUNKS, sigv4.SIGNED_TRAILER, sigv4.UNSIGNED_TRAILER):
            raw.body = raw.body[: 1 << 19]
            if payload not in (sigv4.UNSIGNED, sigv4.sha256(raw.body)):
                return
        body, raw.body = raw.body, b""
        half = len(body) // 2
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece)
        data = raw.also("Transfer-Encoding", "chunked").data() + pieces + b"0\r\n\r\n"
    else:
        body, data = raw.body, raw.data()
    expects_100 = data.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1)
    for sent in (data, expects_100):
        storage.forget()
        connection.send(sent)
        response = connection.response("PUT")
        assert response.status == 200, (response.body, [verdict.faults for verdict in storage.verdicts])
        verdict = storage.only()
        assert verdict.payload == payload or (payload == sigv4.UNSIGNED and verdict.payload == payload)
        decoded = raw.get("x-amz-decoded-content-length")
        assert len(verdict.body) == int(decoded or len(body))


def test_a_body_that_is_not_the_one_that_was_signed_is_s3s_to_refuse(connection, storage):
    """Nothing is hashed here unless `verify-payload` says so: the client's digest travels in the gate's signature."""
    raw = put()
    raw.body = b"Frame"
    connection.send(raw.data())
    response = connection.response("PUT")
    assert (response.status, b"<Code>XAmzContentSHA256Mismatch</Code>" in response.body) == (400, True)
    assert storage.verdicts[0].faults == [f"x-amz-content-sha256 {sigv4.sha256(b'frame')} is that of another body"]


def test_the_parameters_of_a_link_that_stand_for_fields_are_signed(connection, storage):
    crc = sigv4.checksum("crc32", b"frame")
    raw = link(
        "PUT",
        f"{forge.OBJECT}?x-amz-meta-user-id=93&x-amz-checksum-crc32={urllib.parse.quote(crc)}",
        body=b"frame",
    )
    request = passes(connection, storage, raw).request
    assert request.get("x-amz-meta-user-id") == "93"
    assert b"user-id" not in request.target
    raw = link("GET", f"{forge.OBJECT}?response-content-disposition=filename%3D%22a%20b%22")
    assert b"response-content-disposition=filename%3D%22a%20b%22" in passes(connection, storage, raw).request.target


def test_a_browsers_question_goes_to_s3_without_a_signature(connection, storage):
    asks = [("Host", ENDPOINT), ("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    connection.send(forge.Raw("OPTIONS", forge.OBJECT, asks + [("Cookie", "c00kie-s3cret")]).data())
    connection.response("OPTIONS")
    request = storage.requests[0]
    assert (request.method, request.get("origin")) == ("OPTIONS", "https://a.example")
    assert not [name for name in request.names() if name.startswith("x-amz-") or name in ("authorization", "cookie")]


def test_one_connection_carries_many_signatures(connection, storage):
    for number in range(50):
        raw = header(target=f"/{BUCKET}/shots/{number}") if number % 2 else link(target=f"/{BUCKET}/shots/{number}")
        passes(connection, storage, raw)


def test_bodies_that_come_in_crumbs_are_signed_all_the_same(connection, storage):
    data = [b"a" * 40, b"b" * 7, b"c"]
    length = str(sum(map(len, data)))
    crc = ("x-amz-checksum-crc32", sigv4.checksum("crc32", b"".join(data)))
    for kind, signs in ((sigv4.SIGNED_CHUNKS, True), (sigv4.SIGNED_TRAILER, True), (sigv4.UNSIGNED_TRAILER, False)):
        has_trailer = kind != sigv4.SIGNED_CHUNKS
        for size in (1, 3, 7, 50):
            raw = forge.stream(kind, crc[0] if has_trailer else None, length)
            raw = forge.chunks(raw, pieces=[*data, b""], trailers=(crc,) if has_trailer else (), signs=signs)
            storage.forget()
            sent = raw.data()
            head = sent.index(b"\r\n\r\n") + 4
            connection.send(sent[:head])
            for at in range(head, len(sent), size):
                connection.send(sent[at : at + size])
            assert connection.response("PUT").status == 200
            assert storage.only().body == b"".join(data)


def test_many_at_once_do_not_get_into_each_others_signatures(signing, storage):
    storage.forget()
    bodies = [b"%d" % number * 30_000 for number in range(4)]
    failures = []

    def client(number: int) -> None:
        try:
            with wire.Connection(signing.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
                for turn in range(10):
                    body = bodies[(number + turn) % 4]
                    target = f"/{BUCKET}/many/{number}-{turn}"
                    make = [
                        lambda: header(target=target),
                        lambda: link(target=target),
                        lambda: header("PUT", target, body=body),
                        lambda: forge.chunks(
                            header(
                                "PUT",
                                target,
                                ("content-encoding", "aws-chunked"),
                                ("x-amz-decoded-content-length", str(len(body))),
                                payload=sigv4.SIGNED_CHUNKS,
                            ),
                            pieces=[body, b""],
                        ),
                    ]
                    raw = make[turn % 4]()
                    connection.send(raw.data())
                    response = connection.response(raw.method)
                    assert response.status == 200, response.body
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert len(storage.verdicts) == 240
    assert not [verdict.faults for verdict in storage.verdicts if verdict.faults]


def test_the_access_log_says_who_asked_and_holds_no_secret(signing, connection, storage, workspace):
    raw = header(target=f"/{BUCKET}/logged/by-name.mov")
    passes(connection, storage, raw)
    record = signing.record_of(lambda record: record.get("key") == "logged/by-name.mov")
    assert "studio" in record.values(), record
    text = signing.log.read_text() + signing.output()
    for secret in (
        STUDIO_KEY.secret,
        raw.get("authorization").rpartition("=")[2],
        *(k.secret for k in storage.keys.values()),
    ):
        assert secret not in text
    assert not re.search(r"Signature=[0-9a-f]{8}", text)
