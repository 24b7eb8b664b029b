"""Compares a partition's log with its tier before this broker leads it, where they may disagree. Tiered records were
committed, so their offsets must never be given to other records. Two kinds of partitions are compared:

* Partitions elected without proof: an unclean election, or one among replicas that all may have lost data, can choose a
  replica that lacks the last tiered records, or has others in their place.
* Partitions that were not compared at the start of the broker, because the object store did not answer (``recovery``).

The comparison is the same as at the start; a log that disagrees begins anew at the tiered end. Until it is done, and while
the metadata store or the bucket cannot be read, nobody leads the partition.

Rule: the head that is read is the last one. This broker's image already shows its election, so an earlier leader can no
longer commit anything to the tier.

Bound: 16 partitions are compared at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from tiering.errors import NotFound, ObjectStoreError, TieringError
from tierlog.broker.replicas.partition import Offline, Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.errors import StorageError, StoreUnavailable
from tierlog.log.producers.snapshot_file import CorruptSnapshot
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import PartitionState

COMPARED_AT_ONCE = 16
RETRY_S = 1.0
SYNC_POLL_S = 0.005

logger = structlog.get_logger()

# Brings the log in line with its tier. Returns the tiered end if the log begins anew there, None if it stays as it is. The
# callable says whether that is still wanted; it is asked in the step that changes the log.
Compare = Callable[[Partition, Callable[[], bool]], Awaitable[int | None]]


class LeadCheck:
    """One per broker with remote storage. ``on_compared`` must apply the partition's record again, in the same step."""

    def __init__(
        self,
        broker_id: int,
        image: Callable[[], MetadataImage],
        compare: Compare,
        on_compared: Callable[[Partition], None],
        background: Background,
    ) -> None:
        self._background = background
        self._broker_id = broker_id
        self._image = image
        self._compare = compare
        self._on_compared = on_compared
        self._turns = asyncio.Semaphore(COMPARED_AT_ONCE)
        # The partitions that are being compared, with the leader epochs on which this broker was elected.
        self._under_way: dict[Partition, int] = {}
        self._compared: tuple[Partition, int] | None = None
        # Partitions that could not be compared at the start of the broker.
        self._put_off: set[Partition] = set()
        self._warnings = RepeatedWarnings()
        self._jobs: set[Kept] = set()

    def put_off(self, partitions: Iterable[Partition]) -> None:
        """Notes that these could not be compared at the start."""
        self._put_off.update(partitions)

    def may_lead(self, partition: Partition, state: PartitionState) -> bool:
        """Whether this broker may lead the partition now; if not, starts the comparison that must come first."""
        epoch, config = state.leader_epoch, partition.config
        if not state.recovering and partition not in self._put_off:
            return True
        if not config.remote_storage_enable or config.is_compacted:
            return True
        if self._compared == (partition, epoch):
            return True
        if self._under_way.get(partition) != epoch:
            self._under_way[partition] = epoch
            run = partial(self._bring_in_line, partition, epoch)
            job = self._background.job(f"compare with the tier: {partition.topic_partition}", run)
            self._jobs = {job for job in self._jobs if not job.is_over} | {job}
        return False

    async def close(self) -> None:
        for job in self._jobs:
            job.cancel()
        for job in self._jobs:
            await job.wait()

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
            self._put_off.discard(partition)
            self._compared = (partition, epoch)
            self._on_compared(partition)
            self._compared = None

    async def _is_in_line(self, partition: Partition, epoch: int) -> bool:
        has_refused = False

        def is_wanted() -> bool:
            nonlocal has_refused
            has_refused = partition.log.removals.are_held or not self._is_elected(partition, epoch)
            return not has_refused

        try:
            async with self._turns:
                if await self._compare(partition, is_wanted) is not None:
                    partition.sync_cut()
                    # A leader's log end counts only as far as it is durable, and nothing is before the cut is on the disk.
                    while partition.pending_cut and self._is_elected(partition, epoch):
                        await asyncio.sleep(SYNC_POLL_S)
        except Exception as error:
            self._failed(partition, error)
            return False
        return not has_refused

    def _failed(self, partition: Partition, error: Exception) -> None:
        if is_worth_another_try(error):
            self._warnings.say(
                logger.error,
                "cannot lead yet: the log must first be compared with its tier, which cannot be read",
                kind_of(error),
                partition=str(partition.topic_partition),
                why=str(error),
            )
        else:
            is_ours = isinstance(error, (TieringError, StorageError, CorruptSnapshot))
            partition.take_offline(Offline.STORAGE if is_ours else Offline.BUG, error)


def is_worth_another_try(error: Exception) -> bool:
    """Whether the error may pass by itself: a store that does not answer may recover, a missing object stays missing."""
    if isinstance(error, StoreUnavailable):
        return True
    return isinstance(error, ObjectStoreError) and not isinstance(error, NotFound)
