"""Objects that left their storage class before its minimum days: the provider bills the rest of them.

The ledger holds no ages of objects. They are told from its counts, hour by hour: what a class took in (objects that were
written or moved into it) less what it gained is what left it, and the oldest leave first, as retention has it. Objects
that were there before the first row have an unknown age; they count as unknown unless they were there for the minimum.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
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


def early_deletions(rows: Sequence[LedgerRow], book: Book) -> Early:
    """From rows in any order; those of classes without minimum days do not count."""
    limited = {name for name, price in book.classes.items() if price.min_days}
    entered: dict[tuple[int, str, int, str], int] = defaultdict(int)
    states: dict[tuple[int, str, int, str], tuple[int, int]] = {}
    for row in rows:
        key = (row.hour_ms, row.topic, row.partition, row.storage_class)
        if row.storage_class not in limited or not row.topic:
            continue
        if row.kind == Kind.STORED:
            objects, held_bytes = states.get(key, (0, 0))
            states[key] = (objects + row.objects, held_bytes + row.held_bytes)
        elif row.kind == Kind.REQUESTS and (row.cause, row.operation) in _ENTERS:
            entered[key] += max(row.requests - row.failed, 0)
    held: dict[tuple[str, int, str], _Held] = defaultdict(_Held)
    deletions: list[EarlyDeletion] = []
    unknown_bytes = 0
    first_ms = min((row.hour_ms for row in rows), default=0)
    for key in sorted(states):
        hour_ms, topic, partition, name = key
        objects, held_bytes = states[key]
        one = held[key[1:]]
        left = _step(one, hour_ms, entered[key], objects)
        min_hours = book.classes[name].min_days * 24
        missing_hours = Decimal(0)
        for since_ms, count in left:
            if since_ms is not None:
                missing_hours += count * max(min_hours - (hour_ms - since_ms) // HOUR_MS, 0)
            elif (hour_ms - first_ms) // HOUR_MS < min_hours:
                unknown_bytes += int(count * one.mean_bytes)
        if missing_hours:
            deletions.append(EarlyDeletion(hour_ms, topic, partition, name, missing_hours * one.mean_bytes))
        if objects:
            one.mean_bytes = Decimal(held_bytes) / objects
    return Early(tuple(deletions), unknown_bytes)


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
