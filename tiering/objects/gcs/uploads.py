"""One object in parts: a resumable upload of Google's JSON API, part after part. Blocking; driven from the store's threads.

The address of a session stands for a token, so these requests carry none. A part whose outcome is unknown is asked for and
its rest sent again; nothing is visible before the last part, whose ``x-goog-hash`` the server compares with what it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import requests
from crc32c import crc32c

from tiering.errors import ObjectStoreError, Unavailable
from tiering.ledger.rows import Operation
from tiering.metering.meter import is_unsent
from tiering.objects.gcs.answers import of_google, of_response
from tiering.objects.gcs.checksums import base64_of
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.errors import classified
from tiering.objects.port import Buffer
from tiering.objects.streams import ReadFailed, Span

_INCOMPLETE = 308
_FORGOTTEN = 499
_RANGE = re.compile(r"bytes=0-(\d+)")


class Upload:
    """``sent_bytes``: how many the server has confirmed. ``made``: the object's resource once the last byte is in.
    ``note``: told of each request."""

    def __init__(
        self,
        config: GcsConfig,
        http: requests.Session,
        note: Callable[[Operation, int, bool], None],
        url: str,
        key: str,
        size_bytes: int,
    ) -> None:
        self._config = config
        self._note = note
        self._http = http
        self._url = url
        self._key = key
        self._size_bytes = size_bytes
        self._part: Span | Buffer = b""
        self._start = 0
        self._crc = 0
        self.sent_bytes = 0
        self.made: dict[str, Any] | None = None

    def send(self, part: Span | Buffer, crc: int | None = None) -> None:
        """The next part, or the same one again: what the server lacks of it. ``crc``: of the whole object, where the caller
        knows it, as it must of a span. Raises an error of the port; a retriable one may be tried again after ``ask``."""
        if part is not self._part:
            self._part, self._start = part, self.sent_bytes
            if crc is None:
                assert not isinstance(part, Span)
                self._crc = crc32c(part, self._crc)
        if self.sent_bytes < self._start:
            raise Unavailable("the server has lost bytes that it had confirmed", key=self._key)
        known_bytes = self.sent_bytes - self._start
        left = part.behind(known_bytes) if isinstance(part, Span) else memoryview(part)[known_bytes:]
        end = self.sent_bytes + len(left)
        headers = {"Content-Range": f"bytes {self.sent_bytes}-{end - 1}/{self._size_bytes}"}
        if end == self._size_bytes:
            headers["x-goog-hash"] = f"crc32c={base64_of(self._crc if crc is None else crc)}"
        self._put(left, headers)
        if self.made is None and self.sent_bytes != end:
            raise Unavailable(f"the server took {self.sent_bytes} of {end} bytes", key=self._key)

    def ask(self) -> None:
        """How far the server has come; after a part whose outcome is unknown."""
        self._put(b"", {"Content-Range": f"bytes */{self._size_bytes}"})

    def cancel(self) -> None:
        """Forgets the session, as far as the server can be reached."""
        try:
            answer = self._http.delete(self._url, timeout=self._config.timeout_s)
        except requests.RequestException as error:
            self._note_broken(Operation.ABORT_UPLOAD, 0, error)
            return  # Google forgets it after a week.
        # It says of a session that it has forgotten that its client has closed the request.
        self._note(Operation.ABORT_UPLOAD, 0, answer.status_code not in (204, _FORGOTTEN))

    def _put(self, body: Span | Buffer, headers: dict[str, str]) -> None:
        try:
            answer = self._http.put(
                self._url,
                data=body,  # type: ignore[arg-type]  # whatever has a length and yields buffers will do
                headers=headers,
                timeout=self._config.upload_timeout_s,
            )
        except ReadFailed:
            self._note(Operation.PART, len(body), True)
            raise
        except (requests.RequestException, OSError) as error:
            self._note_broken(Operation.PART, len(body), error)
            raise self._error(error) from None
        self._note(Operation.PART, len(body), answer.status_code not in (200, 201, _INCOMPLETE))
        if answer.status_code == _INCOMPLETE:
            found = _RANGE.fullmatch(answer.headers.get("Range", ""))
            self.sent_bytes = int(found[1]) + 1 if found is not None else 0
            return
        if answer.status_code not in (200, 201):
            raise classified(of_response(answer.status_code, answer.text), self._key, self._config)
        try:
            self.made = answer.json()
        except ValueError as error:
            raise self._error(error) from None
        self.sent_bytes = self._size_bytes

    def _note_broken(self, operation: Operation, sent_bytes: int, error: Exception) -> None:
        if not is_unsent(error):
            self._note(operation, sent_bytes, True)

    def _error(self, error: Exception) -> ObjectStoreError:
        return classified(of_google(error), self._key, self._config)
