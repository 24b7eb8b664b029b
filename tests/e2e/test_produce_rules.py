"""What a broker must refuse in a Produce request, and with which code.

All of it passes on Apache Kafka too, but for ``OURS``: null records, which Kafka leaves unanswered, and a mark of
LogAppendTime, which Kafka takes away from the batch.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from tests.servers.kafka import KafkaProcess
from tests.servers.raw_client import RawClient, one_batch, produce_request
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    ATTRIBUTES_AT,
    COUNT_AT,
    CRC_AT,
    LAST_OFFSET_DELTA_AT,
    LENGTH_AT,
    MAGIC_AT,
    Compression,
    seal,
)
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)

HOUR_MS = 3_600_000
LATEST = -1


@pytest.fixture
def client(cluster: BrokerProcess | KafkaProcess) -> Iterator[RawClient]:
    with RawClient(cluster.port) as connected:
        yield connected


@pytest.fixture
def topic(client: RawClient, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("[", "-").replace("]", "").replace("_", "-")
    client.create_topic(name, 2)
    return name


def patched(offset: int, data: bytes, *, resealed: bool = True) -> bytes:
    """A sound batch with ``data`` written over it at ``offset``."""
    batch = bytearray(one_batch(b"one", b"two"))
    batch[offset : offset + len(data)] = data
    if resealed:
        seal(batch, 0, len(batch))
    return bytes(batch)


def old_message(magic: int) -> bytes:
    """A message of the formats before 0.11."""
    timestamp = struct.pack(">q", 1) if magic else b""
    body = struct.pack(">bb", magic, 0) + timestamp + struct.pack(">ii", -1, 5) + b"value"
    return struct.pack(">qiI", 0, len(body) + 4, 0) + body


BAD_BATCHES = {
    "bad-crc": (patched(CRC_AT, b"\1\2\3\4", resealed=False), ErrorCode.CORRUPT_MESSAGE),
    "flipped-value": (patched(70, b"\xff", resealed=False), ErrorCode.CORRUPT_MESSAGE),
    "magic-0": (old_message(0), ErrorCode.INVALID_RECORD),
    "magic-1": (old_message(1), ErrorCode.INVALID_RECORD),
    "magic-3": (patched(MAGIC_AT, b"\3"), ErrorCode.CORRUPT_MESSAGE),
    "no-bytes": (b"", ErrorCode.INVALID_RECORD),
    "few-bytes": (b"12345678", ErrorCode.INVALID_RECORD),
    "cut-off": (one_batch(b"value")[:-3], ErrorCode.INVALID_RECORD),
    "two-batches": (one_batch(b"one") + one_batch(b"two"), ErrorCode.INVALID_RECORD),
    "length-too-small": (patched(LENGTH_AT, struct.pack(">i", 13)), ErrorCode.CORRUPT_MESSAGE),
    "length-negative": (patched(LENGTH_AT, struct.pack(">i", -1)), ErrorCode.CORRUPT_MESSAGE),
    "count-too-large": (patched(COUNT_AT, struct.pack(">i", 3)), ErrorCode.INVALID_RECORD),
    "count-negative": (patched(COUNT_AT, struct.pack(">i", -1)), ErrorCode.INVALID_RECORD),
    "count-zero": (patched(COUNT_AT, struct.pack(">i", 0)), ErrorCode.INVALID_RECORD),
    "last-delta-too-large": (patched(LAST_OFFSET_DELTA_AT, struct.pack(">i", 9)), ErrorCode.INVALID_RECORD),
    "base-offset-not-0": (patched(0, struct.pack(">q", 7)), ErrorCode.INVALID_RECORD),
    "control": (patched(ATTRIBUTES_AT, struct.pack(">h", 0x20)), ErrorCode.INVALID_RECORD),
}
OURS = {
    "null": (None, ErrorCode.INVALID_RECORD),
    "marked-log-append-time": (patched(ATTRIBUTES_AT, struct.pack(">h", 0x08)), ErrorCode.INVALID_TIMESTAMP),
}


@pytest.mark.parametrize("name", [*BAD_BATCHES, *OURS])
def test_a_bad_batch_is_refused_and_nothing_is_appended(
    client: RawClient, topic: str, name: str, is_kafka: bool
) -> None:
    if is_kafka and name in OURS:
        pytest.skip("Kafka does otherwise")
    records, error = (BAD_BATCHES | OURS)[name]
    answer = client.produce(topic, records)
    assert ErrorCode(answer.error_code) is error, answer.error_message
    assert answer.base_offset == -1
    assert client.offset(topic, LATEST) == 0
    assert client.produce(topic, one_batch(b"sound")).base_offset == 0


def test_one_bad_partition_leaves_the_others_alone(client: RawClient, topic: str) -> None:
    request = produce_request(
        topic, {0: BAD_BATCHES["bad-crc"][0], 1: one_batch(b"sound"), 7: one_batch(b"x")}
    )
    answers = client.call(request, ProduceResponse, 12).responses[0].partition_responses
    assert {answer.index: ErrorCode(answer.error_code) for answer in answers} == {
        0: ErrorCode.CORRUPT_MESSAGE,
        1: ErrorCode.NONE,
        7: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert client.values(topic, partition=1) == [b"sound"]


def test_a_batch_above_the_topics_bound_is_too_large(client: RawClient) -> None:
    client.create_topic("too-large", max_message_bytes="2000")
    assert client.produce("too-large", one_batch(b"x" * 1900)).error_code == ErrorCode.NONE
    assert client.produce("too-large", one_batch(b"x" * 2000)).error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert client.offset("too-large", LATEST) == 1


@pytest.mark.parametrize("acks", [7, -2, 2])
def test_acks_that_mean_nothing(client: RawClient, topic: str, acks: int) -> None:
    answer = client.produce(topic, one_batch(b"value"), acks=acks)
    assert answer.error_code == ErrorCode.INVALID_REQUIRED_ACKS
    assert client.offset(topic, LATEST) == 0


def test_acks_0_answers_nothing_and_an_error_closes(client: RawClient, topic: str) -> None:
    client.send(produce_request(topic, {0: one_batch(b"quiet")}, acks=0), 12)
    assert client.produce(topic, one_batch(b"answered"), acks=1).base_offset == 1
    client.send(produce_request(topic, {5: one_batch(b"nowhere")}, acks=0), 12)
    assert client.is_closed_by_peer()


def test_unknown_names_and_ids(client: RawClient, topic: str) -> None:
    assert client.produce("no-such-topic", one_batch(b"x")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert client.produce(topic, one_batch(b"x"), 9).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    data = [PartitionProduceData(index=0, records=one_batch(b"x"))]
    by_id = ProduceRequest(
        acks=1, timeout_ms=1000, topic_data=[TopicProduceData(topic_id=bytes(range(16)), partition_data=data)]
    )
    answer = client.call(by_id, ProduceResponse, 13).responses[0].partition_responses[0]
    assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_zstd_is_younger_than_version_7(client: RawClient, topic: str) -> None:
    batch = one_batch(b"value" * 20, compression=Compression.ZSTD)
    assert client.produce(topic, batch, version=6).error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert client.produce(topic, batch, version=7).error_code == ErrorCode.NONE


def test_a_timestamp_far_ahead(client: RawClient, topic: str) -> None:
    now_ms = int(time.time() * 1000)
    ahead = bytes(build_batch([Record(b"k", b"v", now_ms + 2 * HOUR_MS)]))
    assert client.produce(topic, ahead).error_code == ErrorCode.INVALID_TIMESTAMP
    old = bytes(build_batch([Record(b"k", b"v", now_ms - 2000 * HOUR_MS)]))
    assert client.produce(topic, old).error_code == ErrorCode.NONE


def test_a_compacted_topic_wants_keys_and_says_which_records_have_none(client: RawClient) -> None:
    client.create_topic("wants-keys", cleanup_policy="compact")
    now_ms = int(time.time() * 1000)
    records = [Record(b"a", b"1", now_ms), Record(None, b"2", now_ms), Record(None, b"3", now_ms)]
    answer = client.produce("wants-keys", bytes(build_batch(records)))
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert [one.batch_index for one in answer.record_errors] == [1, 2]
    assert client.offset("wants-keys", LATEST) == 0
    assert client.produce("wants-keys", bytes(build_batch(records[:1]))).error_code == ErrorCode.NONE


def test_transactional_records_need_a_transactional_id(client: RawClient, topic: str) -> None:
    producer_id, epoch = client.init_producer()
    batch = one_batch(
        b"v", producer_id=producer_id, producer_epoch=epoch, base_sequence=0, is_transactional=True
    )
    answer = client.produce(topic, batch)
    assert ErrorCode(answer.error_code) is ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert client.offset(topic, LATEST) == 0


def test_log_append_time(client: RawClient) -> None:
    client.create_topic("append-time", message_timestamp_type="LogAppendTime")
    before_ms = int(time.time() * 1000)
    answer = client.produce("append-time", bytes(build_batch([Record(b"k", b"v", 12345)])))
    assert before_ms <= answer.log_append_time_ms <= before_ms + 60_000
    found = client.list_offsets("append-time", -3)
    assert (found.offset, found.timestamp) == (0, answer.log_append_time_ms)


class TestIdempotence:
    """One producer, one partition; a batch of one record is one sequence number."""

    @pytest.fixture
    def producer(self, client: RawClient) -> tuple[int, int]:
        return client.init_producer()

    def send(
        self, client: RawClient, topic: str, producer: tuple[int, int], sequence: int, count: int = 1
    ) -> tuple[ErrorCode, int]:
        values = [f"{sequence + n}".encode() for n in range(count)]
        batch = one_batch(
            *values, producer_id=producer[0], producer_epoch=producer[1], base_sequence=sequence
        )
        answer = client.produce(topic, batch)
        return ErrorCode(answer.error_code), answer.base_offset

    def test_the_last_five_batches_are_known(
        self, client: RawClient, topic: str, producer: tuple[int, int]
    ) -> None:
        for sequence in range(0, 14, 2):
            assert self.send(client, topic, producer, sequence, 2) == (ErrorCode.NONE, sequence)
        for sequence in range(4, 14, 2):
            assert self.send(client, topic, producer, sequence, 2) == (ErrorCode.NONE, sequence)
        assert client.offset(topic, LATEST) == 14
        # Older ones cannot be told from a gap.
        error, _ = self.send(client, topic, producer, 2, 2)
        assert error in (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.DUPLICATE_SEQUENCE_NUMBER)
        assert client.offset(topic, LATEST) == 14
        assert client.values(topic) == [f"{n}".encode() for n in range(14)]

    def test_a_gap_is_out_of_order(self, client: RawClient, topic: str, producer: tuple[int, int]) -> None:
        assert self.send(client, topic, producer, 0)[0] is ErrorCode.NONE
        assert self.send(client, topic, producer, 2)[0] is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert self.send(client, topic, producer, 1)[0] is ErrorCode.NONE
        assert client.offset(topic, LATEST) == 2

    def test_an_old_epoch_is_fenced(self, client: RawClient, topic: str, producer: tuple[int, int]) -> None:
        producer_id, epoch = producer
        assert self.send(client, topic, (producer_id, epoch + 1), 0)[0] is ErrorCode.NONE
        assert self.send(client, topic, (producer_id, epoch), 0)[0] is ErrorCode.INVALID_PRODUCER_EPOCH
        assert (
            self.send(client, topic, (producer_id, epoch + 2), 5)[0] is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        )
        assert self.send(client, topic, (producer_id, epoch + 2), 0)[0] is ErrorCode.NONE

    def test_sequences_wrap(self, client: RawClient, topic: str, producer: tuple[int, int]) -> None:
        last = 2**31 - 1
        # A producer that nobody knows may begin anywhere.
        assert self.send(client, topic, producer, last - 1, 2)[0] is ErrorCode.NONE
        assert self.send(client, topic, producer, 0)[0] is ErrorCode.NONE
        assert self.send(client, topic, producer, last - 1, 2) == (ErrorCode.NONE, 0)
