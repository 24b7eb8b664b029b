"""Commits, fetches, expiry and removal of offsets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.coordination.world import INITIAL_DELAY_MS, World, subscription
from tierlog.errors import ErrorCode
from tierlog.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from tierlog.wire.messages.offset_fetch import OffsetFetchRequestGroup

DAY_MS = 24 * 3_600_000
WEEK_MS = 7 * DAY_MS


def test_commit_and_fetch() -> None:
    world = World()
    (a,) = world.stable()
    assert world.commit(42, a, 1, metadata="m", leader_epoch=3) == 0
    row = world.fetch()
    assert (row.committed_offset, row.committed_leader_epoch, row.metadata) == (42, 3, "m")
    world.restart()
    assert world.fetch() == row


@pytest.mark.parametrize("group", ["g", "unknown"])
def test_an_unknown_offset_is_minus_one_and_no_error(group: str) -> None:
    world = World()
    world.commit(0)
    row = world.fetch(group, "other")
    assert (row.committed_offset, row.committed_leader_epoch, row.metadata, row.error_code) == (-1, -1, "", 0)


COMMITS = [
    ({}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"member": "nobody", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"member": "a", "generation": 2}, ErrorCode.ILLEGAL_GENERATION),
    ({"member": "a", "generation": -1}, ErrorCode.ILLEGAL_GENERATION),
    ({"member": "a", "generation": 1, "instance": "i"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"member": "a", "generation": 1}, ErrorCode.NONE),
    ({"group": "unknown", "member": "a", "generation": 1}, ErrorCode.ILLEGAL_GENERATION),
    ({"group": "unknown", "member": "a", "generation": 1, "version": 9}, ErrorCode.GROUP_ID_NOT_FOUND),
    ({"group": "simple"}, ErrorCode.NONE),
    ({"group": ""}, ErrorCode.NONE),
]


@pytest.mark.parametrize(("commit", "error"), COMMITS)
def test_who_may_commit(commit: dict[str, Any], error: ErrorCode) -> None:
    world = World()
    (a,) = world.stable()
    if commit.get("member") == "a":
        commit = {**commit, "member": a}
    assert world.commit(5, **commit) == error


def test_a_member_has_to_sync_before_it_commits() -> None:
    world = World()
    a, b = world.stable(2)
    world.send_join(member=a)
    assert world.commit(5, b, 1) == 0, "what it has read before the rebalance may be committed"
    world.send_join(member=b)
    assert world.commit(5, b, 2) == ErrorCode.REBALANCE_IN_PROGRESS


def test_commits_keep_the_session() -> None:
    world = World()
    (a,) = world.stable()
    for offset in range(5):
        world.advance(9_000)
        assert world.commit(offset, a, 1) == 0


def test_metadata_size_is_bounded() -> None:
    world = World()
    assert world.commit(1, metadata="x" * 4096) == 0
    assert world.commit(2, metadata="x" * 4097) == ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert world.fetch().committed_offset == 1
    assert world.commit(3, metadata=None) == 0
    assert world.fetch().metadata == ""


def test_fetch_all() -> None:
    world = World()
    for topic in ("t", "u"):
        for partition in range(2):
            world.commit(partition, topic=topic, partition=partition)
    answer = world.shard.fetch_offsets(OffsetFetchRequestGroup(group_id="g", topics=None), False)
    assert [(t.name, [p.partition_index for p in t.partitions]) for t in answer.topics] == [
        ("t", [0, 1]),
        ("u", [0, 1]),
    ]


def test_an_offset_held_by_a_transaction_is_unstable_for_who_asks() -> None:
    world = World()
    world.commit(7)
    world.shard.offsets.pending_transactional["g", "t", 0] = 1
    assert world.fetch().committed_offset == 7
    row = world.fetch(require_stable=True)
    assert (row.error_code, row.committed_offset) == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)


# -- expiry (KIP-211)


def test_offsets_of_a_simple_consumer_expire_after_the_last_commit() -> None:
    world = World()
    world.commit(1)
    world.commit(2, partition=1)
    world.advance(WEEK_MS - DAY_MS)
    world.commit(3, partition=1)
    world.advance(2 * DAY_MS)
    assert world.fetch().committed_offset == -1
    assert world.fetch(partition=1).committed_offset == 3
    world.advance(WEEK_MS)
    assert not world.shard.exists("g")
    world.restart()
    assert not world.shard.exists("g")


def test_offsets_of_an_empty_group_expire_a_week_after_it_became_empty() -> None:
    world = World()
    (a,) = world.stable(session_ms=1_800_000)
    world.commit(1, a, 1)
    for _ in range(8 * 24 * 4):
        world.advance(DAY_MS // 96)
        world.heartbeat(a, 1)
    world.leave(a)
    world.advance(WEEK_MS - DAY_MS)
    assert world.fetch().committed_offset == 1, "it was subscribed all the time"
    world.restart()
    world.advance(2 * DAY_MS)
    assert world.fetch().committed_offset == -1
    assert world.log[-1] == (b"\0\2\0\1g", None), "the group goes with its last offset"


def test_a_live_group_loses_only_what_it_no_longer_reads() -> None:
    world = World()
    (a,) = world.stable(session_ms=1_800_000)
    world.commit(1, a, 1)
    world.commit(1, a, 1, topic="formerly")
    for _ in range(8 * 24 * 4):
        world.advance(DAY_MS // 96)
        world.heartbeat(a, 1)
    assert world.fetch().committed_offset == 1
    assert world.fetch(topic="formerly").committed_offset == -1


def test_an_own_retention_time_is_honoured() -> None:
    world = World()
    world.commit(1, version=4, retention_ms=DAY_MS)
    world.advance(DAY_MS - 3_600_000)
    assert world.fetch().committed_offset == 1
    world.restart()
    world.advance(2 * 3_600_000)
    assert world.fetch().committed_offset == -1


def test_the_sweep_takes_many_groups_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.coordination.shard.SWEEP_GROUP_COUNT", 10)
    world = World()
    for number in range(35):
        world.commit(1, group=f"g{number}")
    world.advance(WEEK_MS + DAY_MS)
    assert world.shard.group_ids() == []


# -- OffsetDelete and deletion of topics


def delete(world: World, *topics: str, group: str = "g") -> tuple[int, list[int]]:
    rows = [OffsetDeleteRequestPartition(partition_index=0)]
    request = OffsetDeleteRequest(
        group_id=group, topics=[OffsetDeleteRequestTopic(name=t, partitions=rows) for t in topics]
    )
    ticket = world.ticket()
    world.carry_out(world.shard.decide_offset_delete(ticket, request))
    answer = world.answers[ticket]
    return answer.error_code, [topic.partitions[0].error_code for topic in answer.topics]


def test_offset_delete() -> None:
    world = World()
    assert delete(world, "t") == (ErrorCode.GROUP_ID_NOT_FOUND, [])
    world.commit(1)
    assert delete(world, "t", "other") == (0, [0, 0])
    assert world.fetch().committed_offset == -1


def test_offset_delete_spares_what_members_read() -> None:
    world = World()
    (a,) = world.stable(protocols={"range": subscription("t", "u")})
    world.commit(1, a, 1)
    world.commit(1, a, 1, topic="old")
    assert delete(world, "t", "old") == (0, [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, 0])
    assert world.fetch().committed_offset == 1
    world.leave(a)
    assert delete(world, "t") == (0, [0])


def test_offset_delete_of_a_group_that_is_no_consumer() -> None:
    world = World()
    world.stable(protocol_type="connect")
    assert delete(world, "t") == (ErrorCode.NON_EMPTY_GROUP, [])


def test_an_unreadable_subscription_counts_as_subscribed() -> None:
    world = World()
    world.stable(protocols={"range": b"?"})
    assert delete(world, "t") == (0, [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC])


def test_offsets_go_with_their_topic() -> None:
    world = World()
    world.commit(1)
    world.commit(1, topic="u")
    world.commit(1, group="h", partition=3)
    world.carry_out(world.shard.decide_topic_deletion(frozenset({"t", "x"})))
    assert world.fetch().committed_offset == -1
    assert world.fetch(group="h", partition=3).committed_offset == -1
    assert world.fetch(topic="u").committed_offset == 1


def test_a_commit_of_a_pending_member_is_refused() -> None:
    world = World()
    member = world.member_id()
    assert world.commit(1, member, 0) == ErrorCode.UNKNOWN_MEMBER_ID
    world.advance(INITIAL_DELAY_MS)
