"""ListOffsets, OffsetForLeaderEpoch and DeleteRecords, answered as by Apache Kafka in every version."""

from __future__ import annotations

import pytest

from tests.e2e.test_same_as_kafka_fetch import Topic, fetch_of, part
from tests.e2e.test_same_as_kafka_produce import batch, request_of
from tests.e2e.transcript import T0_MS, Scenario, Transcript, assert_same
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.records.batch import Compression
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from tierlog.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from tierlog.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

SPECIAL = range(-8, 0)
BELOW_START = "Kafka names a record below the log start, which nobody can read"


def list_of(
    *topics: tuple[str, list[tuple[int, int, int]]], isolation: int = 0, timeout_ms: int = 10_000
) -> ListOffsetsRequest:
    """Topics of (partition, timestamp, current leader epoch)."""
    return ListOffsetsRequest(
        replica_id=-1,
        isolation_level=isolation,
        timeout_ms=timeout_ms,
        topics=[
            ListOffsetsTopic(
                name=name,
                partitions=[
                    ListOffsetsPartition(
                        partition_index=index, timestamp=timestamp, current_leader_epoch=epoch
                    )
                    for index, timestamp, epoch in rows
                ],
            )
            for name, rows in topics
        ],
    )


def ask(t: Transcript, label: str, name: str, timestamp: int, epoch: int = -1, partition: int = 0) -> None:
    t.every_version(label, list_of((name, [(partition, timestamp, epoch)])))


def delete(t: Transcript, label: str, name: str, *rows: tuple[int, int]) -> None:
    partitions = [DeleteRecordsPartition(partition_index=index, offset=offset) for index, offset in rows]
    topic = DeleteRecordsTopic(name=name, partitions=partitions)
    t.every_version(label, DeleteRecordsRequest(topics=[topic], timeout_ms=10_000))


def timed(t: Transcript, name: str) -> Topic:
    """Batches whose times go up, down, and repeat: 0 5 | 3 9 9 | 7 | 9."""
    topic = t.create(name)
    for codec, times in (
        (Compression.NONE, (0, 5)),
        (Compression.LZ4, (3, 9, 9)),
        (Compression.NONE, (7,)),
        (Compression.GZIP, (9,)),
    ):
        # The helper counts up from its timestamp; these jump.
        t.ask(request_of([(*topic, [(0, jumping(codec, *times))])]))
    return topic


def jumping(codec: Compression, *times: int) -> bytes:
    from tierlog.records.records import Record, build_batch

    return bytes(build_batch([Record(b"k", b"v", T0_MS + n) for n in times], compression=codec))


def specials(t: Transcript) -> None:
    t.ours_differs("nothing left, -3", BELOW_START)
    empty = t.create("empty")[0]
    topic = timed(t, "timed")[0]
    for timestamp in SPECIAL:
        ask(t, f"empty, {timestamp}", empty, timestamp)
        ask(t, f"timed, {timestamp}", topic, timestamp)
    delete(t, "to 3", topic, (0, 3))
    for timestamp in SPECIAL:
        ask(t, f"from 3, {timestamp}", topic, timestamp)
    delete(t, "to the end", topic, (0, -1))
    for timestamp in SPECIAL:
        ask(t, f"nothing left, {timestamp}", topic, timestamp)
    for level in (0, 1):
        t.every_version(f"isolation {level}", list_of((topic, [(0, -1, -1)]), isolation=level))


def times(t: Transcript) -> None:
    t.ours_differs("from 4, -3", BELOW_START)
    t.ours_differs("untimed, -3", "Kafka gives the first record; here a record without a timestamp has none")
    empty = t.create("empty")[0]
    topic = timed(t, "timed")[0]
    for shift in (-T0_MS, -1, 0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 10**12):
        ask(t, f"time {shift}", topic, T0_MS + shift)
        ask(t, f"empty, time {shift}", empty, T0_MS + shift)
    delete(t, "to 4", topic, (0, 4))
    for shift in (-1, 0, 5, 9, 10):
        ask(t, f"from 4, time {shift}", topic, T0_MS + shift)
    for timestamp in (-3, -1):
        ask(t, f"from 4, {timestamp}", topic, timestamp)
    stamped = t.create("stamped", message_timestamp_type="LogAppendTime")
    t.ask(request_of([(*stamped, [(0, batch("a", "b"))])]))
    for timestamp in (0, -3, 2**62):
        ask(t, f"stamped, {timestamp}", stamped[0], timestamp)
    untimed = t.create("untimed")
    t.ask(request_of([(*untimed, [(0, jumping(Compression.NONE, -1 - T0_MS, -1 - T0_MS))])]))
    for timestamp in (0, -3):
        ask(t, f"untimed, {timestamp}", untimed[0], timestamp)


