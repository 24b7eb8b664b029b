"""Serves old offsets from the object store: catalog → index → chunks → memory, disk cache or one ranged GET → batches.

Rules:

* A read serves Kafka's bytes verbatim: whole batches, from the one that holds the fetch offset on, as views of cached
  chunks, or as copies where a view would keep much more in memory than is read (``_own``). Concatenated they are the
  ``records`` of a Fetch response.
* A read moves nothing before it is accepted: what the caller cannot use is there for the next read.
* A read is answered at its deadline with what is ready, possibly nothing; slowness is never an error. Its stream keeps its
  place until the next read.
* A GET outlives the read that asked for it and fills the cache (one load per chunk at a time).
* A sequential reader is recognised by its offset: its byte position is remembered. Its read-ahead grows while it has to
  wait, as far as memory allows, across segment borders.
* Every chunk is verified against the footer's checksums before it is served (if it fails, it is fetched once more). A
  missing or corrupt object raises a typed error for this partition alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

from tiering.batches import HEADER_BYTES, WholeBelow
from tiering.catalog import Catalog
from tiering.codec import SegmentFooter
from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import CachedObject
from tiering.errors import CorruptObject
from tiering.keys import PartitionKeys
from tiering.ledger.rows import Cause
from tiering.metering.attribution import Paying, attributed, of_class
from tiering.model import SegmentEntry
from tiering.objects.classes import label_of
from tiering.objects.port import ObjectStore
from tiering.reading.assembly import Missing, Place, Span, index_point, locate, take
from tiering.reading.cache import CacheStats, ChunkCache
from tiering.reading.chunks import CHUNK_BYTES, aligned
from tiering.reading.footers import Footers
from tiering.reading.gets import GetStats, RangedGets
from tiering.reading.holding import Chunk, Reader, Stream, Want
from tiering.reading.pacing import RecentTimes

CACHE_BYTES = 128 << 20
FOOTER_CACHE_BYTES = 16 << 20
# A view that is smaller than this part of what it keeps in memory is copied. A usual Fetch of 1 MiB is larger, also in the
# chunks of 8 MiB that a lone reader gets.
VIEW_SHARE = 10
_LOOKUPS = Reader("look-ups", "")


def _nothing() -> None:
    """There is nothing to go on behind."""


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
    accept: Callable[[], None] = _nothing
    """To be called once the records are used: the reader goes on behind them, and may lose the chunks that it has read."""


class RemoteReader:
    """Reads of all partitions of one broker through one cache."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        cache_bytes: int = CACHE_BYTES,
        footer_cache_bytes: int = FOOTER_CACHE_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
        disk: DiskCache | None = None,
        whole_below: WholeBelow | None = None,
    ) -> None:
        self.served_bytes = 0
        self.whole_below = whole_below
        self._gets = RangedGets(store)
        self._disk = disk
        self._footers = Footers(self._gets, footer_cache_bytes, disk)
        self._cache = ChunkCache(cache_bytes, chunk_bytes, self._fetch, self._keep_shared, self._cut)

    @property
    def stats(self) -> GetStats:
        return self._gets.stats

    @property
    def cache_stats(self) -> CacheStats:
        return self._cache.stats

    @property
    def cached_bytes(self) -> int:
        return self._cache.admission.used_bytes

    @property
    def waiting_count(self) -> int:
        """Streams that wait for memory."""
        return len(self._cache.admission.queue)

    @property
    def unread_evictions(self) -> int:
        """Chunks that were read ahead and had to go before a reader came."""
        return self._cache.admission.unread_evictions

    @property
    def concurrency_limit(self) -> int:
        """How many GETs may run at once now."""
        return self._gets.concurrency_limit

    @property
    def idle_share(self) -> float:
        """The part of the GETs that may run now and that none takes."""
        return self._gets.idle_share

    @property
    def throttle_times(self) -> RecentTimes:
        """Seconds that GETs had to wait for the fetch quota."""
        return self._gets.throttle_times

    def resize_footers(self, budget_bytes: int) -> None:
        """Change the memory budget of footers from now on."""
        self._footers.resize(budget_bytes)

    def set_rate(self, bytes_per_second: int) -> None:
        """The fetch quota (KIP-956); 0: none. Holds at once, for those who wait too."""
        self._gets.set_rate(bytes_per_second)
        self._cache.admission.bytes_per_second = bytes_per_second

    # the Ready protocol of tiering.reading.assembly ---------------------------------------------------------------

    def footer(self, entry: SegmentEntry) -> SegmentFooter | None:
        return self._footers.get(entry)

    def piece(self, entry: SegmentEntry, position: int) -> memoryview | None:
        return self._cache.piece(entry, position)

    # reading ----------------------------------------------------------------------------------------------

    def read_now(
        self,
        partition: RemotePartition,
        fetch_offset: int,
        max_bytes: int,
        *,
        min_one_batch: bool = True,
        reader: Reader | None = None,
    ) -> TierRead | None:
        """What can be served without waiting, or None when something is missing: that is then asked for.
        ``fetch_offset`` must lie in ``[catalog.start, catalog.end)``. Raises, as ``read`` does, why what was asked for
        before could not be loaded."""
        stream = self._cache.find(partition.keys, reader, fetch_offset)
        if stream is not None:
            _tell_failure(stream)
        place = self._place(partition.catalog, stream, fetch_offset)
        read = self._attempt(partition, place, fetch_offset, max_bytes, min_one_batch, reader)
        if isinstance(read, Missing):
            stream, arrival = self._demand(partition, read, stream, fetch_offset, reader)
            if stream is not None and read.position is None and not stream.is_watched:
                stream.is_watched = True
                arrival.add_done_callback(partial(_note_failure, stream))
            return None
        return read

    async def read(
        self,
        partition: RemotePartition,
        fetch_offset: int,
        max_bytes: int,
        *,
        deadline: float,
        min_one_batch: bool = True,
        reader: Reader | None = None,
    ) -> TierRead:
        """Whole batches from ``fetch_offset`` on, up to ``max_bytes`` (the first batch whole even if larger,
        when ``min_one_batch``); ``deadline`` in the loop's time. Empty when nothing is ready by then.

        ``fetch_offset`` must lie in ``[catalog.start, catalog.end)``. ``reader`` tells apart who shares a partition, for
        fairness. Raises ``NotFound`` and ``CorruptObject``, other ``ObjectStoreError`` when the store refuses."""
        loop = asyncio.get_running_loop()
        loaded: SegmentFooter | None = None
        has_waited = False
        while True:
            stream = self._cache.find(partition.keys, reader, fetch_offset)
            if stream is not None and has_waited:
                _tell_failure(stream)
            place = self._place(partition.catalog, stream, fetch_offset, loaded)
            read = self._attempt(partition, place, fetch_offset, max_bytes, min_one_batch, reader, has_waited)
            if not isinstance(read, Missing):
                return read
            has_waited = True
            stream, arrival = self._demand(partition, read, stream, fetch_offset, reader)
            if stream is not None:
                stream.waiting_count += 1
            try:
                await asyncio.wait((arrival,), timeout=max(deadline - loop.time(), 0))
            finally:
                if stream is not None:
                    stream.waiting_count -= 1
            if not arrival.done():
                return TierRead([], 0, fetch_offset)
            if stream is not None:
                stream.failure = None  # it is told here
            try:
                loaded = arrival.result()
            finally:
                del arrival  # its error refers to this frame, which must not refer to it

    def _place(
        self, catalog: Catalog, stream: Stream | None, fetch_offset: int, loaded: SegmentFooter | None = None
    ) -> Place | Missing | None:
        """Where the read begins, from what the stream remembers or from the index; None behind the last batch."""
        point: Place | Missing
        if stream is None or stream.entry is None or stream.entry.end_offset <= catalog.start:
            point = index_point(self, catalog, fetch_offset, loaded)
        else:
            point = Place(stream.entry, stream.position)
            if stream.is_located:
                return point
        return point if isinstance(point, Missing) else locate(self, catalog, fetch_offset, point)

    def _attempt(
        self,
        partition: RemotePartition,
        place: Place | Missing | None,
        fetch_offset: int,
        max_bytes: int,
        min_one_batch: bool,
        reader: Reader | None,
        has_waited: bool = False,
    ) -> TierRead | Missing:
        catalog = partition.catalog
        if isinstance(place, Missing):
            return place
        if place is None:
            return TierRead([], 0, catalog.end)
        buffers: list[memoryview] = []
        size, next_offset = 0, fetch_offset
        used: list[tuple[SegmentEntry, int, int]] = []
        while True:
            taken = take(self, place, next_offset, max_bytes - size, min_one_batch=min_one_batch and not size)
            if isinstance(taken, Missing):
                if not size:
                    return taken
                has_waited = True
                break
            buffers += taken.buffers
            size += taken.size_bytes
            next_offset = taken.next_offset
            read_end = place.position + taken.size_bytes
            used.append((place.entry, place.position, read_end))
            place = Place(place.entry, read_end)
            if place.position < place.entry.data_bytes or max_bytes - size < HEADER_BYTES:
                break
            following = catalog.next(place.entry)
            if following is None:
                break
            place = Place(following, 0)
        if not size:
            return TierRead([], 0, next_offset)
        go_on = partial(self._go_on, partition, reader, fetch_offset, next_offset, place, used, has_waited)
        owned = self._own(buffers, is_at_end=place.position in (0, place.entry.data_bytes))
        return TierRead(owned, size, next_offset, go_on)

    def _own(self, buffers: list[memoryview], *, is_at_end: bool) -> list[memoryview]:
        """Copies of those that would keep much more in memory than they show until a slow client has taken them: a small
        part of a chunk, and where memory is short also what the reader leaves behind and all while others wait.
        ``is_at_end``: it leaves the chunk of the last one too."""
        admission, owned = self._cache.admission, []
        for number, view in enumerate(buffers, 1):
            kept_bytes = memoryview(view.obj).nbytes
            is_left = number < len(buffers) or is_at_end
            is_scarce = bool(admission.queue) or (is_left and admission.is_tight)
            is_copied = kept_bytes > VIEW_SHARE * len(view) or (is_scarce and kept_bytes > len(view))
            owned.append(memoryview(bytes(view)) if is_copied else view)
        return owned

    def _go_on(
        self,
        partition: RemotePartition,
        reader: Reader | None,
        fetch_offset: int,
        offset: int,
        place: Place,
        used: list[tuple[SegmentEntry, int, int]],
        has_waited: bool,
    ) -> None:
        """Remember where the reader goes on, and what it has ``used``; read ahead if it reads in sequence."""
        cache, keys = self._cache, partition.keys
        read_bytes = 0
        for each in used:
            cache.note_read(*each)
            read_bytes += each[2] - each[1]
        self.served_bytes += read_bytes
        # Looked up anew: since the read, the stream may have become idle, or have gone elsewhere.
        stream = cache.find(keys, reader, fetch_offset) or cache.open(keys, reader, fetch_offset)
        if stream is None:
            return
        entry, position = place
        if position >= entry.data_bytes:
            following = partition.catalog.next(entry)
            if following is not None:
                entry, position = following, 0
        cache.go_on(stream, offset, entry, position, read_bytes, has_waited)
        local = partition.local_start_offset
        stop = partition.catalog.end if local is None else local
        cache.read_ahead(stream, partition.catalog, stop)

    # loading ----------------------------------------------------------------------------------------------

    def _demand(
        self,
        partition: RemotePartition,
        missing: Missing,
        stream: Stream | None,
        fetch_offset: int,
        reader: Reader | None,
    ) -> tuple[Stream | None, asyncio.Future[SegmentFooter] | asyncio.Future[None]]:
        """The stream, and the future of what it misses. No stream if there are too many: then nothing is asked for."""
        entry, position, batch_start, needed_end, is_located = missing
        stream = stream or self._cache.open(partition.keys, reader, fetch_offset)
        if position is None:
            with _paid_by(reader.client if reader is not None else None, entry):
                return stream, self._footers.load(partition.keys, entry)
        if stream is None:
            return None, asyncio.get_running_loop().create_future()
        if is_located:
            stream.entry, stream.position, stream.is_located = entry, batch_start, True
        return stream, self._cache.demand(Want(stream, entry, batch_start, position, needed_end))

    def _cut(
        self, keys: PartitionKeys, entry: SegmentEntry, position: int, start: int, end: int
    ) -> tuple[int, int]:
        """The part of the range that the disk cache has, or that the store alone has."""
        if self._disk is None:
            return start, end
        return self._disk.stretch(CachedObject.of(keys, entry), position, start, end)

    async def _fetch(self, chunk: Chunk) -> memoryview:
        """The chunk's bytes, verified: from the disk cache if it has them, else from the store."""
        object_ = CachedObject.of(chunk.keys, chunk.entry)
        first, last = aligned(chunk)
        data = await self._disk.read(object_, first, last) if self._disk is not None else None
        if data is None:
            with _paid_by(chunk.client, chunk.entry):
                data = await self._get(chunk, first, last)
            if self._disk is not None and (
                self._disk.note_fetched(object_, first, last) or len(chunk.holders) > 1
            ):
                self._disk.offer(object_, first, data)
        return data[chunk.start - first : chunk.end - first]

    async def _get(self, chunk: Chunk, first: int, last: int) -> memoryview:
        """Checksummed blocks of the object, from the store."""
        keys, entry = chunk.keys, chunk.entry
        key = keys.segment(entry)

        def is_ahead() -> bool:
            return chunk.ahead_of is not None

        checks = self._footers.checks(entry)
        if checks is None:
            self._footers.load(keys, entry, is_ahead)  # at the same time
        data = await self._gets.get_range(key, first, last, is_ahead=is_ahead)
        if checks is None:
            checks = self._footers.checks(entry) or await self._footers.open(keys, entry, is_ahead)
        try:
            checks.verify(data, first, key)
        except CorruptObject:
            data = await self._gets.get_range(key, first, last, is_ahead=is_ahead)
            checks.verify(data, first, key)
        return data

    def _keep_shared(self, chunk: Chunk) -> None:
        """Has the disk cache keep what is read a second time."""
        if self._disk is not None and chunk.data is not None:
            object_ = CachedObject.of(chunk.keys, chunk.entry)
            self._disk.offer_part(object_, chunk.start, chunk.data, chunk.entry.data_bytes)

    # other facts of the tier ------------------------------------------------------------------------------

    async def open_footer(self, keys: PartitionKeys, entry: SegmentEntry) -> SegmentFooter:
        """Index, lineage, aborted transactions and producer snapshot of one segment."""
        with of_class(label_of(entry.storage_class)):
            return await self._footers.open(keys, entry)

    async def load_bytes(self, keys: PartitionKeys, entry: SegmentEntry, start: int, end: int) -> memoryview:
        """The bytes [start, end) of the object's data through the cache, as one buffer."""
        stream = Stream(keys, _LOOKUPS, -1, 0.0)
        try:
            while True:
                span = Span(self, entry, start, end)
                if span.end == end:
                    return span.views[0] if len(span.views) == 1 else memoryview(b"".join(span.views))
                arrival = self._cache.demand(Want(stream, entry, start, span.end, end))
                await asyncio.wait((arrival,))
                stream.failure = None  # it is told here
                arrival.result()
        finally:
            self._cache.drop(stream)

    async def close(self) -> None:
        """Cancel loads and read-ahead."""
        await self._cache.close()
        await self._footers.close()


def _paid_by(client: Hashable, entry: SegmentEntry) -> Paying:
    """Loads begin when there is memory, in whatever task that is: so what they are for is said anew."""
    client_id, host = client if isinstance(client, tuple) else ("", "")
    return attributed(Cause.FETCH, client_id, host, label_of(entry.storage_class))


def _note_failure(stream: Stream, arrival: asyncio.Future[SegmentFooter] | asyncio.Future[None]) -> None:
    stream.is_watched = False
    if not arrival.cancelled():
        stream.note_failure(arrival.exception())


def _tell_failure(stream: Stream) -> None:
    """Raises why what the stream asked for before could not be loaded."""
    failure, stream.failure = stream.failure, None
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # it refers to this frame, which must not refer to it
