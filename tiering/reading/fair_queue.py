"""A queue in which partitions take turns, and within a partition its readers. Pure.

So whoever asks for much waits behind himself: an item is passed over by at most one of each other reader of its
partition per round, and by one of each other partition per turn of its own. What a reader asks for stays in order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    def __init__(self) -> None:
        self._turns: OrderedDict[Hashable, OrderedDict[Hashable, OrderedDict[T, None]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, partition: Hashable, reader: Hashable, item: T) -> None:
        items = self._turns.setdefault(partition, OrderedDict()).setdefault(reader, OrderedDict())
        assert item not in items
        items[item] = None
        self._count += 1

    def first(self) -> T | None:
        """The item whose turn it is."""
        for readers in self._turns.values():
            return next(iter(next(iter(readers.values()))))
        return None

    def take(self) -> T:
        """Removes the first item; its partition and its reader go to the end."""
        partition, readers = next(iter(self._turns.items()))
        reader, items = next(iter(readers.items()))
        item = next(iter(items))
        self.remove(partition, reader, item)
        if partition in self._turns:
            self._turns.move_to_end(partition)
            if reader in readers:
                readers.move_to_end(reader)
        return item

    def remove(self, partition: Hashable, reader: Hashable, item: T) -> None:
        """The item waits no more; the turns of the others stay as they are."""
        readers = self._turns[partition]
        items = readers[reader]
        del items[item]
        self._count -= 1
        if not items:
            del readers[reader]
        if not readers:
            del self._turns[partition]
