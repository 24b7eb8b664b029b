"""Moves segments into colder storage classes, as a topic's ladder says.

The object is copied onto itself within the store, then a commit lets the entry say so.

Rules:

* The commit is what counts. An object that was moved and not committed (a crash, a lost leadership) is met again: its class
  tells, and it is not moved twice.
* An object is copied only as the version that the entry knows. One that somebody else has written is left alone, loudly.
* A store that keeps what is overwritten (versioning, object lock) would keep, and bill, every former copy: nothing is moved.
* What was moved before an error is committed all the same. An object that cannot be moved (gone, damaged, under a hold) is
  said and passed over; only a store that refuses everything, or is away, ends the pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from tiering.errors import CorruptObject, ObjectStoreError
from tiering.ladder import Ladder, Move, look, with_moves
from tiering.model import SegmentEntry, TierHead, hash_of_version
from tiering.objects.classes import ClassNames, StorageClass
from tiering.objects.port import ObjectStore
from tiering.replacing import Replacement, replace_entries
from tierlog.broker.offload.commits import Commits, fresh_name
from tierlog.broker.offload.heads import HeadMoved
from tierlog.broker.offload.sources import ladder_of
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.work.repeated_warnings import RepeatedWarnings
from tierlog.config.tiers import Rung

logger = structlog.get_logger()

MOVES_AT_ONCE = 8
FORMAT_WITH_CLASSES = 2
NOT_MOVED = (ObjectStoreError, CorruptObject)
BUCKET_CHECK_MS = 600_000
"""Whether the bucket keeps former versions is asked so often."""


class ClassMoves:
    """The ladder's work of all partitions. ``names``: what the store calls its classes; empty if it has only one."""

    def __init__(
        self,
        objects: ObjectStore,
        commits: Commits,
        names: dict[StorageClass, ClassNames],
        now_ms: Callable[[], int],
        format_version: Callable[[], int],
        interval_ms: int,
    ) -> None:
        self._interval_ms = interval_ms
        """Between two passes over a partition's entries."""
        self._format_version = format_version
        self._objects = objects
        self._commits = commits
        self._names = names
        self._now_ms = now_ms
        self._turns = asyncio.Semaphore(MOVES_AT_ONCE)
        self._warnings = RepeatedWarnings()
        self._keeps_old: str | None = None
        self._next_check_ms = 0

    def ladder(self, tier: PartitionTier, rungs: tuple[Rung, ...] | None = None) -> Ladder | None:
        """That of the topic, or of these rungs; None if there is none, or nothing can be moved here."""
        config = tier.partition.config
        return ladder_of(config if rungs is None else replace(config, tierlog_tiers=rungs), self._names)

    @property
    def hindrance(self) -> str | None:
        """Why nothing is moved here, as far as it is known."""
        if not self._names:
            return "the object store has one storage class"
        if self._format_version() < FORMAT_WITH_CLASSES:
            return "not every broker knows the format that tells classes: tierlog cluster features upgrade"
        return self._keeps_old

    async def step(self, tier: PartitionTier) -> bool:
        """Carries out the next moves and commits them; whether there may be more at once. Raises as ``TierWork.step``."""
        now_ms = self._now_ms()
        ladder = self.ladder(tier)
        if ladder is None or now_ms < tier.next_ladder_ms:
            return False
        if await self._is_hindered(tier) or not await self._has_room_for_classes(tier):
            tier.next_ladder_ms = now_ms + self._interval_ms
            return False
        found = look(tier.catalog, ladder, now_ms, tier.ladder_offset)
        if found.moves:
            await self._carry_out(tier, found.moves)
        tier.ladder_offset = found.next_offset
        if found.next_offset < tier.end_offset:
            await asyncio.sleep(0)
            return True
        tier.ladder_offset, tier.next_ladder_ms = 0, now_ms + self._interval_ms
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
        if self._now_ms() >= self._next_check_ms:
            self._keeps_old = await self._objects.keeps_old_versions()
            self._next_check_ms = self._now_ms() + BUCKET_CHECK_MS
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
        failures = [each for each in answers if isinstance(each, BaseException)]
        tier.counters.class_move_errors += len(failures)
        for failure in failures:
            may_pass = not isinstance(failure, NOT_MOVED) or getattr(failure, "retriable", False)
            if may_pass or len(failures) == len(moves) > 1:
                raise failure
            self._say_left_alone(tier, str(failure))

    def _say_left_alone(self, tier: PartitionTier, why: str) -> None:
        self._warnings.say(
            logger.error,
            "an object of the tier stays in its storage class: it cannot be moved",
            why,
            partition=str(tier),
            why=why,
        )

    async def _move(self, tier: PartitionTier, move: Move) -> SegmentEntry:
        """The entry after the move. Raises ``CorruptObject`` if the object is not the one that the entry knows."""
        entry, target = move
        key = tier.keys.segment(entry)
        async with self._turns:
            info = await self._objects.head(key, complete=True)
            since_ms = self._now_ms()
            if info.storage_class is not None and self._names[info.storage_class] == self._names[target]:
                since_ms = info.modified_ms or since_ms  # An earlier try moved it.
            elif entry.version_hash and entry.version_hash != hash_of_version(info.version):
                raise CorruptObject(f"{key}: not the object that was written here")
            else:
                info = await self._objects.copy(key, key, version=info.version, storage_class=target)
        if info.size_bytes != entry.object_bytes:
            raise CorruptObject(f"{key}: {info.size_bytes} bytes stand where {entry.object_bytes} were")
        return entry._replace(
            storage_class=int(target), class_since_ms=since_ms, version_hash=hash_of_version(info.version)
        )

    async def _commit(self, tier: PartitionTier, moved: Sequence[SegmentEntry]) -> None:
        """Of those that are retired by now, nobody needs to know the class."""
        live = [entry for entry in moved if entry.end_offset > tier.head.start]
        if not live:
            return
        run = with_moves(tier.catalog, live)
        planned = replace_entries(tier.head, tier.pages, run, lambda: fresh_name(tier))
        if planned is None:
            raise HeadMoved(f"{tier}: the entries that moved are others by now")
        if planned.change is None:
            await tier.commit(lambda head: self._after(planned, head))
        else:
            await self._commits.of_pages(tier, planned.change, lambda head: self._after(planned, head))

    def _after(self, planned: Replacement, head: TierHead) -> TierHead:
        after = planned.after(head, self._now_ms())
        if after is None:
            raise HeadMoved("the entries that moved are others by now")
        return after
