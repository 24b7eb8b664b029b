"""A queue in which partitions take turns, and within a partition its clients. Pure.

So whoever asks for much waits behind himself. What a client asks for stays in order. Between two turns of a partition, each
other one that waits has one; between two turns of a client, each other client of its partition has one. So the first item
of a client waits for at most as many turns as there are partitions, times the clients of its own.
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

    def add(self, partition: Hashable, client: Hashable, item: T) -> None:
        items = self._turns.setdefault(partition, OrderedDict()).setdefault(client, OrderedDict())
        assert item not in items
        items[item] = None
        self._count += 1

    def first(self) -> T | None:
        """The item whose turn it is."""
        for clients in self._turns.values():
            return next(iter(next(iter(clients.values()))))
        return None

    def take(self) -> T:
        """Removes the first item; its partition and its client go to the end."""
        partition, clients = next(iter(self._turns.items()))
        client, items = next(iter(clients.items()))
        item = next(iter(items))
        self.remove(partition, client, item)
        if partition in self._turns:
            self._turns.move_to_end(partition)
            if client in clients:
                clients.move_to_end(client)
        return item

    def remove(self, partition: Hashable, client: Hashable, item: T) -> None:
        """The item waits no more; the turns of the others stay as they are."""
        clients = self._turns[partition]
        items = clients[client]
        del items[item]
        self._count -= 1
        if not items:
            del clients[client]
        if not clients:
            del self._turns[partition]
