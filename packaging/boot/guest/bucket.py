"""An S3 of one bucket that keeps its objects in memory and verifies the signature of every presigned request."""

import hmac
import http.server
import re
import ssl
import threading

import sigv4
import studio

PIECE = 64 << 10
QUIET_SECONDS = 120


AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^, ]+), ?SignedHeaders=([^, ]+), ?Signature=([0-9a-f]{64})")


def refusal_of_fields(method: str, target: str, fields: list[tuple[str, str]]) -> str | None:
    """The same for a request that is signed by its fields, as the gate signs."""
    given = {name.lower(): value for name, value in fields}
    if not (parts := AUTHORIZATION.fullmatch(given["authorization"])):
        return "the authorization is malformed"
    date, payload = given.get("x-amz-date", ""), given.get("x-amz-content-sha256", "")
    scope = sigv4.Scope(date[:8], studio.REGION)
    text = sigv4.string_to_sign(date, scope, sigv4.canonical(method, target, fields, parts[2], payload))
    facts = {
        "credential": parts[1] == f"{studio.KEY.id}/{scope}",
        "token": given.get("x-amz-security-token") == studio.KEY.token,
        "host": "host" in parts[2].split(";") and given.get("host") == studio.S3_HOST,
        "signature": hmac.compare_digest(sigv4.sign(studio.KEY.secret, scope, text), parts[3]),
    }
    return next((f"the {name} is wrong" for name, is_so in facts.items() if not is_so), None)


def refusal(method: str, target: str, fields: list[tuple[str, str]]) -> str | None:
    """Why S3 would answer 403, if it would."""
    if any(name.lower() == "authorization" for name, _ in fields):
        return refusal_of_fields(method, target, fields)
    given = {name.decode(): value.decode() for name, value in sigv4.pairs(target.partition("?")[2])}
    try:
        signature, date, names = given["X-Amz-Signature"], given["X-Amz-Date"], given["X-Amz-SignedHeaders"]
        age = sigv4.moment_of(sigv4.stamp()) - sigv4.moment_of(date)
        scope = sigv4.Scope(date[:8], studio.REGION)
        facts = {
            "algorithm": given["X-Amz-Algorithm"] == sigv4.ALGORITHM,
            "credential": given["X-Amz-Credential"] == f"{studio.KEY.id}/{scope}",
            "token": given["X-Amz-Security-Token"] == studio.KEY.token,
            "time": -300 < age.total_seconds() < int(given["X-Amz-Expires"]),
            "host": "host" in names.split(";") and [studio.S3_HOST] == [v for n, v in fields if n.lower() == "host"],
        }
    except (KeyError, ValueError) as missing:
        return f"{missing} is missing or malformed"
    request = sigv4.canonical(method, target, fields, names, sigv4.UNSIGNED, without="X-Amz-Signature")
    right = sigv4.sign(studio.KEY.secret, scope, sigv4.string_to_sign(date, scope, request))
    facts["signature"] = hmac.compare_digest(right, signature)
    return next((f"the {name} is wrong" for name, is_so in facts.items() if not is_so), None)


class Bucket(http.server.ThreadingHTTPServer):
    """Serves on loopback until the process ends."""

    daemon_threads = True

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(studio.PKI / "s3.pem", studio.PKI / "s3.key")
        super().__init__(("127.0.0.1", studio.S3_PORT), Exchange)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A gate that is killed leaves broken connections; the checks see to what matters."""


class Exchange(http.server.BaseHTTPRequestHandler):
    """GET, HEAD and PUT of an object."""

    protocol_version = "HTTP/1.1"
    server: Bucket

    def setup(self):
        self.request.settimeout(QUIET_SECONDS)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self):
        if self._permitted():
            data = self.server.objects.get(self._key())
            self._answer(200 if data is not None else 404, data or b"")

    do_HEAD = do_GET

    def do_PUT(self):
        data = bytearray()
        length = int(self.headers["Content-Length"])
        while len(data) < length and (piece := self.rfile.read(min(PIECE, length - len(data)))):
            data += piece
        if len(data) == length and self._permitted():
            self.server.objects[self._key()] = bytes(data)
            self._answer(200, b"")

    def _key(self) -> str:
        return self.path.partition("?")[0]

    def _permitted(self) -> bool:
        why = refusal(self.command, self.path, self.headers.items())
        if why:
            self._answer(403, f"<Error><Code>AccessDenied</Code><Message>{why}</Message></Error>".encode())
        return why is None

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Nothing: the transcript is for the checks."""
