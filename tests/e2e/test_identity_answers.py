"""What clients are told of the gate's own identity in answers that are no errors."""

import base64
import hashlib
from xml.etree import ElementTree

import pytest

import forge
import wire
from forge import Raw, header
from gate import Client, ReSign, Route
from identity import EACH, ENDPOINT, EVERYTHING, FEATURES, STUDIO_KEY, process_credential
from ports import poll
from seaweed import BUCKET, DOMAIN, HOST, REGION
from sigv4 import Key
from strict import Injected, Strict, success

ACCOUNT, SESSION = "123456789012", "filmgate-at-s3"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/FilmgateMedia/{SESSION}"
OWN = Key("ASIAGATESOWN00000002", "TheGatesOwnTemporarySecretForTests000002", "token-of-the-gate/" + "y" * 80)
# A client may call its files whatever it likes.
ODD_KEY = "shots/arn:aws:iam::1:user/x"

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
INITIATOR = f"<Initiator><ID>{ROLE}</ID><DisplayName>FilmgateMedia/{SESSION}</DisplayName></Initiator>"
OWNER = "<Owner><ID>75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a</ID></Owner>"
UPLOAD = f"<Key>{ODD_KEY}</Key>{INITIATOR}{OWNER}<StorageClass>STANDARD</StorageClass>"
DENIED = f'User: {ROLE} is not authorized to perform: kms:Decrypt on resource: "arn:aws:kms:{REGION}:{ACCOUNT}:key/1"'
LATE = f"{XML}\n  \n\n<Error><Code>InternalError</Code><Message>{DENIED} with {OWN.id}</Message></Error>"


def deletion() -> Raw:
    body = f"<Delete><Object><Key>{ODD_KEY}</Key></Object></Delete>".encode()
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    return header("POST", f"/{BUCKET}?delete=", ("content-md5", digest), body=body)


def copy(query: str = "") -> Raw:
    return header("PUT", f"{forge.OBJECT}{query}", ("x-amz-copy-source", f"/{BUCKET}/shots/b.mov"))


OPERATIONS = {
    "ListParts": (
        lambda: header(target=f"{forge.OBJECT}?uploadId=U"),
        f"{XML}<ListPartsResult><Bucket>b</Bucket>{UPLOAD}<Part><PartNumber>1</PartNumber></Part></ListPartsResult>",
    ),
    "ListMultipartUploads": (
        lambda: header(target=f"/{BUCKET}?uploads="),
        f"{XML}<ListMultipartUploadsResult>{f'<Upload>{UPLOAD}</Upload>' * 300}</ListMultipartUploadsResult>",
    ),
    "DeleteObjects": (
        deletion,
        f"{XML}<DeleteResult><Error><Key>{ODD_KEY}</Key><Code>AccessDenied</Code><Message>{DENIED}</Message></Error></DeleteResult>",
    ),
    "CopyObject": (copy, LATE),
    "UploadPartCopy": (lambda: copy("?partNumber=1&uploadId=U"), LATE),
    "CompleteMultipartUpload": (
        lambda: header("POST", f"{forge.OBJECT}?uploadId=U", body=b"<CompleteMultipartUpload/>"),
        LATE,
    ),
}


@pytest.fixture(scope="module")
def storage(upstream_identity):
    strict = Strict(upstream_identity, REGION, {HOST, DOMAIN})
    yield strict
    strict.close()


@pytest.fixture(scope="module")
def gate(start_gate, storage, authority, resign_identity, workspace):
    upstream = {"connect": [storage.address], "ca": authority.ca, "server_name": HOST}
    rule = {"clients": ["*"], "operations": EVERYTHING, "features": FEATURES}
    return start_gate(
        Route([ENDPOINT], host=EACH, resign=ReSign("role", [rule], buckets=[BUCKET]), **upstream),
        identities=[resign_identity],
        clients=[Client("studio", STUDIO_KEY)],
        credentials=[process_credential(workspace / "answers.json", storage, OWN)],
        workers=1,
    )


@pytest.fixture
def connection(gate, storage):
    storage.forget()
    with wire.Connection(gate.https, ENDPOINT, context=wire.client_context(verify=False)) as made:
        yield made


def ask(connection, storage, raw: Raw, answer: Injected) -> wire.Response:
    storage.injected = [answer]
    connection.send(raw.data())
    return connection.response(raw.method)


@pytest.mark.parametrize("chunk", [0, 7, 4096])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_success_does_not_tell_the_role(connection, storage, operation, chunk):
    make, told = OPERATIONS[operation]
    for raw in (make(), make().also("Accept-Encoding", "gzip")):
        storage.forget()
        response = ask(connection, storage, raw, success(told, chunk=chunk))
        assert (response.status, response.complete) == (200, True)
        text = response.body.decode()
        for word in (ACCOUNT, SESSION, "FilmgateMedia", OWN.id[4:]):
            assert word not in text, text
        differences = {masked for masked, plain in zip(text, told, strict=True) if masked != plain}
        assert differences == {"*"}, "what is hidden is as long as it was, and nothing else changes"
        tree = ElementTree.fromstring(text[len(XML) :].strip())
        keys = [element.text for element in tree.iter("Key")]
        assert keys == [ODD_KEY] * told.count("<Key>"), "a client's own words are not touched"
        assert storage.only().request.get("accept-encoding") is None, "what is coded could not be masked"


def test_a_success_for_an_old_client_does_not_tell_the_role_either(gate, storage):
    """It gets without its chunks what came in some."""
    make, told = OPERATIONS["ListMultipartUploads"]
    storage.forget()
    storage.injected = [success(told, chunk=1000)]
    with wire.Connection(gate.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
        connection.send(make().data().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        response = connection.response()
    assert (response.status, response.get("transfer-encoding"), len(response.body)) == (200, None, len(told))
    assert ACCOUNT.encode() not in response.body and response.body.count(ODD_KEY.encode()) == 300


def test_nobody_waits_for_an_error_whose_client_has_left(gate, storage):
    class Cut(Injected):
        def data(self) -> bytes:
            return super().data()[:-5]

    storage.forget()
    storage.injected = [Cut("404 Not Found", "NoSuchKey")]
    with wire.Connection(gate.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
        connection.send(header(target=f"/{BUCKET}/shots/left.mov").data())
        poll("the request at the storage", lambda: storage.verdicts)
        connection.reset()
    record = gate.record_of(lambda record: record.get("key") == "shots/left.mov")
    assert record["failure"] == "client-gone"


def test_what_clients_store_is_never_masked(connection, storage):
    for told in (OPERATIONS["ListParts"][1], LATE):
        response = ask(connection, storage, header(), success(told))
        assert response.body.decode() == told


def test_a_success_that_cannot_be_read_is_not_passed_on(connection, storage):
    make, told = OPERATIONS["ListParts"]
    response = ask(connection, storage, make(), success(told, coding="gzip"))
    assert (response.status, response.get("x-filmgate-error")) == (502, "upstream-malformed")


def test_an_error_without_a_body_does_not_tell_the_role_in_its_head(connection, storage):
    class Headless(Injected):
        def data(self) -> bytes:
            return super().data().partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    fields = (("x-amz-error-message", DENIED), ("x-amz-id-2", "I"))
    response = ask(connection, storage, header("HEAD"), Headless("403 Forbidden", "AccessDenied", fields))
    assert (response.status, response.get("x-amz-id-2"), response.get("x-amz-error-message")) == (403, "I", None)
    assert connection.exchange("GET", "/ping").status == 200, "the connection stays"
