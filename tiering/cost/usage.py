"""What is paid for, counted from the ledger's rows: one sum per day, thing and user; ``bill`` prices them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from tiering.cost.early import EarlyDeletion
from tiering.cost.prices import ZERO, Book
from tiering.ledger.rows import ALL, Direction, Kind, LedgerRow, Operation

DAY_MS = 86_400_000


class Item(StrEnum):
    """What is paid for."""

    DISK = "disk"
    """What replicas hold on the brokers' disks."""
    DISK_FREE = "disk-free"
    """The rest of the disks that were bought."""
    STORAGE = "storage"
    REQUESTS = "requests"
    RETRIEVAL = "retrieval"
    EARLY = "early-deletion"
    CROSS_ZONE = "cross-zone"
    EGRESS = "egress"
    STORE_TRANSFER = "store-transfer"
    """Bytes read from an object store of another region."""


class Unit(StrEnum):
    BYTE_HOURS = "byte-hours"
    BYTES = "bytes"
    REQUESTS = "requests"


UNIT_OF = {
    Item.DISK: Unit.BYTE_HOURS,
    Item.DISK_FREE: Unit.BYTE_HOURS,
    Item.STORAGE: Unit.BYTE_HOURS,
    Item.EARLY: Unit.BYTE_HOURS,
    Item.REQUESTS: Unit.REQUESTS,
    Item.RETRIEVAL: Unit.BYTES,
    Item.CROSS_ZONE: Unit.BYTES,
    Item.EGRESS: Unit.BYTES,
    Item.STORE_TRANSFER: Unit.BYTES,
}


class Use(NamedTuple):
    """What was used of what, by whom. ``what``: the operation, the direction or the log directory; ``day``: since 1970."""

    day: int
    item: Item
    what: str = ""
    storage_class: str = ""
    cause: str = ""
    topic: str = ""
    partition: int = ALL
    principal: str = ""
    client_id: str = ""
    host: str = ""


_NETWORK: dict[str, str] = {
    Direction.PRODUCE: "received_bytes",
    Direction.CONSUME: "sent_bytes",
    Direction.CONSUME_REMOTE: "sent_bytes",
    Direction.REPLICATE: "sent_bytes",
}


class Usage:
    """All that was used in a span, and what the ledger cannot tell of it."""

    def __init__(self, rows: Iterable[LedgerRow], book: Book) -> None:
        self.sums: dict[Use, Decimal] = defaultdict(Decimal)
        self.hours: set[int] = set()
        self.unknown_zone_bytes = 0
        self.ingested_bytes = 0
        self._provisioned: dict[int, Decimal] = defaultdict(Decimal)
        self._file_systems: set[tuple[int, int, int, int]] = set()
        self._book = book
        for row in rows:
            self.hours.add(row.hour_ms)
            self._add(row)
        self._add_free_disk()

    @property
    def is_disk_known(self) -> bool:
        """Whether any broker has told how large its disks are."""
        return bool(self._provisioned)

    def add_early(self, found: Sequence[EarlyDeletion]) -> None:
        for each in found:
            use = Use(
                each.hour_ms // DAY_MS,
                Item.EARLY,
                storage_class=each.storage_class,
                topic=each.topic,
                partition=each.partition,
            )
            self.sums[use] += each.byte_hours

    def _add(self, row: LedgerRow) -> None:
        day = row.hour_ms // DAY_MS
        if row.kind == Kind.DISK:
            self._add_disk(day, row)
        elif row.kind == Kind.LOCAL:
            use = Use(day, Item.DISK, topic=row.topic, partition=row.partition)
            self.sums[use] += Decimal(row.byte_hours)
        elif row.kind == Kind.STORED:
            self._add_stored(day, row)
        elif row.kind == Kind.REQUESTS:
            self._add_requests(day, row)
        elif row.kind == Kind.TRAFFIC:
            self._add_traffic(day, row)

    def _add_disk(self, day: int, row: LedgerRow) -> None:
        """Log directories of a broker that tell the same size and the same use lie on one file system: it is paid once."""
        used_bytes = row.held_bytes + row.duplicated_bytes
        file_system = (row.hour_ms, row.broker_id, row.capacity_bytes, used_bytes)
        if file_system not in self._file_systems:
            self._file_systems.add(file_system)
            self._provisioned[day] += row.capacity_bytes

    def _add_stored(self, day: int, row: LedgerRow) -> None:
        """Small objects are billed as the class's smallest: told from their mean size, all that the ledger knows."""
        billed = Decimal(row.byte_hours)
        least_bytes = self._book.class_of(row.storage_class).min_object_bytes
        if row.objects and row.held_bytes < row.objects * least_bytes:
            share_of_hour = billed / row.held_bytes if row.held_bytes else Decimal(1)
            billed = row.objects * least_bytes * share_of_hour
        use = Use(
            day,
            Item.STORAGE,
            storage_class=row.storage_class or "standard",
            topic=row.topic,
            partition=row.partition,
        )
        self.sums[use] += billed

    def _add_requests(self, day: int, row: LedgerRow) -> None:
        use = Use(
            day,
            Item.REQUESTS,
            row.operation,
            row.storage_class or "standard",
            row.cause,
            row.topic,
            row.partition,
            row.principal,
            row.client_id,
            row.host,
        )
        self.sums[use] += row.requests
        if row.operation == Operation.GET and row.received_bytes:
            if self._book.class_of(row.storage_class).retrieval_per_gb:
                self.sums[use._replace(item=Item.RETRIEVAL, what="")] += row.received_bytes
            if self._book.network.store_per_gb:
                self.sums[use._replace(item=Item.STORE_TRANSFER, what="")] += row.received_bytes

    def _add_traffic(self, day: int, row: LedgerRow) -> None:
        column = _NETWORK.get(row.direction)
        moved_bytes = 0 if column is None else getattr(row, column)
        if row.direction == Direction.PRODUCE:
            self.ingested_bytes += moved_bytes
        if not moved_bytes:
            return
        if not row.from_rack or not row.to_rack:
            self.unknown_zone_bytes += moved_bytes
            return
        if row.from_rack == row.to_rack:
            return
        network = self._book.network
        if network.is_outside(row.from_rack):
            return
        item = Item.EGRESS if network.is_outside(row.to_rack) else Item.CROSS_ZONE
        use = Use(
            day,
            item,
            row.direction,
            topic=row.topic,
            partition=row.partition,
            principal=row.principal,
            client_id=row.client_id,
            host=row.host,
        )
        self.sums[use] += moved_bytes

    def _add_free_disk(self) -> None:
        used: dict[int, Decimal] = defaultdict(Decimal)
        for use, quantity in self.sums.items():
            if use.item is Item.DISK:
                used[use.day] += quantity
        for day, provisioned in self._provisioned.items():
            self.sums[Use(day, Item.DISK_FREE)] += max(provisioned - used[day], ZERO)
