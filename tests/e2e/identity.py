"""What the tests of the gate's own identity share: names, keys, rules."""

import datetime
import json

import links
from gate import Credential, secret_file
from seaweed import DOMAIN, GATE_SECRET, PROXY_ROLE, REGION
from sigv4 import Key

ENDPOINT = "s3.mystudio.test"
MEDIA = "media.mystudio.test"
# The host of every bucket of an endpoint, towards S3.
EACH = f"{{bucket}}.{DOMAIN}"
# Certificates for a name below the endpoint cover its buckets.
# The same, as clients that write the bucket into the host find it.
ONE = "one.mystudio.test"
# The same for forms, which SeaweedFS takes from lasting keys only.
FORMS, ONE_FORMS = "s3-forms.mystudio.test", "one-forms.mystudio.test"
NAMES = [*(f"*.{name}" for name in (ENDPOINT, ONE, FORMS, ONE_FORMS)), ENDPOINT, FORMS, "*.mystudio.test"]

STUDIO_KEY = Key("AKSTUDIO000000000001", "TheStudioSecretIsForTestsOnly00000000001")
links.secrets.update({STUDIO_KEY.secret, GATE_SECRET})

EVERYTHING = ["read", "write", "delete", "list", "multipart"]
FEATURES = ["copy", "storage-class", "tagging", "versions", "bulk-delete", "post-form"]


def matrix_rule(*clients: str) -> dict:
    """Allows what the matrix has."""
    return {"clients": list(clients), "operations": EVERYTHING, "features": FEATURES}


def credential_of(seaweed, role: str = PROXY_ROLE, **options) -> Credential:
    """The gate's role at SeaweedFS."""
    roles = [{"arn": role, "session-name": "filmgate", "duration": "1h", **options}]
    sts = {"endpoint": f"https://127.0.0.1:{seaweed.https}", "ca-file": str(seaweed.ca)}
    return Credential("role", {"region": REGION}, roles, sts)


def process_credential(path, strict=None, key: Key | None = None, name: str = "role") -> Credential:
    """Credentials that a program prints, as IAM Roles Anywhere's does."""
    key = key or Key(
        "ASIAGATESOWN00000001", "TheGatesOwnTemporarySecretForTests000001", "token-of-the-gate/" + "z" * 80
    )
    links.secrets.update({key.secret, key.token} - {None})
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)
    said = {"Version": 1, "AccessKeyId": key.id, "SecretAccessKey": key.secret}
    if key.token:
        said |= {"SessionToken": key.token, "Expiration": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
    secret_file(path, json.dumps(said))
    if strict:
        strict.trust(key)
    return Credential(name, {"process": f"cat {path}", "region": REGION})
