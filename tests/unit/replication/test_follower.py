"""The follower: one fetch at a time, truncation by epoch, the tier, and when a replica must stop."""

from __future__ import annotations

import pytest

from tests.unit.replication.logs import ListLog
from tierlog.errors import ErrorCode
from tierlog.metadata.records import PartitionState
from tierlog.replication.fetches import DivergingEpoch, FetchReply, FollowerFetch, last_epoch_of
from tierlog.replication.follower import (
    Append,
    Follower,
    FollowerState,
    StartAt,
    StartFromTier,
    StopReplica,
    Truncate,
)
from tierlog.replication.roles import RoleChange, follow, lead, role_change
from tierlog.replication.truncation import disagrees_with_tier, truncation_target


def follower(high_watermark: int = 0, **fields: object) -> Follower:
    return Follower(2, 20, 1, 5, high_watermark, **fields)  # type: ignore[arg-type]


def asked(f: Follower, log: ListLog, now_ms: int = 0) -> FollowerFetch:
    fetch = f.next_fetch(log, log.log_end_offset, now_ms)
    assert fetch is not None
    return fetch


def diverging(epoch: int, end_offset: int) -> FetchReply:
    return FetchReply(diverging=DivergingEpoch(epoch, end_offset))


def test_what_it_asks() -> None:
    log = ListLog([1, 1, 3])
    f = follower()
    assert asked(f, log) == FollowerFetch(2, 20, 5, 3, 3, 0)
    assert f.next_fetch(log, 3, 0) is None, "one is outstanding"


def test_an_epoch_led_without_a_record_is_not_asked_about() -> None:
    log = ListLog([1, 1])
    log.epochs.assign(4, 2)
    assert last_epoch_of(log) == 1
    assert last_epoch_of(ListLog()) == -1


def test_with_synced_acks_it_asks_only_for_what_follows_durable_records() -> None:
    f, log = follower(), ListLog([1, 1, 1])
    assert f.next_fetch(log, 2, 0) is None
    assert f.next_fetch(log, 3, 0) is not None


def test_records_and_watermark() -> None:
    f, log = follower(), ListLog([1])
    reply = FetchReply(high_watermark=3, log_start_offset=2, has_records=True)
    assert f.on_reply(asked(f, log), reply, log, 0) == (Append(),)
    log.append([5])
    assert f.on_appended(log.log_end_offset)
    assert (f.high_watermark, f.log_start_offset) == (2, 2)
    assert f.on_reply(asked(f, log), FetchReply(high_watermark=1), log, 0) == ()
    assert f.high_watermark == 2, "it does not go back"


def test_only_the_outstanding_fetch_is_answered() -> None:
    f, log = follower(), ListLog([1])
    first = asked(f, log)
    f.on_failure(first, 0)
    assert f.next_fetch(log, 1, 49) is None, "backoff"
    second = asked(f, log, 50)
    assert second == first
    assert f.on_reply(first, diverging(0, 0), log, 50) == (), "equal, but another one"
    assert f.on_reply(second, FetchReply(high_watermark=1), log, 50) == ()
    assert f.on_reply(second, diverging(0, 0), log, 50) == (), "answered already"
    third = asked(f, log, 50)
    f.on_registered(21)
    assert f.on_reply(third, diverging(0, 0), log, 50) == ()
    assert asked(f, log, 50).broker_epoch == 21


@pytest.mark.parametrize(
    ("epochs", "answer", "target"),
    [
        ([1, 1, 3, 3], (3, 3), 3),  # the same epoch, ended earlier there
        ([1, 1, 3, 3], (1, 4), 2),  # epoch 3 is unknown there: cut to the own end of epoch 1
        ([1, 1, 3, 3], (2, 4), 2),  # neither knows the other's: back to the largest older one
        ([3, 3], (1, 7), 0),  # nothing in common
        ([1, 1, 1], (1, 9), 3),  # never above the log end
        ([1, 1, 3], (-1, -1), 1),  # the leader knows nothing: the high watermark
    ],
)
def test_truncation_targets(epochs: list[int], answer: tuple[int, int], target: int) -> None:
    assert truncation_target(ListLog(epochs), DivergingEpoch(*answer), 1) == target


def test_it_cuts_and_asks_again() -> None:
    f, log = follower(), ListLog([1, 1, 3, 3])
    assert f.on_reply(asked(f, log), diverging(2, 4), log, 0) == (Truncate(2),)
    log.truncate_to(2)
    assert asked(f, log) == FollowerFetch(2, 20, 5, 2, 1, 0)


def test_below_its_watermark_it_stops_unless_something_is_lost_anyway() -> None:
    log = ListLog([1, 1, 3, 3])
    f = follower(3)
    (effect,) = f.on_reply(asked(f, log), diverging(1, 2), log, 0)
    assert isinstance(effect, StopReplica)
    assert "below the high watermark 3" in effect.reason
    assert f.next_fetch(log, 4, 10**9) is None
    f = follower(3, may_lose_committed=True)
    assert f.on_reply(asked(f, log), diverging(1, 2), log, 0) == (Truncate(2),)
    assert f.high_watermark == 2


