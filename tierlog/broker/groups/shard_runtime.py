"""Drives the group shards of this broker: load, decide, replay, append once per loop tick, park replies.

API for the composition root and the handlers::

    runtime = ShardRuntime(loop, GroupConfig(...), partition_count)
    runtime.lead(partition, log)            leadership won: load in slices, then serve
    runtime.resign(partition)               leadership lost: NOT_COORDINATOR to everyone who waits
    runtime.call(group_id, decide, refuse)  a decision of the group's shard: the response, now or as a future
    runtime.call_pipelined(...)             the same for a request of a pipelined API
    runtime.read(group_id, look, refuse)    the same for a read-only request
    runtime.led()                           the shards led here, for ListGroups
    runtime.topics_deleted(names)           after the image lost topics
    runtime.close()

Everything runs on the loop. A decision's events are replayed at once, so that the next decision of the same
tick sees them. At the end of the tick the events of all its decisions are appended in one batch (group commit).
A reply goes out when every event that it may reflect is committed: at once if none is pending, else when the
high watermark reaches the log end of that time. After ``COMMIT_TIMEOUT_MS`` the answer is
COORDINATOR_NOT_AVAILABLE instead. A failed append drops the shard and refuses all waiting requests; after a
pause that grows, the shard is loaded anew from the log.

Bounds: ``TICKETS_MAX`` waiting requests per shard, each of which ends with its connection; a load holds the live keys
and one slice of the log.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from struct import error as StructError
from typing import Any, NamedTuple, TypeAlias, TypeVar

import structlog

from tierlog.broker.groups.shard_loading import ShardLoading
from tierlog.broker.groups.shard_log import ShardLog as ShardLog
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.coordination.classic_group import NEVER_MS
from tierlog.coordination.config import GroupConfig
from tierlog.coordination.decision import Decision, Reply, Ticket
from tierlog.coordination.partitioning import partition_for
from tierlog.coordination.records import Event, encode_events
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode, MalformedMessage, StorageError

R = TypeVar("R")
Decide: TypeAlias = Callable[[GroupShard, Ticket, int], Decision]
Refuse: TypeAlias = Callable[[ErrorCode], Any]
Later: TypeAlias = "asyncio.Future[Any] | DelayedResponse[Any]"

COMMIT_TIMEOUT_MS = 5_000
TICKETS_MAX = 100_000
BATCH_BYTES_MAX = 512 * 1024  # size of one appended batch, unless a single event is larger
RELOAD_PAUSE_MIN_MS = 100
RELOAD_PAUSE_MAX_MS = 5_000
NOT_LEADING = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})

logger = structlog.get_logger()
CACHED_NAME_MAX_CHARS = 256  # longer names are not cached, so that the cache stays small
_cached_partition_for = lru_cache(maxsize=10_000)(partition_for)


def _partition_for(group_id: str, count: int) -> int:
    return (_cached_partition_for if len(group_id) <= CACHED_NAME_MAX_CHARS else partition_for)(
        group_id, count
    )


class SteadyClock:
    """Milliseconds that start as wall-clock time and then never jump, so that setting the system clock ends no
    session. Commit timestamps come from this clock too."""

    __slots__ = ("_offset_s",)

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def __call__(self) -> int:
        return int((self._offset_s + time.monotonic()) * 1000)


class _Parked(NamedTuple):
    """Replies that wait until the high watermark reaches ``end_offset`` (exclusive)."""

    end_offset: int
    deadline_ms: int
    replies: list[Reply]


class LedShard:
    """One partition led here. ``shard`` is None while it loads; callers are then answered with ``refusal``.

    Invariant (I8): the shard reflects the log below ``_end_offset`` (exclusive), plus the events in
    ``_unappended``. No reply is given while events are unappended or ``_end_offset`` is above the high watermark.
    """

    def __init__(self, runtime: ShardRuntime, partition: int, log: ShardLog) -> None:
        self.partition = partition
        self.shard: GroupShard | None = None
        self.refusal = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        self.load_ms = 0
        self.drop_count = 0
        self._runtime = runtime
        self._loop = runtime.loop
        self._log = log
        self._is_closed = False
        self._next_ticket = 1
        self._waiting: dict[Ticket, tuple[Later, Refuse]] = {}
        self._unappended: list[Event] = []
        self._unappended_replies: list[Reply] = []
        self._parked: deque[_Parked] = deque()
        self._end_offset = 0
        self._high_watermark = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ms = NEVER_MS
        self._reload_pause_ms = 0
        self._deleted_topics: set[str] = set()
        log.on_high_watermark(self._on_high_watermark)
        self._load()

    # -- loading
    # ----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        if self._is_closed:
            return
        self.refusal = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        loading = ShardLoading(
            self._log, self._runtime.config, self._runtime.topic_exists, self._deleted_topics
        )
        self._load_step(loading, self._runtime.now_ms())

    def _load_step(self, loading: ShardLoading, started_ms: int) -> None:
        if self._is_closed:
            return
        try:
            is_done = loading.step()
        except (StorageError, MalformedMessage, AssertionError, ValueError, LookupError):
            logger.exception("the groups of a partition cannot be loaded", partition=self.partition)
            self._drop(ErrorCode.COORDINATOR_NOT_AVAILABLE)
            return
        if not is_done:
            self._loop.call_soon(self._load_step, loading, started_ms)
            return
        now_ms = self._runtime.now_ms()
        self.load_ms = now_ms - started_ms
        self.shard = loading.shard
        self._end_offset = loading.end_offset
        self._high_watermark = self._log.high_watermark
        decision = loading.shard.finish_load(now_ms)
        decision.events.extend(loading.orphans)
        self._carry_out(loading.shard, decision, 0, now_ms)
        if self._deleted_topics:
            self.topics_deleted(frozenset(self._deleted_topics))
        if loading.malformed_count:
            self._runtime.unreadable_count += loading.malformed_count
            logger.error(
                "group records cannot be read", partition=self.partition, count=loading.malformed_count
            )
        self._arm(loading.shard, now_ms)

    def _drop(self, error: ErrorCode) -> None:
        """Drops the shard and refuses all waiting requests; the shard is loaded again from the log after a pause."""
        self.drop_count += 1
        self._clear(error)
        self.refusal = error
        self._reload_pause_ms = min(max(2 * self._reload_pause_ms, RELOAD_PAUSE_MIN_MS), RELOAD_PAUSE_MAX_MS)
        self._timer_due_ms = 0
        self._timer = self._loop.call_later(self._reload_pause_ms / 1000, self._reload)

    def _reload(self) -> None:
        self._timer, self._timer_due_ms = None, NEVER_MS
        self._load()

    def close(self) -> None:
        """Ends the shard: leadership is lost, or the broker stops."""
        self._is_closed = True
        self.refusal = ErrorCode.NOT_COORDINATOR
        self._clear(ErrorCode.NOT_COORDINATOR)

    def _clear(self, error: ErrorCode) -> None:
        self.shard = None
        self._unappended, self._unappended_replies = [], []
        self._parked.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due_ms = None, NEVER_MS
        waiting, self._waiting = self._waiting, {}
        for future, refuse in waiting.values():
            if not future.done():
                future.set_result(refuse(error))

    # -- deciding
    # ---------------------------------------------------------------------------------------------

    def call(self, decide: Decide, refuse: Refuse, new_future: Callable[[], Later]) -> Any:
        """The response of a decision, or a future of it."""
        shard = self.shard
        if shard is None:
            return refuse(self.refusal)
        if len(self._waiting) >= TICKETS_MAX:
            return refuse(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        ticket = self._next_ticket
        self._next_ticket = ticket + 1
        now_ms = self._runtime.now_ms()
        try:
            decision = decide(shard, ticket, now_ms)
            answer = self._carry_out(shard, decision, ticket, now_ms)
        except AssertionError:
            # A bug: the shard's state in memory cannot be trusted any more.
            logger.exception(
                "a bug in the groups of a partition: they are loaded again", partition=self.partition
            )
            self._drop(ErrorCode.COORDINATOR_NOT_AVAILABLE)
            return refuse(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self._arm(shard, now_ms)
        return self._wait(ticket, refuse, new_future()) if answer is None else answer

    def topics_deleted(self, names: frozenset[str]) -> None:
        """Removes the topics' offsets, with nobody waiting for it. The names are kept until that is in the log, since a
        load in between would bring the offsets back."""
        self._deleted_topics |= names
        shard = self.shard
        if shard is not None:
            self._carry_out(shard, shard.decide_topic_deletion(names), 0, self._runtime.now_ms())
            if not self._unappended:
                self._deleted_topics.clear()

    def read(self, look: Callable[[GroupShard], Any], refuse: Refuse) -> Any:
        """The result of ``look``, given out once every event that it may reflect is committed."""
        shard = self.shard
        if shard is None:
            return refuse(self.refusal)
        response = look(shard)
        if not self._unappended and self._end_offset <= self._high_watermark:
            return response
        if len(self._waiting) >= TICKETS_MAX:
            return refuse(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        ticket = self._next_ticket
        self._next_ticket = ticket + 1
        self._hold([Reply(ticket, response)], self._runtime.now_ms())
        return self._wait(ticket, refuse, self._loop.create_future())

    def _wait(self, ticket: Ticket, refuse: Refuse, future: Later) -> Later:
        self._waiting[ticket] = (future, refuse)
        future.add_done_callback(lambda ended: self._forget(ticket, ended))
        return future

    def _forget(self, ticket: Ticket, ended: Later) -> None:
        """Removes the ticket of a disconnected client; its decision still takes effect."""
        if ended.cancelled():
            self._waiting.pop(ticket, None)

    def _carry_out(self, shard: GroupShard, decision: Decision, own_ticket: Ticket, now_ms: int) -> Any:
        """Replays the decision's events and schedules their append; returns the response to ``own_ticket`` if it may go out
        at once, else None."""
        events = decision.events
        if events:
            for event in events:
                shard.replay(event)
            if not self._unappended:
                self._loop.call_soon(self._append, shard)
            self._unappended += events
        if self._unappended or self._end_offset > self._high_watermark:
            self._hold(decision.replies, now_ms)
            return None
        answer = None
        for reply in decision.replies:
            if reply.ticket == own_ticket:
                answer = reply.response
            else:
                self._answer(reply)
        return answer

    def _hold(self, replies: list[Reply], now_ms: int) -> None:
        if self._unappended:
            self._unappended_replies += replies
        elif replies:
            self._parked.append(_Parked(self._end_offset, now_ms + COMMIT_TIMEOUT_MS, replies))

    def _answer(self, reply: Reply) -> None:
        waiting = self._waiting.pop(reply.ticket, None)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(reply.response)

    # -- committing
    # -------------------------------------------------------------------------------------------

    def _append(self, shard: GroupShard) -> None:
        """Appends all events of the tick to the log, at its end."""
        if shard is not self.shard:
            return
        events, self._unappended = self._unappended, []
        replies, self._unappended_replies = self._unappended_replies, []
        try:
            # A split may fall inside a decision: each offset stands alone, and the reply waits for the last batch.
            start = 0
            while start < len(events):
                records, end = encode_events(events, start, BATCH_BYTES_MAX)
                last_offset = self._log.append(records, end - start)
                if isinstance(last_offset, ErrorCode):
                    self._append_failed(last_offset)
                    return
                self._end_offset, start = last_offset + 1, end
        except StorageError:
            logger.exception("group records cannot be appended", partition=self.partition)
            self._append_failed(ErrorCode.KAFKA_STORAGE_ERROR)
            return
        except (AssertionError, ValueError, StructError):
            logger.exception("a bug: group records cannot be written", partition=self.partition)
            self._append_failed(ErrorCode.UNKNOWN_SERVER_ERROR)
            return
        now_ms = self._runtime.now_ms()
        self._reload_pause_ms = 0
        self._deleted_topics.clear()
        self._hold(replies, now_ms)
        self._on_high_watermark(self._log.high_watermark)
        if self._parked:
            self._arm(shard, now_ms)

    def _append_failed(self, error: ErrorCode) -> None:
        logger.warning("group records were refused", partition=self.partition, error=error.name)
        self._drop(ErrorCode.NOT_COORDINATOR if error in NOT_LEADING else ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def _on_high_watermark(self, high_watermark: int) -> None:
        self._high_watermark = max(self._high_watermark, high_watermark)
        parked = self._parked
        while parked and parked[0].end_offset <= self._high_watermark:
            for reply in parked.popleft().replies:
                self._answer(reply)

    # -- time
    # -------------------------------------------------------------------------------------------------

    def _arm(self, shard: GroupShard, now_ms: int) -> None:
        """Sets the one timer for sessions, rebalances, expiry and the deadline of parked replies."""
        due_ms = shard.next_deadline_ms
        if self._parked and self._parked[0].deadline_ms < due_ms:
            due_ms = self._parked[0].deadline_ms
        if due_ms >= self._timer_due_ms:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_ms = due_ms
        self._timer = self._loop.call_later(max(due_ms - now_ms, 1) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_due_ms = None, NEVER_MS
        shard = self.shard
        if shard is None:
            return
        now_ms = self._runtime.now_ms()
        while self._parked and self._parked[0].deadline_ms <= now_ms:
            for reply in self._parked.popleft().replies:
                waiting = self._waiting.pop(reply.ticket, None)
                if waiting is not None and not waiting[0].done():
                    waiting[0].set_result(waiting[1](ErrorCode.COORDINATOR_NOT_AVAILABLE))
        try:
            self._carry_out(shard, shard.tick(now_ms), 0, now_ms)
        except AssertionError:
            logger.exception(
                "a bug in the groups of a partition: they are loaded again", partition=self.partition
            )
            self._drop(ErrorCode.COORDINATOR_NOT_AVAILABLE)
            return
        self._arm(shard, now_ms)


class ShardRuntime:
    """All shards of this broker. ``partition_count()``: partitions of ``__consumer_offsets``, 0 while the topic
    does not exist."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: GroupConfig,
        partition_count: Callable[[], int],
        now_ms: Callable[[], int] | None = None,
        topic_exists: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self.loop = loop
        self.topic_exists = topic_exists
        self.unreadable_count = 0  # stored records that could not be read, since the start
        self.config = config
        self.now_ms: Callable[[], int] = now_ms or SteadyClock()
        self._partition_count = partition_count
        self._led: dict[int, LedShard] = {}

    def lead(self, partition: int, log: ShardLog) -> None:
        """Starts a shard: this broker now leads the partition, or leads it again on a later epoch."""
        self.resign(partition)
        self._led[partition] = LedShard(self, partition, log)

    def resign(self, partition: int) -> None:
        """Ends the shard: leadership is lost, or the partition is gone. Idempotent."""
        led = self._led.pop(partition, None)
        if led is not None:
            led.close()

    def topics_deleted(self, names: frozenset[str]) -> None:
        """Removes all offsets of these topics, which are gone from the image."""
        for led in self.led():
            led.topics_deleted(names)

    def close(self) -> None:
        for partition in list(self._led):
            self.resign(partition)

    def led(self) -> list[LedShard]:
        """The shards led here, by partition."""
        return [self._led[partition] for partition in sorted(self._led)]

    def partition_of(self, group_id: str) -> int | None:
        """The partition that owns the group; None while ``__consumer_offsets`` does not exist."""
        count = self._partition_count()
        return _partition_for(group_id, count) if count else None

    def call(self, group_id: str, decide: Decide, refuse: Callable[[ErrorCode], R]) -> R | Awaitable[R]:
        """Calls ``decide(shard, ticket, now_ms)`` on the group's shard and returns the response of the ticket's
        reply. ``refuse(error)`` makes the response if there is no shard to ask."""
        led = self._owner(group_id)
        if not isinstance(led, LedShard):
            return refuse(led)
        answer: R | Awaitable[R] = led.call(decide, refuse, self.loop.create_future)
        return answer

    def call_pipelined(
        self, group_id: str, decide: Decide, refuse: Callable[[ErrorCode], R]
    ) -> R | DelayedResponse[R]:
        """As ``call``, for a connection that only notes the answer when it comes (see ``work.delayed_response``)."""
        led = self._owner(group_id)
        if not isinstance(led, LedShard):
            return refuse(led)
        answer: R | DelayedResponse[R] = led.call(decide, refuse, DelayedResponse)
        return answer

    def read(
        self, group_id: str, look: Callable[[GroupShard], R], refuse: Callable[[ErrorCode], R]
    ) -> R | Awaitable[R]:
        """Calls ``look(shard)`` on the group's shard and returns its result."""
        led = self._owner(group_id)
        answer: R | Awaitable[R] = led.read(look, refuse) if isinstance(led, LedShard) else refuse(led)
        return answer

    def _owner(self, group_id: str) -> LedShard | ErrorCode:
        count = self._partition_count()
        if not count:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        led = self._led.get(_partition_for(group_id, count))
        return ErrorCode.NOT_COORDINATOR if led is None else led
