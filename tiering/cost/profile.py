"""One topic as the ledger measured it, in means: what a month of it costs, and what else could be done with the same writes.

A profile is bytes held, bytes and requests a day. ``monthly`` prices it by the same book as a bill does; disks count as full
as the book plans them, since a topic has no disk of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeVar

from tiering.cost.baseline import Keeping
from tiering.cost.prices import GB, ZERO, Book
from tiering.cost.usage import Item
from tiering.ledger.rows import Direction, Kind, LedgerRow, Operation

DAY_HOURS = 24
Key = TypeVar("Key")
_CROSSING: dict[str, str] = {
    Direction.PRODUCE: "received_bytes",
    Direction.CONSUME: "sent_bytes",
    Direction.CONSUME_REMOTE: "sent_bytes",
    Direction.REPLICATE: "sent_bytes",
}


class Asked(NamedTuple):
    """Of requests: why, which, on which class."""

    cause: str
    operation: str
    storage_class: str


class Profile(NamedTuple):
    """``remote_bytes``: by class; ``reads_per_day``: bytes of GETs by class; ``crossing_per_day``: bytes between zones by
    direction; ``early_per_day``: bytes by class and the days of its minimum that they do not stay."""

    replicas: int
    partitions: int
    written_per_day: float
    local_bytes: float
    once_bytes: float
    remote_bytes: Mapping[str, float]
    objects: float
    requests_per_day: Mapping[Asked, float]
    reads_per_day: Mapping[str, float]
    retrieved_per_day: Mapping[str, float]
    crossing_per_day: Mapping[str, float]
    early_per_day: Mapping[tuple[str, int], float]

    @property
    def remote_total(self) -> float:
        return sum(self.remote_bytes.values())

    @property
    def object_bytes(self) -> float:
        return self.remote_total / self.objects if self.objects else 0.0

    @property
    def bytes_per_get(self) -> float | None:
        gets = sum(
            count for asked, count in self.requests_per_day.items() if asked.operation == Operation.GET
        )
        read = sum(self.reads_per_day.values())
        return read / gets if gets and read else None


class Profiling:
    """Takes one topic's rows in, hour by hour. Means are over all hours that there are, be it in them or not."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._hours = 0
        self._is_known = False
        self._keeping = Keeping()
        self._partitions: set[int] = set()
        self._stored: dict[str, float] = defaultdict(float)
        self._objects = 0.0
        self._written = 0
        self._requests: dict[Asked, float] = defaultdict(float)
        self._reads: dict[str, float] = defaultdict(float)
        self._crossing: dict[str, float] = defaultdict(float)
        self._replicas: dict[int, set[int]] = defaultdict(set)

    def begin_hour(self, hour_ms: int) -> None:
        self._hours += 1
        self._keeping.begin_hour(hour_ms)

    def end_hour(self) -> None:
        self._keeping.end_hour()

    def add(self, rows: Sequence[LedgerRow]) -> None:
        mine = [row for row in rows if row.topic == self._topic]
        self._is_known = self._is_known or bool(mine)
        self._keeping.add(mine)
        for row in mine:
            if row.kind in (Kind.STORED, Kind.LOCAL):
                self._partitions.add(row.partition)
            if row.kind == Kind.STORED:
                self._stored[row.storage_class or "standard"] += row.byte_hours
                # As long as their bytes: the count is that of the hour's end.
                self._objects += row.objects * (row.byte_hours / row.held_bytes if row.held_bytes else 1.0)
            elif row.kind == Kind.LOCAL:
                self._replicas[row.partition].add(row.broker_id)
            elif row.kind == Kind.REQUESTS:
                name = row.storage_class or "standard"
                self._requests[Asked(row.cause, row.operation, name)] += row.requests
                if row.operation == Operation.GET:
                    self._reads[name] += row.received_bytes
            elif row.kind == Kind.TRAFFIC:
                self._add_traffic(row)

    def _add_traffic(self, row: LedgerRow) -> None:
        if row.direction == Direction.PRODUCE:
            self._written += row.received_bytes
        column = _CROSSING.get(row.direction)
        if column and row.from_rack and row.to_rack and row.from_rack != row.to_rack:
            self._crossing[row.direction] += getattr(row, column)

    def profile(self) -> Profile | None:
        """None where the rows do not tell of the topic."""
        if not self._is_known:
            return None
        hours, kept = self._hours, self._keeping.kept()
        reads = self._a_day(self._reads)
        return Profile(
            max((len(brokers) for brokers in self._replicas.values()), default=1),
            len(self._partitions) or 1,
            self._written * DAY_HOURS / hours,
            float(kept.local_byte_hours) / hours,
            float(kept.once_byte_hours) / hours,
            {name: byte_hours / hours for name, byte_hours in self._stored.items()},
            self._objects / hours,
            self._a_day(self._requests),
            reads,
            dict(reads),
            self._a_day(self._crossing),
            {},
        )

    def _a_day(self, sums: Mapping[Key, float]) -> dict[Key, float]:
        return {key: total * DAY_HOURS / self._hours for key, total in sums.items()}


def monthly(profile: Profile, book: Book) -> dict[Item, Decimal]:
    """By item. ``EARLY``: what minimum days that nobody stays cost."""
    days = Decimal(book.month_hours) / DAY_HOURS
    storage, early, requests, retrieval = ZERO, ZERO, ZERO, ZERO
    for name, held in profile.remote_bytes.items():
        billed = max(held, profile.objects * book.class_of(name).min_object_bytes * _share(profile, name))
        storage += book.class_of(name).storage.of(_gb(billed))
    for asked, count in profile.requests_per_day.items():
        requests += Decimal(count) * days * book.class_of(asked.storage_class).request(asked.operation)
    for name, read in profile.retrieved_per_day.items():
        retrieval += _gb(read) * days * book.class_of(name).retrieval_per_gb
    for (name, missing_days), deleted in profile.early_per_day.items():
        early += _gb(deleted) * missing_days * book.class_of(name).storage.first
    crossing = sum((_gb(moved) * days for moved in profile.crossing_per_day.values()), ZERO)
    between = book.network.zone_out_per_gb + book.network.zone_in_per_gb
    disk = _gb(profile.local_bytes) * 100 / book.disk_fill_percent * book.disk_per_gb_month
    return {
        Item.DISK: disk * book.factor("disk"),
        Item.STORAGE: storage * book.factor("storage"),
        Item.REQUESTS: requests * book.factor("requests"),
        Item.RETRIEVAL: retrieval * book.factor("retrieval"),
        Item.EARLY: early * book.factor("storage"),
        Item.CROSS_ZONE: crossing * between * book.factor("network"),
    }


def _share(profile: Profile, name: str) -> float:
    total = profile.remote_total
    return profile.remote_bytes[name] / total if total else 0.0


def _gb(count: float) -> Decimal:
    return Decimal(count) / GB