def test_a_leader_that_knows_none_of_its_epochs_stops_it() -> None:
    f, log = follower(2), ListLog([9, 9])
    (effect,) = f.on_reply(asked(f, log), diverging(-1, -1), log, 0)
    assert isinstance(effect, StopReplica)


def test_out_of_range() -> None:
    log = ListLog([1] * 5)
    out = ErrorCode.OFFSET_OUT_OF_RANGE
    f = follower(2)
    assert f.on_reply(asked(f, log), FetchReply(out), log, 0) == (), (
        "a leader that does not say where its log is"
    )
    assert f.next_fetch(log, 5, 0) is None
    assert f.next_fetch(log, 5, 60) is not None, "it is asked again"
    f = follower(2)
    assert f.on_reply(asked(f, log), FetchReply(out, -1, 9, 12), log, 0) == (StartAt(9),)
    assert f.high_watermark == 9
    f = follower(2)
    assert f.on_reply(asked(f, log), FetchReply(out, -1, 5, 12), log, 0) == (StartAt(5),), "a forgotten epoch"
    f, empty = follower(2), ListLog(start=5)
    assert f.on_reply(asked(f, empty), FetchReply(out, -1, 5, 12), empty, 0) == (), "it stands there already"
    f = follower(2)
    assert f.on_reply(asked(f, log), FetchReply(out, -1, 0, 3), log, 0) == (Truncate(3),)
    f = follower(2)
    assert f.on_reply(asked(f, log), FetchReply(out, -1, 0, 7), log, 0) == ()
    assert f.next_fetch(log, 5, 49) is None


def test_it_starts_from_the_tier() -> None:
    log = ListLog([1])
    f = follower()
    moved = FetchReply(ErrorCode.OFFSET_MOVED_TO_TIERED_STORAGE)
    assert f.on_reply(asked(f, log), moved, log, 0) == (StartFromTier(),)
    f.on_failure(None, 0)
    assert f.on_reply(asked(f, log, 50), moved, log, 50) == (StartFromTier(),)
    f.on_started_from_tier(4, 100)
    assert f.state is FollowerState.STARTING_FROM_TIER
    f.on_started_from_tier(5, 100)
    assert f.high_watermark == 100
    assert asked(f, ListLog(start=100), 1000).fetch_offset == 100


def test_what_disagrees_with_the_tier() -> None:
    log = ListLog([1, 1, 3])
    assert disagrees_with_tier(log, 4, 3)
    assert not disagrees_with_tier(log, 3, 3)
    assert disagrees_with_tier(log, 3, 2)
    assert not disagrees_with_tier(log, 2, 1)
    assert not disagrees_with_tier(ListLog(start=7), 7, 9), "nothing is left to disagree about"


def test_a_fenced_one_waits_for_the_next_record() -> None:
    f, log = follower(), ListLog([1])
    assert f.on_reply(asked(f, log), FetchReply(ErrorCode.UNKNOWN_LEADER_EPOCH), log, 0) == ()
    assert f.on_reply(asked(f, log, 50), FetchReply(ErrorCode.FENCED_LEADER_EPOCH), log, 50) == ()
    assert f.next_fetch(log, 1, 10**9) is None
    assert Follower(2, 20, -1, 6, 0).next_fetch(log, 1, 0) is None, "nobody leads"


def test_roles_change_with_the_epoch_alone() -> None:
    record = PartitionState(1, 5, (1, 2), (1, 2, 3), 2, partition_epoch=50)
    led = lead(record, 1, 9, log_end_offset=4, durable_end_offset=4, high_watermark=2, now_ms=7)
    assert (led.epoch_start_offset, led.high_watermark, led.replicas) == (4, 2, {1, 2, 3})
    f = follow(record, 2, 20, high_watermark=2, is_lossy=False)
    assert (f.leader_id, f.leader_epoch, f.may_lose_committed) == (1, 5, False)
    older = follow(record._replace(leader_epoch=4), 2, 20, high_watermark=2, is_lossy=False)
    newer = follow(record._replace(leader_epoch=6), 2, 20, high_watermark=2, is_lossy=False)
    assert role_change(record, 1, None, None, may_lead=True) is RoleChange.LEAD
    assert role_change(record, 1, None, None, may_lead=False) is RoleChange.NOTHING, (
        "elected before a restart"
    )
    assert role_change(record, 1, None, older, may_lead=False) is RoleChange.RESIGN
    assert role_change(record, 1, led, None, may_lead=False) is RoleChange.UPDATE
    assert role_change(record, 2, None, None, may_lead=False) is RoleChange.FOLLOW, "at a start"
    assert role_change(record, 2, None, f, may_lead=True) is RoleChange.UPDATE
    assert role_change(record, 2, None, older, may_lead=True) is RoleChange.FOLLOW
    assert role_change(record, 2, None, newer, may_lead=True) is RoleChange.NOTHING
    assert role_change(record, 1, None, newer, may_lead=True) is RoleChange.NOTHING


def test_alone_a_new_leader_commits_what_it_has() -> None:
    record = PartitionState(1, 5, (1,), (1,), 1, partition_epoch=50)
    assert (
        lead(record, 1, 9, log_end_offset=4, durable_end_offset=3, high_watermark=2, now_ms=0).high_watermark
        == 3
    )
