"""Plain requests to a server of Google's API, without any client of Google's or ours; and a key file for one."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.gcs.serving import BUCKET, GcsServer

OBJECTS = f"/storage/v1/b/{BUCKET}/o"
UPLOAD = f"/upload{OBJECTS}"
TOKEN = "an-accepted-token"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def row(self) -> dict[str, Any]:
        """The JSON of it; of a rewrite the object that it made."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        if not isinstance(found, dict):
            return {}
        resource: dict[str, Any] = found.get("resource", found)
        return resource


def ask(
    server: GcsServer,
    method: str,
    path: str,
    query: dict[str, Any] | None = None,
    body: bytes | dict[str, Any] = b"",
    **headers: str,
) -> Answer:
    """Headers with ``_`` for ``-``; a dict is sent as JSON."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict):
        body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path + (f"?{urlencode(query)}" if query else ""), body, sent)
        reply = connection.getresponse()
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def multipart(row: dict[str, Any], data: bytes) -> tuple[bytes, str]:
    """The body of a multipart upload and its type."""
    head = b"--X\r\nContent-Type: application/json\r\n\r\n" + json.dumps(row).encode()
    body = head + b"\r\n--X\r\nContent-Type: text/plain\r\n\r\n" + data + b"\r\n--X--"
    return body, "multipart/related; boundary=X"


def key_file(directory: Path, server: GcsServer) -> Path:
    """A service account's key file, whose tokens this server gives."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    row = {
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "1",
        "private_key": text,
        "client_email": "tierlog@test-project.iam.gserviceaccount.com",
        "token_uri": f"{server.endpoint}/token",
    }
    path = directory / "key.json"
    path.write_text(json.dumps(row))
    return path
