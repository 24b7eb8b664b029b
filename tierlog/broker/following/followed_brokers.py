"""All replication towards this broker: one fetcher for each leader broker that it follows.

When no partition is followed from a broker any more, its fetcher stays, idle: leadership comes back.

A new, empty replica of a tiered partition starts at the tiered end, as in KIP-1023, even if its leader still has older
segments. So it does not copy what the tier holds.

Bounds: one fetcher per other broker of the cluster; at most 16 tier lookups at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from tierlog.broker.clock import monotonic_ms
from tierlog.broker.following.fetcher import FetcherParts, ReplicaFetcher
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.byte_rate import ByteRate
from tierlog.config.broker import BrokerConfig
from tierlog.metadata.image import ImageDelta, MetadataImage
from tierlog.metadata.records import Endpoint
from tierlog.replication.follower import NO_LEADER, Effect, Follower, StartFromTier

TIER_LOOKUPS = 16

logger = structlog.get_logger()

# Begins the log anew at the tiered end and returns that offset; None if the log stays as it is.
StartAtTier = Callable[[Partition], Awaitable[int | None]]


class FollowedBrokers:
    """One per broker."""

    def __init__(
        self,
        config: BrokerConfig,
        image: Callable[[], MetadataImage],
        broker_epoch: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        wall_clock_ms: Callable[[], int],
        quota: ByteRate,
        background: Background,
        start_at_tier: Callable[[], StartAtTier | None],
    ) -> None:
        """``start_at_tier``: None without remote storage."""
        self._background = background
        self._start_at_tier = start_at_tier
        self._config = config
        self._image = image
        self._loop = loop
        self._fetchers: dict[int, ReplicaFetcher] = {}
        self._source_of: dict[Partition, ReplicaFetcher] = {}
        self._registrations = {b.broker_id: b.broker_epoch for b in image().brokers.values()}
        self._jobs: set[Kept] = set()
        self._tier_lookups = asyncio.Semaphore(TIER_LOOKUPS)
        self._is_closed = False
        self._parts = FetcherParts(
            config, loop, self._endpoint_of, broker_epoch, wall_clock_ms, self._on_effect, quota, background
        )

    def follow(self, partition: Partition) -> None:
        """Copies the partition from its ``Follower``'s leader; stops copying if it has no ``Follower`` or no leader."""
        self._attach(partition)
        if partition.follower is not None and self._is_new_here(partition):
            partition.follower.start_from_tier()
            self._begin_at_tier(partition, partition.follower, is_new=True)

    def on_synced(self, partition: Partition) -> None:
        """A sync of the follower's log has ended."""
        fetcher = self._source_of.get(partition)
        if fetcher is not None:
            fetcher.on_synced(partition)

    def _is_new_here(self, partition: Partition) -> bool:
        """Whether this is an empty replica of a tiered partition, and is not in the ISR. Replicas of a new topic begin in
        the ISR."""
        follower = partition.follower
        if (
            self._start_at_tier() is None
            or follower is None
            or follower.leader_id == NO_LEADER
            or partition.log.log_end_offset > 0
            or not partition.config.remote_storage_enable
        ):
            return False
        state = self._image().partition(partition.topic_id, partition.topic_partition.partition)
        return state is not None and self._config.node_id not in state.isr

    def _attach(self, partition: Partition) -> None:
        before = self._source_of.pop(partition, None)
        follower = partition.follower
        source_id = NO_LEADER if follower is None else follower.leader_id
        if before is not None and before.source_id != source_id:
            before.remove(partition)
        if source_id == NO_LEADER or self._is_closed:
            return
        fetcher = self._fetchers.get(source_id)
        if fetcher is None:
            fetcher = self._fetchers[source_id] = ReplicaFetcher(source_id, self._parts)
            fetcher.start()
        self._source_of[partition] = fetcher
        fetcher.add(partition)

    def apply(self, delta: ImageDelta) -> None:
        """Restarts the fetchers of brokers that have a new registration: their address may have changed."""
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

    async def close(self) -> None:
        self._is_closed = True
        for job in self._jobs:
            await job.stop()
        await asyncio.gather(*(fetcher.close() for fetcher in self._fetchers.values()))

    def _endpoint_of(self, broker_id: int) -> Endpoint | None:
        return self._image().endpoint(broker_id, self._config.inter_broker_listener_name)

    # -- effects that take longer

    def _on_effect(self, partition: Partition, effect: Effect) -> None:
        follower = partition.follower
        assert follower is not None
        if not isinstance(effect, StartFromTier) or self._start_at_tier() is None:
            logger.error(
                "a follower cannot go on: its leader has deleted what it needs, and this broker has no object store",
                partition=str(partition.topic_partition),
            )
            follower.on_failure(None, monotonic_ms(self._loop))
            return
        self._begin_at_tier(partition, follower, is_new=False)

    def _begin_at_tier(self, partition: Partition, follower: Follower, *, is_new: bool) -> None:
        self._jobs = {job for job in self._jobs if not job.is_over}
        name = f"start from the tier: {partition.topic_partition}"
        run = partial(self._start_from_tier, partition, follower, is_new)
        self._jobs.add(self._background.job(name, run))

    async def _start_from_tier(self, partition: Partition, follower: Follower, is_new: bool) -> None:
        start_at_tier = self._start_at_tier()
        assert start_at_tier is not None
        offset, has_failed = None, False
        try:
            async with self._tier_lookups:
                if partition.follower is not follower:
                    return  # the newer ``Follower`` starts its own lookup
                offset = await start_at_tier(partition)
        except Exception as error:
            logger.error(
                "cannot start a follower from the tier",
                partition=str(partition.topic_partition),
                why=str(error),
            )
            has_failed = True
        if partition.follower is not follower:
            return
        if offset is not None:
            follower.on_started_from_tier(follower.leader_epoch, offset)
            partition.on_watermark_learnt()
        elif is_new and not has_failed:
            follower.on_nothing_tiered()
        else:
            follower.on_failure(None, monotonic_ms(self._loop))
        self._attach(partition)
