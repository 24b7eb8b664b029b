"""ListOffsets and OffsetForLeaderEpoch answer the same whether the records are on the local disk or only in the object
store: against a list of records, over local deletion, restarts (each one a leader epoch) and DeleteRecords.

One real broker in this process per example, with several topics of one partition; the store is in memory.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.unit.offload.brokers import Running, World, until
from tierlog.broker.handlers import list_offsets, offset_for_leader_epoch
from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.slices import complete
from tierlog.errors import ErrorCode
from tierlog.records.batch import Compression
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from tierlog.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

VERSION = 11
TIMESTAMPS = st.integers(1_000, 1_060)  # few, so that equal ones and all orders come up
COMPRESSIONS = st.sampled_from(Compression)


class PlannedBatch(NamedTuple):
    timestamps: list[int]
    compression: Compression
    rolls: bool
    """Whether a new segment begins with it."""


BATCHES = st.lists(
    st.builds(PlannedBatch, st.lists(TIMESTAMPS, min_size=1, max_size=4), COMPRESSIONS, st.booleans()),
    min_size=1,
    max_size=8,
)


@dataclass
class PlannedTopic:
    """``sessions``: what is written between two starts of the broker."""

    sessions: list[list[PlannedBatch]]
    is_append_time: bool
    cut: float
    """Part of the log that DeleteRecords takes away."""
    gone: float
    """Part of the tiered segments that local deletion takes first; then all of them."""
    name: str = ""
    timestamps: list[int] = field(default_factory=list)
    """Of the records, by offset."""
    epochs: list[tuple[int, int]] = field(default_factory=list)
    """(leader epoch, first offset)"""


TOPICS = st.lists(
    st.builds(
        PlannedTopic,
        st.lists(BATCHES, min_size=3, max_size=3),
        st.booleans(),
        st.sampled_from([0.0, 0.0, 0.3, 0.7]),
        st.floats(0, 1),
    ),
    min_size=5,
    max_size=5,
)


class Answer(NamedTuple):
    error: int
    offset: int
    timestamp: int
    leader_epoch: int


# Not shrunk: an example takes a second.
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(TOPICS)
def test_the_answers_do_not_depend_on_where_the_records_are(topics: list[PlannedTopic]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(World(Path(directory), monkeypatch), topics))


async def scenario(world: World, topics: list[PlannedTopic]) -> None:
    for number in range(3):
        async with world.broker() as running:
            for index, topic in enumerate(topics):
                if number == 0:
                    topic.name = f"t{index}"
                    kind = "LogAppendTime" if topic.is_append_time else "CreateTime"
                    await running.create(topic.name, local_retention_bytes="-1", message_timestamp_type=kind)
                write(await running.leading(topic.name), topic, number)
            if number < 2:
                continue
            for topic in topics:
                await check(running, topic)
    async with world.broker() as running:
        for topic in topics:
            partition = await running.leading(topic.name)
            assert partition.log.local_log_start_offset > 0
            # At once: what the tier holds is asked while its head is still being read.
            special = await ask(running, topic.name, [-5, -6])
            assert [answer.offset for answer in special] == [len(topic.timestamps) - 1, len(topic.timestamps)]
            await check_answers(running, topic, partition.log_start_offset)


def write(partition: Partition, topic: PlannedTopic, number: int) -> None:
    topic.epochs.append((partition.leader_epoch, partition.log.log_end_offset))
    for planned in topic.sessions[number]:
        now_ms = planned.timestamps[0]
        if planned.rolls:
            partition.log.roll(now_ms)
        records = [Record(b"k", b"value", timestamp) for timestamp in planned.timestamps]
        batch = build_batch(records, compression=planned.compression)
        assert partition.append(memoryview(batch), False, now_ms).error is ErrorCode.NONE
        topic.timestamps += [now_ms if topic.is_append_time else each for each in planned.timestamps]
    partition.log.roll(2_000)


async def check(running: Running, topic: PlannedTopic) -> None:
    """Local, tiered, partly remote, remote but for the active segment."""
    partition = await running.leading(topic.name)
    log = partition.log
    await until(lambda: partition.high_watermark == len(topic.timestamps))  # flushed
    start = int(len(topic.timestamps) * topic.cut)
    assert await running.broker.replicas.advance_log_start(partition, start) is ErrorCode.NONE
    local = await check_answers(running, topic, start)
    tier = await running.tiered(partition)
    assert tier.end_offset == len(topic.timestamps)
    assert await check_answers(running, topic, start) == local
    tiered = [segment.end_offset for segment in log.sealed_segments()]
    for end in (tiered[int((len(tiered) - 1) * topic.gone)], tiered[-1]):
        running.broker.replicas.unlink_later(log.delete_segments_below(end, 0))
        assert log.local_log_start_offset == max(end, start)
        assert await check_answers(running, topic, start) == local
        special = await ask(running, topic.name, [-4, -5, -6])
        assert [answer.offset for answer in special] == [
            max(end, start),
            tier.end_offset - 1,
            tier.end_offset,
        ]


async def check_answers(running: Running, topic: PlannedTopic, start: int) -> list[object]:
    """All answers that shall stay the same; those on timestamps are those of the plain list."""
    asked = [0, *range(999, 1_063), 9_999]
    found = await ask(running, topic.name, asked)
    expected = [first_at_or_after(topic, timestamp, start) for timestamp in asked]
    assert found == expected
    visible = topic.timestamps[start:]
    largest = max(visible, default=-1)
    (answer,) = await ask(running, topic.name, [-3])
    assert answer == (first_at_or_after(topic, largest, start) if visible else UNKNOWN)
    earliest, latest = await ask(running, topic.name, [-2, -1])
    assert (earliest.offset, latest.offset) == (start, len(topic.timestamps))
    epochs = await ask_epochs(running, topic.name, range(-1, topic.epochs[-1][0] + 2))
    return [found, answer, earliest, epochs]


UNKNOWN = Answer(0, -1, -1, -1)


def first_at_or_after(topic: PlannedTopic, timestamp: int, start: int) -> Answer:
    for offset, found in enumerate(topic.timestamps):
        if offset >= start and found >= timestamp:
            epoch = max(epoch for epoch, first in topic.epochs if first <= offset)
            return Answer(0, offset, found, epoch)
    return UNKNOWN


def context(api_key: int, version: int) -> RequestContext:
    session = cast(Any, SimpleNamespace(client_software="test", closing=False, sent_away=None, traffic=None))
    return RequestContext(api_key, version, 1, "test", "PLAINTEXT", "127.0.0.1", 0.0, session)


async def ask(running: Running, topic: str, timestamps: Sequence[int]) -> list[Answer]:
    """ListOffsets of partition 0, one request per timestamp."""
    answers = []
    for timestamp in timestamps:
        asked = [ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=timestamp)]
        request = ListOffsetsRequest(
            topics=[ListOffsetsTopic(name=topic, partitions=asked)], timeout_ms=5_000
        )
        reply = complete(list_offsets.handle(running.broker.services, context(2, VERSION), request))
        response = reply if isinstance(reply, list_offsets.ListOffsetsResponse) else await reply
        row = response.topics[0].partitions[0]
        answers.append(Answer(row.error_code, row.offset, row.timestamp, row.leader_epoch))
    return answers


async def ask_epochs(running: Running, topic: str, epochs: Sequence[int]) -> list[tuple[int, int]]:
    """OffsetForLeaderEpoch of partition 0: (leader epoch, end offset) each."""
    answers = []
    for epoch in epochs:
        asked = OffsetForLeaderPartition(partition=0, current_leader_epoch=-1, leader_epoch=epoch)
        request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=topic, partitions=[asked])])
        response = complete(offset_for_leader_epoch.handle(running.broker.services, context(23, 4), request))
        row = response.topics[0].partitions[0]
        assert row.error_code == ErrorCode.NONE
        answers.append((row.leader_epoch, row.end_offset))
    return answers
