"""Serves a follower's Fetch: it reads up to the log end, and every fetch proves how far the follower has come.

Rules:

* each partition first passes the leader's checks: epochs, divergence, range. A failed check is answered at once, and that
  fetch proves nothing;
* a replica that its topic lists as throttled gets nothing while the broker's rate is used up, unless it is in the ISR
  (``replication_quotas``);
* a parked fetch waits for an append, and its answer carries the high watermark too. If none comes, a move of the high
  watermark is answered after ``WATERMARK_DELAY_S``. Under load this saves half of all round trips; only consumers that read
  from followers wait longer for it;
* a partition is skipped while the follower has its log end and its high watermark (``follower_watch``): the cost of a fetch
  grows with the partitions that have news. The fetch proves the follower's position in skipped partitions all the same
  (``Leader.on_quiet``);
* the loop gets a turn after every ``LOOK_SLICE`` partitions. If enough data was found by then, the answer leaves, and the
  next fetch looks at the rest;
* an OFFSET_OUT_OF_RANGE answer carries the leader's log start, and its log end in the field of the last stable offset, so
  that the follower need not ask for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from tierlog.broker.fetch.answering import Answer
from tierlog.broker.fetch.consumer_fetch import parked_at, resolve
from tierlog.broker.fetch.fetching import Fetch, serve
from tierlog.broker.fetch.look import Look
from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.parts import FetchParts
from tierlog.broker.fetch.sessions import FetchContext, FetchedPartition
from tierlog.broker.leading.follower_watch import ReplicaWatch, Watches
from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.errors import ErrorCode
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.progress import Presence
from tierlog.wire.messages.fetch import EpochEndOffset, FetchRequest, FetchResponse

if TYPE_CHECKING:
    from tierlog.broker.leading.isr_writer import IsrChangeDriver

# First version that carries the replica's broker epoch (KIP-903).
REPLICA_STATE_SINCE = 15
WATERMARK_DELAY_S = 0.005
LOOK_SLICE = 200
# May be read for a follower however little memory is left.
LEAST_BYTES = 1 << 20


class FollowerFetchParts(FetchParts, Protocol):
    """The further parts of the broker that a follower's Fetch uses."""

    isr_changes: IsrChangeDriver
    watches: Watches


def refusal(parts: FollowerFetchParts, ctx: RequestContext, request: FetchRequest) -> ErrorCode:
    """Why this request may not act as a replica; NONE if it comes through the brokers' listener, from a registered broker,
    with the broker epoch of its registration."""
    broker_id, broker_epoch = request.replica_state.replica_id, request.replica_state.replica_epoch
    broker = parts.image.brokers.get(broker_id)
    if (
        ctx.api_version < REPLICA_STATE_SINCE
        or ctx.listener != parts.config.inter_broker_listener_name
        or broker_id == parts.broker_id
        or broker is None
        or broker.registration is None
    ):
        return ErrorCode.TOPIC_AUTHORIZATION_FAILED
    return ErrorCode.NONE if broker.broker_epoch == broker_epoch else ErrorCode.STALE_BROKER_EPOCH


def follower_fetch(
    parts: FollowerFetchParts, ctx: RequestContext, request: FetchRequest, context: FetchContext
) -> FetchResponse | DelayedResponse[FetchResponse]:
    return serve(parts, FollowerSide(parts, ctx, request, context), request, context)


