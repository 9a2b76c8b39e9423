"""An S3 that believes nothing: it computes the signature of every request anew and writes down what is wrong."""

import base64
import json
import time
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP

import sigv4
from sigv4 import CRLF, Key, Scope
from upstream import OK, Peer, Request, Upstream

# SDKs take a body that is no XML for a failure.
DONE = OK.replace(b"Length: 2\r\n\r\nok", b"Length: 0\r\n\r\n")

# RFC 9110 §7.6.1, and what a proxy must be free to change.
NEVER_SIGNED = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
}
SECONDS_APART = 300
ANOTHER_BODY = "is that of another body"


@dataclass
class Verdict:
    """What was found out about a request."""

    request: Request
    faults: list[str] = field(default_factory=list)
    key: Key | None = None
    region: str = ""
    payload: str = ""
    body: bytes = b""
    names: list[str] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    form: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Injected:
    """An answer instead of the usual one; `times` in a row."""

    status: str
    code: str
    fields: tuple[tuple[str, str], ...] = ()
    extra: str = ""
    delay: float = 0.0
    unread: bool = False
    message: str = "m"
    surplus: bytes = b""

    def data(self) -> bytes:
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>{self.message}</Message>{self.extra}</Error>".encode()
        lines = [f"HTTP/1.1 {self.status}", "Content-Type: application/xml", "x-amz-request-id: R"]
        lines += [f"{name}: {value}" for name, value in self.fields] + [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body + self.surplus


@dataclass(frozen=True)
class Success(Injected):
    """A success with a body, in chunks of so many bytes if there are any."""

    body: str = ""
    chunk: int = 0
    coding: str = ""

    def data(self) -> bytes:
        body, framing = self.body.encode(), f"Content-Length: {len(self.body.encode())}"
        if self.chunk:
            pieces = [body[at : at + self.chunk] for at in range(0, len(body), self.chunk)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            framing = "Transfer-Encoding: chunked"
        coding = f"Content-Encoding: {self.coding}\r\n" if self.coding else ""
        return f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n{coding}{framing}\r\n\r\n".encode() + body


def success(body: str, **options) -> Success:
    return Success("200 OK", "", body=body, **options)


class Strict(Upstream):
    """Verifies by the keys in `keys`; answers 200, or 403 with the faults found."""

    def __init__(self, identity, region: str, hosts):
        self.regions, self.hosts = {region}, set(hosts)
        self.keys: dict[str, Key] = {}
        self.forbidden: set[str] = set()
        self.injected: list[Injected] = []
        self.verdicts: list[Verdict] = []
        # Everything since the beginning, also what came after it was to be forgotten.
        self.history: list[Verdict] = []
        super().__init__(identity)
        self.script = self._judge

    def trust(self, *keys: Key) -> None:
        """Takes these keys from now on."""
        self.keys.update({key.id: key for key in keys})

    def forget(self) -> None:
        super().forget()
        self.script = self._judge
        self.injected.clear()
        self.verdicts.clear()

    def only(self) -> Verdict:
        """The one request there was, which must have been without fault."""
        # What was broken off before may be seen only now.
        whole = [verdict for verdict in self.verdicts if verdict.request.whole]
        assert len(whole) == 1, [verdict.request.line for verdict in self.verdicts]
        assert not whole[0].faults, whole[0].faults
        return whole[0]

    def _judge(self, request: Request, peer: Peer) -> None:
        injected = self.injected.pop(0) if self.injected else None
        if injected and injected.unread:
            time.sleep(injected.delay)
            peer.send(injected.data())
            peer.read_body(request)
            return
        if request.get("expect"):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.read_body(request)
        verdict = judge(request, self.keys, self.regions, self.hosts, self.forbidden)
        self.history.append(verdict)
        if any(request is one for one in self.requests):
            self.verdicts.append(verdict)
        if not request.whole:
            return
        if injected:
            time.sleep(injected.delay)
            peer.send(injected.data())
        elif verdict.faults:
            status, code = "403 Forbidden", "SignatureDoesNotMatch"
            if all(said.endswith(ANOTHER_BODY) for said in verdict.faults):
                status, code = "400 Bad Request", "XAmzContentSHA256Mismatch"
            peer.send(Injected(status, code, (("X-Faults", "; ".join(verdict.faults)),)).data())
        else:
            peer.send(OK if request.method == "GET" else DONE)


def judge(request: Request, keys: dict[str, Key], regions, hosts, forbidden=()) -> Verdict:
    """Everything S3 and RFC 9110 could find wrong with a signed request."""
    verdict = Verdict(request)
    fault = verdict.faults.append
    target = request.target.decode("latin-1")
    for word in forbidden:
        if word.encode() in request.head:
            fault(f"the head holds {word[:12]}…, which is not S3's business")
    for name in ("cookie", "proxy-authorization"):
        if request.get(name) is not None:
            fault(f"a {name} field")
    if hosts and request.get("host") not in hosts:
        fault(f"host is {request.get('host')}")
    coding = (request.get("transfer-encoding") or "").lower()
    if request.method in ("PUT", "POST") and request.get("content-length") is None and coding != "chunked":
        fault("no length")
    for name, _ in sigv4.pairs(target.partition("?")[2]):
        if name.lower().startswith(
            (b"x-amz-sig", b"x-amz-cred", b"x-amz-alg", b"x-amz-exp", b"x-amz-date", b"x-amz-sec")
        ):
            fault(f"query parameter {name.decode()} beside an Authorization field")
        if name in (b"Signature", b"AWSAccessKeyId"):
            fault("a SigV2 query")
    if request.method == "POST" and (request.get("content-type") or "").startswith("multipart/form-data"):
        _judge_form(verdict, keys, regions)
    else:
        _judge_signature(verdict, keys, regions, target)
    return verdict


def _judge_form(verdict: Verdict, keys: dict[str, Key], regions) -> None:
    """ "Authenticating Requests in Browser-Based Uploads Using POST"."""
    request, fault = verdict.request, verdict.faults.append
    if not request.whole:
        return
    if request.get("authorization") or request.get("x-amz-security-token"):
        fault("a form is signed in its fields only")
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + request.get("content-type").encode() + CRLF + CRLF + request.body
    )
    fields, filename = {}, ""
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if name.lower() in fields:
            fault(f"{name} twice")
        if "file" in fields:
            fault(f"{name} behind the file")
        fields[name.lower()] = part.get_payload(decode=True)
        filename = part.get_filename() if name == "file" else filename
    verdict.form = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name != "file"}
    verdict.body = fields.get("file", b"")
    form = verdict.form
    form["key"] = form.get("key", "").replace("${filename}", filename)
    try:
        identity, date, where, service, end = form["x-amz-credential"].rsplit("/", 4)
        policy = json.loads(base64.b64decode(form["policy"], validate=True))
    except (KeyError, ValueError) as missing:
        fault(f"no credential or policy: {missing}")
        return
    verdict.key, verdict.region = keys.get(identity), where
    if verdict.key is None:
        fault(f"unknown key {identity}")
        return
    if where not in regions or (service, end) != ("s3", "aws4_request") or not form["x-amz-date"].startswith(date):
        fault(f"scope {form['x-amz-credential']}")
    if form["x-amz-signature"] != sigv4.sign(verdict.key.secret, Scope(date, where), form["policy"]):
        fault("the signature is another one")
    if form.get("x-amz-security-token") != verdict.key.token:
        fault("not the session token of the key")
    named = set()
    for condition in policy["conditions"]:
        kind, name, value = condition if isinstance(condition, list) else ("eq", *next(iter(condition.items())))
        if kind == "content-length-range":
            if not name <= len(verdict.body) <= value:
                fault(f"{len(verdict.body)} bytes")
            continue
        name = name.removeprefix("$").lower()
        named.add(name)
        if name != "bucket" and not (
            form.get(name, "") == value if kind == "eq" else form.get(name, "").startswith(value)
        ):
            fault(f"{name} is {form.get(name)!r}, the policy says {kind} {value!r}")
    if free := set(form) - named - {"policy", "x-amz-signature", "file"}:
        fault(f"fields of which the policy does not speak: {free}")


