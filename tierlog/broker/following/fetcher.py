"""Copies from one leader broker: one connection, one Fetch session with all partitions followed from there (KIP-227).

The loop: an answer is applied partition by partition, in the step that received it. The next request leaves in the same
step; it names those partitions, and all others that were stirred (marked to be asked for) meanwhile. A partition that the
answer does not name has no news: its fetch stays outstanding, and the session repeats it.

Rules:

* an answer counts for a partition only if it answers the outstanding fetch of the partition's follower; a new leader epoch
  or a new registration makes another fetch;
* which partitions a request names, which wait, and how long it may park: ``replication.fetch_schedule``;
* a broken connection or a malformed answer ends the session: all partitions are asked for anew after a pause of 50 ms,
  doubled up to ``replica.fetch.backoff.ms``.

Bounds: one request in flight, of ``fetch_schedule.MAX_NAMED`` partitions at most; memory for
``replica.fetch.response.max.bytes`` and one batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog

from tierlog.broker import bugs
from tierlog.broker.clock import monotonic_ms
from tierlog.broker.following.apply_reply import take_answer
from tierlog.broker.following.hot_round import hot_round
from tierlog.broker.network.peer_connection import PeerConnection, PeerUnavailable
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.byte_rate import ByteRate
from tierlog.config.broker import BrokerConfig
from tierlog.errors import ErrorCode, MalformedMessage
from tierlog.metadata.records import Endpoint
from tierlog.replication.fetch_schedule import SHORT_WAIT_MS, FetchSchedule, Key
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.follower import Effect, Follower, FollowerState
from tierlog.types import Buffer
from tierlog.wire.codec import decode, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    ReplicaState,
)

FETCH = 1
FETCH_VERSION = 17
CONNECT_TIMEOUT_S = 5.0
WATCH_S = 1.0
FIRST_PAUSE_S = 0.05

_SESSION_ERRORS = (
    ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
    ErrorCode.INVALID_FETCH_SESSION_EPOCH,
    ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
)

logger = structlog.get_logger()


class FetcherParts(NamedTuple):
    """The parts of the broker that a fetcher uses."""

    config: BrokerConfig
    loop: asyncio.AbstractEventLoop
    endpoint_of: Callable[[int], Endpoint | None]
    broker_epoch: Callable[[], int]
    wall_clock_ms: Callable[[], int]
    # Carries out an effect that takes longer than one step.
    on_effect: Callable[[Partition, Effect], None]
    # Replication quota for partitions whose topic lists this broker as throttled.
    quota: ByteRate
    background: Background


class Followed:
    """One partition. ``fetch``: the last fetch sent to its leader, None before the first."""

    __slots__ = ("fetch", "partition")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.fetch: FollowerFetch | None = None


def key_of(partition: Partition) -> Key:
    return (partition.topic_id, partition.topic_partition.partition)


class ReplicaFetcher:
    """The fetcher for one leader broker, ``source_id``. Call ``start`` once; ``close`` ends it."""

    def __init__(self, source_id: int, around: FetcherParts) -> None:
        self.source_id = source_id
        self._parts = around
        self._config = around.config
        self._partitions: dict[Key, Followed] = {}
        self._schedule = FetchSchedule()
        self._client_id = f"broker-{around.config.node_id}-fetcher"
        self._hot = hot_round(
            source_id, self._partitions, self._schedule, around.config, self._client_id, self._now_ms
        )
        self._connection: PeerConnection | None = None
        self._correlation_id = 0
        self._is_in_flight = False
        self._is_kicked = False
        self._sent_s = 0.0
        self._hurry = asyncio.Event()
        self._task: Kept | None = None
        self.bytes_in = 0

    def start(self) -> None:
        self._task = self._parts.background.forever(
            f"replica fetcher: from broker {self.source_id}", self._run
        )

    async def close(self) -> None:
        if self._task is not None:
            await self._task.stop()
        self._disconnect()

    # -- what is followed

    @property
    def partition_count(self) -> int:
        return len(self._partitions)

    def add(self, partition: Partition) -> None:
        """Follows the partition, from now on or with a new ``Follower``: answers to earlier fetches no longer count."""
        key = key_of(partition)
        self._partitions[key] = Followed(partition)
        self._schedule.follow(key)
        self._kick()

    def remove(self, partition: Partition) -> None:
        if self._partitions.pop(key_of(partition), None) is not None:
            self._schedule.unfollow(key_of(partition))
            self._kick()

    def on_synced(self, partition: Partition) -> None:
        """A sync of its log has ended: the next fetch may have a higher fetch offset."""
        self._stir(key_of(partition))

    def _stir(self, key: Key) -> None:
        self._schedule.stir(key)
        self._kick()

    def _kick(self) -> None:
        if not self._is_kicked and not self._is_in_flight and self._connection is not None:
            # Many partitions may be stirred in one step; they share a request.
            self._is_kicked = True
            self._parts.loop.call_soon(self._kicked)

    def _kicked(self) -> None:
        self._is_kicked = False
        self._send_next()

    def restart(self) -> None:
        """Connects anew: the leader broker, or this one, has a new registration."""
        self._hurry.set()
        if self._connection is not None:
            self._connection.close()

    # -- the connection

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self._hurry.clear()
            began_s = self._parts.loop.time()
            try:
                await self._stay_connected()
            except (OSError, TimeoutError, MalformedMessage, PeerUnavailable) as error:
                logger.info(
                    "replica fetcher: connection failed or lost", source=self.source_id, why=str(error)
                )
            except Exception as error:
                bugs.report("replica fetcher: connection failed or lost", error, source=self.source_id)
            self._disconnect()
            if self._parts.loop.time() - began_s > CONNECT_TIMEOUT_S:
                pause_s = FIRST_PAUSE_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
                pause_s = FIRST_PAUSE_S
            except TimeoutError:
                longest_s = max(self._config.replica_fetch_backoff_ms / 1000, FIRST_PAUSE_S)
                pause_s = min(2 * pause_s, longest_s)

    async def _stay_connected(self) -> None:
        around = self._parts
        endpoint = around.endpoint_of(self.source_id)
        if endpoint is None:
            raise PeerUnavailable("it is not registered")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await around.loop.create_connection(
                lambda: PeerConnection(around.loop, self._config.socket_request_max_bytes, self._on_answer),
                endpoint.host,
                endpoint.port,
            )
        self._connection = connection
        self._send_next()
        timeout_s = (self._config.replica_fetch_wait_max_ms + self._config.replica_socket_timeout_ms) / 1000
        while not connection.closed.done():
            await asyncio.wait([connection.closed], timeout=WATCH_S)
            if self._is_in_flight and around.loop.time() - self._sent_s > timeout_s:
                raise PeerUnavailable(f"no answer within {timeout_s} s")
        connection.closed.result()

    def _disconnect(self) -> None:
        """Ends connection and session: no answer will come any more, so every partition is asked for again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._is_in_flight = False
        self._schedule.end_session()
        now_ms = self._now_ms()
        for followed in self._partitions.values():
            follower = followed.partition.follower
            if follower is not None and followed.fetch is not None:
                follower.on_failure(followed.fetch, now_ms)
            followed.fetch = None

    def _now_ms(self) -> int:
        return monotonic_ms(self._parts.loop)

    # -- asking

    def _send_next(self, *, asks_kernel: bool = True) -> None:
        if self._connection is None or self._is_in_flight:
            return
        frame = self._next_frame(self._next_correlation_id, asks_kernel)
        if frame is not None:
            self._send(self._connection, frame, self._parts.loop.time())

    def _send(self, connection: PeerConnection, frame: list[Buffer], now_s: float) -> None:
        self._correlation_id = self._next_correlation_id
        self._is_in_flight = True
        self._sent_s = now_s
        connection.send(frame)

    @property
    def _next_correlation_id(self) -> int:
        return (self._correlation_id + 1) & 0x7FFFFFFF

    def _next_frame(self, correlation_id: int, asks_kernel: bool) -> list[Buffer] | None:
        """The next request, ready to be sent; None if there is nothing to fetch at the moment."""
        if asks_kernel and self._hot is not None:
            own = self._hot.ask(correlation_id, self._parts.broker_epoch(), self._now_ms())
            if own is not None:
                return [own]
        request = self._next_request()
        if request is None:
            return None
        body = encode(request, FETCH_VERSION)
        return encode_request(FETCH, FETCH_VERSION, correlation_id, self._client_id, body)

    def _next_request(self) -> FetchRequest | None:
        while True:
            request = self._request_of_some()
            if request is not None or not self._schedule.has_stirred:
                return request

    def _request_of_some(self) -> FetchRequest | None:
        config, schedule, now_ms = self._config, self._schedule, self._now_ms()
        topics: dict[bytes, FetchTopic] = {}
        for key in schedule.begin(config.replica_fetch_wait_max_ms):
            topic_id, index = key
            fetch = self._fetch_of(key, now_ms)
            if fetch is not None:
                schedule.ask(key)
                asked = topics.setdefault(topic_id, FetchTopic(topic_id=topic_id))
                asked.partitions.append(self._asked(index, fetch))
        round_ = schedule.end()
        if round_ is None:
            return None
        forgotten: dict[bytes, ForgottenTopic] = {}
        for topic_id, index in round_.forgotten:
            forgotten.setdefault(topic_id, ForgottenTopic(topic_id=topic_id)).partitions.append(index)
        return FetchRequest(
            replica_state=ReplicaState(replica_id=config.node_id, replica_epoch=self._parts.broker_epoch()),
            max_wait_ms=round_.wait_ms,
            min_bytes=config.replica_fetch_min_bytes,
            max_bytes=config.replica_fetch_response_max_bytes,
            session_id=round_.session_id,
            session_epoch=round_.session_epoch,
            topics=list(topics.values()),
            forgotten_topics_data=list(forgotten.values()),
        )

    def _asked(self, index: int, fetch: FollowerFetch) -> FetchPartition:
        return FetchPartition(
            partition=index,
            current_leader_epoch=fetch.leader_epoch,
            fetch_offset=fetch.fetch_offset,
            last_fetched_epoch=fetch.last_fetched_epoch,
            log_start_offset=fetch.log_start_offset,
            partition_max_bytes=self._config.replica_fetch_max_bytes,
        )

    def _fetch_of(self, key: Key, now_ms: int) -> FollowerFetch | None:
        """The fetch to send for this partition. None if it must wait, or is no longer followed from here; then the schedule
        has been told."""
        schedule, followed = self._schedule, self._partitions.get(key)
        partition = None if followed is None else followed.partition
        follower = None if partition is None else partition.follower
        if (
            followed is None
            or partition is None
            or partition.offline is not None
            or follower is None
            or follower.leader_id != self.source_id
        ):
            schedule.leave_out(key)
            return None
        if followed.fetch is not None and follower.outstanding is followed.fetch:
            return followed.fetch  # asked again in a new session
        if partition.pending_cut:
            schedule.await_disk(key, now_ms)
            return None
        if self._must_await_quota(key, partition, follower):
            return None
        followed.fetch = fetch = follower.next_fetch(partition.log, partition.durable_end_offset, now_ms)
        if fetch is None:
            self._await_turn(key, partition, follower, now_ms)
        return fetch

    def _must_await_quota(self, key: Key, partition: Partition, follower: Follower) -> bool:
        """Whether the partition is throttled now (KIP-73). If so, it is stirred again later."""
        if not partition.follower_throttled or follower.is_in_sync(partition.log.log_end_offset):
            return False
        pause_s = self._parts.quota.pause_s(self._parts.loop.time())
        if pause_s <= 0:
            return False
        # Not for longer than a request may park: the throttle may be lifted meanwhile.
        delay_ms = min(int(pause_s * 1000) + 1, max(self._config.replica_fetch_wait_max_ms, SHORT_WAIT_MS))
        self._schedule.leave_out(key)
        self._schedule.park_at_most(delay_ms)
        self._stir_later(key, delay_ms)
        return True

    def _await_turn(self, key: Key, partition: Partition, follower: Follower, now_ms: int) -> None:
        """``next_fetch`` has returned None: waits for the back-off or the disk, or leaves the partition out."""
        if follower.state is not FollowerState.FETCHING:
            self._schedule.leave_out(key)
        elif follower.retry_ms > now_ms:
            delay_ms = self._schedule.await_retry(key, follower.retry_ms, now_ms)
            if delay_ms is not None:
                self._stir_later(key, delay_ms)
        else:
            self._schedule.await_disk(key, now_ms)
            partition.flusher.request(partition)

    def _stir_later(self, key: Key, delay_ms: int) -> None:
        self._parts.loop.call_later(delay_ms / 1000, self._stir, key)

    # -- answers

    def _on_answer(self, frame: memoryview) -> None:
        left = None
        if self._hot is not None and self._is_in_flight and self._connection is not None:
            around, now_s = self._parts, self._parts.loop.time()
            epoch, now_ms = around.broker_epoch(), int(now_s * 1000)
            done = self._hot.round(frame, self._correlation_id, epoch, now_ms, around.wall_clock_ms())
            if isinstance(done, bytes):
                self.bytes_in += len(frame)
                self._send(self._connection, [done], now_s)
                return
            left = done
        if left is None:
            self._take(self._decoded(frame))
        elif left > 0:
            self._apply(self._decoded(frame), left)
        self._is_in_flight = False
        self.bytes_in += len(frame)
        self._send_next(asks_kernel=left != 0)

    def _decoded(self, frame: memoryview) -> FetchResponse:
        """Raises MalformedMessage."""
        correlation_id, offset = decode_response_header(FETCH, FETCH_VERSION, frame)
        if correlation_id != self._correlation_id or not self._is_in_flight:
            raise MalformedMessage("unexpected correlation id")
        return decode(FetchResponse, FETCH_VERSION, frame, offset)[0]

    def _take(self, response: FetchResponse) -> None:
        error = ErrorCode(response.error_code)
        if error in _SESSION_ERRORS:
            self._schedule.on_session_unknown()
        elif error:
            raise PeerUnavailable(error.name)
        else:
            self._schedule.on_answer(response.session_id)
            self._apply(response)

    def _apply(self, response: FetchResponse, left: int | None = None) -> None:
        """``left``: how many partitions are not applied yet, the last ones; None for all."""
        now_ms, wall_clock_ms = self._now_ms(), self._parts.wall_clock_ms()
        parts = [(topic.topic_id, data) for topic in response.responses for data in topic.partitions]
        for topic_id, data in parts if left is None else parts[-left:]:
            key = (topic_id, data.partition_index)
            followed = self._partitions.get(key)
            if followed is None or followed.fetch is None:
                continue
            self._schedule.stir(key)
            partition = followed.partition
            if partition.follower_throttled and data.records:
                self._parts.quota.count(len(data.records), self._parts.loop.time())
            for effect in take_answer(partition, followed.fetch, data, now_ms, wall_clock_ms):
                self._parts.on_effect(partition, effect)
