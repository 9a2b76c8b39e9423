"""Signature version 4 by hand, from the words of the AWS documentation: for requests no library would make, and for an
S3 that believes nothing. botocore is the oracle of it: see test_identity_upstream.py."""

import base64
import datetime
import hashlib
import hmac
import urllib.parse
import zlib
from dataclasses import dataclass

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY = hashlib.sha256(b"").hexdigest()
UNRESERVED = "-_.~"
CRLF = b"\r\n"


@dataclass(frozen=True)
class Key:
    """An access key, temporary if it has a token."""

    id: str
    secret: str
    token: str | None = None


@dataclass(frozen=True)
class Scope:
    """What a signing key is derived for."""

    date: str
    region: str
    service: str = "s3"

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def stamp(seconds_from_now: float = 0.0) -> str:
    """`20130524T000000Z`."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds_from_now)
    return moment.strftime("%Y%m%dT%H%M%SZ")


def moment_of(text: str) -> datetime.datetime:
    """The moment a stamp says."""
    return datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def quote(text: bytes, safe: str = "") -> str:
    """Percent-encoded once, as S3 wants it."""
    return urllib.parse.quote_from_bytes(text, safe=UNRESERVED + safe)


def pairs(query: str) -> list[tuple[bytes, bytes]]:
    """Names and values of a raw query, decoded; a plus is a space there, to S3 as to browsers."""
    split = (pair.replace("+", "%20").partition("=") for pair in query.split("&") if pair)
    return [(urllib.parse.unquote_to_bytes(name), urllib.parse.unquote_to_bytes(value)) for name, _, value in split]


def canonical(method: str, target: str, fields, names: str, payload: str, without: str | None = None) -> str:
    """The canonical request of a raw target and raw fields."""
    path, _, query = target.partition("?")
    encoded = sorted((quote(name), quote(value)) for name, value in pairs(query) if name.decode("latin-1") != without)
    lines = [method, quote(urllib.parse.unquote_to_bytes(path), safe="/") or "/"]
    lines.append("&".join(f"{name}={value}" for name, value in encoded))
    for name in names.split(";"):
        values = [" ".join(value.split()) for given, value in fields if given.lower() == name]
        lines.append(f"{name}:{','.join(values)}")
    return "\n".join([*lines, "", names, payload])


def string_to_sign(date: str, scope: Scope, text: str) -> str:
    return "\n".join([ALGORITHM, date, str(scope), sha256(text.encode("latin-1"))])


def mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode("latin-1"), "sha256").digest()


def signing_key(secret: str, scope: Scope) -> bytes:
    key = b"AWS4" + secret.encode()
    for word in (scope.date, scope.region, scope.service, "aws4_request"):
        key = mac(key, word)
    return key


def sign(secret: str, scope: Scope, text: str) -> str:
    """The signature of a string, in hexadecimal digits."""
    return mac(signing_key(secret, scope), text).hex()


def authorization(key: Key, scope: Scope, names: str, signature: str) -> str:
    return f"{ALGORITHM} Credential={key.id}/{scope}, SignedHeaders={names}, Signature={signature}"


def chunk_signature(secret: str, date: str, scope: Scope, before: str, data: bytes) -> str:
    """Of a chunk of `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`."""
    lines = ["AWS4-HMAC-SHA256-PAYLOAD", date, str(scope), before, EMPTY, sha256(data)]
    return sign(secret, scope, "\n".join(lines))


def trailer_signature(secret: str, date: str, scope: Scope, before: str, trailers: bytes) -> str:
    """Of the trailing fields: each `name:value` and a line feed."""
    return sign(secret, scope, "\n".join(["AWS4-HMAC-SHA256-TRAILER", date, str(scope), before, sha256(trailers)]))


def chunked(chunks: list[bytes], signer=None, trailers=()) -> bytes:
    """A body in the `aws-chunked` coding, without its end if `chunks` does not end with an empty one.

    `signer` signs each chunk, by the signature before it and the data, and the trailer."""
    out, before = b"", signer.seed if signer else ""
    for data in chunks:
        extension = ""
        if signer:
            before = signer.chunk(before, data)
            extension = f";chunk-signature={before}"
        out += f"{len(data):x}{extension}".encode() + CRLF + data + (CRLF if data else b"")
    lines = b"".join(f"{name}:{value}\n".encode() for name, value in trailers)
    out += lines.replace(b"\n", CRLF)
    if signer and trailers:
        out += f"x-amz-trailer-signature:{signer.trailer(before, lines)}".encode() + CRLF
    return out + CRLF


@dataclass
class ChunkSigner:
    """Signs the chunks that follow a head."""

    secret: str
    date: str
    scope: Scope
    seed: str

    def chunk(self, before: str, data: bytes) -> str:
        return chunk_signature(self.secret, self.date, self.scope, before, data)

    def trailer(self, before: str, lines: bytes) -> str:
        return trailer_signature(self.secret, self.date, self.scope, before, lines)


def _crc_table(polynomial: int) -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table


_TABLES = {"crc32c": (32, _crc_table(0x82F63B78)), "crc64nvme": (64, _crc_table(0x9A6C9329AC4BC9B5))}


def checksum(name: str, data: bytes) -> str:
    """`crc32`, `crc32c`, `crc64nvme`, `sha1` or `sha256` in base64, as in `x-amz-checksum-…`."""
    if name == "crc32":
        value = zlib.crc32(data).to_bytes(4, "big")
    elif name in _TABLES:
        bits, table = _TABLES[name]
        crc = (1 << bits) - 1
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
        value = (crc ^ (1 << bits) - 1).to_bytes(bits // 8, "big")
    else:
        value = hashlib.new(name, data).digest()
    return base64.b64encode(value).decode()
