"""Serves one Fetch request: reads what is in memory, waits for more, and reads the rest from disk or the remote tier.

Steps:

1. ``read`` goes over the partitions once, within the byte budget, and reads what the page cache holds. The first
   batch found is returned whole even where it exceeds the budget (KIP-74).
2. If that is enough, or a partition has an error, the answer is ready at once.
3. A worker thread reads batches that are not in the page cache. The remote tier is asked, for all partitions at once, for
   batches that are no longer on this disk. The answer leaves when all reads are done, or at the deadline with those that
   are. A session's partition that was read to its end is read again only after it changed.
4. Otherwise the fetch is parked at its partitions until ``min_bytes`` more are committed, or ``max_wait_ms`` is over.

Rules: the budget is divided before anything is read; slowness is never an error. A fetch reads no more bytes than
``reply_memory`` grants. When that memory is used up, a consumer's fetch first waits for some to be freed.

A follower serves consumers too, up to its own high watermark (KIP-392); see ``preferred_replicas``.

The wait ends, as in Kafka, on an error (except unknown partitions, so that a fetcher with old metadata does not spin), on a
diverging epoch, on data in a segment that is not the active one, and on ``min_bytes``. Towards ``min_bytes`` a partition
with more data than its limit counts with the whole limit, though only whole batches are sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tierlog.broker.cluster.leader_hints import FETCH_SINCE, hint_fetch
from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.preferred_replicas import FOLLOWERS_SINCE, preferred_read_replica
from tierlog.broker.fetch.sessions import FetchContext, FetchedPartition, is_news
from tierlog.broker.fetch.slow_reads import SlowReads
from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.reading import Slice
from tierlog.types import Buffer
from tierlog.wire.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts

READ_COMMITTED = 1
# A fetch that has got no memory after this time is answered without records.
MEMORY_WAIT_S = 10.0
_UNKNOWN = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)


class Fetch:
    """One request, from its first pass to its answer. While it waits, it is ``Parked`` at its partitions."""

    least_bytes = 0  # may be read however little memory is left

    __slots__ = (
        "_is_short",
        "_parked_at",
        "_slow",
        "_stirred",
        "_timer",
        "_was_empty",
        "context",
        "ctx",
        "future",
        "gathered_bytes",
        "is_due",
        "max_bytes",
        "min_bytes",
        "parts",
        "reads",
        "request",
        "taken_bytes",
        "unsent_bytes",
    )

    def __init__(
        self, parts: FetchParts, ctx: RequestContext, request: FetchRequest, context: FetchContext
    ) -> None:
        self.parts = parts
        self.ctx = ctx
        self.request = request
        self.context = context
        self.max_bytes = min(request.max_bytes, parts.config.fetch_max_bytes)
        self.min_bytes = min(request.min_bytes, self.max_bytes)
        self.future: DelayedResponse[FetchResponse] | None = None
        self.reads: dict[FetchedPartition, PartitionRead] = {}
        self.gathered_bytes = 0
        # Bytes of the budget that are used up, by reads that are done and by those still to come from disk or tier.
        self.taken_bytes = 0
        # Bytes left below the limits of partitions that have more data, but whose next batch does not fit.
        self.unsent_bytes = 0
        self.is_due = False
        # The memory grant is smaller than min_bytes, so any data is enough.
        self._is_short = False
        self._slow: SlowReads | None = None
        self._parked_at: dict[Partition, FetchedPartition] = {}
        # Partitions that changed while the fetch was parked, in that order; and whether the first pass found no records.
        self._stirred: dict[Partition, None] = {}
        self._was_empty = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> FetchResponse | DelayedResponse[FetchResponse]:
        if self._has_to_wait:
            future = self._future_answer()
            self._await_memory()
            return future
        return self._begin() or self._future_answer()

    def _begin(self) -> FetchResponse | None:
        """The answer, or None if it comes later through ``future``."""
        self.read()
        if self._slow is not None:
            self._read_slowly()
        elif self.is_due or self.has_enough or self.request.max_wait_ms <= 0:
            return self.answer()
        else:
            self._park()
        return None

    def _future_answer(self) -> DelayedResponse[FetchResponse]:
        if self.future is None:
            self.future = DelayedResponse()
            self.future.add_done_callback(self._leave)
        return self.future

    def _reply(self, answer: FetchResponse | None) -> None:
        assert self.future is not None
        if answer is not None:
            self.future.set_result(answer)

    @property
    def has_enough(self) -> bool:
        found_bytes = self.gathered_bytes + self.unsent_bytes
        return found_bytes >= self.min_bytes or (found_bytes > 0 and self._is_short)

    # -- reading

    def read(self) -> None:
        """One pass over the partitions."""
        self.reads.clear()
        self._slow = None
        self.is_due = False
        self.gathered_bytes = self.unsent_bytes = self.taken_bytes = 0
        partitions = self.context.partitions
        if self.context.is_incremental:
            partitions = [asked for asked in partitions if not asked.is_quiet]
        unknown_count = self._pass_over(partitions)
        if unknown_count == len(self.context.partitions):
            self.is_due = True  # nothing to wait for

    def _pass_over(self, partitions: Iterable[FetchedPartition]) -> int:
        """Reads these partitions within the budget; returns how many of them are unknown."""
        granted = self.parts.reply_memory.grant(self.max_bytes, self.least_bytes)
        self._is_short = granted < self.min_bytes
        unknown_count = 0
        for asked in partitions:
            asked.quiet_at = None  # else a session would keep a deleted partition alive
            read = self.reads[asked] = PartitionRead(asked)
            self.taken_bytes += self._read_partition(read, max(0, granted - self.taken_bytes))
            if read.error:
                if read.error in _UNKNOWN:
                    unknown_count += 1
                else:
                    self.is_due = True
        return unknown_count

    def _read_partition(self, read: PartitionRead, remaining: int) -> int:
        """Fills ``read``; returns how many bytes of the budget it takes."""
        partition = self._resolve(read)
        if partition is None:
            return 0
        asked, log = read.asked, partition.log
        read.changes = partition.changes
        read.high_watermark = high_watermark = partition.high_watermark
        read.last_stable_offset = partition.last_stable_offset
        read.log_start_offset = log.log_start_offset
        offset = asked.fetch_offset
        if asked.last_fetched_epoch >= 0 and read.diverges_from(partition):
            self.is_due |= read.diverging is not None
            return 0
        if not log.log_start_offset <= offset <= log.log_end_offset:
            read.error = ErrorCode.OFFSET_OUT_OF_RANGE
            return 0
        if (
            self.request.rack_id
            and partition.leader is not None
            and self._is_nearer_elsewhere(read, partition)
        ):
            return 0
        committed_only = self.request.isolation_level == READ_COMMITTED
        end = read.last_stable_offset if committed_only else high_watermark
        if committed_only:
            read.aborted = []
        if offset >= end:
            return 0
        if offset < log.local_log_start_offset:
            if partition.leader is None:
                read.error = ErrorCode.NOT_LEADER_OR_FOLLOWER  # only the leader reads from the remote tier
                return 0
            min_one = self._may_take_one
            budget = min(asked.max_bytes, remaining)
            return self._read_remote_now(read, partition, budget, min_one) if budget > 0 or min_one else 0
        return self._read_local(read, partition, end, remaining)

    def _is_nearer_elsewhere(self, read: PartitionRead, partition: Partition) -> bool:
        """Sends the consumer to a follower in its rack, if one there has the offset; returns whether it did."""
        replica = preferred_read_replica(
            self.parts, self.ctx, self.request.rack_id, partition, read.asked.fetch_offset
        )
        if replica is None:
            return False
        read.preferred_replica = replica
        self.is_due = True
        return True

    @property
    def _may_take_one(self) -> bool:
        """Whether nothing was found yet: the first batch is returned whole, however large (KIP-74)."""
        return self.gathered_bytes == 0 and self._slow is None

    def _read_local(self, read: PartitionRead, partition: Partition, end: int, remaining: int) -> int:
        """Takes local batches below ``end`` (exclusive); returns how many bytes of the budget they take."""
        asked, log = read.asked, partition.log
        offset = asked.fetch_offset
        min_one = self._may_take_one
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
        return self._read_slice(read, partition, found)

    def _read_remote_now(self, read: PartitionRead, partition: Partition, budget: int, min_one: bool) -> int:
        """Takes the batches if the chunk cache holds them, as it mostly does for a sequential reader; else the tier is asked
        later. Returns how many bytes of the budget the read takes."""
        ready = self.parts.remote_reads.read_now(partition, read.asked.fetch_offset, budget, min_one)
        if ready is None:
            read.max_bytes, read.min_one_batch = budget, min_one
            self._read_later().remote.append(read)
            return budget
        read.error = ready.error
        self.is_due = True  # more data follows, if not in the tier then in the local log
        self.gathered_bytes += ready.size_bytes
        read.records, read.size_bytes = ready.records, ready.size_bytes
        partition.traffic.remote_bytes_out += ready.size_bytes
        return ready.size_bytes

    def _read_slice(self, read: PartitionRead, partition: Partition, found: Slice) -> int:
        try:
            records = partition.log.read_nowait(found)
        except StorageError as error:
            partition.storage_failed(error)
            read.error = ErrorCode.KAFKA_STORAGE_ERROR
            return 0
        if records is None:
            read.cold = found
            self._read_later().cold.append(read)
            return found.size_bytes
        self._take(read, records, len(records))
        return found.size_bytes

    def _take(self, read: PartitionRead, records: Buffer | list[Buffer], size_bytes: int) -> None:
        read.records = records
        read.size_bytes = size_bytes
        self.gathered_bytes += size_bytes
        partition = read.partition
        assert partition is not None
        if read.aborted is not None and size_bytes:
            offset = read.asked.fetch_offset
            read.note_aborted(partition.log.aborted_transactions(offset, read.last_stable_offset))

    def _resolve(self, read: PartitionRead) -> Partition | None:
        asked, replicas = read.asked, self.parts.replicas
        if self.ctx.api_version >= 13:
            found = replicas.by_id(asked.topic_id, asked.partition)
        else:
            found = replicas.by_name(asked.topic, asked.partition)
        if isinstance(found, ErrorCode):
            read.error = found
            if found in _UNKNOWN:
                read.aborted = []
            return None
        error = self._check(found, asked.current_leader_epoch)
        if error:
            read.error = error
            return None
        read.partition = found
        return found

    def _check(self, partition: Partition, current_leader_epoch: int) -> ErrorCode:
        if self.ctx.api_version >= FOLLOWERS_SINCE:
            return partition.check_replica(current_leader_epoch)
        return partition.check_leadership(current_leader_epoch)

    # -- waiting for memory

    @property
    def _has_to_wait(self) -> bool:
        return self.parts.reply_memory.is_exhausted

    def _await_memory(self) -> None:
        parts = self.parts
        parts.reply_memory.wait(self, self._memory_is_there)
        self._timer = parts.loop.call_later(MEMORY_WAIT_S, self._no_memory)

    def _memory_is_there(self) -> None:
        if self._has_to_wait:
            self.parts.reply_memory.wait(self, self._memory_is_there)
            return
        self._unpark()
        self._reply(self._begin())

    def _no_memory(self) -> None:
        """No memory in time: answers without records and without an error, so the client asks again."""
        self._timer = None
        self.parts.reply_memory.forget(self)
        self.reads.clear()
        self._reply(self.answer())

    # -- cold and remote reads

    def _read_later(self) -> SlowReads:
        if self._slow is None:
            self._slow = SlowReads(self.parts, self._take)
        return self._slow

    def _read_slowly(self) -> None:
        assert self._slow is not None
        self._future_answer()
        self._slow.start(self.request.max_wait_ms, self._slow_reads_ended)

    def _slow_reads_ended(self, error: BaseException | None) -> None:
        future = self.future
        assert future is not None
        if error is not None and not future.done():
            future.set_exception(error)
        elif not future.done():
            self._conclude()

    # -- waiting (Parked)

    def _park(self) -> None:
        self._future_answer()
        self._was_empty = self.gathered_bytes == 0
        if not self._was_empty:
            for read in self.reads.values():
                read.records = b""  # everything is read again on waking: do not hold it until then
        self._stay()
        wait_ms = self.context.wait_ms(self.request.max_wait_ms)
        self._timer = self.parts.loop.call_later(wait_ms / 1000, self._wake)

    def _find_parking(self) -> None:
        for asked in self.context.partitions:
            read = self.reads.get(asked)
            partition = read.partition if read is not None else asked.quiet_at
            if partition is not None:
                self._parked_at[partition] = asked

    def _stay(self) -> None:
        self._find_parking()
        me = id(self)
        for partition in self._parked_at:
            partition.parked[me] = self

    def _go(self) -> None:
        me = id(self)
        for partition in self._parked_at:
            partition.parked.pop(me, None)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        self.gathered_bytes += new_bytes
        self._stirred[partition] = None
        if self._timer is not None and (new_bytes == 0 or self.has_enough):
            # Not within the append that called us: its reply goes out first, and its other partitions count too.
            self._timer.cancel()
            self._timer = None
            self.parts.loop.call_soon(self._wake)

    def _wake(self) -> None:
        future = self.future
        assert future is not None
        if future.done():
            return
        self._timer = None
        if self._has_to_wait:
            self._unpark()
            self._await_memory()
            return
        self._look_again()
        self._finish()

    def _look_again(self) -> None:
        """Reads again: a partition has changed, or the wait is over."""
        if self._was_empty and self._stirred:
            self.gathered_bytes = self.unsent_bytes = self.taken_bytes = 0
            self._pass_over([self._parked_at[partition] for partition in self._stirred])
        else:
            self.read()

    def _finish(self) -> None:
        self._unpark()
        if self._slow is not None:
            self._read_slowly()
        else:
            self._conclude()

    def _conclude(self) -> None:
        self._reply(self.answer())

    def _unpark(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._go()
        self._parked_at.clear()

    def _leave(self, future: DelayedResponse[FetchResponse]) -> None:
        self._unpark()
        if future.cancelled():
            self.parts.reply_memory.forget(self)
            if self._slow is not None:
                self._slow.cancel()

    # -- answering

    def answer(self) -> FetchResponse:
        response = FetchResponse(session_id=self.context.session_id)
        topics: dict[bytes | str, FetchableTopicResponse] = {}
        has_errors = False
        for asked, read in self.reads.items():
            has_errors |= self._tell(asked, read, response, topics)
        return self._hinted(response, has_errors)

    def _hinted(self, response: FetchResponse, has_errors: bool) -> FetchResponse:
        if has_errors and self.ctx.api_version >= FETCH_SINCE:
            hint_fetch(self.parts.image, self.parts.broker_id, self.ctx.listener, response)
        return response

    def _tell(
        self,
        asked: FetchedPartition,
        read: PartitionRead,
        response: FetchResponse,
        topics: dict[bytes | str, FetchableTopicResponse],
    ) -> bool:
        """Adds one partition to the answer if it has news; returns whether it was added with an error."""
        context = self.context
        has_data = read.size_bytes > 0
        self._settle(read)
        news = is_news(
            asked,
            has_data or read.diverging is not None or read.preferred_replica >= 0,
            read.error,
            read.high_watermark,
            read.log_start_offset,
        )
        if context.is_incremental and not news:
            self._remember_quiet(read)
            return False
        if has_data:
            self._count(read)
            # The answer of a large session is built in steps: the partition may have left the session meanwhile.
            if (
                context.session is not None
                and context.is_incremental
                and asked.key in context.session.partitions
            ):
                context.session.partitions.move_to_end(asked.key)
        name = asked.key[0]
        topic = topics.get(name)
        if topic is None:
            topic = topics[name] = FetchableTopicResponse(topic=asked.topic, topic_id=asked.topic_id)
            response.responses.append(topic)
        topic.partitions.append(read.told())
        return read.error != 0

    def _settle(self, read: PartitionRead) -> None:
        """Puts ``read`` into its final form before it goes into the answer."""
        if read.error and read.partition is not None:
            read.tell_nothing_but_the_error()

    def _remember_quiet(self, read: PartitionRead) -> None:
        read.remember_quiet()

    def _count(self, read: PartitionRead) -> None:
        assert read.partition is not None
        read.partition.traffic.bytes_out += read.size_bytes
