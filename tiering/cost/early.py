"""Objects that left their storage class before its minimum days: the provider bills the rest of them.

The ledger holds no ages of objects. They are told from its counts, hour by hour: what a class took in (objects that were
written or moved into it) less what it gained is what left it, and the oldest leave first, as retention has it. Objects
that were there before the first row have an unknown age; they count as unknown unless they were there for the minimum.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
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


class Early(NamedTuple):
    """``unknown_bytes``: left the class at an age that cannot be told."""

    deletions: tuple[EarlyDeletion, ...]
    unknown_bytes: int


@dataclass(slots=True)
class _Held:
    """One partition's objects in one class, as the hours go by."""

    objects: int = 0
    mean_bytes: Decimal = Decimal(0)
    known: deque[tuple[int, int]] = field(default_factory=deque)
    """Hour of arrival and objects, oldest first."""
    unknown: int = 0
    """Objects that were there before the first row."""
    has_begun: bool = False

    def forget(self, until_ms: int) -> None:
        """Who came before that pays nothing more, whenever it leaves: one sum is enough."""
        while len(self.known) > 1 and self.known[1][0] <= until_ms:
            _, older = self.known.popleft()
            since_ms, count = self.known.popleft()
            self.known.appendleft((since_ms, older + count))


class EarlyDeletions:
    """Takes the hours in, oldest first. Bound: of each partition and class, the arrivals of so many hours as the class has
    minimum days."""

    def __init__(self, book: Book) -> None:
        self._min_hours = {
            name: price.min_days * 24 for name, price in book.classes.items() if price.min_days
        }
        self._held: dict[tuple[str, int, str], _Held] = defaultdict(_Held)
        self._deletions: list[EarlyDeletion] = []
        self._unknown_bytes = 0
        self._first_ms: int | None = None

    def add_hour(self, hour_ms: int, rows: Iterable[LedgerRow]) -> None:
        """All rows of an hour at once."""
        if self._first_ms is None:
            self._first_ms = hour_ms
        entered: dict[tuple[str, int, str], int] = defaultdict(int)
        states: dict[tuple[str, int, str], tuple[int, int]] = {}
        for row in rows:
            if row.storage_class not in self._min_hours or not row.topic:
                continue
            key = (row.topic, row.partition, row.storage_class)
            if row.kind == Kind.STORED:
                objects, held_bytes = states.get(key, (0, 0))
                states[key] = (objects + row.objects, held_bytes + row.held_bytes)
            elif row.kind == Kind.REQUESTS and (row.cause, row.operation) in _ENTERS:
                entered[key] += max(row.requests - row.failed, 0)
        for key in sorted(states):
            self._take(hour_ms, key, entered[key], *states[key])

    def _take(
        self, hour_ms: int, key: tuple[str, int, str], entered: int, objects: int, held_bytes: int
    ) -> None:
        assert self._first_ms is not None
        one, min_hours = self._held[key], self._min_hours[key[2]]
        missing_hours = Decimal(0)
        for since_ms, count in _step(one, hour_ms, entered, objects):
            if since_ms is not None:
                missing_hours += count * max(min_hours - (hour_ms - since_ms) // HOUR_MS, 0)
            elif (hour_ms - self._first_ms) // HOUR_MS < min_hours:
                self._unknown_bytes += int(count * one.mean_bytes)
        if missing_hours:
            self._deletions.append(EarlyDeletion(hour_ms, *key, missing_hours * one.mean_bytes))
        if objects:
            one.mean_bytes = Decimal(held_bytes) / objects
        one.forget(hour_ms - min_hours * HOUR_MS)

    def told(self) -> Early:
        """From all hours so far."""
        return Early(tuple(self._deletions), self._unknown_bytes)


def _step(one: _Held, hour_ms: int, entered: int, objects: int) -> list[tuple[int | None, int]]:
    """Takes an hour's end in; who left, oldest first: hour of arrival (None: unknown) and objects."""
    if not one.has_begun:
        one.has_begun = True
        one.unknown = max(objects - entered, 0)
        one.objects = one.unknown
    entered = max(entered, objects - one.objects)
    if entered:
        one.known.append((hour_ms, entered))
    leaving = one.objects + entered - objects
    one.objects = objects
    gone: list[tuple[int | None, int]] = []
    if from_unknown := min(leaving, one.unknown):
        one.unknown -= from_unknown
        leaving -= from_unknown
        gone.append((None, from_unknown))
    while leaving:
        since_ms, count = one.known.popleft()
        taken = min(leaving, count)
        leaving -= taken
        gone.append((since_ms, taken))
        if taken < count:
            one.known.appendleft((since_ms, count - taken))
    return gone
