"""Presigned links of the clients that a gate with an identity of its own knows (AWS: "Authenticating Requests: Using
Query Parameters")."""

import hashlib
import hmac
import time
import urllib.parse

ACCESS_KEY = "FGBENCHCLIENT0000001"
SECRET = "bench-client-secret-that-guards-nothing"
# Of the gate's own credentials, as long as those of real sessions. Clients with keys of the gate's have none.
TOKEN = "IQoJb3JpZ2luX2VjEJr//////wEaCXVzLXdlc3QtMiJHMEUCIQD4" * 8
REGION = "us-west-2"


def query(method, host, path, expires=86400):
    """The query of a link for `path`, signed for `host`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    pairs = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{ACCESS_KEY}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
        "response-content-disposition": f'filename="{path.rsplit("/", 1)[1]}"',
    }
    text = "&".join(f"{quoted(name)}={quoted(value)}" for name, value in sorted(pairs.items()))
    canonical = f"{method}\n{path}\n{text}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    return f"{text}&X-Amz-Signature={signature}"


def quoted(text):
    return urllib.parse.quote(text, safe="-_.~")
