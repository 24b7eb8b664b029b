"""What members send is bounded per group and per shard (I15)."""

from __future__ import annotations

from tests.unit.coordination.world import World
from tierlog.coordination.classic_group import ClassicGroup
from tierlog.errors import ErrorCode

MIB = 1 << 20


def test_members_of_7_mb_are_refused() -> None:
    world = World()
    for n in range(60):
        ticket = world.send_join(f"g{n}", version=3, protocols={"range": bytes(7_000_000)})
        assert world.answers[ticket].error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert world.shard.held.bytes == 0


def test_many_members_of_one_group() -> None:
    world = World()
    refused = 0
    for _ in range(80):
        ticket = world.send_join(version=3, protocols={"range": bytes(100_000)})
        if ticket in world.answers:
            assert world.answers[ticket].error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
            refused += 1
    assert refused == 39
    assert world.shard.held.bytes <= 4 * MIB
    honest = world.send_join("other", version=3)
    assert honest not in world.answers, "it waits for its rebalance"


def test_many_groups_of_one_shard() -> None:
    world = World()
    for n in range(200):
        ticket = world.send_join(f"g{n}", version=3, protocols={"range": bytes(900_000)})
        if ticket in world.answers:
            assert world.answers[ticket].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert 30 * MIB < world.shard.held.bytes <= 32 * MIB
    assert len(world.shard.groups) < 40, "a refused join makes no group"


def test_who_sends_no_more_than_before_is_never_refused() -> None:
    world = World(group_bytes_max=10_000, shard_bytes_max=10_000)
    ticket = world.send_join(version=3, protocols={"range": bytes(8_000)}, instance="i")
    world.advance(200)
    member = world.answers[ticket].member_id
    again = world.send_join(member=member, version=5, protocols={"range": bytes(8_000)}, instance="i")
    world.advance(200)
    assert world.answers[again].error_code == ErrorCode.NONE
    restarted = world.send_join(version=5, protocols={"range": bytes(8_000)}, instance="i")
    world.advance(200)
    assert world.answers[restarted].error_code == ErrorCode.NONE
    member = world.answers[restarted].member_id
    larger = world.send_join(member=member, version=5, protocols={"range": bytes(20_000)}, instance="i")
    assert world.answers[larger].error_code == ErrorCode.GROUP_MAX_SIZE_REACHED


def test_ids_that_were_given_out_and_what_is_given_back() -> None:
    world = World()
    for _ in range(1000):
        world.send_join(client_id="x" * 4000)
    group: ClassicGroup = world.shard.groups["g"]
    assert world.shard.held.bytes <= 4 * MIB
    assert len(group.pending_members) <= 1000
    world.advance(700_000)
    assert world.shard.held.bytes == 0
    joined = world.send_join(version=3)
    world.advance(200)
    assert world.shard.held.bytes > 0
    world.leave(world.answers[joined].member_id)
    world.advance(200)
    assert world.shard.held.bytes == 0
    world.restart()
    assert world.shard.held.bytes == 0
