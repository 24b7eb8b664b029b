"""What reading a range of time again costs, before it is read: GETs and retrieval by class.

A catalog tells which segments hold the range. The ledger alone knows how much lies in each class, not of which time: then
the newest bytes are on disk, the next ones in the warmest class, the oldest in the coldest, and each day holds as much as
is written a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from tiering.cost.prices import CLASSES, GB, ZERO, Book
from tiering.cost.profile import Profile


class Read(NamedTuple):
    """Of one class; an empty name is the brokers' disks."""

    storage_class: str
    read_bytes: int
    gets: int
    requests_cost: Decimal
    retrieval_cost: Decimal

    @property
    def cost(self) -> Decimal:
        return self.requests_cost + self.retrieval_cost


class Amount(NamedTuple):
    """What is read of one class."""

    read_bytes: int
    gets: int


def evenly(by_class: Mapping[str, int], get_bytes: int) -> dict[str, Amount]:
    """As if each GET, but the last of a class, read ``get_bytes``; disks need none."""
    return {name: Amount(size, -(-size // get_bytes) if name else 0) for name, size in by_class.items()}


def bytes_between(profile: Profile, from_days: float, to_days: float) -> dict[str, int]:
    """Bytes by class of records from ``from_days`` ago to ``to_days`` ago; the empty name is what disks have."""
    written = profile.written_per_day
    on_disk = profile.local_bytes / profile.replicas
    behind = max(profile.once_bytes - on_disk, 0.0)
    held: list[tuple[str, float]] = []
    # From the coldest up: what disks have as well is in the warmest.
    for name in sorted(profile.remote_bytes, key=CLASSES.index, reverse=True):
        held.append((name, min(profile.remote_bytes[name], behind)))
        behind -= held[-1][1]
    held.append(("", on_disk))
    if not written:
        # Nothing is known of its ages: all of it.
        return {name: int(there) for name, there in held}
    found, newest = {}, 0.0
    for name, there in reversed(held):
        oldest = newest + there / written
        days = min(oldest, from_days) - max(newest, to_days)
        if days > 0:
            found[name] = int(days * written)
        newest = oldest
    return found


def price_replay(by_class: Mapping[str, Amount], book: Book) -> list[Read]:
    """An empty name is the brokers' disks, which cost nothing to read."""
    found = []
    for name, (read_bytes, gets) in by_class.items():
        if not name:
            found.append(Read("", read_bytes, 0, ZERO, ZERO))
            continue
        price = book.class_of(name)
        requests = gets * price.request("get") * book.factor("requests")
        moved = Decimal(read_bytes) / GB
        retrieval = moved * price.retrieval_per_gb * book.factor("retrieval")
        transfer = moved * book.network.store_per_gb * book.factor("network")
        found.append(Read(name, read_bytes, gets, requests, retrieval + transfer))
    return found
