"""The codecs that work in steps: the same bytes and messages as the others, and no long step."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.wire_random import random_message, versions_of
from tierlog.broker.work.slices import complete
from tierlog.errors import MalformedMessage
from tierlog.wire.codec import decode, decode_in_steps, encode, encode_bytes, encode_in_steps
from tierlog.wire.lazily import HEAVY, lazily
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tierlog.wire.primitives import MAX_TAGS, uvarint
from tierlog.wire.registry import APIS
from tierlog.wire.source import STEP


@pytest.mark.parametrize("key", sorted(APIS))
def test_steps_give_the_same(key: int) -> None:
    rng = Random(key)
    for cls in (APIS[key].request, APIS[key].response):
        for version in versions_of(cls):
            message = random_message(cls, version, rng)
            data = encode_bytes(message, version)
            assert b"".join(complete(encode_in_steps(message, version))) == data
            assert complete(decode_in_steps(cls, version, data)) == decode(cls, version, data)


def test_a_long_message_takes_many_steps() -> None:
    rows = [OffsetCommitRequestPartition(partition_index=n) for n in range(STEP * 100)]
    for topics in (
        [OffsetCommitRequestTopic(name="t", partitions=rows)],
        [OffsetCommitRequestTopic(name="t", partitions=[row]) for row in rows],
    ):
        message = OffsetCommitRequest(topics=topics)
        assert sum(1 for _ in encode_in_steps(message, 9)) >= 95
        assert sum(1 for _ in decode_in_steps(OffsetCommitRequest, 9, encode_bytes(message, 9))) >= 95


def test_a_damaged_message_is_malformed_in_steps_too() -> None:
    data = encode_bytes(MetadataRequest(topics=[MetadataRequestTopic(name="t")]), 12)
    for end in range(len(data)):
        with pytest.raises(MalformedMessage):
            complete(decode_in_steps(MetadataRequest, 12, data[:end]))


@pytest.mark.parametrize("version", [12, 13])
def test_tagged_fields_are_bounded_as_in_kafka(version: int) -> None:
    body = encode_bytes(MetadataRequest(topics=None), version)[:-1]
    for count in (MAX_TAGS, MAX_TAGS + 1):
        data = body + uvarint(count) + b"\x64\x00" * count
        if count == MAX_TAGS:
            decode(MetadataRequest, version, data)
            complete(decode_in_steps(MetadataRequest, version, data))
            continue
        with pytest.raises(MalformedMessage, match="tagged"):
            decode(MetadataRequest, version, data)
        with pytest.raises(MalformedMessage, match="tagged"):
            complete(decode_in_steps(MetadataRequest, version, data))


def test_elements_may_be_made_when_they_are_written() -> None:
    made = []

    def topics() -> list[MetadataRequestTopic]:
        made.append(1)
        return [MetadataRequestTopic(name=f"t{n}") for n in range(3)]

    message = MetadataRequest(topics=lazily(3, topics))
    assert encode(message, 12) == encode(MetadataRequest(topics=topics()), 12)
    assert encode(message, 12) == encode(message, 12)
    assert not made[4:]


def test_what_takes_long_to_make_is_a_step_of_its_own() -> None:
    """However few bytes it becomes: a described resource of which no row is asked for."""
    topics = [MetadataRequestTopic(name=f"t{n}") for n in range(30)]
    steps = {}
    for weight in (1, HEAVY):
        message = MetadataRequest(topics=lazily(len(topics), lambda: iter(topics), weight))
        steps[weight] = sum(1 for _ in encode_in_steps(message, 12))
        assert complete(encode_in_steps(message, 12)) == encode(MetadataRequest(topics=topics), 12)
    assert steps == {1: 1, HEAVY: len(topics) + 1}
