"""Resumable uploads: sessions that take an object in chunks. Pure.

A chunk that is not the last counts up to a multiple of 256 KiB. Conditions are looked at when a session begins, and again
when its last byte has come: only then is there an object. A session that is cancelled or has failed is gone.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace

from tests.servers.gcs.bucket import Bucket, Generation, Wish, check_class, check_name
from tests.servers.gcs.conditions import Conditions
from tests.servers.gcs.refusals import Refused, invalid

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Session:
    """``size_bytes``: as announced, None where it was not. ``made``: the object, once the last byte has come."""

    bucket: Bucket
    name: str
    wish: Wish
    conditions: Conditions
    size_bytes: int | None
    data: bytearray = field(default_factory=bytearray)
    made: Generation | None = None


class Uploads:
    """The sessions that are open, and those that are over for as long as the server lives."""

    def __init__(self) -> None:
        self.open: dict[str, Session] = {}
        self.cancelled: set[str] = set()

    def begin(
        self, bucket: Bucket, name: str, wish: Wish, conditions: Conditions, size_bytes: int | None
    ) -> str:
        """The upload's id."""
        check_name(name)
        check_class(wish.storage_class)
        conditions.check(bucket.live.get(name), is_read=False)
        upload_id = secrets.token_urlsafe(24)
        self.open[upload_id] = Session(bucket, name, wish, conditions, size_bytes)
        return upload_id

    def find(self, upload_id: str) -> Session:
        if upload_id in self.cancelled:
            raise Refused(499, "cancelled", "ClientClosedRequest", "The upload was cancelled.")
        if upload_id not in self.open:
            raise Refused(404, "notFound", "NoSuchUpload", "There is no such upload session.")
        return self.open[upload_id]

    def cancel(self, upload_id: str) -> None:
        self.find(upload_id)
        del self.open[upload_id]
        self.cancelled.add(upload_id)

    def take(
        self, upload_id: str, content_range: str, body: bytes, wish: Wish, now_ms: int
    ) -> tuple[Session, Generation | None]:
        """A chunk, or a question for the state. ``wish`` holds the checksums that came with this request."""
        session = self.find(upload_id)
        if session.made is not None:
            return session, session.made
        if _append(session, content_range, body):
            checked = replace(
                session.wish,
                crc32c=wish.crc32c or session.wish.crc32c,
                md5=wish.md5 or session.wish.md5,
            )
            try:
                session.made = session.bucket.put(
                    session.name, bytes(session.data), checked, session.conditions, now_ms
                )
            except Refused:
                self.cancel(upload_id)
                raise
            session.data = bytearray()
        return session, session.made


def _append(session: Session, content_range: str, body: bytes) -> bool:
    """Whether all bytes are there now."""
    if not content_range:
        content_range = f"bytes 0-{len(body) - 1}/{len(body)}" if body else "bytes */0"
    match = _RANGE.fullmatch(content_range)
    if match is None:
        raise invalid(f"Failed to parse Content-Range header: {content_range}")
    total = None if match[3] == "*" else int(match[3])
    if total is not None and session.size_bytes not in (None, total):
        raise invalid(f"The upload was announced with {session.size_bytes} bytes, not with {total}.")
    have = len(session.data)
    if match[1] is None:
        return total is not None and total == have and not body
    start, end = int(match[1]), int(match[2]) + 1
    if end - start != len(body) or (total is not None and end > total):
        raise invalid("Invalid request. The Content-Range header does not match the size of the body.")
    if start > have:
        words = (
            f"Invalid request. According to the Content-Range header, the upload offset is {start} byte(s), which "
            f"exceeds already uploaded size of {have} byte(s)."
        )
        raise Refused(503, "backendError", "ServiceUnavailable", words)
    session.data += body[have - start :]
    if total == len(session.data):
        return True
    del session.data[len(session.data) // CHUNK_BYTES * CHUNK_BYTES :]
    return False
