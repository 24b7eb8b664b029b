"""A small client of a schema registry, by the REST calls that Confluent's, Apicurio's, Karapace's and Redpanda's share.

Blocking. Subject, version and id name what never changes, so answers are kept, at most ``KEPT_MAX``; so are the ids that
the registry does not know, and beyond ``UNKNOWN_MAX`` of these no other id is asked for: values choose the ids.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from tierlog.errors import UserError
from tierlog.replay.values.port import Undecodable

KEPT_MAX = 500
UNKNOWN_MAX = 1_000
ANSWER_BYTES_MAX = 4 << 20
REFERENCES_MAX = 100
TIMEOUT_S = 10.0
TRIES = 3
PAUSE_S = 0.3
# As urllib's own opener, but it follows nobody elsewhere, where the password is none of their business.
_HANDLERS = (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
)
ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"


class Reference(NamedTuple):
    """``name``: how the schema that refers to it calls it."""

    name: str
    subject: str
    version: int


class Schema(NamedTuple):
    id: int | str
    """A GUID where it was asked for by that."""
    kind: str
    """AVRO, PROTOBUF or JSON."""
    text: str
    references: tuple[Reference, ...]


class Registry:
    """``url``: may hold a user and a password. ``is_serialized``: schemas of Protobuf come as descriptors in base64."""

    def __init__(self, url: str, *, is_serialized: bool = False) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("the schema registry's URL: expected http://HOST:PORT or https://HOST")
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._query = "?format=serialized" if is_serialized else ""
        self._headers = {"Accept": ACCEPT}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        self._opener = urllib.request.OpenerDirector()
        for handler in _HANDLERS:
            self._opener.add_handler(handler())
        self._kept: OrderedDict[str, Schema] = OrderedDict()
        self._unknown: set[int | str] = set()

    def latest(self, subject: str) -> Schema:
        """Raises UserError."""
        found = self._get(f"/subjects/{quote(subject, safe='')}/versions/latest")
        if found is None:
            raise UserError(f"{self.url} has no subject {subject}: name the registry of this topic's values")
        return _schema_of(found, -1, self.url)

    def by_id(self, schema_id: int | str) -> Schema:
        """By its id or its GUID. Raises Undecodable if there is none, UserError if the registry does not answer."""
        path = f"/schemas/{'guids' if isinstance(schema_id, str) else 'ids'}/{schema_id}"
        kept = self._take(path)
        if kept is not None:
            return kept
        if schema_id not in self._unknown:
            if len(self._unknown) >= UNKNOWN_MAX:
                raise Undecodable(f"schema {schema_id} is not asked for: {UNKNOWN_MAX:,} others do not exist")
            found = self._get(path)
            if found is not None:
                return self._keep(path, _schema_of(found, schema_id, self.url))
            self._unknown.add(schema_id)
        raise Undecodable(f"{self.url} has no schema {schema_id}")

    def referred(self, schema: Schema) -> list[tuple[str, Schema]]:
        """What it refers to, by name, each behind all that it refers to itself. Raises UserError."""
        found: dict[str, Schema] = {}
        self._refer(schema, found, [])
        return list(found.items())

    def _refer(self, schema: Schema, found: dict[str, Schema], above: list[str]) -> None:
        for each in schema.references:
            if each.name in found:
                continue
            if each.name in above or len(found) + len(above) >= REFERENCES_MAX:
                raise UserError(
                    f"{self.url}: {each.name} refers to itself, or to more than {REFERENCES_MAX} others"
                )
            path = f"/subjects/{quote(each.subject, safe='')}/versions/{each.version}"
            referred = self._take(path)
            if referred is None:
                answer = self._get(path)
                if answer is None:
                    raise UserError(f"{self.url} has no version {each.version} of {each.subject}")
                referred = self._keep(path, _schema_of(answer, -1, self.url))
            self._refer(referred, found, [*above, each.name])
            found[each.name] = referred

    # ------------------------------------------------------------------------------------------------------

    def _take(self, path: str) -> Schema | None:
        if path in self._kept:
            self._kept.move_to_end(path)
        return self._kept.get(path)

    def _keep(self, path: str, schema: Schema) -> Schema:
        self._kept[path] = schema
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return schema

    def _get(self, path: str) -> Mapping[str, Any] | None:
        """None: there is none."""
        request = urllib.request.Request(self.url + path + self._query, headers=self._headers)
        for left in reversed(range(TRIES)):
            try:
                with self._opener.open(request, timeout=TIMEOUT_S) as reply:
                    return _object_of(reply.read(ANSWER_BYTES_MAX + 1), self.url)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                told = _told(error.code)
                if error.code < 500 and error.code != 429:
                    break
            except (OSError, HTTPException) as error:
                reason = getattr(error, "reason", error)
                told = str(reason) or type(reason).__name__
            if left:
                time.sleep(PAUSE_S)
        raise UserError(f"the schema registry {self.url}: {told}; try again once it answers")


def _told(code: int) -> str:
    if code in (401, 403):
        return f"access refused ({code}): give http://USER:PASSWORD@HOST"
    return f"sends elsewhere ({code}): name that place" if 300 <= code < 400 else f"answers {code}"


def _object_of(data: bytes, url: str) -> Mapping[str, Any]:
    try:
        found = json.loads(data) if len(data) <= ANSWER_BYTES_MAX else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{url} answers what no schema registry does: check --registry")
    return found


def _schema_of(found: Mapping[str, Any], schema_id: int | str, url: str) -> Schema:
    """``schema_id`` counts where the answer has none, and a GUID always."""
    try:
        references = tuple(
            Reference(str(each["name"]), str(each["subject"]), int(each["version"]))
            for each in found.get("references") or ()
        )
        kind = str(found.get("schemaType") or "AVRO")  # Older registries have Avro only, and do not say so.
        number = schema_id if isinstance(schema_id, str) else int(found.get("id", schema_id))
        return Schema(number, kind, str(found["schema"]), references)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{url} answers what no schema registry does: check --registry") from None
