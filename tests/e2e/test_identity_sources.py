"""Where the gate's own credentials may come from: from each source something is signed that S3 takes."""

import datetime
import hashlib
import json

import pytest

import wire
from forge import header
from gate import Client, Credential, ReSign, Route, secret_file
from identity import MEDIA, STUDIO_KEY, matrix_rule
from ports import poll
from seaweed import GATE_KEY, GATE_SECRET, HOST, REGION
from sigv4 import Key
from strict import Strict
from sts import Answers, TokenService, Tunnel

ROLE = "arn:aws:iam::000000000000:role/R"
STS = f"sts.{REGION}.amazonaws.com"


@pytest.fixture
def service(authority, upstream_identity):
    """A token service under AWS's name and this machine's, and an S3 that takes what it issues."""
    strict = Strict(upstream_identity, REGION, {HOST})
    identity = authority.issue("localhost", "127.0.0.1", STS)
    made = TokenService(identity, [Key(GATE_KEY, GATE_SECRET)], strict)
    yield made
    made.close()
    strict.close()


@pytest.fixture
def answers():
    """Makes servers that end with the test."""
    made: list[Answers] = []

    def make(answer) -> Answers:
        made.append(Answers(answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def serve(start_gate, service, authority, resign_identity, tmp_path):
    """Starts a gate with one source and nothing else to be found, and asks it for something."""

    def serve(environment: dict, roles=(), sts=None, **options) -> Key:
        nothing = {
            "HOME": str(tmp_path),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "SSL_CERT_FILE": str(authority.ca),
        }
        upstream = {"connect": [service.strict.address], "ca": authority.ca, "server_name": HOST}
        gate = start_gate(
            Route([MEDIA], host=HOST, resign=ReSign("own", [matrix_rule("*")]), **upstream),
            identities=[resign_identity],
            clients=[Client("studio", STUDIO_KEY)],
            credentials=[Credential("own", {"region": REGION, **options}, list(roles), sts or {})],
            workers=1,
            environment={**nothing, **environment},
        )

        def asked():
            with wire.Connection(gate.https, MEDIA, context=wire.client_context(verify=False)) as connection:
                connection.send(header(target="/shots/a.mov", host=MEDIA).data())
                response = connection.response("GET")
            assert response.status in (200, 503), response
            return response.status == 200

        try:
            poll("something that is signed", asked, 15)
        except AssertionError as failed:
            raise AssertionError(gate.output()) from failed
        verdict = service.strict.only()
        log = gate.output() + (gate.log.read_text() if gate.log.exists() else "")
        for key in service.issued:
            assert key.secret not in log and key.token not in log
        return verdict.key

    return serve


def as_json(key: Key, token: str = "Token") -> dict:
    """As the metadata of an instance or a container has it."""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)
    said = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z"}
    said |= {"AccessKeyId": key.id, "SecretAccessKey": key.secret, token: key.token}
    return said | {"Expiration": f"{end:%Y-%m-%dT%H:%M:%SZ}"}


def test_an_instance_is_asked_by_version_2_of_its_metadata(serve, service, answers):
    key, seen = service.issue(), []

    def answer(method, path, fields):
        seen.append((method, path))
        if (method, path) == ("PUT", "/latest/api/token"):
            return (200, "the-session") if fields.get("x-aws-ec2-metadata-token-ttl-seconds") else (400, "")
        if fields.get("x-aws-ec2-metadata-token") != "the-session":
            return 401, ""
        start = "/latest/meta-data/iam/security-credentials/"
        return {start: (200, "studio-role"), f"{start}studio-role": (200, as_json(key))}.get(path, (404, ""))

    metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": answers(answer).url, "AWS_EC2_METADATA_DISABLED": "false"}
    assert serve(metadata) == key
    assert seen[0] == ("PUT", "/latest/api/token")


def test_a_container_is_asked_with_its_token(serve, service, answers, tmp_path):
    key = service.issue()
    # As they are written: neither of these files may have a line end.
    (tmp_path / "token").write_text("the-pods-token")

    def answer(_method, path, fields):
        is_right = (path, fields.get("authorization")) == ("/v1/credentials", "the-pods-token")
        return (200, as_json(key)) if is_right else (403, "")

    at = answers(answer).url
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{at}/v1/credentials"}
    assert serve(container | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token")}) == key


def test_a_web_identity_is_exchanged_for_a_role(serve, service, tmp_path):
    (tmp_path / "jwt").write_text("header.claims.signature")
    identity = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "jwt"), "AWS_ROLE_ARN": ROLE}
    key = serve(identity | {"AWS_ROLE_SESSION_NAME": "pod", "AWS_ENDPOINT_URL_STS": service.endpoint})
    assert key in service.issued
    said = service.asked[0].parameters
    assert (said["Action"], said["RoleArn"], said["RoleSessionName"], said["WebIdentityToken"]) == (
        "AssumeRoleWithWebIdentity",
        ROLE,
        "pod",
        "header.claims.signature",
    )


