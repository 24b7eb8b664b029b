"""Copies one sealed range of a local segment file to the object store.

Rules:

* Two passes over the file. The first (worker thread) walks the batch headers, checks every batch's CRC and the
  continuity of offsets, and gathers the footer. Nothing is sent before the whole range has proved sound; by then the
  object's size is known. The second pass streams the file in parts and checks each part against the CRCs of the
  first.
* At most two parts of ``PART_BYTES`` are in memory: the one being sent, and the one being read.
* The event loop only moves references: reading, walking and checksums happen in threads.
* The object is complete when ``copy`` returns; it is *visible* only once its entry is committed to the head.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from crc32c import crc32c

from tiering.codec import SegmentFooter, SegmentIdentity
from tiering.copying.scan import CorruptSource, Scanned, SegmentSource, read_part, scan
from tiering.errors import CorruptObject
from tiering.formats import FIRST_VERSION, FORMAT_VERSION
from tiering.keys import PartitionKeys
from tiering.model import HAS_ABORTED_TRANSACTIONS, SegmentEntry, hash_of_version
from tiering.objects.classes import StorageClass
from tiering.objects.port import ObjectStore, PutOptions

PART_BYTES = 8 << 20
THREADS = 2

__all__ = ["CorruptSource", "Mover", "SegmentSource"]


class Mover:
    """Copies segments of any partition to one object store; at most ``THREADS`` are read at a time."""

    def __init__(self, store: ObjectStore, *, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tier-copy")

    async def copy(
        self,
        source: SegmentSource,
        keys: PartitionKeys,
        *,
        leader_epoch: int,
        uuid: bytes,
        format_version: int = FORMAT_VERSION,
        class_of: Callable[[int, int], StorageClass] = lambda timestamp_ms, data_bytes: StorageClass.STANDARD,
    ) -> SegmentEntry:
        """The entry to commit, once its object is complete in the store (checked by a HEAD).

        ``class_of(largest timestamp in ms, bytes)`` says into which class the data goes.

        Raises ``CorruptSource`` (the local bytes are unsound: do not retry), ``ObjectStoreError`` (retry with backoff),
        ``OSError`` (the disk)."""
        loop = asyncio.get_running_loop()
        scanned = await loop.run_in_executor(self._threads, scan, source)
        entry = self._entry(source, scanned, leader_epoch, uuid)
        storage_class = (
            class_of(entry.max_timestamp_ms, entry.data_bytes)
            if format_version > FIRST_VERSION
            else StorageClass.STANDARD
        )
        entry = entry._replace(storage_class=int(storage_class))
        if format_version > FIRST_VERSION:
            scanned.footer.identity = _identity(keys, entry)
        tail = scanned.footer.encode()
        entry = entry._replace(object_bytes=entry.stored_bytes + len(tail))
        key = keys.segment(entry)
        await self._store.put(
            key,
            _Parts(source, scanned.footer, tail, self._threads),
            size_bytes=entry.object_bytes,
            options=PutOptions(storage_class, crc32c(tail, scanned.data_crc)),
        )
        info = await self._store.head(key)
        if info.size_bytes != entry.object_bytes:
            raise CorruptObject(f"{key}: {info.size_bytes} bytes stand where {entry.object_bytes} were sent")
        return entry._replace(version_hash=hash_of_version(info.version))

    def _entry(self, source: SegmentSource, scanned: Scanned, leader_epoch: int, uuid: bytes) -> SegmentEntry:
        """``object_bytes`` is not known yet."""
        data_bytes, created_ms = scanned.footer.data_bytes, self._clock_ms()
        return SegmentEntry(
            base_offset=source.base_offset,
            end_offset=source.end_offset,
            leader_epoch=leader_epoch,
            uuid=uuid,
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

    def close(self) -> None:
        """Let running reads end; start no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


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


class _Parts:
    """The object as a stream that can be sent again: the file's parts, then footer and trailer."""

    def __init__(
        self, source: SegmentSource, footer: SegmentFooter, tail: bytes, threads: ThreadPoolExecutor
    ) -> None:
        self._source = source
        self._footer = footer
        self._tail = tail
        self._threads = threads

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        for position in range(0, self._footer.data_bytes, PART_BYTES):
            yield await loop.run_in_executor(self._threads, self._read, position)
        yield self._tail

    def _read(self, position: int) -> bytes:
        size = min(PART_BYTES, self._footer.data_bytes - position)
        part = read_part(self._source.path, self._source.start_position + position, size)
        try:
            self._footer.verify(part, position, self._source.path)
        except CorruptObject as e:
            raise CorruptSource(f"the file changed while it was copied: {e}") from None
        return part
