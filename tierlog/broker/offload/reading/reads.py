"""Reads records that are only in the object store, for fetches and ListOffsets.

Rules:

* Slowness is never an error: at the deadline the answer is empty, while the load goes on for the next fetch. A store that
  is down counts as slow: the consumer waits and asks again.
* A missing, shortened or corrupt object is KAFKA_STORAGE_ERROR for its partition alone, logged once a minute per object.
* An offset that retention has deleted meanwhile is OFFSET_OUT_OF_RANGE.
* A follower serves Fetch by its view of the tier (``followed_views``), never above its own high watermark. What it lacks or
  cannot reach is an error with which clients go back to the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

import structlog

from tiering.batches import whole_below
from tiering.catalog import Catalog
from tiering.errors import InvalidRange, NotFound, ObjectStoreError, TieringError
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.reading import reader
from tiering.reading.holding import Reader
from tiering.reading.lookups import RemoteBatch, RemoteLookups
from tiering.reading.reader import RemotePartition, RemoteReader
from tierlog import kernel
from tierlog.broker.fetch.remote_port import RemoteAsk, RemoteRead
from tierlog.broker.offload.reading.followed_views import CannotView, FollowedTier, FollowedViews
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.beside_loop import TimeLookups
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.timestamps import TimestampedOffset
from tierlog.records.batch import InvalidBatch, parse_header
from tierlog.records.times import Search, find_max_timestamp, find_timestamp
from tierlog.telemetry.tier_counters import TopicTierCounters
from tierlog.types import AbortedTransaction

logger = structlog.get_logger()

LOST = (NotFound, InvalidRange)
"""The object is gone, or shorter than its entry says: the store answers, and the data is not there."""
NOTHING = RemoteRead()
CUT_BYTES = 1 << 20
"""Read at once where the end has to be looked for batch by batch."""

ResultT = TypeVar("ResultT")


class NotThere(AssertionError):
    """The tier does not hold an offset that it should."""


class ReadableTier(Protocol):
    """A leader's ``PartitionTier`` or a follower's ``FollowedTier``."""

    counters: TopicTierCounters
    catalog: Catalog

    @property
    def start_offset(self) -> int: ...

    @property
    def remote_partition(self) -> RemotePartition: ...


class TierReads:
    """``fetch.remote_port.RemoteReads`` over one reader."""

    def __init__(self, reader: RemoteReader, followed: FollowedViews) -> None:
        self._reader = reader
        self._followed = followed
        self._time_lookups = TimeLookups(asyncio.get_running_loop())
        self._lookups = RemoteLookups(reader)
        self._warnings = RepeatedWarnings()

    def serves(self, partition: Partition) -> bool:
        return partition.config.remote_storage_enable

    def read_now(self, asked: RemoteAsk) -> RemoteRead | None:
        """The answer of ``read`` if it needs no waiting, else None. A sequential reader mostly finds its chunk in the cache,
        and then needs no task."""
        partition, fetch_offset = asked.partition, asked.fetch_offset
        tier = self._ready(partition)
        if tier is None:
            return None
        catalog = tier.catalog
        if not tier.start_offset <= fetch_offset < catalog.end <= asked.end_offset:
            return None
        try:
            got = self._reader.read_now(
                tier.remote_partition,
                fetch_offset,
                asked.max_bytes,
                min_one_batch=asked.min_one_batch,
                reader=Reader(asked.client, asked.connection),
            )
        except TieringError as error:
            if isinstance(tier, FollowedTier):
                return None
            tier.counters.fetch_requests += 1
            if isinstance(error, ObjectStoreError) and not isinstance(error, LOST):
                tier.counters.fetch_errors += 1
                self._no_answer(partition, error)
                return None
            return self._failed(tier, fetch_offset, error)
        if got is None or is_past_the_last(got, fetch_offset):
            return None
        for entry in catalog.overlapping(fetch_offset, got.next_offset):
            if entry.has_aborted_transactions:
                return None
        tier.counters.fetch_requests += 1
        return RemoteRead(ErrorCode.NONE, list(got.buffers), got.size_bytes, accept=got.accept)

    async def read(self, asked: RemoteAsk, deadline_s: float) -> RemoteRead:
        """Whole batches, beginning with the one that holds ``fetch_offset``; empty if nothing is ready by the deadline."""
        partition, fetch_offset = asked.partition, asked.fetch_offset
        if partition.remote is None and partition.follower is not None:
            return await self._read_followed(asked, deadline_s)
        tier = await self._tier(partition, deadline_s)
        if tier is None:
            return NOTHING
        tier.counters.fetch_requests += 1
        try:
            return await self._read_tier(tier, asked, deadline_s, Reader(asked.client, asked.connection))
        except LOST as error:
            return self._failed(tier, fetch_offset, error)
        except ObjectStoreError as error:
            tier.counters.fetch_errors += 1
            self._no_answer(partition, error)
            await asyncio.sleep(max(0.0, deadline_s - asyncio.get_running_loop().time()))
            return NOTHING
        except (TieringError, NotThere) as error:
            return self._failed(tier, fetch_offset, error)

    async def _read_followed(self, asked: RemoteAsk, deadline_s: float) -> RemoteRead:
        """``read`` for a partition that this broker follows. Where its leader may know more, the consumer is left to it."""
        partition = asked.partition
        tier: FollowedTier | None = None
        try:
            tier = await self._followed.get(partition, deadline_s)
            if tier is None:
                return NOTHING
            tier.counters.fetch_requests += 1
            try:
                reader = Reader(asked.client, asked.connection)
                return await self._read_tier(tier, asked, deadline_s, reader)
            except (*LOST, NotThere):
                renewed = await self._followed.renewed(partition, deadline_s)
            if renewed is None:
                return NOTHING
            # Not as the same reader, who remembers its place in an object that may have been replaced.
            return await self._read_tier(renewed, asked, deadline_s, None)
        except NotThere:  # this replica knows less than it should: the leader knows more
            return RemoteRead(ErrorCode.OFFSET_NOT_AVAILABLE)
        except (CannotView, TieringError) as error:
            if tier is not None:
                if isinstance(error, LOST):
                    return self._failed(tier, asked.fetch_offset, error)
                tier.counters.fetch_errors += 1
            self._warnings.say(
                logger.warning,
                "cannot read the tier of a followed partition: its leader serves the consumers",
                kind_of(error),
                partition=str(partition.topic_partition),
                kind=kind_of(error),
                why=str(error),
            )
            return RemoteRead(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    async def _read_tier(
        self, tier: ReadableTier, asked: RemoteAsk, deadline_s: float, reader: Reader | None
    ) -> RemoteRead:
        """Raises NotThere, NotFound and InvalidRange where the data is gone, other TieringError."""
        partition, fetch_offset, end_offset = asked.partition, asked.fetch_offset, asked.end_offset
        if fetch_offset < tier.start_offset:
            return RemoteRead(ErrorCode.OFFSET_OUT_OF_RANGE)
        view, max_bytes = tier.remote_partition, asked.max_bytes
        if fetch_offset >= view.catalog.end:
            # The offset is neither local nor remote: I12 is broken, and the consumer must not skip anything.
            raise NotThere(f"offset {fetch_offset} is neither local nor remote")
        if view.catalog.end > end_offset:
            max_bytes = min(max_bytes, CUT_BYTES)
        try:
            got = await self._reader.read(
                view,
                fetch_offset,
                max_bytes,
                deadline=deadline_s,
                min_one_batch=asked.min_one_batch,
                reader=reader,
            )
            if is_past_the_last(got, fetch_offset):
                return await _read_local(partition, got.next_offset, asked.max_bytes, asked.min_one_batch)
            if got.next_offset > end_offset:
                got = cut_at(got, end_offset)
            aborted = []
            if got.size_bytes:
                aborted = await self._aborted(view, fetch_offset, got.next_offset, deadline_s)
        except TimeoutError:
            return NOTHING
        except AssertionError as error:
            return self._failed(tier, fetch_offset, error)
        return RemoteRead(ErrorCode.NONE, list(got.buffers), got.size_bytes, aborted, got.accept)

    async def is_known(self, partition: Partition, deadline_s: float) -> bool:
        """Whether the tier head has been read; waits for it until the deadline."""
        return await self._tier(partition, deadline_s) is not None

    async def offset_for_timestamp(
        self, partition: Partition, timestamp: int, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        """First remote record at or after ``timestamp``; None where there is none; REQUEST_TIMED_OUT when too slow."""
        return await self._look_up(
            partition, deadline_s, self._offset_for_timestamp(partition, timestamp, deadline_s)
        )

    async def max_timestamp(
        self, partition: Partition, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        """The first remote record with the largest timestamp."""
        return await self._look_up(partition, deadline_s, self._max_timestamp(partition, deadline_s))

    def close(self) -> None:
        self._time_lookups.close()

    # -- inside

    async def _offset_for_timestamp(
        self, partition: Partition, timestamp: int, deadline_s: float
    ) -> TimestampedOffset | None:
        tier = await self._tier(partition, deadline_s)
        if tier is None:
            raise TimeoutError
        view = tier.remote_partition
        start = view.catalog.start
        from_offset = start
        while True:
            batch = await self._lookups.batch_at_timestamp(view, timestamp, from_offset=from_offset)
            if batch is None:
                return None
            header = parse_header(batch.data)
            found = await self._opened(
                batch, find_timestamp(batch.data, 0, header, timestamp, start), deadline_s
            )
            if found is not None:
                return found
            from_offset = batch.end_offset

    async def _max_timestamp(self, partition: Partition, deadline_s: float) -> TimestampedOffset | None:
        tier = await self._tier(partition, deadline_s)
        if tier is None:
            raise TimeoutError
        view = tier.remote_partition
        start = view.catalog.start
        cut = await self._lookups.batch_at(view, start) if start > 0 else None
        in_cut = None
        if cut is not None and cut.base_offset < start:
            search = find_max_timestamp(cut.data, 0, parse_header(cut.data), start)
            in_cut = await self._opened(cut, search, deadline_s)
        batch = await self._lookups.batch_of_max_timestamp(view)
        if batch is None:
            return in_cut
        header = parse_header(batch.data)
        if in_cut is not None and in_cut.timestamp >= header.max_timestamp:
            return in_cut
        return await self._opened(
            batch, find_timestamp(batch.data, 0, header, header.max_timestamp, start), deadline_s
        )

    async def _opened(
        self, batch: RemoteBatch, search: Search, deadline_s: float
    ) -> TimestampedOffset | None:
        record = await self._time_lookups.finish(search, deadline_s)
        if record is None:
            return None
        epoch = parse_header(batch.data).partition_leader_epoch
        return TimestampedOffset(record.timestamp, record.offset, epoch)

    async def _look_up(
        self, partition: Partition, deadline_s: float, question: Awaitable[ResultT]
    ) -> ResultT | ErrorCode:
        """The answer to ``question``, or an error at the deadline; loads that it started go on."""
        try:
            with attributed(Cause.FETCH):
                async with asyncio.timeout_at(deadline_s):
                    return await question
        except TimeoutError:
            return ErrorCode.REQUEST_TIMED_OUT
        except LOST as error:
            return self._broken(partition.remote, error).error
        except ObjectStoreError as error:
            self._no_answer(partition, error)
            return ErrorCode.REQUEST_TIMED_OUT
        except InvalidBatch as error:
            self._broken(partition.remote, error)
            return ErrorCode.CORRUPT_MESSAGE
        except TieringError as error:
            return self._broken(partition.remote, error).error

    def _ready(self, partition: Partition) -> ReadableTier | None:
        """The tier, as far as it is known without waiting."""
        tier = partition.remote
        if tier is None:
            return self._followed.ready(partition)
        return tier if isinstance(tier, PartitionTier) and tier.is_loaded else None

    async def _tier(self, partition: Partition, deadline_s: float) -> PartitionTier | None:
        """The partition's tier once its head is known; None if it is not by the deadline."""
        tier = partition.remote
        if not isinstance(tier, PartitionTier):
            return None
        if not tier.is_loaded:
            try:
                async with asyncio.timeout_at(deadline_s):
                    await tier.loaded.wait()
            except TimeoutError:
                return None
        return tier

    async def _aborted(
        self, view: RemotePartition, start_offset: int, end_offset: int, deadline_s: float
    ) -> list[AbortedTransaction]:
        if not any(e.has_aborted_transactions for e in view.catalog.overlapping(start_offset, end_offset)):
            return []
        with attributed(Cause.FETCH):
            async with asyncio.timeout_at(deadline_s):
                found = await self._lookups.aborted_transactions(view, start_offset, end_offset)
        return [AbortedTransaction(*aborted) for aborted in found]

    def _no_answer(self, partition: Partition, error: ObjectStoreError) -> None:
        self._warnings.say(
            logger.warning,
            "the object store does not answer",
            kind_of(error),
            partition=str(partition.topic_partition),
            kind=kind_of(error),
            why=str(error),
        )

    def _failed(self, tier: ReadableTier, fetch_offset: int, error: BaseException) -> RemoteRead:
        """The answer to a Fetch of what cannot be read: it may be gone because retention has deleted it meanwhile."""
        if fetch_offset < tier.start_offset:
            return RemoteRead(ErrorCode.OFFSET_OUT_OF_RANGE)
        tier.counters.fetch_errors += 1
        return self._broken(tier, error)

    def _broken(self, tier: object, error: BaseException) -> RemoteRead:
        # A store's messages contain timings, so its errors count as the same warning if they name the same object.
        what = error.key if isinstance(error, ObjectStoreError) else str(error)
        self._warnings.say(
            logger.error,
            "remote data cannot be read",
            (str(tier), what),
            partition=str(tier),
            kind=kind_of(error),
            why=str(error),
        )
        return RemoteRead(ErrorCode.KAFKA_STORAGE_ERROR)


