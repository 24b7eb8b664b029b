"""Turns to copy: who goes first, and that no turn is lost."""

from __future__ import annotations

import random

from tiering.copying.turns import Claim, CopyTurns


def calm(since_ms: int, backlog_bytes: int = 1) -> Claim:
    return Claim(False, backlog_bytes, since_ms)


def test_who_asks_first_where_nobody_waits_goes_at_once() -> None:
    turns = CopyTurns[str](2)
    assert turns.may_copy("a", calm(1))
    assert turns.may_copy("b", calm(2))
    assert not turns.may_copy("c", calm(3))
    assert turns.grant() == []


def test_the_oldest_record_goes_first_and_on_a_full_disk_the_largest_backlog() -> None:
    turns = CopyTurns[str](1)
    assert turns.may_copy("copies", calm(0))
    for who, claim in (
        ("young", calm(9, 10**9)),
        ("old", calm(3)),
        ("small on a full disk", Claim(True, 5, 1)),
        ("large on a full disk", Claim(True, 50, 2)),
    ):
        assert not turns.may_copy(who, claim)
    order, now = [], "copies"
    for _ in range(4):
        turns.leave(now)
        (now,) = turns.grant()
        assert turns.may_copy(now, calm(0))
        order.append(now)
    assert order == ["large on a full disk", "small on a full disk", "old", "young"]


def test_a_free_turn_is_not_taken_past_those_who_wait() -> None:
    turns = CopyTurns[str](1)
    assert turns.may_copy("a", calm(5))
    assert not turns.may_copy("b", calm(1))
    turns.leave("a")
    assert not turns.may_copy("a", calm(5))
    assert turns.grant() == ["b"]


def test_who_is_gone_loses_its_place_or_its_grant() -> None:
    turns = CopyTurns[str](1)
    assert turns.may_copy("a", calm(0))
    for who in "bcd":
        assert not turns.may_copy(who, calm(ord(who)))
    turns.leave("b")
    turns.leave("a")
    assert turns.grant() == ["c"]
    assert turns.is_granted("c")
    turns.leave("c")
    assert turns.grant() == ["d"]


def test_no_turn_is_lost_and_none_is_given_twice() -> None:
    rng = random.Random(7)
    turns, copying = CopyTurns[int](3), set[int]()
    for _ in range(5_000):
        who = rng.randrange(12)
        if who in copying or rng.random() < 0.3:
            turns.leave(who)
            copying.discard(who)
        elif turns.may_copy(who, calm(rng.randrange(100))):
            copying.add(who)
        assert len(copying) <= 3
        if rng.random() < 0.5:
            turns.grant()
    for who in range(12):
        turns.leave(who)
    assert all(turns.may_copy(who, calm(0)) for who in range(3))
