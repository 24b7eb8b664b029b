"""What a consumer's Fetch may read, and where it waits.

A consumer reads up to the high watermark, with read_committed up to the last stable offset. Offsets below the local log
start are read from the remote tier. A follower serves consumers too, remote offsets included, up to its own high watermark
(KIP-392); see ``preferred_replicas``. What it cannot serve it leaves to the leader, with NOT_LEADER_OR_FOLLOWER.

A session's partition that was read to its end is read again only after it changed (``consumer_watch``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tierlog.broker.fetch.answering import Answer
from tierlog.broker.fetch.consumer_watch import ConsumerWatch
from tierlog.broker.fetch.fetching import Fetch, serve
from tierlog.broker.fetch.look import UNKNOWN, Look
from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.preferred_replicas import FOLLOWERS_SINCE, preferred_read_replica
from tierlog.broker.fetch.sessions import FetchContext, FetchedPartition
from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.errors import ErrorCode
from tierlog.wire.messages.fetch import FetchRequest, FetchResponse

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts

READ_COMMITTED = 1
TOPIC_IDS_SINCE = 13


def consumer_fetch(
    parts: FetchParts, ctx: RequestContext, request: FetchRequest, context: FetchContext
) -> FetchResponse | DelayedResponse[FetchResponse]:
    return serve(parts, ConsumerSide(parts, ctx, request, context), request, context)


class ConsumerSide:
    """One Fetch of one consumer."""

    __slots__ = ("_committed_only", "_ctx", "_parked_at", "_parts", "_rack_id", "_watch", "context", "look")

    def __init__(
        self, parts: FetchParts, ctx: RequestContext, request: FetchRequest, context: FetchContext
    ) -> None:
        self.look = Look(parts, request, ctx)
        self.context = context
        self._parts = parts
        self._ctx = ctx
        self._rack_id = request.rack_id
        self._committed_only = request.isolation_level == READ_COMMITTED
        session = context.session
        # None without a session: then all partitions are read, and parked at.
        self._watch = None if session is None else ConsumerWatch.of(session)
        self._parked_at: dict[Partition, FetchedPartition] = {}

    @property
    def has_to_wait(self) -> bool:
        return self._parts.reply_memory.is_exhausted

    # -- looking

    def read(self) -> None:
        self.look.begin()
        unknown_count = self.look.over(self.to_look_at(), self.read_one)
        self.look.note_unknown(unknown_count, len(self.context.partitions))

    def to_look_at(self) -> list[FetchedPartition]:
        if self._watch is not None and self.context.is_incremental:
            return self._watch.take()
        return list(self.context.partitions)

    def read_again(self, fetch: Fetch) -> None:
        if fetch.was_empty and fetch.changed:
            self.look.count_anew()
            self.look.over(self._changed(fetch), self.read_one)
        else:
            self.read()

    def _changed(self, fetch: Fetch) -> list[FetchedPartition]:
        """What has changed while the fetch was parked: of a session in the order of changes, else of the request."""
        if self._watch is not None:
            return list(self._watch.fresh)
        return [asked for partition, asked in self._parked_at.items() if partition in fetch.changed]

    def read_one(self, read: PartitionRead, remaining: int) -> int:
        """Fills ``read``; returns how many bytes of the budget it takes."""
        version = self._ctx.api_version
        partition = resolve(self._parts, version, read, from_followers=version >= FOLLOWERS_SINCE)
        if partition is None:
            if read.error in UNKNOWN:
                read.aborted = []
            return 0
        asked, log = read.asked, partition.log
        read.changes = partition.changes
        read.high_watermark = high_watermark = partition.high_watermark
        read.last_stable_offset = partition.last_stable_offset
        read.log_start_offset = log.log_start_offset
        offset = asked.fetch_offset
        if asked.last_fetched_epoch >= 0 and read.diverges_from(partition):
            self.look.is_due |= read.diverging is not None
            return 0
        if not log.log_start_offset <= offset <= log.log_end_offset:
            read.error = ErrorCode.OFFSET_OUT_OF_RANGE
            return 0
        if self._rack_id and partition.leader is not None and self._is_nearer_elsewhere(read, partition):
            return 0
        end = high_watermark
        if self._committed_only:
            end = read.last_stable_offset
            read.aborted = []
        if offset >= end:
            return 0
        if offset >= log.local_log_start_offset:
            return self.look.local(read, partition, end, remaining)
        if partition.leader is None and not self._parts.remote_reads.serves(partition):
            read.error = ErrorCode.NOT_LEADER_OR_FOLLOWER
            return 0
        return self.look.remote(read, partition, end, remaining)

    def _is_nearer_elsewhere(self, read: PartitionRead, partition: Partition) -> bool:
        """Sets the preferred read replica if a follower in the consumer's rack has the offset; returns whether it did."""
        offset = read.asked.fetch_offset
        replica = preferred_read_replica(self._parts, self._ctx, self._rack_id, partition, offset)
        if replica is None:
            return False
        read.preferred_replica = replica
        self.look.is_due = True
        return True

    # -- waiting

    def stay(self, fetch: Fetch) -> None:
        if self._watch is not None:
            self._watch.park(fetch, self.look.reads)
            return
        self._parked_at = parked_at(self.context.partitions, self.look)
        for partition in self._parked_at:
            partition.parked[id(fetch)] = fetch

    def go(self, fetch: Fetch) -> None:
        if self._watch is not None:
            self._watch.unpark(fetch)
        for partition in self._parked_at:
            partition.parked.pop(id(fetch), None)
        self._parked_at = {}

    # -- answering

    def answer(self) -> FetchResponse:
        answer = Answer(self.context, self)
        for read in self.look.reads.values():
            answer.add(read)
            self.answered(read)
        return answer.finish(self._parts, self._ctx)

    def answered(self, read: PartitionRead) -> None:
        if self._watch is not None:
            self._watch.answered(read)

    def settle(self, read: PartitionRead) -> None:
        read.tell_nothing_but_the_error()

    def remember_quiet(self, read: PartitionRead) -> None:
        read.remember_quiet()

    def count(self, read: PartitionRead) -> None:
        partition, size_bytes = read.partition, read.size_bytes
        assert partition is not None
        partition.traffic.bytes_out += size_bytes
        is_remote = read.remote is not None
        self._parts.client_traffic.consumed(self._ctx, partition, size_bytes, self._rack_id, is_remote)


def resolve(
    parts: FetchParts, version: int, read: PartitionRead, *, from_followers: bool
) -> Partition | None:
    """The hosted partition that ``read`` asks for, noted in it; None if it has an error instead. ``from_followers``: a
    follower may serve it too."""
    asked = read.asked
    if version >= TOPIC_IDS_SINCE:
        found = parts.replicas.by_id(asked.topic_id, asked.partition)
    else:
        found = parts.replicas.by_name(asked.topic, asked.partition)
    if isinstance(found, ErrorCode):
        read.error = found
        return None
    check = found.check_replica if from_followers else found.check_leadership
    read.error = check(asked.current_leader_epoch)
    if read.error:
        return None
    read.partition = found
    return found


def parked_at(partitions: Iterable[FetchedPartition], look: Look) -> dict[Partition, FetchedPartition]:
    """Where a fetch of these partitions waits: at those that the look has found, or that it skipped as quiet."""
    found: dict[Partition, FetchedPartition] = {}
    for asked in partitions:
        read = look.reads.get(asked)
        partition = read.partition if read is not None else asked.quiet_at
        if partition is not None:
            found[partition] = asked
    return found
