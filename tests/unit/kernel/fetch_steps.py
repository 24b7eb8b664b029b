"""Random steps that ask two brokers the same: what followers, consumers and producers do, and what changes beside them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from tests.fetch_rounds import OPENS, fetch_frame, follower_request, lead_with, named
from tests.unit.kernel.fetch_sides import FOLLOWERS, NOW_MS, Side
from tests.unit.kernel.test_produce import renamed
from tierlog.broker.network.connection import MAX_PIPELINED
from tierlog.records.records import Record, build_batch
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.fetch import FetchRequest, FetchTopic, ForgottenTopic
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData


class Asking:
    """What one follower does: mostly what a fetcher would, sometimes something else."""

    def __init__(self, broker_id: int) -> None:
        self.broker_id = broker_id
        self.session = (0, OPENS)
        self.ends: dict[int, int] = {}
        # Has to be named, since another leader epoch has begun.
        self.to_name: set[int] = set()


Step = Callable[[Side], object]


class Steps:
    """Random steps, each for both sides. What a step needs of the broker's state it takes from the side with the kernel."""

    def __init__(self, rng: Random, side: Side) -> None:
        self.rng = rng
        self.side = side
        self.asking = {broker_id: Asking(broker_id) for broker_id in FOLLOWERS}
        self.partition_epochs = count(1_000)
        # A consumer with a session: its id (0: not known) and the epoch of its next request.
        self.reading = (0, OPENS)
        # What ends the last change.
        self.undo: Step | None = None

    def next(self) -> Step:
        kinds: list[tuple[int, Callable[[], Step]]] = [
            (60, self.fetch),
            (30, self.produce),
            (8, self.pass_time),
            (1, self.odd_fetch),
            (8, self.consume),
            (20, self.read_on),
            *([(1, self.change)] if self.undo is None else []),
        ]
        if self.undo is not None and self.rng.random() < 0.2:
            undo, self.undo = self.undo, None
            return undo
        weights, makes = zip(*kinds, strict=True)
        made: Step = self.rng.choices(makes, weights)[0]()
        return made

    def produce(self) -> Step:
        rng = self.rng
        if len(self.side.producer.connection._pending) >= MAX_PIPELINED // 2:
            return self.pass_time()  # else what is served when depends on how long a turn of the loop takes
        data: dict[str, list[PartitionProduceData]] = {}
        for which in rng.sample(range(5), rng.choice([1, 1, 2, 3])):
            partition = self.side.partitions[which].topic_partition
            records = [Record(b"k", rng.randbytes(rng.choice([1, 50, 700])), NOW_MS)] * rng.choice([1, 3])
            row = PartitionProduceData(index=partition.partition, records=build_batch(records))
            data.setdefault(partition.topic, []).append(row)
        topics = [TopicProduceData(name=name, partition_data=rows) for name, rows in data.items()]
        acks = rng.choice([-1, -1, 1])
        request = ProduceRequest(acks=acks, timeout_ms=60_000, topic_data=topics)
        frame = b"".join(encode_request(0, 9, rng.getrandbits(31), "p", encode(request, 9)))
        return lambda side: side.producer.send(frame)

    def pass_time(self) -> Step:
        seconds = self.rng.choice([0.0, *[0.001] * 10, 0.004, 0.004, 0.006, 0.006, 0.05, 0.12, 0.6])
        return lambda side: side.loop.pass_time(seconds)

    def request(self, asking: Asking) -> FetchRequest:
        rng = self.rng
        topics = []
        is_new = asking.session[1] == OPENS
        chosen = (
            {*range(5)} if is_new else {*rng.sample(range(5), rng.choice([0, 1, 1, 2, 5])), *asking.to_name}
        )
        asking.to_name.clear()
        for which in sorted(chosen):
            partition = self.side.partitions[which]
            log = partition.log
            end_offset = min(asking.ends.get(which, 0), log.log_end_offset)
            end_offset = rng.choice([log.log_end_offset] * 6 + [end_offset, end_offset])
            asking.ends[which] = end_offset
            limit = rng.choice([1 << 20] * 5 + [500])
            start_offset = log.log_start_offset
            topics.append(
                named(partition, end_offset, partition_max_bytes=limit, log_start_offset=start_offset)
            )
        rng.shuffle(topics)
        return follower_request(
            asking.broker_id,
            asking.session,
            joined(topics),
            max_wait_ms=rng.choice([500] * 8 + [5, 0]),
            min_bytes=rng.choice([1] * 30 + [0, 400, 5_000]),
            max_bytes=rng.choice([10 << 20] * 20 + [300, 300, 100 << 20]),
        )

    def fetch(self) -> Step:
        asking = self.asking[self.rng.choice(FOLLOWERS)]
        if self.rng.random() < 0.97 and self.is_waiting(asking):
            return self.produce()
        return self.sent(asking, self.request(asking))

    def is_waiting(self, asking: Asking) -> bool:
        return self.side.followers[asking.broker_id].connection.has_pending

    def sent(self, asking: Asking, request: FetchRequest, version: int = 17) -> Step:
        frame = fetch_frame(
            version, request, self.rng.getrandbits(31), self.rng.choice(["c", "", "broker-7-fetcher"])
        )
        session, epoch = asking.session
        asking.session = (session, epoch + 1)
        return lambda side: side.followers[asking.broker_id].send(self.translated(side, frame))

    def translated(self, side: Side, data: bytes) -> bytes:
        pairs = zip(self.side.partitions, side.partitions, strict=True)
        return renamed(data, {bytes(a.topic_id): bytes(b.topic_id) for a, b in pairs})

    def odd_fetch(self) -> Step:
        rng, asking = self.rng, self.asking[self.rng.choice(FOLLOWERS)]
        request = self.request(asking)
        partitions = [each for topic in request.topics for each in topic.partitions]
        kind = rng.randrange(8)
        if kind == 0:
            request.session_epoch += rng.choice([-1, 1])
        elif kind == 1 and partitions:
            name, value = rng.choice(
                [
                    ("current_leader_epoch", 0),
                    ("current_leader_epoch", 99),
                    ("fetch_offset", 10_000),
                    ("fetch_offset", 0),
                    ("last_fetched_epoch", 0),
                    ("last_fetched_epoch", 99),
                    ("partition", 9),
                    ("log_start_offset", -1),
                ]
            )
            setattr(rng.choice(partitions), name, value)
        elif kind == 2:
            topic_id = self.side.partitions[0].topic_id
            request.forgotten_topics_data = [ForgottenTopic(topic_id=topic_id, partitions=[rng.randrange(3)])]
        elif kind == 3 and request.topics:
            request.topics.append(request.topics[0])
        elif kind == 4:
            request.replica_state.replica_epoch += rng.choice([-1, 1])
        elif kind == 5:
            request.rack_id = "r"
        elif kind == 6:
            asking.session = (0, OPENS)
            request = self.request(asking)
        else:
            return self.mutated(asking, request)
        return self.sent(asking, request, rng.choice([15, 16, 17, 18]))

    def mutated(self, asking: Asking, request: FetchRequest) -> Step:
        frame = bytearray(fetch_frame(17, request))
        frame[self.rng.randrange(6, len(frame))] ^= 1 << self.rng.randrange(8)

        return lambda side: self.sent_aside(side, bytes(frame))

    def consume(self) -> Step:
        """Of any client, mostly without a session."""
        rng, version = self.rng, self.rng.randrange(10, 18)
        if self.side.consumer.connection.has_pending:
            return self.produce()
        topics = []
        for which in rng.sample(range(5), rng.choice([1, 1, 1, 2, 4])):
            partition = self.side.partitions[which]
            end_offset, committed = partition.log.log_end_offset, partition.high_watermark
            offset = rng.choice(
                [committed, committed, committed, end_offset, 0, end_offset + 1, max(committed - 3, 0)]
            )
            limit, epoch = (
                rng.choice([1 << 20, 1 << 20, 300]),
                rng.choice([-1, -1, partition.leader_epoch, 0]),
            )
            asked = named(
                partition, min(offset, end_offset), partition_max_bytes=limit, current_leader_epoch=epoch
            )
            if version < 12 or rng.random() < 0.8:
                asked.partitions[0].last_fetched_epoch = -1
            asked.partitions[0].fetch_offset = offset
            topics.append(asked)
        is_calm = rng.random() < 0.8
        request = FetchRequest(
            max_wait_ms=rng.choice([100, 100, 100, 0, 5]),
            min_bytes=rng.choice([1, 1, 1, 0, 200, 2_000]),
            max_bytes=rng.choice([1 << 20, 1 << 20, 50 << 20, 400]),
            session_epoch=-1 if is_calm else 0,
            topics=joined(topics) if is_calm else topics,
        )
        if not is_calm and rng.random() < 0.7:
            request.isolation_level, request.rack_id = rng.choice([(1, ""), (0, "r" if version > 10 else "")])
        frame = fetch_frame(version, request, rng.getrandbits(31), rng.choice(["c", ""]))
        if rng.random() < 0.05:
            changed = bytearray(frame)
            changed[rng.randrange(6, len(frame))] ^= 1 << rng.randrange(8)
            return lambda side: self.sent_aside(side, bytes(changed))
        return lambda side: side.consumer.send(self.translated(side, frame))

    def read_on(self) -> Step:
        """A consumer with a session."""
        rng = self.rng
        if self.side.reader.connection.has_pending and rng.random() < 0.97:
            return self.produce()
        if rng.random() < 0.02:
            self.reading = (self.reading[0] if rng.random() < 0.5 else 0, OPENS)
        session_id, epoch = self.reading
        self.reading = (session_id, epoch + 1)
        limits: dict[str, Any] = {
            "max_wait_ms": rng.choice([100, 100, 100, 100, 0, 5]),
            "min_bytes": rng.choice([1] * 12 + [0, 200, 2_000]),
            "max_bytes": rng.choice([1 << 20] * 8 + [50 << 20, 400]),
            "isolation_level": rng.choice([0, 0, 0, 1]),
        }
        request = FetchRequest(
            session_id=session_id,
            session_epoch=epoch + rng.choice([0] * 60 + [1]) if epoch else epoch,
            topics=joined([self.read_from(which) for which in self.named_by_reader(epoch)]),
            **limits,
        )
        if epoch and rng.random() < 0.03:
            topic_id = self.side.partitions[0].topic_id
            request.forgotten_topics_data = [ForgottenTopic(topic_id=topic_id, partitions=[rng.randrange(3)])]
        version = 12 if rng.random() < 0.01 else rng.randrange(13, 19)
        frame = fetch_frame(version, request, rng.getrandbits(31), rng.choice(["c", "r"]))
        return lambda side: side.reader.send(self.translated(side, frame))

    def named_by_reader(self, epoch: int) -> list[int]:
        rng = self.rng
        if epoch == OPENS:
            return rng.sample(range(5), rng.choice([1, 3, 5, 5]))
        return rng.sample(range(5), rng.choice([0, 0, 1, 1, 2, 5]))

    def read_from(self, which: int) -> FetchTopic:
        rng, partition = self.rng, self.side.partitions[which]
        committed, start_offset = partition.high_watermark, partition.log.log_start_offset
        offset = rng.choice([committed] * 20 + [max(committed - 3, start_offset)] * 8 + [0, committed + 1])
        epoch = rng.choice([-1, partition.leader_epoch, partition.leader_epoch])
        limit = rng.choice([1 << 20] * 6 + [300])
        asked = named(partition, 0, partition_max_bytes=limit, current_leader_epoch=epoch)
        asked.partitions[0].fetch_offset = offset
        asked.partitions[0].last_fetched_epoch = -1
        return asked

    def sent_aside(self, side: Side, frame: bytes) -> None:
        """By a connection of its own, which ends with it."""
        peer = side.peer()
        peer.send(self.translated(side, frame))
        side.settle()
        peer.connection.connection_lost(None)

    def change(self) -> Step:
        """Something of the cluster changes, some of it for a few steps only."""
        rng, which, broker_id = self.rng, self.rng.randrange(5), self.rng.choice(FOLLOWERS)
        epoch = next(self.partition_epochs)
        everyone = frozenset({self.side.broker.config.node_id, *FOLLOWERS})

        def isr(side: Side, members: frozenset[int], partition_epoch: int) -> None:
            partition = side.partitions[which]
            assert partition.leader is not None
            partition.on_isr_changed(partition.leader.on_partition_record(members, 2, partition_epoch))

        def throttle(side: Side, is_throttled: bool) -> None:
            side.partitions[which].leader_throttled = is_throttled

        def start(side: Side) -> None:
            partition = side.partitions[which]
            if side.consumer.connection.has_pending:
                return  # nobody tells it, and the kernel looks at more than the twin when it has waited
            partition.log.advance_log_start_offset(
                min(partition.log.log_start_offset + 1, partition.high_watermark)
            )
            if epoch % 2:
                partition.on_log_start_moved()

        def reconnect(side: Side) -> None:
            side.followers[broker_id].connection.connection_lost(None)
            side.followers[broker_id] = side.peer()

        def lead(side: Side) -> None:
            lead_with(side.broker, side.partitions[which], FOLLOWERS)

        kind = rng.randrange(6)
        if kind == 0:
            later = next(self.partition_epochs)
            self.undo = lambda side: isr(side, everyone, later)
            return lambda side: isr(side, everyone - {broker_id}, epoch)
        if kind == 1:
            self.undo = lambda side: throttle(side, False)
            return lambda side: throttle(side, True)
        if kind == 2:
            self.undo = lambda side: side.partitions[which].log_start_waiters.clear()
            return lambda side: side.partitions[which].log_start_waiters.update({1: int})
        if kind == 3:
            return start
        if kind == 4:
            self.asking[broker_id].session = (0, OPENS)
            return reconnect
        for asking in self.asking.values():
            asking.to_name.add(which)
        return lead


def joined(topics: list[FetchTopic]) -> list[FetchTopic]:
    found: dict[bytes, FetchTopic] = {}
    for topic in topics:
        if topic.topic_id in found:
            found[topic.topic_id].partitions += topic.partitions
        else:
            found[topic.topic_id] = topic
    return list(found.values())
