"""Presigned links: signed for S3's name by the libraries studios use, then pointed at the gate."""

import urllib.parse
from dataclasses import dataclass

import boto3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from seaweed import ACCESS_KEY, BUCKET, HOST, REGION, SECRET_KEY, SeaweedFS

# What a log must never hold: collected from every link made in the session, raw and decoded.
secrets: set[str] = {SECRET_KEY}

_SECRET_PARAMETERS = {
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-credential",
    "signature",
    "awsaccesskeyid",
}


@dataclass(frozen=True)
class Link:
    """A presigned link as ShotGrid's server made it, before it swaps scheme and authority for the gate's."""

    url: str

    def __post_init__(self):
        for pair in self.query.split("&"):
            name, _, value = pair.partition("=")
            if name.lower() in _SECRET_PARAMETERS:
                secrets.update({value, urllib.parse.unquote(value)})

    @property
    def authority(self) -> str:
        """The name that was signed."""
        return self.url.split("/", 3)[2]

    @property
    def target(self) -> str:
        """Path and query, byte for byte."""
        return "/" + self.url.split("/", 3)[3]

    @property
    def query(self) -> str:
        return self.url.partition("?")[2]

    def at(self, authority: str) -> str:
        """The same link with the gate's authority: what an artist's machine gets."""
        return f"https://{authority}{self.target}"


class Links:
    """Signs with the studio's long-lived key, or with temporary credentials as ShotGrid does."""

    def __init__(self, seaweed: SeaweedFS):
        held = seaweed.session
        self.temporary = Credentials(held["AccessKeyId"], held["SecretAccessKey"], held["SessionToken"])
        secrets.update({held["AccessKeyId"], held["SecretAccessKey"], held["SessionToken"]})
        self._v4 = _client("s3v4", "virtual")
        self._v2 = _client("s3", "path")

    def make(self, method: str, key: str, expires: int = 900, **parameters) -> Link:
        """SigV4 by boto3, virtual-hosted: `https://BUCKET.s3.REGION.amazonaws.com/KEY?X-Amz-…`."""
        return Link(_presigned(self._v4, method, key, expires, parameters))

    def make_v2(self, method: str, key: str, expires: int = 900, **parameters) -> Link:
        """SigV2 by boto3, path style: SeaweedFS checks SigV2 of that style only."""
        return Link(_presigned(self._v2, method, key, expires, parameters))

    def shotgrid(self, method: str, key: str, user: int = 93, **query: str) -> Link:
        """The shape of ShotGrid's links: temporary credentials, user id and type in the signed query, 900 s."""
        name = key.rsplit("/", 1)[-1]
        query = {
            "response-content-disposition": f'filename="{name}"',
            "x-amz-meta-user-id": str(user),
            "x-amz-meta-user-type": "ApiUser",
            **query,
        }
        path = urllib.parse.quote(key, safe="/~")
        words = "&".join(f"{k}={urllib.parse.quote(v, safe='')}" for k, v in query.items())
        request = AWSRequest(method, f"https://{HOST}/{path}?{words}")
        S3SigV4QueryAuth(self.temporary, "s3", REGION, expires=900).add_auth(request)
        return Link(request.url)


def _client(signature: str, style: str):
    return boto3.client(
        "s3",
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(signature_version=signature, s3={"addressing_style": style}),
    )


def _presigned(client, method: str, key: str, expires: int, parameters: dict) -> str:
    operation = {"GET": "get_object", "PUT": "put_object", "HEAD": "head_object"}[method]
    return client.generate_presigned_url(
        operation, Params={"Bucket": BUCKET, "Key": key, **parameters}, ExpiresIn=expires
    )
