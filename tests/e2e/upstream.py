"""An S3 made of a script: records the exact bytes of every request and answers as the test says."""

import socket
import ssl
import threading
import time
from dataclasses import dataclass

from pki import Identity
from wire import CRLF, Incomplete, Stream, parse_head

OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nx-amz-request-id: R\r\nx-amz-id-2: I\r\nContent-Length: 2\r\n\r\nok'


@dataclass
class Request:
    """One request as it came over the wire."""

    head: bytes
    line: str
    fields: list[tuple[str, str]]
    peer: "Peer"
    body: bytes = b""
    whole: bool = True

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> bytes:
        """The request target, byte for byte."""
        return self.head.split(CRLF, 1)[0].split(b" ")[1]

    def names(self) -> list[str]:
        """Lower-case field names in order."""
        return [name.lower() for name, _ in self.fields]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)


@dataclass
class Peer:
    """The gate's connection, for a script to play with."""

    sock: socket.socket
    stream: Stream
    sent: int = 0
    served: int = 0
    closed_at: float | None = None

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.sent += len(data)

    def read_body(self, request: Request) -> None:
        """Reads the request's body into it."""
        coding = (request.get("transfer-encoding") or "").lower()
        if coding == "chunked":
            request.body, request.whole = self.stream.chunked()
        else:
            length = int(request.get("content-length") or 0)
            request.body = self.stream.exactly(length)
            request.whole = len(request.body) == length

    def finish(self) -> None:
        """Ends in good order: close_notify, then FIN, without waiting for the other side's, as storage servers do."""
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.settimeout(0)
            try:
                self.sock = self.sock.unwrap()
            except (OSError, ValueError):
                pass
        self.sock.close()

    def cut(self) -> None:
        """Ends with a FIN but no close_notify, as an attacker or a dying machine would."""
        self.sock.close()

    def reset(self) -> None:
        """Ends with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()


def answer(data: bytes = OK):
    """A script that reads the body and sends `data`."""

    def script(request: Request, peer: Peer) -> None:
        if request.get("expect"):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.read_body(request)
        peer.send(data)

    return script


class Upstream:
    """Serves connections with `script(request, peer)`, each in a thread; TLS unless `identity` is `None`."""

    def __init__(self, identity: Identity | None):
        self.context = None
        if identity:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(identity.certificate, identity.key)
        self.script = answer()
        self.requests: list[Request] = []
        self.peers: list[Peer] = []
        self.server_names: list[str | None] = []
        self.versions: list[str | None] = []
        if self.context:
            self.context.sni_callback = lambda _, name, __: self.server_names.append(name)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self._running = True
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Empties the records and goes back to answering 200."""
        self.script = answer()
        self.requests.clear()
        self.peers.clear()
        self.server_names.clear()

    def close(self) -> None:
        """Stops accepting; a connection attempt is then refused."""
        self._running = False
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for peer in list(self.peers):
            # Its thread may be reading and closes it: a number closed here could be another socket's by then.
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self) -> None:
        while self._running:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock = raw
            if self.context:
                sock = self.context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)
                self.versions.append(sock.version())
        except (OSError, ssl.SSLError):
            raw.close()
            return
        peer = Peer(sock, Stream(sock))
        self.peers.append(peer)
        try:
            while peer.sock.fileno() >= 0:
                head = peer.stream.until(CRLF + CRLF)
                line, fields = parse_head(head)
                request = Request(head, line, fields, peer)
                peer.served += 1
                self.requests.append(request)
                self.script(request, peer)
        except (Incomplete, OSError, ssl.SSLError, ValueError):
            pass
        finally:
            peer.closed_at = time.monotonic()
            peer.sock.close()