def _judge_signature(verdict: Verdict, keys: dict[str, Key], regions, target: str) -> None:
    request, fault = verdict.request, verdict.faults.append
    given = [value for name, value in request.fields if name.lower() == "authorization"]
    if len(given) != 1 or not given[0].startswith(sigv4.ALGORITHM + " "):
        fault(f"{len(given)} Authorization fields, or none of version 4")
        return
    parts = dict(part.strip().split("=", 1) for part in given[0].removeprefix(sigv4.ALGORITHM).split(","))
    if sorted(parts) != ["Credential", "Signature", "SignedHeaders"]:
        fault(f"components {sorted(parts)}")
        return
    identity, date, where, service, end = parts["Credential"].rsplit("/", 4)
    scope, names = Scope(date, where, service), parts["SignedHeaders"]
    verdict.key, verdict.names, verdict.region = keys.get(identity), names.split(";"), where
    if where not in regions or (service, end) != ("s3", "aws4_request"):
        fault(f"scope {scope}")
    if verdict.key is None:
        fault(f"unknown key {identity}")
        return
    signed_at = request.get("x-amz-date") or ""
    if not signed_at.startswith(date) or abs(sigv4.moment_of(signed_at).timestamp() - time.time()) > SECONDS_APART:
        fault(f"x-amz-date {signed_at} in scope {scope}")
    if verdict.names != sorted(set(verdict.names)) or names != names.lower() or "host" not in verdict.names:
        fault(f"signed names {names}")
    if wrong := NEVER_SIGNED & set(verdict.names):
        fault(f"hop-by-hop fields are signed: {wrong}")
    present = request.names()
    for name in present:
        if (name.startswith("x-amz-") or name == "content-md5") and name not in verdict.names:
            fault(f"{name} is not signed")
        if name.startswith("x-amz-") and present.count(name) > 1:
            fault(f"{name} twice")
    if missing := set(verdict.names) - set(present):
        fault(f"signed and not there: {missing}")
    if request.get("x-amz-security-token") != verdict.key.token:
        fault("not the session token of the key")
    verdict.payload = request.get("x-amz-content-sha256") or ""
    text = sigv4.canonical(request.method, target, request.fields, names, verdict.payload)
    signature = sigv4.sign(verdict.key.secret, scope, sigv4.string_to_sign(signed_at, scope, text))
    if signature != parts["Signature"]:
        fault("the signature is another one")
    signer = sigv4.ChunkSigner(verdict.key.secret, signed_at, scope, parts["Signature"])
    if request.whole:
        _judge_payload(verdict, signer)


