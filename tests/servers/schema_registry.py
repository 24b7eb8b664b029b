"""A schema registry in this process, with the answers that Confluent documents for the calls of readers and serializers.

Protobuf is registered as a ``FileDescriptorProto``, and told as base64 when ``format=serialized`` is asked for.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

NOT_FOUND = {"subject": (40401, "Subject not found."), "schema": (40403, "Schema not found")}


class Registered(NamedTuple):
    id: int
    subject: str
    version: int
    kind: str
    text: str
    serialized: str
    references: list[dict[str, Any]]


class SchemaRegistry:
    """``asked``: the paths, in order. ``failures``: so many requests are answered 503 first."""

    def __init__(self) -> None:
        self.schemas: list[Registered] = []
        self.asked: list[str] = []
        self.failures = 0
        self.user = ""
        """``name:password`` that is wanted; empty: anybody."""
        self.moved_to = ""
        self.url = ""

    def register(
        self,
        subject: str,
        schema: Any,
        kind: str = "AVRO",
        references: Sequence[tuple[str, str, int]] = (),
    ) -> int:
        """``schema``: of Avro as JSON has it, of Protobuf the descriptor's bytes. Returns the id."""
        version = 1 + sum(each.subject == subject for each in self.schemas)
        is_bytes = isinstance(schema, bytes)
        text = "syntax = ..." if is_bytes else schema if isinstance(schema, str) else json.dumps(schema)
        serialized = base64.b64encode(schema).decode() if is_bytes else text
        named = [dict(zip(("name", "subject", "version"), each, strict=True)) for each in references]
        number = len(self.schemas) + 1
        self.schemas.append(Registered(number, subject, version, kind, text, serialized, named))
        return number

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(target)
        is_serialized = parse_qs(parts.query).get("format") == ["serialized"]
        match [unquote(each) for each in parts.path.strip("/").split("/")]:
            case ["schemas", "ids", number]:
                chosen = [each for each in self.schemas if str(each.id) == number]
                return self._told(chosen, "schema", is_serialized, with_subject=False)
            case ["schemas", "guids", guid]:
                chosen = [each for each in self.schemas if guid_of(each.id) == guid]
                return self._told(chosen, "schema", is_serialized, with_subject=False)
            case ["subjects", subject, "versions", version]:
                of_subject = [each for each in self.schemas if each.subject == subject]
                chosen = [each for each in of_subject if version in ("latest", str(each.version))]
                return self._told(chosen, "subject", is_serialized, with_subject=True)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def taken(self, target: str, told: Any) -> tuple[int, dict[str, Any]]:
        """A schema that a serializer registers, or asks the id of; the same one again keeps its id."""
        subject = unquote(urlsplit(target).path.split("/")[2])
        kind, text = told.get("schemaType", "AVRO"), told["schema"]
        named = told.get("references") or []
        for each in self.schemas:
            if (each.subject, each.serialized, each.references) == (subject, text, named):
                break
        else:
            given = base64.b64decode(text) if kind == "PROTOBUF" else text
            number = self.register(subject, given, kind, [tuple(each.values()) for each in named])
            each = self.schemas[number - 1]
        whole = {"schema": text, "schemaType": kind, "references": named}
        return 200, whole | {
            "id": each.id,
            "guid": guid_of(each.id),
            "subject": subject,
            "version": each.version,
        }

    @staticmethod
    def _told(
        chosen: list[Registered], what: str, is_serialized: bool, *, with_subject: bool
    ) -> tuple[int, dict[str, Any]]:
        if not chosen:
            code, message = NOT_FOUND[what]
            return 404, {"error_code": code, "message": message}
        found = chosen[-1]
        told: dict[str, Any] = {"schema": found.serialized if is_serialized else found.text}
        if found.kind != "AVRO":
            told["schemaType"] = found.kind
        if found.references:
            told["references"] = found.references
        if with_subject:
            told |= {"subject": found.subject, "version": found.version, "id": found.id}
        return 200, told


def guid_of(schema_id: int) -> str:
    return str(UUID(int=schema_id + (1 << 100)))


@contextmanager
def schema_registry() -> Iterator[SchemaRegistry]:
    registry = SchemaRegistry()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.do_GET(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self, sent: Any = None) -> None:
            registry.asked.append(self.path)
            wanted = f"Basic {base64.b64encode(registry.user.encode()).decode()}"
            if registry.failures:
                registry.failures -= 1
                code, told = 503, {"error_code": 50003, "message": "Error while forwarding the request"}
            elif registry.user and self.headers["Authorization"] != wanted:
                code, told = 401, {"error_code": 401, "message": "Unauthorized"}
            else:
                code, told = registry.answer(self.path) if sent is None else registry.taken(self.path, sent)
            data = json.dumps(told).encode()
            self.send_response(302 if registry.moved_to else code)
            if registry.moved_to:
                self.send_header("Location", registry.moved_to)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
