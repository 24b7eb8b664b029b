"""ListGroups, DescribeGroups, DeleteGroups."""

from __future__ import annotations

import pytest

from tests.unit.coordination.world import World, subscription
from tierlog.errors import ErrorCode


def world_with_groups() -> tuple[World, str]:
    world = World()
    (member,) = world.stable()
    world.commit(1, group="simple")
    world.member_id(group="pending")
    return world, member


LISTS: list[tuple[list[str], list[str], list[str]]] = [
    ([], [], ["g", "pending", "simple"]),
    (["stable"], [], ["g"]),
    (["Empty", "Dead"], [], ["pending", "simple"]),
    (["nonsense"], [], []),
    ([], ["Classic"], ["g", "pending", "simple"]),
    ([], ["consumer"], []),
]


@pytest.mark.parametrize(("states", "types", "names"), LISTS)
def test_list(states: list[str], types: list[str], names: list[str]) -> None:
    world, _ = world_with_groups()
    assert sorted(row.group_id for row in world.shard.list_groups(states, types)) == names


def test_list_tells_protocol_state_and_type() -> None:
    world, _ = world_with_groups()
    row = world.shard.list_groups(["Stable"], [])[0]
    assert (row.protocol_type, row.group_state, row.group_type) == ("consumer", "Stable", "classic")


def test_describe_a_stable_group() -> None:
    world, member = world_with_groups()
    group = world.shard.describe_group("g", 6)
    assert (group.group_state, group.protocol_type, group.protocol_data) == ("Stable", "consumer", "range")
    row = group.members[0]
    assert (row.member_id, row.client_id, row.client_host) == (member, "c", "/127.0.0.1")
    assert (row.member_metadata, row.member_assignment) == (subscription("t"), b"0")


def test_a_rebalancing_group_keeps_its_protocol_to_itself() -> None:
    world, member = world_with_groups()
    world.send_join(member=world.member_id())
    group = world.shard.describe_group("g", 6)
    assert (group.group_state, group.protocol_data) == ("PreparingRebalance", "")
    assert group.members[0].member_id == member
    assert group.members[0].member_metadata == b""


@pytest.mark.parametrize(("version", "error"), [(5, 0), (6, ErrorCode.GROUP_ID_NOT_FOUND)])
def test_describe_an_unknown_group(version: int, error: int) -> None:
    group = World().shard.describe_group("g", version)
    assert (group.group_state, group.error_code) == ("Dead", error)


def test_describe_a_simple_group() -> None:
    world, _ = world_with_groups()
    group = world.shard.describe_group("simple", 6)
    assert (group.group_state, group.protocol_type, group.error_code) == ("Empty", "", 0)


def delete(world: World, group: str) -> int:
    ticket = world.ticket()
    world.carry_out(world.shard.decide_delete_group(ticket, group, world.now_ms))
    code: int = world.answers[ticket].error_code
    return code


def test_delete() -> None:
    world, member = world_with_groups()
    world.commit(1, member, 1)
    assert delete(world, "unknown") == ErrorCode.GROUP_ID_NOT_FOUND
    assert delete(world, "g") == ErrorCode.NON_EMPTY_GROUP
    world.leave(member)
    for group in ("g", "simple", "pending"):
        assert delete(world, group) == 0
        assert delete(world, group) == ErrorCode.GROUP_ID_NOT_FOUND
    assert world.shard.group_ids() == []
    world.restart()
    assert world.shard.group_ids() == []
    assert world.fetch().committed_offset == -1
    assert world.shard.offsets.groups == {}


def test_a_deleted_group_can_be_made_again() -> None:
    world, member = world_with_groups()
    world.leave(member)
    delete(world, "g")
    world.stable()
    assert world.generation() == 1
