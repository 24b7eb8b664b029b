"""Static members (KIP-345) and the replaced leader (KIP-814)."""

from __future__ import annotations

import pytest

from tests.unit.coordination.world import INITIAL_DELAY_MS, World
from tierlog.errors import ErrorCode


def static_group(world: World, *instances: str) -> list[str]:
    """A Stable group of static members, leader first."""
    joins = [world.send_join(instance=instance) for instance in instances]
    world.advance(len(instances) * INITIAL_DELAY_MS)
    members = [world.answers[ticket].member_id for ticket in joins]
    for member, instance in zip(members[1:], instances[1:], strict=True):
        world.send_sync(member, 1, instance=instance)
    world.send_sync(members[0], 1, {m: i.encode() for m, i in zip(members, instances, strict=True)})
    assert world.state() == "Stable"
    return members


def test_a_static_member_needs_no_second_join() -> None:
    world = World()
    (member,) = static_group(world, "i1")
    assert member.startswith("i1-")


def test_a_restarted_instance_takes_over_without_a_rebalance() -> None:
    world = World()
    _, old = static_group(world, "i1", "i2")
    answer = world.answers[world.send_join(instance="i2")]
    assert (answer.error_code, answer.generation_id, answer.skip_assignment) == (0, 1, False)
    assert world.state() == "Stable"
    new = answer.member_id
    assert world.heartbeat(old, 1, instance="i2") == ErrorCode.FENCED_INSTANCE_ID
    assert world.heartbeat(old, 1) == ErrorCode.UNKNOWN_MEMBER_ID
    assert world.heartbeat(new, 1, instance="i2") == ErrorCode.NONE
    assert world.answers[world.send_sync(new, 1, instance="i2")].assignment == b"i2"
    world.restart()
    assert world.heartbeat(new, 1, instance="i2") == ErrorCode.NONE, "the new member id is recorded"


@pytest.mark.parametrize("version", [5, 9])
def test_a_restarted_leader(version: int) -> None:
    world = World()
    old, follower = static_group(world, "i1", "i2")
    answer = world.answers[world.send_join(instance="i1", version=version)]
    assert world.state() == "Stable"
    if version >= 9:
        assert answer.skip_assignment
        assert answer.leader == answer.member_id
        assert [row.member_id for row in answer.members] == [answer.member_id, follower]
    else:
        assert (answer.leader, answer.members) == (old, []), "an old client must not assign anew"


def test_a_restart_while_the_group_completes_rebalances() -> None:
    world = World()
    joins = [world.send_join(instance=i) for i in ("i1", "i2")]
    world.advance(2 * INITIAL_DELAY_MS)
    old = world.answers[joins[1]].member_id
    sync = world.send_sync(old, 1, instance="i2")
    again = world.send_join(instance="i2")
    assert world.answers[sync].error_code == ErrorCode.FENCED_INSTANCE_ID
    assert again not in world.answers
    assert world.state() == "PreparingRebalance"


def test_a_restart_while_members_are_awaited() -> None:
    world = World()
    a, b = static_group(world, "i1", "i2")
    parked = world.send_join(member=b, instance="i2", protocols={"range": b"changed"})
    again = world.send_join(instance="i2")
    assert world.answers[parked].error_code == ErrorCode.FENCED_INSTANCE_ID
    world.send_join(member=a, instance="i1")
    assert world.answers[again].generation_id == 2


def test_a_restart_that_changes_the_protocol_rebalances() -> None:
    world = World()
    protocols = {"range": b"", "sticky": b""}
    joins = [world.send_join(instance=i, protocols=protocols) for i in ("i1", "i2")]
    world.advance(2 * INITIAL_DELAY_MS)
    members = [world.answers[ticket].member_id for ticket in joins]
    world.send_sync(members[0], 1, {})
    assert world.state() == "Stable"
    world.send_join(instance="i2", protocols={"sticky": b""})
    assert world.state() == "PreparingRebalance"


def test_a_static_member_that_is_away_keeps_its_place_until_its_session_ends() -> None:
    world = World()
    a, b = static_group(world, "i1", "i2")
    world.send_join(member=a, instance="i1", protocols={"range": b"changed"}, rebalance_ms=5_000)
    join = world.send_join(member=a, instance="i1", protocols={"range": b"changed"}, rebalance_ms=5_000)
    assert join not in world.answers
    world.advance(10_000)
    assert [row.member_id for row in world.answers[join].members] == [a]
    assert b not in world.shard.groups["g"].members


def test_a_rebalance_in_which_no_static_member_shows_up_waits_for_sessions() -> None:
    world = World()
    a, b = static_group(world, "i1", "i2")
    world.leave("", instance="i1")
    assert world.state() == "PreparingRebalance"
    world.advance(10_000)
    assert world.state() == "Empty"
    assert world.heartbeat(a, 1) == ErrorCode.UNKNOWN_MEMBER_ID
    assert world.heartbeat(b, 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_an_administrator_removes_by_instance_id() -> None:
    world = World()
    a, b = static_group(world, "i1", "i2")
    assert world.leave("", instance="i9").members[0].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert world.leave(a, instance="i2").members[0].error_code == ErrorCode.FENCED_INSTANCE_ID
    answer = world.leave("", instance="i2")
    assert (answer.members[0].error_code, answer.members[0].group_instance_id) == (0, "i2")
    assert b not in world.shard.groups["g"].members


def test_a_fenced_instance_can_neither_join_sync_nor_commit() -> None:
    world = World()
    _, old = static_group(world, "i1", "i2")
    world.send_join(instance="i2")
    fenced = ErrorCode.FENCED_INSTANCE_ID
    assert world.answers[world.send_join(member=old, instance="i2")].error_code == fenced
    assert world.answers[world.send_sync(old, 1, instance="i2")].error_code == fenced
    assert world.commit(5, old, 1, instance="i2") == fenced
