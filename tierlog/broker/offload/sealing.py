"""Seals active segments by time, so that records reach the bucket though their segments do not fill up.

``tierlog.remote.copy.max.delay.ms``: records are sealed at most so long, and one tick, after they were written; the time of
the copy comes on top. This states what a lost disk may cost where a partition has one replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition

TICK_S = 1.0
TIERS_PER_SLICE = 500


class Sealing:
    """One per broker; ``run`` until cancelled. ``seal``: rolls the partition's log, and minds the disk's errors."""

    def __init__(
        self,
        tiers: Callable[[], Iterable[PartitionTier]],
        seal: Callable[[Partition], object],
        now_ms: Callable[[], int],
    ) -> None:
        self._tiers = tiers
        self._seal = seal
        self._now_ms = now_ms

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for number, tier in enumerate(self._tiers()):
                if number % TIERS_PER_SLICE == TIERS_PER_SLICE - 1:
                    await asyncio.sleep(0)
                self._look(tier)

    def _look(self, tier: PartitionTier) -> None:
        partition, now_ms = tier.partition, self._now_ms()
        if not tier.is_loaded or partition.remote is not tier or partition.offline is not None:
            return
        log, exposure = partition.log, tier.exposure
        exposure.see(log.active_base_offset, log.log_end_offset, tier.end_offset, now_ms)
        if partition.config.remote_log_copy_disable:
            return
        delay_ms = partition.config.tierlog_remote_copy_max_delay_ms
        if exposure.is_seal_due(tier.end_offset, log.active_base_offset, delay_ms, now_ms):
            self._seal(partition)
