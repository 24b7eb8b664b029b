"""What is told of each remote segment is what the planner and the ladder do with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tiering.heads import entry
from tests.unit.tiering.test_ladder import NOW, RUNGS, aged
from tests.unit.tiering.test_planner import facts
from tiering.ladder import DAY_MS, Ladder, Why
from tiering.model import TierHead
from tiering.objects.classes import S3_CLASSES, StorageClass
from tiering.outlook.fates import NEVER_MS, NOW_MS, Class, RemoteFate, remote_fates
from tiering.planner import AdvanceStart, Policy, plan


def head_with(timestamps: list[int]) -> TierHead:
    head = TierHead.empty()
    for number, timestamp in enumerate(timestamps):
        head = head.with_committed(entry(number * 10, number * 10 + 10, timestamp=timestamp))
    return head


def told(head: TierHead, policy: Policy, now_ms: int, ladder: Ladder | None = None) -> list[RemoteFate]:
    return list(remote_fates(facts(head), policy, ladder, now_ms))


def test_by_time_by_size_and_when() -> None:
    head = head_with([100, 200, 900, 150])
    found = told(head, Policy(retention_ms=500), 1_000)
    assert [each.verdict for each in found] == ["removed", "removed", "kept", "kept"]
    assert (found[0].rule, found[0].due_ms) == ("retention.ms=500", NOW_MS)
    assert [each.due_ms for each in found[2:]] == [1_401, 1_401], (
        "a younger one in front keeps those behind it"
    )
    found = told(head, Policy(retention_bytes=250), 1_000)
    assert [each.rule for each in found[:2]] == ["retention.bytes=250", "retention.bytes=250 is not reached"]
    assert found[1].due_ms == NEVER_MS
    assert told(head, Policy(), 1_000)[0].rule == "no limit by time or size"


def test_what_is_retired_goes_after_its_grace() -> None:
    head = head_with([100, 200]).with_start(10, 5_000)
    found = told(head, Policy(delete_grace_ms=600), 5_100)
    assert [(each.verdict, each.due_ms) for each in found] == [("deleted", 5_600), ("kept", NEVER_MS)]
    assert "tierlog.remote.delete.grace.ms" in found[0].rule
    assert told(head, Policy(delete_grace_ms=600), 5_600)[0].due_ms == NOW_MS


def test_the_ladder() -> None:
    ladder = Ladder(RUNGS, S3_CLASSES)
    old, young, small = aged(40), aged(1), aged(400)._replace(object_bytes=10)
    for each, expected in (
        (old, Class(StorageClass.INFREQUENT, "", NOW_MS)),
        (young, Class(StorageClass.INFREQUENT, "", NOW + 29 * DAY_MS)),
        (small, Class(StorageClass.ARCHIVE_INSTANT, Why.TOO_SMALL.value, NEVER_MS)),
    ):
        head = TierHead.empty().with_committed(each._replace(base_offset=0, end_offset=10))
        (found,) = told(head, Policy(), NOW, ladder)
        assert found.move == expected


@given(
    st.lists(st.integers(0, 2_000), min_size=1, max_size=8),
    st.sampled_from([-1, 0, 300, 900]),
    st.sampled_from([-1, 0, 150, 450]),
)
def test_it_is_what_the_planner_does(timestamps: list[int], retention_ms: int, retention_bytes: int) -> None:
    now_ms = 2_000
    policy = Policy(retention_ms=retention_ms, retention_bytes=retention_bytes)
    given_facts = facts(head_with(timestamps))
    moves = [each for each in plan(given_facts, policy, now_ms) if isinstance(each, AdvanceStart)]
    removed = [each for each in remote_fates(given_facts, policy, None, now_ms) if each.verdict == "removed"]
    assert [each.entry.end_offset for each in removed[-1:]] == [each.offset for each in moves]
    if moves:
        by_time = sum(each.rule.startswith("retention.ms") for each in removed)
        assert (by_time, len(removed) - by_time) == (moves[0].move.by_time, moves[0].move.by_size)


@given(st.integers(-1, 120_000), st.integers(0, 100_000))
def test_it_goes_when_it_was_said_to(timestamp: int, retention_ms: int) -> None:
    """Also with a timestamp of the future: the entries are copied at 50,000."""
    now_ms = 50_000
    (found,) = told(head_with([timestamp]), Policy(retention_ms=retention_ms), now_ms)
    if found.verdict == "removed":
        assert found.due_ms == NOW_MS
        return
    before, after = (
        told(head_with([timestamp]), Policy(retention_ms=retention_ms), at)[0].verdict
        for at in (found.due_ms - 1, found.due_ms)
    )
    assert (before, after) == ("kept", "removed")
