"""A bucket read without any broker: its cluster, topics, catalogs, and which offset a time is.

What it says lags behind the cluster by a minute or so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from tiering.catalog import Catalog, refuse_lost
from tiering.errors import CorruptObject, NotFound, TieringError
from tiering.keys import (
    CLUSTER_MARKER,
    PartitionKeys,
    deletion_markers_prefix,
    marked_cluster,
    topic_id_text,
    topic_record,
)
from tiering.manifest import Manifests, ManifestWorker
from tiering.objects.opening import open_store
from tiering.objects.port import list_all
from tiering.reading.lookups import RemoteLookups
from tiering.reading.reader import RemotePartition, RemoteReader
from tierlog.errors import UserError
from tierlog.records.batch import parse_header
from tierlog.records.steps import finished
from tierlog.records.times import find_timestamp
from tierlog.replay.ledger import ReplayLedger
from tierlog.replay.plan import SegmentRead
from tierlog.types import TopicPartition

LOOKUP_CACHE_BYTES = 16 << 20
RECORDS_AT_ONCE = 16


class Bucket:
    """Open with ``Bucket.opened``, close at the end."""

    def __init__(self, url: str, ledger: ReplayLedger) -> None:
        self.url = url
        self.cluster_id = ""
        self.store = ledger.counted(open_store(url, stats=ledger.stats, writes=False))
        self._worker = ManifestWorker()
        self._manifests = Manifests(self.store, self._worker)
        self._reader = RemoteReader(self.store, cache_bytes=LOOKUP_CACHE_BYTES)

    @staticmethod
    async def opened(url: str, ledger: ReplayLedger) -> Bucket:
        """``ledger`` counts its requests. Raises UserError."""
        bucket: Bucket | None = None
        try:
            bucket = Bucket(url, ledger)
            _, marker = await bucket.store.get(CLUSTER_MARKER)
            bucket.cluster_id = marked_cluster(bytes(marker))
            return bucket
        except TieringError as error:
            if bucket is not None:
                await bucket.close()
            if isinstance(error, NotFound):
                shown = url.partition("?")[0]
                raise UserError(
                    f"{shown} holds no cluster: there is no {CLUSTER_MARKER}; check bucket and prefix of --bucket"
                ) from None
            raise UserError(f"{error}; check --bucket and its credentials") from None

    async def close(self) -> None:
        await self._reader.close()
        await self._worker.close()
        await self.store.close()

    async def topics(self) -> dict[str, bytes]:
        """Topic ids by name, without the deleted ones."""
        prefix = deletion_markers_prefix(self.cluster_id)
        gone = {info.key.rpartition("/")[2] async for info in list_all(self.store, prefix)}
        records = topic_record(self.cluster_id, bytes(16)).rpartition("/")[0] + "/"
        keys = [info.key async for info in list_all(self.store, records)]
        turns = asyncio.Semaphore(RECORDS_AT_ONCE)

        async def read(key: str) -> tuple[str, bytes] | None:
            async with turns:
                try:
                    _, data = await self.store.get(key)
                except NotFound:
                    return None
            return _topic_of(key, bytes(data))

        found = await asyncio.gather(*(read(key) for key in keys if key.rpartition("/")[2] not in gone))
        return dict(each for each in found if each is not None)

    async def partitions(self, topic_id: bytes) -> list[int]:
        """Those of which anything has been tiered."""
        prefix = PartitionKeys(self.cluster_id, topic_id, 0).meta_prefix.rpartition("0/")[0]
        found = {
            int(info.key[len(prefix) :].partition("/")[0]) async for info in list_all(self.store, prefix)
        }
        return sorted(found)

    async def catalog(self, topic_id: bytes, partition: int) -> Catalog | None:
        """All live segments; None if nothing of the partition has been tiered. Raises TieringError."""
        keys = PartitionKeys(self.cluster_id, topic_id, partition)
        try:
            head = await self._manifests.get_head(keys)
        except NotFound:
            return None
        return Catalog(head, (await self._manifests.load(keys, head)).columns)

    def segments(
        self, where: TopicPartition, topic_id: bytes, catalog: Catalog, start_offset: int
    ) -> Iterator[SegmentRead]:
        """The live segments that end above ``start_offset``, oldest first. Raises LostPage."""
        for entry in catalog.starting_at(start_offset):
            refuse_lost(entry)
            owner = catalog.head.origins[entry.origin - 1] if entry.origin else self.cluster_id
            key = PartitionKeys(owner, topic_id, where.partition).segment(entry)
            yield SegmentRead(*where, entry.base_offset, entry.end_offset, self.url, key, entry)

    async def offset_at(
        self, topic_id: bytes, partition: int, catalog: Catalog, timestamp_ms: int
    ) -> int | None:
        """The first offset whose record is of this time or later; None if there is none in the bucket."""
        keys = PartitionKeys(self.cluster_id, topic_id, partition)
        remote, from_offset = RemotePartition(keys, catalog), catalog.start
        lookups = RemoteLookups(self._reader)
        while True:
            batch = await lookups.batch_at_timestamp(remote, timestamp_ms, from_offset=from_offset)
            if batch is None:
                return None
            header = parse_header(batch.data)
            found = finished(find_timestamp(batch.data, 0, header, timestamp_ms, from_offset))
            if found is not None:
                return found.offset
            from_offset = batch.end_offset


def _topic_of(key: str, data: bytes) -> tuple[str, bytes]:
    try:
        record = json.loads(data)
        name, topic_id = str(record["name"]), bytes.fromhex(record["topic_id"])
    except (ValueError, KeyError, TypeError):
        raise CorruptObject(f"{key}: is no topic record") from None
    if topic_id_text(topic_id) != key.rpartition("/")[2]:
        raise CorruptObject(f"{key}: is the record of another topic")
    return name, topic_id
