"""Requests as a forger makes them: signed well by hand, and then not so well."""

import base64
import datetime
import json
from dataclasses import dataclass, field

import links
import sigv4
from identity import ENDPOINT, STUDIO_KEY
from seaweed import BUCKET, REGION
from sigv4 import CRLF, ChunkSigner, Key, Scope

OBJECT = f"/{BUCKET}/shots/a.mov"
OVERHEAD = {"host", "authorization"}


@dataclass
class Raw:
    """A request, byte for byte, as it will be sent."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    signer: ChunkSigner | None = None

    def data(self) -> bytes:
        """What goes over the wire."""
        fields = list(self.fields)
        if self.body and self.get("content-length") is None and self.get("transfer-encoding") is None:
            fields.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join(lines).encode("latin-1") + CRLF + CRLF + self.body

    def get(self, name: str) -> str | None:
        return next((value for given, value in self.fields if given.lower() == name), None)

    def without(self, name: str) -> "Raw":
        self.fields = [pair for pair in self.fields if pair[0].lower() != name.lower()]
        return self

    def but(self, name: str, value: str) -> "Raw":
        """The same with a field of another value."""
        self.without(name).fields.append((name, value))
        return self

    def also(self, name: str, value: str) -> "Raw":
        """The same with one more field."""
        self.fields.append((name, value))
        return self

    def swap(self, old: str, new: str) -> "Raw":
        """The same with something else in its signature: the Authorization field, or the query."""
        value = self.get("authorization")
        if value is None:
            assert old in self.target, self.target
            self.target = self.target.replace(old, new, 1)
            return self
        assert old in value, value
        return self.but("Authorization", value.replace(old, new, 1))

    def at(self, old: str, new: str) -> "Raw":
        """The same with another target."""
        assert old in self.target, self.target
        self.target = self.target.replace(old, new, 1)
        return self

    def by(self, method: str) -> "Raw":
        self.method = method
        return self


@dataclass
class Forge:
    """How a request is made and signed."""

    method: str = "GET"
    target: str = OBJECT
    host: str = ENDPOINT
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    key: Key = STUDIO_KEY
    region: str = REGION
    service: str = "s3"
    date: str = ""
    day: str = ""
    names: str | None = None
    payload: str | None = None
    end: str = "aws4_request"
    token: bool = True

    def scope(self) -> Scope:
        return Scope(self.day or self.date[:8], self.region, self.service)

    def signed(self) -> Raw:
        """Signed in the Authorization field."""
        self.date = self.date or sigv4.stamp()
        payload = sigv4.sha256(self.body) if self.payload is None else self.payload
        fields = [("Host", self.host), ("x-amz-date", self.date), ("x-amz-content-sha256", payload), *self.fields]
        if self.key.token and self.token:
            fields.append(("x-amz-security-token", self.key.token))
        names = self.names
        if names is None:
            names = ";".join(sorted({name.lower() for name, _ in fields if name.lower() != "content-length"}))
        text = sigv4.canonical(self.method, self.target, fields, names, payload)
        signature = sigv4.sign(self.key.secret, self.scope(), sigv4.string_to_sign(self.date, self.scope(), text))
        links.secrets.add(signature)
        fields.append(("Authorization", sigv4.authorization(self.key, self.scope(), names, signature)))
        signer = ChunkSigner(self.key.secret, self.date, self.scope(), signature)
        return Raw(self.method, self.target, fields, self.body, signer)

    def presigned(self, expires: str = "300", **changed: str) -> Raw:
        """Signed in the query; parameters in `changed` are other ones (underscores for dashes) before it is signed."""
        self.date = self.date or sigv4.stamp()
        fields = [("Host", self.host), *self.fields]
        names = self.names or ";".join(sorted(name.lower() for name, _ in fields))
        given = {
            "X-Amz-Algorithm": sigv4.ALGORITHM,
            "X-Amz-Credential": f"{self.key.id}/{self.scope()}",
            "X-Amz-Date": self.date,
            "X-Amz-Expires": expires,
            "X-Amz-SignedHeaders": names,
        }
        if self.key.token and self.token:
            given["X-Amz-Security-Token"] = self.key.token
        given.update({name.replace("_", "-"): value for name, value in changed.items()})
        query = "&".join(f"{name}={sigv4.quote(value.encode())}" for name, value in given.items() if value is not None)
        target = self.target + ("&" if "?" in self.target else "?") + query
        text = sigv4.canonical(self.method, target, fields, names, self.payload or sigv4.UNSIGNED)
        signature = sigv4.sign(self.key.secret, self.scope(), sigv4.string_to_sign(self.date, self.scope(), text))
        links.secrets.add(signature)
        return Raw(self.method, f"{target}&X-Amz-Signature={signature}", fields, self.body)


def header(method: str = "GET", target: str = OBJECT, *fields, **options) -> Raw:
    return Forge(method, target, fields=list(fields), **options).signed()


def link(method: str = "GET", target: str = OBJECT, *fields, **options) -> Raw:
    words = {name: options.pop(name) for name in list(options) if name == "expires" or name.startswith("X_")}
    return Forge(method, target, fields=list(fields), **options).presigned(**words)


def put(body: bytes = b"frame", **options) -> Raw:
    return header("PUT", body=body, **options)


DATA = [b"a" * 70_000, b"b" * 70_000, b"c" * 1_000]
LENGTH = str(sum(map(len, DATA)))
PIECES = [*DATA, b""]


def stream(
    payload: str = sigv4.SIGNED_CHUNKS, trailer: str | None = None, length: str | None = LENGTH, **options
) -> Raw:
    """A PUT whose body is to come in chunks."""
    fields = [("content-encoding", "aws-chunked")]
    if length is not None:
        fields.append(("x-amz-decoded-content-length", length))
    if trailer:
        fields.append(("x-amz-trailer", trailer))
    return header("PUT", OBJECT, *fields, payload=payload, **options)


def chunks(raw: Raw, change=None, pieces=PIECES, trailers=(), signs: bool = True) -> Raw:
    """The body of `stream`, `change`d."""
    body = sigv4.chunked(pieces, raw.signer if signs else None, trailers)
    raw.body = change(body) if change else body
    return raw


CRC32 = ("x-amz-checksum-crc32", sigv4.checksum("crc32", b"".join(DATA)))


def unsigned_trailer(change=None, trailers=(CRC32,), trailer: str | None = "x-amz-checksum-crc32", **options) -> Raw:
    """What SDKs send over TLS."""
    return chunks(stream(sigv4.UNSIGNED_TRAILER, trailer, **options), change, trailers=trailers, signs=False)


def signed_trailer(change=None, trailers=(CRC32,), trailer: str | None = "x-amz-checksum-crc32", **options) -> Raw:
    return chunks(stream(sigv4.SIGNED_TRAILER, trailer, **options), change, trailers=trailers)


def signed_chunks(change=None, pieces=PIECES, **options) -> Raw:
    return chunks(stream(**options), change, pieces)


BOUNDARY = "----filmgate-e2e-7d1f"


def form(
    change: dict | None = None,
    conditions: list | None = None,
    body: bytes = b"frame",
    target: str = f"/{BUCKET}",
    host: str = ENDPOINT,
    key: Key = STUDIO_KEY,
    region: str = REGION,
    date: str = "",
    expires: float = 300,
    also: tuple[tuple[str, str], ...] = (),
    after: tuple[tuple[str, str], ...] = (),
    file: bool = True,
    policy: str | None = None,
) -> Raw:
    """A browser's form, signed by its policy; `change` sets fields after that, and takes out those that are `None`."""
    date = date or sigv4.stamp()
    scope = Scope(date[:8], region)
    fields = {
        "key": "shots/form.mov",
        "x-amz-algorithm": sigv4.ALGORITHM,
        "x-amz-credential": f"{key.id}/{scope}",
        "x-amz-date": date,
    }
    if key.token:
        fields["x-amz-security-token"] = key.token
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=expires)
    said = [{"bucket": BUCKET}, ["starts-with", "$key", "shots/"], ["content-length-range", 1, 1000]]
    said += [{name: value} for name, value in fields.items() if name != "key"]
    document = {"expiration": f"{end:%Y-%m-%dT%H:%M:%S}.000Z", "conditions": said + (conditions or [])}
    encoded = base64.b64encode(json.dumps(document).encode()).decode() if policy is None else policy
    fields |= {"policy": encoded, "x-amz-signature": sigv4.sign(key.secret, scope, encoded)}
    links.secrets.add(fields["x-amz-signature"])
    fields |= change or {}

    def part(name: str, value: bytes, more: str = "") -> bytes:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        return head.encode() + value + CRLF

    parts = [part(name, value.encode()) for name, value in [*fields.items(), *also] if value is not None]
    parts += [part("file", body, '; filename="frame.mov"')] if file else []
    parts += [part(name, value.encode()) for name, value in after]
    sent = [("Host", host), ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")]
    return Raw("POST", target, sent, b"".join(parts) + f"--{BOUNDARY}--\r\n".encode())
