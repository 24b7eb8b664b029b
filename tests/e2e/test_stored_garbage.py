"""Bodies that are no records, or far too many, in the log: each costs its own partition and request, never the connection,
and never the loop."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
import zstandard

from tests.e2e.tiered import await_tiered, create, hurried
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    BASE_TIMESTAMP_AT,
    COUNT_AT,
    HEADER_BYTES,
    LAST_OFFSET_DELTA_AT,
    LENGTH_AT,
    Compression,
    seal,
)
from tierlog.records.records import Record, build_batch, encode_record
from tierlog.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)

MAX_TIMESTAMP = -3
MEMORY, COMPUTED = "process_resident_memory_bytes", "tierlog_loop_computed_max_seconds"
NOW_MS = int(time.time() * 1000)


def stored(body: bytes, count: int, codec: Compression) -> bytes:
    """A batch with any body, whose header does not tell the time of its records."""
    batch = build_batch([Record(b"k", b"v", NOW_MS)])
    batch[HEADER_BYTES:] = body
    struct.pack_into(">i", batch, LENGTH_AT, len(batch) - 12)
    struct.pack_into(">h", batch, LENGTH_AT + 13, int(codec))
    struct.pack_into(">i", batch, LAST_OFFSET_DELTA_AT, count - 1)
    struct.pack_into(">i", batch, COUNT_AT, count)
    struct.pack_into(">q", batch, BASE_TIMESTAMP_AT, NOW_MS - 1000)
    seal(batch, 0, len(batch))
    return bytes(batch)


def varied(count: int) -> bytes:
    """A zstd body of ``count`` records of seven bytes, none of them late enough."""
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    one = bytes([12, 0, 0, 0, 1, 1, 0])
    parts = [packer.compress(one * 10_000) for _ in range(count // 10_000)]
    return b"".join(parts) + packer.flush()


LARGE = 9_000_000
GARBAGE: dict[str, tuple[bytes, int, Compression]] = {
    "plain": (bytes(range(256)), 3, Compression.NONE),
    "zeros": (bytes(70), 5, Compression.NONE),
    "offsets": (encode_record(Record(b"k", b"v"), 7, 0) * 2, 2, Compression.NONE),
    "negative": (encode_record(Record(b"k", b"v"), -7, 0) * 2, 2, Compression.NONE),
    "times": (encode_record(Record(b"k", b"v"), 0, 2**63 - 1) * 2, 2, Compression.NONE),
    **{f"none {codec.name}": (b"no stream" * 9, 3, codec) for codec in Compression if codec},
    **{f"empty {codec.name}": (b"\0", 1, codec) for codec in Compression if codec},
    "cut zstd": (zstandard.compress(bytes(range(256)) * 20)[:-9], 3, Compression.ZSTD),
    "missing": (varied(10_000), 10_001, Compression.ZSTD),
    "too many": (varied(20_000), 10_000, Compression.ZSTD),
    "zstd of zeros": (zstandard.compress(bytes(60_000_000)), 100, Compression.ZSTD),
}


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with hurried(tmp_path_factory.mktemp("stored-garbage")) as running:
        yield running


def ask(client: RawClient, topic: str, timestamp: int, partitions: int = 2) -> list[ErrorCode]:
    asked = [ListOffsetsPartition(partition_index=index, timestamp=timestamp) for index in range(partitions)]
    request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic, partitions=asked)], timeout_ms=30_000)
    answer = client.call(request, ListOffsetsResponse)
    return [
        ErrorCode(row.error_code)
        for row in sorted(answer.topics[0].partitions, key=lambda row: row.partition_index)
    ]


@pytest.mark.parametrize("name", GARBAGE)
def test_a_question_about_time_costs_its_partition(own_broker: BrokerProcess, name: str) -> None:
    topic = name.replace(" ", "-")
    with RawClient(own_broker.port) as client:
        client.create_topic(topic, 2)
        assert client.produce(topic, stored(*GARBAGE[name])).error_code == ErrorCode.NONE
        assert client.produce(topic, one_batch(b"sound"), 1).error_code == ErrorCode.NONE
        for timestamp in (NOW_MS, MAX_TIMESTAMP):
            assert ask(client, topic, timestamp) == [ErrorCode.CORRUPT_MESSAGE, ErrorCode.NONE]
        assert client.produce(topic, one_batch(b"sound")).error_code == ErrorCode.NONE


def test_a_question_about_time_costs_its_partition_in_the_tier_too(own_broker: BrokerProcess) -> None:
    """Nothing of what is asked for is on the disk any more."""
    count = len(GARBAGE) + 1
    filler = bytes(build_batch([Record(b"k", bytes(60_000), NOW_MS - 5000)]))
    create(own_broker, "in-the-tier", count)
    with RawClient(own_broker.port) as client:
        for partition, batch in enumerate(
            [one_batch(b"sound"), *(stored(*each) for each in GARBAGE.values())]
        ):
            for each in (filler, batch, filler, filler):
                assert client.produce("in-the-tier", each, partition).error_code == ErrorCode.NONE
        await_tiered(own_broker, "in-the-tier")
        for timestamp in (NOW_MS, MAX_TIMESTAMP):
            found = ask(client, "in-the-tier", timestamp, count)
            assert found == [ErrorCode.NONE] + [ErrorCode.CORRUPT_MESSAGE] * len(GARBAGE)
        assert ask(client, "in-the-tier", NOW_MS - 5000, count) == [ErrorCode.NONE] * count


def test_a_bomb_is_given_up_at_the_deadline_and_the_loop_goes_on(own_broker: BrokerProcess) -> None:
    with RawClient(own_broker.port) as client, RawClient(own_broker.port) as other:
        client.create_topic("bomb", 2)
        bomb = stored(varied(LARGE), LARGE, Compression.ZSTD)
        assert len(bomb) < 50_000
        assert client.produce("bomb", bomb).error_code == ErrorCode.NONE
        assert client.produce("bomb", one_batch(b"sound"), 1).error_code == ErrorCode.NONE
        assert ask(client, "bomb", -1) == [ErrorCode.NONE] * 2  # what is compiled at first use is there now
        before = own_broker.metrics()
        asked = ListOffsetsPartition(partition_index=0, timestamp=NOW_MS)
        request = ListOffsetsRequest(
            topics=[ListOffsetsTopic(name="bomb", partitions=[asked])], timeout_ms=1500
        )
        client.send(request)
        answered = 0
        until_s = time.monotonic() + 1.0
        while time.monotonic() < until_s:
            assert ask(other, "bomb", -1)[1] is ErrorCode.NONE
            answered += 1
        after = own_broker.metrics()
        assert after[MEMORY] - before[MEMORY] < 64 << 20
        _, answer = client.receive(ListOffsetsResponse)
        assert answer.topics[0].partitions[0].error_code == ErrorCode.REQUEST_TIMED_OUT
        assert answered > 10
        assert after[COMPUTED] <= max(before[COMPUTED], 0.05)
