"""One topic as the ledger measured it, in means: what a month of it costs, and what else could be done with the same writes.

A profile is bytes held, bytes and requests a day. ``monthly`` prices it by the same book as a bill does; disks count as full
as the book plans them, since a topic has no disk of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from tiering.cost.baseline import kept
from tiering.cost.prices import GB, ZERO, Book
from tiering.cost.usage import Item
from tiering.ledger.rows import Direction, Kind, LedgerRow, Operation

DAY_HOURS = 24
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


def profile_of(rows: Iterable[LedgerRow], topic: str) -> Profile | None:
    """None where the rows do not tell of it. Means over the hours that they tell of at all."""
    rows = list(rows)
    hours = len({row.hour_ms for row in rows})
    mine = [row for row in rows if row.topic == topic]
    if not mine:
        return None
    held = kept(mine)
    stored: dict[str, float] = defaultdict(float)
    objects = 0.0
    for row in mine:
        if row.kind == Kind.STORED:
            stored[row.storage_class or "standard"] += row.byte_hours / hours
            objects += row.objects / hours
    requests, reads = _requests(mine, hours)
    replicas: dict[int, set[int]] = defaultdict(set)
    for row in mine:
        if row.kind == Kind.LOCAL:
            replicas[row.partition].add(row.broker_id)
    written = sum(row.received_bytes for row in mine if row.direction == Direction.PRODUCE)
    crossing: dict[str, float] = defaultdict(float)
    for row in mine:
        column = _CROSSING.get(row.direction)
        if (
            row.kind == Kind.TRAFFIC
            and column
            and row.from_rack
            and row.to_rack
            and row.from_rack != row.to_rack
        ):
            crossing[row.direction] += getattr(row, column) * DAY_HOURS / hours
    return Profile(
        max((len(brokers) for brokers in replicas.values()), default=1),
        len(held) or 1,
        written * DAY_HOURS / hours,
        sum(float(each.local_byte_hours) for each in held.values()) / hours,
        sum(float(each.once_byte_hours) for each in held.values()) / hours,
        dict(stored),
        objects,
        requests,
        reads,
        dict(reads),
        dict(crossing),
        {},
    )


def _requests(rows: Iterable[LedgerRow], hours: int) -> tuple[dict[Asked, float], dict[str, float]]:
    requests: dict[Asked, float] = defaultdict(float)
    reads: dict[str, float] = defaultdict(float)
    for row in rows:
        if row.kind != Kind.REQUESTS:
            continue
        name = row.storage_class or "standard"
        requests[Asked(row.cause, row.operation, name)] += row.requests * DAY_HOURS / hours
        if row.operation == Operation.GET:
            reads[name] += row.received_bytes * DAY_HOURS / hours
    return dict(requests), dict(reads)


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
