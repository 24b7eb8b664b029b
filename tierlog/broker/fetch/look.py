"""What one Fetch has found so far, and what that takes of its byte budget.

A look goes over partitions once. It reads at once what is in the page cache or the chunk cache; ``slow`` lists the rest.
What the tier has to load first is asked for by the look, and left to a later Fetch if there is other data to answer with.
Who asks (a consumer or a follower) decides how far a partition may be read; see ``consumer_fetch`` and
``leading.follower_fetch``.

Rules: partitions take their parts of the budget in the request's order; a read from the disk takes its part before it
begins. What is asked of the tier takes none before it has come, so that it keeps no part from data that is at hand; the
asks together have the budget once more. The budget is at most what ``reply_memory`` grants. The first batch found is
returned whole even where it exceeds the budget or its partition's limit (KIP-74).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.remote_port import RemoteAsk, RemoteRead
from tierlog.broker.fetch.sessions import FetchedPartition
from tierlog.broker.fetch.slow_reads import SlowReads
from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode, StorageError
from tierlog.types import Buffer
from tierlog.wire.messages.fetch import FetchRequest

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts

UNKNOWN = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)

# (read, bytes left of the budget) -> bytes of the budget that it takes. Fills ``read``.
ReadOne = Callable[[PartitionRead, int], int]


class Look:
    """One per Fetch, begun anew for each look."""

    __slots__ = (
        "_client",
        "_connection",
        "_granted_bytes",
        "_is_short",
        "_least_bytes",
        "_parts",
        "asked_bytes",
        "gathered_bytes",
        "is_due",
        "max_bytes",
        "min_bytes",
        "reads",
        "slow",
        "taken_bytes",
        "unsent_bytes",
    )

    def __init__(
        self, parts: FetchParts, request: FetchRequest, ctx: RequestContext, least_bytes: int = 0
    ) -> None:
        """``least_bytes`` may be read however little memory is left."""
        self._parts = parts
        self._least_bytes = least_bytes
        # Who asks: takes turns with others where the tier is short of memory.
        self._client = (ctx.client_id, ctx.peer_host)
        self._connection = id(ctx.session)
        self.max_bytes = min(request.max_bytes, parts.config.fetch_max_bytes)
        self.min_bytes = min(request.min_bytes, self.max_bytes)
        # By what was asked, in the order of the answer.
        self.reads: dict[FetchedPartition, PartitionRead] = {}
        self.gathered_bytes = 0
        # Bytes of the budget that are used up, by reads that are done and by those still to come from the disk.
        self.taken_bytes = 0
        # Bytes of the budget that the tier is asked for, which are not there yet.
        self.asked_bytes = 0
        # Unused bytes of partition limits: these partitions have more data, but the next batch does not fit.
        self.unsent_bytes = 0
        # The answer leaves as soon as the look is over.
        self.is_due = False
        # The budget, and whether it is smaller than min_bytes, so that any data is enough.
        self._granted_bytes = 0
        self._is_short = False
        self.slow: SlowReads | None = None

    def begin(self) -> None:
        self.reads.clear()
        self.slow = None
        self.is_due = False
        self.count_anew()

    def count_anew(self) -> None:
        """Keeps the reads so far, none of which found records, and counts anew with the whole budget."""
        self.gathered_bytes = self.unsent_bytes = self.taken_bytes = self.asked_bytes = 0

    def over(self, partitions: Iterable[FetchedPartition], read_one: ReadOne) -> int:
        """Reads these partitions within the budget; returns how many of them are unknown."""
        granted = self._parts.reply_memory.grant(self.max_bytes, self._least_bytes)
        self._granted_bytes, self._is_short = granted, granted < self.min_bytes
        unknown_count = 0
        for asked in partitions:
            asked.quiet_at = None  # else a session would keep a deleted partition alive
            read = self.reads[asked] = PartitionRead(asked)
            self.taken_bytes += read_one(read, max(0, granted - self.taken_bytes))
            if read.error:
                if read.error in UNKNOWN:
                    unknown_count += 1
                else:
                    self.is_due = True
        return unknown_count

    @property
    def has_enough(self) -> bool:
        found_bytes = self.gathered_bytes + self.unsent_bytes
        return found_bytes >= self.min_bytes or (found_bytes > 0 and self._is_short)

    def is_ready(self, max_wait_ms: int) -> bool:
        """Whether the answer may leave now: nothing is read slowly, and there is nothing to wait for."""
        if self.has_slow_reads():
            return False
        return self.is_due or self.has_enough or max_wait_ms <= 0

    def has_slow_reads(self) -> bool:
        """Whether the answer waits for slow reads. Data that is there does not wait for the tier."""
        if self.slow is not None and self.gathered_bytes and (self.is_due or self.has_enough):
            self.slow.remote.clear()
            if not self.slow.cold:
                self.slow = None
        return self.slow is not None

    def note_unknown(self, unknown_count: int, asked_count: int) -> None:
        """Where all that is asked is unknown, there is nothing to wait for."""
        if unknown_count == asked_count:
            self.is_due = True

    @property
    def may_take_one(self) -> bool:
        """Whether nothing was found yet: the first batch is returned whole, however large (KIP-74)."""
        return self.taken_bytes == 0

    def drop_records(self) -> None:
        """Holds no records while the fetch waits: everything is read again after that."""
        for read in self.reads.values():
            read.records = b""

    # -- reading one partition

    def local(self, read: PartitionRead, partition: Partition, end: int, remaining: int) -> int:
        """Takes local batches below ``end`` (exclusive); returns how many bytes of the budget they take."""
        asked, log = read.asked, partition.log
        offset = asked.fetch_offset
        min_one = self.may_take_one
        budget = min(asked.max_bytes, remaining)
        if budget <= 0 and not min_one:
            return 0
        found = log.locate(offset, budget, end, min_one)
        if found is None:
            return 0
        if found.next_offset < end:
            if offset < log.segments.active.base_offset:
                self.is_due = True
            elif found.size_bytes < budget:
                self.unsent_bytes += budget - found.size_bytes
        if found.size_bytes == 0:
            return 0
        try:
            records = log.read_nowait(found)
        except StorageError as error:
            partition.storage_failed(error)
            read.error = ErrorCode.KAFKA_STORAGE_ERROR
            return 0
        if records is None:
            read.cold = found
            self._later().cold.append(read)
        else:
            self.take_local(read, records)
        return found.size_bytes

    def remote(self, read: PartitionRead, partition: Partition, end: int, remaining: int) -> int:
        """Takes batches below ``end`` (exclusive) if the chunk cache holds them, as it mostly does for a sequential reader;
        else the tier is asked later. Returns how many bytes of the budget the read takes."""
        parts = self._parts
        budget = min(read.asked.max_bytes, max(0, remaining - self.asked_bytes))
        if budget <= 0 and (self.asked_bytes or not self.may_take_one):
            return 0
        offset = read.asked.fetch_offset
        asked = RemoteAsk(partition, offset, budget, self.may_take_one, self._client, self._connection, end)
        read.remote = asked
        ready = parts.remote_reads.read_now(asked)
        if ready is None:
            self.asked_bytes += max(budget, 1)
            self._later().remote.append(read)
            return 0
        ready.accept()
        read.error = ready.error
        self.is_due = True  # more data follows, if not in the tier then in the local log
        self.gathered_bytes += ready.size_bytes
        read.records, read.size_bytes = ready.records, ready.size_bytes
        partition.traffic.remote_bytes_out += ready.size_bytes
        return ready.size_bytes

    def take_local(self, read: PartitionRead, records: Buffer) -> None:
        """Records from this disk, whose part of the budget is taken already."""
        read.records = records
        read.size_bytes = size_bytes = len(records)
        self.gathered_bytes += size_bytes
        partition = read.partition
        assert partition is not None
        if read.aborted is not None and size_bytes:
            offset = read.asked.fetch_offset
            read.note_aborted(partition.log.aborted_transactions(offset, read.last_stable_offset))

    def take_remote(self, read: PartitionRead, found: RemoteRead) -> bool:
        """Records that came from the tier later. Returns whether there is room for them: others may have come first."""
        asked = read.remote
        assert asked is not None
        is_within = found.size_bytes <= min(asked.max_bytes, self._granted_bytes - self.taken_bytes)
        if not is_within and not self.may_take_one:
            return False
        found.accept()
        read.records, read.size_bytes = found.records, found.size_bytes
        self.gathered_bytes += found.size_bytes
        self.taken_bytes += found.size_bytes
        if read.aborted is not None:
            read.note_aborted(found.aborted)
        asked.partition.traffic.remote_bytes_out += found.size_bytes
        return True

    def _later(self) -> SlowReads:
        if self.slow is None:
            self.slow = SlowReads(self._parts, self)
        return self.slow
