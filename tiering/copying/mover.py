"""Copies one sealed range of a local segment file to the object store, in this process.

Rules:

* Two passes over the file. The first (worker thread) walks the batch headers, checks every batch's CRC and the
  continuity of offsets, and gathers the footer. Nothing is sent before the whole range has proved sound; by then the
  object's size is known. In the second pass the store reads what it sends, chunk by chunk, each checked against the CRC
  of the first pass before the store sees it: what lands is what was walked.
* In memory is one chunk of each request that is under way. A store that takes only a stream has parts of
  ``PART_BYTES``: one being sent, and one being read.
* The event loop only moves references: reading, walking and checksums happen in threads.
* The object is complete when ``copy`` returns; it is *visible* only once its entry is committed to the head.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from crc32c import crc32c

from tiering.codec import SegmentFooter, SegmentIdentity
from tiering.copying.port import ClassOf, Target, always_standard
from tiering.copying.scan import Scanned, WalkSegment, scan
from tiering.copying.source import CorruptSource, SegmentFile, SegmentSource
from tiering.errors import CorruptObject
from tiering.formats import FIRST_VERSION
from tiering.keys import PartitionKeys
from tiering.metering.attribution import of_class
from tiering.model import HAS_ABORTED_TRANSACTIONS, SegmentEntry, hash_of_version
from tiering.objects.classes import StorageClass
from tiering.objects.port import ObjectStore, PutOptions
from tiering.objects.streams import Ranged

PART_BYTES = 8 << 20
"""Also how much is asked for at once where bytes have a rate."""
THREADS = 2

Take = Callable[[int], Awaitable[object]]
"""Waits until so many bytes may be sent."""


class Passes:
    """The two passes over a segment; at most ``THREADS`` segments are read at a time. ``parts_at_once``: see
    ``PutOptions``; ``walk_at_once``: see ``scan``."""

    def __init__(
        self, store: ObjectStore, *, parts_at_once: int = 1, walk_at_once: WalkSegment | None = None
    ) -> None:
        self._store = store
        self._parts_at_once = parts_at_once
        self._walk_at_once = walk_at_once
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tier-copy")

    async def scan(self, source: SegmentSource) -> Scanned:
        """The first pass. Raises ``CorruptSource``, ``OSError``."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, scan, source, self._walk_at_once
        )

    async def put(
        self,
        source: SegmentSource,
        target: Target,
        scanned: Scanned,
        storage_class: StorageClass,
        created_ms: int,
        take: Take | None = None,
    ) -> SegmentEntry:
        """The second pass, and the check of what it made. ``take`` is awaited before each part. Raises as
        ``Copier.copy``."""
        entry = _entry(source, target, scanned, created_ms)
        if target.format_version > FIRST_VERSION:
            entry = entry._replace(storage_class=int(storage_class))
            scanned.footer.identity = _identity(target.keys, entry)
        tail = scanned.footer.encode()
        entry = entry._replace(object_bytes=entry.stored_bytes + len(tail))
        key = target.keys.segment(entry)
        options = PutOptions(
            StorageClass(entry.storage_class),
            crc32c(tail, scanned.data_crc),
            parts_at_once=self._parts_at_once,
        )
        parts = _Parts(source, scanned.footer, tail, self._threads, take)
        await self._store.put(key, parts, size_bytes=entry.object_bytes, options=options)
        with of_class(options.storage_class.label):
            info = await self._store.head(key)
        if info.size_bytes != entry.object_bytes:
            raise CorruptObject(f"{key}: {info.size_bytes} bytes stand where {entry.object_bytes} were sent")
        return entry._replace(version_hash=hash_of_version(info.version))

    async def close(self) -> None:
        """Let running reads end; start no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Mover(Passes):
    """The ``Copier`` of this process."""

    def __init__(
        self, store: ObjectStore, *, clock_ms: Callable[[], int], walk_at_once: WalkSegment | None = None
    ) -> None:
        super().__init__(store, walk_at_once=walk_at_once)
        self._clock_ms = clock_ms

    async def copy(
        self, source: SegmentSource, target: Target, class_of: ClassOf = always_standard
    ) -> SegmentEntry:
        """See ``Copier.copy``."""
        scanned = await self.scan(source)
        storage_class = class_of(scanned.max_timestamp_ms, scanned.footer.data_bytes)
        return await self.put(source, target, scanned, storage_class, self._clock_ms())


def _entry(source: SegmentSource, target: Target, scanned: Scanned, created_ms: int) -> SegmentEntry:
    """``object_bytes`` is not known yet."""
    data_bytes = scanned.footer.data_bytes
    return SegmentEntry(
        base_offset=source.base_offset,
        end_offset=source.end_offset,
        leader_epoch=target.leader_epoch,
        uuid=target.uuid,
        data_bytes=data_bytes,
        stored_bytes=data_bytes,
        object_bytes=0,
        first_timestamp_ms=scanned.first_timestamp_ms,
        max_timestamp_ms=scanned.max_timestamp_ms,
        created_ms=created_ms,
        last_batch_epoch=scanned.last_batch_epoch,
        flags=HAS_ABORTED_TRANSACTIONS if source.aborted else 0,
        class_since_ms=created_ms,
    )


def _identity(keys: PartitionKeys, entry: SegmentEntry) -> SegmentIdentity:
    return SegmentIdentity(
        topic_id=keys.topic_id,
        partition=keys.partition,
        leader_epoch=entry.leader_epoch,
        generation=entry.generation,
        uuid=entry.uuid,
        data_bytes=entry.data_bytes,
        first_timestamp_ms=entry.first_timestamp_ms,
        max_timestamp_ms=entry.max_timestamp_ms,
        created_ms=entry.created_ms,
        last_batch_epoch=entry.last_batch_epoch,
        flags=entry.flags,
        cluster_id=keys.cluster_id,
    )


class _Parts(Ranged):
    """The object: the file's range, then footer and trailer."""

    def __init__(
        self,
        source: SegmentSource,
        footer: SegmentFooter,
        tail: bytes,
        threads: ThreadPoolExecutor,
        take: Take | None,
    ) -> None:
        self._source = source
        self._footer = footer
        self._tail = tail
        self._threads = threads
        self._take = take

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        size_bytes = self._footer.data_bytes + len(self._tail)
        for start in range(0, size_bytes, PART_BYTES):
            end = min(start + PART_BYTES, size_bytes)
            await self.take(end - start)
            yield await loop.run_in_executor(self._threads, b"".join, self.read(start, end))

    async def take(self, size_bytes: int) -> None:
        if self._take is not None:
            for start in range(0, size_bytes, PART_BYTES):
                await self._take(min(PART_BYTES, size_bytes - start))

    def read(self, start: int, end: int) -> Iterator[memoryview]:
        chunk_bytes, data_bytes = self._footer.crc_chunk_bytes, self._footer.data_bytes
        if start < data_bytes:
            with SegmentFile(self._source) as file:
                for at in range(start - start % chunk_bytes, min(end, data_bytes), chunk_bytes):
                    chunk = memoryview(file.read(at, min(chunk_bytes, data_bytes - at)))
                    self._verify(chunk, at)
                    yield chunk[max(start - at, 0) : end - at]
        if end > data_bytes:
            yield memoryview(self._tail)[max(start - data_bytes, 0) : end - data_bytes]

    def _verify(self, chunk: memoryview, position: int) -> None:
        try:
            self._footer.verify(chunk, position, self._source.path)
        except CorruptObject as e:
            raise CorruptSource(f"the file changed while it was copied: {e}") from None
