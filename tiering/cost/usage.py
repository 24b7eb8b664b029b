"""What is paid for, counted from the ledger's rows: one sum per day, thing and user; ``bill`` prices them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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
    """Segments in the bucket."""
    OVERHEAD = "overhead"
    """What lies beside them: pages, copies of heads, markers, the ledger."""
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
    Item.OVERHEAD: Unit.BYTE_HOURS,
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


class Detail(NamedTuple):
    """What is told apart beside the item, its class, the operation, the cause and the topic. Sums are as many as there are
    values of these, so a report of a long time asks for no more than it shows."""

    day: bool = True
    partition: bool = True
    client: bool = True
    """Principal, client id and host."""


EVERYTHING = Detail()


class Usage:
    """All that was used in a span, and what the ledger cannot tell of it."""

    def __init__(self, book: Book, detail: Detail = EVERYTHING) -> None:
        self.sums: dict[Use, Decimal] = defaultdict(Decimal)
        self.hours = 0
        self.unknown_zone_bytes = 0
        self.ingested_bytes = 0
        self._file_systems: set[tuple[int, int, int]] = set()
        """Of the hour."""
        self._provisioned: dict[int, int] = defaultdict(int)
        self._held: dict[int, Decimal] = defaultdict(Decimal)
        self._book = book
        self._detail = detail

    def begin_hour(self, hour_ms: int) -> None:
        self.hours += 1
        self._file_systems.clear()

    def end_hour(self) -> None:
        pass

    def add(self, rows: Sequence[LedgerRow]) -> None:
        for row in rows:
            if row.kind == Kind.DISK:
                self._add_disk(row)
            elif row.kind == Kind.LOCAL:
                held = Decimal(row.byte_hours)
                self._held[row.hour_ms // DAY_MS] += held
                self.sums[self._use(row, Item.DISK)] += held
            elif row.kind == Kind.STORED:
                self._add_stored(row, Item.STORAGE)
            elif row.kind == Kind.OVERHEAD:
                self._add_stored(row, Item.OVERHEAD)
            elif row.kind == Kind.REQUESTS:
                self._add_requests(row)
            elif row.kind == Kind.TRAFFIC:
                self._add_traffic(row)

    def _use(
        self, row: LedgerRow, item: Item, what: str = "", storage_class: str = "", cause: str = ""
    ) -> Use:
        detail = self._detail
        client = (row.principal, row.client_id, row.host) if detail.client else ("", "", "")
        day = row.hour_ms // DAY_MS if detail.day else 0
        partition = row.partition if detail.partition else ALL
        return Use(day, item, what, storage_class, cause, row.topic, partition, *client)

    @property
    def is_disk_known(self) -> bool:
        """Whether any broker has told how large its disks are."""
        return bool(self._provisioned)

    def add_early(self, found: EarlyDeletion) -> None:
        use = Use(
            found.hour_ms // DAY_MS if self._detail.day else 0,
            Item.EARLY,
            storage_class=found.storage_class,
            topic=found.topic,
            partition=found.partition if self._detail.partition else ALL,
        )
        self.sums[use] += found.byte_hours

    def add_free_disk(self) -> None:
        """What is left of the disks of each day. Once, behind the last hour."""
        for day, provisioned in self._provisioned.items():
            use = Use(day if self._detail.day else 0, Item.DISK_FREE)
            self.sums[use] += max(provisioned - self._held[day], ZERO)

    def _add_disk(self, row: LedgerRow) -> None:
        """Log directories of a broker that tell the same size and the same use lie on one file system: it is paid once."""
        used_bytes = row.held_bytes + row.duplicated_bytes
        file_system = (row.broker_id, row.capacity_bytes, used_bytes)
        if file_system not in self._file_systems:
            self._file_systems.add(file_system)
            self._provisioned[row.hour_ms // DAY_MS] += row.capacity_bytes

    def _add_stored(self, row: LedgerRow, item: Item) -> None:
        """Small objects are billed as the class's smallest: told from their mean size, all that the ledger knows."""
        billed = Decimal(row.byte_hours)
        least_bytes = self._book.class_of(row.storage_class).min_object_bytes
        if row.objects and row.held_bytes < row.objects * least_bytes:
            share_of_hour = billed / row.held_bytes if row.held_bytes else Decimal(1)
            billed = row.objects * least_bytes * share_of_hour
        storage_class = row.storage_class or "standard"
        self.sums[self._use(row, item, storage_class=storage_class, cause=row.cause)] += billed

    def _add_requests(self, row: LedgerRow) -> None:
        use = self._use(row, Item.REQUESTS, row.operation, row.storage_class or "standard", row.cause)
        self.sums[use] += row.requests
        if row.operation == Operation.GET and row.received_bytes:
            if self._book.class_of(row.storage_class).retrieval_per_gb:
                self.sums[use._replace(item=Item.RETRIEVAL, what="")] += row.received_bytes
            if self._book.network.store_per_gb:
                self.sums[use._replace(item=Item.STORE_TRANSFER, what="")] += row.received_bytes

    def _add_traffic(self, row: LedgerRow) -> None:
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
        self.sums[self._use(row, item, row.direction)] += moved_bytes
