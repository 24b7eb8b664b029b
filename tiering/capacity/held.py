"""What disks and the bucket hold, told by the ledger's newest hours, and how fast what would fill them arrives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tiering.ledger.rows import HOUR_MS, Direction, Kind, LedgerRow

RECENT_HOURS = 7 * 24
"""Rates are means over so many of the newest hours."""
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


def disks(rows: Sequence[LedgerRow]) -> list[Disk]:
    """By broker and log directory, as they were at their newest hour."""
    histories: dict[tuple[int, str], list[LedgerRow]] = defaultdict(list)
    for row in rows:
        if row.kind == Kind.DISK:
            histories[row.broker_id, row.log_dir].append(row)
    written = _written_per_day(rows)
    newest_ms = {where: max(row.hour_ms for row in history) for where, history in histories.items()}
    tiered = {(row.topic, row.partition) for row in rows if row.kind == Kind.STORED}
    duplicated: dict[tuple[int, str], int] = defaultdict(int)
    kept: dict[tuple[int, str], float] = defaultdict(float)
    for row in rows:
        where, partition = (row.broker_id, row.log_dir), (row.topic, row.partition)
        if row.kind == Kind.LOCAL and row.hour_ms == newest_ms.get(where):
            duplicated[where] += row.duplicated_bytes
            kept[where] += written.get(partition, 0.0) if partition in tiered else 0.0
    return [
        _disk(where, sorted(history), duplicated[where], kept[where])
        for where, history in sorted(histories.items())
    ]


def _disk(where: tuple[int, str], history: Sequence[LedgerRow], duplicated: int, kept: float) -> Disk:
    last = history[-1]
    series = tuple((row.hour_ms, float(row.held_bytes + row.duplicated_bytes)) for row in history)
    return Disk(*where, last.capacity_bytes, last.held_bytes, duplicated, last.duplicated_bytes, series, kept)


def _written_per_day(rows: Sequence[LedgerRow]) -> dict[tuple[str, int], float]:
    """By partition, over the newest hours."""
    newest_ms = max((row.hour_ms for row in rows), default=0)
    first_ms = newest_ms - (RECENT_HOURS - 1) * HOUR_MS
    hours = len({row.hour_ms for row in rows if row.hour_ms >= first_ms}) or 1
    sums: dict[tuple[str, int], float] = defaultdict(float)
    for row in rows:
        if row.kind == Kind.TRAFFIC and row.direction == Direction.PRODUCE and row.hour_ms >= first_ms:
            sums[row.topic, row.partition] += row.received_bytes * DAY_HOURS / hours
    return dict(sums)


def topics(rows: Sequence[LedgerRow]) -> list[Topic]:
    """As they were in the newest hour."""
    newest_ms = max((row.hour_ms for row in rows), default=0)
    replicas: dict[tuple[str, int], list[LedgerRow]] = defaultdict(list)
    stored: dict[tuple[str, int], list[LedgerRow]] = defaultdict(list)
    for row in rows:
        if row.hour_ms == newest_ms and row.topic and row.kind in (Kind.LOCAL, Kind.STORED):
            into = replicas if row.kind == Kind.LOCAL else stored
            into[row.topic, row.partition].append(row)
    written = _written_per_day(rows)
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
