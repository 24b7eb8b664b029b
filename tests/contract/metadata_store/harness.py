"""What a backend has to offer so that the contract can be checked on it; one subclass per backend.

etcd is added by another subclass: ``advance`` really waits, ``compact`` asks the server, a lost answer is a
cut connection.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path

from tierlog.metadata.memory import MemoryStore
from tierlog.metadata.sqlite import SqliteStore
from tierlog.metadata.store import MetadataStore, Put, Txn


class Harness(ABC):
    store: MetadataStore

    @abstractmethod
    async def open(self) -> None: ...

    async def close(self) -> None:
        await self.store.close()

    @abstractmethod
    async def advance(self, elapsed_ms: int) -> None:
        """Lets time pass for leases; returns when what is over by then is gone."""

    @abstractmethod
    async def compact(self) -> None:
        """Makes the store forget revision 2 and some more."""

    @abstractmethod
    def lose_next_outcome(self, *, applied: bool) -> None:
        """The next transaction's outcome is not learned."""


class MemoryHarness(Harness):
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    async def open(self) -> None:
        self.store = self.memory = MemoryStore(lambda: self.now_ms)

    async def advance(self, elapsed_ms: int) -> None:
        self.now_ms += elapsed_ms
        self.memory.expire()

    async def compact(self) -> None:
        self.memory.compact()

    def lose_next_outcome(self, *, applied: bool) -> None:
        self.memory.lose_next_outcome(applied=applied)


class SqliteHarness(Harness):
    HISTORY_REVISIONS = 200

    def __init__(self, directory: Path) -> None:
        self.path = directory / "metadata.db"
        self.now_ms = 1_000_000
        self.fail_at: str | None = None

    async def open(self) -> None:
        self.store = await SqliteStore.open(
            self.path, now_ms=lambda: self.now_ms, history_revisions=self.HISTORY_REVISIONS, at=self._at
        )

    def _at(self, point: str) -> None:
        if point == self.fail_at:
            self.fail_at = None
            raise sqlite3.OperationalError("disk I/O error")

    async def advance(self, elapsed_ms: int) -> None:
        self.now_ms += elapsed_ms
        # Any locked request ends what is over; this one asks for a lease that never existed.
        await self.store.keepalive(1)

    async def compact(self) -> None:
        puts = (self.store.txn(Txn((), (Put("/filler", b"x"),))) for _ in range(2 * self.HISTORY_REVISIONS))
        await asyncio.gather(*puts)

    def lose_next_outcome(self, *, applied: bool) -> None:
        self.fail_at = "committed" if applied else "written"
