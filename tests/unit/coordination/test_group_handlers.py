"""The group handlers over a real runtime: what they make of versions, topic ids and several shards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_handlers import settled
from tests.unit.coordination.test_shard_runtime import MemoryLog
from tests.unit.coordination.world import subscription
from tierlog.broker.groups.shard_runtime import ShardRuntime
from tierlog.broker.handlers import (
    delete_groups,
    describe_groups,
    find_coordinator,
    heartbeat,
    join_group,
    leave_group,
    list_groups,
    offset_commit,
    offset_delete,
    offset_fetch,
    sync_group,
)
from tierlog.broker.work.slices import Slices, complete
from tierlog.coordination.config import GroupConfig
from tierlog.errors import ErrorCode
from tierlog.metadata.records import BrokerRegistration, Endpoint
from tierlog.wire.codec import encode
from tierlog.wire.messages.delete_groups import DeleteGroupsRequest
from tierlog.wire.messages.describe_groups import DescribeGroupsRequest
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest
from tierlog.wire.messages.heartbeat import HeartbeatRequest
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tierlog.wire.messages.leave_group import LeaveGroupRequest
from tierlog.wire.messages.list_groups import ListGroupsRequest
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tierlog.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from tierlog.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

SHARDS = 3
TOPIC_ID = b"\1" * 16
GROUPS = ["a", "b", "c"]  # one per shard


class Cluster:
    """Services of a broker that leads all shards and knows the topic ``t`` of two partitions."""

    def __init__(self) -> None:
        config = GroupConfig(group_initial_rebalance_delay_ms=1)
        self.groups = ShardRuntime(asyncio.get_running_loop(), config, lambda: self.partition_count)
        self.slices = Slices(asyncio.get_running_loop())
        self.partition_count = SHARDS
        self.logs = [MemoryLog() for _ in range(SHARDS)]
        self.broker_id = 1
        self.topics_by_name: dict[str, Any] = {}
        self.topics_by_id: dict[bytes, Any] = {}
        self.add_topic("t", TOPIC_ID, 2)
        self.add_topic("__consumer_offsets", b"\2" * 16, SHARDS)
        endpoint = Endpoint("PLAINTEXT", "h", 9)
        registration = BrokerRegistration("incarnation", (endpoint,))
        self.brokers = {1: SimpleNamespace(is_active=True, registration=registration)}
        self.topic = self.topics_by_name.get
        self.image = self
        self.topic_creation = self
        self.replicas = self

    def add_topic(self, name: str, topic_id: bytes, count: int) -> None:
        partitions = {index: SimpleNamespace(leader=1) for index in range(count)}
        topic = SimpleNamespace(name=name, topic_id=topic_id, partition_count=count, partitions=partitions)
        self.topics_by_name[name] = self.topics_by_id[topic_id] = topic

    async def settled(self) -> None:
        """All logs are open."""

    async def ensure_offsets_topic(self) -> ErrorCode:
        self.add_topic("__consumer_offsets", b"\2" * 16, SHARDS)
        self.partition_count = SHARDS
        return ErrorCode.NONE

    async def call(self, handler: Any, request: Any, version: int) -> Any:
        """The response, which must be expressible in that version."""
        ctx = SimpleNamespace(
            api_version=version, listener="PLAINTEXT", client_id=None, peer_host="127.0.0.1"
        )
        response = handler.handle(self, ctx, request)
        if isinstance(response, Generator):
            response = complete(response)
        if not hasattr(response, "FIELDS"):
            response = await asyncio.wait_for(settled(response), PATIENT_S)
        encode(response, version)
        return response

    async def commit(self, group: str, offset: int, version: int = 8, **topic: Any) -> list[tuple[int, int]]:
        rows = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=offset)
            for index in topic.pop("partitions", [0])
        ]
        asked = OffsetCommitRequestTopic(partitions=rows, **(topic or {"name": "t"}))
        request = OffsetCommitRequest(group_id=group, topics=[asked])
        response = await self.call(offset_commit, request, version)
        return [(row.partition_index, row.error_code) for t in response.topics for row in t.partitions]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    for index, log in enumerate(cluster.logs):
        cluster.groups.lead(index, log)
    while any(led.shard is None for led in cluster.groups.led()):
        await asyncio.sleep(0)
    assert [cluster.groups.partition_of(group) for group in GROUPS] == [1, 2, 0]
    yield cluster
    cluster.groups.close()


async def test_commit_takes_out_what_does_not_exist(cluster: Cluster) -> None:
    assert await cluster.commit("a", 1) == [(0, 0)]
    assert await cluster.commit("a", 1, name="nope") == [(0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)]
    assert await cluster.commit("a", 1, name="t", partitions=[1, 2, -1]) == [
        (1, 0),
        (2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (-1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    rows = [OffsetCommitRequestPartition(partition_index=index) for index in (0, 9)]
    topics = [OffsetCommitRequestTopic(name="t", partitions=rows)]
    answered = await cluster.call(offset_commit, OffsetCommitRequest(group_id="a", topics=topics), 8)
    assert len(answered.topics) == 1, "each topic is answered once"
    stranger = OffsetCommitRequest(group_id="a", generation_id_or_member_epoch=3, topics=topics)
    stranger.topics[0].partitions = rows[:1]
    answered = await cluster.call(offset_commit, stranger, 8)
    assert answered.topics[0].partitions[0].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert await cluster.commit("a", 2, version=10, topic_id=TOPIC_ID) == [(0, 0)]
    assert await cluster.commit("a", 2, version=10, topic_id=b"x" * 16) == [(0, ErrorCode.UNKNOWN_TOPIC_ID)]


async def test_commit_where_nobody_leads(cluster: Cluster) -> None:
    cluster.groups.resign(1)
    rows = await cluster.commit("a", 1, name="t", partitions=[0, 7])
    assert rows == [(0, ErrorCode.NOT_COORDINATOR), (7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)]


@pytest.mark.parametrize("version", range(1, 8))
async def test_fetch_of_one_group(cluster: Cluster, version: int) -> None:
    await cluster.commit("a", 5)
    asked = [OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1])]
    response = await cluster.call(offset_fetch, OffsetFetchRequest(group_id="a", topics=asked), version)
    assert [row.committed_offset for row in response.topics[0].partitions] == [5, -1]
    if version >= 2:
        response = await cluster.call(offset_fetch, OffsetFetchRequest(group_id="a", topics=None), version)
        assert [row.committed_offset for row in response.topics[0].partitions] == [5]
    cluster.groups.resign(1)
    response = await cluster.call(offset_fetch, OffsetFetchRequest(group_id="a", topics=asked), version)
    assert response.error_code == ErrorCode.NOT_COORDINATOR
    if version == 1:
        assert response.topics[0].partitions[0].error_code == ErrorCode.NOT_COORDINATOR


@pytest.mark.parametrize("version", [8, 9])
async def test_fetch_of_several_groups(cluster: Cluster, version: int) -> None:
    for offset, group in enumerate(GROUPS):
        await cluster.commit(group, offset)
    cluster.groups.resign(2)
    asked = [
        OffsetFetchRequestGroup(
            group_id=group, topics=[OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
        )
        for group in GROUPS
    ]
    response = await cluster.call(offset_fetch, OffsetFetchRequest(groups=asked), version)
    assert [group.error_code for group in response.groups] == [0, ErrorCode.NOT_COORDINATOR, 0]
    assert response.groups[2].topics[0].partitions[0].committed_offset == 2


async def test_fetch_by_topic_id(cluster: Cluster) -> None:
    await cluster.commit("a", 5)
    wanted = [
        OffsetFetchRequestTopics(topic_id=TOPIC_ID, partition_indexes=[0]),
        OffsetFetchRequestTopics(topic_id=b"x" * 16, partition_indexes=[0]),
    ]
    asked = [OffsetFetchRequestGroup(group_id="a", topics=wanted)]
    response = await cluster.call(offset_fetch, OffsetFetchRequest(groups=asked), 10)
    known, unknown = response.groups[0].topics
    assert (known.topic_id, known.partitions[0].committed_offset) == (TOPIC_ID, 5)
    assert unknown.partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID
    asked = [OffsetFetchRequestGroup(group_id="a", topics=None)]
    response = await cluster.call(offset_fetch, OffsetFetchRequest(groups=asked), 10)
    assert [topic.topic_id for topic in response.groups[0].topics] == [TOPIC_ID]
    del cluster.topics_by_name["t"]
    asked = [OffsetFetchRequestGroup(group_id="a", topics=None)]
    response = await cluster.call(offset_fetch, OffsetFetchRequest(groups=asked), 10)
    assert response.groups[0].topics == []


@pytest.mark.parametrize("version", [3, 9])
async def test_a_member_from_join_to_leave(cluster: Cluster, version: int) -> None:
    offered = [JoinGroupRequestProtocol(name="range", metadata=subscription("t"))]
    join = JoinGroupRequest(
        group_id="a", session_timeout_ms=10_000, protocol_type="consumer", protocols=offered
    )
    joined = await cluster.call(join_group, join, version)
    if version >= 4:
        assert joined.error_code == ErrorCode.MEMBER_ID_REQUIRED
        join.member_id = joined.member_id
        joined = await cluster.call(join_group, join, version)
    member = joined.member_id
    assert joined.leader == member
    parts = [SyncGroupRequestAssignment(member_id=member, assignment=b"all")]
    sync = SyncGroupRequest(group_id="a", generation_id=1, member_id=member, assignments=parts)
    sync.protocol_type = "consumer"
    refused = await cluster.call(sync_group, sync, 5)
    assert refused.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "both are demanded"
    sync.protocol_name = "range"
    assert (await cluster.call(sync_group, sync, 5)).assignment == b"all"
    sync.protocol_type = sync.protocol_name = None
    assert (await cluster.call(sync_group, sync, 4)).assignment == b"all"
    beat = HeartbeatRequest(group_id="a", generation_id=1, member_id=member)
    assert (await cluster.call(heartbeat, beat, 4)).error_code == 0
    listed = await cluster.call(list_groups, ListGroupsRequest(), 5)
    assert [(g.group_id, g.group_state) for g in listed.groups] == [("a", "Stable")]
    described = await cluster.call(
        describe_groups, DescribeGroupsRequest(groups=["a", "zz"], include_authorized_operations=True), 6
    )
    assert [g.error_code for g in described.groups] == [0, ErrorCode.GROUP_ID_NOT_FOUND]
    assert described.groups[0].members[0].client_host == "/127.0.0.1"
    assert [g.authorized_operations for g in described.groups] == [3400, -(2**31)]
    leave = LeaveGroupRequest(group_id="a", member_id=member)
    assert (await cluster.call(leave_group, leave, 2)).error_code == 0
    deleted = await cluster.call(delete_groups, DeleteGroupsRequest(groups_names=["a", "a", "zz"]), 3)
    assert [(r.group_id, r.error_code) for r in deleted.results] == [
        ("a", 0),
        ("zz", ErrorCode.GROUP_ID_NOT_FOUND),
    ]


async def test_while_a_shard_loads(cluster: Cluster) -> None:
    cluster.groups.lead(1, MemoryLog())
    cluster.groups.led()[1].shard = None
    beat = HeartbeatRequest(group_id="a", generation_id=1, member_id="m")
    assert (await cluster.call(heartbeat, beat, 4)).error_code == 0, "taken without a look"
    loading = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert (await cluster.call(list_groups, ListGroupsRequest(), 5)).error_code == loading
    described = await cluster.call(describe_groups, DescribeGroupsRequest(groups=["a", "c"]), 6)
    assert [g.error_code for g in described.groups] == [loading, ErrorCode.GROUP_ID_NOT_FOUND]
    deleted = await cluster.call(delete_groups, DeleteGroupsRequest(groups_names=["a"]), 3)
    assert deleted.results[0].error_code == loading


async def test_list_waits_for_what_is_not_committed(cluster: Cluster) -> None:
    log = cluster.logs[1]
    log.replicated = False
    commit = asyncio.ensure_future(cluster.commit("a", 1))
    await asyncio.sleep(0.01)
    listing = asyncio.ensure_future(cluster.call(list_groups, ListGroupsRequest(), 5))
    await asyncio.sleep(0.01)
    assert not commit.done()
    assert not listing.done()
    log.commit()
    assert await commit == [(0, 0)]
    assert [g.group_id for g in (await listing).groups] == ["a"]


async def test_offset_delete(cluster: Cluster) -> None:
    await cluster.commit("a", 1)
    rows = [OffsetDeleteRequestPartition(partition_index=0)]
    topics = [OffsetDeleteRequestTopic(name=name, partitions=rows) for name in ("t", "nope")]
    response = await cluster.call(offset_delete, OffsetDeleteRequest(group_id="a", topics=topics), 0)
    assert [(t.name, t.partitions[0].error_code) for t in response.topics] == [
        ("t", 0),
        ("nope", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    await cluster.commit("a", 1)
    rows = [OffsetDeleteRequestPartition(partition_index=index) for index in (1, 2, -1)]
    request = OffsetDeleteRequest(group_id="a", topics=[OffsetDeleteRequestTopic(name="t", partitions=rows)])
    response = await cluster.call(offset_delete, request, 0)
    assert [[(row.partition_index, row.error_code) for row in t.partitions] for t in response.topics] == [
        [(1, 0), (2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), (-1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)]
    ]
    response = await cluster.call(offset_delete, OffsetDeleteRequest(group_id="", topics=topics), 0)
    assert response.error_code == ErrorCode.INVALID_GROUP_ID
    response = await cluster.call(offset_delete, OffsetDeleteRequest(group_id="b", topics=topics), 0)
    assert (response.error_code, response.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])


@pytest.mark.parametrize("version", [0, 3])
async def test_find_one_coordinator(cluster: Cluster, version: int) -> None:
    response = await cluster.call(find_coordinator, FindCoordinatorRequest(key="a"), version)
    assert (response.node_id, response.host, response.port, response.error_code) == (1, "h", 9, 0)


async def test_find_several_coordinators_makes_the_topic(cluster: Cluster) -> None:
    del cluster.topics_by_name["__consumer_offsets"]
    cluster.partition_count = 0
    response = await cluster.call(find_coordinator, FindCoordinatorRequest(coordinator_keys=GROUPS), 4)
    assert [(c.key, c.node_id) for c in response.coordinators] == [("a", 1), ("b", 1), ("c", 1)]


async def test_find_no_coordinator(cluster: Cluster) -> None:
    cluster.topics_by_name["__consumer_offsets"].partitions[1].leader = -1
    response = await cluster.call(find_coordinator, FindCoordinatorRequest(coordinator_keys=["a", "b"]), 4)
    errors = [c.error_code for c in response.coordinators]
    assert errors == [ErrorCode.COORDINATOR_NOT_AVAILABLE, 0]
    cluster.brokers[1].is_active = False
    response = await cluster.call(find_coordinator, FindCoordinatorRequest(key="b"), 2)
    assert (response.error_code, response.node_id) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, -1)


@pytest.mark.parametrize(("key_type", "error"), [(1, 0), (2, ErrorCode.INVALID_REQUEST)])
async def test_other_kinds_of_coordinators(cluster: Cluster, key_type: int, error: int) -> None:
    request = FindCoordinatorRequest(key_type=key_type, coordinator_keys=["x"])
    assert (await cluster.call(find_coordinator, request, 6)).coordinators[0].error_code == error


async def test_a_member_offers_a_bounded_number_of_protocols(cluster: Cluster) -> None:
    for count, error in (
        (join_group.MAX_PROTOCOLS, ErrorCode.MEMBER_ID_REQUIRED),
        (join_group.MAX_PROTOCOLS + 1, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ):
        protocols = [JoinGroupRequestProtocol(name=f"p{n}") for n in range(count)]
        request = JoinGroupRequest(
            group_id="many", session_timeout_ms=10_000, protocol_type="consumer", protocols=protocols
        )
        assert (await cluster.call(join_group, request, 9)).error_code == error
