"""Fetches in the kernel: what ``follower_fetch`` does for an ordinary incremental one of a follower, in one call, and
``fetch.consumer_fetch`` for one of a consumer, of its session or without one (where that waits: ``fetch.parked_consumer``).

The kernel reads and writes the state of sessions, watches and leaders through their attributes, so any fetch may go either
way. What it does not know it leaves untouched to the handler. Where it has begun but cannot go on (records that are not in
the page cache, a partition that is no longer led here), the twin looks at all of it again: a fetch may prove the same
position twice.

Bound: one ``ParkedFetch`` per watch, which serves one fetch after another.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tierlog import kernel
from tierlog.broker.fetch.fetching import Fetch
from tierlog.broker.fetch.parked_consumer import ParkedConsumer
from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.sessions import FetchContext, FetchedPartition
from tierlog.broker.leading import follower_fetch as followers
from tierlog.broker.leading.follower_fetch import FollowerFetchParts, FollowerSide
from tierlog.broker.leading.follower_watch import RECHECK_MS, ReplicaWatch
from tierlog.broker.network.context import RequestContext, context_of
from tierlog.broker.network.replay_quota import FETCH_KEY, SOFTWARE
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.lazy_timer import NEVER_S, LazyTimer
from tierlog.errors import ErrorCode
from tierlog.log.reading import Slice
from tierlog.telemetry.requests import ApiMetrics
from tierlog.wire.messages.fetch import FetchRequest, FetchResponse, ReplicaState

if TYPE_CHECKING:
    from tierlog.broker.network.connection import Connection
    from tierlog.broker.network.places import PendingReply

# (what is asked, its partition, its change counter, high watermark, last stable offset, log start)
Looked: TypeAlias = "tuple[FetchedPartition, Partition | None, int, int, int, int]"


class ParkedRequest(NamedTuple):
    """What is kept of the request that waits."""

    version: int
    correlation_id: int
    client_id: str | None
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    broker_epoch: int


class ParkedFetch:
    """The fetch of one session that found nothing to answer with (``ParkedReplica``, ``ParkedFollower``).

    A session costs one timer of the loop in ``WATERMARK_DELAY_S`` at most, and not two for each fetch."""

    __slots__ = (
        "_connection",
        "_due_s",
        "_gathered_bytes",
        "_is_woken",
        "_kernel",
        "_min_bytes",
        "_parts",
        "_tell_s",
        "_timer",
        "_watch",
        "arrival_s",
        "broker_id",
        "reads",
        "request",
        "slot",
    )

    def __init__(self, parts: FollowerFetchParts, fetches: Any, watch: ReplicaWatch) -> None:
        self._parts = parts
        self._kernel = fetches
        self._watch = watch
        self.broker_id = watch.broker_id
        # The place of the reply; None while no fetch waits here.
        self.slot: PendingReply | None = None
        self._connection: Connection
        self.request: ParkedRequest
        self.reads: list[Looked] = []
        self.arrival_s = 0.0
        self._min_bytes = 0
        # About so many bytes were appended since the look.
        self._gathered_bytes = 0
        self._is_woken = False
        # When it is answered at the latest, and when a high watermark is told.
        self._due_s = self._tell_s = NEVER_S
        self._timer = LazyTimer(parts.loop, self._on_time)

    # -- for the kernel

    def park(
        self,
        connection: Connection,
        request: ParkedRequest,
        reads: list[Looked],
        arrival_s: float,
        tells_watermark: bool,
    ) -> None:
        """Waits for news. ``reads``: what the look has found, which is no records."""
        self._begin(connection, request, reads, arrival_s)
        self._watch.fetch = self
        self._parts.replicas.roles.parked[self.broker_id] = self
        self._gathered_bytes = 0
        self._min_bytes = request.min_bytes
        self._due_s = due_s = arrival_s + request.max_wait_ms / 1000
        self._tell_s = NEVER_S
        if tells_watermark:
            self._tell_s = due_s = min(due_s, arrival_s + followers.WATERMARK_DELAY_S)
        self._timer.set(due_s)

    def go_on(
        self, connection: Connection, request: ParkedRequest, reads: list[Looked], arrival_s: float, _: bool
    ) -> None:
        """The kernel has begun, and leaves the fetch to the twin."""
        self._begin(connection, request, [], arrival_s)
        slot = self.slot
        assert slot is not None
        self._end()
        ctx, again, context = self._by_the_handler(request.max_wait_ms)
        found = followers.follower_fetch(self._parts, ctx, again, context)
        connection.answer_by(slot, found, partial(connection.dispatcher.finish, ctx, 0))

    def _begin(
        self, connection: Connection, request: ParkedRequest, reads: list[Looked], arrival_s: float
    ) -> None:
        self._connection = connection
        self.request = request
        self.reads = reads
        self.arrival_s = arrival_s
        self.slot = connection.park(self)

    def _on_time(self) -> None:
        if self._tell_s < self._due_s:
            self.wake()
        else:
            self._answer()

    # -- news (ParkedReplica, ParkedFollower)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        self._gathered_bytes += new_bytes
        if new_bytes == 0 or self._gathered_bytes >= self._min_bytes:
            self.wake()

    def on_watermark_moved(self, partition: Partition) -> None:
        if self._tell_s == NEVER_S and not self._is_woken:
            self._tell_s = self._parts.loop.time() + followers.WATERMARK_DELAY_S
            self._timer.set(min(self._tell_s, self._due_s))

    def on_changed(self, partition: Partition) -> None:
        """Nothing to note: the watch does."""

    def wake(self) -> None:
        """Answers in the next turn of the loop, with the data that is there."""
        if not self._is_woken and self.slot is not None:
            self._is_woken = True
            self._timer.due_s = NEVER_S
            self._parts.loop.call_soon(self._answer)

    # -- the end of the wait

    def cancel(self) -> None:
        """The client has left."""
        self._end()

    def _end(self) -> None:
        self.slot = None
        self._timer.due_s = NEVER_S
        if self._watch.fetch is self:
            self._watch.fetch = None
        parked = self._parts.replicas.roles.parked
        if parked.get(self.broker_id) is self:
            del parked[self.broker_id]

    def _answer(self) -> None:
        self._is_woken = False
        slot = self.slot
        if slot is None:
            return
        self._end()
        connection = self._connection
        found = self._kernel.answer(
            self._watch, self.broker_id, self.request, self.reads, self.arrival_s, connection, slot
        )
        if found is None:
            self._look_again(slot)
        elif found is not True:
            connection.answer(slot, found)

    def _look_again(self, slot: PendingReply) -> None:
        """By the twin's way, from what the first look has found."""
        ctx, again, context = self._by_the_handler(0)
        finish = partial(self._connection.dispatcher.finish, ctx, 0)
        if self._parts.watches.of_now(self.broker_id, self._watch.session) is not self._watch:
            # A newer session of the follower has its place, which this one must not take back.
            ended = FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
            self._connection.answer_by(slot, ended, finish)
            return
        side = FollowerSide(self._parts, ctx, again, context)
        for looked in self.reads:
            read = side.look.reads[looked[0]] = PartitionRead(looked[0])
            _, read.partition, read.changes, *offsets = looked
            read.high_watermark, read.last_stable_offset, read.log_start_offset = offsets
        fetch = Fetch(self._parts, side, again, context)
        fetch.was_empty = True
        self._connection.answer_by(slot, fetch.future_answer(), finish)
        fetch.look_again()

    def _by_the_handler(self, max_wait_ms: int) -> tuple[RequestContext, FetchRequest, FetchContext]:
        """As the handler would have it, of a request of the same session that names nothing."""
        request, session, connection = self.request, self._watch.session, self._connection
        asked = (request.version, request.correlation_id, request.client_id)
        ctx = context_of(connection, FETCH_KEY, *asked, self.arrival_s)
        again = FetchRequest(
            replica_state=ReplicaState(replica_id=self.broker_id, replica_epoch=request.broker_epoch),
            max_wait_ms=max_wait_ms,
            min_bytes=request.min_bytes,
            max_bytes=request.max_bytes,
            session_id=session.session_id,
        )
        return ctx, again, FetchContext(ErrorCode.NONE, session, list(session.partitions.values()), True)


