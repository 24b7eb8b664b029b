"""Commits that a connection sends without waiting: in order, answered in order, and flushed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tests.unit.broker.test_config_effects import create, running, until
from tests.unit.broker.test_handlers import StuckFlusher
from tests.unit.broker.test_waiters_end import Peer, connected, waiting_in_groups
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode
from tierlog.metadata.internal_topics import OFFSETS_TOPIC
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)

PARTITIONS = 120
VERSION = 8


async def ready(broker: Broker, peer: Peer) -> Partition:
    """The one partition of the coordinators."""
    await create(broker, PARTITIONS)
    peer.send(FindCoordinatorRequest(key="g"), 2)
    await peer.receive(FindCoordinatorResponse, 2)
    await until(lambda: any(led.shard is not None for led in broker.groups.led()))
    found = broker.replicas.by_name(OFFSETS_TOPIC, 0)
    assert isinstance(found, Partition)
    return found


def commit_of(offset: int, *indexes: int) -> OffsetCommitRequest:
    rows = [OffsetCommitRequestPartition(partition_index=n, committed_offset=offset) for n in indexes]
    return OffsetCommitRequest(group_id="g", topics=[OffsetCommitRequestTopic(name="t", partitions=rows)])


async def committed(peer: Peer, index: int) -> int:
    wanted = OffsetFetchRequestTopics(name="t", partition_indexes=[index])
    peer.send(OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=[wanted])]), VERSION)
    answer = await peer.receive(OffsetFetchResponse, VERSION)
    offset: int = answer.groups[0].topics[0].partitions[0].committed_offset
    return offset


async def answered(peer: Peer) -> dict[int, int]:
    answer = await peer.receive(OffsetCommitResponse, VERSION)
    return {row.partition_index: row.error_code for topic in answer.topics for row in topic.partitions}


async def test_many_at_once_keep_their_order(tmp_path: Path) -> None:
    async with running(tmp_path, offsets_topic_num_partitions="1") as broker, connected(broker) as peer:
        partition = await ready(broker, peer)
        sent = []
        for offset in range(100):
            # Short ones, long ones that are done in steps, and some that are refused in part.
            indexes: Any = (offset, 7) if offset % 5 else range(PARTITIONS)
            indexes = (7, PARTITIONS) if not offset % 7 else indexes
            sent.append(indexes)
            peer.send(commit_of(offset, *indexes), VERSION)
        for indexes in sent:
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert await answered(peer) == {n: unknown if n == PARTITIONS else 0 for n in indexes}
        assert await committed(peer, 7) == 99
        assert await committed(peer, 110) == 95
        assert partition.high_watermark == partition.log.log_end_offset


async def test_those_of_one_turn_are_flushed_together(tmp_path: Path) -> None:
    async with running(tmp_path, offsets_topic_num_partitions="1") as broker, connected(broker) as peer:
        partition = await ready(broker, peer)
        flusher, partition.flusher = partition.flusher, cast(Any, StuckFlusher())
        for offset in range(20):
            peer.send(commit_of(offset, 1), VERSION)
        await until(lambda: waiting_in_groups(broker) == 20)
        async with connected(broker) as leaves:
            for _ in range(20):
                leaves.send(commit_of(1, 3), VERSION)
            await until(lambda: waiting_in_groups(broker) == 40)
        await until(lambda: waiting_in_groups(broker) == 20)
        assert partition.high_watermark < partition.log.log_end_offset, "nothing is on the disk"
        partition.flusher = flusher
        flusher.request(partition)
        for _ in range(20):
            assert await answered(peer) == {1: 0}
        assert await committed(peer, 1) == 19
        assert await committed(peer, 3) == 1, "the decision counts, though its client has left"
