"""Purges deleted topics: deletes their objects after the grace, then their tier heads, and their tombstone last.

The purge follows tombstones in the metadata store and markers in the bucket, both of which survive a crash at any
point; every step is idempotent (``tiering.lifecycle``). The broker that holds the controller lease does it.

Objects that the store refuses to delete (a legal hold) delay neither the topic's tombstone nor other topics. The marker
stays in the bucket, and all objects below the topic's prefixes are tried again as long as there are any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from tiering import keys as bucket_keys
from tiering.errors import CorruptObject, NotFound, ObjectStoreError, TieringError
from tiering.keys import PartitionKeys
from tiering.ledger.rows import Cause
from tiering.lifecycle import DeletionMarker, PurgeStep, TopicState, after_step, purge_step
from tiering.metering.attribution import attributed
from tiering.objects.port import ObjectStore, list_all
from tiering.sweeping.sweeps import Sweeps, Waiting
from tierlog.broker.offload.cleaning.deletes import pages_of
from tierlog.broker.offload.stores.topic_stores import TopicStores
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.errors import StoreUnavailable
from tierlog.metadata import keys
from tierlog.metadata.image import MetadataImage, TopicImage
from tierlog.metadata.records import TopicRecord
from tierlog.metadata.stores.port import MetadataStore
from tierlog.metadata.transactions import Delete, Txn

logger = structlog.get_logger()

TICK_S = 1.0
BACKOFF_MAX_S = 30.0
SECOND_SWEEPS_S = 600.0
DELETES_PER_TXN = 100


class TopicPurge:
    """See the module head. ``is_mine``: whether this broker holds the controller lease now."""

    def __init__(
        self,
        stores: TopicStores,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        cluster_id: str,
        confirm: Callable[[bytes], Awaitable[None]],
        *,
        is_mine: Callable[[], bool],
        now_ms: Callable[[], int],
        delete_grace_ms: int,
    ) -> None:
        self._stores = stores
        self._store = store
        self._image = image
        self._cluster_id = cluster_id
        self._confirm = confirm
        self._is_mine = is_mine
        self._now_ms = now_ms
        self._delete_grace_ms = delete_grace_ms
        self._markers: dict[bytes, DeletionMarker] = {}
        # The repeated sweeps, by topic id; at most one per marker in the bucket.
        self._sweeps: dict[bytes, Sweeps] = {}
        self._warnings = RepeatedWarnings()

    @property
    def waiting(self) -> list[Waiting]:
        """The objects that the store refused to delete, per purged topic."""
        return [sweeps.waiting for sweeps in self._sweeps.values()]

    async def run(self) -> None:
        """Runs for ever; cancel it to stop."""
        with attributed(Cause.DELETE):
            await self._run()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        second_sweep_s = loop.time()
        failures = 0
        while True:
            await asyncio.sleep(min(TICK_S * 2.0 ** min(failures, 10), BACKOFF_MAX_S))
            if not self._is_mine():
                self._markers.clear()
                self._sweeps.clear()
                continue
            try:
                is_well = await self.advance_all()
                if loop.time() >= second_sweep_s:
                    second_sweep_s = loop.time() + SECOND_SWEEPS_S
                    is_well = await self.sweep_again() and is_well
                failures = 0 if is_well else failures + 1
            except (TieringError, StoreUnavailable, OSError) as error:
                failures += 1
                self._complain(error)

    def _complain(self, error: Exception, **fields: object) -> None:
        event, kind = "purging deleted topics will be tried again", kind_of(error)
        self._warnings.say(logger.warning, event, kind, kind=kind, why=str(error), **fields)

    async def advance_all(self) -> bool:
        """Advances all tombstones; False if an object store refused a request for one of them. One that does not answer is
        left alone for this round; a marker that cannot be read or written delays its topic alone."""
        is_well = True
        silent: set[str] = set()
        for topic in list(self._image().deleting_topics()):
            if topic.record is None or not topic.record.tier_pending:
                continue
            url = self._stores.key_of(topic.record.store)
            if url in silent:
                continue
            try:
                await self.advance(topic)
            except TieringError as error:
                if isinstance(error, ObjectStoreError):
                    is_well = False
                    if error.retriable:
                        silent.add(url)
                self._complain(error, topic=topic.record.name)
        return is_well

    async def advance(self, topic: TopicImage) -> None:
        """Does the steps of one tombstone that are due. None is due before every broker has dropped its replicas,
        since a leader may be copying until then."""
        assert topic.record is not None
        if topic.record.pending:
            return
        objects = await self._stores.opened(topic.record.store)
        marker = self._markers.get(topic.topic_id)
        if marker is None:
            marker = await self._find_marker(objects, topic.topic_id)
        if marker is None:
            if not await self._has_objects(objects, topic.topic_id, topic.record.partition_count):
                await self._finish(topic.topic_id, topic.record)
                return
            marker = DeletionMarker(
                topic.topic_id,
                topic.record.name,
                topic.record.partition_count,
                TopicState.MARKED,
                self._now_ms(),
            )
            await self._put(objects, marker)
        self._markers[topic.topic_id] = marker
        while marker.state is not TopicState.PURGED:
            step = purge_step(marker, self._delete_grace_ms, self._now_ms())
            if step is PurgeStep.WAIT:
                return
            if step is PurgeStep.SWEEP:
                await self._sweep(objects, marker)
            following = after_step(marker, step, self._now_ms())
            assert following is not None
            marker = self._markers[topic.topic_id] = following
            await self._put(objects, marker)
        await self._finish(topic.topic_id, topic.record)

    async def _leave_former_stores(self, topic_id: bytes, record: TopicRecord) -> None:
        """Deletes what a first copy may have left in stores that the topic had before it had a tier. Nothing names it, so
        one that cannot be used any more is passed over."""
        for url in record.former_stores:
            try:
                objects = await self._stores.opened(url)
                for prefix in self._prefixes(topic_id, record.partition_count):
                    async for page in pages_of(objects, prefix):
                        await objects.delete([info.key for info in page])
            except ObjectStoreError as error:
                if error.retriable:
                    raise
                self._complain(error, topic=record.name, object_store=self._stores.shown(url))

    async def sweep_again(self) -> bool:
        """As ``sweep_again_in``, in all stores in use; whether all of them answered."""
        is_well = True
        for url in self._stores.in_use:
            try:
                await self.sweep_again_in(await self._stores.opened(url))
            except TieringError as error:
                is_well = False
                self._complain(error, object_store=self._stores.shown(url))
        return is_well

    async def sweep_again_in(self, objects: ObjectStore) -> None:
        """Sweeps topics that were purged a while ago once more, for late uploads and for objects that could not be deleted;
        then deletes their markers."""
        async for info in list_all(objects, bucket_keys.deletion_markers_prefix(self._cluster_id)):
            try:
                marker = DeletionMarker.decode(bytes((await objects.get(info.key))[1]), info.key)
            except (CorruptObject, NotFound) as error:
                logger.error("unreadable deletion marker", why=str(error))
                continue
            if marker.state is not TopicState.PURGED:
                continue
            now_ms = self._now_ms()
            sweeps = self._sweeps.get(marker.topic_id)
            is_due = sweeps is None or sweeps.is_due(now_ms)
            if not is_due or purge_step(marker, self._delete_grace_ms, now_ms) is not PurgeStep.FINISH:
                continue
            if not (await self._sweep(objects, marker)).objects:
                await self._refused(objects, marker, {info.key: info.size_bytes})

    async def _find_marker(self, objects: ObjectStore, topic_id: bytes) -> DeletionMarker | None:
        key = bucket_keys.deletion_marker(self._cluster_id, topic_id)
        try:
            _, data = await objects.get(key)
        except NotFound:
            return None
        return DeletionMarker.decode(bytes(data), key)

    async def _put(self, objects: ObjectStore, marker: DeletionMarker) -> None:
        data = marker.encode()
        key = bucket_keys.deletion_marker(self._cluster_id, marker.topic_id)
        await objects.put(key, data, size_bytes=len(data))

    def _prefixes(self, topic_id: bytes, partition_count: int) -> list[str]:
        partitions = [PartitionKeys(self._cluster_id, topic_id, index) for index in range(partition_count)]
        return [prefix for p in partitions for prefix in (p.segments_prefix, p.meta_prefix)]

    async def _has_objects(self, objects: ObjectStore, topic_id: bytes, partition_count: int) -> bool:
        for prefix in self._prefixes(topic_id, partition_count):
            if await objects.list(prefix, limit=1):
                return True
        return False

    async def _sweep(self, objects: ObjectStore, marker: DeletionMarker) -> Waiting:
        """Deletes all objects of the topic; returns the count and size of those that the store refuses to delete."""
        count, waiting = 0, Waiting()
        for prefix in self._prefixes(marker.topic_id, marker.partition_count):
            async for page in pages_of(objects, prefix):
                sizes = {info.key: info.size_bytes for info in page}
                refused = await self._refused(objects, marker, sizes)
                count += len(sizes) - len(refused)
                for key in refused:
                    waiting.add(sizes[key])
        await self._refused(objects, marker, {bucket_keys.topic_record(self._cluster_id, marker.topic_id): 0})
        self._sweeps.setdefault(marker.topic_id, Sweeps()).done(waiting, self._now_ms())
        if not waiting.objects:
            del self._sweeps[marker.topic_id]
        logger.info("purged a deleted topic", topic=marker.name, objects=count, objects_left=waiting.objects)
        return waiting

    async def _refused(
        self, objects: ObjectStore, marker: DeletionMarker, sizes: Mapping[str, int]
    ) -> Collection[str]:
        """Deletes these keys; returns those that the store refuses to delete. Raises errors that may pass by themselves."""
        refused: dict[str, ObjectStoreError]
        try:
            refused = await objects.delete(sizes)
        except ObjectStoreError as error:
            if error.retriable:
                raise
            refused = dict.fromkeys(sizes, error)
        if refused:
            key, why = next(iter(refused.items()))
            self._warnings.say(
                logger.warning,
                "objects of a deleted topic cannot be deleted: they stay until a later sweep",
                (marker.topic_id, kind_of(why)),
                topic=marker.name,
                objects=len(refused),
                first=key,
                kind=kind_of(why),
                why=str(why),
            )
        return refused.keys()

    async def _finish(self, topic_id: bytes, record: TopicRecord) -> None:
        """Deletes what is in former stores and the tier heads, then confirms the purge, which ends the tombstone."""
        await self._leave_former_stores(topic_id, record)
        prefix = f"{keys.TIER_HEADS}{keys.format_topic_id(topic_id)}/"
        while heads := (await self._store.range(prefix, limit=DELETES_PER_TXN)).kvs:
            await self._store.txn(Txn(then=tuple(Delete(kv.key) for kv in heads)))
        await self._confirm(topic_id)
        self._markers.pop(topic_id, None)
