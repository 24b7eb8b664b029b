"""Reads that one pass of a Fetch could not do at once: from the disk, or from the remote tier.

Their memory is reserved in ``reply_memory`` when the reads begin, and given back when they end, just before the reply is
handed to its connection. Remote reads have a deadline; one that misses it returns no records, and no error. If the
client disconnects, all reads are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.errors import ErrorCode, StorageError
from tierlog.types import Buffer

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts

# Upper bound of the wait, whatever the client allows: the reads hold memory meanwhile.
WAIT_MAX_S = 30.0
# Reserved at least per remote read: the first batch is returned whole, and its size is not known yet.
ONE_BATCH_BYTES = 64 * 1024

Take = Callable[[PartitionRead, "Buffer | list[Buffer]", int], None]


class SlowReads:
    """The pass fills ``cold`` (not in the page cache) and ``remote`` (not on this disk); ``start`` reads them."""

    __slots__ = ("_parts", "_reserved_bytes", "_take", "_task", "cold", "remote")

    def __init__(self, parts: FetchParts, take: Take) -> None:
        """``take(read, records, size_bytes)`` is called with the records of each read."""
        self._parts = parts
        self._take = take
        self._task: asyncio.Task[None] | None = None
        self._reserved_bytes = 0
        self.cold: list[PartitionRead] = []
        self.remote: list[PartitionRead] = []

    def start(self, max_wait_ms: int, on_end: Callable[[BaseException | None], None]) -> None:
        """``on_end(error)`` is called when all reads have ended; not after ``cancel``."""
        parts = self._parts
        self._reserved_bytes = sum(read.cold.size_bytes for read in self.cold if read.cold is not None)
        self._reserved_bytes += sum(max(read.max_bytes, ONE_BATCH_BYTES) for read in self.remote)
        parts.reply_memory.reserve(self._reserved_bytes)
        wait_s = min(max(max_wait_ms, parts.replicas.config.remote_fetch_max_wait_ms) / 1000, WAIT_MAX_S)
        self._task = parts.background.ask("slow reads", self._read(parts.loop.time() + wait_s))

        def ended(task: asyncio.Task[None]) -> None:
            parts.reply_memory.give_back(self._reserved_bytes)
            if not task.cancelled():
                on_end(task.exception())

        self._task.add_done_callback(ended)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _read(self, deadline_s: float) -> None:
        await asyncio.gather(
            *(self._read_cold(read) for read in self.cold),
            *(self._read_remote(read, deadline_s) for read in self.remote),
        )

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
        self._take(read, records, len(records))

    async def _read_remote(self, read: PartitionRead, deadline_s: float) -> None:
        partition = read.partition
        assert partition is not None
        result = await self._parts.remote_reads.read(
            partition, read.asked.fetch_offset, read.max_bytes, read.min_one_batch, deadline_s
        )
        read.error = result.error
        if result.size_bytes:
            self._take(read, result.records, result.size_bytes)
            partition.traffic.remote_bytes_out += result.size_bytes
        if read.aborted is not None:
            read.note_aborted(result.aborted)
