"""The interface through which Fetch and ListOffsets read from the remote tier."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tierlog.errors import ErrorCode
from tierlog.types import AbortedTransaction, Buffer

if TYPE_CHECKING:
    from tierlog.broker.replicas.partition import Partition
    from tierlog.log.timestamps import TimestampedOffset


def _nothing() -> None:
    """There is nothing to go on behind."""


class RemoteRead(NamedTuple):
    """Whole batches, beginning with the one that holds the fetch offset; empty if nothing was ready in time."""

    error: ErrorCode = ErrorCode.NONE
    records: list[Buffer] | bytes = b""
    size_bytes: int = 0
    aborted: Sequence[AbortedTransaction] = ()
    accept: Callable[[], None] = _nothing
    """To be called if the records are sent: the reader goes on behind them. Else they stay in memory for the next Fetch."""


class RemoteAsk(NamedTuple):
    """What a Fetch asks of one partition's remote part, and who asks: a client, by one of its connections."""

    partition: Partition
    fetch_offset: int
    max_bytes: int
    min_one_batch: bool
    client: Hashable = ""
    connection: Hashable = ""
    end_offset: int = 2**63 - 1
    """Exclusive: the caller may not read further, though the tier may have more."""


class RemoteReads(Protocol):
    """Reads of records that are no longer on this disk. Deadlines are on the loop's clock; slowness is never an error."""

    def read_now(self, asked: RemoteAsk) -> RemoteRead | None:
        """The batches if they are in memory, without waiting. None if they are not: then they are asked for, and there for
        ``read`` or the next Fetch."""

    async def read(self, asked: RemoteAsk, deadline_s: float) -> RemoteRead: ...

    def serves(self, partition: Partition) -> bool:
        """Whether this broker may read the partition's remote part, though it does not lead it."""

    async def is_known(self, partition: Partition, deadline_s: float) -> bool:
        """Whether the head of a partition that is led here has been read; waits for that until the deadline."""

    async def offset_for_timestamp(
        self, partition: Partition, timestamp: int, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        """First remote record at or after ``timestamp``; None where there is none; REQUEST_TIMED_OUT when too slow."""

    async def max_timestamp(
        self, partition: Partition, deadline_s: float
    ) -> TimestampedOffset | ErrorCode | None:
        """The remote record with the largest timestamp."""


class NoRemoteReads:
    """Used when no object store is configured: nothing is remote."""

    def read_now(self, asked: RemoteAsk) -> RemoteRead | None:
        return None

    async def read(self, asked: RemoteAsk, deadline_s: float) -> RemoteRead:
        return RemoteRead(ErrorCode.OFFSET_OUT_OF_RANGE)

    def serves(self, partition: Partition) -> bool:
        return False

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
