"""What was asked, as Google bills it: class A (writes and lists), class B (reads), or free (deletes, parts of an upload)."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

ROWS_MAX = 100_000
_CLASS_A = {
    "storage.objects.insert",
    "storage.objects.list",
    "storage.objects.rewrite",
    "storage.objects.patch",
    "storage.objects.restore",
    "storage.buckets.insert",
    "storage.buckets.list",
    "storage.buckets.patch",
}
_CLASS_B = {"storage.objects.get", "storage.buckets.get", "storage.buckets.testIamPermissions"}


@dataclass(frozen=True, slots=True)
class Row:
    """``kind`` is the JSON API's method, also for XML; ``api`` is ``json`` or ``xml``. Bytes are those of the bodies."""

    kind: str
    api: str
    status: int
    bucket: str
    name: str
    received_bytes: int
    sent_bytes: int
    upload: str = ""
    """Of what kind, where it is one."""

    @property
    def billed(self) -> str:
        """A, B or free; what failed costs nothing."""
        if self.status >= 400 and self.status != 404:
            return "free"
        return "A" if self.kind in _CLASS_A else "B" if self.kind in _CLASS_B else "free"


class RequestsLog:
    """The last 100,000 requests, and counts of all."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque(maxlen=ROWS_MAX)
        self.billed: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.billed[row.billed] += 1
        self.kinds[row.kind] += 1
