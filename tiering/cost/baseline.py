"""What was kept, counted once, and what it would cost if all of it lay on the brokers' disks, as without a tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from tiering.cost.prices import GB, ZERO, Book
from tiering.cost.usage import Item
from tiering.ledger.rows import Kind, LedgerRow


class Kept(NamedTuple):
    """In byte-hours. ``once``: each byte once, be it local, remote, or both; ``replicas``: once for each replica that the
    hours told of; ``local``: on the disks of all replicas."""

    once_byte_hours: Decimal
    replicas_byte_hours: Decimal
    local_byte_hours: Decimal


@dataclass(slots=True)
class _Partition:
    """What an hour tells of it. ``fullest``: bytes that the replica which holds most has, of which ``duplicated``."""

    fullest_byte_hours: float = -1.0
    duplicated_bytes: int = 0
    broker_ids: tuple[int, ...] = ()
    stored_byte_hours: Decimal = ZERO


class Keeping:
    """What is kept, hour by hour. In an hour, the replica that holds most stands for what is local once. Bound: an entry for
    each partition of one hour."""

    def __init__(self) -> None:
        self._once = self._replicas = self._local = ZERO
        self._together: dict[tuple[int, ...], tuple[int, ...]] = {}
        """Brokers that have replicas of the same partitions: each such group once."""
        self._of_hour: dict[tuple[str, int], _Partition] = {}

    def begin_hour(self, hour_ms: int) -> None:
        pass

    def add(self, rows: Sequence[LedgerRow]) -> None:
        for row in rows:
            if not row.topic or row.kind not in (Kind.LOCAL, Kind.STORED):
                continue
            key = row.topic, row.partition
            if (one := self._of_hour.get(key)) is None:
                one = self._of_hour[key] = _Partition()
            if row.kind == Kind.STORED:
                one.stored_byte_hours += Decimal(row.byte_hours)
                continue
            self._local += Decimal(row.byte_hours)
            if row.broker_id not in one.broker_ids:
                together = (*one.broker_ids, row.broker_id)
                one.broker_ids = self._together.setdefault(together, together)
            if row.byte_hours > one.fullest_byte_hours:
                one.fullest_byte_hours, one.duplicated_bytes = row.byte_hours, row.duplicated_bytes

    def end_hour(self) -> None:
        for one in self._of_hour.values():
            only_local = max(Decimal(one.fullest_byte_hours) - one.duplicated_bytes, ZERO)
            once = one.stored_byte_hours + only_local
            self._once += once
            self._replicas += once * (len(one.broker_ids) or 1)
        self._of_hour.clear()
        self._together.clear()

    def kept(self) -> Kept:
        """Of all partitions."""
        return Kept(self._once, self._replicas, self._local)


def without_tier(kept: Kept, network: Mapping[Item, Decimal], book: Book, hours: int) -> dict[Item, Decimal]:
    """By item: disks that are ``disk_fill_percent`` full with all that is kept, on every replica; the network as it is."""
    if not hours:
        return {}
    gb_months = kept.replicas_byte_hours / GB / book.month_hours
    price = book.disk_per_gb_month * book.factor("disk")
    bought_gb_months = gb_months * 100 / book.disk_fill_percent
    return {
        Item.DISK: gb_months * price,
        Item.DISK_FREE: (bought_gb_months - gb_months) * price,
        **network,
    }
