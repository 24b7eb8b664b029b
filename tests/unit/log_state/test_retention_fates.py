"""What is told of each local segment is what retention then does, now and when it said."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from tierlog.config.topic import TopicConfig
from tierlog.log.retention import SegmentFacts, decide
from tierlog.log.retention_fates import NEVER_MS, NOW_MS, Fate, Verdict, fates

NOW = 1_000_000
SEGMENTS = [SegmentFacts(i * 10, i * 10 + 10, 100, NOW - 1000 + i * 100) for i in range(6)]
KEEP_ALL = TopicConfig(retention_ms=-1, retention_bytes=-1)
TIERED = replace(KEEP_ALL, remote_storage_enable=True)


def told(config: TopicConfig, segments: list[SegmentFacts] = SEGMENTS, **facts: int) -> list[Fate]:
    facts = {"log_start_offset": 0, "high_watermark": 60, "now_ms": NOW, **facts}
    return fates(segments, config, **facts)


def verdicts(found: list[Fate]) -> list[str]:
    return [each.verdict.value for each in found]


def test_by_time_and_when() -> None:
    found = told(replace(KEEP_ALL, retention_ms=800))
    assert verdicts(found) == ["removed", "removed", "kept", "kept", "kept", "kept"]
    assert found[0] == Fate(Verdict.REMOVED, "retention.ms=800", NOW_MS)
    assert found[2] == Fate(Verdict.KEPT, "retention.ms=800 is not over", NOW + 1)
    assert found[5] == Fate(Verdict.KEPT, "active; retention.ms=800 is not over", NOW + 301)


def test_by_size_and_without_limits() -> None:
    found = told(replace(KEEP_ALL, retention_bytes=350))
    assert verdicts(found)[:3] == ["removed", "removed", "kept"]
    assert found[2] == Fate(Verdict.KEPT, "retention.bytes=350 is not reached", NEVER_MS)
    assert {each.rule for each in told(KEEP_ALL)[:5]} == {"no limit by time or size"}


def test_below_the_log_start_even_when_compacted() -> None:
    compacted = replace(KEEP_ALL, cleanup_policy=frozenset({"compact"}), retention_ms=0)
    found = told(compacted, log_start_offset=25)
    assert verdicts(found)[:3] == ["removed", "removed", "kept"]
    assert "DeleteRecords" in found[0].rule


def test_what_is_not_copied_is_held_and_those_behind_it() -> None:
    config = replace(TIERED, local_retention_ms=500)
    found = told(config, tiered_end_offset=20)
    assert verdicts(found) == ["removed", "removed", "held", "held", "held", "kept"]
    assert found[0].rule == "local.retention.ms=500"
    assert found[2].rule == "local.retention.ms=500 is over, but it is not in the object store yet"
    assert "an older segment stays, at 20" in found[3].rule
    assert verdicts(told(replace(TIERED, retention_ms=500), tiered_end_offset=20))[2] == "held"
    assert told(replace(TIERED, retention_ms=500), tiered_end_offset=20)[0].rule == "retention.ms=500"


def test_the_active_segment() -> None:
    found = told(replace(KEEP_ALL, retention_ms=0))
    assert found[-1] == Fate(Verdict.ROLLED, "retention.ms=0: the active segment has expired too", NOW_MS)
    held = told(replace(KEEP_ALL, retention_ms=0), high_watermark=55)
    assert held[-1].verdict is Verdict.HELD and "high watermark 55" in held[-1].rule
    empty = [SegmentFacts(0, 0, 0, 0)]
    assert told(replace(KEEP_ALL, retention_ms=0), empty)[0] == Fate(
        Verdict.KEPT, "active and empty", NEVER_MS
    )


segments_of = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 300), st.integers(0, 2_000)), min_size=1, max_size=7
)
limit = st.sampled_from([-1, 0, 100, 500, 900, 1500])


@given(
    segments_of,
    st.tuples(limit, limit, st.sampled_from([-2, 0, 300, 900]), st.sampled_from([-2, 0, 300, 900])),
    st.booleans(),
    st.booleans(),
    st.integers(0, 40),
    st.integers(0, 70),
    st.one_of(st.none(), st.integers(0, 70)),
)
def test_it_is_what_retention_does(
    made: list[tuple[int, int, int]],
    limits: tuple[int, int, int, int],
    is_remote: bool,
    is_compacted: bool,
    start: int,
    high_watermark: int,
    tiered_end: int | None,
) -> None:
    segments, base = [], 0
    for count, size, age in made:
        segments.append(SegmentFacts(base, base + count, size, NOW - age))
        base += count
    config = TopicConfig(
        retention_ms=limits[0],
        retention_bytes=limits[1],
        local_retention_ms=limits[2],
        local_retention_bytes=limits[3],
        remote_storage_enable=is_remote,
        cleanup_policy=frozenset({"compact"} if is_compacted else {"delete"}),
    )
    facts = {"log_start_offset": start, "high_watermark": min(high_watermark, base)}
    decision = decide(segments, config, **facts, now_ms=NOW, tiered_end_offset=tiered_end)
    found = fates(segments, config, **facts, now_ms=NOW, tiered_end_offset=tiered_end)
    removed = [each for each in found if each.verdict is Verdict.REMOVED]
    assert found[: decision.delete_count] == removed
    assert (found[-1].verdict is Verdict.ROLLED) == decision.roll_active
    for each, reason in zip(removed, decision.reasons, strict=True):
        name = {"LOG_START": "below the log start", "SIZE": "retention.bytes=", "TIME": "retention.ms="}
        assert name[reason.name] in each.rule


@given(st.lists(st.integers(0, 2_000), min_size=2, max_size=7), st.integers(0, 1_500))
def test_it_goes_when_it_was_said_to(ages: list[int], retention_ms: int) -> None:
    segments = [SegmentFacts(i * 10, i * 10 + 10, 100, NOW - age) for i, age in enumerate(ages)]
    config = replace(KEEP_ALL, retention_ms=retention_ms)
    end = len(ages) * 10
    found = fates(segments, config, log_start_offset=0, high_watermark=end, now_ms=NOW)
    kept = [at for at, each in enumerate(found[:-1]) if each.verdict is Verdict.KEPT]
    assume(kept)
    at = kept[0]

    def gone_at(now_ms: int) -> int:
        return decide(segments, config, log_start_offset=0, high_watermark=end, now_ms=now_ms).delete_count

    assert gone_at(found[at].due_ms - 1) <= at < gone_at(found[at].due_ms)
