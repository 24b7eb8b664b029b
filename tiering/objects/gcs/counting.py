"""Counts the requests of google-cloud-storage where they leave: in the adapter of its session, attempt by attempt.

What is asked shows in the method and the path of Google's JSON API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter

from tiering.ledger.rows import Operation
from tiering.metering.meter import is_unsent

Note: TypeAlias = Callable[[Operation, int, bool], object]
"""(what was asked, bytes of the body that carried an object, whether it failed)."""


class CountingAdapter(HTTPAdapter):
    """Of one bucket's session; tells ``note`` on the thread of the request."""

    def __init__(self, bucket: str, note: Note) -> None:
        super().__init__()
        self._bucket = bucket
        self._note = note

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        operation = operation_of(request.method or "", request.url or "", self._bucket)
        body = request.body if operation is Operation.PUT else None
        sent_bytes = len(body) if isinstance(body, (bytes, str)) else 0
        try:
            answer = super().send(request, *args, **kwargs)
        except Exception as error:
            if operation is not None and not is_unsent(error):
                self._note(operation, sent_bytes, True)
            raise
        if operation is not None:
            self._note(operation, sent_bytes, answer.status_code >= 300)
        return answer


def operation_of(method: str, url: str, bucket: str) -> Operation | None:
    """None for a request that does not name the bucket."""
    parts = urlsplit(url)
    _, _, below = parts.path.partition("/b/")
    names = below.split("/")  # bucket, "o", key, and for a rewrite the same of its target
    if unquote(names[0]) != bucket:
        return None
    if names[1:2] != ["o"]:
        return Operation.DESCRIBE
    if method == "POST" and "rewriteTo" in names:
        return Operation.COPY
    if method == "POST":
        is_resumable = parse_qs(parts.query).get("uploadType") == ["resumable"]
        return Operation.CREATE_UPLOAD if is_resumable else Operation.PUT
    if len(names) < 3:
        return Operation.LIST
    return Operation.DELETE if method == "DELETE" else Operation.HEAD
