"""Repairs a local segment that cannot be copied to the tier because its bytes went bad on the disk.

Rules:

* The batches of another replica replace the whole segment. As long as a replica that may have them does not answer, nothing
  else is done: the repair is tried again, and logged, every five minutes, and only this partition's copying waits. Local
  retention goes on deleting copied segments, and keeps the others.
* If there is no other replica, or none has all the batches undamaged, only this segment's undamaged batches are left. The
  segment keeps those and loses the others, which is logged as an error; a copy of the damaged file is kept
  (``log.salvage``). Consumers could not have read the lost batches either.

Bound: one segment at a time; one answer of another broker in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing

import structlog

from tierlog.broker.following.peer_reads import NotThere, PeerReads
from tierlog.broker.network.peer_connection import PeerUnavailable
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import MalformedMessage
from tierlog.log.compaction.output import CleanedSegment
from tierlog.log.files.filesystem import storage_error
from tierlog.log.files.names import LOG
from tierlog.log.opening import salvage
from tierlog.log.removals import REPAIR
from tierlog.log.segment import Segment
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import Endpoint

logger = structlog.get_logger()

UNREACHABLE = (PeerUnavailable, MalformedMessage, OSError, TimeoutError)


class Mending:
    """One per broker with remote storage."""

    def __init__(
        self,
        node_id: int,
        listener: str,
        max_frame_bytes: int,
        image: Callable[[], MetadataImage],
        replicas: Replicas,
        now_ms: Callable[[], int],
    ) -> None:
        self._node_id = node_id
        self._listener = listener
        self._max_frame_bytes = max_frame_bytes
        self._image = image
        self._replicas = replicas
        self._now_ms = now_ms
        self._turn = asyncio.Lock()

    async def mend(self, tier: PartitionTier, end_offset: int, why: str) -> bool:
        """Repairs the sealed segment that ends at ``end_offset`` (exclusive); returns whether it can be copied now. Raises
        StorageError."""
        async with self._turn:
            log = tier.partition.log
            segment = next((s for s in log.segments.sealed() if s.end_offset == end_offset), None)
            if segment is None or log.removals.are_held:
                return False
            logger.error(
                "a local segment is damaged", partition=str(tier), segment=segment.base_offset, why=why
            )
            with log.removals.hold(REPAIR):
                try:
                    made = salvage.begin(log, segment)
                    try:
                        return await self._replace(tier, segment, made)
                    finally:
                        made.discard()  # does nothing once the segment is in place
                except OSError as error:
                    raise storage_error(error, segment.path(LOG)) from error

    async def _replace(self, tier: PartitionTier, segment: Segment, made: CleanedSegment) -> bool:
        partition, log = tier.partition, tier.partition.log
        source_id = await self._from_replicas(partition, segment, made)
        if source_id is None:
            return False
        kept, damaged_bytes = "", 0
        if source_id == self._node_id:
            path, size_bytes = segment.path(LOG), segment.size_bytes
            offsets, lineage = range(segment.base_offset, segment.end_offset), log.epochs.copy()
            damaged_bytes = await asyncio.to_thread(salvage.salvage, made, path, offsets, size_bytes, lineage)
            kept = (await asyncio.to_thread(salvage.keep_as_found, log, segment)).name
        await asyncio.to_thread(made.finish)
        if partition.remote is not tier or partition.offline is not None:
            return False
        self._replicas.unlink_later(log.replace_segments([made], self._now_ms()))
        if kept:
            tier.counters.segments_set_aside += 1
            logger.error(
                "a damaged segment was set aside: no replica has its records, which are gone for readers",
                partition=str(tier),
                segment=segment.base_offset,
                damaged_bytes=damaged_bytes,
                kept_in=kept,
            )
        else:
            tier.counters.segments_repaired += 1
            logger.warning(
                "a damaged segment was repaired from another replica",
                partition=str(tier),
                segment=segment.base_offset,
                source=source_id,
            )
        return True

    async def _from_replicas(
        self, partition: Partition, segment: Segment, made: CleanedSegment
    ) -> int | None:
        """Fills ``made`` from another replica and returns that broker's id. Returns this broker's own id if no other replica
        has the whole segment, None while one that may have it does not answer."""
        has_everybody_answered = True
        for broker_id in self._others(partition):
            why: Exception
            reads = PeerReads(self._node_id, self._max_frame_bytes)
            try:
                endpoint = self._endpoint_of(broker_id)
                if endpoint is None:
                    raise PeerUnavailable("it is not registered")
                await reads.connect(endpoint)
                await self._read_all(reads, partition, segment, made)
                return broker_id
            except NotThere as error:
                why = error
            except UNREACHABLE as error:
                has_everybody_answered, why = False, error
            finally:
                reads.close()
            logger.warning(
                "a damaged segment cannot be repaired from this replica",
                partition=str(partition.topic_partition),
                replica=broker_id,
                why=str(why) or type(why).__name__,
            )
            made.start_over()
        return self._node_id if has_everybody_answered else None

    async def _read_all(
        self, reads: PeerReads, partition: Partition, segment: Segment, made: CleanedSegment
    ) -> None:
        index = partition.topic_partition.partition
        batches = reads.batches(partition.topic_id, index, segment.base_offset, segment.end_offset)
        async with aclosing(batches) as found:
            async for batch in found:
                made.append(memoryview(batch))

    def _others(self, partition: Partition) -> Iterable[int]:
        """The other replicas, those in the ISR first."""
        state = self._image().partition(partition.topic_id, partition.topic_partition.partition)
        others = () if state is None else (*state.isr, *state.replicas)
        return dict.fromkeys(broker_id for broker_id in others if broker_id != self._node_id)

    def _endpoint_of(self, broker_id: int) -> Endpoint | None:
        return self._image().endpoint(broker_id, self._listener)
