"""A stand-in for the ShotGrid *site* only: it hands out storage links, as the real one does, and stores nothing.

It answers what shotgun_api3 asks of `/api3/json`, `/upload/…` and `/file_serve/…`. Storage links are signed for the
bucket's own name with temporary credentials; then scheme and authority are swapped for the gate's.
"""

import json
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from links import Links
from seaweed import BUCKET, SeaweedFS


class Site:
    """Listens on a free port; `url` is what `shotgun_api3.Shotgun` is given."""

    def __init__(self, seaweed: SeaweedFS, links: Links, gate_authority: str):
        self.seaweed, self.links, self.gate_authority = seaweed, links, gate_authority
        self.attachments: dict[int, str] = {}
        self.uploads: dict[str, str] = {}
        self.completed: list[str] = []
        self.parts_asked: list[int] = []
        site = self

        class Handler(_Handler):
            of = site

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def link(self, method: str, key: str, **query: str) -> str:
        """A storage link at the gate."""
        return self.links.shotgrid(method, key, **query).at(self.gate_authority)

    def api_get_upload_link_info(self, form: dict[str, str]) -> str:
        """Step 1 of an upload: where to put the file, or the upload id of its parts."""
        key = f"shotgun/{uuid.uuid4().hex}/{uuid.uuid4().hex}/{form['filename']}"
        upload_id = ""
        if form["multipart_upload"] == "True":
            upload_id = self.seaweed.admin.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        timestamp = uuid.uuid4().hex
        self.uploads[timestamp] = key
        url = self.link("PUT", key)
        return f"1\n{url}\n{timestamp}\n{form['upload_type']}\n{upload_id}\n"

    def api_get_upload_link_for_part(self, form: dict[str, str]) -> str:
        """A link for one part."""
        self.parts_asked.append(int(form["part_number"]))
        key = self.uploads[form["timestamp"]]
        return "1\n" + self.link("PUT", key, partNumber=form["part_number"], uploadId=form["upload_id"]) + "\n"

    def api_complete_multipart_upload(self, form: dict[str, str]) -> str:
        """The site itself completes, with the ETags the client saw."""
        key = self.uploads[form["timestamp"]]
        etags = enumerate(form["etags"].split(","), 1)
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in etags]
        self.seaweed.admin.complete_multipart_upload(
            Bucket=BUCKET, Key=key, UploadId=form["upload_id"], MultipartUpload={"Parts": parts}
        )
        self.completed.append(key)
        return "1\n"

    def api_link_file(self, form: dict[str, str]) -> str:
        """The last step: an attachment."""
        number = 1000 + len(self.attachments)
        self.attachments[number] = self.uploads[form["upload_link_info"].split("\n")[2]]
        return f"1:{number}\n"

    def call(self, name: str) -> dict:
        """The JSON API."""
        if name == "info":
            return {
                "version": [8, 60, 0],
                "s3_uploads_enabled": True,
                "s3_direct_uploads_enabled": True,
                "s3_enabled_upload_types": {"Version": "*"},
            }
        if name == "get_session_token":
            return {"results": {"session_id": "0123456789abcdef0123456789abcdef"}}
        raise KeyError(name)


class _Handler(BaseHTTPRequestHandler):
    of: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/api3/json":
            self._answer(json.dumps(self.of.call(json.loads(text)["method_name"])), "application/json")
            return
        form = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
        self._answer(getattr(self.of, self.path.removeprefix("/upload/"))(form), "text/plain")

    def do_GET(self) -> None:
        key = self.of.attachments[int(self.path.removeprefix("/file_serve/attachment/"))]
        self.send_response(302)
        self.send_header("Location", self.of.link("GET", key))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, text: str, kind: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
