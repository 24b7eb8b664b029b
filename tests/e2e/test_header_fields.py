"""Every header field of a record batch at its ends and around zero, over a live broker: each followed by sound records,
then kill −9, and everything that was acknowledged is read back at its offset, once."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_same_as_kafka_produce import FIELDS
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    CONTROL_BIT,
    COUNT_AT,
    HEADER_BYTES,
    LAST_OFFSET_DELTA_AT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Compression,
    seal,
    walk_whole,
)
from tierlog.records.records import Record, build_batch, read_records

# (partition, base offset, last offset, the only value or None where nobody can know what is in it)
Acknowledged = tuple[str, int, int, int, bytes | None]

TOPICS: dict[str, dict[str, str]] = {
    "plain": {},
    "append-time": {"message_timestamp_type": "LogAppendTime"},
    "compacted": {"cleanup_policy": "compact"},
    "any-time": {"message_timestamp_after_max_ms": str(2**63 - 1)},
}
"""Every way from a header to the disk."""

KINDS = {
    "plain": (Compression.NONE, (-1, -1, -1)),
    "idempotent": (Compression.NONE, (7000, 0, 0)),
    "zstd": (Compression.ZSTD, (-1, -1, -1)),
}
PRODUCER_FIELDS = ("producer_id", "producer_epoch", "base_sequence")
WIDTHS = {"b": 8, "h": 16, "i": 32, "q": 64}
SPECIAL_ATTRIBUTES = (-32768, -32768 | 0x20, -32768 | 0x30, 0x30, 0x40, 0x80, 0x100, 0x4000, -32768 | 0x08)


def values_of(field: str) -> list[int]:
    layout = FIELDS[field][1]
    if layout == ">I":
        return [0, 1, 2**31 - 1, 2**31, 2**32 - 1]
    bits = WIDTHS[layout[-1]]
    found = [0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]
    return [*found, *SPECIAL_ATTRIBUTES] if field == "attributes" else found


def hostile(field: str, value: int, kind: str, producer_id: int) -> bytes:
    codec, (pid, epoch, sequence) = KINDS[kind]
    records = [Record(b"k", b"hostile", int(time.time() * 1000))]
    batch = build_batch(
        records,
        compression=codec,
        producer_id=pid if pid < 0 else producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    at, layout = FIELDS[field]
    struct.pack_into(layout, batch, at, value)
    if field not in ("crc", "batch_length", "length"):
        seal(batch, 0, len(batch))
    return bytes(batch)


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("header-fields"), {"flush.mode": "ack"})
    with broker as running:
        yield running


def play(client: RawClient, topic: str) -> list[Acknowledged]:
    """Each field in a partition of its own."""
    acknowledged: list[Acknowledged] = []
    for partition, field in enumerate(FIELDS):
        number = 0
        for value in values_of(field):
            for kind in KINDS if topic == "plain" else ("idempotent",):
                number += 1
                answer = client.produce(topic, hostile(field, value, kind, 7000 + number), partition)
                if answer.error_code == ErrorCode.NONE:
                    last = client.offset(topic, -1, partition) - 1
                    acknowledged.append((topic, partition, answer.base_offset, last, None))
                # A producer that nobody has seen, so that its state is touched as well.
                sound = one_batch(
                    b"sound %d" % number, producer_id=9000 + number, producer_epoch=0, base_sequence=0
                )
                answer = client.produce(topic, sound, partition)
                assert answer.error_code == ErrorCode.NONE, (topic, field, value, kind)
                offset = answer.base_offset
                acknowledged.append((topic, partition, offset, offset, b"sound %d" % number))
    return acknowledged


def stored(client: RawClient, topic: str, partition: int) -> list[tuple[BatchHeader, bytes]]:
    batches: list[tuple[BatchHeader, bytes]] = []
    offset = 0
    while True:
        got = client.fetch(topic, offset, partition)
        assert got.error_code == ErrorCode.NONE, ErrorCode(got.error_code).name
        data = bytes(got.records or b"")
        for position, header in walk_whole(data):
            if header.next_offset > offset:
                batches.append((header, data[position : position + header.size_bytes]))
                assert header.base_offset >= offset, "no offset twice"
                offset = header.next_offset
        if offset >= got.high_watermark:
            return batches


def test_what_was_acknowledged_is_read_back_once(own_broker: BrokerProcess) -> None:
    acknowledged: list[Acknowledged] = []
    with RawClient(own_broker.port) as client:
        for topic, configs in TOPICS.items():
            client.create_topic(topic, len(FIELDS), **configs)
            acknowledged += play(client, topic)
    own_broker.kill()
    own_broker.start()
    corrupt = [path.name for path in Path(own_broker.log_dir).rglob("*.corrupt")]
    assert corrupt == []
    with RawClient(own_broker.port) as client:
        for topic in TOPICS:
            for partition, field in enumerate(FIELDS):
                found = {
                    header.base_offset: one for one in stored(client, topic, partition) for header in one[:1]
                }
                for _, _, base, last, value in [a for a in acknowledged if a[:2] == (topic, partition)]:
                    header, data = found.pop(base)
                    assert header.last_offset == last, (topic, field)
                    if value is not None:
                        values = [bytes(record.value or b"") for record in read_records(data, 0, header)]
                        assert values == [value], (topic, field)
                assert not found, "nothing but what was acknowledged"
                for timestamp in (0, int(time.time() * 1000), -3):
                    error = client.list_offsets(topic, timestamp, partition).error_code
                    assert error in (ErrorCode.NONE, ErrorCode.CORRUPT_MESSAGE)
                assert client.produce(topic, one_batch(b"after"), partition).error_code == ErrorCode.NONE


def of_a_producer(attributes: int, values: tuple[int, ...]) -> bytes:
    built = build_batch([Record(b"k", b"hostile", int(time.time() * 1000))])
    for field, value in zip(("attributes", *PRODUCER_FIELDS), (attributes, *values), strict=True):
        struct.pack_into(FIELDS[field][1], built, FIELDS[field][0], value)
    seal(built, 0, len(built))
    return bytes(built)


def test_the_fields_of_a_producer_together(own_broker: BrokerProcess) -> None:
    """Each with each at its ends, in transactions and as control batches: none of those is taken, and no transaction is
    ever open. What is sound is visible to read_committed at once, before and after a kill -9."""
    expected: dict[str, dict[int, bytes | None]] = {}
    with RawClient(own_broker.port) as client:
        for attributes in (TRANSACTIONAL_BIT, TRANSACTIONAL_BIT | CONTROL_BIT, CONTROL_BIT, 0):
            topic = f"together-{attributes}"
            client.create_topic(topic, flush_mode="os")
            found = expected[topic] = {}
            ends = ([value for value in values_of(field) if value != 1] for field in PRODUCER_FIELDS)
            for number, values in enumerate(itertools.product(*ends)):
                answer = client.produce(topic, of_a_producer(attributes, values))
                if answer.error_code == ErrorCode.NONE:
                    assert not attributes, values
                    found.setdefault(answer.base_offset, b"hostile")
                sound = b"sound %d" % number
                good = one_batch(sound, producer_id=20_000 + number, producer_epoch=0, base_sequence=0)
                answer = client.produce(topic, good)
                assert answer.error_code == ErrorCode.NONE, values
                assert found.setdefault(answer.base_offset, sound) == sound, values
    own_broker.kill()
    own_broker.start()
    with RawClient(own_broker.port) as client:
        for topic, found in expected.items():
            got = client.fetch(topic, 0)
            assert got.last_stable_offset == got.high_watermark == len(found)
            assert {offset: value for offset, _, value in client.records(topic)} == found


def claiming(count: int, codec: Compression = Compression.NONE, body: bytes | None = None) -> bytes:
    batch = build_batch([Record(b"k", b"v", int(time.time() * 1000))], compression=codec)
    if body is not None:
        batch[HEADER_BYTES:] = body
        struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">i", batch, LAST_OFFSET_DELTA_AT, count - 1)
    struct.pack_into(">i", batch, COUNT_AT, count)
    seal(batch, 0, len(batch))
    return bytes(batch)


@pytest.mark.parametrize(
    ("count", "codec"),
    [*((count, Compression.NONE) for count in (2, 3, 1000)), *((2**31 - 1, codec) for codec in Compression)],
)
def test_more_records_than_there_is_room_for(
    own_broker: BrokerProcess, count: int, codec: Compression
) -> None:
    topic = f"claims-{count}-{codec.name}"
    with RawClient(own_broker.port) as client:
        client.create_topic(topic)
        answer = client.produce(topic, claiming(count, codec))
        assert ErrorCode(answer.error_code) is ErrorCode.INVALID_RECORD
        assert client.offset(topic, -1) == 0
        assert client.produce(topic, claiming(1, body=b"")).error_code == ErrorCode.INVALID_RECORD
        assert client.produce(topic, one_batch(b"sound")).base_offset == 0
