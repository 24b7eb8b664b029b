"""One request, taken apart once: its path still encoded, since a name may hold slashes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request

from tests.servers.gcs.refusals import invalid, no_range


@dataclass(frozen=True)
class Asked:
    """``path``: the decoded segments. ``lists``: what is given several times in the query. ``base_url``: how the client
    calls this server."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    lists: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    base_url: str

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    def byte_range(self, size_bytes: int) -> tuple[int, int] | None:
        """[start, end) of a ``Range`` header, None without one; 416 beyond the object."""
        text = self.headers.get("range", "")
        if not text.startswith("bytes="):
            return None
        first, _, last = text.removeprefix("bytes=").partition("-")
        if not (first or last).isdigit() or (last and not last.isdigit()):
            raise invalid(f"Invalid Range header: {text}")
        if not first:
            start, end = max(0, size_bytes - int(last)), size_bytes
        else:
            start, end = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
        if start >= end:
            raise no_range()
        return start, end


async def asked(request: Request) -> Asked:
    raw = request.scope["raw_path"].decode("ascii").partition("?")[0]
    pairs = parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True)
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return Asked(
        method=request.method,
        path=tuple(unquote(segment) for segment in raw.strip("/").split("/")),
        query=dict(pairs),
        lists=lists,
        headers={name.decode().lower(): value.decode() for name, value in request.headers.raw},
        body=await request.body(),
        base_url=str(request.base_url).rstrip("/"),
    )


@dataclass(frozen=True)
class Answered:
    """What goes back."""

    status: int
    body: bytes = b""
    headers: dict[str, str] | None = None
    content_type: str = "application/json; charset=UTF-8"


def json_answer(asked: Asked, row: dict[str, Any], status: int = 200) -> Answered:
    return Answered(status, json.dumps(only(row, asked.query.get("fields", ""))).encode())


def only(row: Any, fields: str) -> Any:
    """The partial answer that ``fields`` asks for, as ``items(name,size),nextPageToken``."""
    if not fields or fields == "*" or not isinstance(row, dict):
        return row
    answer: dict[str, Any] = {}
    for name, inner in _split(fields):
        if name not in row:
            continue
        value = row[name]
        answer[name] = (
            [only(each, inner) for each in value] if isinstance(value, list) else only(value, inner)
        )
    return answer


def _split(fields: str) -> list[tuple[str, str]]:
    found, depth, start = [], 0, 0
    for at, character in enumerate(fields + ","):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            name, _, inner = fields[start:at].partition("(")
            outer, _, below = name.strip().partition("/")
            found.append((outer, inner[:-1] if inner else below))
            start = at + 1
    return found
