"""Fetch: offsets, limits, epochs and sessions, answered as by Apache Kafka. Batches that Kafka cuts off do not count."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.test_same_as_kafka_produce import batch, once, request_of
from tests.e2e.transcript import Scenario, Transcript, assert_same, versions
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.records.batch import Compression
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from tierlog.wire.schema import ZERO_UUID

Topic = tuple[str, bytes]
SOMETHING = bytes(range(16))


def filled(t: Transcript, name: str, partitions: int = 1, batches: int = 5, **configs: str) -> Topic:
    """A topic of ``batches`` batches of two records, 100 bytes and more each, in each partition."""
    topic = t.create(name, partitions, **configs)
    for partition in range(partitions):
        for n in range(batches):
            records = batch(f"{n}a" + "x" * 50, f"{n}b" + "y" * 50)
            t.ask(request_of([(*topic, [(partition, records)])]))
    return topic


def part(partition: int = 0, offset: int = 0, max_bytes: int = 1 << 20, **fields: Any) -> FetchPartition:
    return FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes, **fields)


def fetch_of(*topics: tuple[Topic, list[FetchPartition]], **fields: Any) -> FetchRequest:
    fields = {"max_wait_ms": 0, "min_bytes": 1, "session_epoch": -1, **fields}
    asked = [
        FetchTopic(topic=topic[0], topic_id=topic[1], partitions=partitions) for topic, partitions in topics
    ]
    return FetchRequest(topics=asked, **fields)


def offsets(t: Transcript) -> None:
    topic = filled(t, "t")
    for offset in (0, 1, 2, 3, 8, 9, 10, 11, 1000, -1, -2, 2**62):
        t.every_version(f"offset {offset}", fetch_of((topic, [part(offset=offset)])))
    empty = t.create("empty")
    for offset in (0, 1, -1):
        t.every_version(f"empty, offset {offset}", fetch_of((empty, [part(offset=offset)])))
    start = DeleteRecordsRequest(
        topics=[
            DeleteRecordsTopic(
                name=topic[0], partitions=[DeleteRecordsPartition(partition_index=0, offset=5)]
            )
        ],
        timeout_ms=10_000,
    )
    t.call("deleted", start)
    for offset in (0, 4, 5, 6):
        t.every_version(f"start at 5, offset {offset}", fetch_of((topic, [part(offset=offset)])))


def unknown(t: Transcript) -> None:
    topic = filled(t, "t", 2, 1)
    absent = (t.topic("absent"), SOMETHING)
    t.every_version("topic", fetch_of((absent, [part()])))
    t.every_version("partition", fetch_of((topic, [part(7), part(-1), part(1)])))
    t.every_version("one of two", fetch_of((absent, [part()]), (topic, [part()])))
    t.every_version("bad name", fetch_of((("a b", SOMETHING), [part()])))
    for version in versions(1):
        if version >= 13:
            t.call("no id", fetch_of((("", ZERO_UUID), [part()])), version)
            t.call("no id and good", fetch_of((("", ZERO_UUID), [part()]), (topic, [part()])), version)
    t.every_version("nothing", fetch_of())
    t.every_version("no partitions", fetch_of((topic, [])))
    t.every_version("twice", fetch_of((topic, [part(), part()])))
    t.every_version("topic twice", fetch_of((topic, [part(0)]), (topic, [part(1)])))


def limits(t: Transcript) -> None:
    for label in ("max", "partition max", "one partition, partition max", "two topics, partition max"):
        t.ours_differs(f"{label} -1", "Kafka fails on a negative size: UNKNOWN_SERVER_ERROR")
    topic = filled(t, "t", 3)
    other = filled(t, "other", 1)
    size = len(batch("0a" + "x" * 50, "0b" + "y" * 50))
    for count in (0, 1, size - 1, size, size + 1, 2 * size, 3 * size, 5 * size, 100 * size, -1):
        t.call(f"max {count}", fetch_of((topic, [part(n) for n in range(3)]), max_bytes=count))
        t.call(f"partition max {count}", fetch_of((topic, [part(n, 0, count) for n in range(3)])))
        t.call(f"one partition, partition max {count}", fetch_of((topic, [part(0, 3, count)])))
        if count % size == 0 or count in (1, -1):
            two = fetch_of((topic, [part(2, 4, count)]), (other, [part(0, 0, 2 * size)]), max_bytes=3 * size)
            t.call(f"two topics, partition max {count}", two)
            t.call(f"min {count}", fetch_of((topic, [part(0)]), min_bytes=count))
    at_end = [part(0, 10), part(1, 10), part(2, 0, 1)]
    t.call("first with data comes whole", fetch_of((topic, at_end), max_bytes=1))
    t.call("error before data", fetch_of((topic, [part(7), part(0, 99), part(2, 0, 1)]), max_bytes=1))
    for version in versions(1):
        t.call("smallest", fetch_of((topic, [part(0, 0, 1)]), max_bytes=1), version)


def epochs(t: Transcript) -> None:
    for level in (2, -1):
        t.ours_differs(f"isolation {level}", "Kafka fails on the number: UNKNOWN_SERVER_ERROR")
    topic = filled(t, "t")
    for current in (-2, -1, 0, 1, 2**31 - 1):
        t.every_version(f"current {current}", fetch_of((topic, [part(current_leader_epoch=current)])))
    for last in (-1, 0, 1):
        for offset in (0, 2, 10, 12):
            asked = part(offset=offset, last_fetched_epoch=last)
            t.every_version(f"last fetched {last} at {offset}", fetch_of((topic, [asked])))
    both = [part(current_leader_epoch=0), part(current_leader_epoch=1)]
    t.every_version("one known, one not", fetch_of((filled(t, "two", 2), both)))
    for level in (0, 1, 2, -1):
        t.every_version(f"isolation {level}", fetch_of((topic, [part()]), isolation_level=level))


def waits(t: Transcript) -> None:
    """What waits, and what does not."""
    topic = filled(t, "t", 2)

    def ask(label: str, request: FetchRequest) -> None:
        began = time.monotonic()
        t.call(label, request)
        t.keep(f"{label} waited", time.monotonic() - began > 0.2)

    ask("at the end", fetch_of((topic, [part(0, 10)]), max_wait_ms=250))
    ask("more than there is", fetch_of((topic, [part(0, 8)]), max_wait_ms=250, min_bytes=5000))
    ask("min 0", fetch_of((topic, [part(0, 10)]), max_wait_ms=250, min_bytes=0))
    ask("negative min", fetch_of((topic, [part(0, 10)]), max_wait_ms=250, min_bytes=-5))
    ask("negative wait", fetch_of((topic, [part(0, 10)]), max_wait_ms=-5))
    ask("an error", fetch_of((topic, [part(0, 10), part(1, 99)]), max_wait_ms=250))
    ask("unknown", fetch_of((topic, [part(0, 10), part(7)]), max_wait_ms=250))
    ask("nothing asked", fetch_of(max_wait_ms=250))
    ask("data in another", fetch_of((topic, [part(0, 10), part(1, 8)]), max_wait_ms=250))
    ask("above the limit", fetch_of((topic, [part(0, 0, 1)]), max_wait_ms=250, min_bytes=10_000))
    size = len(batch("0a" + "x" * 50, "0b" + "y" * 50))
    for limit in (size + 9, 2 * size, 3 * size - 1, 5 * size - 1, 5 * size, 5 * size + 1):
        for least in (limit - 1, limit, limit + 1):
            request = fetch_of((topic, [part(0, 0, limit)]), max_wait_ms=250, min_bytes=least)
            ask(f"limit {limit} min {least}", request)
    ask("two limits", fetch_of((topic, [part(0, 0, 200), part(1, 0, 200)]), max_wait_ms=250, min_bytes=400))
    ask(
        "two limits, one more",
        fetch_of((topic, [part(0, 0, 200), part(1, 0, 200)]), max_wait_ms=250, min_bytes=401),
    )
    ask("min above max", fetch_of((topic, [part(0, 0)]), max_wait_ms=250, min_bytes=10_000, max_bytes=300))
    older = t.create("older", segment_bytes="1048576")
    for value in ("x", "y"):
        t.ask(request_of([(*older, [(0, batch(value * 700_000))])]))
    ask("of an older segment", fetch_of((older, [part(0, 0, 1 << 24)]), max_wait_ms=250, min_bytes=5_000_000))
    ask(
        "of the newest segment",
        fetch_of((older, [part(0, 1, 1 << 24)]), max_wait_ms=250, min_bytes=5_000_000),
    )
    fenced = part(0, 10, current_leader_epoch=5)
    ask("fenced", fetch_of((topic, [fenced]), max_wait_ms=250))


def sessions(t: Transcript) -> None:
    """KIP-227 from the first to the last request."""
    for version in (7, 9, 11, 12, 13, 16, 18):
        topic = filled(t, f"v{version}", 3, 2)

        def ask(
            label: str,
            session_id: int,
            epoch: int,
            *parts: FetchPartition,
            forget: tuple[int, ...] = (),
            v: int = version,
            topic: Topic = topic,
        ) -> Any:
            request = fetch_of(
                *([(topic, list(parts))] if parts else []), session_id=session_id, session_epoch=epoch
            )
            if forget:
                request.forgotten_topics_data = [
                    ForgottenTopic(topic=topic[0], topic_id=topic[1], partitions=list(forget))
                ]
            return t.call(label, request, v)

        opened = ask("open", 0, 0, part(0), part(1), part(2, 4))
        number = opened.session_id
        ask("all at the end", number, 1, part(0, 4), part(1, 4))
        ask("nothing new", number, 2)
        t.ask(request_of([(*topic, [(1, batch("new"))])]))
        ask("new in one", number, 3)
        ask("not taken", number, 4)
        ask("taken", number, 5, part(1, 5))
        ask("again nothing", number, 6)
        ask("error", number, 7, part(0, 99))
        ask("error again", number, 8)
        ask("error over", number, 9, part(0, 4))
        ask("forget", number, 10, forget=(1, 2))
        t.ask(request_of([(*topic, [(1, batch("new")), (0, batch("new"))])]))
        ask("forgotten", number, 11)
        ask("forget what is not there", number, 12, forget=(7, 1))
        ask("back", number, 13, part(1, 5))
        ask("unknown partition", number, 14, part(9))
        ask("unknown partition again", number, 15)
        ask("forget it", number, 16, forget=(9,))
        ask("old epoch", number, 16)
        ask("epoch ahead", number, 99)
        ask("goes on", number, 17)
        ask("forget all", number, 18, forget=(0, 1, 2))
        ask("unknown session", number + 1, 1)
        ask("no session, epoch 1", 0, 1)
        ask("no session, epoch -1", 0, -1, part(0, 4))
        ask("close", number, -1, part(0, 4))
        ask("closed", number, 19)
        reopened = ask("open anew", 0, 0, part(0, 4))
        replaced = ask("replace", reopened.session_id, 0, part(1, 4))
        ask("the replaced", reopened.session_id, 1)
        ask("the new", replaced.session_id, 1)
        ask("open empty", 0, 0)
        ask("epoch -2", replaced.session_id, -2)


def session_identities(t: Transcript) -> None:
    """A session by names is not one by ids."""
    topic = filled(t, "t", 1, 1)
    for opens, goes_on in ((12, 13), (13, 12), (13, 18), (7, 12)):
        label = f"{opens} then {goes_on}"
        request = fetch_of((topic, [part()]), session_epoch=0)
        number = t.call(f"{label}, opened", request, opens).session_id
        t.call(label, fetch_of(session_id=number, session_epoch=1), goes_on)
        t.call(f"{label}, back", fetch_of(session_id=number, session_epoch=2), opens)
    absent = (t.topic("absent"), SOMETHING)
    request = fetch_of((absent, [part()]), (topic, [part()]), session_epoch=0)
    opened = t.call("unknown id in a session", request)
    t.call("again", fetch_of(session_id=opened.session_id, session_epoch=1))
    forget = fetch_of(session_id=opened.session_id, session_epoch=2)
    forget.forgotten_topics_data = [ForgottenTopic(topic_id=SOMETHING, partitions=[0])]
    t.call("forgotten", forget)
    t.call("after", fetch_of(session_id=opened.session_id, session_epoch=3))


def session_order(t: Transcript) -> None:
    """What was answered goes to the end, so that none starves."""
    topic = filled(t, "t", 3, 4)
    size = len(batch("0a" + "x" * 50, "0b" + "y" * 50))
    opened = t.call("open", fetch_of((topic, [part(n) for n in range(3)]), session_epoch=0, max_bytes=size))
    taken = [0, 0, 0]
    reply = opened
    for epoch in range(1, 12):
        moved = []
        for answered in reply.responses:
            for row in answered.partitions:
                if row.records:
                    taken[row.partition_index] += 2
                    moved.append(part(row.partition_index, taken[row.partition_index]))
        request = fetch_of(
            *([(topic, moved)] if moved else []),
            session_id=opened.session_id,
            session_epoch=epoch,
            max_bytes=size,
        )
        reply = t.call(f"epoch {epoch}", request)


def compressed(t: Transcript) -> None:
    topic = t.create("t")
    for codec in Compression:
        once(t, f"produce {codec.name}", topic, batch("a" * 100, "b" * 100, compression=codec))
    # Kafka turns zstd down for fetchers that cannot read it.
    t.every_version("all", fetch_of((topic, [part()])))


SCENARIOS: list[Scenario] = [
    offsets,
    unknown,
    limits,
    epochs,
    waits,
    sessions,
    session_identities,
    session_order,
    compressed,
]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
