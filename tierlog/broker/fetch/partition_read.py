"""The result of one pass of a Fetch for one partition."""

from __future__ import annotations

from collections.abc import Iterable

from tierlog import types
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.fetch.sessions import FetchedPartition
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode
from tierlog.log.reading import Slice
from tierlog.types import Buffer
from tierlog.wire.messages.fetch import AbortedTransaction, EpochEndOffset, PartitionData


class PartitionRead:
    """Filled by the look, later if the records are not in memory (``SlowReads``). Offsets are -1 if unknown."""

    __slots__ = (
        "aborted",
        "asked",
        "changes",
        "cold",
        "diverging",
        "error",
        "high_watermark",
        "last_stable_offset",
        "log_start_offset",
        "partition",
        "preferred_replica",
        "records",
        "remote",
        "size_bytes",
    )

    def __init__(self, asked: FetchedPartition) -> None:
        self.asked = asked
        self.partition: Partition | None = None
        # The partition's change counter (``Partition.changes``) at the time of the read.
        self.changes = -1
        self.error = ErrorCode.NONE
        self.high_watermark = -1
        self.last_stable_offset = -1
        self.log_start_offset = -1
        # The broker to fetch from instead (KIP-392); -1 means this one.
        self.preferred_replica = -1
        self.records: Buffer | list[Buffer] = b""
        self.size_bytes = 0
        self.cold: Slice | None = None
        self.diverging: EpochEndOffset | None = None
        # Set where the records are read from the tier.
        self.remote: RemoteAsk | None = None
        self.aborted: list[AbortedTransaction] | None = None

    def remember_quiet(self) -> None:
        """Marks the partition as quiet if the fetcher has read to the high watermark: it is skipped until it changes."""
        partition, asked = self.partition, self.asked
        if partition is not None and not self.error and asked.fetch_offset >= self.high_watermark:
            asked.quiet_at, asked.quiet_changes = partition, self.changes

    def told(self) -> PartitionData:
        """The partition's entry in the answer."""
        data = PartitionData(
            partition_index=self.asked.partition,
            error_code=self.error,
            high_watermark=self.high_watermark,
            last_stable_offset=self.last_stable_offset,
            log_start_offset=self.log_start_offset,
            aborted_transactions=self.aborted,
            preferred_read_replica=self.preferred_replica,
            records=self.records,
        )
        if self.diverging is not None:
            data.diverging_epoch = self.diverging
        return data

    def diverges_from(self, partition: Partition) -> bool:
        """Whether the fetcher's log diverges from this one (KIP-595); sets ``diverging`` or ``error`` if so."""
        asked, log = self.asked, partition.log
        epoch, end_offset = log.end_offset_for_epoch(asked.last_fetched_epoch)
        if epoch < 0 or asked.fetch_offset < log.log_start_offset:
            self.error = ErrorCode.OFFSET_OUT_OF_RANGE
        elif epoch < asked.last_fetched_epoch or end_offset < asked.fetch_offset:
            self.diverging = EpochEndOffset(epoch=epoch, end_offset=end_offset)
        else:
            return False
        return True

    def note_aborted(self, found: Iterable[types.AbortedTransaction]) -> None:
        """Sets the aborted transactions, whose records a read_committed consumer leaves out."""
        self.aborted = [
            AbortedTransaction(producer_id=span.producer_id, first_offset=span.first_offset) for span in found
        ]

    def tell_nothing_but_the_error(self) -> None:
        self.high_watermark = self.last_stable_offset = self.log_start_offset = -1
        self.aborted = None
        self.records, self.size_bytes = b"", 0
