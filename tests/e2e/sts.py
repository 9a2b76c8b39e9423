"""Small servers around the gate's own identity: a token service that does what a test says, and a way to the gate."""

import datetime
import http.server
import json
import re
import secrets
import socket
import ssl
import threading
import urllib.parse
from dataclasses import dataclass

import links
import sigv4
from sigv4 import Key, Scope

REGION = "us-west-2"


@dataclass
class Asked:
    """One `AssumeRole`."""

    parameters: dict[str, str]
    access_key: str
    token: str | None
    is_signed_well: bool


class TokenService:
    """`AssumeRole` and its like over TLS. Credentials live for `seconds`; while `failing` is set it answers that (status, code)."""

    def __init__(self, identity, callers: list[Key], strict=None):
        self.callers = {key.id: key for key in callers}
        self.strict = strict
        self.seconds = 3600.0
        self.failing: tuple[int, str] | None = None
        self.asked: list[Asked] = []
        self.issued: list[Key] = []
        self._lock = threading.Lock()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                service._answer(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def issue(self) -> Key:
        """New temporary credentials, which the strict upstream takes from now on."""
        key = Key("ASIA" + secrets.token_hex(8).upper(), secrets.token_hex(20), secrets.token_urlsafe(300))
        links.secrets.update({key.secret, key.token})
        self.issued.append(key)
        if self.strict:
            self.strict.trust(key)
        return key

    def _answer(self, handler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        body = handler.rfile.read(length)
        parameters = dict(urllib.parse.parse_qsl(body.decode()))
        with self._lock:
            self.asked.append(self._judge(handler, body, parameters))
            if self.failing:
                status, code = self.failing
                text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>"
                text += "<RequestId>r</RequestId></ErrorResponse>"
            else:
                status, text = 200, self._credentials(parameters["Action"])
        data = text.encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "text/xml")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _credentials(self, action: str) -> str:
        key = self.issue()
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.seconds)
        return (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
            f"<AccessKeyId>{key.id}</AccessKeyId><SecretAccessKey>{key.secret}</SecretAccessKey>"
            f"<SessionToken>{key.token}</SessionToken><Expiration>{end:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
            "<AssumedRoleUser><Arn>arn:aws:sts::000000000000:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId>"
            f"</AssumedRoleUser></{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
            f"</{action}Response>"
        )

    def _judge(self, handler, body: bytes, parameters: dict) -> Asked:
        match = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/sts/aws4_request, "
            r"SignedHeaders=([^,]+), Signature=(\w+)",
            handler.headers.get("authorization") or "",
        )
        token = handler.headers.get("x-amz-security-token")
        if not match:
            return Asked(parameters, "", token, False)
        identity, date, region, names, signature = match.groups()
        key = self.callers.get(identity) or next((key for key in self.issued if key.id == identity), None)
        if not key:
            return Asked(parameters, identity, token, False)
        scope = Scope(date, region, "sts")
        text = sigv4.canonical("POST", handler.path, handler.headers.items(), names, sigv4.sha256(body))
        expected = sigv4.sign(key.secret, scope, sigv4.string_to_sign(handler.headers["x-amz-date"], scope, text))
        return Asked(parameters, identity, token, expected == signature and token == key.token)


class Answers:
    """Answers plain HTTP as `answer(method, path, fields)` says, by a status and a document or text."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                status, said = answer(self.command, self.path, self.headers)
                data = (said if isinstance(said, str) else json.dumps(said)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(said, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                if self.command == "PUT":
                    self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
                self.end_headers()
                self.wfile.write(data)

            do_PUT = do_GET

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Tunnel:
    """A CONNECT proxy: every name leads to one port of this machine, as a studio's DNS would have it."""

    def __init__(self, port: int):
        self.port = port
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(4096)
            if not more:
                client.close()
                return
            head += more
        self.asked.append(head.split(b" ")[1].decode())
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        server = socket.create_connection(("127.0.0.1", self.port))
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other = threading.Thread(target=_pump, args=(server, client), daemon=True)
        other.start()
        _pump(client, server)
        other.join()
        client.close()
        server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
