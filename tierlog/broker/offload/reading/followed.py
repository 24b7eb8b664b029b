"""Reads the tiered ends of followed partitions from the metadata store, so that local retention may delete below them.
What consumers read here of their tiers is another matter: ``followed_views``.

A follower deletes nothing on its leader's word (I11): it reads the tier head itself, every
``remote.log.manager.task.interval.ms``. Local retention then uses the tiered end as it does on a leader.
"""

from __future__ import annotations

import asyncio

import structlog

from tiering.errors import TieringError
from tierlog.broker.offload.heads import HeadStore
from tierlog.broker.offload.reading.followed_views import FollowedViews
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.repeated_warnings import RepeatedWarnings
from tierlog.errors import StoreUnavailable

logger = structlog.get_logger()


class FollowedTiers:
    """One per broker; ``run`` until cancelled."""

    def __init__(self, replicas: Replicas, heads: HeadStore, views: FollowedViews, interval_ms: int) -> None:
        self._replicas = replicas
        self._heads = heads
        self._views = views
        self._interval_s = interval_ms / 1000
        self._warnings = RepeatedWarnings()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self._views.tidy()
            for partition in self._replicas:
                if partition.follower is not None and partition.config.remote_storage_enable:
                    await self._look(partition)

    async def _look(self, partition: Partition) -> None:
        try:
            head, revision = await self._heads.read(partition.topic_id, partition.topic_partition.partition)
        except (StoreUnavailable, TieringError) as error:
            self._warnings.say(logger.warning, "cannot read a tier's head", "head", why=str(error))
            return
        if head is not None and partition.follower is not None:
            partition.tiered_end_offset = head.end
            self._views.learn(partition, head, revision)
