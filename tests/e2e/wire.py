"""HTTP/1.1 written and read by hand: no library between the test and the bytes on the wire."""

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

CRLF = b"\r\n"

# The session's CA, set once by conftest.
trusted: Path | None = None


class Incomplete(Exception):
    """The peer ended before a head was whole."""


@dataclass
class Response:
    """One response. `complete` says whether its body ended the way its framing promised."""

    status: int
    reason: str
    version: str
    fields: list[tuple[str, str]]
    head: bytes
    body: bytes = b""
    complete: bool = True
    interim: list[int] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The first field of that name."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    def lower(self) -> dict[str, str]:
        """All fields by lower-case name."""
        return {key.lower(): value for key, value in self.fields}


class Stream:
    """A socket with a read buffer, which tells an orderly end from a cut."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.buffer = b""
        self.ended: str | None = None

    def fill(self) -> bool:
        """Reads more; false at the end, with `ended` "orderly" or "cut"."""
        if self.ended:
            return False
        try:
            chunk = self.sock.recv(1 << 16)
        except (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError):
            self.ended = "cut"
            return False
        if not chunk:
            self.ended = "orderly"
            return False
        self.buffer += chunk
        return True

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while mark not in self.buffer:
            if not self.fill():
                raise Incomplete(self.buffer)
        end = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:end], self.buffer[end:]
        return taken

    def exactly(self, length: int) -> bytes:
        """That many bytes, or fewer when the peer ends."""
        pieces, have = [self.buffer], len(self.buffer)
        self.buffer = b""
        while have < length and self.fill():
            pieces.append(self.buffer)
            have += len(self.buffer)
            self.buffer = b""
        whole = b"".join(pieces)
        self.buffer = whole[length:]
        return whole[:length]

    def rest(self) -> bytes:
        """Everything until the peer ends."""
        while self.fill():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def chunked(self) -> tuple[bytes, bool]:
        """A chunked body without its trailer section, and whether it was whole."""
        pieces = []
        try:
            while True:
                size = int(self.until(CRLF).split(b";")[0], 16)
                if size == 0:
                    while self.until(CRLF) != CRLF:
                        pass
                    return b"".join(pieces), True
                piece = self.exactly(size)
                pieces.append(piece)
                if len(piece) < size or self.exactly(2) != CRLF:
                    return b"".join(pieces), False
        except Incomplete:
            return b"".join(pieces), False


def parse_head(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    """First line and fields of a message head."""
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [tuple(line.split(":", 1)) for line in lines if line]
    return first, [(name, value.strip(" \t")) for name, value in fields]


def client_context(
    verify: bool = True, alpn: list[str] | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A client that trusts the session's CA."""
    context = ssl.create_default_context(cafile=str(trusted) if trusted else None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Connection:
    """One client connection, kept alive until closed."""

    def __init__(
        self,
        port: int,
        host: str,
        tls: bool = True,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        seconds: float = 30.0,
        receive_buffer: int | None = None,
    ):
        self.port, self.host = port, host
        raw = socket.socket()
        try:
            if receive_buffer:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.settimeout(seconds)
            raw.connect(("127.0.0.1", port))
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                raw = (context or client_context()).wrap_socket(
                    raw, server_hostname=host, suppress_ragged_eofs=False, session=session
                )
        except BaseException:
            raw.close()
            raise
        self.sock = raw
        self.stream = Stream(raw)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes at once, without a word to the peer."""
        self.sock.close()

    def reset(self) -> None:
        """Ends with a TCP reset, as a killed client's machine does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.sock.sendall(data)

    def head(
        self, method: str, target: str | bytes, fields=(), version: str = "HTTP/1.1", host: str | None = ""
    ) -> bytes:
        """A request head; `host` is left out when `None`."""
        target = target.encode("latin-1") if isinstance(target, str) else target
        lines = [method.encode() + b" " + target + b" " + version.encode()]
        if host is not None:
            lines.append(b"Host: " + (host or f"{self.host}:{self.port}").encode())
        for name, value in fields:
            lines.append(name.encode("latin-1") + b": " + value.encode("latin-1"))
        return CRLF.join(lines) + CRLF + CRLF

    def exchange(self, method: str, target: str | bytes, fields=(), body: bytes | None = None, **head) -> Response:
        """Sends one request and reads its response."""
        fields = list(fields)
        if body is not None and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in fields):
            fields.append(("Content-Length", str(len(body))))
        self.send(self.head(method, target, fields, **head) + (body or b""))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """Reads one final response, interim ones noted."""
        response, interim = self.response_head(), []
        while response.status < 200:
            interim.append(response.status)
            response = self.response_head()
        response.interim = interim
        self.read_body(response, method)
        return response

    def response_head(self) -> Response:
        """Reads the next head, interim or final."""
        head = self.stream.until(CRLF + CRLF)
        first, fields = parse_head(head)
        version, status, *reason = first.split(" ", 2)
        return Response(int(status), reason[0] if reason else "", version, fields, head)

    def read_body(self, response: Response, method: str) -> None:
        """Reads the body of a response by RFC 9112 §6.3."""
        if method == "HEAD" or response.status in (204, 304):
            return
        fields = response.lower()
        if fields.get("transfer-encoding", "").lower() == "chunked":
            response.body, response.complete = self.stream.chunked()
        elif "content-length" in fields:
            length = int(fields["content-length"])
            response.body = self.stream.exactly(length)
            response.complete = len(response.body) == length
        else:
            response.body = self.stream.rest()
            response.complete = self.stream.ended == "orderly"
