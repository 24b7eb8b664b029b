"""Reads that one pass of a Fetch could not do at once: from the disk, or from the remote tier.

The memory of reads from the disk is reserved in ``reply_memory`` when they begin, that of remote ones, whose chunks the tier
counts, when they have come; it is given back when all have ended, just before the reply is handed to its connection. If the
client disconnects, nobody waits any more: a thread that reads ends by itself, and what the tier loads is there for the next
Fetch. So is what came when others had taken the memory, or their part of the answer.

Remote reads have a deadline; one that misses it returns no records, and no error. Once one has records, the others are
waited for as long again (``PATIENCE_S`` at least), and not at all where the disk had some: a partition that has to wait
holds up no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.remote_port import RemoteRead
from tierlog.errors import ErrorCode, StorageError
from tierlog.types import Buffer

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts

# Upper bound of the wait, whatever the client allows: the reads hold memory meanwhile.
WAIT_MAX_S = 30.0
# The others are waited for as long at least, once one remote read has records.
PATIENCE_S = 0.02


class Taker(Protocol):
    """The look, which is handed the records of each read."""

    def take_local(self, read: PartitionRead, records: Buffer) -> None:
        """Records from the disk."""

    def take_remote(self, read: PartitionRead, found: RemoteRead) -> bool:
        """Records from the tier; False if the answer has no room for them: the next Fetch finds them in memory."""


class SlowReads:
    """The pass fills ``cold`` (not in the page cache) and ``remote`` (not on this disk); ``start`` reads them."""

    __slots__ = (
        "_began_s",
        "_has_ended",
        "_parts",
        "_patience",
        "_reserved_bytes",
        "_taker",
        "_task",
        "cold",
        "remote",
    )

    def __init__(self, parts: FetchParts, taker: Taker) -> None:
        self._parts = parts
        self._taker = taker
        self._task: asyncio.Task[None] | None = None
        self._reserved_bytes = 0
        # Then all is given back. After a bug in one of them, other reads may still be under way.
        self._has_ended = False
        self._began_s = 0.0
        self._patience: asyncio.Timeout | None = None
        self.cold: list[PartitionRead] = []
        self.remote: list[PartitionRead] = []

    def start(self, max_wait_ms: int, on_end: Callable[[BaseException | None], None]) -> None:
        """``on_end(error)`` is called when all reads have ended; not after ``cancel``."""
        parts = self._parts
        self._reserve(sum(read.cold.size_bytes for read in self.cold if read.cold is not None))
        wait_s = min(max(max_wait_ms, parts.replicas.config.remote_fetch_max_wait_ms) / 1000, WAIT_MAX_S)
        self._began_s = parts.loop.time()
        self._task = parts.background.ask("slow reads", self._read(self._began_s + wait_s))

        def ended(task: asyncio.Task[None]) -> None:
            self._has_ended = True
            parts.reply_memory.give_back(self._reserved_bytes)
            if not task.cancelled():
                on_end(task.exception())

        self._task.add_done_callback(ended)

    def cancel(self) -> None:
        task, self._task = self._task, None  # a cancelled task refers to what it ran
        if task is not None:
            task.cancel()

    async def _read(self, deadline_s: float) -> None:
        await asyncio.gather(self._read_all_cold(), self._read_all_remote(deadline_s))

    async def _read_all_cold(self) -> None:
        await asyncio.gather(*(self._read_cold(read) for read in self.cold))
        if any(read.size_bytes for read in self.cold):
            self._wait_no_longer_than(0.0)

    async def _read_all_remote(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout_at(None) as self._patience:
                await asyncio.gather(*(self._read_remote(read, deadline_s) for read in self.remote))
        except TimeoutError:
            pass  # the next Fetch finds what is still to come
        finally:
            self._patience = None

    def _wait_no_longer_than(self, wait_s: float) -> None:
        """For the remote reads that have not ended."""
        patience = self._patience
        if patience is not None and not patience.expired():
            until_s = self._parts.loop.time() + wait_s
            patience.reschedule(min(patience.when() or until_s, until_s))

    async def _read_cold(self, read: PartitionRead) -> None:
        partition, found = read.partition, read.cold
        assert partition is not None
        assert found is not None
        try:
            records = await self._parts.cold_reads.run(partition.log.read, found)
        except StorageError as error:
            partition.storage_failed(error)
            read.error = ErrorCode.KAFKA_STORAGE_ERROR
            return
        self._taker.take_local(read, records)

    async def _read_remote(self, read: PartitionRead, deadline_s: float) -> None:
        assert read.remote is not None
        found = await self._parts.remote_reads.read(read.remote, deadline_s)
        memory = self._parts.reply_memory
        if self._has_ended:
            return
        read.error = found.error
        if not found.size_bytes or memory.is_exhausted or not self._taker.take_remote(read, found):
            return  # others have taken the memory, or their part of the answer: the next Fetch has its turn
        self._reserve(found.size_bytes)
        self._wait_no_longer_than(max(self._parts.loop.time() - self._began_s, PATIENCE_S))

    def _reserve(self, size_bytes: int) -> None:
        self._reserved_bytes += size_bytes
        self._parts.reply_memory.reserve(size_bytes)
