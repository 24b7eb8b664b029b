"""An Iceberg REST catalog in this process, as far as a table needs it, over a catalog on SQLite.

``lose_next``: the next commit's answer never comes; it was made before ("after"), or is not made ("before").
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pyiceberg.catalog.rest import CommitTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.schema import Schema
from pyiceberg.table import Table


class RestCatalog:
    """A context."""

    def __init__(self, root: Path) -> None:
        place = {"uri": f"sqlite:///{root}/rest.db", "warehouse": f"file://{root}/warehouse"}
        self.catalog = SqlCatalog("rest", **place)
        self.lose_next = ""
        self.commits = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *of: _Handler(self, *of))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> RestCatalog:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.catalog.close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, served: RestCatalog, *of: Any) -> None:
        self._served = served
        super().__init__(*of)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answered("HEAD")

    def do_GET(self) -> None:
        self._answered("GET")

    def do_POST(self) -> None:
        self._answered("POST")

    def _answered(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.partition("?")[0].strip("/").split("/")[1:]
        try:
            answer = self._answer(method, parts, body)
        except NoSuchTableError as error:
            self._send(404, {"error": {"message": str(error), "type": "NoSuchTableException", "code": 404}})
        except CommitFailedException as error:
            self._send(409, {"error": {"message": str(error), "type": "CommitFailedException", "code": 409}})
        else:
            if answer is None:
                self.close_connection = True
            else:
                self._send(200, answer)

    def _answer(self, method: str, parts: list[str], body: bytes) -> dict[str, Any] | None:
        catalog = self._served.catalog
        match method, parts:
            case _, ["config"]:
                return {"defaults": {}, "overrides": {}}
            case "POST", ["namespaces"]:
                catalog.create_namespace_if_not_exists(tuple(json.loads(body)["namespace"]))
                return json.loads(body) | {"properties": {}}
            case _, ["namespaces", name]:
                return {"namespace": [name], "properties": {}}
            case "POST", ["namespaces", name, "tables"]:
                told = json.loads(body)
                schema = Schema.model_validate(told["schema"])
                return _loaded(
                    catalog.create_table((name, told["name"]), schema, properties=told["properties"])
                )
            case "POST", ["namespaces", name, "tables", table]:
                return self._commit((name, table), body)
            case _, ["namespaces", name, "tables", table]:
                return _loaded(catalog.load_table((name, table)))
        raise AssertionError((method, parts))

    def _commit(self, name: tuple[str, str], body: bytes) -> dict[str, Any] | None:
        lost, self._served.lose_next = self._served.lose_next, ""
        if lost == "before":
            return None
        asked = CommitTableRequest.model_validate_json(body)
        table = self._served.catalog.load_table(name)
        made = self._served.catalog.commit_table(table, asked.requirements, asked.updates)
        self._served.commits += 1
        if lost == "after":
            return None
        return {
            "metadata-location": made.metadata_location,
            "metadata": json.loads(made.metadata.model_dump_json()),
        }

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _loaded(table: Table) -> dict[str, Any]:
    return {
        "metadata-location": table.metadata_location,
        "metadata": json.loads(table.metadata.model_dump_json()),
        "config": {},
    }