def invalid_lists(t: Transcript) -> None:
    topic = timed(t, "timed")[0]
    two = t.create("two", 2)[0]
    ask(t, "unknown topic", t.topic("absent"), -1)
    ask(t, "bad name", "a b", -1)
    ask(t, "unknown partition", topic, -1, partition=7)
    ask(t, "negative partition", topic, -1, partition=-1)
    for epoch in (0, 1, 2**31 - 1):
        for timestamp in (-1, -2, -3, T0_MS):
            ask(t, f"epoch {epoch}, {timestamp}", topic, timestamp, epoch)
    t.every_version("twice", list_of((two, [(0, -1, -1), (0, -2, -1), (1, -1, -1)])))
    t.every_version("topic twice", list_of((two, [(0, -1, -1)]), (two, [(0, -2, -1), (1, -1, -1)])))
    t.every_version("none", list_of())
    t.every_version("no partitions", list_of((two, [])))
    t.every_version("many", list_of((two, [(0, -1, -1), (1, -2, -1)]), (topic, [(0, T0_MS + 4, -1)])))
    t.every_version("timeout 0", list_of((topic, [(0, T0_MS, -1)]), timeout_ms=0))
    t.every_version("timeout -1", list_of((topic, [(0, T0_MS, -1)]), timeout_ms=-1))


def leader_epochs(t: Transcript) -> None:
    topic = timed(t, "timed")[0]
    empty = t.create("empty", 2)[0]

    def asked(name: str, *rows: tuple[int, int, int], replica_id: int = -2) -> OffsetForLeaderEpochRequest:
        partitions = [
            OffsetForLeaderPartition(partition=index, current_leader_epoch=current, leader_epoch=epoch)
            for index, current, epoch in rows
        ]
        topics = [OffsetForLeaderTopic(topic=name, partitions=partitions)] if name or rows else []
        return OffsetForLeaderEpochRequest(replica_id=replica_id, topics=topics)

    for epoch in (-1, 0, 1, 2**31 - 1):
        for current in (-1, 0, 1):
            t.every_version(f"epoch {epoch} current {current}", asked(topic, (0, current, epoch)))
        t.every_version(f"empty, epoch {epoch}", asked(empty, (0, -1, epoch), (1, -1, epoch)))
    t.every_version("unknown topic", asked(t.topic("absent"), (0, -1, 0)))
    t.every_version("unknown partition", asked(topic, (7, -1, 0), (-1, -1, 0), (0, -1, 0)))
    t.every_version("bad name", asked("a b", (0, -1, 0)))
    t.every_version("twice", asked(topic, (0, -1, 0), (0, -1, 1)))
    t.every_version("none", asked(""))
    for replica_id in (-2, -1):
        t.every_version(f"replica {replica_id}", asked(topic, (0, -1, 0), replica_id=replica_id))


def delete_records(t: Transcript) -> None:
    topic = timed(t, "timed")
    delete(t, "below 0", topic[0], (0, -2))
    delete(t, "nothing", topic[0], (0, 0))
    delete(t, "within a batch", topic[0], (0, 1))
    delete(t, "below the start", topic[0], (0, 0))
    delete(t, "above the end", topic[0], (0, 8))
    delete(t, "far above", topic[0], (0, 2**62))
    delete(t, "unknown partition", topic[0], (7, 0), (-1, 0))
    delete(t, "one good", topic[0], (7, 0), (0, 3))
    delete(t, "unknown topic", t.topic("absent"), (0, 0))
    delete(t, "bad name", "a b", (0, 0))
    delete(t, "twice", topic[0], (0, 4), (0, 5))
    t.call("read", fetch_of((topic, [part(0, 5)])))
    t.call("read below", fetch_of((topic, [part(0, 4)])))
    delete(t, "to the end", topic[0], (0, -1))
    delete(t, "to the end again", topic[0], (0, -1))
    t.ask(request_of([(*topic, [(0, batch("more"))])]))
    t.call("read what came then", fetch_of((topic, [part(0, 7)])))
    for policy in ("compact", "compact,delete", "delete", ""):
        name = t.create(f"policy-{policy.replace(',', '-')}", cleanup_policy=policy)
        t.ask(request_of([(*name, [(0, batch("a", "b"))])]))
        delete(t, f"policy {policy}", name[0], (0, 1))
    t.await_coordinator()
    delete(t, "offsets topic", "__consumer_offsets", (0, 0))
    t.every_version("none", DeleteRecordsRequest(timeout_ms=1000))


SCENARIOS: list[Scenario] = [specials, times, invalid_lists, leader_epochs, delete_records]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
