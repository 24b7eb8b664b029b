"""Deletes objects from the bucket, and keeps track of those that the store refuses to delete.

Rule: nothing waits for a delete. An object is deleted only when no head names it that anybody may still read (see
``tiering.lifecycle``). So an object that the store refuses to delete is left to a later sweep, which lists the partition's
objects and tries again. A sweep holds one page of a listing in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from tiering.errors import CorruptObject, ObjectStoreError
from tiering.head_codec import decode_head
from tiering.keys import PartitionKeys
from tiering.lifecycle import ObjectName
from tiering.model import MetaObject
from tiering.objects.port import LIST_LIMIT_MAX, ObjectInfo, ObjectStore
from tiering.sweeping.sweeps import Waiting
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of

logger = structlog.get_logger()


@dataclass(slots=True)
class Seen:
    """What a sweep has met of one partition so far."""

    tier: PartitionTier
    waiting: Waiting = field(default_factory=Waiting)
    copies: list[ObjectInfo] = field(default_factory=list)
    """Copies of the head, the oldest first: two at most."""


class Deletes:
    """The deletes of all partitions. ``load``: reads a tier's head again."""

    def __init__(
        self,
        objects: ObjectStore,
        load: Callable[[PartitionTier], Awaitable[None]],
        now_ms: Callable[[], int],
    ) -> None:
        self._objects = objects
        self._load = load
        self._now_ms = now_ms
        self._warnings = RepeatedWarnings()

    async def remove(self, tier: PartitionTier, sizes: Mapping[str, int]) -> int:
        """Deletes these keys and returns how many are gone. ``sizes``: key → bytes, 0 if unknown. Keys that the store
        refuses to delete are counted as waiting and left to the sweep."""
        gone = await self._delete(tier, sizes, tier.sweeps.waiting)
        if gone < len(sizes):
            tier.sweeps.wanted(self._now_ms())
        return gone

    async def _delete(self, tier: PartitionTier, sizes: Mapping[str, int], waiting: Waiting) -> int:
        if not sizes:
            return 0
        refused: dict[str, ObjectStoreError]
        try:
            refused = await self._objects.delete(sizes)
            tier.deletes_fail = False
        except ObjectStoreError as error:
            refused = dict.fromkeys(sizes, error)
            tier.deletes_fail = True
        for key in refused:
            waiting.add(sizes[key])
        if refused:
            tier.counters.delete_errors += len(refused)
            key, why = next(iter(refused.items()))
            self._warnings.say(
                logger.warning,
                "objects cannot be deleted: they stay until a later sweep, and all else goes on",
                kind_of(why),
                partition=str(tier),
                objects=len(refused),
                first=key,
                kind=kind_of(why),
                why=str(why),
            )
        return len(sizes) - len(refused)

    # -- orphans

    async def settle(self, tier: PartitionTier) -> None:
        """Deletes the objects of this leader's failed uploads, as soon as it is certain that no head names them."""
        await self._load(tier)
        orphans = tier.attempts.settle(tier.named)
        keys = [key for name in orphans for key in keys_of(tier.keys, name)]
        # Forgotten first: if the delete is refused or interrupted, the sweep finds the objects.
        tier.attempts.deleted(name.uuid for name in orphans)
        tier.counters.orphans_deleted += await self.remove(tier, dict.fromkeys(keys, 0))
        if orphans:
            tier.sweeps.doubted(self._now_ms())  # an orphan's put may arrive after its deletion

    async def see(self, seen: Seen, page: Sequence[ObjectInfo]) -> None:
        """Deletes what the page holds of this partition and no head names: objects that older leaders wrote but never
        committed, and those that could not be deleted before. Raises the errors of both stores."""
        await self._sweep_page(seen.tier, page, seen.waiting)
        seen.copies = await self._sweep_copies(seen.tier, [*seen.copies, *page], seen.waiting)

    async def seen_all(self, seen: Seen) -> None:
        """The listing is over: settles what only the whole of it tells. Raises the errors of both stores."""
        tier, copies = seen.tier, seen.copies
        if copies:
            await self._sweep_unordered_copy(tier, copies, seen.waiting)
        if tier.revision > 0:
            await self._load(tier)  # a commit of unknown outcome may have been applied since
        found = tier.keys.parse_head_copy(copies[-1].key) if copies else None
        if found is None or found < tier.head_copied_sequence:
            tier.head_copied_sequence = -1  # the copy is gone and must be written again
        tier.sweeps.done(seen.waiting, self._now_ms())

    async def _sweep_page(self, tier: PartitionTier, page: Sequence[ObjectInfo], waiting: Waiting) -> None:
        named = tier.named
        found: dict[ObjectName, ObjectInfo] = {}
        for info in page:
            name = tier.keys.parse(info.key)
            if name is not None and name not in named:
                found[name] = info
        if not found:
            return
        await self._load(tier)  # after the listing, so that commits made meanwhile are seen
        orphans = list(tier.attempts.sweep(found, tier.named))
        if tier.attempts.awaits_later_head(tier.named):
            await tier.commit(lambda head: head.renewed())
            await self._load(tier)
            settled = [name for name in tier.attempts.settle(tier.named) if name in found]
            tier.attempts.deleted(name.uuid for name in settled)
            orphans += settled
        if orphans:
            logger.info("deleting orphans", partition=str(tier), count=len(orphans))
            sizes = {found[name].key: found[name].size_bytes for name in orphans}
            tier.counters.orphans_deleted += await self._delete(tier, sizes, waiting)

    async def _sweep_copies(
        self, tier: PartitionTier, listed: Sequence[ObjectInfo], waiting: Waiting
    ) -> list[ObjectInfo]:
        """Deletes all copies of the head but the newest. Returns the copies that remain: the unordered one first, if any,
        then the newest."""
        by_key = {info.key: info for info in listed}
        older = tier.keys.older_head_copies(by_key)
        await self._delete(tier, {key: by_key.pop(key).size_bytes for key in older}, waiting)
        unordered = tier.keys.unordered_head_copy
        return [
            info
            for info in by_key.values()
            if info.key == unordered or tier.keys.parse_head_copy(info.key) is not None
        ]

    async def _sweep_unordered_copy(
        self, tier: PartitionTier, copies: Sequence[ObjectInfo], waiting: Waiting
    ) -> None:
        """Deletes the head copy that an earlier release wrote without a sequence in its key, once a copy that is at least as
        new stands beside it."""
        key, newest = tier.keys.unordered_head_copy, tier.keys.parse_head_copy(copies[-1].key)
        if copies[0].key == key and newest is not None:
            _, data = await self._objects.get(key)
            try:
                sequence = decode_head(bytes(data), key).sequence
            except CorruptObject:
                sequence = -1
            if sequence <= newest:
                await self._delete(tier, {key: copies[0].size_bytes}, waiting)


def keys_of(keys: PartitionKeys, name: ObjectName) -> tuple[str, ...]:
    """The keys that the object may have: a meta object's name does not tell whether it is a page or an index."""
    return (keys.page(name), keys.page_index(name)) if isinstance(name, MetaObject) else (keys.segment(name),)


async def pages_of(objects: ObjectStore, prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
    """The listing of a prefix, page by page."""
    start_after = ""
    while True:
        page = await objects.list(prefix, start_after=start_after)
        if page:
            yield page
        if len(page) < LIST_LIMIT_MAX:
            return
        start_after = page[-1].key
