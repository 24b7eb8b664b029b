"""Serves old offsets from the object store: catalog → index → chunks → cache or one ranged GET → batches.

Rules:

* A read serves Kafka's bytes verbatim: whole batches, from the one that holds the fetch offset on, as views of cached
  chunks. Concatenated they are the ``records`` of a Fetch response.
* A read is answered at its deadline with what is ready, possibly nothing; slowness is never an error.
* A GET outlives the read that asked for it and fills the cache (one load per chunk at a time).
* A sequential reader is recognised by its offset: its byte position is remembered. Its read-ahead grows while it has to
  wait, up to ``readahead_bytes_max``, across segment borders.
* Every chunk is verified against the footer's checksums before it is served (if it fails, it is fetched once more). A
  missing or corrupt object raises a typed error for this partition alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial

from tiering.batches import HEADER_BYTES
from tiering.catalog import Catalog
from tiering.codec import CRC_CHUNK_BYTES, SegmentFooter
from tiering.errors import CorruptObject
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry
from tiering.objects.port import ObjectStore
from tiering.reading.assembly import Missing, Place, Ready, Taken, locate, take
from tiering.reading.cache import CacheStats, ChunkCache, Slot
from tiering.reading.chunks import (
    CHUNK_BYTES,
    READAHEAD_BYTES_MAX,
    ChunkRef,
    Stream,
    chunk_range,
    chunks_ahead,
    next_window,
)
from tiering.reading.footers import Footers
from tiering.reading.gets import GetStats, RangedGets

STREAMS_MAX = 4096
CACHE_BYTES = 64 << 20
FOOTER_CACHE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class RemotePartition:
    """One partition as the reader sees it: the keys of its objects, and its live segments."""

    keys: PartitionKeys
    catalog: Catalog
    local_start_offset: int | None = None
    """Offsets from here on are read locally: read-ahead stops there."""


@dataclass(slots=True)
class TierRead:
    """The result of one read; treat as frozen."""

    buffers: list[memoryview]
    """Whole batches, verbatim and in order; buffers end where chunks end, not where batches do."""
    size_bytes: int
    next_offset: int
    """Where the next read goes on: behind the last served batch, or the fetch offset if nothing is ready. The tier's end
    when compaction has left no record from the fetch offset on."""


class RemoteReader:
    """Reads of all partitions of one broker through one cache."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        cache_bytes: int = CACHE_BYTES,
        footer_cache_bytes: int = FOOTER_CACHE_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
        readahead_bytes_max: int = READAHEAD_BYTES_MAX,
    ) -> None:
        assert chunk_bytes % CRC_CHUNK_BYTES == 0
        self.chunk_bytes = chunk_bytes
        self.served_bytes = 0
        self._readahead_bytes_max = readahead_bytes_max
        self._gets = RangedGets(store)
        self._footers = Footers(self._gets, footer_cache_bytes)
        self._cache = ChunkCache(cache_bytes)
        self._streams: OrderedDict[tuple[PartitionKeys, int], Stream] = OrderedDict()

    @property
    def stats(self) -> GetStats:
        return self._gets.stats

    @property
    def cache_stats(self) -> CacheStats:
        return self._cache.stats

    @property
    def cached_bytes(self) -> int:
        return self._cache.used_bytes

    def resize_footers(self, budget_bytes: int) -> None:
        """Change the memory budget of footers from now on."""
        self._footers.resize(budget_bytes)

    # the Ready protocol of tiering.reading.assembly ---------------------------------------------------------------

    def footer(self, entry: SegmentEntry) -> SegmentFooter | None:
        return self._footers.get(entry)

    def chunk(self, ref: ChunkRef) -> memoryview | None:
        return self._cache.get(ref.key)

    def large_batch(self, entry: SegmentEntry, position: int) -> memoryview | None:
        return self._cache.get(_large_key(entry, position))

    # reading ----------------------------------------------------------------------------------------------

    def read_now(
        self, partition: RemotePartition, fetch_offset: int, max_bytes: int, *, min_one_batch: bool = True
    ) -> TierRead | None:
        """What can be served without waiting, or None when something is missing. Continues read-ahead but starts no
        demand load. ``fetch_offset`` must lie in ``[catalog.start, catalog.end)``."""
        read = self._attempt(self, partition, fetch_offset, max_bytes, min_one_batch)
        return None if isinstance(read, Missing) else read

    async def read(
        self,
        partition: RemotePartition,
        fetch_offset: int,
        max_bytes: int,
        *,
        deadline: float,
        min_one_batch: bool = True,
    ) -> TierRead:
        """Whole batches from ``fetch_offset`` on, up to ``max_bytes`` (the first batch whole even if larger,
        when ``min_one_batch``); ``deadline`` in the loop's time. Empty when nothing is ready by then.

        ``fetch_offset`` must lie in ``[catalog.start, catalog.end)``. Raises ``NotFound`` and
        ``CorruptObject``, other ``ObjectStoreError`` when the store refuses."""
        ready: Ready = self
        held: dict[Hashable, Slot] = {}
        while True:
            read = self._attempt(ready, partition, fetch_offset, max_bytes, min_one_batch)
            if not isinstance(read, Missing):
                return read
            task = self._demand(partition.keys, read, held)
            left = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait((task,), timeout=max(left, 0))
            if not done:
                return TierRead([], 0, fetch_offset)
            task.result()
            ready = _Held(self, held)

    def _attempt(
        self,
        ready: Ready,
        partition: RemotePartition,
        fetch_offset: int,
        max_bytes: int,
        min_one_batch: bool,
    ) -> TierRead | Missing:
        catalog = partition.catalog
        stream = self._streams.get((partition.keys, fetch_offset))
        if stream is not None and stream.entry.end_offset > catalog.start:
            place: Place | Missing | None = Place(stream.entry, stream.position)
        else:
            stream = None
            place = locate(ready, catalog, fetch_offset)
        if isinstance(place, Missing):
            return place
        if place is None:
            return TierRead([], 0, catalog.end)
        buffers: list[memoryview] = []
        size, next_offset, cut_short = 0, fetch_offset, False
        while True:
            taken = take(
                ready, place, next_offset, max_bytes - size, min_one_batch=min_one_batch and not size
            )
            if isinstance(taken, Missing):
                if not size:
                    return taken
                cut_short = True
                break
            buffers += taken.buffers
            size += taken.size_bytes
            next_offset = taken.next_offset
            self._finish_chunks(place, taken)
            place = Place(place.entry, place.position + taken.size_bytes)
            if place.position < place.entry.data_bytes or max_bytes - size < HEADER_BYTES:
                break
            following = catalog.next(place.entry)
            if following is None:
                break
            place = Place(following, 0)
        self.served_bytes += size
        if size:
            has_waited = ready is not self or cut_short
            self._go_on(partition, fetch_offset, next_offset, place, stream, has_waited)
        return TierRead(buffers, size, next_offset)

    def _finish_chunks(self, place: Place, taken: Taken) -> None:
        """The chunks whose end this read reached may be evicted first."""
        end = place.position + taken.size_bytes
        stop = end // self.chunk_bytes if end < place.entry.data_bytes else -(-end // self.chunk_bytes)
        if taken.size_bytes > self.chunk_bytes:
            self._cache.finish(_large_key(place.entry, place.position))
        for number in range(place.position // self.chunk_bytes, stop):
            self._cache.finish((place.entry.uuid, number))

    def _go_on(
        self,
        partition: RemotePartition,
        fetch_offset: int,
        next_offset: int,
        place: Place,
        stream: Stream | None,
        has_waited: bool,
    ) -> None:
        """Remember where the reader goes on; read ahead if it reads in sequence."""
        entry, position = place
        if position >= entry.data_bytes:
            following = partition.catalog.next(entry)
            if following is None:
                return
            entry, position = following, 0
        evictions = self._cache.unread_evictions
        window = next_window(
            stream,
            has_waited=has_waited,
            unread_evictions=evictions,
            chunk_bytes=self.chunk_bytes,
            window_bytes_max=self._readahead_bytes_max,
        )
        if stream is not None:
            self._streams.move_to_end((partition.keys, fetch_offset))
        self._streams[partition.keys, next_offset] = Stream(entry, position, window, evictions)
        if len(self._streams) > STREAMS_MAX:
            self._streams.popitem(last=False)
        if window:
            self._read_ahead(partition, entry, position, window)

    def _read_ahead(
        self, partition: RemotePartition, entry: SegmentEntry, position: int, window_bytes: int
    ) -> None:
        local = partition.local_start_offset
        stop = partition.catalog.end if local is None else local
        keys = partition.keys
        for ref in chunks_ahead(partition.catalog, entry, position, window_bytes, stop, self.chunk_bytes):
            if ref.key in self._cache:
                continue
            start, end = chunk_range(ref, self.chunk_bytes)
            fetch = partial(self._fetch, keys, ref.entry, start, end, True)
            if not self._cache.read_ahead(ref.key, end - start, fetch):
                return

    # loading ----------------------------------------------------------------------------------------------

    def _demand(
        self, keys: PartitionKeys, missing: Missing, held: dict[Hashable, Slot]
    ) -> asyncio.Future[SegmentFooter] | asyncio.Future[None]:
        """The task that loads what is missing; its slot is added to ``held``."""
        entry, position, size = missing
        if position is None:
            return self._footers.load(keys, entry)
        if size:
            key, start, end = _large_key(entry, position), position, position + size
        else:
            ref = ChunkRef(entry, position // self.chunk_bytes)
            key, (start, end) = ref.key, chunk_range(ref, self.chunk_bytes)
        slot = self._cache.demand(key, end - start, partial(self._fetch, keys, entry, start, end, False))
        assert slot.task is not None
        held[key] = slot
        return slot.task

    async def _fetch(
        self, keys: PartitionKeys, entry: SegmentEntry, start: int, end: int, is_ahead: bool
    ) -> memoryview:
        """The bytes [start, end) of the object's data, verified."""
        key = keys.segment(entry)
        opening = None
        if self._footers.get(entry) is None:
            opening = self._footers.load(keys, entry, is_ahead=is_ahead)
        first = start - start % CRC_CHUNK_BYTES
        last = min(-(-end // CRC_CHUNK_BYTES) * CRC_CHUNK_BYTES, entry.data_bytes)
        data = await self._gets.get_range(key, first, last, is_ahead=is_ahead)
        footer = await (asyncio.shield(opening) if opening else self._footers.open(keys, entry))
        try:
            footer.verify(data, first, key)
        except CorruptObject:
            data = await self._gets.get_range(key, first, last, is_ahead=is_ahead)
            footer.verify(data, first, key)
        return data[start - first : end - first]

    # other facts of the tier ------------------------------------------------------------------------------

    async def open_footer(self, keys: PartitionKeys, entry: SegmentEntry) -> SegmentFooter:
        """Index, lineage, aborted transactions and producer snapshot of one segment."""
        return await self._footers.open(keys, entry)

    async def load_bytes(self, keys: PartitionKeys, entry: SegmentEntry, start: int, end: int) -> memoryview:
        """The bytes [start, end) of the object's data through the cache, as one buffer."""
        parts: list[memoryview] = []
        position = start
        while position < end:
            ref = ChunkRef(entry, position // self.chunk_bytes)
            chunk_start, chunk_end = chunk_range(ref, self.chunk_bytes)
            chunk = self._cache.get(ref.key)
            if chunk is None:
                held: dict[Hashable, Slot] = {}
                task = self._demand(keys, Missing(entry, position), held)
                await asyncio.wait((task,))
                task.result()
                chunk = held[ref.key].data
                assert chunk is not None
            parts.append(chunk[position - chunk_start : end - chunk_start])
            position = min(chunk_end, end)
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def forget(self, keys: PartitionKeys) -> None:
        """Drop the positions of a partition that is no longer served here."""
        for key in [k for k in self._streams if k[0] == keys]:
            del self._streams[key]

    async def close(self) -> None:
        """Cancel loads and read-ahead."""
        await self._cache.close()
        await self._footers.close()


class _Held:
    """The memory view of one read: the cache, and the slots that the read waited for, evicted or not."""

    def __init__(self, reader: RemoteReader, held: dict[Hashable, Slot]) -> None:
        self.chunk_bytes = reader.chunk_bytes
        self._reader = reader
        self._held = held

    def footer(self, entry: SegmentEntry) -> SegmentFooter | None:
        return self._reader.footer(entry)

    def chunk(self, ref: ChunkRef) -> memoryview | None:
        slot = self._held.get(ref.key)
        return self._reader.chunk(ref) if slot is None else slot.data

    def large_batch(self, entry: SegmentEntry, position: int) -> memoryview | None:
        slot = self._held.get(_large_key(entry, position))
        return self._reader.large_batch(entry, position) if slot is None else slot.data


def _large_key(entry: SegmentEntry, position: int) -> tuple[bytes, int]:
    """Cache key of one batch larger than a chunk; never equal to a chunk's key."""
    return entry.uuid, -1 - position
