"""Two brokers that are asked the same, one with the kernel and one without, and what is compared of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.fetch_rounds import FETCH, Peer, SteppedLoop, lead_with, register, stepped
from tests.unit.broker.test_config_effects import running, until
from tests.unit.kernel.test_produce import renamed
from tierlog.broker.network import dispatch
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work import slices
from tierlog.log import reading
from tierlog.log.log import Log
from tierlog.metadata.control.topics import NewTopic

TOPICS = {"t": 3, "u": 2}
FOLLOWERS = (7, 8)
NOW_MS = 1_700_000_000_000
UNTOLD = -1


class Side:
    """One of the two brokers, and whoever asks it."""

    def __init__(self, broker: Broker, with_kernel: bool) -> None:
        self.broker = broker
        if not with_kernel:
            broker.dispatcher.hot = None
        self.loop: SteppedLoop = stepped(broker)
        self.partitions = [
            found
            for topic, number in TOPICS.items()
            for index in range(number)
            if isinstance(found := broker.replicas.by_name(topic, index), Partition)
        ]
        numbers = count(1)
        broker.services.fetch_sessions._new_id = lambda: next(numbers)
        broker.services.now_ms = lambda: NOW_MS
        self._peers: list[Peer] = []
        self.producer, self.consumer, self.reader = self.peer(), self.peer(), self.peer(is_plain=True)
        self.followers = {broker_id: self.peer(is_plain=broker_id == FOLLOWERS[1]) for broker_id in FOLLOWERS}
        for broker_id in FOLLOWERS:
            register(broker, broker_id, "rack" if broker_id == FOLLOWERS[0] else None)
        # Whose place in the ISR was asked for: the change itself would be written by a task.
        self.considered: list[str] = []
        broker.isr_changes.consider = lambda each: self.considered.append(str(each.topic_partition))  # type: ignore[method-assign]
        for partition in self.partitions:
            lead_with(broker, partition, FOLLOWERS)

    def peer(self, is_plain: bool = False) -> Peer:
        made = Peer(self.broker, self.loop, self.broker.dispatcher, is_plain)
        self._peers.append(made)
        return made

    def close(self) -> None:
        for each in self._peers:
            each.close_sockets()

    def settle(self) -> None:
        while self.loop.soon:
            self.loop.turn()

    def written(self) -> list[bytes]:
        peers = [self.producer, self.consumer, self.reader, *self.followers.values()]
        return [peer.taken() for peer in peers] + [repr(peer.ended).encode() for peer in peers]

    # -- what is compared

    def state(self) -> object:
        services = self.broker.services
        recorder = self.broker.requests.by_key[FETCH]
        return (
            [self._of_partition(each) for each in self.partitions],
            [self._of_session(each) for each in services.fetch_sessions.table.values()],
            [self._of_watch(each) for each in services.watches],
            sorted(self.broker.replicas.roles.parked),
            self.considered,
            (recorder.count, recorder.versions, recorder._counts),
            [
                (about._replace(topic_id=b""), tally.size_bytes)
                for about, tally in services.client_traffic._table.items()
            ],
        )

    @staticmethod
    def _of_partition(partition: Partition) -> object:
        leader, traffic = partition.leader, partition.traffic
        return (
            partition.changes,
            partition.log.log_end_offset,
            leader and (leader.high_watermark, leader.followers, leader.isr, leader.changes.in_flight),
            (traffic.bytes_out, traffic.replication_bytes_out, len(partition.parked)),
            len(partition.parked_replicas),
        )

    def _of_session(self, session: Any) -> object:
        stirred = session.stirred
        return (
            (session.session_id, session.epoch, session.last_used_s, session.presence),
            [self._of_asked(each) for each in session.partitions.values()],
            None if stirred is None else [(each.topic, each.partition) for each in stirred],
        )

    def _of_asked(self, asked: Any) -> object:
        told = {"topic_id", "quiet_at", "watched_at"}
        slots = [getattr(asked, each) for each in asked.__slots__ if each not in told]
        partitions = [at and at.topic_partition for at in (asked.quiet_at, asked.watched_at)]
        index = next((n for n, each in enumerate(self.partitions) if each.topic_id == asked.topic_id), UNTOLD)
        return (index, slots, partitions)

    @staticmethod
    def _of_watch(watch: Any) -> object:
        at = [(each.topic_partition, asked.partition) for each, asked in watch._at.items()]
        return (watch.broker_id, watch.session.session_id, watch.fetch is None, watch.rechecked_ms, at)


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[Broker]:
    async with running(directory, replica_lag_time_max_ms="3600000") as broker:
        topics = [
            NewTopic(topic, number, 1, configs={"flush.mode": "os"}) for topic, number in TOPICS.items()
        ]
        await broker.services.admin.create_topics(topics)
        await until(lambda: sum(each.leader is not None for each in broker.replicas) == 5)
        yield broker


@asynccontextmanager
async def both_sides(directory: Path) -> AsyncIterator[tuple[Side, Side]]:
    async with AsyncExitStack() as stack:
        # Else a busy machine decides what is answered later: what takes long, and what is not in the page cache.
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setattr(slices, "AT_ONCE_S", 60.0)
        patched.setattr(dispatch, "SHORT_FRAME_BYTES", 1 << 30)
        patched.setattr(Log, "read_nowait", staticmethod(lambda located: bytearray(reading.read(located))))
        brokers = [await stack.enter_async_context(started(directory / name)) for name in ("kernel", "twin")]
        # From here on nothing awaits, so that no task of the brokers has a turn.
        sides = [Side(broker, with_kernel=broker is brokers[0]) for broker in brokers]
        for broker in brokers:
            stack.callback(setattr, broker.services, "loop", broker.loop)
        for side in sides:
            stack.callback(side.close)
        yield sides[0], sides[1]


def retold(ours: Side, theirs: Side, data: bytes) -> bytes:
    pairs = zip(theirs.partitions, ours.partitions, strict=True)
    return renamed(data, {bytes(a.topic_id): bytes(b.topic_id) for a, b in pairs})
