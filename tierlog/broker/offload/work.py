"""Carries out one partition's plan, action by action; plans anew after each commit.

Every step may be repeated and may be interrupted anywhere: what counts is committed in the metadata store, what is in
the bucket without being committed is deleted by the rules of ``tiering.lifecycle``.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import assert_never

import structlog

from tiering.errors import NotFound, ObjectStoreError
from tiering.keys import SegmentName, topic_record
from tiering.manifest import Manifests
from tiering.model import MetaObject, SegmentEntry, TierHead
from tiering.mover import Mover
from tiering.objects.port import ObjectStore, list_all
from tiering.pages import Pages, move_to_page
from tiering.planner import (
    Action,
    AdvanceStart,
    CopyHead,
    CopySegment,
    DeleteObjects,
    DeleteStale,
    ReportGap,
    WritePage,
    plan,
)
from tierlog.broker.offload.heads import Fenced, HeadMoved, HeadStore
from tierlog.broker.offload.sources import facts_of, policy_of, source_of
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.partition import Partition
from tierlog.errors import StoreUnavailable, UnknownOutcome
from tierlog.log.removals import COMPACTION

logger = structlog.get_logger()

LOAD_ATTEMPTS = 3
ORPHANS_MAX = 64


class TierWork:
    """What the jobs of all partitions share."""

    def __init__(
        self,
        objects: ObjectStore,
        heads: HeadStore,
        manifests: Manifests,
        mover: Mover,
        *,
        now_ms: Callable[[], int],
        delete_grace_ms: int,
        copies_at_once: int,
    ) -> None:
        self.on_tiered: Callable[[Partition], object] = lambda partition: None
        self._objects = objects
        self._heads = heads
        self._manifests = manifests
        self._mover = mover
        self._now_ms = now_ms
        self._delete_grace_ms = delete_grace_ms
        self._copy_turns = asyncio.Semaphore(copies_at_once)

    async def load(self, tier: PartitionTier) -> None:
        """Reads the head from the store, and its pages; a partition without one starts where its log starts."""
        for _ in range(LOAD_ATTEMPTS):
            async with tier.turn:
                head, revision = await self._heads.read(tier.keys.topic_id, tier.keys.partition)
                if head is None:
                    if tier.revision > 0:
                        raise Fenced(f"{tier}: the head is gone, and the topic with it")
                    tier.adopt(TierHead.empty(tier.partition.log.log_start_offset), 0, Pages())
                    return
                same = tier.head.page_index == head.page_index
                try:
                    pages = tier.pages if same else await self._manifests.load(tier.keys, head)
                except NotFound:
                    continue  # replaced meanwhile, or lost: the head tells
                tier.adopt(head, revision, pages)
                return
        raise NotFound("a page that the head names is gone", key=tier.keys.meta_prefix)

    async def step(self, tier: PartitionTier) -> bool:
        """One plan; whether anything was done. Raises what store, disk and metadata raise."""
        policy = policy_of(tier.partition.config, self._delete_grace_ms)
        now_ms = self._now_ms()
        actions = plan(facts_of(tier, now_ms), policy, now_ms)
        if tier.failures:
            # A bucket that lets nothing be deleted still takes copies: they free the local disk, so they go first.
            actions = tuple(
                sorted(actions, key=lambda action: isinstance(action, DeleteObjects | DeleteStale))
            )
        sequence = tier.head.sequence
        for action in actions:
            await self._execute(tier, action)
            if tier.head.sequence != sequence:
                return True  # the rest was planned from another head
        if len(tier.attempts):
            await self._settle(tier)
        return False

    async def _execute(self, tier: PartitionTier, action: Action) -> None:
        match action:
            case AdvanceStart(offset, move):
                await tier.commit(lambda head: head.with_start(offset, self._now_ms()))
                logger.info(
                    "retention", partition=str(tier), log_start=offset, time=move.by_time, size=move.by_size
                )
            case CopySegment():
                async with self._copy_turns:
                    await self._copy(tier, action)
            case WritePage(moved_count):
                await self._write_page(tier, moved_count)
            case DeleteObjects():
                await self._delete(tier, action)
            case DeleteStale(names):
                keys = [key(name) for name in names for key in (tier.keys.page, tier.keys.page_index)]
                await self._objects.delete(sorted(keys))
                await tier.commit(lambda head: head.with_stale_removed(names))
            case CopyHead(sequence):
                await self._copy_head(tier, sequence)
            case ReportGap(tiered_end, local_start):
                logger.error(
                    "nothing can be copied: the local log begins behind the tiered end",
                    partition=str(tier),
                    tiered_end=tiered_end,
                    local_start=local_start,
                )
            case _:
                assert_never(action)

    async def _copy(self, tier: PartitionTier, copy: CopySegment) -> None:
        log = tier.partition.log
        source = None if log.removals.holder == COMPACTION else source_of(log, copy)
        if source is None:
            return
        uuid = secrets.token_bytes(16)
        tier.counters.copy_requests += 1
        tier.attempts.copying(SegmentName(copy.base_offset, copy.end_offset, tier.leader_epoch, uuid))
        try:
            entry = await self._mover.copy(
                source, tier.keys.segment, leader_epoch=tier.leader_epoch, uuid=uuid
            )
        except BaseException as error:
            tier.attempts.failed(uuid)
            if tier.attempts.forget(ORPHANS_MAX):
                tier.is_swept = False  # a listing finds them again
            tier.counters.copy_errors += isinstance(error, Exception)  # a cancelled copy is no failed one
            raise
        tier.attempts.committing(uuid, tier.head.sequence)
        try:
            await tier.commit(lambda head: _with_copied(head, entry))
        except (UnknownOutcome, asyncio.CancelledError):
            tier.attempts.unknown(uuid)
            raise
        except BaseException:
            tier.attempts.failed(uuid)
            raise
        tier.attempts.committed(uuid)
        tier.last_copy_ms = self._now_ms()
        tier.counters.copy_bytes += entry.data_bytes
        self.on_tiered(tier.partition)

    async def _write_page(self, tier: PartitionTier, moved_count: int) -> None:
        def name() -> MetaObject:
            return MetaObject(tier.head.sequence, tier.leader_epoch, secrets.token_bytes(16))

        # Only the start can move meanwhile (DeleteRecords), and that changes neither the tail nor the pages.
        move = move_to_page(tier.head, tier.pages, moved_count, name(), name())
        await self._manifests.write(tier.keys, move)
        await tier.commit(
            lambda head: head.with_page(move.index_ref, moved_count, move.replaced, self._now_ms()),
            lambda: move.pages,
        )

    async def _delete(self, tier: PartitionTier, action: DeleteObjects) -> None:
        keys = [tier.keys.segment(entry) for entry in action.entries]
        keys += [tier.keys.page(name) for name in action.pages]
        tier.counters.delete_requests += len(action.entries)
        try:
            await self._objects.delete(keys)
        except ObjectStoreError:
            tier.counters.delete_errors += 1
            raise
        await tier.commit(lambda head: head.with_retired_removed(action.end_offset, self._now_ms()))

    async def _copy_head(self, tier: PartitionTier, sequence: int) -> None:
        head = tier.head
        await self._manifests.put_head(tier.keys, head)
        if tier.keys.partition == 0:
            await self._put_topic_record(tier)
        tier.head_copied_sequence = head.sequence
        tier.head_copied_ms = self._now_ms()
        assert head.sequence >= sequence

    async def _put_topic_record(self, tier: PartitionTier) -> None:
        record = {
            "format_version": 1,
            "name": tier.partition.topic_partition.topic,
            "topic_id": tier.keys.topic_id.hex(),
        }
        data = json.dumps(record).encode()
        key = topic_record(tier.keys.cluster_id, tier.keys.topic_id)
        await self._objects.put(key, data, size_bytes=len(data))

    # -- orphans

    async def _settle(self, tier: PartitionTier) -> None:
        """Deletes what failed or was never committed, as soon as that is certain."""
        await self.load(tier)
        orphans = tier.attempts.settle(tier.catalog)
        if orphans:
            await self._objects.delete([tier.keys.segment(name) for name in orphans])
            tier.attempts.deleted(name.uuid for name in orphans)
            tier.counters.orphans_deleted += len(orphans)

    async def sweep(self, tier: PartitionTier) -> None:
        """Once per leadership: deletes what older leaders left without committing it."""
        names = []
        async for info in list_all(self._objects, tier.keys.segments_prefix):
            name = tier.keys.parse_segment(info.key)
            if name is not None:
                names.append(name)
        metas = []
        async for info in list_all(self._objects, tier.keys.meta_prefix):
            meta = tier.keys.parse_meta(info.key)
            if meta is not None and meta.leader_epoch < tier.leader_epoch:
                metas.append((meta, info.key))
        await self.load(tier)  # after the listing: what was committed meanwhile is seen
        orphans = [tier.keys.segment(name) for name in tier.attempts.sweep(names, tier.catalog)]
        known = tier.head.meta_objects() | {row.name for row in tier.pages.rows}
        orphans += [key for meta, key in metas if meta not in known]
        if orphans:
            logger.info("deleting orphans", partition=str(tier), count=len(orphans))
            await self._objects.delete(orphans)
            tier.counters.orphans_deleted += len(orphans)
        tier.is_swept = True


def _with_copied(head: TierHead, entry: SegmentEntry) -> TierHead:
    """A start that moved past the end while the segment was copied has moved the end with it."""
    if head.end != entry.base_offset:
        raise HeadMoved(f"the tier ends at {head.end} by now, the copy begins at {entry.base_offset}")
    return head.with_committed(entry)


RETRIED = (ObjectStoreError, StoreUnavailable, OSError)
"""The world outside: worth another try later, without reading the head again."""