class FollowerSide:
    """One Fetch of one follower. It always gets some memory, since producers with acks=all wait for it."""

    has_to_wait = False  # followers are few, and their fetches are bounded

    __slots__ = (
        "_broker_epoch",
        "_broker_id",
        "_context",
        "_ctx",
        "_fetch",
        "_has_watermark_to_tell",
        "_now_ms",
        "_parked_at",
        "_parts",
        "_presence",
        "_rack",
        "_tell_timer",
        "_unseen",
        "_watch",
        "look",
    )

    def __init__(
        self, parts: FollowerFetchParts, ctx: RequestContext, request: FetchRequest, context: FetchContext
    ) -> None:
        self.look = Look(parts, request, ctx, LEAST_BYTES)
        self._parts = parts
        self._ctx = ctx
        self._context = context
        self._broker_id = request.replica_state.replica_id
        self._broker_epoch = request.replica_state.replica_epoch
        self._now_ms = parts.monotonic_ms()
        self._presence = self._present(context)
        # The watch of the fetch session. None without a session: then all partitions are read, and parked at.
        self._watch = self._watching(context)
        # The follower's, as of the answer.
        self._rack = ""
        self._unseen: deque[FetchedPartition] = deque()
        self._has_watermark_to_tell = False
        self._tell_timer: asyncio.TimerHandle | None = None
        # While the fetch is parked.
        self._fetch: Fetch | None = None
        self._parked_at: dict[Partition, FetchedPartition] = {}

    def _present(self, context: FetchContext) -> Presence | None:
        """The session's ``Presence``. None without a session, and in the first fetch of a session or of a new registration:
        then all partitions are looked at."""
        session = context.session
        if session is None:
            return None
        presence = session.presence
        if presence is None or presence.broker_epoch != self._broker_epoch:
            session.presence = Presence(self._broker_epoch)
            self._parts.watches.end(self._broker_id, session)
            return None
        return presence

    def _watching(self, context: FetchContext) -> ReplicaWatch | None:
        session = context.session
        return None if session is None else self._parts.watches.of(self._broker_id, session)

    # -- looking

    def read(self) -> None:
        look, watch = self.look, self._watch
        if watch is None:
            look.begin()
            partitions = self._context.partitions
            look.note_unknown(look.over(partitions, self._read_one), len(partitions))
            return
        self._unseen = deque(dict.fromkeys((*look.reads, *watch.take(self._now_ms), *self._unseen)))
        look.begin()
        self._look_on()
        if self._presence is not None:
            # Partitions that have changed no longer hold this presence (``Leader.on_stirred``).
            self._presence.seen_ms = self._now_ms

    def _look_on(self) -> None:
        """Looks at the next ``LOOK_SLICE`` partitions."""
        assert self._watch is not None
        look, unseen = self.look, self._unseen
        looked_at = [unseen.popleft() for _ in range(min(LOOK_SLICE, len(unseen)))]
        look.note_unknown(look.over(looked_at, self._read_one), len(self._context.partitions))
        self._watch.seen(look.reads[asked] for asked in looked_at)

    def read_again(self, fetch: Fetch) -> None:
        self._now_ms = self._parts.monotonic_ms()
        look, watch = self.look, self._watch
        if not fetch.was_empty:
            self.read()
        elif watch is not None:
            look.count_anew()
            self._unseen = deque(dict.fromkeys((*watch.take(self._now_ms), *self._unseen)))
            self._look_on()
        elif fetch.changed:
            look.count_anew()
            look.over([self._parked_at[partition] for partition in fetch.changed], self._read_one)
        else:
            self.read()

    def _go_on(self) -> None:
        """Looks at further partitions, one slice per turn of the loop, until enough is found."""
        fetch, look = self._fetch, self.look
        if fetch is None or not fetch.is_parked:
            return  # the fetch was woken, or its client has left
        self._look_on()
        fetch.was_empty = look.gathered_bytes == 0
        if look.slow is not None or look.is_due or look.has_enough:
            fetch.finish()
        else:
            self._go_on_soon()

    def _go_on_soon(self) -> None:
        if self._unseen:
            self._parts.loop.call_soon(self._go_on)
        if self._has_watermark_to_tell:
            self._tell_soon()

    def _read_one(self, read: PartitionRead, remaining: int) -> int:
        """Fills ``read``; returns how many bytes of the budget it takes."""
        partition = resolve(self._parts, self._ctx.api_version, read, from_followers=False)
        if partition is None:
            return 0
        asked, log, leader = read.asked, partition.log, partition.leader
        assert leader is not None
        verdict = partition.serve_follower(self._described(asked), self._now_ms)
        if verdict.may_join:
            self._parts.isr_changes.consider(partition)
        read.log_start_offset = log.log_start_offset
        read.changes = partition.changes
        if verdict.error:
            read.error = verdict.error
            return 0
        if verdict.diverging is not None:
            epoch, end_offset = verdict.diverging
            # On the wire (-1, -1) would mean "no divergence".
            read.diverging = EpochEndOffset(epoch=epoch, end_offset=max(end_offset, 0))
            self.look.is_due = True
            return 0
        read.high_watermark = leader.high_watermark
        read.last_stable_offset = partition.last_stable_offset
        if leader.awaits_high_watermark(self._broker_id):
            self._has_watermark_to_tell = True
        if asked.fetch_offset >= log.log_end_offset:
            return 0
        if partition.leader_throttled:
            return self._read_throttled(read, partition, remaining)
        return self.look.local(read, partition, log.log_end_offset, remaining)

    def _read_throttled(self, read: PartitionRead, partition: Partition, remaining: int) -> int:
        """Reads within the quota: nothing while the broker's rate is used up, unless the follower is in the ISR. The
        follower asks again by itself."""
        leader = partition.leader
        assert leader is not None
        quota, now_s = self._parts.replicas.quotas.leader, self._parts.loop.time()
        if self._broker_id not in leader.isr and quota.pause_s(now_s) > 0:
            return 0
        taken = self.look.local(read, partition, partition.log.log_end_offset, remaining)
        quota.count(taken, now_s)
        return taken

    def _described(self, asked: FetchedPartition) -> FollowerFetch:
        return FollowerFetch(
            self._broker_id,
            self._broker_epoch,
            asked.current_leader_epoch,
            asked.fetch_offset,
            asked.last_fetched_epoch,
            asked.log_start_offset,
        )

    # -- waiting (ParkedReplica, ParkedFollower)

    def stay(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._parts.replicas.roles.parked[self._broker_id] = self
        if self._watch is not None:
            self._watch.fetch = self
        else:
            self._parked_at = parked_at(self._context.partitions, self.look)
            for partition in self._parked_at:
                partition.parked_replicas[id(self)] = self
        self._go_on_soon()

    def go(self, fetch: Fetch) -> None:
        parked = self._parts.replicas.roles.parked
        if parked.get(self._broker_id) is self:
            del parked[self._broker_id]
        if self._tell_timer is not None:
            self._tell_timer.cancel()
            self._tell_timer = None
        if self._watch is not None and self._watch.fetch is self:
            self._watch.fetch = None
        for partition in self._parked_at:
            partition.parked_replicas.pop(id(self), None)
        self._parked_at = {}
        self._fetch = None

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        if self._fetch is not None:
            self._fetch.on_progress(partition, new_bytes)

    def on_watermark_moved(self, partition: Partition) -> None:
        if self._fetch is not None:
            self._fetch.changed[partition] = None
            self._tell_soon()

    def on_changed(self, partition: Partition) -> None:
        """Nothing to note: a fetch without a session looks at all its partitions anyway."""

    def _tell_soon(self) -> None:
        if self._tell_timer is None and self._fetch is not None and self._fetch.is_parked:
            self._tell_timer = self._parts.loop.call_later(WATERMARK_DELAY_S, self.wake)

    def wake(self) -> None:
        """Answers in the next turn of the loop, with the data that is there."""
        if self._fetch is not None:
            self._fetch.wake()

    # -- answering

    def answer(self) -> FetchResponse:
        reads = self.look.reads.values()
        for read in reads:
            partition = read.partition
            if partition is None or partition.leader is None or read.high_watermark < 0:
                continue
            if read.high_watermark == partition.leader.high_watermark:
                partition.leader.on_fetch_answered(self._broker_id)
        known = self._parts.image.brokers.get(self._broker_id)
        registration = known.registration if known is not None else None
        self._rack = (registration.rack if registration is not None else None) or ""
        answer = Answer(self._context, self)
        for read in reads:
            answer.add(read)
        if self._watch is not None:
            self._watch.answered(reads)
            self._watch.put_back(self._unseen)
            self._unseen.clear()
        return answer.finish(self._parts, self._ctx)

    def settle(self, read: PartitionRead) -> None:
        assert read.partition is not None
        start_offset, end_offset = read.log_start_offset, read.partition.log.log_end_offset
        read.tell_nothing_but_the_error()
        if read.error is ErrorCode.OFFSET_OUT_OF_RANGE:
            read.log_start_offset, read.last_stable_offset = start_offset, end_offset

    def remember_quiet(self, read: PartitionRead) -> None:
        partition, asked, presence = read.partition, read.asked, self._presence
        if partition is None or partition.leader is None or presence is None or read.error:
            return
        end_offset = partition.log.log_end_offset
        if (
            asked.fetch_offset == end_offset
            and read.changes == partition.changes
            and partition.leader.on_quiet(self._broker_id, presence, end_offset)
        ):
            asked.quiet_at, asked.quiet_changes = partition, read.changes

    def count(self, read: PartitionRead) -> None:
        """Counts replication bytes apart from the bytes that go to consumers."""
        partition, size_bytes = read.partition, read.size_bytes
        assert partition is not None
        partition.traffic.replication_bytes_out += size_bytes
        self._parts.client_traffic.replicated(partition, size_bytes, self._rack)
