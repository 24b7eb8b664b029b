"""What was kept, counted once, and what it would cost if all of it lay on the brokers' disks, as without a tier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from tiering.cost.prices import GB, ZERO, Book
from tiering.cost.usage import Item
from tiering.ledger.rows import Kind, LedgerRow


class Kept(NamedTuple):
    """Of one partition, in byte-hours. ``once``: each byte once, be it local, remote, or both; ``replicas``: once for each
    replica that the hours told of; ``local``: on the disks of all replicas."""

    once_byte_hours: Decimal
    replicas_byte_hours: Decimal
    local_byte_hours: Decimal
    stored_byte_hours: Decimal


class Keeping:
    """What is kept, hour by hour. In an hour, the replica that holds most stands for what is local once. Bound: one sum for
    each partition."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], list[Decimal]] = defaultdict(lambda: [ZERO] * len(Kept._fields))

    def add_hour(self, rows: Iterable[LedgerRow]) -> None:
        """All rows of an hour at once."""
        local: dict[tuple[str, int], list[LedgerRow]] = defaultdict(list)
        stored: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
        for row in rows:
            if row.kind == Kind.LOCAL and row.topic:
                local[row.topic, row.partition].append(row)
            elif row.kind == Kind.STORED and row.topic:
                stored[row.topic, row.partition] += Decimal(row.byte_hours)
        for key in local.keys() | stored.keys():
            self._add(key, local.get(key, []), stored.get(key, ZERO))

    def _add(self, key: tuple[str, int], replicas: list[LedgerRow], stored: Decimal) -> None:
        fullest = max(replicas, key=lambda row: row.byte_hours, default=None)
        only_local = ZERO
        if fullest is not None:
            only_local = max(Decimal(fullest.byte_hours) - fullest.duplicated_bytes, ZERO)
        once = stored + only_local
        count = len({row.broker_id for row in replicas}) or 1
        of_hour = (once, once * count, sum((Decimal(row.byte_hours) for row in replicas), ZERO), stored)
        total = self._sums[key]
        for position, value in enumerate(of_hour):
            total[position] += value

    def kept(self) -> dict[tuple[str, int], Kept]:
        """By topic and partition."""
        return {key: Kept(*total) for key, total in self._sums.items()}


def without_tier(
    held: Mapping[tuple[str, int], Kept], network: Mapping[Item, Decimal], book: Book, hours: int
) -> dict[Item, Decimal]:
    """By item: disks that are ``disk_fill_percent`` full with all that is kept, on every replica; the network as it is."""
    if not hours:
        return {}
    gb_months = sum((each.replicas_byte_hours for each in held.values()), ZERO) / GB / book.month_hours
    price = book.disk_per_gb_month * book.factor("disk")
    bought_gb_months = gb_months * 100 / book.disk_fill_percent
    return {
        Item.DISK: gb_months * price,
        Item.DISK_FREE: (bought_gb_months - gb_months) * price,
        **network,
    }
