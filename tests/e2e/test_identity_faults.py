"""Credentials that end, a token service that is down, a role that is revoked, buckets elsewhere, and wrong clocks."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import forge
import sigv4
import wire
from forge import header, link
from gate import Client, Credential, ReSign, Route
from identity import MEDIA, STUDIO_KEY, matrix_rule
from ports import poll
from programs import run
from seaweed import GATE_KEY, GATE_SECRET, HOST, REGION
from sigv4 import Key
from strict import Injected, Strict
from sts import TokenService

ELSEWHERE = "eu-west-1"
SHOT = "/shots/a.mov"


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture
def service(certificate, upstream_identity):
    """A token service, and an S3 that takes what it issues, fresh for each test."""
    strict = Strict(upstream_identity, REGION, {HOST, HOST.replace(REGION, ELSEWHERE)})
    made = TokenService(certificate, [Key(GATE_KEY, GATE_SECRET)], strict)
    yield made
    made.close()
    strict.close()


@pytest.fixture
def begin(start_gate, service, seaweed, authority, resign_identity):
    """Starts a gate with a role of that service."""

    def begin(**options):
        sts = {"endpoint": service.endpoint, "ca-file": str(authority.ca)}
        credential = Credential("role", {"region": REGION}, [{"arn": "arn:aws:iam::000000000000:role/R"}], sts)
        upstream = {"connect": [service.strict.address], "ca": authority.ca, "server_name": HOST}
        return start_gate(
            Route([MEDIA], host=HOST, resign=ReSign("role", [matrix_rule("*")]), **upstream),
            identities=[resign_identity],
            clients=[Client("studio", STUDIO_KEY)],
            credentials=[credential],
            workers=1,
            **seaweed.gate_environment(),
            **options,
        )

    return begin


def ask(gate, raw=None):
    """One request, on a connection of its own."""
    raw = raw or header(target=SHOT, host=MEDIA)
    with wire.Connection(gate.https, MEDIA, context=wire.client_context(verify=False)) as connection:
        try:
            connection.send(raw.data())
        except OSError:
            pass  # The answer was there before the end of the body.
        return connection.response(raw.method)


def is_without_credentials(response) -> bool:
    if response.status != 503:
        return False
    assert response.get("content-type") == "application/xml"
    assert b"<Code>ServiceUnavailable</Code>" in response.body
    return True


def test_credentials_are_renewed_before_they_end_and_nobody_notices(begin, service):
    service.seconds = 4
    gate = begin()
    end = time.monotonic() + 9
    while time.monotonic() < end:
        assert ask(gate).status == 200
        time.sleep(0.1)
    assert len(service.issued) >= 3
    used = [verdict.key for verdict in service.strict.verdicts]
    assert len(set(used)) >= 3 and used == sorted(used, key=service.issued.index), "each until there was a newer one"
    assert all(asked.is_signed_well for asked in service.asked)
    assert len(service.asked) < 20, "renewed in good time, but not all the time"


def test_a_token_service_that_is_down_is_noticed_only_when_credentials_end(begin, service):
    service.seconds = 6
    gate = begin()
    assert ask(gate).status == 200
    service.failing = (500, "InternalFailure")
    began = time.monotonic()
    response = ask(gate)
    while response.status == 200:
        assert time.monotonic() - began < 10, "these credentials have ended"
        time.sleep(0.1)
        response = ask(gate)
    assert time.monotonic() - began > 4, "they were good for that long"
    assert is_without_credentials(response), response
    with gate.connect(MEDIA) as connection:
        assert connection.exchange("GET", "/ping").status == 200
    seen = len(service.strict.requests)
    assert is_without_credentials(ask(gate, header("PUT", SHOT, host=MEDIA, body=b"a")))
    assert len(service.strict.requests) == seen, "S3 is not asked without a signature"
    service.failing = None
    service.seconds = 3600
    poll("credentials after the outage", lambda: ask(gate).status == 200, 20, 0.2)
    assert "credential" in gate.output()


def test_a_gate_that_starts_without_a_token_service_comes_up_and_gets_well(begin, service):
    service.failing = (503, "ServiceUnavailable")
    gate = begin()
    assert is_without_credentials(ask(gate))
    service.failing = None
    poll("the first credentials", lambda: ask(gate).status == 200, 20, 0.2)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId"])
def test_credentials_s3_refuses_are_renewed_once(begin, service, code):
    gate = begin()
    assert ask(gate).status == 200
    before = len(service.asked)
    service.strict.injected = [Injected("400 Bad Request" if "Token" in code else "403 Forbidden", code)]
    response = ask(gate)
    assert response.status in (200, 503), "the client did nothing wrong"
    assert f"<Code>{code}</Code>".encode() not in response.body
    poll("another AssumeRole", lambda: len(service.asked) == before + 1, 5)
    poll(
        "requests signed anew",
        lambda: ask(gate).status == 200 and service.strict.verdicts[-1].key == service.issued[-1],
        5,
    )
    time.sleep(0.3)
    assert len(service.asked) == before + 1, "once"
    assert "refuse" in gate.output()


def test_a_revoked_role_does_not_make_the_gate_hammer_the_token_service(begin, service):
    gate = begin()
    before = len(service.asked)
    # Far more than can be asked for in three seconds, at 100 a second and two requests to storage each.
    service.strict.injected = [Injected("403 Forbidden", "InvalidAccessKeyId")] * 10_000
    end = time.monotonic() + 3
    count = 0
    while time.monotonic() < end:
        assert ask(gate).status == 503
        count += 1
        time.sleep(0.01)
    assert count > 10 and len(service.asked) - before <= 2
    service.strict.injected = []
    assert ask(gate).status == 200, "given back, it is used at once"


def test_a_refusal_of_what_the_client_asks_for_is_s3s_own_answer(begin, service):
    gate = begin()
    before = len(service.asked)
    for _ in range(20):
        service.strict.injected = [Injected("403 Forbidden", "AccessDenied")]
        response = ask(gate)
        assert (response.status, b"<Code>AccessDenied</Code>" in response.body) == (403, True)
        assert response.get("x-filmgate-error") is None
    assert len(service.asked) - before <= 2


def test_a_refusal_in_the_middle_of_a_body_reaches_the_client(begin, service):
    gate = begin()
    for make in (lambda: header("PUT", SHOT, host=MEDIA, body=b"a" * 8_000_000), chunks_to_media):
        service.strict.injected = [Injected("403 Forbidden", "AccessDenied", unread=True)]
        response = ask(gate, make())
        assert (response.status, b"<Code>AccessDenied</Code>" in response.body) == (403, True), response


REDIRECTS = {
    "301": Injected("301 Moved Permanently", "PermanentRedirect", (("x-amz-bucket-region", ELSEWHERE),)),
    "307": Injected(
        "307 Temporary Redirect",
        "TemporaryRedirect",
        (("Location", f"https://{HOST.replace(REGION, ELSEWHERE)}{SHOT}"), ("x-amz-bucket-region", ELSEWHERE)),
    ),
    "400": Injected("400 Bad Request", "AuthorizationHeaderMalformed", (), f"<Region>{ELSEWHERE}</Region>"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "LINK", "CHUNKS"])
@pytest.mark.parametrize("how", REDIRECTS)
def test_a_bucket_in_another_region_is_found_inside(begin, service, how, method):
    service.strict.regions.add(ELSEWHERE)
    gate = begin()
    made = {
        "GET": lambda: header(target=SHOT, host=MEDIA),
        "HEAD": lambda: header("HEAD", SHOT, host=MEDIA),
        "PUT": lambda: header("PUT", SHOT, host=MEDIA, body=b"frame"),
        "LINK": lambda: link(target=SHOT, host=MEDIA),
        "CHUNKS": lambda: chunks_to_media(),
    }[method]
    injected = REDIRECTS[how]
    if method == "HEAD" and how == "400":
        injected = Injected("400 Bad Request", "", (("x-amz-bucket-region", ELSEWHERE),))
    service.strict.injected = [headless(injected) if method == "HEAD" else injected]
    response = ask(gate, made())
    assert response.get("location") is None
    assert b"amazonaws" not in response.head + response.body
    # What a client has sent in chunks is gone; it is told to come again.
    assert response.status in ((200, 500, 503) if method == "CHUNKS" else (200,)), response
    response = ask(gate, made())
    assert response.status == 200, (response, [verdict.faults for verdict in service.strict.verdicts])
    last = service.strict.verdicts[-1]
    assert (last.faults, last.region) == ([], ELSEWHERE)
    assert last.request.get("host") == HOST.replace(REGION, ELSEWHERE)


def headless(injected: Injected) -> Injected:
    class Headless(Injected):
        def data(self) -> bytes:
            return injected.data().partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    return Headless(injected.status, injected.code)


def chunks_to_media():
    """A streamed upload to the name that is a bucket."""
    raw = forge.header(
        "PUT",
        SHOT,
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", forge.LENGTH),
        host=MEDIA,
        payload=sigv4.SIGNED_CHUNKS,
    )
    return forge.chunks(raw)


def test_a_region_is_remembered_once_something_was_served_from_there(begin, service):
    service.strict.regions.add(ELSEWHERE)
    gate = begin()
    further = Injected("301 Moved Permanently", "PermanentRedirect", (("x-amz-bucket-region", "ap-south-1"),))
    service.strict.injected = [REDIRECTS["301"], further]
    assert ask(gate).status == 503
    assert ask(gate).status == 200
    assert [verdict.region for verdict in service.strict.verdicts] == [REGION, ELSEWHERE, REGION]
    service.strict.verdicts.clear()
    service.strict.injected = [REDIRECTS["400"]]
    assert [ask(gate).status for _ in range(2)] == [200, 200]
    assert [verdict.region for verdict in service.strict.verdicts] == [REGION, ELSEWHERE, ELSEWHERE]
    assert gate.output().count("the bucket is in another region") == 1


def long_upload():
    """One that cannot be sent again: most of it is still with the client when the storage answers."""
    return header("PUT", SHOT, host=MEDIA, body=b"a" * 3_000_000)


def preflight():
    asks = [("Host", MEDIA), ("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    return forge.Raw("OPTIONS", SHOT, asks)


@pytest.mark.parametrize("who", ["client", "anybody"])
def test_a_refusal_does_not_make_the_gate_forget_where_a_bucket_is(begin, service, who):
    """S3 refuses a client a key that does not exist, and anybody a question about CORS."""
    service.strict.regions.add(ELSEWHERE)
    gate = begin()
    service.strict.injected = [REDIRECTS["301"]]
    assert ask(gate, long_upload()).status == 503
    for _ in range(3):
        service.strict.injected = [Injected("403 Forbidden", "AccessDenied")]
        assert ask(gate, preflight() if who == "anybody" else None).status == 403
    assert ask(gate, long_upload()).status == 200
    assert service.strict.verdicts[-1].region == ELSEWHERE
    assert gate.output().count("the bucket is in another region") == 1


def test_a_failure_of_somebody_in_between_proves_no_region(begin, service):
    service.strict.regions.add(ELSEWHERE)
    gate = begin()
    service.strict.injected = [REDIRECTS["301"], Injected("503 Slow Down", "SlowDown")]
    assert ask(gate).status == 503
    assert "the bucket is in another region" not in gate.output()
    assert ask(gate).status == 200
    assert service.strict.verdicts[-1].region == ELSEWHERE
    poll("the region in the log", lambda: gate.output().count("the bucket is in another region") == 1)


@pytest.mark.parametrize("how", ["301", "400"])
def test_requests_on_their_way_while_a_region_is_learned_are_served(begin, service, how):
    service.strict.regions.add(ELSEWHERE)
    gate = begin()
    before, redirect = len(service.asked), REDIRECTS[how]
    # The last ones are told only when the first one has been served from the other region.
    service.strict.injected = [replace(redirect, delay=delay) for delay in (0.3, 1.0, 1.0, 1.0)]
    with ThreadPoolExecutor(4) as pool:
        responses = [each.result() for each in [pool.submit(ask, gate) for _ in range(4)]]
    assert [response.status for response in responses] == [200] * 4, responses
    regions = [verdict.region for verdict in service.strict.verdicts]
    assert sorted(regions) == sorted([REGION, ELSEWHERE] * 4)
    assert len(service.asked) == before, "the credentials are good"


def test_clients_cannot_make_the_gate_doubt_its_credentials(begin, service):
    gate = begin()
    before = len(service.asked)
    # Nothing was signed.
    service.strict.injected = [Injected("403 Forbidden", "InvalidAccessKeyId")]
    assert ask(gate, preflight()).status == 403
    assert ask(gate).status == 200
    # About a field that the storage reads in another way, or a region that the client has chosen.
    service.strict.injected = [Injected("403 Forbidden", "SignatureDoesNotMatch")]
    response = ask(gate)
    assert (response.status, response.get("x-filmgate-error")) == (502, "signature-refused")
    service.strict.injected = [Injected("400 Bad Request", "IllegalLocationConstraintException")]
    response = ask(gate)
    assert (response.status, b"<Code>IllegalLocationConstraintException</Code>" in response.body) == (400, True)
    time.sleep(0.5)
    assert len(service.asked) == before
    assert "revoked" not in gate.output()


ROLE = "arn:aws:sts::123456789012:assumed-role/FilmgateMedia/filmgate"


def test_the_key_that_signed_is_hidden_though_there_is_a_newer_one(begin, service):
    service.seconds = 4
    gate = begin()
    old = service.issued[-1].id
    service.strict.injected = [Injected("409 Conflict", "OperationAborted", message=f"by {old}")]
    data = header("PUT", SHOT, host=MEDIA, body=b"a" * 200_000).data()
    with wire.Connection(gate.https, MEDIA, context=wire.client_context(verify=False)) as connection:
        connection.send(data[:100_000])
        poll("the upload at the storage", lambda: not service.strict.injected)
        is_newer = lambda: ask(gate).status == 200 and service.strict.verdicts[-1].key.id != old
        poll("newer credentials in use", is_newer, pause=0.1)
        connection.send(data[100_000:])
        response = connection.response("PUT")
    assert (response.status, b"<Code>OperationAborted</Code>" in response.body) == (409, True)
    assert old.encode() not in response.body
    assert [verdict.key.id for verdict in service.strict.verdicts if verdict.request.method == "PUT"] == [old]


def test_one_client_cannot_flood_the_log_with_refusals(begin, service):
    gate = begin()
    denial = Injected("403 Forbidden", "AccessDenied", message=f"User: {ROLE} is not authorized")
    service.strict.injected = [denial] * 100
    with wire.Connection(gate.https, MEDIA, context=wire.client_context(verify=False)) as connection:
        for _ in range(100):
            connection.send(header(target=SHOT, host=MEDIA).data())
            assert connection.response("GET").status == 403
    poll("the first one in the log", lambda: ROLE in gate.output())
    time.sleep(0.2)
    assert gate.output().count(ROLE) == 1


def test_a_key_that_looks_like_a_role_is_the_clients_own_business(begin, service):
    gate = begin()
    missing = Injected("404 Not Found", "NoSuchKey", extra=f"<Key>shots/{ROLE}</Key><Resource>/b/{ROLE}</Resource>")
    service.strict.injected = [missing]
    response = ask(gate)
    assert (response.status, response.body) == (404, missing.data().partition(b"\r\n\r\n")[2])
    assert "the storage refuses" not in gate.output()


def test_what_s3_says_of_the_gates_own_role_is_for_the_log_only(begin, service):
    gate = begin()
    assert ask(gate).status == 200
    signed = f"<StringToSign>AWS4-HMAC-SHA256</StringToSign><AWSAccessKeyId>{service.issued[0].id}</AWSAccessKeyId>"
    denial = f"User: {ROLE} is not authorized to perform: s3:GetObject on resource"
    telling = [
        Injected("403 Forbidden", "AccessDenied", message=denial),
        Injected("403 Forbidden", "InvalidObjectState", extra=signed),
        Injected("400 Bad Request", "KMS.DisabledException", message="arn:aws:kms:us-west-2:123456789012:key/1 is disabled"),
        Injected("409 Conflict", "OperationAborted", message=f"by {service.issued[0].id}"),
        Injected("403 Forbidden", "AccessDenied", message="x" * 100_000),
    ]
    with wire.Connection(gate.https, MEDIA, context=wire.client_context(verify=False)) as connection:
        for injected in telling:
            service.strict.injected = [injected]
            connection.send(header(target=SHOT, host=MEDIA).data())
            response = connection.response("GET")
            assert response.status == int(injected.status[:3]), response
            assert f"<Code>{injected.code}</Code>".encode() in response.body, response
            assert b"<RequestId>R</RequestId>" in response.body
            assert (response.get("x-amz-request-id"), response.get("content-type")) == ("R", "application/xml")
            for word in ("arn:", "123456789012", "StringToSign", service.issued[0].id):
                assert word.encode() not in response.head + response.body, response
        plain = Injected("403 Forbidden", "AccessDenied", message="Access Denied")
        service.strict.injected = [plain]
        connection.send(header(target=SHOT, host=MEDIA).data())
        assert connection.response("GET").body == plain.data().partition(b"\r\n\r\n")[2], "it says nothing of the gate"
        service.strict.injected = [headless(telling[0])]
        connection.send(header("HEAD", SHOT, host=MEDIA).data())
        assert connection.response("HEAD").status == 403
        connection.send(header(target=SHOT, host=MEDIA).data())
        assert connection.response("GET").status == 200
    poll("the reason in the log", lambda: ROLE in gate.output())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_error_with_more_than_its_body_is_not_waited_for(begin, service, method):
    gate = begin()
    assert ask(gate).status == 200
    # To a HEAD all of the body is more.
    service.strict.injected = [Injected("404 Not Found", "NoSuchKey", surplus=b"more")]
    began = time.monotonic()
    response = ask(gate, header(method, SHOT, host=MEDIA))
    assert (response.status, time.monotonic() - began < 5) == (404, True)
    assert not response.body.endswith(b"more")
    assert ask(gate).status == 200


def test_a_redirect_that_leads_nowhere_ends(begin, service):
    service.strict.regions.add(ELSEWHERE)
    gate = begin()
    service.strict.injected = [REDIRECTS["301"]] * 100
    response = ask(gate)
    assert response.status in (500, 502, 503), response
    assert response.get("location") is None
    assert len(service.strict.requests) <= 5


def test_an_answer_of_s3_that_is_slow_is_waited_for_and_then_given_up(begin, service):
    gate = begin(timeouts={"upstream-response": "1s"})
    service.strict.injected = [Injected("503 Slow Down", "SlowDown", delay=0.5), Injected("200 OK", "", delay=4)]
    assert ask(gate).status == 503
    began = time.monotonic()
    assert ask(gate).status == 504
    assert time.monotonic() - began < 3


def test_a_client_with_a_wrong_clock_is_told_so(begin, service, tmp_path, authority):
    gate = begin()
    key = STUDIO_KEY
    words = ("--aws-sigv4", f"aws:amz:{REGION}:s3", "--user", f"{key.id}:{key.secret}")
    words += ("--header", f"x-amz-content-sha256: {sigv4.EMPTY}")
    for minutes, status in ((-16, 403), (-14, 200), (0, 200), (14, 200), (16, 403)):
        done = run(
            *("faketime", "-f", f"{minutes:+d}m", "curl", "--silent", "--insecure", "--http1.1", "--max-time", 20),
            *(
                "--connect-to",
                f"::127.0.0.1:{gate.https}",
                "--write-out",
                "\n%{http_code}",
                *words,
                f"https://{MEDIA}{SHOT}",
            ),
        )
        body, _, said = done.stdout.decode().rpartition("\n")
        assert int(said) == status, (minutes, body)
        assert (status == 403) == ("RequestTimeTooSkewed" in body), "SDKs set their clocks by this code"


def test_a_signature_is_good_for_fifteen_minutes(begin, service):
    gate = begin()
    for seconds, status in ((-960, 403), (-840, 200), (840, 200), (960, 403)):
        assert ask(gate, header(target=SHOT, host=MEDIA, date=sigv4.stamp(seconds))).status == status
