"""A front before an S3 server that errs on command: it judges by a policy, compares checksums, drops headers, tells lies.

What it does not answer itself goes to the server behind it as it is, and so does the answer. As AWS, it answers 403 for an
object that is missing where the bucket may not be listed.
"""

from __future__ import annotations

import base64
import fnmatch
import http.client
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from crc32c import crc32c

_OF_BUCKET = {
    "versioning": "s3:GetBucketVersioning",
    "lifecycle": "s3:GetLifecycleConfiguration",
    "object-lock": "s3:GetBucketObjectLockConfiguration",
    "uploads": "s3:ListBucketMultipartUploads",
}


class Asked(NamedTuple):
    """``key``: empty for a request to the bucket."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Told(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def refusal(status: int, code: str, more: str = "") -> Told:
    return Told(
        status, f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>m</Message>{more}</Error>'.encode()
    )


@dataclass
class Rules:
    """``policy``: statements of IAM, None allows all. ``drops``: header names that do not reach the server. ``lies``: asked
    first; what it answers is the answer."""

    policy: list[dict[str, Any]] | None = None
    drops: set[str] = field(default_factory=set)
    compares_checksums: bool = True
    lies: Callable[[Asked], Told | None] = lambda asked: None


def action_of(asked: Asked) -> str:
    """What a policy calls the request."""
    if not asked.key:
        found = next((name for part, name in _OF_BUCKET.items() if part in asked.query), None)
        return found or "s3:ListBucket"
    if asked.method in ("GET", "HEAD"):
        return "s3:GetObject"
    if asked.method == "DELETE":
        return "s3:AbortMultipartUpload" if "uploadId" in asked.query else "s3:DeleteObject"
    return "s3:PutObject"


class Front(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.rules = Rules()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are nothing to tell."""

    def answer(self, asked: Asked, path: str) -> Told:
        lie = self.rules.lies(asked)
        if lie is not None:
            return lie
        if asked.method == "POST" and "delete" in asked.query:
            return self._deletes(asked, path)
        if not self.allows(action_of(asked), asked.bucket, asked.key):
            return refusal(403, "AccessDenied")
        if self.rules.compares_checksums and not _is_as_said(asked):
            return refusal(400, "BadDigest")
        told = self._passed_on(asked, path)
        is_missing = told.status == 404 and asked.key and asked.method in ("GET", "HEAD")
        if is_missing and not self.allows("s3:ListBucket", asked.bucket, ""):
            return refusal(403, "AccessDenied")
        return told

    def allows(self, action: str, bucket: str, key: str) -> bool:
        resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
        return self.rules.policy is None or any(
            fnmatch.fnmatch(action, name) and fnmatch.fnmatch(resource, each["Resource"])
            for each in self.rules.policy
            for name in each["Action"]
        )

    def _deletes(self, asked: Asked, path: str) -> Told:
        keys = re.findall(r"<Key>(.*?)</Key>", asked.body.decode())
        if all(self.allows("s3:DeleteObject", asked.bucket, key) for key in keys):
            return self._passed_on(asked, path)
        rows = "".join(
            f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>m</Message></Error>" for key in keys
        )
        return Told(200, f"<?xml version='1.0'?><DeleteResult>{rows}</DeleteResult>".encode())

    def _passed_on(self, asked: Asked, path: str) -> Told:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            kept = {name: value for name, value in asked.headers.items() if name not in self.rules.drops}
            connection.request(asked.method, path, asked.body, kept)
            reply = connection.getresponse()
            body = reply.read()
            return Told(reply.status, body, tuple(reply.getheaders()))
        finally:
            connection.close()


def _is_as_said(asked: Asked) -> bool:
    said = asked.headers.get("x-amz-checksum-crc32c") or asked.headers.get("x-amz-checksum-crc32")
    if said is None:
        return True
    of = crc32c if "x-amz-checksum-crc32c" in asked.headers else zlib.crc32
    return base64.b64decode(said) == of(asked.body).to_bytes(4, "big")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        _, bucket, key = (*unquote(parts.path).split("/", 2), "")[:3]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        told = self.server.answer(Asked(self.command, bucket, key, query, headers, body), self.path)
        self.send_response_only(told.status)
        given = {name.lower() for name, _ in told.headers}
        for name, value in told.headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection") or (
                self.command == "HEAD" and name.lower() == "content-length"
            ):
                self.send_header(name, value)
        if "date" not in given:
            self.send_header("Date", self.date_time_string())
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(told.body)))
        elif "content-length" not in given:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told.body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def front(upstream: str) -> Iterator[Front]:
    server = Front(upstream)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
