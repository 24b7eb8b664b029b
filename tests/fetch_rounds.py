"""Fetches of followers and consumers of one broker in this process, one step at a time: for tests and benchmarks.

The broker leads partitions whose followers are only names here: whoever uses this sends their fetches. Callbacks and timers
of the fetches lie in a ``SteppedLoop`` until they are called.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tierlog.broker.handlers.hot_produce import hot_requests
from tierlog.broker.network.connection import Connection
from tierlog.broker.network.ports import Dispatching
from tierlog.broker.network.receive_turns import ReceiveTurns
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.metadata.image import BrokerImage
from tierlog.metadata.records import BrokerRegistration
from tierlog.replication.leader import Leader
from tierlog.types import Buffer
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ReplicaState

FETCH = 1
FOLLOWER_VERSION = 17
BROKER_EPOCH = 1_000
NO_SESSION, OPENS, CLOSED = 0, 0, -1


class Timer:
    """What ``call_later`` returns."""

    __slots__ = ("arguments", "at_s", "call", "is_cancelled")

    def __init__(self, at_s: float, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.at_s = at_s
        self.call = call
        self.arguments = arguments
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class SteppedLoop:
    """Its time stands still until it is moved; callbacks wait for ``turn``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now_s = 1_000.0
        self.soon: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.timers: list[Timer] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self.now_s

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        self.soon.append((call, arguments))

    def call_later(self, delay_s: float, call: Callable[..., object], *arguments: Any) -> Timer:
        return self.call_at(self.now_s + delay_s, call, *arguments)

    def call_at(self, at_s: float, call: Callable[..., object], *arguments: Any) -> Timer:
        timer = Timer(at_s, call, arguments)
        self.timers.append(timer)
        return timer

    def turn(self) -> None:
        """One turn of the loop: whatever is called meanwhile waits for the next."""
        soon, self.soon = self.soon, []
        for call, arguments in soon:
            call(*arguments)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        due = [each for each in self.timers if each.at_s <= self.now_s and not each.is_cancelled]
        self.timers = [each for each in self.timers if each.at_s > self.now_s and not each.is_cancelled]
        for timer in sorted(due, key=lambda each: each.at_s):
            if not timer.is_cancelled:
                timer.call(*timer.arguments)


class Peer:
    """The listener and the transport of one connection; keeps what was written. ``is_plain``: with a socket that may be
    written to past the transport."""

    def __init__(
        self, broker: Broker, loop: SteppedLoop, dispatcher: Dispatching, is_plain: bool = False
    ) -> None:
        self.ours, self.theirs = socket.socketpair() if is_plain else (None, None)
        for each in (self.ours, self.theirs):
            if each is not None:
                each.setblocking(False)
        self.loop: Any = loop
        self.name = broker.config.inter_broker_listener_name
        self.receive_memory = broker.receive_turns.memory
        self.receive_turns: ReceiveTurns = broker.receive_turns
        self.reply_memory = broker.reply_memory
        self.output_bytes = 1 << 20
        self.max_request_bytes = 1 << 20
        self.written: list[Buffer] = []
        self.ended: list[str] = []
        self.connection = Connection(self, dispatcher)
        self.connection.connection_made(self)  # type: ignore[arg-type]

    def send(self, frames: bytes) -> None:
        """Whole frames, as they come in by one read."""
        self.connection.get_buffer(-1)[: len(frames)] = frames
        self.connection.buffer_updated(len(frames))

    def taken(self) -> bytes:
        passed = b""
        if self.theirs is not None:
            with suppress(BlockingIOError):
                while more := self.theirs.recv(1 << 20):
                    passed += more
        written, self.written = self.written, []
        if self.theirs is not None and written:
            self.connection.resume_writing()
        return passed + b"".join(written)

    def close_sockets(self) -> None:
        for each in (self.ours, self.theirs):
            if each is not None:
                each.close()

    # -- the listener

    def admit(self, connection: Any) -> bool:
        return True

    def forget(self, connection: Any) -> None:
        self.ended.append("forgotten")

    def on_malformed(self, connection: Any, error: BaseException) -> None:
        self.ended.append(repr(error))

    def on_bug(self, connection: Any, error: BaseException) -> None:
        self.ended.append(repr(error))

    # -- the transport

    def get_extra_info(self, name: str) -> Any:
        return self.ours if name == "socket" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written)) if self.ours is not None else 0

    def writelines(self, buffers: Sequence[Buffer]) -> None:
        self.written.extend(buffers)
        if self.ours is not None:
            self.connection.pause_writing()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.ended.append("closed")

    abort = close


def stepped(broker: Broker) -> SteppedLoop:
    """From now on the broker's requests take their time from the loop that is returned."""
    loop: Any = SteppedLoop(broker.loop)
    broker.services.loop = loop
    broker.dispatcher._loop = loop
    if broker.dispatcher.hot is not None:
        broker.dispatcher.hot = hot_requests(broker.services, broker.requests.by_key)
    return loop  # type: ignore[no-any-return]


def register(broker: Broker, broker_id: int, rack: str | None = None, epoch: int = BROKER_EPOCH) -> None:
    registration = BrokerRegistration("here", (), rack=rack)
    broker.feed.image.brokers[broker_id] = BrokerImage(broker_id, registration, epoch)


def lead_with(broker: Broker, partition: Partition, followers: Sequence[int], min_isr: int = 2) -> Leader:
    """The broker leads the partition anew, with these followers in its ISR."""
    replicas = frozenset((broker.config.node_id, *followers))
    end_offset = partition.log.log_end_offset
    leader = Leader(
        broker.config.node_id,
        partition.leader_epoch + 1,
        end_offset,
        replicas,
        min_isr,
        partition.partition_epoch,
        end_offset,
        partition.high_watermark,
        replicas,
        elected_ms=broker.services.monotonic_ms(),
    )
    partition.log.epochs.assign(leader.leader_epoch, end_offset)
    partition.lead(leader, partition.partition_epoch)
    return leader


def fetch_frame(version: int, request: FetchRequest, correlation_id: int = 7, client: str = "c") -> bytes:
    return b"".join(encode_request(FETCH, version, correlation_id, client, encode(request, version)))


def named(partition: Partition, fetch_offset: int, **fields: Any) -> FetchTopic:
    """One partition, as a follower names it that has all below ``fetch_offset``."""
    log = partition.log
    asked = FetchPartition(
        partition=partition.topic_partition.partition,
        current_leader_epoch=partition.leader_epoch,
        fetch_offset=fetch_offset,
        last_fetched_epoch=(log.epochs.epoch_for_offset(fetch_offset - 1) or -1) if fetch_offset else -1,
        log_start_offset=0,
        partition_max_bytes=1 << 20,
    )
    for name, value in fields.items():
        setattr(asked, name, value)
    return FetchTopic(topic=partition.topic_partition.topic, topic_id=partition.topic_id, partitions=[asked])


def follower_request(
    broker_id: int, session: tuple[int, int], topics: list[FetchTopic], **fields: Any
) -> FetchRequest:
    request = FetchRequest(
        replica_state=ReplicaState(replica_id=broker_id, replica_epoch=BROKER_EPOCH),
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=10 << 20,
        session_id=session[0],
        session_epoch=session[1],
        topics=topics,
    )
    for name, value in fields.items():
        setattr(request, name, value)
    return request