def is_past_the_last(got: reader.TierRead, fetch_offset: int) -> bool:
    """Whether the remote part has no batch at or above ``fetch_offset``, only a hole: the next batch is a local one."""
    return not got.size_bytes and got.next_offset > fetch_offset


def cut_at(got: reader.TierRead, end_offset: int) -> reader.TierRead:
    """Its batches below ``end_offset`` (exclusive). The reader's place is not kept: it reads on elsewhere."""
    data = b"".join(got.buffers)
    size_bytes, next_offset = whole_below(data, end_offset, kernel.whole_below)
    return reader.TierRead([memoryview(data)[:size_bytes]] if size_bytes else [], size_bytes, next_offset)


async def _read_local(partition: Partition, offset: int, max_bytes: int, min_one_batch: bool) -> RemoteRead:
    """Reads the local batches behind the remote part, up to the last stable offset, which any reader may see."""
    log, end_offset = partition.log, partition.last_stable_offset
    try:
        found = log.locate(offset, max_bytes, end_offset, min_one_batch)
        if found is None or not found.size_bytes:
            return NOTHING
        records = await asyncio.to_thread(log.read, found)
    except StorageError as error:
        partition.storage_failed(error)
        return RemoteRead(ErrorCode.KAFKA_STORAGE_ERROR)
    aborted = log.aborted_transactions(offset, found.next_offset)
    return RemoteRead(ErrorCode.NONE, [records], len(records), aborted)
