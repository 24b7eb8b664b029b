"""Objects that left their storage class before its minimum days: the provider bills the rest of them.

The ledger holds no ages of objects. They are told from its counts, hour by hour: what a class took in (objects that were
written or moved into it) less what it gained is what left it, and the oldest leave first, as retention has it. Objects
that were there before the first row have an unknown age; they count as unknown unless they were there for the minimum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from tiering.cost.prices import Book
from tiering.ledger.rows import HOUR_MS, Cause, Kind, LedgerRow, Operation

_ENTERS = {
    (Cause.COPY, Operation.PUT),
    (Cause.COPY, Operation.COMPLETE_UPLOAD),
    (Cause.CLASS_MOVE, Operation.COPY),
}


class EarlyDeletion(NamedTuple):
    """``byte_hours``: what is billed for the time that was not stayed."""

    hour_ms: int
    topic: str
    partition: int
    storage_class: str
    byte_hours: Decimal


@dataclass(slots=True)
class _Held:
    """One partition's objects in one class, as the hours go by. Small, for there are many."""

    objects: int = 0
    known: list[int] = field(default_factory=list)
    """Hour of arrival and objects, in turn, oldest first."""
    unknown: int = 0
    """Objects that were there before the first row."""
    has_begun: bool = False
    mean_of: tuple[int, int] = (0, 1)
    """Bytes of so many objects, when there were any."""
    entered: int = 0
    """In this hour."""
    now: tuple[int, int] | None = None
    """Objects and their bytes at this hour's end."""

    @property
    def mean_bytes(self) -> Decimal:
        held_bytes, objects = self.mean_of
        return Decimal(held_bytes) / objects

    def forget(self, until_ms: int) -> None:
        """Who came before that pays nothing more, whenever it leaves: one sum is enough."""
        known = self.known
        while len(known) > 2 and known[2] <= until_ms:
            known[3] += known[1]
            del known[:2]


class EarlyDeletions:
    """Takes the hours in, oldest first, and tells each deletion at its hour's end. Bound: of each partition and class, the
    arrivals of so many hours as the class has minimum days."""

    def __init__(self, book: Book, told: Callable[[EarlyDeletion], None]) -> None:
        self.unknown_bytes = 0
        """Left the class at an age that cannot be told."""
        self._min_hours = {
            name: price.min_days * 24 for name, price in book.classes.items() if price.min_days
        }
        self._told = told
        self._held: dict[tuple[str, int, str], _Held] = defaultdict(_Held)
        self._hour_ms = 0
        self._first_ms: int | None = None

    def begin_hour(self, hour_ms: int) -> None:
        self._hour_ms = hour_ms
        if self._first_ms is None:
            self._first_ms = hour_ms

    def add(self, rows: Sequence[LedgerRow]) -> None:
        for row in rows:
            if row.storage_class not in self._min_hours or not row.topic:
                continue
            if row.kind == Kind.STORED:
                one = self._held[row.topic, row.partition, row.storage_class]
                objects, held_bytes = one.now or (0, 0)
                one.now = objects + row.objects, held_bytes + row.held_bytes
            elif row.kind == Kind.REQUESTS and (row.cause, row.operation) in _ENTERS:
                one = self._held[row.topic, row.partition, row.storage_class]
                one.entered += max(row.requests - row.failed, 0)

    def end_hour(self) -> None:
        for key, one in self._held.items():
            if one.now is not None:
                self._take(key, one, *one.now)
            one.entered, one.now = 0, None

    def _take(self, key: tuple[str, int, str], one: _Held, objects: int, held_bytes: int) -> None:
        assert self._first_ms is not None
        hour_ms, min_hours = self._hour_ms, self._min_hours[key[2]]
        missing_hours = Decimal(0)
        for since_ms, count in _step(one, hour_ms, one.entered, objects):
            if since_ms is not None:
                missing_hours += count * max(min_hours - (hour_ms - since_ms) // HOUR_MS, 0)
            elif (hour_ms - self._first_ms) // HOUR_MS < min_hours:
                self.unknown_bytes += int(count * one.mean_bytes)
        if missing_hours:
            self._told(EarlyDeletion(hour_ms, *key, missing_hours * one.mean_bytes))
        if objects:
            one.mean_of = held_bytes, objects
        one.forget(hour_ms - min_hours * HOUR_MS)


def _step(one: _Held, hour_ms: int, entered: int, objects: int) -> list[tuple[int | None, int]]:
    """Takes an hour's end in; who left, oldest first: hour of arrival (None: unknown) and objects."""
    if not one.has_begun:
        one.has_begun = True
        one.unknown = max(objects - entered, 0)
        one.objects = one.unknown
    entered = max(entered, objects - one.objects)
    if entered:
        one.known += (hour_ms, entered)
    leaving = one.objects + entered - objects
    one.objects = objects
    gone: list[tuple[int | None, int]] = []
    if from_unknown := min(leaving, one.unknown):
        one.unknown -= from_unknown
        leaving -= from_unknown
        gone.append((None, from_unknown))
    while leaving:
        since_ms, count = one.known[:2]
        taken = min(leaving, count)
        leaving -= taken
        gone.append((since_ms, taken))
        if taken < count:
            one.known[1] = count - taken
        else:
            del one.known[:2]
    return gone
