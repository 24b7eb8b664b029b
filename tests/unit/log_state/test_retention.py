"""Retention: what goes, why, and what never does."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tierlog.config.topic import TopicConfig
from tierlog.log.retention import (
    RetentionReason,
    SegmentFacts,
    decide,
    local_retention_bytes,
    local_retention_ms,
)

NOW_MS = 1_000_000
# Five sealed segments of 100 bytes and 10 offsets, newest last, and the active one.
SEGMENTS = [SegmentFacts(i * 10, i * 10 + 10, 100, NOW_MS - 1000 + i * 100) for i in range(6)]
KEEP_ALL = TopicConfig(retention_ms=-1, retention_bytes=-1)
TIME, SIZE, START = RetentionReason.TIME, RetentionReason.SIZE, RetentionReason.LOG_START


def ask(
    config: TopicConfig, segments: list[SegmentFacts] = SEGMENTS, **facts: int
) -> tuple[int, list[RetentionReason]]:
    facts = {"log_start_offset": 0, "high_watermark": 60, "now_ms": NOW_MS, **facts}
    decision = decide(segments, config, **facts)
    assert decision.delete_count == len(decision.reasons)
    assert decision.delete_end_offset == segments[decision.delete_count].base_offset
    return decision.delete_count, list(decision.reasons)


def test_by_time_strictly_older() -> None:
    assert ask(replace(KEEP_ALL, retention_ms=1000)) == (0, [])
    assert ask(replace(KEEP_ALL, retention_ms=800)) == (2, [TIME, TIME])


def test_by_size_never_below_the_limit() -> None:
    assert ask(replace(KEEP_ALL, retention_bytes=350)) == (2, [SIZE, SIZE])
    assert ask(replace(KEEP_ALL, retention_bytes=600)) == (0, [])
    assert ask(replace(KEEP_ALL, retention_bytes=501)) == (0, [])


def test_by_log_start_offset_even_when_compacted() -> None:
    compacted = replace(KEEP_ALL, cleanup_policy=frozenset({"compact"}), retention_ms=0)
    assert ask(compacted, log_start_offset=25) == (2, [START, START])


def test_never_above_the_high_watermark() -> None:
    assert ask(replace(KEEP_ALL, retention_ms=0), high_watermark=29) == (2, [TIME, TIME])


def test_the_active_segment_is_rolled_when_all_have_expired() -> None:
    decision = decide(
        SEGMENTS,
        replace(KEEP_ALL, retention_ms=0),
        log_start_offset=0,
        high_watermark=60,
        now_ms=NOW_MS + 10**6,
    )
    assert decision.delete_count == 5 and decision.roll_active
    rolled = [*SEGMENTS, SegmentFacts(60, 60, 0, NOW_MS)]
    decision = decide(
        rolled,
        replace(KEEP_ALL, retention_ms=0),
        log_start_offset=0,
        high_watermark=60,
        now_ms=NOW_MS + 10**6,
    )
    assert decision.delete_count == 6 and not decision.roll_active, "an empty active segment stays"


TIERED = replace(KEEP_ALL, remote_storage_enable=True, local_retention_ms=0, local_retention_bytes=-2)


def test_a_tiered_topic_loses_only_what_is_copied() -> None:
    assert ask(TIERED) == (0, []), "nothing is known of the tier"
    assert ask(TIERED, tiered_end_offset=35) == (3, [TIME] * 3)
    assert ask(TIERED, tiered_end_offset=35, high_watermark=20) == (2, [TIME] * 2)
    assert ask(replace(TIERED, retention_ms=0, local_retention_ms=-2), tiered_end_offset=10) == (1, [TIME])


def test_a_tiered_topic_follows_its_log_start() -> None:
    assert ask(TIERED, tiered_end_offset=0, log_start_offset=40) == (4, [START] * 4)


def test_local_limits_fall_back_to_the_total() -> None:
    config = TopicConfig(retention_ms=5, retention_bytes=6)
    assert (local_retention_ms(config), local_retention_bytes(config)) == (5, 6)
    config = replace(config, local_retention_ms=1, local_retention_bytes=2)
    assert (local_retention_ms(config), local_retention_bytes(config)) == (1, 2)


def test_local_bytes() -> None:
    config = replace(TIERED, local_retention_ms=-1, local_retention_bytes=250)
    assert ask(config, tiered_end_offset=60) == (3, [SIZE] * 3)


@given(
    st.integers(0, 70),
    st.integers(0, 60),
    st.none() | st.integers(0, 60),
    st.booleans(),
    st.integers(-2, 1200),
    st.integers(-2, 700),
    st.integers(-1, 1200),
)
def test_nothing_above_any_bound_ever_goes(
    log_start: int,
    high_watermark: int,
    tiered_end: int | None,
    is_tiered: bool,
    local_ms: int,
    local_bytes: int,
    ms: int,
) -> None:
    config = TopicConfig(
        retention_ms=ms,
        remote_storage_enable=is_tiered,
        local_retention_ms=local_ms,
        local_retention_bytes=local_bytes,
    )
    decision = decide(
        SEGMENTS,
        config,
        log_start_offset=log_start,
        high_watermark=high_watermark,
        now_ms=NOW_MS,
        tiered_end_offset=tiered_end,
    )
    bound = max(log_start, min(high_watermark, tiered_end or 0) if is_tiered else high_watermark)
    assert decision.delete_end_offset <= max(bound, 0)
    assert decision.delete_count <= len(SEGMENTS) - 1
