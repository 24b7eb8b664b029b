"""Plans: Kafka's file format, and proposals that move as little as they can."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tierlog.errors import UserError
from tierlog.metadata.control.placement import Candidate
from tierlog.metadata.control.reassignment_plan import Move, parse_plan, plan_value, propose


def brokers(*ids: int, racks: dict[int, str] | None = None) -> list[Candidate]:
    return [Candidate(i, (racks or {}).get(i), f"host-{i}") for i in ids]


def held(moves: list[Move]) -> Counter[int]:
    return Counter(replica for move in moves for replica in move.replicas)


def after(moves: list[Move], proposed: list[Move]) -> list[Move]:
    changed = {move.name: move for move in proposed}
    return [changed.get(move.name, move) for move in moves]


def test_kafkas_file_and_back() -> None:
    moves = [Move("t", 0, (1, 2)), Move("t", 1, (2, 3), ("any", "/d"))]
    assert parse_plan(json.dumps(plan_value(moves)), "f") == moves
    assert (
        parse_plan('{"partitions":[{"topic":"t","partition":0,"replicas":[1,2]}],"version":1}', "f")
        == moves[:1]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f: not JSON"),
        ("[]", "f: expected"),
        ('{"version":2,"partitions":[]}', "version 2 is not known"),
        ('{"partitions":[{"topic":"t"}]}', r"partitions\[0\]: expected topic, partition and replicas"),
        ('{"partitions":[{"topic":"t","partition":0,"replicas":[]}]}', "a list of broker ids"),
        ('{"partitions":[{"topic":"t","partition":0,"replicas":[1,1]}]}', "names a broker twice"),
        ('{"partitions":[{"topic":"t","partition":0,"replicas":[1],"log_dirs":["a","b"]}]}', "2 log_dirs"),
        (
            '{"partitions":[{"topic":"t","partition":0,"replicas":[1]},{"topic":"t","partition":0,"replicas":[2]}]}',
            "more than once",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_plan(text, "f")


def test_a_broker_is_emptied_and_nothing_else_moves() -> None:
    current = [Move("t", n, ((n % 3) + 1, (n + 1) % 3 + 1)) for n in range(12)]
    proposed = propose(current, brokers(1, 2, 4), held(current), balance=False)
    assert {move.name for move in proposed} == {move.name for move in current if 3 in move.replicas}
    then = after(current, proposed)
    assert 3 not in held(then)
    for old, new in zip(current, then, strict=True):
        for before, now in zip(old.replicas, new.replicas, strict=True):
            assert before == now or before == 3
    assert max(held(then).values()) - min(held(then).values()) <= 1


def test_new_brokers_get_their_share_with_few_moves() -> None:
    current = [Move("t", n, (n % 2 + 1, (n + 1) % 2 + 1)) for n in range(12)]
    then = after(current, propose(current, brokers(1, 2, 3, 4), held(current)))
    assert set(held(then).values()) == {6}
    assert sum(len(set(a.replicas) - set(b.replicas)) for a, b in zip(current, then, strict=True)) == 12
    assert set(Counter(move.replicas[0] for move in then).values()) == {3}


def test_what_is_even_stays() -> None:
    current = [Move("t", n, (n % 3 + 1, (n + 1) % 3 + 1)) for n in range(9)]
    assert propose(current, brokers(1, 2, 3), held(current)) == []


def test_racks_are_not_given_up_for_balance() -> None:
    racks = {1: "a", 2: "b", 3: "a"}
    current = [Move("t", n, (1, 2)) for n in range(4)]
    then = after(current, propose(current, brokers(1, 2, 3, racks=racks), held(current)))
    assert all(len({racks[replica] for replica in move.replicas}) == 2 for move in then)
    assert held(then)[1] == held(then)[3] == 2


def test_a_partition_that_lay_on_none_of_them_only() -> None:
    current = [Move("t", 0, (8, 9))]
    assert propose(current, brokers(1, 2), {1: 5}, balance=False) == [Move("t", 0, (2, 1))]


def test_too_few_brokers() -> None:
    with pytest.raises(UserError, match="t-0 has 2 replicas, and there are 1 brokers"):
        propose([Move("t", 0, (1, 2))], brokers(1), {})
