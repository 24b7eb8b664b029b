"""Footers of segment objects, opened once and kept while memory allows.

One load per footer at a time; the load outlives its waiters. One exact GET fetches a footer, since the entry tells
where the data ends and how large the object is; none, if the disk cache has it.

The checksums of a footer (4 bytes per MiB of data) are kept for longer than its indexes (1 KiB per MiB): a reader needs them
for every chunk, the indexes only to find its place.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from dataclasses import replace

from tiering.catalog import refuse_lost
from tiering.codec import SegmentFooter
from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import CachedObject, Place
from tiering.errors import CorruptObject
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry
from tiering.reading.gets import IsAhead, RangedGets, never_ahead
from tiering.tasks import begin

# So much of the budget, as its divisor, is for checksums.
CHECKS_SHARE = 4


class Footers:
    """Cache of decoded footers, bounded in bytes."""

    def __init__(self, gets: RangedGets, budget_bytes: int, disk: DiskCache | None = None) -> None:
        self._gets = gets
        self._disk = disk
        self._budget_bytes = budget_bytes
        self._ready: OrderedDict[bytes, SegmentFooter] = OrderedDict()
        self._ready_bytes = 0
        self._checks: OrderedDict[bytes, SegmentFooter] = OrderedDict()
        self._checks_bytes = 0
        self._flights: dict[bytes, asyncio.Future[SegmentFooter]] = {}
        self._askers: dict[bytes, list[IsAhead]] = {}
        """Of each flight; one per chunk that waits for it at most, and one for all readers."""

    def resize(self, budget_bytes: int) -> None:
        """Change the budget from now on."""
        self._budget_bytes = budget_bytes
        self._evict()

    def _evict(self) -> None:
        checks_budget = self._budget_bytes // CHECKS_SHARE
        while self._checks_bytes > checks_budget and len(self._checks) > 1:
            _, evicted = self._checks.popitem(last=False)
            self._checks_bytes -= evicted.memory_bytes
        while self._ready_bytes > self._budget_bytes - checks_budget and len(self._ready) > 1:
            _, evicted = self._ready.popitem(last=False)
            self._ready_bytes -= evicted.memory_bytes

    def get(self, entry: SegmentEntry) -> SegmentFooter | None:
        """The footer if it is ready."""
        footer = self._ready.get(entry.uuid)
        if footer is not None:
            self._ready.move_to_end(entry.uuid)
        return footer

    def checks(self, entry: SegmentEntry) -> SegmentFooter | None:
        """A footer that is good for ``verify``, if one is ready."""
        checks = self._checks.get(entry.uuid)
        if checks is None:
            return self._ready.get(entry.uuid)
        self._checks.move_to_end(entry.uuid)
        return checks

    def load(
        self, keys: PartitionKeys, entry: SegmentEntry, is_ahead: IsAhead = never_ahead
    ) -> asyncio.Future[SegmentFooter]:
        """A task that ends with the footer; never cancel it. Call when ``get`` has none. It is demand as soon as one of
        those who asked for it is."""
        task = self._flights.get(entry.uuid)
        if task is None:
            self._askers[entry.uuid] = []
            task = self._flights[entry.uuid] = begin(self._open(keys, entry))
        askers = self._askers[entry.uuid]
        if is_ahead not in askers:
            askers.append(is_ahead)
        return task

    async def open(
        self, keys: PartitionKeys, entry: SegmentEntry, is_ahead: IsAhead = never_ahead
    ) -> SegmentFooter:
        """The footer, waiting for it. Raises ``NotFound``, ``CorruptObject``, ``UnsupportedFormat``, other
        ``ObjectStoreError``."""
        footer = self.get(entry)
        return footer if footer is not None else await asyncio.shield(self.load(keys, entry, is_ahead))

    async def _open(self, keys: PartitionKeys, entry: SegmentEntry) -> SegmentFooter:
        key, askers = keys.segment(entry), self._askers[entry.uuid]

        def is_ahead() -> bool:
            return all(asker() for asker in askers)

        try:
            refuse_lost(entry)
            place = Place(CachedObject.of(keys, entry), entry.data_bytes, entry.object_bytes)
            kept = await self._disk.read(*place) if self._disk is not None else None
            if kept is None:
                data = await self._gets.get_range(key, place.start, place.end, is_ahead=is_ahead)
            else:
                data = kept
            footer = SegmentFooter.decode(data, key)
            if (footer.base_offset, footer.end_offset, footer.data_bytes) != (
                entry.base_offset,
                entry.end_offset,
                entry.data_bytes,
            ):
                raise CorruptObject(f"{key}: the footer speaks of another segment")
            if kept is None and self._disk is not None:
                # At the first touch: it takes a thousandth of the data, and each read of it needs the footer.
                self._disk.offer(place.object, place.start, data)
            self._keep(entry.uuid, footer)
            return footer
        finally:
            del self._flights[entry.uuid], self._askers[entry.uuid]

    def _keep(self, uuid: bytes, footer: SegmentFooter) -> None:
        before = self._ready.get(uuid)
        self._ready[uuid] = footer
        self._ready_bytes += footer.memory_bytes - (before.memory_bytes if before is not None else 0)
        if uuid not in self._checks:
            checks = _checks_of(footer)
            self._checks[uuid] = checks
            self._checks_bytes += checks.memory_bytes
        self._evict()

    async def close(self) -> None:
        tasks = list(self._flights.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _checks_of(footer: SegmentFooter) -> SegmentFooter:
    """The footer without what takes memory in proportion to its batches."""
    none: array[int] = array("q")
    return replace(
        footer,
        index_offsets=none,
        index_positions=none,
        time_timestamps=none,
        time_offsets=none,
        aborted=(),
        lineage=(),
        producer_snapshot=b"",
    )
