"""SeaweedFS: a real S3 that verifies signatures, with a real STS for temporary credentials."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
from botocore.config import Config

import ports
from pki import Authority

REGION = "us-west-2"
BUCKET = "mystudio-media"
DOMAIN = f"s3.{REGION}.amazonaws.com"
HOST = f"{BUCKET}.{DOMAIN}"
ORIGIN = "https://mystudio.shotgrid.example"
ROLE = "arn:aws:iam::000000000000:role/MediaRole"
ACCESS_KEY, SECRET_KEY = "AKIAMYSTUDIOEXAMPLE1", "ThisSecretIsOnlyForTheEndToEndTests00000"
# What the gate's machine holds: it may assume roles and nothing else.
GATE_KEY, GATE_SECRET = "AKIAGATEEXAMPLE00001", "ThisIsTheSecretOfTheGateItself0000000000"
PLATES, OTHERS = "mystudio-plates", "mystudio-others"
_ACCOUNT = "arn:aws:iam::000000000000"
PROXY_ROLE, POWERLESS_ROLE, LOCKED_ROLE = (f"{_ACCOUNT}:role/{name}" for name in ("ProxyRole", "Powerless", "Locked"))


class SeaweedFS:
    """Virtual-hosted buckets under AWS's own names, HTTPS, one administrator and one role."""

    def __init__(self, directory: Path, authority: Authority):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ca = authority.ca
        identity = authority.issue(f"*.{DOMAIN}", DOMAIN, "localhost", "127.0.0.1", algorithm="rsa")
        self.https = ports.free()
        self.process = subprocess.Popen(
            self._command(identity),
            stdin=subprocess.DEVNULL,
            stdout=(directory / "weed.log").open("wb"),
            stderr=subprocess.STDOUT,
            cwd=directory,
        )
        self.admin = self.client("s3", s3={"addressing_style": "path"})
        ports.poll("a bucket in SeaweedFS", self._bucket_made, 60, pause=0.1)
        self._allow_cross_origin()
        for bucket in (PLATES, OTHERS):
            self.admin.create_bucket(Bucket=bucket)
        self.admin.put_bucket_versioning(Bucket=PLATES, VersioningConfiguration={"Status": "Enabled"})
        self.session = self._assume_role()

    def client(self, service: str, key=(ACCESS_KEY, SECRET_KEY), token: str | None = None, **config):
        """A boto3 client, of the administrator unless told otherwise, that talks to SeaweedFS directly."""
        return boto3.client(
            service,
            endpoint_url=f"https://127.0.0.1:{self.https}",
            verify=str(self.ca),
            region_name=REGION,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            aws_session_token=token,
            config=Config(retries={"max_attempts": 1}, **config),
        )

    def get(self, key: str) -> bytes:
        """What is stored under a key."""
        return self.admin.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def put(self, key: str, body: bytes, **options) -> None:
        """Stores bytes under a key, not through the gate."""
        self.admin.put_object(Bucket=BUCKET, Key=key, Body=body, **options)

    @staticmethod
    def gate_environment() -> dict:
        """What the gate's machine holds: the key that may assume roles, and nothing else to be found."""
        key = {"AWS_ACCESS_KEY_ID": GATE_KEY, "AWS_SECRET_ACCESS_KEY": GATE_SECRET}
        return {"environment": {**key, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}}

    def stop(self) -> None:
        """Ends the server; it may take its time to sign off from itself, which nobody needs to wait for."""
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _command(self, identity) -> list[str]:
        (self.directory / "s3.json").write_text(json.dumps(_identities()))
        (self.directory / "iam.json").write_text(json.dumps(_roles()))
        data = self.directory / "data"
        data.mkdir()
        given = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": ports.free(),
            "master.port.grpc": ports.free(),
            "master.telemetry": "false",
            "master.peers": "none",
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": 100,
            "volume.max": 100,
            "volume.port": ports.free(),
            "volume.port.grpc": ports.free(),
            "volume.preStopSeconds": 1,
            "filer": "true",
            "filer.port": ports.free(),
            "filer.port.grpc": ports.free(),
            "s3": "true",
            "s3.port": ports.free(),
            "s3.port.grpc": ports.free(),
            "s3.port.https": self.https,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": self.directory / "s3.sock",
            "filer.localSocket": self.directory / "filer.sock",
            "s3.cert.file": identity.certificate,
            "s3.key.file": identity.key,
            "s3.domainName": DOMAIN,
            "s3.config": self.directory / "s3.json",
            "s3.iam.config": self.directory / "iam.json",
        }
        weed = Path(sys.executable).parent / "weed"
        return [str(weed), "server", *(f"-{name}={value}" for name, value in given.items())]

    def _bucket_made(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"SeaweedFS ended:\n{(self.directory / 'weed.log').read_text()[-2000:]}")
        try:
            self.admin.create_bucket(Bucket=BUCKET)
            self.admin.put_object(Bucket=BUCKET, Key="warm-up", Body=b"1")
            return True
        except self.admin.exceptions.BucketAlreadyOwnedByYou:
            return True
        except Exception:  # Whatever it is, it is not up yet.
            return False

    def _allow_cross_origin(self) -> None:
        rule = {
            "AllowedOrigins": [ORIGIN],
            "AllowedMethods": ["GET", "PUT", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3000,
        }
        self.admin.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [rule]})

    def _assume_role(self) -> dict[str, str]:
        sts = self.client("sts")
        return sts.assume_role(RoleArn=ROLE, RoleSessionName="shotgrid", DurationSeconds=3600)["Credentials"]


def _identities() -> dict:
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    gate = [{"accessKey": GATE_KEY, "secretKey": GATE_SECRET}]
    return {
        "identities": [
            {"name": "studio", "credentials": credentials, "actions": actions},
            {"name": "gate", "credentials": gate, "actions": []},
        ]
    }


def _roles() -> dict:
    def document(action: str, **rest) -> dict:
        return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [action], **rest}]}

    def role(arn: str, user: str, *policies: str) -> dict:
        trust = document("sts:AssumeRole", Principal={"AWS": f"{_ACCOUNT}:user/{user}"})
        return {"roleName": arn.rpartition("/")[2], "roleArn": arn, "trustPolicy": trust, "attachedPolicies": policies}

    mine = [f"arn:aws:s3:::{bucket}{rest}" for bucket in (BUCKET, PLATES) for rest in ("", "/*")]
    return {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "filmgate-e2e",
            "signingKey": "dGVzdC1zaWduaW5nLWtleS0zMi1jaGFyYWN0ZXJzLWxvbmc=",
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "roles": [
            {
                "roleName": "MediaRole",
                "roleArn": ROLE,
                "trustPolicy": document("sts:AssumeRole", Principal={"AWS": "*"}),
                "attachedPolicies": ["Media"],
            },
            role(PROXY_ROLE, "gate", "Proxy"),
            role(POWERLESS_ROLE, "gate"),
            role(LOCKED_ROLE, "somebody-else", "Proxy"),
        ],
        "policies": [
            {"name": "Media", "document": document("s3:*", Resource=["arn:aws:s3:::*"])},
            {"name": "Proxy", "document": document("s3:*", Resource=mine)},
        ],
    }
