"""Dynamic members of the classic protocol: joining, syncing, leaving, dying."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.coordination.world import INITIAL_DELAY_MS, World, subscription
from tierlog.coordination.classic_group import TRANSITIONS, GroupState
from tierlog.errors import ErrorCode

REFUSED_JOINS = [
    ({"group": ""}, ErrorCode.INVALID_GROUP_ID),
    ({"session_ms": 5_999}, ErrorCode.INVALID_SESSION_TIMEOUT),
    ({"session_ms": 1_800_001}, ErrorCode.INVALID_SESSION_TIMEOUT),
    ({"member": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"protocols": {}}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ({"protocol_type": ""}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
]


@pytest.mark.parametrize(("join", "error"), REFUSED_JOINS)
def test_refused_joins(join: dict[str, Any], error: ErrorCode) -> None:
    world = World()
    answer = world.answers[world.send_join(**join)]
    assert answer.error_code == error
    assert answer.generation_id == -1
    assert answer.protocol_name is None


@pytest.mark.parametrize(("version", "name"), [(0, ""), (6, ""), (7, None), (9, None)])
def test_the_protocol_of_a_refusal_is_null_where_it_can_be(version: int, name: str | None) -> None:
    world = World()
    assert world.answers[world.send_join(member="x", version=version)].protocol_name == name


def test_a_new_member_is_first_given_its_id() -> None:
    world = World()
    answer = world.answers[world.send_join(client_id="app")]
    assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert answer.member_id == "app-0001"
    assert world.state() == "Empty"
    assert len(world.log) == 1, "the new group is recorded"


def test_before_version_4_a_new_member_joins_at_once() -> None:
    world = World()
    ticket = world.send_join(version=3)
    world.advance(INITIAL_DELAY_MS)
    answer = world.answers[ticket]
    assert (answer.error_code, answer.generation_id, answer.leader) == (0, 1, answer.member_id)


def test_an_unused_member_id_is_forgotten() -> None:
    world = World()
    member = world.member_id()
    world.advance(10_000)
    assert world.answers[world.send_join(member=member)].error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_the_first_rebalance_waits_as_long_as_members_come_but_not_for_ever() -> None:
    world = World(group_initial_rebalance_delay_ms=3000)
    first = world.send_join(version=3, rebalance_ms=7000)
    for _ in range(2):
        world.advance(2500)
        world.send_join(version=3, rebalance_ms=7000)
    world.advance(1999)
    assert first not in world.answers
    world.advance(1)
    assert len(world.answers[first].members) == 3


def test_leader_and_followers_hear_what_they_need() -> None:
    world = World()
    a, b = world.member_id(), world.member_id()
    joins = [world.send_join(member=m, protocols={"range": m.encode()}) for m in (a, b)]
    world.advance(2 * INITIAL_DELAY_MS)
    leader, follower = world.answers[joins[0]], world.answers[joins[1]]
    assert (leader.leader, follower.leader) == (a, a)
    assert [(row.member_id, row.metadata) for row in leader.members] == [(a, a.encode()), (b, b.encode())]
    assert follower.members == []
    assert world.state() == "CompletingRebalance"
    sync = world.send_sync(b, 1)
    assert sync not in world.answers
    assert world.answers[world.send_sync(a, 1, {a: b"A", b: b"B"})].assignment == b"A"
    assert world.answers[sync].assignment == b"B"
    assert world.state() == "Stable"
    assert world.answers[world.send_sync(b, 1)].assignment == b"B", "in Stable the assignment is repeated"


def test_a_member_that_is_assigned_nothing_gets_nothing() -> None:
    world = World()
    a, b = world.stable(2)
    world.send_join(member=a)
    join = world.send_join(member=b)
    assert world.answers[join].generation_id == 2
    sync = world.send_sync(b, 2)
    world.send_sync(a, 2, {a: b"all"})
    assert world.answers[sync].assignment == b""


REFUSED_SYNCS = [
    ({"member": "nobody", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"group": "other", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"group": "", "generation": 1}, ErrorCode.INVALID_GROUP_ID),
    ({"generation": 2}, ErrorCode.ILLEGAL_GENERATION),
    ({"generation": 1, "protocol_type": "connect"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ({"generation": 1, "protocol_name": "sticky"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
]


@pytest.mark.parametrize(("sync", "error"), REFUSED_SYNCS)
def test_refused_syncs(sync: dict[str, Any], error: ErrorCode) -> None:
    world = World()
    (a,) = world.stable()
    answer = world.answers[world.send_sync(**{"member": a, **sync})]
    assert (answer.error_code, answer.assignment) == (error, b"")


def test_sync_during_the_next_rebalance() -> None:
    world = World()
    a, b = world.stable(2)
    world.send_join(member=a)
    assert world.answers[world.send_sync(b, 1)].error_code == ErrorCode.REBALANCE_IN_PROGRESS


HEARTBEATS = [
    ({}, ErrorCode.NONE),
    ({"generation": 2}, ErrorCode.ILLEGAL_GENERATION),
    ({"member": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"group": "other"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ({"group": ""}, ErrorCode.INVALID_GROUP_ID),
]


@pytest.mark.parametrize(("heartbeat", "error"), HEARTBEATS)
def test_heartbeats(heartbeat: dict[str, Any], error: ErrorCode) -> None:
    world = World()
    (a,) = world.stable()
    assert world.heartbeat(**{"member": a, "generation": 1, **heartbeat}) == error


def test_heartbeats_keep_the_session_and_tell_of_a_rebalance() -> None:
    world = World()
    a, b = world.stable(2)
    for _ in range(5):
        world.advance(9_000)
        assert world.heartbeat(a, 1) == ErrorCode.NONE
        world.heartbeat(b, 1)
    world.send_join(member=a)
    assert world.heartbeat(b, 1) == ErrorCode.REBALANCE_IN_PROGRESS
    assert world.state() == "PreparingRebalance"


def test_a_silent_member_is_removed_and_the_others_rebalance() -> None:
    world = World()
    a, b = world.stable(2)
    world.advance(6_000)
    world.heartbeat(a, 1)
    world.advance(4_000)
    assert world.state() == "PreparingRebalance"
    join = world.send_join(member=a)
    assert [row.member_id for row in world.answers[join].members] == [a]
    assert world.heartbeat(b, 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_who_does_not_join_in_time_is_out_even_with_heartbeats() -> None:
    world = World()
    a, b = world.stable(2, rebalance_ms=20_000)
    join = world.send_join(member=a, rebalance_ms=20_000)
    for _ in range(4):
        world.advance(5_000)
        world.heartbeat(b, 1)
    assert [row.member_id for row in world.answers[join].members] == [a]


def test_who_joins_and_never_syncs_is_out() -> None:
    world = World()
    a, b = world.member_id(), world.member_id()
    joins = [world.send_join(member=m, rebalance_ms=20_000) for m in (a, b)]
    world.advance(2 * INITIAL_DELAY_MS)
    assert all(ticket in world.answers for ticket in joins)
    sync = world.send_sync(a, 1, {a: b"A"})
    assert world.answers[sync].assignment == b"A"
    for _ in range(4):
        world.advance(5_000)
        world.heartbeat(a, 1)
        world.heartbeat(b, 1)
    assert world.state() == "PreparingRebalance"
    assert world.heartbeat(b, 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_new_member_that_gave_up_is_dropped() -> None:
    world = World()
    (a,) = world.stable(rebalance_ms=1_800_000, session_ms=600_000)
    late = world.send_join(member=world.member_id(), rebalance_ms=1_800_000)
    for _ in range(3):
        world.advance(100_000)
        world.heartbeat(a, 1)
    answer = world.answers[late]
    assert (answer.error_code, answer.member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "")


def test_an_unchanged_follower_is_told_the_present_generation() -> None:
    world = World()
    _, b = world.stable(2)
    answer = world.answers[world.send_join(member=b)]
    assert (answer.error_code, answer.generation_id) == (0, 1)
    assert world.state() == "Stable"


@pytest.mark.parametrize("changed", [True, False])
def test_a_changed_follower_or_a_leader_that_joins_again_rebalances(changed: bool) -> None:
    world = World()
    a, b = world.stable(2)
    if changed:
        world.send_join(member=b, protocols={"range": subscription("u")})
    else:
        world.send_join(member=a)
    assert world.state() == "PreparingRebalance"


def test_a_lost_join_answer_is_repeated_while_the_group_completes() -> None:
    world = World()
    a, b = world.stable(2)
    world.send_join(member=a)
    world.send_join(member=b)
    assert world.state() == "CompletingRebalance"
    again = world.answers[world.send_join(member=a)]
    assert (again.generation_id, [row.member_id for row in again.members]) == (2, [a, b])


def test_a_change_while_the_group_completes_sends_the_waiting_back() -> None:
    world = World()
    a, b = world.stable(2)
    world.send_join(member=a)
    world.send_join(member=b)
    sync = world.send_sync(b, 2)
    world.send_join(member=a, protocols={"range": b"changed"})
    assert world.answers[sync].error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_second_join_of_the_same_member_supersedes_the_first() -> None:
    world = World()
    a, b = world.stable(2)
    first = world.send_join(member=a)
    second = world.send_join(member=a)
    assert world.answers[first].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    world.send_join(member=b)
    assert world.answers[second].generation_id == 2


def test_a_second_sync_of_the_same_member_supersedes_the_first() -> None:
    world = World()
    a, b = world.stable(2)
    world.send_join(member=a)
    world.send_join(member=b)
    first, second = world.send_sync(b, 2), world.send_sync(b, 2)
    assert world.answers[first].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    world.send_sync(a, 2, {b: b"B"})
    assert world.answers[second].assignment == b"B"


def test_leaving() -> None:
    world = World()
    a, b = world.stable(2)
    answer = world.leave(b, "nobody")
    assert [row.error_code for row in answer.members] == [0, ErrorCode.UNKNOWN_MEMBER_ID]
    assert world.state() == "PreparingRebalance"
    assert world.answers[world.send_join(member=a)].generation_id == 2
    assert world.leave(a, version=2).error_code == 0
    assert world.state() == "Empty"
    assert world.leave(a, version=1).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert world.leave("x", group="other").members[0].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert world.leave("x", group="").error_code == ErrorCode.INVALID_GROUP_ID


def test_leaving_with_a_parked_request_answers_it() -> None:
    world = World()
    a, b = world.stable(2)
    join = world.send_join(member=a)
    world.leave(a)
    assert world.answers[join].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    join = world.send_join(member=b)
    assert world.answers[join].leader == b


def test_a_pending_member_that_leaves_disturbs_nobody() -> None:
    world = World()
    world.stable()
    pending = world.member_id()
    assert world.leave(pending).members[0].error_code == 0
    assert world.state() == "Stable"


def test_the_last_pending_member_that_leaves_ends_the_wait() -> None:
    world = World()
    (a,) = world.stable()
    pending = world.member_id()
    join = world.send_join(member=a)
    assert join not in world.answers, "the rebalance waits for the pending member"
    world.leave(pending)
    assert world.answers[join].generation_id == 2


def test_group_max_size() -> None:
    world = World(group_max_size=2)
    a, b = world.stable(2)
    refused = world.answers[world.send_join()]
    assert (refused.error_code, refused.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")
    world.send_join(member=a)
    pending = world.answers[world.send_join()]
    assert pending.error_code == ErrorCode.MEMBER_ID_REQUIRED, "only those who came count during a rebalance"
    world.send_join(member=b)
    late = world.answers[world.send_join(member=pending.member_id)]
    assert late.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert world.generation() == 2


def test_a_group_above_a_lowered_max_size_shrinks_after_the_load() -> None:
    world = World()
    members = world.stable(3)
    world.config = World(group_max_size=2).config
    world.restart()
    assert world.state() == "PreparingRebalance"
    joins = [world.send_join(member=m) for m in members]
    assert world.answers[joins[2]].error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert world.generation() == 2


def test_the_protocol_all_support_and_most_prefer_is_chosen() -> None:
    world = World()
    offers = [{"a": b"", "b": b"", "c": b""}, {"b": b"", "c": b""}, {"c": b"", "b": b"", "z": b""}]
    members = [world.member_id(protocols=offer) for offer in offers]
    joins = [world.send_join(member=m, protocols=o) for m, o in zip(members, offers, strict=True)]
    world.advance(3 * INITIAL_DELAY_MS)
    assert world.answers[joins[0]].protocol_name == "b"
    refused = world.answers[world.send_join(protocols={"a": b""})]
    assert refused.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    refused = world.answers[world.send_join(protocol_type="connect", protocols=offers[0])]
    assert refused.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_a_stable_group_survives_its_coordinator() -> None:
    world = World()
    a, b = world.stable(2)
    world.restart()
    assert world.state() == "Stable"
    assert world.heartbeat(b, 1) == ErrorCode.NONE
    assert world.answers[world.send_sync(b, 1)].assignment == b"1"
    world.advance(10_000)
    assert world.state() == "Empty", "sessions run after the load"
    assert world.heartbeat(a, 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_rebalance_under_way_does_not_survive_but_its_group_does() -> None:
    world = World()
    a, b = world.stable(2)
    world.send_join(member=a)
    world.restart()
    assert world.state() == "Stable"
    joins = [world.send_join(member=a), world.send_join(member=b)]
    assert world.answers[joins[0]].generation_id == 2


def test_an_assignment_too_large_for_a_record_is_refused_and_harms_no_one_else() -> None:
    world = World(group_metadata_max_bytes=1000)
    a = world.member_id()
    world.send_join(member=a)
    world.advance(INITIAL_DELAY_MS)
    sync = world.send_sync(a, 1, {a: bytes(2000)})
    assert world.answers[sync].error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert world.state() == "PreparingRebalance"


def test_the_number_of_groups_is_bounded() -> None:
    world = World(groups_max=2)
    world.stable()
    world.commit(1, group="h")
    refused = world.answers[world.send_join("i")]
    assert refused.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert world.commit(1, group="i") == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert world.commit(2, group="h") == 0


def test_pending_members_and_timers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.coordination.rebalance.PENDING_MEMBERS_MAX", 10)
    monkeypatch.setattr("tierlog.coordination.rebalance.TIMERS_SWEEP_MIN_COUNT", 20)
    world = World()
    for _ in range(200):
        world.send_join()
    assert len(world.shard.groups["g"].pending_members) == 10
    assert len(world.shard.rules.timers) <= 1024 + 10


def test_every_state_is_reachable_and_dead_is_the_end() -> None:
    reached = {GroupState.EMPTY}
    while more := {after for state in reached for after in TRANSITIONS[state]} - reached:
        reached |= more
    assert reached == set(GroupState)
    assert TRANSITIONS[GroupState.DEAD] == frozenset()


def test_a_protocol_that_is_named_twice_counts_once() -> None:
    world = World()
    twice = [("range", subscription("t")), ("range", subscription("t"))]
    ticket = world.send_join(version=3, protocols=twice)
    world.advance(INITIAL_DELAY_MS)
    answer = world.answers[ticket]
    assert (answer.error_code, answer.protocol_name) == (ErrorCode.NONE, "range")
    other = world.send_join(version=3, protocols={"sticky": subscription("t")})
    assert world.answers[other].error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    world.leave(answer.member_id)
    assert world.state() == "Empty"
