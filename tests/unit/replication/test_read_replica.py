"""The replica that a consumer is sent to."""

from __future__ import annotations

from tests.unit.replication.logs import ListLog
from tests.unit.replication.test_leader import fetch, leader
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.read_replica import ReadableReplica, in_the_same_rack

RACKS = {2: "a", 3: "a", 4: "b", 5: None}


def test_the_longest_log_of_the_rack_then_the_last_caught_up_then_the_largest_id() -> None:
    two, three, four = ReadableReplica(2, 10, 0), ReadableReplica(3, 11, 500), ReadableReplica(4, 90, 0)
    assert in_the_same_rack("a", [two, three, four], RACKS) == 3
    assert in_the_same_rack("a", [two, ReadableReplica(3, 10, 500)], RACKS) == 2
    assert in_the_same_rack("a", [two, ReadableReplica(3, 10, 0)], RACKS) == 3
    assert in_the_same_rack("b", [two, three, four], RACKS) == 4


def test_nobody_there_is_nobody() -> None:
    assert in_the_same_rack("c", [ReadableReplica(2, 10, 0)], RACKS) is None
    assert in_the_same_rack("a", [ReadableReplica(7, 10, 0)], RACKS) is None, "beyond the client's reach"
    assert in_the_same_rack("a", [], RACKS) is None


def test_only_who_is_in_sync_and_has_the_offset_can_be_read() -> None:
    led = leader({1, 2, 3}, end=10)
    log = ListLog([3] * 10)
    fetch(led, 2, 10, log)
    fetch(led, 4, 10, log)
    assert [r.broker_id for r in led.readable_followers(10, 0)] == [2], "3 has not fetched, 4 is not in sync"
    fetch(led, 3, 4, log)
    assert [r.broker_id for r in led.readable_followers(4, 0)] == [2, 3]
    assert [r.broker_id for r in led.readable_followers(5, 0)] == [2]
    assert led.readable_followers(11, 0) == []
    led.on_follower_fetch(FollowerFetch(2, 20, 3, 10, 3, 6), log, 0)
    assert [r.broker_id for r in led.readable_followers(3, 0)] == [3], "2 has deleted that"


def test_how_long_it_is_behind() -> None:
    led = leader({1, 2}, end=10)
    log = ListLog([3] * 10)
    fetch(led, 2, 10, log, now_ms=1000)
    fetch(led, 2, 4, log, now_ms=1500)
    assert led.readable_followers(0, 1600) == [ReadableReplica(2, 4, 600)]
