"""What handlers may use: the typed bag that the composition root fills."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, Protocol, TypeVar

from tierlog.broker.work.beside_loop import BesideLoop, TimeLookups
from tierlog.config.broker import BrokerConfig
from tierlog.errors import ErrorCode
from tierlog.types import AbortedTransaction, Buffer

if TYPE_CHECKING:
    from tierlog.broker.cluster.controller_client import ControllerClient
    from tierlog.broker.cluster.controller_link import ControllerLink
    from tierlog.broker.cluster.metadata_feed import MetadataFeed
    from tierlog.broker.cluster.producer_ids import ProducerIds
    from tierlog.broker.cluster.topic_creation import TopicCreation
    from tierlog.broker.fetch.sessions import FetchSessions
    from tierlog.broker.groups.shard_runtime import ShardRuntime
    from tierlog.broker.leading.isr_writer import IsrChangeDriver
    from tierlog.broker.network.dispatch import Quotas
    from tierlog.broker.network.reply_memory import ReplyMemory
    from tierlog.broker.replicas.hosted import Replicas
    from tierlog.broker.replicas.partition import Partition
    from tierlog.broker.upkeep.dir_moves import DirMoves
    from tierlog.broker.work.background import Background
    from tierlog.broker.work.slices import Slices
    from tierlog.log.timestamps import TimestampedOffset
    from tierlog.metadata.image import MetadataImage
    from tierlog.metadata.records import Endpoint
    from tierlog.metadata.stores.port import MetadataStore
    from tierlog.telemetry.metrics import Registry
    from tierlog.wire.messages.api_versions import ApiVersion

P = ParamSpec("P")
T = TypeVar("T")

COLD_READ_THREADS = 4


class RemoteRead(NamedTuple):
    """Whole batches from the one that holds the asked offset on; empty where nothing was ready in time."""

    error: ErrorCode = ErrorCode.NONE
    records: list[Buffer] | bytes = b""
    size_bytes: int = 0
    aborted: Sequence[AbortedTransaction] = ()


class RemoteReads(Protocol):
    """Reads of what is not on this disk any more. Deadlines are on the loop's clock; slowness is never an error."""

    def read_now(
        self, partition: Partition, fetch_offset: int, max_bytes: int, min_one_batch: bool
    ) -> RemoteRead | None:
        """What the cache holds already, without waiting; None where ``read`` is needed."""

    async def read(
        self, partition: Partition, fetch_offset: int, max_bytes: int, min_one_batch: bool, deadline_s: float
    ) -> RemoteRead: ...

    async def is_known(self, partition: Partition, deadline_s: float) -> bool:
        """Whether the partition's tier has been looked up, waiting for that until the deadline."""

    async def offset_for_timestamp(
        self, partition: Partition, timestamp: int, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        """First remote record at or after ``timestamp``; None where there is none; REQUEST_TIMED_OUT when too slow."""

    async def max_timestamp(
        self, partition: Partition, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        """The remote record with the largest timestamp."""


class NoRemoteReads:
    """Stands where no object store is configured: nothing is remote."""

    def read_now(
        self, partition: Partition, fetch_offset: int, max_bytes: int, min_one_batch: bool
    ) -> RemoteRead | None:
        return None

    async def read(
        self, partition: Partition, fetch_offset: int, max_bytes: int, min_one_batch: bool, deadline_s: float
    ) -> RemoteRead:
        return RemoteRead(ErrorCode.OFFSET_OUT_OF_RANGE)

    async def is_known(self, partition: Partition, deadline_s: float) -> bool:
        return True

    async def offset_for_timestamp(
        self, partition: Partition, timestamp: int, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        return None

    async def max_timestamp(
        self, partition: Partition, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        return None


class ColdReads:
    """A few threads for local reads that miss the page cache. Bound: the queue holds one entry per fetched partition
    of the requests in flight."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(COLD_READ_THREADS, thread_name_prefix="cold-read")
        self.count = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        self.count += 1
        return await self._loop.run_in_executor(self._executor, function, *args)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def wall_clock_ms() -> int:
    return int(time.time() * 1000)


@dataclass(slots=True)
class Services:
    """One per broker."""

    config: BrokerConfig
    loop: asyncio.AbstractEventLoop
    background: Background
    registry: Registry
    store: MetadataStore
    feed: MetadataFeed
    replicas: Replicas
    isr_changes: IsrChangeDriver
    dir_moves: DirMoves
    fetch_sessions: FetchSessions
    reply_memory: ReplyMemory
    cold_reads: ColdReads
    slices: Slices
    time_lookups: TimeLookups
    # Opens produced batches where a topic demands it.
    openings: BesideLoop
    admin: ControllerClient
    controller_link: ControllerLink
    groups: ShardRuntime
    producer_ids: ProducerIds
    topic_creation: TopicCreation
    # Of this broker, as clients reach it.
    endpoints: Sequence[Endpoint]
    cluster_id: str
    served_apis: list[ApiVersion]
    remote_reads: RemoteReads = field(default_factory=NoRemoteReads)
    quotas: Quotas | None = None
    now_ms: Callable[[], int] = wall_clock_ms

    def monotonic_ms(self) -> int:
        return int(self.loop.time() * 1000)

    @property
    def image(self) -> MetadataImage:
        return self.feed.image

    @property
    def broker_id(self) -> int:
        return self.config.node_id
