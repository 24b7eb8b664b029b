"""All that this broker copies from others: a fetcher for each leader that it follows.

A fetcher stays, without a connection's traffic, once nothing is followed from its broker any more: leadership comes back.
Bound: one fetcher per other broker of the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tierlog.broker.partition import Partition
from tierlog.broker.replica_fetcher import ReplicaFetcher, Surroundings
from tierlog.config.broker import BrokerConfig
from tierlog.metadata.image import ImageDelta, MetadataImage
from tierlog.metadata.records import Endpoint
from tierlog.replication.follower import NO_LEADER, Effect, StartFromTier

logger = structlog.get_logger()

# Begins the log anew at the tiered end, which it returns; None where it did not.
StartAtTier = Callable[[Partition], Awaitable[int | None]]


class ReplicaFetchers:
    """One per broker."""

    def __init__(
        self,
        config: BrokerConfig,
        image: Callable[[], MetadataImage],
        broker_epoch: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        self.start_at_tier: StartAtTier | None = None
        self._config = config
        self._image = image
        self._loop = loop
        self._fetchers: dict[int, ReplicaFetcher] = {}
        self._source_of: dict[Partition, ReplicaFetcher] = {}
        self._registrations = {b.broker_id: b.broker_epoch for b in image().brokers.values()}
        self._jobs: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._around = Surroundings(
            config, loop, self._endpoint_of, broker_epoch, wall_clock_ms, self._on_effect
        )

    def follow(self, partition: Partition) -> None:
        """As its follower machine says, from now on; nothing where it has none, or no leader."""
        before = self._source_of.pop(partition, None)
        follower = partition.follower
        source_id = NO_LEADER if follower is None else follower.leader_id
        if before is not None and before.source_id != source_id:
            before.remove(partition)
        if source_id == NO_LEADER or self._is_closed:
            return
        fetcher = self._fetchers.get(source_id)
        if fetcher is None:
            fetcher = self._fetchers[source_id] = ReplicaFetcher(source_id, self._around)
            fetcher.start()
        self._source_of[partition] = fetcher
        fetcher.add(partition)

    def apply(self, delta: ImageDelta) -> None:
        """Connections belong to a registration: a new one may live elsewhere."""
        image = self._image()
        for broker_id in delta.brokers_changed:
            broker = image.brokers.get(broker_id)
            epoch = 0 if broker is None else broker.broker_epoch
            if self._registrations.get(broker_id) == epoch:
                continue
            self._registrations[broker_id] = epoch
            affected = self._fetchers.values() if broker_id == self._config.node_id else ()
            fetcher = self._fetchers.get(broker_id)
            for stale in [*affected, *([fetcher] if fetcher is not None else [])]:
                stale.restart()

    def of(self, source_id: int) -> ReplicaFetcher:
        """The fetcher from that broker. Raises KeyError."""
        return self._fetchers[source_id]

    @property
    def bytes_in(self) -> int:
        return sum(fetcher.bytes_in for fetcher in self._fetchers.values())

    def partition_counts(self) -> dict[int, int]:
        """Source broker → partitions followed from it."""
        return {source: fetcher.partition_count for source, fetcher in self._fetchers.items()}

    async def close(self) -> None:
        self._is_closed = True
        for task in list(self._jobs):
            task.cancel()
        await asyncio.gather(
            *self._jobs, *(fetcher.close() for fetcher in self._fetchers.values()), return_exceptions=True
        )

    def _endpoint_of(self, broker_id: int) -> Endpoint | None:
        broker = self._image().brokers.get(broker_id)
        if broker is None or broker.registration is None:
            return None
        name = self._config.inter_broker_listener_name
        return next((e for e in broker.registration.endpoints if e.listener == name), None)

    # -- what takes longer

    def _on_effect(self, partition: Partition, effect: Effect) -> None:
        follower = partition.follower
        assert follower is not None
        if not isinstance(effect, StartFromTier) or self.start_at_tier is None:
            logger.error(
                "a follower cannot go on: its leader has deleted what is needed, and there is no tier here",
                partition=str(partition.topic_partition),
            )
            follower.on_failure(None, int(self._loop.time() * 1000))
            return
        task = self._loop.create_task(self._start_from_tier(partition, follower.leader_epoch))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _start_from_tier(self, partition: Partition, leader_epoch: int) -> None:
        assert self.start_at_tier is not None
        try:
            offset = await self.start_at_tier(partition)
        except Exception as error:
            logger.error(
                "cannot start a follower from the tier",
                partition=str(partition.topic_partition),
                why=str(error),
            )
            offset = None
        follower = partition.follower
        if follower is None or follower.leader_epoch != leader_epoch:
            return
        if offset is None:
            follower.on_failure(None, int(self._loop.time() * 1000))
        else:
            follower.on_started_from_tier(leader_epoch, offset)
            partition.on_watermark_learnt()
        self.follow(partition)
