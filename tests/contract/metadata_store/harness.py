"""What a backend has to offer so that the contract can be checked on it; one subclass per backend."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path

from tests.servers.etcd import Admin, Member
from tests.servers.grpc_proxy import Cut, GrpcProxy
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.stores.port import MetadataStore
from tierlog.metadata.stores.sqlite import SqliteStore
from tierlog.metadata.transactions import Put, Txn


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


class _TimedStore(EtcdStore):
    """Knows when its leases are over by the harness's clock."""

    def __init__(self, settings: EtcdSettings) -> None:
        super().__init__(settings)
        self.now_ms = 0
        self.leases: dict[int, tuple[int, int]] = {}  # its time to live, and when it is over

    async def grant(self, ttl_ms: int) -> int:
        lease = await super().grant(min(ttl_ms, EtcdHarness.LONGEST_LEASE_MS))
        self.leases[lease] = (ttl_ms, self.now_ms + ttl_ms)
        return lease

    async def keepalive(self, lease: int) -> bool:
        is_alive = await super().keepalive(lease)
        if is_alive:
            ttl_ms, _ = self.leases[lease]
            self.leases[lease] = (ttl_ms, self.now_ms + ttl_ms)
        return is_alive

    async def extend(self, lease: int) -> bool:
        """In etcd alone: by the harness's clock it is not over yet."""
        return await super().keepalive(lease)


class EtcdHarness(Harness):
    """A server shared by all tests, each under a prefix of its own, through a proxy that can lose answers. Time
    really passes until etcd ends a lease; what is not over by the harness's clock is kept alive meanwhile."""

    LONGEST_LEASE_MS = 2000

    def __init__(self, member: Member, prefix: str) -> None:
        self._member = member
        self._prefix = prefix

    async def open(self) -> None:
        self.admin = Admin(self._member)
        self.proxy = GrpcProxy(self._member.client_port)
        await self.proxy.start()
        settings = EtcdSettings((self.proxy.address,), self._prefix)
        self.store = self.timed = await _TimedStore.open(settings)

    async def close(self) -> None:
        for lease in self.timed.leases:
            await self.store.revoke(lease)
        await super().close()
        await self.proxy.close()
        await self.admin.__aexit__(None, None, None)

    async def advance(self, elapsed_ms: int) -> None:
        store = self.timed
        store.now_ms += elapsed_ms
        while True:
            alive = await self.admin.leases()
            over = {lease for lease, (_, end_ms) in store.leases.items() if end_ms <= store.now_ms}
            if not over & alive:
                return
            for lease in alive & store.leases.keys() - over:
                await store.extend(lease)
            await asyncio.sleep(0.05)

    async def compact(self) -> None:
        filler = await self.store.txn(Txn((), (Put("/filler", b"x"),)))
        await self.admin.compact(filler.revision)

    def lose_next_outcome(self, *, applied: bool) -> None:
        self.proxy.cut_next(f"{self._prefix}/a".encode(), Cut.AFTER if applied else Cut.BEFORE)