def kernel_fetches(parts: FollowerFetchParts, recorder: ApiMetrics) -> Any:
    """For ``Produce``, which hands it the fetches; None without a kernel."""
    if kernel.compiled is None:
        return None

    def parks(watch: ReplicaWatch) -> ParkedFetch:
        watch.parked = parked = ParkedFetch(parts, fetches, watch)
        return parked

    def counts(connection: Connection, client_id: str | None, partition: Partition, size_bytes: int) -> None:
        ctx = context_of(connection, FETCH_KEY, 0, 0, client_id, 0.0)
        parts.client_traffic.consumed(ctx, partition, size_bytes, "", False)

    def parks_consumer(connection: Connection, *waits: Any) -> None:
        if connection.parked is None:
            connection.parked = ParkedConsumer(parts, fetches, connection)
        connection.parked.park(*waits)

    by_name, by_id = parts.replicas.tables
    fetches = kernel.compiled.Fetches(
        parts=parts,
        image=parts.image,
        sessions=parts.fetch_sessions.table,
        by_name=by_name,
        by_id=by_id,
        by_broker=parts.watches.table,
        request_type=ParkedRequest,
        parks=parks,
        clock=parts.loop.time,
        recorder=recorder,
        throttled_software=SOFTWARE,
        counts=counts,
        parks_consumer=parks_consumer,
        slice_type=Slice,
        writev=os.writev,
        recheck_ms=RECHECK_MS,
    )
    return fetches
