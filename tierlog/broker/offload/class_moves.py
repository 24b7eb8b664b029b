"""Moves segments into colder storage classes, as a topic's ladder says.

The object is copied onto itself within the store, then a commit lets the entry say so.

Rules:

* The commit is what counts. An object that was moved and not committed (a crash, a lost leadership) is met again: its class
  tells, and it is not moved twice.
* An object is copied only as the version that the entry knows. One that somebody else has written is left alone, loudly.
* A store that keeps what is overwritten (versioning, object lock) would keep, and bill, every former copy: nothing is moved.
* What was moved before an error is committed all the same. An object that cannot be moved (gone, another one) is said and
  passed over; what the store refuses otherwise ends the pass until the next one.
* Between two looks the partition's copies, retention and deletes have their turn, and where all turns for moves are taken
  nothing waits for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from tiering.errors import CorruptObject, NotFound, ObjectStoreError, PreconditionFailed
from tiering.formats import FIRST_VERSION
from tiering.ladder import Found, Ladder, Move, found_as, look, with_moves
from tiering.model import SegmentEntry, TierHead, hash_of_version
from tiering.objects.port import ObjectStore
from tiering.replacing import Replacement, replace_entries
from tierlog.broker.offload.commits import Commits, fresh_name
from tierlog.broker.offload.heads import HeadMoved
from tierlog.broker.offload.sources import ladder_of
from tierlog.broker.offload.stores.topic_stores import TopicStores
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.config.tiers import Rung

logger = structlog.get_logger()

MOVES_AT_ONCE = 8
OF_ONE_OBJECT = (NotFound, PreconditionFailed, CorruptObject)
"""Errors that say nothing of the objects beside it."""
BUCKET_CHECK_MS = 600_000
"""Whether the bucket keeps former versions is asked so often."""


@dataclass(slots=True)
class _Versioning:
    """What a store has said of former versions; ``keeps_old``: why it keeps them, None if it does not."""

    keeps_old: str | None = None
    next_check_ms: int = 0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClassMoves:
    """The ladder's work of all partitions, in the stores that they have."""

    def __init__(
        self,
        objects: ObjectStore,
        stores: TopicStores,
        commits: Commits,
        now_ms: Callable[[], int],
        format_version: Callable[[], int],
        interval_ms: int,
    ) -> None:
        self._interval_ms = interval_ms
        """Between two passes over a partition's entries."""
        self._format_version = format_version
        self._objects = objects
        self._commits = commits
        self._stores = stores
        self._now_ms = now_ms
        self._turns = asyncio.Semaphore(MOVES_AT_ONCE)
        self._warnings = RepeatedWarnings()
        self._versioning: dict[str, _Versioning] = {}
        """By store, of those that were asked: as many as ``STORES_MAX``, and those of topics that are gone."""

    def ladder(self, tier: PartitionTier, rungs: tuple[Rung, ...] | None = None) -> Ladder | None:
        """That of the topic, or of these rungs; None if there is none, or nothing can be moved here."""
        config = tier.partition.config
        return ladder_of(
            config if rungs is None else replace(config, tierlog_tiers=rungs),
            self._stores.class_names(tier.store),
        )

    def hindrance(self, tier: PartitionTier) -> str | None:
        """Why nothing of it is moved, as far as it is known."""
        if not self._stores.class_names(tier.store):
            return "the object store has one storage class"
        if self._format_version() == FIRST_VERSION:
            return "not every broker knows the format that tells classes: tierlog cluster features upgrade"
        return self._versioning_of(tier).keeps_old

    def _versioning_of(self, tier: PartitionTier) -> _Versioning:
        return self._versioning.setdefault(self._stores.key_of(tier.store), _Versioning())

    async def step(self, tier: PartitionTier) -> bool:
        """Carries out the next moves and commits them; whether the pass goes on.

        Raises what a commit raises. What the object store refuses ends the pass and nothing else, since a partition's copies
        must not wait for its ladder."""
        now_ms = self._now_ms()
        ladder = self.ladder(tier)
        if ladder is None or now_ms < tier.next_ladder_ms or self._turns.locked():
            return False
        try:
            if await self._hindered_by(tier) or not await self._has_room_for_classes(tier):
                self._end_pass(tier)
                return False
            found = look(tier.catalog, ladder, now_ms, tier.ladder_offset)
            if found.moves:
                await self._carry_out(tier, found.moves, ladder)
        except (ObjectStoreError, CorruptObject) as error:
            self._say(tier, "the storage classes of a partition are looked at again later", error)
            self._end_pass(tier)
            return False
        if self.ladder(tier) != ladder:  # altered meanwhile
            tier.ladder_offset = 0
            return True
        tier.ladder_offset = found.next_offset
        if found.next_offset < tier.end_offset:
            await asyncio.sleep(0)
            return True
        self._end_pass(tier)
        return False

    def _end_pass(self, tier: PartitionTier) -> None:
        tier.ladder_offset, tier.next_ladder_ms = 0, self._now_ms() + self._interval_ms

    async def _has_room_for_classes(self, tier: PartitionTier) -> bool:
        """Whether the head is of a format that knows classes; makes it so once the cluster allows that format."""
        if self._format_version() == FIRST_VERSION:
            self._warnings.say(
                logger.warning,
                "no segment changes its storage class before every broker knows the format that tells it: "
                "run tierlog cluster features upgrade",
                "format",
                partition=str(tier),
            )
            return False
        if tier.head.format_version == FIRST_VERSION:
            await tier.commit(lambda head: head.renewed())
        return True

    async def _hindered_by(self, tier: PartitionTier) -> str | None:
        """Why the bucket must not be touched, asked by one partition for all that are in it."""
        known = self._versioning_of(tier)
        async with known.asking:
            if self._now_ms() >= known.next_check_ms:
                known.next_check_ms = self._now_ms() + BUCKET_CHECK_MS
                try:
                    known.keeps_old = await (await self._stores.opened(tier.store)).keeps_old_versions()
                except ObjectStoreError as error:
                    known.keeps_old = f"it could not be asked: {error}"
                    known.next_check_ms = self._now_ms() + min(self._interval_ms, BUCKET_CHECK_MS)
                except asyncio.CancelledError:
                    known.next_check_ms = 0  # The next partition asks.
                    raise
        if known.keeps_old is not None:
            self._warnings.say(
                logger.error,
                "no segment changes its storage class, as the bucket may keep, and bill, every former copy",
                ("kept versions", tier.store),
                partition=str(tier),
                why=known.keeps_old,
            )
        return known.keeps_old

    async def _carry_out(self, tier: PartitionTier, moves: Sequence[Move], ladder: Ladder) -> None:
        """Raises the first error that is not of one object alone, once the others are committed."""
        work = (self._move(tier, move, ladder) for move in moves)
        answers = await asyncio.gather(*work, return_exceptions=True)
        moved = [each for each in answers if isinstance(each, SegmentEntry)]
        if moved:
            await self._commit(tier, moved)
            tier.counters.class_moves += len(moved)
            tier.counters.class_move_bytes += sum(each.object_bytes for each in moved)
        failures = [each for each in answers if isinstance(each, BaseException)]
        tier.counters.class_move_errors += len(failures)
        for failure in failures:
            if not isinstance(failure, OF_ONE_OBJECT):
                raise failure
            self._say(tier, "an object of the tier stays in its storage class: it cannot be moved", failure)

    def _say(self, tier: PartitionTier, what: str, error: Exception) -> None:
        self._warnings.say(logger.error, what, kind_of(error), partition=str(tier), why=str(error))

    async def _move(self, tier: PartitionTier, move: Move, ladder: Ladder) -> SegmentEntry:
        """The entry after the move. Raises ``CorruptObject`` if the object is not the one that the entry knows."""
        entry, target = move
        key = tier.keys.segment(entry)
        async with self._turns:
            info = await self._objects.head(key, complete=True)
            match found_as(entry, info, ladder):
                case Found.ANOTHER:
                    raise CorruptObject(f"{key}: not the object that was written here")
                case Found.COLDER:
                    assert info.storage_class is not None
                    target, since_ms = info.storage_class, info.modified_ms
                case Found.AS_KNOWN:
                    info = await self._objects.copy(key, key, version=info.version, storage_class=target)
                    since_ms = self._now_ms()
        if info.size_bytes != entry.object_bytes:
            raise CorruptObject(f"{key}: {info.size_bytes} bytes stand where {entry.object_bytes} were")
        return entry._replace(
            storage_class=int(target),
            class_since_ms=since_ms or self._now_ms(),
            version_hash=hash_of_version(info.version),
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
