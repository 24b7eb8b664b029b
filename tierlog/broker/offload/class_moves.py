"""Moves segments into colder storage classes, as a topic's ladder says.

The object is copied onto itself within the store, then a commit lets the entry say so.

Rules:

* The commit is what counts. An object that was moved and not committed (a crash, a lost leadership) is met again: its class
  tells, and it is not moved twice.
* An object is copied only as the version that the entry knows. One that somebody else has written is left alone, loudly.
* A store that keeps what is overwritten (versioning, object lock) would keep, and bill, every former copy: nothing is moved.
* What was moved before an error is committed all the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from tiering.errors import CorruptObject
from tiering.ladder import Ladder, Move, look, with_moves
from tiering.manifest import Manifests
from tiering.model import MetaObject, SegmentEntry, TierHead, hash_of_version
from tiering.objects.classes import ClassNames, StorageClass
from tiering.objects.port import ObjectStore
from tiering.pages import Pages
from tiering.replacing import Replacement, replace_entries
from tierlog.broker.offload.heads import HeadMoved
from tierlog.broker.offload.repeated_warnings import RepeatedWarnings
from tierlog.broker.offload.sources import ladder_of
from tierlog.broker.offload.tier import PartitionTier

logger = structlog.get_logger()

MOVES_AT_ONCE = 8
FORMAT_WITH_CLASSES = 2
LADDER_INTERVAL_MS = 60_000
"""Between two passes over a partition's entries."""


class CommitWritten(Protocol):
    """``TierWork``'s: commits a head that names objects that were just written."""

    def __call__(
        self,
        tier: PartitionTier,
        uuids: Sequence[bytes],
        change: Callable[[TierHead], TierHead],
        pages: Callable[[], Pages] | None = None,
    ) -> Awaitable[None]: ...


class ClassMoves:
    """The ladder's work of all partitions. ``names``: what the store calls its classes; empty if it has only one."""

    def __init__(
        self,
        objects: ObjectStore,
        manifests: Manifests,
        commit_written: CommitWritten,
        names: dict[StorageClass, ClassNames],
        now_ms: Callable[[], int],
        format_version: Callable[[], int],
    ) -> None:
        self._format_version = format_version
        self._objects = objects
        self._manifests = manifests
        self._commit_written = commit_written
        self._names = names
        self._now_ms = now_ms
        self._turns = asyncio.Semaphore(MOVES_AT_ONCE)
        self._warnings = RepeatedWarnings()
        self._keeps_old: str | None = None
        self._is_checked = False

    def ladder(self, tier: PartitionTier) -> Ladder | None:
        """That of the topic; None if it has none, or nothing can be moved here."""
        return ladder_of(tier.partition.config, self._names)

    async def step(self, tier: PartitionTier) -> bool:
        """Carries out the next moves and commits them; whether there may be more at once. Raises as ``TierWork.step``."""
        now_ms = self._now_ms()
        ladder = self.ladder(tier)
        if ladder is None or now_ms < tier.next_ladder_ms:
            return False
        if await self._is_hindered(tier) or not await self._has_room_for_classes(tier):
            tier.next_ladder_ms = now_ms + LADDER_INTERVAL_MS
            return False
        found = look(tier.catalog, ladder, now_ms, tier.ladder_offset)
        if found.moves:
            await self._carry_out(tier, found.moves)
        tier.ladder_offset = found.next_offset
        if found.next_offset < tier.end_offset:
            await asyncio.sleep(0)
            return True
        tier.ladder_offset, tier.next_ladder_ms = 0, now_ms + LADDER_INTERVAL_MS
        return False

    async def _has_room_for_classes(self, tier: PartitionTier) -> bool:
        """Whether the head is of a format that knows classes; makes it so once the cluster allows that format."""
        if self._format_version() < FORMAT_WITH_CLASSES:
            self._warnings.say(
                logger.warning,
                "no segment changes its storage class before every broker knows the format that tells it: "
                "run tierlog cluster features upgrade",
                "format",
                partition=str(tier),
            )
            return False
        if tier.head.format_version < FORMAT_WITH_CLASSES:
            await tier.commit(lambda head: head.renewed())
        return True

    async def _is_hindered(self, tier: PartitionTier) -> bool:
        if not self._is_checked:
            self._keeps_old = await self._objects.keeps_old_versions()
            self._is_checked = True
        if self._keeps_old is not None:
            self._warnings.say(
                logger.error,
                "no segment changes its storage class: the bucket would keep, and bill, every former copy",
                "kept versions",
                partition=str(tier),
                why=self._keeps_old,
            )
        return self._keeps_old is not None

    async def _carry_out(self, tier: PartitionTier, moves: Sequence[Move]) -> None:
        answers = await asyncio.gather(*(self._move(tier, move) for move in moves), return_exceptions=True)
        moved = [each for each in answers if isinstance(each, SegmentEntry)]
        if moved:
            await self._commit(tier, moved)
            tier.counters.class_moves += len(moved)
            tier.counters.class_move_bytes += sum(each.object_bytes for each in moved)
        for answer in answers:
            if isinstance(answer, BaseException):
                tier.counters.class_move_errors += 1
                raise answer

    async def _move(self, tier: PartitionTier, move: Move) -> SegmentEntry | None:
        """The entry after the move; None if the object is not the one that the entry knows."""
        entry, target = move
        key = tier.keys.segment(entry)
        async with self._turns:
            info = await self._objects.head(key, complete=True)
            since_ms = self._now_ms()
            if info.storage_class is not None and self._names[info.storage_class] == self._names[target]:
                since_ms = info.modified_ms or since_ms  # An earlier try moved it.
            elif entry.version_hash and entry.version_hash != hash_of_version(info.version):
                self._warnings.say(
                    logger.error,
                    "an object of the tier is not the one that was written: its class is left alone",
                    key,
                    partition=str(tier),
                    object=key,
                )
                return None
            else:
                info = await self._objects.copy(key, key, version=info.version, storage_class=target)
        if info.size_bytes != entry.object_bytes:
            raise CorruptObject(f"{key}: {info.size_bytes} bytes stand where {entry.object_bytes} were")
        return entry._replace(
            storage_class=int(target), class_since_ms=since_ms, version_hash=hash_of_version(info.version)
        )

    async def _commit(self, tier: PartitionTier, moved: Sequence[SegmentEntry]) -> None:
        names: list[MetaObject] = []

        def name() -> MetaObject:
            names.append(MetaObject(tier.head.sequence, tier.leader_epoch, secrets.token_bytes(16)))
            return names[-1]

        run = with_moves(tier.catalog, moved)
        planned = replace_entries(tier.head, tier.pages, run, name)
        if planned is None:
            raise HeadMoved(f"{tier}: the entries that moved are others by now")
        change = planned.change
        for each in names:
            tier.attempts.copying(each)
        if change is not None:
            try:
                await self._manifests.write(tier.keys, change, tier.head.format_version)
            except BaseException:
                for each in names:
                    tier.attempts.failed(each.uuid)
                raise
        await self._commit_written(
            tier,
            [each.uuid for each in names],
            lambda head: self._after(planned, head),
            None if change is None else lambda: change.pages,
        )

    def _after(self, planned: Replacement, head: TierHead) -> TierHead:
        after = planned.after(head, self._now_ms())
        if after is None:
            raise HeadMoved("the entries that moved are others by now")
        return after
