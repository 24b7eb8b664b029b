"""Carries out one partition's plan, action by action; plans anew after each commit.

Every step may be repeated and may be interrupted anywhere: only commits in the metadata store count. Objects in the bucket
that were never committed are deleted by the rules of ``tiering.lifecycle``.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import assert_never

import structlog

from tiering.copying.port import Copier, Target
from tiering.copying.source import CorruptSource
from tiering.copying.turns import Claim, CopyTurns
from tiering.errors import ObjectStoreError
from tiering.keys import SegmentName, topic_record
from tiering.ladder import class_at_copy
from tiering.ledger.rows import Cause
from tiering.manifest import Manifests
from tiering.metering.attribution import attributed
from tiering.model import MetaObject, SegmentEntry, TierHead
from tiering.objects.port import ObjectStore
from tiering.pages import PageChange, Pages, move_to_page
from tiering.planner import (
    Action,
    AdvanceStart,
    CopyHead,
    CopySegment,
    DeleteDisplaced,
    DeleteObjects,
    DeleteStale,
    Facts,
    Policy,
    ReportGap,
    WritePage,
    local_only_bytes,
    plan,
)
from tierlog.broker.offload.class_moves import ClassMoves
from tierlog.broker.offload.cleaning.deletes import Deletes, keys_of
from tierlog.broker.offload.commits import Commits, fresh_name
from tierlog.broker.offload.heads import Fenced, HeadMoved, HeadStore, read_with_pages
from tierlog.broker.offload.sources import facts_of, policy_of, source_of
from tierlog.broker.offload.stores.topic_stores import TopicStores
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.errors import StoreUnavailable
from tierlog.log.removals import COMPACTION

logger = structlog.get_logger()

ORPHANS_MAX = 64


# (tier, end offset, why) → whether the segment can be copied now. Repairs the local segment that ends at the offset
# (exclusive) and could not be copied; ``why`` is the error's text.
Mend = Callable[[PartitionTier, int, str], Awaitable[bool]]


class TierWork:
    """The steps of the partitions' jobs, with the parts that all jobs share."""

    def __init__(
        self,
        objects: ObjectStore,
        stores: TopicStores,
        heads: HeadStore,
        manifests: Manifests,
        mover: Copier,
        *,
        now_ms: Callable[[], int],
        delete_grace_ms: int,
        copies_at_once: int,
        ladder_interval_ms: int,
        on_tiered: Callable[[Partition], object],
        mend_segment: Mend,
    ) -> None:
        self.deletes = Deletes(objects, self.load, now_ms)
        self._commits = Commits(manifests)
        self.class_moves = ClassMoves(
            objects, stores, self._commits, now_ms, heads.format_version, ladder_interval_ms
        )
        self._on_tiered = on_tiered
        self._mend_segment = mend_segment
        self._objects = objects
        self._heads = heads
        self._manifests = manifests
        self._mover = mover
        self._now_ms = now_ms
        self._delete_grace_ms = delete_grace_ms
        self._copy_turns = CopyTurns[PartitionTier](copies_at_once)
        self.on_copy_turn: Callable[[PartitionTier], object] = self.leave_copying
        """Told when a partition's turn has come that was refused one before: its next ``step`` copies, or it must leave."""
        self._warnings = RepeatedWarnings()

    async def load(self, tier: PartitionTier) -> None:
        """Reads the head from the store, and its pages. A partition without a head gets an empty one at its log start."""
        async with tier.turn:
            head, revision, pages = await read_with_pages(
                self._heads, self._manifests, tier.keys, tier.head, tier.pages
            )
            if head is not None:
                tier.adopt(head, revision, pages)
                self._tell_lost(tier)
            elif tier.revision > 0:
                raise Fenced(f"{tier}: the head is gone, and the topic with it")
            else:
                log_start = tier.partition.log.log_start_offset
                tier.adopt(TierHead.empty(log_start, self._heads.format_version()), 0, Pages())

    async def mend(self, tier: PartitionTier) -> None:
        """Advances the head's start to the log start if that is larger. Then records were deleted while this broker had no
        tier, or before the metadata store went back to an older copy. Else nothing could ever be copied."""
        log_start = tier.partition.log.log_start_offset
        if log_start > tier.head.start:
            logger.warning(
                "the log start is above the tier's start: advancing the tier's start",
                partition=str(tier),
                log_start=log_start,
                tier_start=tier.head.start,
                tiered_end=tier.head.end,
            )
            await tier.commit(lambda head: head.with_start(log_start, self._now_ms()))

    def _tell_lost(self, tier: PartitionTier) -> None:
        for row in tier.pages.lost:
            is_needed = row.end_offset > tier.head.start
            self._warnings.say(
                logger.error if is_needed else logger.warning,
                "a page of the tier is gone or damaged: its offsets cannot be read"
                if is_needed
                else "a page of the tier is gone or damaged, all of it below the log start",
                row.name,
                partition=str(tier),
                first_offset=row.base_offset,
                end_offset=row.end_offset,
                page=tier.keys.page(row.name),
            )

    def policy(self, tier: PartitionTier) -> Policy:
        """Of its topic, this broker and the state of its disk."""
        config, log_dir = tier.partition.config, tier.partition.log_dir
        is_disk_short = config.delays_copies and log_dir.wanted_bytes > 0
        return policy_of(config, self._delete_grace_ms, is_disk_short=is_disk_short)

    async def step(self, tier: PartitionTier) -> bool:
        """Makes a plan and carries it out up to the first commit; returns whether there was one. Raises the errors of object
        store, disk and metadata store."""
        policy = self.policy(tier)
        now_ms = self._now_ms()
        facts = facts_of(tier, now_ms)
        actions = plan(facts, policy, now_ms)
        if not any(isinstance(action, CopySegment) for action in actions):
            self.leave_copying(tier)
        if tier.deletes_fail and tier.failures % 2 == 0:
            # A bucket that refuses deletes may still take copies, which free the local disk, so every other time they go
            # first. But a full bucket needs deletes before it takes copies.
            actions = tuple(
                sorted(
                    actions,
                    key=lambda action: isinstance(action, DeleteObjects | DeleteStale | DeleteDisplaced),
                )
            )
        sequence = tier.head.sequence
        for action in actions:
            if isinstance(action, CopySegment) and not self._may_copy(tier, facts):
                break  # the other partitions copy first; the rest of the plan are copies too
            with attributed(_cause_of(action)):
                await self._execute(tier, action)
            if tier.head.sequence != sequence:
                return True  # the rest was planned from the head before this commit
        if len(tier.attempts):
            with attributed(Cause.DELETE):
                await self.deletes.settle(tier)
        return False

    async def _execute(self, tier: PartitionTier, action: Action) -> None:
        match action:
            case AdvanceStart(offset, move):
                await tier.commit(lambda head: head.with_start(offset, self._now_ms()))
                logger.info(
                    "retention", partition=str(tier), log_start=offset, time=move.by_time, size=move.by_size
                )
            case CopySegment():
                try:
                    await self._copy(tier, action)
                finally:
                    self.leave_copying(tier)
            case WritePage(moved_count):
                await self._write_page(tier, moved_count)
            case DeleteObjects():
                await self._delete(tier, action)
            case DeleteStale(names):
                await tier.commit(lambda head: head.with_stale_removed(names))
                await self._remove_metas(tier, names)
            case DeleteDisplaced(segments):
                uuids = frozenset(each.uuid for each in segments)
                await tier.commit(lambda head: head.with_displaced_removed(uuids))
                names_of = (SegmentName(*each[:4]) for each in segments)
                await self.deletes.remove(tier, {tier.keys.segment(name): 0 for name in names_of})
            case CopyHead(sequence):
                await self._copy_head(tier, sequence)
            case ReportGap(tiered_end, local_start):
                logger.error(
                    "nothing can be copied: the local log begins after the tiered end",
                    partition=str(tier),
                    tiered_end=tiered_end,
                    local_start=local_start,
                )
            case _:
                assert_never(action)

    def _may_copy(self, tier: PartitionTier, facts: Facts) -> bool:
        claim = Claim(
            tier.partition.log_dir.wanted_bytes > 0,
            local_only_bytes(facts) - facts.active_bytes,
            self._now_ms() if tier.exposed_since_ms is None else tier.exposed_since_ms,
        )
        may_copy = self._copy_turns.may_copy(tier, claim)
        if not may_copy:
            self._grant_soon()
        return may_copy

    def leave_copying(self, tier: PartitionTier) -> None:
        """The partition copies no more, or no longer wants to: its turn, if it has one, is another's."""
        self._copy_turns.leave(tier)
        self._grant_soon()

    def has_copy_turn(self, tier: PartitionTier) -> bool:
        """Whether its turn has come and was not used yet."""
        return self._copy_turns.is_granted(tier)

    def awaits_copy_turn(self, tier: PartitionTier) -> bool:
        return self._copy_turns.is_waiting(tier)

    def _grant_soon(self) -> None:
        """Not at once, so that who has just copied may compete for the next turn."""
        asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        for tier in self._copy_turns.grant():
            self.on_copy_turn(tier)

    async def _copy(self, tier: PartitionTier, copy: CopySegment, *, is_mended: bool = False) -> None:
        log = tier.partition.log
        source = None if log.removals.holder == COMPACTION else source_of(log, copy)
        if source is None:
            return
        uuid = secrets.token_bytes(16)
        tier.counters.copy_requests += 1
        tier.attempts.copying(SegmentName(copy.base_offset, copy.end_offset, tier.leader_epoch, uuid))
        try:
            entry = await self._mover.copy(
                source,
                Target(tier.keys, tier.leader_epoch, uuid, tier.head.format_version),
                lambda timestamp_ms, data_bytes: class_at_copy(
                    self.class_moves.ladder(tier), timestamp_ms, data_bytes, self._now_ms()
                ),
            )
        except BaseException as error:
            tier.attempts.failed(uuid)
            if tier.attempts.forget(ORPHANS_MAX):
                tier.sweeps.wanted(self._now_ms())  # the sweep's listing finds the forgotten ones
            tier.counters.copy_errors += isinstance(error, Exception)  # a cancelled copy has not failed
            may_be_mended = isinstance(error, CorruptSource) and not is_mended
            if may_be_mended and await self._mend_segment(tier, copy.end_offset, str(error)):
                await self._copy(tier, copy, is_mended=True)
                return
            raise
        await self._commits.of_written(tier, [uuid], lambda head: _with_copied(head, entry))
        tier.counters.copy_bytes += entry.data_bytes
        self._on_tiered(tier.partition)

    async def _write_page(self, tier: PartitionTier, moved_count: int) -> None:
        planned = tier.head
        change = move_to_page(planned, tier.pages, moved_count, fresh_name(tier), fresh_name(tier))
        await self._commits.of_pages(
            tier, change, lambda head: _with_page(head, planned, moved_count, change, self._now_ms())
        )

    async def _delete(self, tier: PartitionTier, action: DeleteObjects) -> None:
        tier.counters.delete_requests += len(action.entries)
        await self.deletes.remove(
            tier, {tier.keys.segment(entry): entry.object_bytes for entry in action.entries}
        )
        await tier.commit(lambda head: head.with_retired_removed(action.end_offset, self._now_ms()))
        # Only after the commit: the next leader cannot read a tier whose head names pages that are gone.
        await self._remove_metas(tier, action.pages)

    async def _remove_metas(self, tier: PartitionTier, names: Iterable[MetaObject]) -> None:
        """Deletes pages or indexes that the head no longer names."""
        keys = sorted(key for name in names for key in keys_of(tier.keys, name))
        await self.deletes.remove(tier, dict.fromkeys(keys, 0))

    async def _copy_head(self, tier: PartitionTier, sequence: int) -> None:
        head = tier.head
        try:
            await self._manifests.put_head(tier.keys, head)
            if tier.keys.partition == 0 and tier.head_copied_sequence < 0:
                await self._put_topic_record(tier)  # which does not change
        except ObjectStoreError as error:
            self._warnings.say(
                logger.warning,
                "a tier's head could not be copied to the bucket: it will be tried again",
                kind_of(error),
                partition=str(tier),
                kind=kind_of(error),
                why=str(error),
            )
            tier.head_copied_ms = self._now_ms()
            return  # nothing else waits for the head's copy
        replaced, tier.head_copied_sequence = tier.head_copied_sequence, head.sequence
        tier.head_copied_ms = self._now_ms()
        assert head.sequence >= sequence
        if 0 <= replaced < head.sequence:  # the sweep deletes the copies of earlier leaders
            await self.deletes.remove(tier, {tier.keys.head_copy(replaced): 0})

    async def _put_topic_record(self, tier: PartitionTier) -> None:
        record = {
            "format_version": 1,
            "name": tier.partition.topic_partition.topic,
            "topic_id": tier.keys.topic_id.hex(),
        }
        data = json.dumps(record).encode()
        key = topic_record(tier.keys.cluster_id, tier.keys.topic_id)
        await self._objects.put(key, data, size_bytes=len(data))


def _cause_of(action: Action) -> Cause:
    match action:
        case CopySegment():
            return Cause.COPY
        case WritePage() | CopyHead():
            return Cause.COMMIT
        case _:
            return Cause.DELETE


def _with_copied(head: TierHead, entry: SegmentEntry) -> TierHead:
    """The head with the copied segment. If the log start passed the tiered end during the copy, both have moved, and the
    segment no longer fits."""
    if head.end != entry.base_offset:
        raise HeadMoved(f"the tier ends at {head.end} by now, the copy begins at {entry.base_offset}")
    return head.with_committed(entry)


def _with_page(head: TierHead, planned: TierHead, count: int, change: PageChange, now_ms: int) -> TierHead:
    """The head with the new page. Its start may have moved meanwhile (DeleteRecords), which changes neither tail nor pages.
    But after an unknown outcome the head was read again, and may be another leader's."""
    if (head.page_index, head.tail[:count]) != (planned.page_index, planned.tail[:count]):
        raise HeadMoved("the entries that moved to a page are not the oldest of the tail by now")
    return head.with_page(change.index_ref, count, change.replaced, now_ms)


RETRIED = (ObjectStoreError, StoreUnavailable, OSError)
"""The world outside: worth another try later, without reading the head again."""
