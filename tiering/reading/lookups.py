"""Look-ups in the tier other than a Fetch: by offset, by timestamp, the largest timestamp, aborted transactions, lineage and
producer snapshot.

The tier finds *batches*; the caller, who can open records, finds the matching record in a batch. All of these may have to
wait for the store; the caller bounds them with its own timeout, and may cancel them without harm.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from tiering.batches import HEADER_BYTES, check_extent, extent, max_timestamp
from tiering.codec import AbortedTransaction
from tiering.model import SegmentEntry
from tiering.reading.reader import RemotePartition, RemoteReader

# How much is looked at at a time: the index leads close to what is sought.
WALK_BYTES = 1 << 20


class RemoteBatch(NamedTuple):
    """One whole batch, verbatim."""

    base_offset: int
    end_offset: int
    """Exclusive."""
    data: memoryview


class _Extent(NamedTuple):
    entry: SegmentEntry
    position: int
    size_bytes: int
    base_offset: int
    end_offset: int
    max_timestamp_ms: int


class RemoteLookups:
    """Asks the footers and batches of one reader's cache."""

    def __init__(self, reader: RemoteReader) -> None:
        self._reader = reader

    async def aborted_transactions(
        self, partition: RemotePartition, start_offset: int, end_offset: int
    ) -> list[AbortedTransaction]:
        """All that overlap ``[start_offset, end_offset)``, in order of their last offset. Reads only the footers of
        flagged segments, since each footer lists every transaction that overlaps its segment."""
        found: dict[AbortedTransaction, None] = {}
        for entry in partition.catalog.overlapping(start_offset, end_offset):
            if entry.has_aborted_transactions:
                footer = await self._reader.open_footer(partition.keys, entry)
                found |= dict.fromkeys(footer.aborted_in(start_offset, end_offset))
        return sorted(found, key=lambda a: (a.last_offset, a.producer_id))

    async def batch_at_timestamp(
        self, partition: RemotePartition, timestamp_ms: int, *, from_offset: int | None = None
    ) -> RemoteBatch | None:
        """The first batch that ends above ``from_offset`` (default: the log start) and whose largest
        timestamp is >= ``timestamp_ms``. None if the tier has none.

        If the batch reaches below the log start, its matching record may be invisible: go on with
        ``from_offset`` at the batch's end."""
        catalog = partition.catalog
        start = max(catalog.start, from_offset if from_offset is not None else catalog.start)
        entry = catalog.find_by_timestamp(timestamp_ms, start)
        while entry is not None:
            footer = await self._reader.open_footer(partition.keys, entry)
            search = max(footer.offset_before_timestamp(timestamp_ms), start)
            async for batch in self._walk(partition, entry, footer.position_before(search)):
                if batch.end_offset > start and batch.max_timestamp_ms >= timestamp_ms:
                    return await self._load(partition, batch)
            entry = catalog.find_by_timestamp(timestamp_ms, entry.end_offset)
        return None

    async def batch_of_max_timestamp(self, partition: RemotePartition) -> RemoteBatch | None:
        """The first batch wholly at or above the log start that holds the largest timestamp there; None if no record
        has one. For a batch that the log start cuts (see ``batch_at``), only its records can tell."""
        catalog = partition.catalog
        best: _Extent | None = None
        for entry in catalog.by_max_timestamp():
            if best is not None and entry.max_timestamp_ms <= best.max_timestamp_ms:
                continue
            footer = await self._reader.open_footer(partition.keys, entry)
            offset = footer.offset_of_max_timestamp
            position = footer.position_before(max(offset, catalog.start))
            async for batch in self._walk(partition, entry, position):
                visible = batch.base_offset >= catalog.start
                if visible and (best is None or batch.max_timestamp_ms > best.max_timestamp_ms):
                    best = batch
                if best is not None and best.max_timestamp_ms == entry.max_timestamp_ms:
                    break
        return await self._load(partition, best) if best and best.max_timestamp_ms >= 0 else None

    async def batch_at(self, partition: RemotePartition, offset: int) -> RemoteBatch | None:
        """The batch that holds ``offset``; None outside the live tier."""
        entry = partition.catalog.find(offset)
        while entry is not None:
            footer = await self._reader.open_footer(partition.keys, entry)
            async for batch in self._walk(partition, entry, footer.position_before(offset)):
                if batch.end_offset > offset:
                    return await self._load(partition, batch)
            entry = partition.catalog.next(entry)
        return None

    async def lineage(self, partition: RemotePartition) -> tuple[tuple[int, int], ...]:
        """(leader epoch, start offset) of all epochs below the tiered end, oldest first; it may reach below
        the log start. Empty without live entries."""
        last = partition.catalog.last
        if last is None:
            return ()
        return (await self._reader.open_footer(partition.keys, last)).lineage

    async def producer_snapshot(self, partition: RemotePartition) -> bytes:
        """Kafka's producer snapshot as of the tiered end; empty without live entries."""
        last = partition.catalog.last
        if last is None:
            return b""
        return (await self._reader.open_footer(partition.keys, last)).producer_snapshot

    async def _walk(
        self, partition: RemotePartition, entry: SegmentEntry, position: int
    ) -> AsyncIterator[_Extent]:
        """The batches of one object from ``position`` (a batch start) on. Loads ``WALK_BYTES`` at a time, parses headers."""
        window, window_start = memoryview(b""), position
        while position < entry.data_bytes:
            at = position - window_start
            if at + HEADER_BYTES > len(window):
                window_start, at = position, 0
                end = min(position + WALK_BYTES, entry.data_bytes)
                window = await self._reader.load_bytes(partition.keys, entry, position, end)
            base, end_offset, size = extent(window, at)
            check_extent(base, end_offset, size)
            yield _Extent(entry, position, size, base, end_offset, max_timestamp(window, at))
            position += size

    async def _load(self, partition: RemotePartition, batch: _Extent) -> RemoteBatch:
        end = batch.position + batch.size_bytes
        data = await self._reader.load_bytes(partition.keys, batch.entry, batch.position, end)
        return RemoteBatch(batch.base_offset, batch.end_offset, data)
