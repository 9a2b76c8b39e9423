"""What the tests of the gate's own identity share: names, keys, rules."""

import links
from gate import Credential
from seaweed import GATE_SECRET, PROXY_ROLE, REGION
from sigv4 import Key

ENDPOINT = "s3.mystudio.test"
MEDIA = "media.mystudio.test"
# Certificates for a name below the endpoint cover its buckets.
NAMES = [ENDPOINT, f"*.{ENDPOINT}", "*.mystudio.test"]

STUDIO_KEY = Key("AKSTUDIO000000000001", "TheStudioSecretIsForTestsOnly00000000001")
links.secrets.update({STUDIO_KEY.secret, GATE_SECRET})

EVERYTHING = ["read", "write", "delete", "list", "multipart"]
FEATURES = ["copy", "tagging", "versions", "bulk-delete", "post-form", "response-override"]


def matrix_rule(*clients: str) -> dict:
    """Allows what the matrix has."""
    return {"clients": list(clients), "operations": EVERYTHING, "features": FEATURES}


def credential_of(seaweed, role: str = PROXY_ROLE, **options) -> Credential:
    """The gate's role at SeaweedFS."""
    roles = [{"arn": role, "session-name": "filmgate", "duration": "1h", **options}]
    sts = {"endpoint": f"https://127.0.0.1:{seaweed.https}", "ca-file": str(seaweed.ca)}
    return Credential("role", {"region": REGION}, roles, sts)
