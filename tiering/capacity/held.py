"""What disks and the bucket hold, told by the ledger's newest hours, and how fast what would fill them arrives."""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from tiering.ledger.rows import Direction, Kind, LedgerRow

RECENT_DAYS = 7
"""Rates are means over so many blocks of 24 hours that the rows tell of, of which the newest may be begun."""
DAY_HOURS = 24


class Disk(NamedTuple):
    """A log directory's file system. ``local``: this broker's segments; ``duplicated``: of those, also in the bucket;
    ``others``: whatever else is there. ``series``: hours and all that is used. ``kept_per_day``: what would stay here,
    each day, if the object store were away: what is written to tiered partitions that have a replica here."""

    broker_id: int
    log_dir: str
    capacity_bytes: int
    local_bytes: int
    duplicated_bytes: int
    others_bytes: int
    series: tuple[tuple[int, float], ...]
    kept_per_day: float

    @property
    def used_bytes(self) -> int:
        return self.local_bytes + self.others_bytes


class Topic(NamedTuple):
    """``local``: on the disks of all replicas; ``once``: each byte once, be it local or remote."""

    topic: str
    local_bytes: int
    duplicated_bytes: int
    remote_bytes: int
    once_bytes: int
    objects: int
    ingested_per_day: float

    @property
    def mean_object_bytes(self) -> int:
        return self.remote_bytes // self.objects if self.objects else 0

    @property
    def held_days(self) -> float | None:
        """How many days of writing at the present pace are held."""
        return self.once_bytes / self.ingested_per_day if self.ingested_per_day else None


@dataclass(slots=True)
class _Block:
    """What was written to partitions in so many hours."""

    hours: int = 0
    written_bytes: array[float] = field(default_factory=lambda: array("d"))
    """By the partition's number."""


@dataclass(slots=True)
class _Replicas:
    """Of one log directory, at an hour's end: partitions by number, and what of their bytes the bucket has too."""

    partitions: array[int] = field(default_factory=lambda: array("I"))
    duplicated_bytes: int = 0


@dataclass(slots=True)
class _Sums:
    """Of one topic, at an hour's end."""

    local_bytes: int = 0
    duplicated_bytes: int = 0
    remote_bytes: int = 0
    only_local_bytes: int = 0
    objects: int = 0
    written_per_day: float = 0.0


class Filling:
    """Takes the hours in, oldest first. Bound: a number for each disk and hour; for each partition one of its bytes in the
    newest hour, one for each of its replicas, and one for each of ``RECENT_DAYS`` blocks of 24 hours."""

    def __init__(self) -> None:
        self._series: dict[tuple[int, str], list[tuple[int, float]]] = defaultdict(list)
        self._last: dict[tuple[int, str], LedgerRow] = {}
        self._replicas: dict[tuple[int, str], _Replicas] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        """Of partitions, in the order in which they came."""
        self._tiered: set[int] = set()
        self._written: deque[_Block] = deque(maxlen=RECENT_DAYS)
        self._hour_ms = 0
        # Of the newest hour:
        self._found: dict[tuple[int, str], _Replicas] = defaultdict(_Replicas)
        self._topics: dict[str, _Sums] = defaultdict(_Sums)
        self._only_local: dict[int, int] = {}
        """By partition, of the replica that has most which the bucket has not; 0 where the bucket alone has it."""

    def begin_hour(self, hour_ms: int) -> None:
        self._hour_ms = hour_ms
        if not self._written or self._written[-1].hours == DAY_HOURS:
            self._written.append(_Block())
        self._written[-1].hours += 1
        self._found.clear()
        self._topics.clear()
        self._only_local.clear()

    def add(self, rows: Sequence[LedgerRow]) -> None:
        for row in rows:
            if row.kind == Kind.DISK:
                where = row.broker_id, row.log_dir
                self._series[where].append((self._hour_ms, float(row.held_bytes + row.duplicated_bytes)))
                self._last[where] = row
            elif row.kind == Kind.LOCAL and row.topic:
                self._add_local(row)
            elif row.kind == Kind.STORED:
                self._add_stored(row)
            elif row.direction == Direction.PRODUCE:
                written, number = self._written[-1].written_bytes, self._number_of(row)
                if number >= len(written):
                    written.extend(repeat(0.0, len(self._numbers) - len(written)))
                written[number] += row.received_bytes

    def _number_of(self, row: LedgerRow) -> int:
        return self._numbers.setdefault((row.topic, row.partition), len(self._numbers))

    def _add_local(self, row: LedgerRow) -> None:
        number, found, sums = (
            self._number_of(row),
            self._found[row.broker_id, row.log_dir],
            self._topics[row.topic],
        )
        found.partitions.append(number)
        found.duplicated_bytes += row.duplicated_bytes
        sums.local_bytes += row.held_bytes
        sums.duplicated_bytes += row.duplicated_bytes
        only_local = row.held_bytes - row.duplicated_bytes
        self._only_local[number] = max(self._only_local.get(number, 0), only_local)

    def _add_stored(self, row: LedgerRow) -> None:
        number = self._number_of(row)
        self._tiered.add(number)
        if row.topic:
            self._only_local.setdefault(number, 0)
            self._topics[row.topic].remote_bytes += row.held_bytes
            self._topics[row.topic].objects += row.objects

    def end_hour(self) -> None:
        """What lies on a disk is known where the hour tells of the disk."""
        for where, last in self._last.items():
            if last.hour_ms == self._hour_ms:
                self._replicas[where] = self._found.pop(where, _Replicas())

    def disks(self) -> list[Disk]:
        """By broker and log directory, as they were at their newest hour."""
        written = self._written_per_day()
        return [self._disk(where, written) for where in sorted(self._last)]

    def _disk(self, where: tuple[int, str], written: Sequence[float]) -> Disk:
        last, replicas = self._last[where], self._replicas[where]
        kept = sum(written[number] for number in replicas.partitions if number in self._tiered)
        return Disk(
            *where,
            last.capacity_bytes,
            last.held_bytes,
            replicas.duplicated_bytes,
            last.duplicated_bytes,
            tuple(self._series[where]),
            kept,
        )

    def _written_per_day(self) -> Sequence[float]:
        """By partition, over the newest blocks."""
        hours = sum(block.hours for block in self._written)
        sums = array("d", repeat(0.0, len(self._numbers)))
        for block in self._written:
            for number, written_bytes in enumerate(block.written_bytes):
                sums[number] += written_bytes * DAY_HOURS / hours
        return sums

    def topics(self) -> list[Topic]:
        """As they were in the newest hour."""
        written = self._written_per_day()
        for sums in self._topics.values():
            sums.only_local_bytes, sums.written_per_day = 0, 0.0
        for (topic, _), number in self._numbers.items():
            if (only_local := self._only_local.get(number)) is not None:
                self._topics[topic].only_local_bytes += only_local
                self._topics[topic].written_per_day += written[number]
        return [
            Topic(
                *(name, each.local_bytes, each.duplicated_bytes, each.remote_bytes),
                *(each.remote_bytes + each.only_local_bytes, each.objects, each.written_per_day),
            )
            for name, each in sorted(self._topics.items())
        ]
