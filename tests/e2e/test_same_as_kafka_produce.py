"""Produce: the answer to each batch, right or wrong, and what stands in the log afterwards, as in Apache Kafka."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import pytest

from tests.e2e.transcript import T0_MS, Scenario, Transcript, assert_same, versions
from tests.servers.kafka import KafkaProcess
from tests.servers.raw_client import Disconnected
from tests.servers.tierlog import BrokerProcess
from tierlog.records.batch import (
    CONTROL_BIT,
    DELETE_HORIZON_BIT,
    LOG_APPEND_TIME_BIT,
    TRANSACTIONAL_BIT,
    Compression,
    seal,
)
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.api_versions import ApiVersionsRequest
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tierlog.wire.registry import APIS
from tierlog.wire.schema import ZERO_UUID

# (offset in the header, format) of what a test may overwrite.
FIELDS = {
    "base_offset": (0, ">q"),
    "length": (8, ">i"),
    "leader_epoch": (12, ">i"),
    "magic": (16, ">b"),
    "crc": (17, ">I"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "base_timestamp": (27, ">q"),
    "max_timestamp": (35, ">q"),
    "producer_id": (43, ">q"),
    "producer_epoch": (51, ">h"),
    "base_sequence": (53, ">i"),
    "records_count": (57, ">i"),
}


MARKER = EndTransactionMarker(is_commit=True, coordinator_epoch=0)


def batch(
    *values: str,
    key: bytes | None = b"k",
    timestamp: int = T0_MS,
    compression: Compression = Compression.NONE,
    producer: tuple[int, int, int] = (-1, -1, -1),
    patches: dict[str, int] | None = None,
) -> bytes:
    """One batch; ``patches`` overwrite header fields, and the checksum is right unless it is among them."""
    records = [Record(key, value.encode(), timestamp + n) for n, value in enumerate(values or ("v",))]
    producer_id, epoch, sequence = producer
    built = build_batch(
        records,
        compression=compression,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    for name, value in (patches or {}).items():
        position, layout = FIELDS[name]
        struct.pack_into(layout, built, position, value)
    if not {"crc", "length"} & set(patches or ()):
        seal(built, 0, len(built))
    return bytes(built)


def request_of(
    topics: Iterable[tuple[str, bytes, list[tuple[int, bytes | None]]]], acks: int = -1, **fields: Any
) -> ProduceRequest:
    data = [
        TopicProduceData(
            name=name,
            topic_id=topic_id,
            partition_data=[PartitionProduceData(index=index, records=records) for index, records in rows],
        )
        for name, topic_id, rows in topics
    ]
    return ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=data, **fields)


def produce(
    t: Transcript, label: str, topic: tuple[str, bytes], records: bytes | None, **fields: Any
) -> None:
    """In every version, to partition 0."""
    for version in versions(0):
        t.call(label, request_of([(*topic, [(0, records)])], **fields), version)


def once(t: Transcript, label: str, topic: tuple[str, bytes], records: bytes | None, **fields: Any) -> None:
    t.call(label, request_of([(*topic, [(0, records)])], **fields))


def read(t: Transcript, label: str, topic: tuple[str, bytes]) -> None:
    """All that partition 0 holds."""
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 24)
    asked = FetchTopic(topic=topic[0], topic_id=topic[1], partitions=[partition])
    t.call(label, FetchRequest(max_wait_ms=0, min_bytes=0, topics=[asked], session_epoch=-1))


def valid(t: Transcript) -> None:
    topic = t.create("t")
    for acks in (-1, 1):
        produce(t, f"acks {acks}", topic, batch("a", "b"), acks=acks)
    for codec in Compression:
        produce(t, codec.name, topic, batch("a", "b", "c", compression=codec))
    read(t, "all", topic)
    t.call("nothing", ProduceRequest(acks=-1, timeout_ms=1000))
    t.every_version("no partitions", request_of([(*topic, [])]))


def acks(t: Transcript) -> None:
    topic = t.create("t")
    for value in (2, 7, -2, 32767):
        produce(t, f"acks {value}", topic, batch(), acks=value)
    absent = t.topic("absent"), bytes(range(16))
    once(t, "bad acks and unknown", absent, batch(), acks=7)
    once(t, "bad acks and corrupt", topic, batch(patches={"crc": 1}), acks=7)
    read(t, "nothing written", topic)


def silent(t: Transcript) -> None:
    """acks=0: no answer, and an error closes the connection."""
    topic = t.create("t")
    absent = t.topic("absent"), bytes(range(16))
    for label, target, records in (
        ("good", topic, batch()),
        ("corrupt", topic, batch(patches={"crc": 1})),
        ("unknown topic", absent, batch()),
    ):
        for version in versions(0):
            t.client.send(request_of([(*target, [(0, records)])], acks=0), version)
            probe = ApiVersionsRequest()
            sent = t.client.send(probe, 0)
            try:
                answered = t.client.receive(APIS[18].response, 0)[0] == sent
            except Disconnected:
                answered = False
                t.close()
            t.keep(f"{label} v{version}", answered)
    once(t, "after all", topic, batch())
    read(t, "only the good", topic)


def unknown(t: Transcript) -> None:
    name, topic_id = t.create("t", 2)
    other = t.topic("absent")
    cases: list[tuple[str, list[tuple[str, bytes, list[tuple[int, bytes | None]]]]]] = [
        ("unknown topic", [(other, bytes(range(16)), [(0, batch())])]),
        ("unknown partition", [(name, topic_id, [(2, batch()), (-1, batch()), (1, batch())])]),
        ("no id", [(name, ZERO_UUID, [(0, batch())])]),
        ("bad name", [("a b", bytes(range(16)), [(0, batch())])]),
        ("empty name", [("", bytes(range(16)), [(0, batch())])]),
        ("one good", [(other, bytes(range(16)), [(0, batch())]), (name, topic_id, [(0, batch())])]),
        ("internal", [("__cluster_metadata", bytes(15) + b"\x01", [(0, batch())])]),
    ]
    for label, topics in cases:
        for version in versions(0):
            if label == "no id" and version < 13:
                continue
            t.call(label, request_of(topics), version)


def several(t: Transcript) -> None:
    """Many partitions in one request: each for itself."""
    t.ignore("error_message")  # ours says more often what is wrong
    name, topic_id = t.create("t", 3)
    second, second_id = t.create("second")
    bad, good = batch(patches={"crc": 1}), batch("x")

    def ask(label: str, *topics: tuple[str, bytes, list[tuple[int, bytes | None]]]) -> None:
        for version in versions(0):
            t.call(label, request_of(topics), version)

    ask("three", (name, topic_id, [(0, good), (1, good), (2, good)]))
    ask("middle bad", (name, topic_id, [(0, good), (1, bad), (2, good)]))
    ask("topic without partitions", (name, topic_id, []), (second, second_id, [(0, good)]))
    ask("two topics", (name, topic_id, [(0, good), (2, bad)]), (second, second_id, [(0, good)]))


REFUSED_HERE = {
    "byte behind": "Kafka cuts off what is no batch; here nothing of a request is lost in silence",
    "batch and a cut one": "the same",
    "append time": "Kafka takes the mark off; here a client may not make it, on any topic",
    "length largest": "Kafka fails on the overflow: UNKNOWN_SERVER_ERROR",
    "codec": "Kafka fails on the number: UNKNOWN_SERVER_ERROR",
    "gzip that is none": "records are opened only with tierlog.validate.records",
}


def malformed(t: Transcript) -> None:
    """Each wrong in one way; the log stays as it is."""
    t.ignore("error_message")  # ours says more often what is wrong
    for label, reason in REFUSED_HERE.items():
        t.ours_differs(label, reason)
    topic, elsewhere = t.create("t"), t.create("elsewhere")
    two = batch("a") + batch("b")
    whole = batch("a")
    for label, records in (
        ("empty", b""),
        ("one byte", b"\0"),
        ("sixteen bytes", whole[:16]),
        ("seventeen bytes", whole[:17]),
        ("header cut", whole[:60]),
        ("header only", whole[:61]),
        ("cut", whole[:-1]),
        ("byte behind", whole + b"\0"),
        ("two batches", two),
        ("batch and a cut one", two[:-1]),
        ("crc", batch(patches={"crc": 1})),
        ("magic 0", batch(patches={"magic": 0})),
        ("magic 1", batch(patches={"magic": 1})),
        ("magic 3", batch(patches={"magic": 3})),
        ("magic -1", batch(patches={"magic": -1})),
        ("length 0", batch(patches={"length": 0})),
        ("length -1", batch(patches={"length": -1})),
        ("length 13", batch(patches={"length": 13})),
        ("length 14", batch(patches={"length": 14})),
        ("length 48", batch(patches={"length": 48})),
        ("length larger", batch(patches={"length": 1000})),
        ("length largest", batch(patches={"length": 2**31 - 1})),
        ("base offset 1", batch(patches={"base_offset": 1})),
        ("base offset -1", batch(patches={"base_offset": -1})),
        ("count 0", batch(patches={"records_count": 0})),
        ("count -1", batch(patches={"records_count": -1})),
        ("count 2 of 1", batch(patches={"records_count": 2})),
        ("delta 1 of 1", batch(patches={"last_offset_delta": 1})),
        ("delta and count 2 of 1", batch(patches={"last_offset_delta": 1, "records_count": 2})),
        ("delta -1", batch(patches={"last_offset_delta": -1})),
        ("delta -1, count 0", batch(patches={"last_offset_delta": -1, "records_count": 0})),
        ("codec 5", batch(patches={"attributes": 5})),
        ("codec 7", batch(patches={"attributes": 7})),
        ("gzip that is none", batch(patches={"attributes": 1})),
        ("append time", batch(patches={"attributes": LOG_APPEND_TIME_BIT})),
        ("transactional", batch(patches={"attributes": TRANSACTIONAL_BIT})),
        ("control", batch(patches={"attributes": CONTROL_BIT})),
        ("control transactional", batch(patches={"attributes": CONTROL_BIT | TRANSACTIONAL_BIT})),
        (
            "marker",
            bytes(build_end_transaction_marker(MARKER, producer_id=5, producer_epoch=0, timestamp_ms=T0_MS)),
        ),
        ("producer without sequence", batch(producer=(5, 0, -1))),
        ("producer -2", batch(producer=(-2, 0, 0))),
        ("sequence without producer", batch(producer=(-1, -1, 0))),
        ("transactional with producer", batch(producer=(5, 0, 0), patches={"attributes": TRANSACTIONAL_BIT})),
        ("epoch -1", batch(producer=(5, -1, 0))),
    ):
        here = any(label.startswith(known) for known in REFUSED_HERE)
        produce(t, label, elsewhere if here else topic, records)
    read(t, "all", topic)


def unusual(t: Transcript) -> None:
    """Odd, and accepted or refused as there. Of a false largest timestamp Kafka makes the true one; to us batches are
    opaque."""
    t.ignore("max_timestamp")
    topic = t.create("t")
    for label, records in (
        ("leader epoch", batch(patches={"leader_epoch": 7})),
        ("delete horizon", batch(patches={"attributes": DELETE_HORIZON_BIT})),
        ("unused attributes", batch(patches={"attributes": 0x4000})),
        ("high attributes", batch(patches={"attributes": 0x100})),
        ("max timestamp below base", batch(patches={"max_timestamp": T0_MS - 5})),
        ("timestamp -1", batch(timestamp=-1)),
        ("timestamp -2", batch(timestamp=-2)),
        ("timestamp 0", batch(timestamp=0)),
        ("null key", batch(key=None)),
        ("empty value", batch("")),
    ):
        once(t, label, topic, records)
    read(t, "all", topic)


def values_of(field: str) -> list[int]:
    """Around zero and both ends."""
    layout = FIELDS[field][1]
    bits = 8 * struct.calcsize(layout)
    if layout == ">I":
        return [0, 1, 2**31, 2**32 - 1]
    found = [0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]
    return [*found, -32768 | 0x20, -32768 | 0x30, 0x80, 0x4000] if field == "attributes" else found


def field_ends(t: Transcript) -> None:
    """Every header field, with its sign; each in a topic of its own, so that what is accepted stands alone."""
    t.ignore("error_message", "max_timestamp", "record_errors")
    t.ours_differs(f"length {2**31 - 1}", "Kafka fails on the overflow: UNKNOWN_SERVER_ERROR")
    for value in (-1, 2**15 - 1):
        t.ours_differs(f"attributes {value}", "Kafka fails on the codec: UNKNOWN_SERVER_ERROR")
    t.ours_differs("attributes 1", "records are opened only with tierlog.validate.records")
    t.ours_differs(f"max_timestamp {2**63 - 1}", "Kafka computes the true one; here the header is believed")
    for field in FIELDS:
        for number, value in enumerate(values_of(field)):
            for producer in ((-1, -1, -1), (5_000_000_000 + number, 0, 0)):
                topic = t.create(f"{field}-{number}-{producer[1]}".replace("_", "-"))
                records = batch(producer=producer, patches={field: value})
                once(t, f"{field} {value} of {producer[0]}", topic, records)


def timestamps(t: Transcript) -> None:
    far = 4_000_000_000_000
    old = t.create("old", message_timestamp_before_max_ms="1000")
    produce(t, "too old", old, batch("a", "b"))
    late = t.create("late", message_timestamp_after_max_ms="1000")
    produce(t, "too new", late, batch("a", "b", timestamp=far))
    default = t.create("default")
    produce(t, "too new by default", default, batch("a", "b", timestamp=far))
    produce(t, "no timestamp", old, batch("a", patches={"base_timestamp": -1, "max_timestamp": -1}))
    stamped = t.create("stamped", message_timestamp_type="LogAppendTime")
    for codec in Compression:
        produce(t, f"stamped {codec.name}", stamped, batch("a", "b", timestamp=far, compression=codec))
    once(t, "stamped with bit", stamped, batch("a", "b", patches={"attributes": LOG_APPEND_TIME_BIT}))
    for topic in (old, late, default, stamped):
        read(t, f"all of {topic[0].rsplit('-')[-1]}", topic)


def sizes(t: Transcript) -> None:
    t.ignore("error_message")  # ours says more often what is wrong
    small = t.create("small", max_message_bytes="500")
    produce(t, "too large", small, batch("x" * 600))
    produce(t, "two that are too large", small, batch("x" * 300, "y" * 300))
    produce(t, "compressed under the limit", small, batch("x" * 5000, compression=Compression.GZIP))
    exact = 500 - len(batch("")) - 2
    for more in (-1, 0, 1, 2):
        produce(t, f"exact {more}", small, batch("x" * (exact + more)))
    produce(t, "too large and corrupt", small, batch("x" * 600, patches={"crc": 1}))
    read(t, "all", small)
    default = t.create("default")
    once(t, "default limit", default, batch("x" * 1_100_000))
    segment = t.create("segment", segment_bytes="1048576", max_message_bytes="3000000")
    once(t, "larger than a segment", segment, batch("x" * 1_100_000))


def compacted(t: Transcript) -> None:
    topic = t.create("t", cleanup_policy="compact")
    produce(t, "null key", topic, batch("a", "b", key=None))
    for codec in Compression:
        produce(t, f"null key {codec.name}", topic, batch("a", key=None, compression=codec))
    produce(t, "empty key", topic, batch("a", key=b""))
    produce(t, "key", topic, batch("a"))
    read(t, "all", topic)


def idempotent(t: Transcript) -> None:
    """Sequences: repeated, ahead, behind, of older and newer epochs."""
    t.ignore("error_message")  # ours says more often what is wrong
    topic = t.create("t")
    first, second = 4_000_000_001, 4_000_000_002

    def ask(label: str, producer_id: int, epoch: int, sequence: int, *values: str) -> None:
        once(t, label, topic, batch(*(values or ("v",)), producer=(producer_id, epoch, sequence)))

    ask("first 0", first, 0, 0)
    for sequence in range(1, 8):
        ask(f"first {sequence}", first, 0, sequence)
    for sequence in range(8):
        ask(f"again {sequence}", first, 0, sequence)
    ask("ahead", first, 0, 9)
    ask("two", first, 0, 8, "a", "b")
    ask("part of two", first, 0, 8)
    ask("second of two", first, 0, 9)
    ask("two again", first, 0, 8, "a", "b")
    ask("three over two", first, 0, 8, "a", "b", "c")
    ask("new epoch not at 0", first, 2, 1)
    ask("new epoch", first, 2, 0)
    ask("new epoch again", first, 2, 0)
    ask("old epoch", first, 1, 1)
    ask("old epoch of old", first, 0, 10)
    ask("unknown not at 0", second, 0, 5)
    ask("unknown goes on", second, 0, 6)
    ask("unknown gap", second, 0, 8)
    ask("unknown epoch 3", 4_000_000_003, 3, 0)
    ask("epoch -1", 4_000_000_004, -1, 0)
    ask("last sequence", 4_000_000_005, 0, 2**31 - 2)
    ask("over the end", 4_000_000_005, 0, 2**31 - 1, "a", "b")
    ask("over the end again", 4_000_000_005, 0, 2**31 - 1, "a", "b")
    ask("behind the end", 4_000_000_005, 0, 1)
    ask("gap behind the end", 4_000_000_005, 0, 5)
    for version in versions(0):
        request = request_of([(*topic, [(0, batch(producer=(first, 2, 9)))])])
        t.call("gap", request, version)
        request = request_of([(*topic, [(0, batch(producer=(first, 0, 0)))])])
        t.call("fenced", request, version)
        request = request_of([(*topic, [(0, batch(producer=(first, 2, 0)))])])
        t.call("duplicate", request, version)
    read(t, "all", topic)


SCENARIOS: list[Scenario] = [
    valid,
    acks,
    silent,
    unknown,
    several,
    malformed,
    unusual,
    field_ends,
    timestamps,
    sizes,
    compacted,
    idempotent,
]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
