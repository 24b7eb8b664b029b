"""Batches that have to be opened when they are produced: what they may cost, and that nothing overtakes them."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
import zstandard

from tests.servers.raw_client import RawClient, one_batch, produce_request
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.records.batch import COUNT_AT, HEADER_BYTES, LAST_OFFSET_DELTA_AT, LENGTH_AT, Compression, seal
from tierlog.records.compression import compress
from tierlog.records.records import Record, build_batch
from tierlog.records.varint import encode_varint
from tierlog.wire.messages.produce import ProduceResponse

MEMORY, COMPUTED = "process_resident_memory_bytes", "tierlog_loop_computed_max_seconds"
COMPACTED = {"cleanup_policy": "compact"}
VALIDATED = {"tierlog_validate_records": "true"}
PACKED = [codec for codec in Compression if codec]
NOW_MS = int(time.time() * 1000)


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("opened")) as running, RawClient(running.port) as client:
        client.create_topic("compacted", 4, **COMPACTED)
        client.create_topic("validated", 4, **VALIDATED)
        for topic in ("compacted", "validated"):
            for codec in Compression:
                client.produce(topic, one_batch(b"x" * 40_000, compression=codec))
        yield running


def packed(body: bytes, count: int, codec: Compression) -> bytes:
    """A batch with this packed body; its header claims ``count`` records."""
    batch = build_batch([Record(b"k", b"v", NOW_MS)])
    batch[HEADER_BYTES:] = body
    struct.pack_into(">i", batch, LENGTH_AT, len(batch) - 12)
    struct.pack_into(">h", batch, LENGTH_AT + 13, int(codec))
    struct.pack_into(">i", batch, LAST_OFFSET_DELTA_AT, count - 1)
    struct.pack_into(">i", batch, COUNT_AT, count)
    seal(batch, 0, len(batch))
    return bytes(batch)


def keyless(count: int) -> bytes:
    """Records without a key and a value, of seven to nine bytes."""
    parts = []
    for index in range(count):
        body = b"\0\0" + encode_varint(index) + b"\1\1\0"
        parts.append(encode_varint(len(body)) + body)
    return b"".join(parts)


def same_records(count: int) -> bytes:
    """A zstd body of as many records as there are bytes for, all at offset delta 0."""
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join(
        packer.compress(bytes([12, 0, 0, 0, 1, 1, 0]) * 10_000) for _ in range(count // 10_000)
    ) + (packer.flush())


def lying(content_size: int) -> bytes:
    """A zstd frame that declares another size than it has."""
    frame = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(bytes(300)))
    assert zstandard.get_frame_parameters(bytes(frame)).content_size == 300
    header_at = 5  # magic and descriptor; the size follows, of two bytes
    frame[4] = frame[4] & 0x3F | 0xC0
    frame[header_at : header_at + 2] = struct.pack("<Q", content_size)
    return bytes(frame)


BOMBS = {
    "9 million records": packed(same_records(9_000_000), 9_000_000, Compression.ZSTD),
    "a quarter million keyless": packed(zstandard.compress(keyless(240_000)), 240_000, Compression.ZSTD),
    "150,000 keyless, plain": packed(keyless(100_000), 100_000, Compression.NONE),
    "zstd window": packed(zstandard.compress(bytes(600_000_000)), 1, Compression.ZSTD),
    "zstd that lies": packed(lying(2**50), 1, Compression.ZSTD),
    **{
        f"60 MB in a record, {codec.name}": packed(
            bytes(
                compress(
                    codec,
                    encode_varint(60_000_000) + b"\0\0\0\2k" + encode_varint(59_999_000) + bytes(60_000_000),
                )
            ),
            1,
            codec,
        )
        for codec in PACKED
        if codec is not Compression.SNAPPY  # it cannot be packed so well: 3 MB are too large by themselves
    },
    "gzip members": packed(bytes(compress(Compression.GZIP, b"")) * 40_000, 1, Compression.GZIP),
    "zstd frames": packed(zstandard.compress(b"") * 70_000, 1, Compression.ZSTD),
    "snappy blocks": packed(b"\x82SNAPPY\0\0\0\0\1\0\0\0\1" + b"\0\0\0\1\0" * 190_000, 1, Compression.SNAPPY),
    "raw snappy that lies": packed(b"\xff\xff\xff\xff\x0f" + bytes(900_000), 1, Compression.SNAPPY),
}
ANSWERS = {
    "9 million records": ErrorCode.MESSAGE_TOO_LARGE,
    "a quarter million keyless": ErrorCode.INVALID_RECORD,
    "150,000 keyless, plain": ErrorCode.INVALID_RECORD,
}


@pytest.mark.parametrize("topic", ["compacted", "validated"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_holds_neither_the_loop_nor_memory(own_broker: BrokerProcess, name: str, topic: str) -> None:
    assert len(BOMBS[name]) <= 1 << 20
    with RawClient(own_broker.port, timeout_s=60) as client, RawClient(own_broker.port) as other:
        before = own_broker.metrics()
        client.send(produce_request(topic, {0: BOMBS[name]}), 12)
        largest = before[MEMORY]
        for _ in range(3):
            assert other.produce(topic, one_batch(b"sound"), 1).error_code == ErrorCode.NONE
            largest = max(largest, own_broker.metrics()[MEMORY])
        _, answer = client.receive(ProduceResponse, 12)
        row = answer.responses[0].partition_responses[0]
        if topic == "compacted" and name in ANSWERS:
            assert ErrorCode(row.error_code) is ANSWERS[name]
        if "keyless" not in name or topic == "compacted":
            assert row.error_code != ErrorCode.NONE
        assert len(row.record_errors) <= 100
        assert client.produce(topic, one_batch(b"sound")).error_code == ErrorCode.NONE
        after = own_broker.metrics()
        assert max(largest, after[MEMORY]) - before[MEMORY] < 64 << 20
        assert after[COMPUTED] <= max(before[COMPUTED], 0.05)


def large(count: int, codec: Compression, **producer: int) -> bytes:
    records = [Record(b"key", b"value %d" % n, int(time.time() * 1000)) for n in range(count)]
    return bytes(build_batch(records, compression=codec, **producer))


@pytest.mark.parametrize("topic", ["compacted", "validated"])
def test_nothing_overtakes_what_is_opened(own_broker: BrokerProcess, topic: str) -> None:
    with RawClient(own_broker.port) as client:
        producer_id, epoch = client.init_producer()
        start, sequence, sent = client.offset(topic, -1, 2), 0, []
        for codec in Compression:
            for count in (20_000, 1, 9_000, 1):
                producer = {"producer_id": producer_id, "producer_epoch": epoch, "base_sequence": sequence}
                batch = large(count, codec, **producer)
                client.send(produce_request(topic, {2: batch}, timeout_ms=60_000), 12)
                sent.append((start + sequence, count))
                sequence += count
        for offset, _ in sent:
            row = client.receive(ProduceResponse, 12)[1].responses[0].partition_responses[0]
            assert (ErrorCode(row.error_code), row.base_offset) == (ErrorCode.NONE, offset)
        assert client.offset(topic, -1, 2) == start + sequence


def test_without_acks(own_broker: BrokerProcess) -> None:
    with RawClient(own_broker.port) as client:
        start = client.offset("compacted", -1, 3)
        client.send(produce_request("compacted", {3: large(20_000, Compression.GZIP)}, acks=0), 12)
        assert client.produce("compacted", one_batch(b"next"), 3).base_offset == start + 20_000
        client.send(produce_request("compacted", {3: BOMBS["9 million records"]}, acks=0), 12)
        assert client.is_closed_by_peer()


def test_several_partitions_of_one_request(own_broker: BrokerProcess) -> None:
    with RawClient(own_broker.port) as client:
        request = produce_request(
            "compacted",
            {
                0: one_batch(b"small"),
                1: large(9_000, Compression.ZSTD),
                2: BOMBS["a quarter million keyless"],
                3: one_batch(b"small"),
                9: one_batch(b"nowhere"),
            },
        )
        rows = client.call(request, ProduceResponse, 12).responses[0].partition_responses
        assert [ErrorCode(row.error_code) for row in rows] == [
            ErrorCode.NONE,
            ErrorCode.NONE,
            ErrorCode.INVALID_RECORD,
            ErrorCode.NONE,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ]
