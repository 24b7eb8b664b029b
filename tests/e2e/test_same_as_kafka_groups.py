"""Groups: what a coordinator says to members, to strangers and to tools, as Apache Kafka's does. Rebalances have golden
transcripts of their own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.transcript import Scenario, Transcript, assert_same, versions
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.delete_groups import DeleteGroupsRequest
from tierlog.wire.messages.describe_groups import DescribeGroupsRequest
from tierlog.wire.messages.heartbeat import HeartbeatRequest
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tierlog.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
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

SOMETHING = bytes(range(16))
Topic = tuple[str, bytes]


def commit_of(group: str, topic: Topic, *rows: tuple[int, int], **fields: Any) -> OffsetCommitRequest:
    partitions = [
        OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="m")
        for index, offset in rows
    ]
    topics = [OffsetCommitRequestTopic(name=topic[0], topic_id=topic[1], partitions=partitions)]
    return OffsetCommitRequest(group_id=group, topics=topics, **fields)


def fetch(
    t: Transcript, label: str, group: str, *topics: Topic, partitions: tuple[int, ...] = (0, 1)
) -> None:
    """In the form of each version; without topics all that are committed."""
    for version in versions(9):
        if version < 8:
            asked = [
                OffsetFetchRequestTopic(name=name, partition_indexes=list(partitions)) for name, _ in topics
            ]
            request = OffsetFetchRequest(group_id=group, topics=asked or None)
        else:
            named = [
                OffsetFetchRequestTopics(name=name, topic_id=topic_id, partition_indexes=list(partitions))
                for name, topic_id in topics
            ]
            request = OffsetFetchRequest(
                groups=[OffsetFetchRequestGroup(group_id=group, topics=named or None)]
            )
        t.call(label, request, version)


def offsets(t: Transcript) -> None:
    t.await_coordinator()
    topic, other = t.create("t", 2), t.create("other")
    absent = (t.topic("absent"), SOMETHING)
    group = t.topic("group")
    for version in versions(8):
        t.call("commit", commit_of(f"{group}-{version}", topic, (0, 5), (1, 6)), version)
        t.call("commit to unknown partition", commit_of(group, topic, (0, 5), (7, 6)), version)
        t.call("commit to unknown topic", commit_of(group, absent, (0, 5)), version)
        t.call("negative offset", commit_of(group, topic, (0, -1)), version)
        t.call("member of none", commit_of(group, topic, (0, 5), member_id="who"), version)
        generation = commit_of(group, topic, (0, 5), generation_id_or_member_epoch=3)
        t.call("generation of none", generation, version)
        t.call("commit of empty group", commit_of("", topic, (0, 5)), version)
        instance = commit_of(group, topic, (0, 5), group_instance_id="i")
        t.call("instance of none", instance, version)
        t.call("no topics", OffsetCommitRequest(group_id=group), version)
        large = commit_of(group, topic, (0, 5))
        large.topics[0].partitions[0].committed_metadata = "x" * 5000
        t.call("large metadata", large, version)
    fetch(t, "committed", f"{group}-5", topic)
    fetch(t, "committed and not", f"{group}-5", topic, other)
    fetch(t, "all", f"{group}-5")
    fetch(t, "unknown group", t.topic("nobody"), topic)
    fetch(t, "unknown group, all", t.topic("nobody"))
    fetch(t, "unknown topic", f"{group}-5", absent, topic)
    fetch(t, "unknown partition", f"{group}-5", topic, partitions=(0, 7))
    fetch(t, "empty group", "", topic)
    two = [
        OffsetFetchRequestGroup(
            group_id=f"{group}-{n}",
            topics=[OffsetFetchRequestTopics(name=topic[0], topic_id=topic[1], partition_indexes=[0])],
        )
        for n in (2, 3)
    ]
    t.every_version("two groups", OffsetFetchRequest(groups=two))
    rows = [OffsetDeleteRequestPartition(partition_index=n) for n in (0, 7)]
    for label, name in (("known", f"{group}-5"), ("unknown", t.topic("nobody")), ("empty", "")):
        request = OffsetDeleteRequest(
            group_id=name, topics=[OffsetDeleteRequestTopic(name=topic[0], partitions=rows)]
        )
        t.call(f"delete offsets of {label}", request)
    fetch(t, "after", f"{group}-5", topic)


def strangers(t: Transcript) -> None:
    t.ignore("error_message")  # ours says more often what is wrong
    t.await_coordinator()
    nobody = t.topic("nobody")
    t.every_version("heartbeat", HeartbeatRequest(group_id=nobody, generation_id=1, member_id="who"))
    t.every_version("heartbeat, empty group", HeartbeatRequest(group_id="", generation_id=1, member_id="who"))
    for version in versions(13):
        request = LeaveGroupRequest(group_id=nobody)
        if version < 3:
            request.member_id = "who"
        else:
            request.members = [MemberIdentity(member_id="who"), MemberIdentity(group_instance_id="i")]
        t.call("leave", request, version)
    t.every_version("sync", SyncGroupRequest(group_id=nobody, generation_id=1, member_id="who"))
    t.every_version("describe", DescribeGroupsRequest(groups=[nobody, nobody]))
    for version in range(3, 7):
        asked = DescribeGroupsRequest(groups=[nobody], include_authorized_operations=True)
        t.call("describe with operations", asked, version)
    t.every_version("describe none", DescribeGroupsRequest())
    t.every_version("delete", DeleteGroupsRequest(groups_names=[nobody]))
    t.every_version("delete twice", DeleteGroupsRequest(groups_names=[nobody, nobody]))
    t.every_version("delete none", DeleteGroupsRequest())


def join_of(group: str, **fields: Any) -> JoinGroupRequest:
    given: dict[str, Any] = {
        "session_timeout_ms": 30_000,
        "rebalance_timeout_ms": 1_000,
        "protocol_type": "consumer",
        "protocols": [JoinGroupRequestProtocol(name="range", metadata=b"m")],
    }
    return JoinGroupRequest(group_id=group, **{**given, **fields})


def refused_joins(t: Transcript) -> None:
    t.await_coordinator()
    group = t.topic("group")
    for label, fields in (
        ("session too short", {"session_timeout_ms": 100}),
        ("session too long", {"session_timeout_ms": 10**8}),
        ("unknown member", {"member_id": "who"}),
        ("no protocols", {"protocols": []}),
        ("no protocol type", {"protocol_type": ""}),
    ):
        t.every_version(label, join_of(group, **fields))
    t.every_version("empty group", join_of(""))


def a_member(t: Transcript) -> None:
    """One member from joining to leaving, in each version."""
    t.ignore("error_message")
    t.await_coordinator()
    topic = t.create("t", 2)
    for version in versions(11):
        group = t.topic(f"group-{version}")
        joined = t.call("join", join_of(group), version)
        if joined.error_code:  # MEMBER_ID_REQUIRED
            joined = t.call("join again", join_of(group, member_id=joined.member_id), version)
        member, generation = joined.member_id, joined.generation_id
        sync = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[SyncGroupRequestAssignment(member_id=member, assignment=b"all")],
        )
        t.call(f"sync of {version}", sync, min(version, 5))
        for label, fields in (
            ("right", {}),
            ("old generation", {"generation_id": generation - 1}),
            ("later generation", {"generation_id": generation + 1}),
            ("other member", {"member_id": "who"}),
        ):
            given = {"group_id": group, "generation_id": generation, "member_id": member, **fields}
            t.call(f"heartbeat of {version}, {label}", HeartbeatRequest(**given), min(version, 4))
            given["generation_id_or_member_epoch"] = given.pop("generation_id")
            commit = commit_of(given.pop("group_id"), topic, (0, 3), **given)
            t.call(f"commit of {version}, {label}", commit, version + 1 if version else 2)
        again = SyncGroupRequest(group_id=group, generation_id=generation + 5, member_id=member)
        t.call(f"sync of {version}, wrong generation", again, min(version, 5))
        other_protocol = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member,
            protocol_type="connect",
            protocol_name="range",
        )
        t.call(f"sync of {version}, other type", other_protocol, min(version, 5))
        described = DescribeGroupsRequest(groups=[group])
        t.call(f"describe stable of {version}", described, min(version, 6))
        t.call(f"delete full of {version}", DeleteGroupsRequest(groups_names=[group]), min(version, 3))
        other_type = join_of(group, protocol_type="connect", member_id=member)
        t.call(f"join of {version}, other type", other_type, version)
        rows = [OffsetDeleteRequestPartition(partition_index=0)]
        offsets = [OffsetDeleteRequestTopic(name=topic[0], partitions=rows)]
        t.call(f"delete offsets of {version}", OffsetDeleteRequest(group_id=group, topics=offsets))
        leave = LeaveGroupRequest(group_id=group)
        if version < 3:
            leave.member_id = member
        else:
            leave.members = [MemberIdentity(member_id=member), MemberIdentity(member_id="who")]
        t.call(f"leave of {version}", leave, min(version, 5))
        t.call(f"describe empty of {version}", described, min(version, 6))
        t.call(f"delete empty of {version}", DeleteGroupsRequest(groups_names=[group]), min(version, 3))
        t.call(f"describe deleted of {version}", described, min(version, 6))


def listing(t: Transcript) -> None:
    t.await_coordinator()
    topic = t.create("t", 2)
    empty, member = t.topic("empty"), t.topic("member")
    t.ask(commit_of(empty, topic, (0, 1)))
    t.ask(join_of(member), 3)
    for label, states, types in (
        ("all", [], []),
        ("empty", ["Empty"], []),
        ("empty, lower case", ["empty"], []),
        ("waiting", ["CompletingRebalance", "Stable"], []),
        ("unknown state", ["Asleep"], []),
        ("classic", [], ["classic"]),
        ("classic in capitals", [], ["CLASSIC"]),
        ("consumer", [], ["consumer"]),
        ("unknown type", [], ["other"]),
    ):
        for version in versions(16):
            if (states and version < 4) or (types and version < 5):
                continue
            reply = t.ask(ListGroupsRequest(states_filter=states, types_filter=types), version)
            mine = [row for row in reply.groups if row.group_id in (empty, member)]
            mine.sort(key=lambda row: row.group_id)
            t.keep(f"{label} v{version}", [reply.error_code, mine])


SCENARIOS: list[Scenario] = [offsets, strangers, refused_joins, a_member, listing]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
