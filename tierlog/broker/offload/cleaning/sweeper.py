"""Sweeps the partitions led here: finds the objects that no head names, and deletes those that are orphans.

``tiering.sweeping.sweeps`` says when a partition is due, ``tiering.sweeping.tour`` which requests that takes, and
``tiering.lifecycle`` what an orphan is. All that are due are looked at in one tour of each bucket, so that a broker that
starts with many small partitions asks little. Sweeps run beside the partitions' jobs, and neither waits for the other.

Each request takes one from the budget (``tierlog.remote.sweep.requests.per.hour``); with none left a tour stands still until
the next hour begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from tiering.errors import TieringError
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.objects.port import ObjectInfo
from tiering.sweeping.sweeps import HourlyBudget
from tiering.sweeping.tour import Part, Tour
from tierlog.broker.offload.cleaning.deletes import Deletes, Seen
from tierlog.broker.offload.stores.topic_stores import TopicStores
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of

logger = structlog.get_logger()

TICK_S = 1.0
"""Also how long those that become due together are gathered."""
PARTS_PER_SLICE = 100


class Budget:
    """``HourlyBudget``, waited for; shared by all that looks for leftovers."""

    def __init__(self, requests_per_hour: int, now_ms: Callable[[], int]) -> None:
        self.hourly = HourlyBudget(requests_per_hour)
        self._now_ms = now_ms

    async def take(self) -> None:
        """Waits until one more request may be made."""
        while (wait_ms := self.hourly.wait_ms(self._now_ms())) > 0:
            await asyncio.sleep(wait_ms / 1_000)


class Sweeper:
    """One per broker; ``run`` until cancelled. ``failed(tier, error)``: told what kept a partition's sweep from its end."""

    def __init__(
        self,
        stores: TopicStores,
        deletes: Deletes,
        tiers: Callable[[], Iterable[PartitionTier]],
        budget: Budget,
        now_ms: Callable[[], int],
        failed: Callable[[PartitionTier, Exception], None],
    ) -> None:
        self._stores = stores
        self._deletes = deletes
        self._tiers = tiers
        self._budget = budget
        self._now_ms = now_ms
        self._failed = failed
        self._warnings = RepeatedWarnings()

    async def run(self) -> None:
        """Runs for ever, once the bucket is known to be ours."""
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._now_ms()
            due = [tier for tier in self._tiers() if tier.is_loaded and tier.sweeps.is_due(now_ms)]
            by_store: dict[str, list[PartitionTier]] = {}
            for tier in due:
                by_store.setdefault(self._stores.key_of(tier.store), []).append(tier)
            with attributed(Cause.SWEEP):
                for store, tiers in by_store.items():
                    await self._sweep(store, tiers)

    async def _sweep(self, store: str, due: Iterable[PartitionTier]) -> None:
        seen_in: dict[str, Seen] = {}
        for tier in due:
            seen = Seen(tier)
            seen_in |= {tier.keys.segments_prefix: seen, tier.keys.meta_prefix: seen}
        tour = Tour(seen_in)
        try:
            objects = await self._stores.opened(store)
            while (start_after := tour.start_after) is not None:
                await self._budget.take()
                page = await objects.list("", start_after=start_after)
                await self._take(tour.take([info.key for info in page]), page, seen_in)
        except TieringError as error:
            for tier in {seen.tier for seen in seen_in.values()}:
                tier.sweeps.failed(self._now_ms())
            self._complain(error, object_store=self._stores.shown(store))

    async def _take(
        self, parts: Sequence[Part], page: Sequence[ObjectInfo], seen_in: dict[str, Seen]
    ) -> None:
        for number, part in enumerate(parts):
            if number % PARTS_PER_SLICE == PARTS_PER_SLICE - 1:
                await asyncio.sleep(0)
            seen = seen_in.get(part.folder)
            if seen is None:  # it has failed
                continue
            tier = seen.tier
            if part.is_last:
                del seen_in[part.folder]
            try:
                if part.first < part.end:
                    await self._deletes.see(seen, page[part.first : part.end])
                if not {tier.keys.segments_prefix, tier.keys.meta_prefix} & seen_in.keys():
                    await self._deletes.seen_all(seen)
            except Exception as error:
                seen_in.pop(tier.keys.segments_prefix, None)
                seen_in.pop(tier.keys.meta_prefix, None)
                tier.sweeps.failed(self._now_ms())
                if isinstance(error, TieringError):
                    self._complain(error, partition=str(tier))
                else:
                    self._failed(tier, error)

    def _complain(self, error: Exception, **fields: object) -> None:
        event, kind = "cannot sweep orphans: trying again later", kind_of(error)
        self._warnings.say(logger.warning, event, kind, kind=kind, why=str(error), **fields)