def _judge_payload(verdict: Verdict, signer: sigv4.ChunkSigner) -> None:
    request, fault, payload = verdict.request, verdict.faults.append, verdict.payload
    verdict.body = request.body
    is_chunked = payload.startswith("STREAMING-")
    if is_chunked != ("aws-chunked" in (request.get("content-encoding") or "")):
        fault(f"content-encoding {request.get('content-encoding')} with {payload}")
    if is_chunked:
        _judge_chunks(verdict, signer)
    elif payload != sigv4.UNSIGNED and payload != sigv4.sha256(request.body):
        fault(f"x-amz-content-sha256 {payload} {ANOTHER_BODY}")
    for name, value in [*request.fields, *verdict.trailers]:
        _, is_checksum, kind = name.lower().partition("x-amz-checksum-")
        if is_checksum and kind in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256") and request.method == "PUT":
            if len(verdict.body) < 1 << 20 or kind not in sigv4._TABLES:
                if sigv4.checksum(kind, verdict.body) != value.strip():
                    fault(f"{name} {value} {ANOTHER_BODY}")


def _judge_chunks(verdict: Verdict, signer: sigv4.ChunkSigner) -> None:
    request, fault = verdict.request, verdict.faults.append
    is_signed, has_trailer = "HMAC" in verdict.payload, verdict.payload.endswith("-TRAILER")
    data, rest, before = b"", request.body, signer.seed
    while True:
        head, found, rest = rest.partition(CRLF)
        size, _, extension = head.decode("latin-1").partition(";chunk-signature=")
        length = int(size, 16) if found else -1
        if length < 0 or len(rest) < length:
            fault("the chunks have no end")
            return
        piece, rest = rest[:length], rest[length:]
        if is_signed:
            before = signer.chunk(before, piece)
            if extension != before:
                fault(f"the signature of the chunk at {len(data)} is another one")
        elif extension:
            fault("a chunk is signed")
        data += piece
        if not length:
            break
        if not rest.startswith(CRLF):
            fault("a chunk has no end")
            return
        rest = rest[2:]
    verdict.body = data
    if request.get("x-amz-decoded-content-length") != str(len(data)):
        fault(f"x-amz-decoded-content-length {request.get('x-amz-decoded-content-length')} for {len(data)} bytes")
    lines = [line for line in rest.split(CRLF) if line]
    if not rest.endswith(CRLF) and rest:
        fault("trailing bytes")
    trailers = [tuple(line.decode("latin-1").split(":", 1)) for line in lines]
    verdict.trailers = [pair for pair in trailers if pair[0].lower() != "x-amz-trailer-signature"]
    announced = [name.strip().lower() for name in (request.get("x-amz-trailer") or "").split(",") if name.strip()]
    if sorted(name.lower() for name, _ in verdict.trailers) != sorted(announced) or bool(announced) != has_trailer:
        fault(f"trailer {verdict.trailers}, announced {announced}")
    if is_signed and has_trailer:
        signed = b"".join(f"{name.lower()}:{value.strip()}\n".encode("latin-1") for name, value in verdict.trailers)
        if dict(trailers).get("x-amz-trailer-signature") != signer.trailer(before, signed):
            fault("the signature of the trailer is another one")
