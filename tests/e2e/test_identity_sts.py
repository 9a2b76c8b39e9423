"""Roles by AssumeRole: at a token service whose roles, trust and session policies hold, and at one that writes down."""

import json
import os

import pytest
from botocore.exceptions import ClientError

import links
import wire
from forge import header
from gate import Client, Credential, ReSign, Route, binary
from identity import EACH, ENDPOINT, MEDIA, STUDIO_KEY, credential_of, matrix_rule
from ports import poll
from programs import Curl, run
from seaweed import (
    BUCKET,
    DOMAIN,
    GATE_KEY,
    GATE_SECRET,
    HOST,
    LOCKED_ROLE,
    OTHERS,
    PLATES,
    POWERLESS_ROLE,
    PROXY_ROLE,
    REGION,
)
from sigv4 import Key
from strict import Strict
from sts import TokenService

KEY = "shots/by-role.mov"
ONLY_READING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/shots/*"]}],
}


def assumed(seaweed, role: str, **options):
    """An S3 client with a role, and no gate between."""
    sts = seaweed.client("sts", (GATE_KEY, GATE_SECRET))
    got = sts.assume_role(RoleArn=role, RoleSessionName="e2e", **options)["Credentials"]
    key = (got["AccessKeyId"], got["SecretAccessKey"])
    return seaweed.client("s3", key, got["SessionToken"], s3={"addressing_style": "path"})


def refusal(call) -> str:
    """The code a call fails with."""
    with pytest.raises(ClientError) as raised:
        call()
    return raised.value.response["Error"]["Code"]


def test_the_token_service_has_teeth(seaweed):
    """What the rest of this file relies on, seen without the gate."""
    seaweed.put(KEY, b"by role")
    bare = seaweed.client("s3", (GATE_KEY, GATE_SECRET), s3={"addressing_style": "path"})
    assert refusal(lambda: bare.get_object(Bucket=BUCKET, Key=KEY)) == "AccessDenied", (
        "the gate's own key may do nothing"
    )
    role = assumed(seaweed, PROXY_ROLE)
    assert role.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"by role"
    assert refusal(lambda: role.get_object(Bucket=OTHERS, Key=KEY)) == "AccessDenied"
    powerless = assumed(seaweed, POWERLESS_ROLE)
    assert refusal(lambda: powerless.get_object(Bucket=BUCKET, Key=KEY)) == "AccessDenied"
    assert refusal(lambda: assumed(seaweed, LOCKED_ROLE)) == "AccessDenied"
    reader = assumed(seaweed, PROXY_ROLE, Policy=json.dumps(ONLY_READING))
    assert reader.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"by role"
    assert refusal(lambda: reader.put_object(Bucket=BUCKET, Key=KEY, Body=b"")) == "AccessDenied"
    assert refusal(lambda: reader.get_object(Bucket=BUCKET, Key="others/a.mov")) == "AccessDenied"


def start(start_gate, seaweed, authority, resign_identity, credential: Credential):
    upstream = {"connect": [f"127.0.0.1:{seaweed.https}"], "ca": authority.ca, "server_name": HOST}
    resign = ReSign(credential.name, [matrix_rule("studio")], buckets=[BUCKET, PLATES])
    return start_gate(
        Route([ENDPOINT], host=EACH, resign=resign, **upstream),
        identities=[resign_identity],
        clients=[Client("studio", STUDIO_KEY)],
        credentials=[credential],
        workers=1,
        **seaweed.gate_environment(),
    )


def ask(gate, raw):
    with wire.Connection(gate.https, ENDPOINT, context=wire.client_context(verify=False)) as connection:
        connection.send(raw.data())
        return connection.response(raw.method)


def at(key: str) -> str:
    return f"/{BUCKET}/{key}"


def test_the_gate_may_what_its_role_may(start_gate, seaweed, authority, resign_identity):
    gate = start(start_gate, seaweed, authority, resign_identity, credential_of(seaweed))
    response = ask(gate, header("PUT", at(KEY), body=b"through the gate"))
    assert response.status == 200, response.body
    assert seaweed.get(KEY) == b"through the gate"
    assert ask(gate, header(target=at(KEY))).body == b"through the gate"


def test_a_session_policy_narrows_the_role(start_gate, seaweed, authority, resign_identity, workspace):
    policy = workspace / "only-reading.json"
    policy.write_text(json.dumps(ONLY_READING))
    seaweed.put(KEY, b"by role")
    credential = credential_of(seaweed, **{"policy-file": str(policy)})
    gate = start(start_gate, seaweed, authority, resign_identity, credential)
    assert ask(gate, header(target=at(KEY))).body == b"by role"
    response = ask(gate, header("PUT", at(KEY), body=b"other"))
    assert (response.status, b"AccessDenied" in response.body) == (403, True)
    assert response.get("x-filmgate-error") is None, "S3 said it"
    assert seaweed.get(KEY) == b"by role"


def test_a_role_without_rights_gets_s3s_own_refusal(start_gate, seaweed, authority, resign_identity):
    seaweed.put(KEY, b"by role")
    gate = start(start_gate, seaweed, authority, resign_identity, credential_of(seaweed, POWERLESS_ROLE))
    response = ask(gate, header(target=at(KEY)))
    assert (response.status, b"AccessDenied" in response.body) == (403, True)
    assert response.get("x-filmgate-error") is None, "S3 said it"


def test_a_role_that_is_not_to_be_had_is_a_503_and_a_line_in_the_log(start_gate, seaweed, authority, resign_identity):
    gate = start(start_gate, seaweed, authority, resign_identity, credential_of(seaweed, LOCKED_ROLE))
    response = ask(gate, header(target=at(KEY)))
    assert (response.status, b"<Code>ServiceUnavailable</Code>" in response.body) == (503, True), response.body
    poll("the reason in the log", lambda: "AccessDenied" in gate.output() or "not authorized" in gate.output())


@pytest.fixture
def stub(authority, upstream_identity):
    """A token service of our own, and an S3 that takes what it issues."""
    strict = Strict(upstream_identity, REGION, {HOST, DOMAIN})
    service = TokenService(authority.issue("localhost", "127.0.0.1"), [Key(GATE_KEY, GATE_SECRET)], strict)
    yield service
    service.close()
    strict.close()


def test_everything_a_role_can_be_given_arrives_at_the_token_service(
    start_gate, stub, seaweed, authority, resign_identity, workspace
):
    policy = workspace / "session-policy.json"
    policy.write_text(json.dumps(ONLY_READING))
    first, second = "arn:aws:iam::000000000000:role/First", "arn:aws:iam::111111111111:role/Second"
    full = {
        "arn": second,
        "external-id": "studio-1",
        "session-name": "gate.mystudio",
        "duration": "45m",
        "policy-file": str(policy),
        "policy-arns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
        "tags": {"project": "x", "show": "y z"},
        "transitive-tags": ["project"],
        "source-identity": "filmgate-host-1",
    }
    sts = {"endpoint": stub.endpoint, "ca-file": str(authority.ca)}
    credential = Credential("chain", {"region": REGION}, [{"arn": first}, full], sts)
    upstream = {"connect": [stub.strict.address], "ca": authority.ca, "server_name": HOST}
    gate = start_gate(
        Route([MEDIA], host=HOST, resign=ReSign("chain", [matrix_rule("*")]), **upstream),
        identities=[resign_identity],
        clients=[Client("studio", STUDIO_KEY)],
        credentials=[credential],
        workers=1,
        **seaweed.gate_environment(),
    )
    poll("two roles", lambda: len(stub.asked) >= 2)
    response = ask(gate, header(target="/shots/a.mov", host=MEDIA))
    assert response.status == 200, (response.body, [verdict.faults for verdict in stub.strict.verdicts])
    assert stub.strict.only().key == stub.issued[1], "signed by the last of the chain"
    one, two = stub.asked[:2]
    assert (one.parameters["RoleArn"], one.access_key, one.is_signed_well) == (first, GATE_KEY, True)
    assert (two.parameters["RoleArn"], two.access_key, two.is_signed_well) == (second, stub.issued[0].id, True)
    said = two.parameters
    assert (said["ExternalId"], said["RoleSessionName"], said["DurationSeconds"]) == (
        "studio-1",
        "gate.mystudio",
        "2700",
    )
    assert json.loads(said["Policy"]) == ONLY_READING
    assert said["PolicyArns.member.1.arn"] == "arn:aws:iam::aws:policy/ReadOnlyAccess"
    tags = {said[f"Tags.member.{number}.Key"]: said[f"Tags.member.{number}.Value"] for number in (1, 2)}
    assert tags == {"project": "x", "show": "y z"}
    assert (said["TransitiveTagKeys.member.1"], said["SourceIdentity"]) == ("project", "filmgate-host-1")


def test_links_of_filmgate_presign_are_good_for_the_gate_and_for_s3(
    start_gate, seaweed, authority, resign_identity, tmp_path
):
    gate = start(start_gate, seaweed, authority, resign_identity, credential_of(seaweed))
    seaweed.put("shots/a b é.mov", b"by link")
    words = [binary(), "presign", "--config", gate.config, "--expires", "15m"]
    environment = {**os.environ, **gate.environment}

    def presign(*arguments) -> str:
        link = run(*words, *arguments, env=environment, text=True).stdout.strip()
        links.Link(link)  # What is secret in it must be in no log.
        return link

    curl = Curl(tmp_path, authority.ca, "unused", 1)
    for client, port in ((["--client", "studio"], gate.https), ([], seaweed.https)):
        to_there = ("--connect-to", f"::127.0.0.1:{port}")
        got = curl(*to_there, presign("--route", ENDPOINT, *client, "GET", at("shots/a b é.mov")))
        assert (got.status, got.body) == (200, b"by link"), (client, got)
        body = tmp_path / "body"
        body.write_bytes(b"put by link")
        link = presign("--route", ENDPOINT, *client, "PUT", at("shots/put.mov"))
        assert curl(*to_there, "--upload-file", body, link).status == 200
        assert seaweed.get("shots/put.mov") == b"put by link"
        assert curl(*to_there, link).status == 403, "of another method"


def test_no_secret_of_the_gate_is_in_its_log(start_gate, seaweed, authority, resign_identity):
    gate = start(start_gate, seaweed, authority, resign_identity, credential_of(seaweed))
    ask(gate, header(target=at(KEY)))
    text = gate.output() + (gate.log.read_text() if gate.log.exists() else "")
    for secret in (GATE_SECRET, STUDIO_KEY.secret):
        assert secret not in text
