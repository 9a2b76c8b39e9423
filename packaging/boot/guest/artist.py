"""The other side of the gate: somebody who follows presigned links through it."""

import hashlib
import http.client
import os
import ssl
import threading

import studio

PIECE = 64 << 10
# A transfer in no hurry takes a piece this often: minutes for a whole body.
PAUSE_SECONDS = 0.2
BODY_BYTES = 24 << 20
QUIET_SECONDS = 120


def connection(host: str = studio.HOST) -> http.client.HTTPSConnection:
    """A new one, whose certificate is verified."""
    context = ssl.create_default_context(cafile=studio.PKI / "ca.pem")
    return http.client.HTTPSConnection(host, timeout=QUIET_SECONDS, context=context)


def fetch(method: str, target: str, body: bytes | None = None, host: str = studio.HOST) -> tuple[int, bytes]:
    """Status and body of one exchange."""
    link = connection(host)
    try:
        link.request(method, target, body)
        response = link.getresponse()
        return response.status, response.read()
    finally:
        link.close()


def certificate_served() -> bytes:
    """The gate's, as a new client is shown it."""
    link = connection()
    try:
        link.connect()
        return link.sock.getpeercert(binary_form=True)
    finally:
        link.close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Transfer(threading.Thread):
    """A slow one, until it is told to hurry."""

    def __init__(self, bucket, key: str):
        super().__init__(daemon=True)
        self.bucket, self.key = bucket, key
        self.data = os.urandom(BODY_BYTES)
        self.moved = 0
        self.failure: Exception | None = None
        self._hurry = threading.Event()

    def run(self):
        try:
            self.move()
        except Exception as failure:
            self.failure = failure

    def move(self):
        raise NotImplementedError

    def rest(self) -> None:
        self._hurry.wait(PAUSE_SECONDS)

    def finish(self, seconds: float) -> None:
        """Hurries, and raises what went wrong."""
        self._hurry.set()
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"{self} is stuck at {self.moved} of {BODY_BYTES} bytes")
        if self.failure:
            raise AssertionError(f"{self} was cut at {self.moved} of {BODY_BYTES} bytes: {self.failure!r}")

    def __str__(self):
        return f"the {type(self).__name__.lower()}"


class Download(Transfer):
    """Gets an object and compares it."""

    def move(self):
        self.bucket.objects[f"/{self.key}"] = self.data
        link, got = connection(), hashlib.sha256()
        link.request("GET", studio.link("GET", self.key))
        response = link.getresponse()
        while piece := response.read(PIECE):
            got.update(piece)
            self.moved += len(piece)
            self.rest()
        link.close()
        assert response.status == 200, f"status {response.status}"
        assert got.hexdigest() == digest(self.data), "other bytes arrived"


class Upload(Transfer):
    """Puts an object and compares what is in the bucket then."""

    def move(self):
        link = connection()
        link.putrequest("PUT", studio.link("PUT", self.key))
        link.putheader("Content-Length", str(BODY_BYTES))
        link.endheaders()
        for start in range(0, BODY_BYTES, PIECE):
            link.send(self.data[start : start + PIECE])
            self.moved += PIECE
            self.rest()
        response = link.getresponse()
        response.read()
        link.close()
        assert response.status == 200, f"status {response.status}"
        assert self.bucket.objects.get(f"/{self.key}") == self.data, "other bytes arrived"
