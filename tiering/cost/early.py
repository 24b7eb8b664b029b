"""Objects that left their storage class before its minimum days: the provider bills the rest of them.

The ledger holds no ages of objects. They are told from its counts, hour by hour: what a class took in (objects that were
written or moved into it) less what it gained is what left it, and the oldest leave first, as retention has it. Objects
that were there before the first row have an unknown age; they count as unknown unless they were there for the minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from tiering.cost.prices import Book
from tiering.ledger.rows import HOUR_MS, Cause, Kind, LedgerRow, Operation

_ENTERS = {
    (Cause.COPY, Operation.PUT),
    (Cause.COPY, Operation.COMPLETE_UPLOAD),
    (Cause.CLASS_MOVE, Operation.COPY),
}
_MANY = 255


class EarlyDeletion(NamedTuple):
    """``byte_hours``: what is billed for the time that was not stayed."""

    hour_ms: int
    topic: str
    partition: int
    storage_class: str
    byte_hours: Decimal


@dataclass(slots=True)
class _Held:
    """One partition's objects in one class, as the hours go by."""

    objects: int = 0
    unknown: int = 0
    """Objects that were there before the first row."""
    settled: int = 0
    """Objects that have been there for the minimum: they pay nothing more, whenever they leave."""
    oldest: int = 0
    """No arrival of an hour before this one, counted from the first, is left."""
    has_begun: bool = False
    mean_objects: int = 1
    mean_of_bytes: int = 0
    """Objects, and their bytes, when there were any."""
    entered: int = 0
    """In this hour."""
    now: tuple[int, int] | None = None
    """Objects and their bytes at this hour's end."""

    @property
    def mean_bytes(self) -> Decimal:
        return Decimal(self.mean_of_bytes) / self.mean_objects


class _Arrivals:
    """Of one hour: objects by the partition's number, a byte each; what needs more stands apart."""

    def __init__(self, hour_ms: int) -> None:
        self.hour_ms = hour_ms
        self._few = bytearray()
        self._many: dict[int, int] = {}

    def __getitem__(self, number: int) -> int:
        count = self._few[number] if number < len(self._few) else 0
        return count if count < _MANY else self._many[number]

    def __setitem__(self, number: int, count: int) -> None:
        if number >= len(self._few):
            self._few.extend(bytes(number + 1 - len(self._few)))
        self._few[number] = min(count, _MANY)
        if count >= _MANY:
            self._many[number] = count


class _Class:
    """The partitions of one class, and what came into it in the hours that are not yet as long ago as its minimum."""

    def __init__(self, min_hours: int) -> None:
        self.min_hours = min_hours
        self.held: dict[tuple[str, int], _Held] = {}
        """Their numbers are those in which they came."""
        self.arrivals: list[_Arrivals] = []
        self._gone = 0
        """Hours that were forgotten, before the first of ``arrivals``."""

    def of(self, row: LedgerRow) -> _Held:
        key = row.topic, row.partition
        if (one := self.held.get(key)) is None:
            one = self.held[key] = _Held()
        return one

    def begin_hour(self, hour_ms: int) -> None:
        self.arrivals.append(_Arrivals(hour_ms))

    def forget(self) -> None:
        """Who came so long ago counts as one sum."""
        until_ms = self.arrivals[-1].hour_ms - self.min_hours * HOUR_MS
        while self.arrivals[0].hour_ms <= until_ms:
            arrived = self.arrivals.pop(0)
            self._gone += 1
            for number, one in enumerate(self.held.values()):
                one.settled += arrived[number]

    def step(self, number: int, one: _Held, objects: int) -> tuple[int, int]:
        """Takes an hour's end in; who left, oldest first: objects of unknown age, and hours that are missing to the minimum
        of all others."""
        if not one.has_begun:
            one.has_begun = True
            one.unknown = max(objects - one.entered, 0)
            one.objects = one.unknown
        entered = max(one.entered, objects - one.objects)
        if entered:
            self.arrivals[-1][number] = entered
        leaving = one.objects + entered - objects
        one.objects = objects
        unknown = min(leaving, one.unknown)
        one.unknown -= unknown
        settled = min(leaving - unknown, one.settled)
        one.settled -= settled
        return unknown, self._missing_hours(number, one, leaving - unknown - settled)

    def _missing_hours(self, number: int, one: _Held, leaving: int) -> int:
        """Of so many, taken out of the hours in which they came."""
        missing_hours, hour_ms = 0, self.arrivals[-1].hour_ms
        at = max(one.oldest - self._gone, 0)
        while leaving:
            arrived = self.arrivals[at]
            if taken := min(leaving, arrived[number]):
                leaving -= taken
                arrived[number] -= taken
                missing_hours += taken * (self.min_hours - (hour_ms - arrived.hour_ms) // HOUR_MS)
            if leaving:
                at += 1
        one.oldest = at + self._gone
        return missing_hours


class EarlyDeletions:
    """Takes the hours in, oldest first, and tells each deletion at its hour's end. Bound: of each class, an entry for each
    partition, and a byte for each partition and hour of the class's minimum days."""

    def __init__(self, book: Book, told: Callable[[EarlyDeletion], None]) -> None:
        self.unknown_bytes = 0
        """Left the class at an age that cannot be told."""
        self._classes = {
            name: _Class(price.min_days * 24) for name, price in book.classes.items() if price.min_days
        }
        self._told = told
        self._hour_ms = 0
        self._first_ms: int | None = None

    def begin_hour(self, hour_ms: int) -> None:
        self._hour_ms = hour_ms
        if self._first_ms is None:
            self._first_ms = hour_ms
        for each in self._classes.values():
            each.begin_hour(hour_ms)

    def add(self, rows: Sequence[LedgerRow]) -> None:
        for row in rows:
            of_class = self._classes.get(row.storage_class)
            if of_class is None or not row.topic:
                continue
            if row.kind == Kind.STORED:
                one = of_class.of(row)
                objects, held_bytes = one.now or (0, 0)
                one.now = objects + row.objects, held_bytes + row.held_bytes
            elif row.kind == Kind.REQUESTS and (row.cause, row.operation) in _ENTERS:
                of_class.of(row).entered += max(row.requests - row.failed, 0)

    def end_hour(self) -> None:
        for name, of_class in self._classes.items():
            of_class.forget()
            for number, ((topic, partition), one) in enumerate(of_class.held.items()):
                if one.now is not None and (
                    missing := self._missing_byte_hours(of_class, number, one, one.now)
                ):
                    self._told(EarlyDeletion(self._hour_ms, topic, partition, name, missing))
                one.entered, one.now = 0, None

    def _missing_byte_hours(self, of_class: _Class, number: int, one: _Held, now: tuple[int, int]) -> Decimal:
        assert self._first_ms is not None
        unknown, missing_hours = of_class.step(number, one, now[0])
        if unknown and (self._hour_ms - self._first_ms) // HOUR_MS < of_class.min_hours:
            self.unknown_bytes += int(unknown * one.mean_bytes)
        missing = missing_hours * one.mean_bytes
        if now[0]:
            one.mean_objects, one.mean_of_bytes = now
        return missing
