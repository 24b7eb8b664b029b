"""Leaders that were elected without proof, before they lead: what the tier holds was committed, so they begin behind it.

An unclean election, or one among those who all may have lost data, can fall on a replica that has never heard of the last
records that are tiered, or that has others in their place. Leading as it is, it would give their offsets away a second
time, and the bucket would contradict the brokers. It is compared as a log is at the start of the broker (``recovery``),
and leads after that; until then, and while the store or the bucket cannot be read, nobody leads the partition.

Rule: the election is in this broker's image, so a leader of before can commit nothing to the tier any more, and the head
that is read is the last one.

Bound: 16 partitions are compared at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tiering.errors import TieringError
from tierlog.broker.partition import Offline, Partition
from tierlog.errors import StorageError, StoreUnavailable
from tierlog.log.producer_snapshot import CorruptSnapshot
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import PartitionState

COMPARED_AT_ONCE = 16
RETRY_S = 1.0

logger = structlog.get_logger()

# Brings the log in line with its tier; the callable is asked in the step that touches the log.
Compare = Callable[[Partition, Callable[[], bool]], Awaitable[object]]


class UnprovenLeaders:
    """One per broker with remote storage. ``on_compared``: the partition's record is to be applied again, in this step."""

    def __init__(
        self,
        broker_id: int,
        image: Callable[[], MetadataImage],
        compare: Compare,
        on_compared: Callable[[Partition], None],
    ) -> None:
        self._broker_id = broker_id
        self._image = image
        self._compare = compare
        self._on_compared = on_compared
        self._turns = asyncio.Semaphore(COMPARED_AT_ONCE)
        # The leader epochs on which partitions were elected that are compared now.
        self._under_way: dict[Partition, int] = {}
        self._compared: tuple[Partition, int] | None = None
        self._jobs: set[asyncio.Task[None]] = set()

    def may_lead(self, partition: Partition, state: PartitionState) -> bool:
        """False for one that is to be compared first, which begins with that."""
        epoch, config = state.leader_epoch, partition.config
        if not state.recovering or not config.remote_storage_enable or config.is_compacted:
            return True
        if self._compared == (partition, epoch):
            return True
        if self._under_way.get(partition) != epoch:
            self._under_way[partition] = epoch
            job = self._bring_in_line(partition, epoch)
            task = asyncio.get_running_loop().create_task(job, name=f"compare {partition.topic_partition}")
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)
        return False

    async def close(self) -> None:
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _is_elected(self, partition: Partition, epoch: int) -> bool:
        state = self._image().partition(partition.topic_id, partition.topic_partition.partition)
        has_role = partition.leader is not None or partition.follower is not None
        if state is None or has_role or partition.offline is not None:
            return False
        return (state.leader, state.leader_epoch) == (self._broker_id, epoch)

    async def _bring_in_line(self, partition: Partition, epoch: int) -> None:
        while self._is_elected(partition, epoch) and not await self._is_in_line(partition, epoch):
            await asyncio.sleep(RETRY_S)
        if self._under_way.get(partition) == epoch:
            del self._under_way[partition]
        if self._is_elected(partition, epoch):
            self._compared = (partition, epoch)
            self._on_compared(partition)
            self._compared = None

    async def _is_in_line(self, partition: Partition, epoch: int) -> bool:
        has_refused = False

        def is_wanted() -> bool:
            nonlocal has_refused
            has_refused = partition.being_cleaned or not self._is_elected(partition, epoch)
            return not has_refused

        try:
            async with self._turns:
                await self._compare(partition, is_wanted)
        except (TieringError, StorageError, StoreUnavailable, CorruptSnapshot) as error:
            logger.error(
                "elected without proof, and cannot be compared with its tier: it does not lead yet",
                partition=str(partition.topic_partition),
                why=str(error),
            )
            return False
        except Exception as error:
            partition.take_offline(Offline.BUG, error)
            return False
        return not has_refused