def test_a_profile_is_read_from_the_shared_file(serve, service, tmp_path):
    key = service.issue()
    text = f"[studio]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret}\n"
    secret_file(tmp_path / "credentials", f"{text}aws_session_token = {key.token}\n")
    assert serve({}, profile="studio") == key


def test_a_profile_may_name_a_role_and_whose_keys_take_it_on(serve, service, tmp_path):
    base = f"[base]\naws_access_key_id = {GATE_KEY}\naws_secret_access_key = {GATE_SECRET}\n"
    secret_file(tmp_path / "credentials", base)
    secret_file(tmp_path / "config", f"[profile studio]\nrole_arn = {ROLE}\nsource_profile = base\n")
    key = serve({"AWS_ENDPOINT_URL_STS": service.endpoint}, profile="studio")
    assert key in service.issued
    assert (service.asked[0].parameters["RoleArn"], service.asked[0].is_signed_well) == (ROLE, True)


@pytest.mark.parametrize("kind", ["session", "legacy"])
def test_a_sign_in_by_sso_is_exchanged_for_a_role(serve, service, answers, tmp_path, kind):
    key = service.issue()
    start, end = "https://studio.awsapps.com/start", datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)

    def answer(_method, path, fields):
        wanted = "/federation/credentials?"
        if not path.startswith(wanted) or fields.get("x-amz-sso_bearer_token") != "signed-in":
            return 401, {"message": "no"}
        assert sorted(path.removeprefix(wanted).split("&")) == ["account_id=000000000000", "role_name=Media"]
        said = {"accessKeyId": key.id, "secretAccessKey": key.secret, "sessionToken": key.token}
        return 200, {"roleCredentials": said | {"expiration": int(end.timestamp() * 1000)}}

    where = f"sso_start_url = {start}\nsso_region = {REGION}\n"
    role = "sso_account_id = 000000000000\nsso_role_name = Media\n"
    if kind == "session":
        text, name = f"[profile studio]\nsso_session = studio\n{role}[sso-session studio]\n{where}", "studio"
    else:
        text, name = f"[profile studio]\n{where}{role}", start
    secret_file(tmp_path / "config", text)
    cache = tmp_path / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    said = {"accessToken": "signed-in", "expiresAt": f"{end:%Y-%m-%dT%H:%M:%SZ}", "region": REGION, "startUrl": start}
    secret_file(cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json", json.dumps(said))
    assert serve({"AWS_ENDPOINT_URL_SSO": answers(answer).url}, profile="studio") == key


@pytest.mark.parametrize("is_passed_by", [False, True], ids=["proxy", "no-proxy"])
def test_sts_is_reached_by_the_proxy_of_the_environment(serve, service, authority, is_passed_by):
    tunnel = Tunnel(int(service.endpoint.rpartition(":")[2]))
    sts = {"endpoint": service.endpoint if is_passed_by else f"https://{STS}", "ca-file": str(authority.ca)}
    environment = {"AWS_ACCESS_KEY_ID": GATE_KEY, "AWS_SECRET_ACCESS_KEY": GATE_SECRET, "HTTPS_PROXY": tunnel.url}
    try:
        key = serve(environment | {"NO_PROXY": "localhost"}, [{"arn": ROLE, "session-name": "gate"}], sts)
    finally:
        tunnel.close()
    assert key == service.issued[0]
    assert tunnel.asked == ([] if is_passed_by else [f"{STS}:443"])
