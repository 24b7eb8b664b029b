"""What disks and the bucket hold, told by the ledger's newest hours, and how fast what would fill them arrives."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    sums: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))


class Replica(NamedTuple):
    """Of one partition on one log directory, at an hour's end."""

    partition: tuple[str, int]
    duplicated_bytes: int


class Filling:
    """Takes the hours in, oldest first. Bound: a number for each disk and hour, the newest hour's rows of what is held, and
    what was written to each partition in each of ``RECENT_DAYS`` blocks of 24 hours."""

    def __init__(self) -> None:
        self._series: dict[tuple[int, str], list[tuple[int, float]]] = defaultdict(list)
        self._last: dict[tuple[int, str], LedgerRow] = {}
        self._replicas: dict[tuple[int, str], list[Replica]] = defaultdict(list)
        self._newest: list[LedgerRow] = []
        self._tiered: set[tuple[str, int]] = set()
        self._written: deque[_Block] = deque(maxlen=RECENT_DAYS)

    def add_hour(self, hour_ms: int, rows: Sequence[LedgerRow]) -> None:
        """All rows of an hour at once."""
        if not self._written or self._written[-1].hours == DAY_HOURS:
            self._written.append(_Block())
        block = self._written[-1]
        block.hours += 1
        self._newest = [row for row in rows if row.topic and row.kind in (Kind.LOCAL, Kind.STORED)]
        for row in rows:
            if row.kind == Kind.DISK:
                where = row.broker_id, row.log_dir
                self._series[where].append((hour_ms, float(row.held_bytes + row.duplicated_bytes)))
                self._last[where] = row
                self._replicas[where] = []
            elif row.kind == Kind.STORED:
                self._tiered.add((row.topic, row.partition))
            elif row.direction == Direction.PRODUCE:
                block.sums[row.topic, row.partition] += row.received_bytes
        for row in self._newest:
            where = row.broker_id, row.log_dir
            if row.kind == Kind.LOCAL and where in self._last and self._last[where].hour_ms == hour_ms:
                replica = Replica((row.topic, row.partition), row.duplicated_bytes)
                self._replicas[where].append(replica)

    def disks(self) -> list[Disk]:
        """By broker and log directory, as they were at their newest hour."""
        written = self._written_per_day()
        return [self._disk(where, written) for where in sorted(self._last)]

    def _disk(self, where: tuple[int, str], written: Mapping[tuple[str, int], float]) -> Disk:
        last, replicas = self._last[where], self._replicas[where]
        kept = sum(written.get(each.partition, 0.0) for each in replicas if each.partition in self._tiered)
        return Disk(
            *where,
            last.capacity_bytes,
            last.held_bytes,
            sum(each.duplicated_bytes for each in replicas),
            last.duplicated_bytes,
            tuple(self._series[where]),
            kept,
        )

    def _written_per_day(self) -> dict[tuple[str, int], float]:
        """By partition, over the newest blocks."""
        hours = sum(block.hours for block in self._written)
        sums: dict[tuple[str, int], float] = defaultdict(float)
        for block in self._written:
            for partition, written_bytes in block.sums.items():
                sums[partition] += written_bytes * DAY_HOURS / hours
        return dict(sums)

    def topics(self) -> list[Topic]:
        """As they were in the newest hour."""
        replicas: dict[tuple[str, int], list[LedgerRow]] = defaultdict(list)
        stored: dict[tuple[str, int], list[LedgerRow]] = defaultdict(list)
        for row in self._newest:
            (replicas if row.kind == Kind.LOCAL else stored)[row.topic, row.partition].append(row)
        written = self._written_per_day()
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(Topic._fields) - 1))
        for partition in replicas.keys() | stored.keys():
            on_disks = replicas.get(partition, [])
            remote_bytes = sum(row.held_bytes for row in stored.get(partition, []))
            only_local = max((row.held_bytes - row.duplicated_bytes for row in on_disks), default=0)
            counted = (
                sum(row.held_bytes for row in on_disks),
                sum(row.duplicated_bytes for row in on_disks),
                remote_bytes,
                remote_bytes + only_local,
                sum(row.objects for row in stored.get(partition, [])),
                written.get(partition, 0.0),
            )
            total = sums[partition[0]]
            for position, value in enumerate(counted):
                total[position] += value
        found = []
        for name, total in sorted(sums.items()):
            local, duplicated, remote, once, objects = map(int, total[:-1])
            found.append(Topic(name, local, duplicated, remote, once, objects, total[-1]))
        return found
