"""The hand-written functions against the compiled ones: same values, same bytes, same refusals."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.wire_random import random_message, versions_of
from tierlog.errors import MalformedMessage
from tierlog.types import Buffer
from tierlog.wire.codec import decode, encode
from tierlog.wire.decoder import compile_decoder
from tierlog.wire.encoder import compile_encoder
from tierlog.wire.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from tierlog.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from tierlog.wire.schema import Message

PRODUCE_VERSIONS = versions_of(ProduceRequest)
FETCH_VERSIONS = versions_of(FetchResponse)
NAMES = st.one_of(st.sampled_from(("", "t", "x" * 126, "x" * 127, "x" * 128, "é" * 63, "é" * 64)), st.text())
SIZES = st.sampled_from((0, 1, 61, 126, 127, 128, 16382, 16383, 16384, 2097150, 2097151, 2097152, 3000000))
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
IDS = st.binary(min_size=16, max_size=16)


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


def named(version: int, topic: Any, field: str, name: str, topic_id: bytes, since: int = 13) -> None:
    if version >= since:
        topic.topic_id = topic_id
    else:
        setattr(topic, field, name)


@settings(deadline=None)
@given(
    version=st.sampled_from(PRODUCE_VERSIONS), name=NAMES, topic_id=IDS, size=SIZES, index=INT32, acks=INT32
)
def test_produce_request_of_one_partition(
    version: int, name: str, topic_id: bytes, size: int, index: int, acks: int
) -> None:
    topic = TopicProduceData(partition_data=[PartitionProduceData(index=index, records=b"r" * size)])
    named(version, topic, "name", name, topic_id)
    message = ProduceRequest(acks=acks % 3 - 1, timeout_ms=index, topic_data=[topic])
    data = bytearray(b"??" + joined(encode(message, version)))
    generic = compile_decoder(ProduceRequest, version)(data, 2)
    assert generic == (message, len(data))
    assert decode(ProduceRequest, version, data, 2) == generic
    assert decode(ProduceRequest, version, memoryview(data), 2) == generic


@settings(max_examples=150, deadline=None)
@given(version=st.sampled_from(PRODUCE_VERSIONS), seed=st.integers(0, 1 << 32), cut=st.integers(0, 60))
def test_produce_request_of_any_bytes(version: int, seed: int, cut: int) -> None:
    rng = Random(seed)
    data = bytearray(joined(encode(random_message(ProduceRequest, version, rng), version)))
    if rng.random() < 0.5:
        part = PartitionProduceData(records=rng.randbytes(rng.randrange(300)))
        one = TopicProduceData(partition_data=[part])
        data = bytearray(joined(encode(ProduceRequest(topic_data=[one]), version)))
    for _ in range(rng.randrange(3)):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))
    if cut < 20:
        del data[len(data) - cut :]
    generic = compile_decoder(ProduceRequest, version)
    try:
        expected: Any = generic(data, 0)
    except Exception:  # whatever the compiled function raises, the codec calls it malformed
        with pytest.raises(MalformedMessage):
            decode(ProduceRequest, version, data)
        return
    assert decode(ProduceRequest, version, data) == expected


def test_produce_records_stay_writable() -> None:
    for version in PRODUCE_VERSIONS:
        topic = TopicProduceData(partition_data=[PartitionProduceData(records=b"abc")])
        data = bytearray(joined(encode(ProduceRequest(topic_data=[topic]), version)))
        for buffer in (data, memoryview(data)):
            message, _ = decode(ProduceRequest, version, buffer)
            records = message.topic_data[0].partition_data[0].records
            assert isinstance(records, memoryview) and not records.readonly
            records[0] = ord("X")
            assert b"Xbc" in data
            records[0] = ord("a")
        message, _ = decode(ProduceRequest, version, memoryview(data).toreadonly())
        records = message.topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview) and records.readonly


def same_encoding(message: Message, version: int) -> None:
    assert joined(encode(message, version)) == joined(compile_encoder(type(message), version)(message))


@settings(deadline=None)
@given(
    version=st.sampled_from(PRODUCE_VERSIONS),
    name=NAMES,
    topic_id=IDS,
    numbers=st.tuples(INT32, INT64, INT64, INT64, INT32),
    seed=st.integers(0, 1 << 32),
)
def test_produce_response(
    version: int, name: str, topic_id: bytes, numbers: tuple[int, int, int, int, int], seed: int
) -> None:
    index, base, time, start, throttle = numbers
    partition = PartitionProduceResponse(
        index=index, error_code=7, base_offset=base, log_append_time_ms=time, log_start_offset=start
    )
    topic = TopicProduceResponse(partition_responses=[partition])
    named(version, topic, "name", name, topic_id)
    same_encoding(ProduceResponse(responses=[topic], throttle_time_ms=throttle), version)
    same_encoding(random_message(ProduceResponse, version, Random(seed)), version)


@settings(deadline=None)
@given(
    version=st.sampled_from(FETCH_VERSIONS), name=NAMES, seed=st.integers(0, 1 << 32), sizes=st.lists(SIZES)
)
def test_fetch_response(version: int, name: str, seed: int, sizes: list[int]) -> None:
    rng = Random(seed)
    topics = []
    pieces: list[Buffer] = [b"first", memoryview(b"second")]
    none: list[Buffer] = []
    for _ in range(rng.randrange(3)):
        topic = FetchableTopicResponse(
            partitions=[
                PartitionData(
                    partition_index=index,
                    error_code=rng.choice((0, 1)),
                    high_watermark=rng.randrange(1 << 60),
                    last_stable_offset=rng.randrange(1 << 60),
                    log_start_offset=rng.randrange(1 << 60),
                    aborted_transactions=rng.choice((None, [])),
                    records=rng.choice((bytes(size), pieces, none, None)),
                )
                for index, size in enumerate(sizes)
            ]
        )
        named(version, topic, "topic", name, rng.randbytes(16))
        topics.append(topic)
    message = FetchResponse(responses=topics, throttle_time_ms=3)
    same_encoding(message, version)
    same_encoding(random_message(FetchResponse, version, rng), version)


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_fetch_records_are_passed_by_reference(version: int) -> None:
    first, second = bytearray(100), memoryview(bytes(50))
    partitions = [PartitionData(records=first), PartitionData(partition_index=1, records=[second, second])]
    buffers = encode(FetchResponse(responses=[FetchableTopicResponse(partitions=partitions)]), version)
    assert sum(buffer is first for buffer in buffers) == 1
    assert sum(buffer is second for buffer in buffers) == 2


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_many_partitions_and_topics(version: int) -> None:
    for topics, partitions in ((1, 125), (1, 126), (1, 127), (125, 1), (126, 1), (127, 0), (2, 300)):
        message = FetchResponse(
            responses=[
                FetchableTopicResponse(
                    partitions=[PartitionData(partition_index=i, records=b"r") for i in range(partitions)]
                )
                for _ in range(topics)
            ]
        )
        same_encoding(message, version)
