"""When a log is compacted, how far, and what the offset map costs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

from tierlog.config.topic import TopicConfig
from tierlog.log.compaction.plan import (
    SHORT_KEY_BYTES,
    CompactionPlan,
    CompactionSegment,
    OffsetMap,
    plan,
)

NOW_MS = 1_000_000
CONFIG = TopicConfig(cleanup_policy=frozenset({"compact"}))
# Sealed segments of 100 bytes and 10 offsets, one per 1000 ms.
SEALED = [CompactionSegment(i * 10, i * 10 + 10, 100, NOW_MS - 5000 + i * 1000) for i in range(5)]


def ask(config: TopicConfig = CONFIG, checkpoint: int | None = None, **facts: int) -> CompactionPlan | None:
    facts = {"log_start_offset": 0, "cleanable_end_offset": 99, "now_ms": NOW_MS, **facts}
    return plan(SEALED, config, checkpoint_offset=checkpoint, **facts)


def test_all_sealed_segments_below_the_bound() -> None:
    assert ask() == CompactionPlan(0, 50, 0, 500, True)
    assert ask(checkpoint=20) == CompactionPlan(20, 50, 200, 300, True)
    assert ask(cleanable_end_offset=49) == CompactionPlan(0, 40, 0, 400, True)
    assert ask(cleanable_end_offset=9) is None
    assert ask(checkpoint=50) is None
    assert ask(TopicConfig()) is None, "not compacted"


def test_dirty_ratio() -> None:
    assert ask(checkpoint=30) == CompactionPlan(30, 50, 300, 200, False)
    assert ask(replace(CONFIG, min_cleanable_dirty_ratio=0.3), checkpoint=30) == CompactionPlan(
        30, 50, 300, 200, True
    )
    found = ask(checkpoint=30)
    assert found is not None and found.dirty_ratio == 0.4


def test_lags() -> None:
    young = replace(CONFIG, min_compaction_lag_ms=2500)
    assert ask(young) == CompactionPlan(0, 30, 0, 300, True)
    assert ask(replace(CONFIG, max_compaction_lag_ms=1500), checkpoint=30) == CompactionPlan(
        30, 50, 300, 200, True
    )
    assert ask(replace(CONFIG, max_compaction_lag_ms=9000), checkpoint=30) == CompactionPlan(
        30, 50, 300, 200, False
    )


def test_a_checkpoint_outside_the_log_is_clamped() -> None:
    assert ask(checkpoint=5, log_start_offset=20) == CompactionPlan(20, 50, 200, 300, True)
    assert ask(checkpoint=70) == CompactionPlan(0, 50, 0, 500, True), "the log was truncated"
    assert ask(log_start_offset=15) == CompactionPlan(15, 50, 100, 400, True)


def test_a_key_can_not_pass_for_a_digest() -> None:
    offsets = OffsetMap()
    long_key = b"x" * (SHORT_KEY_BYTES + 1)
    offsets.put(long_key, 1)
    (slot,) = offsets._offsets
    assert len(slot) == 16
    offsets.put(slot, 2)
    assert offsets.latest_offset(long_key) == 1 and offsets.latest_offset(slot) == 2
    assert offsets.latest_offset(b"absent") == -1
    offsets.freeze(3)
    assert list(offsets.live_offsets) == [1, 2] and offsets.end_offset == 3


def test_the_map_keeps_to_its_bound() -> None:
    tracemalloc.start()
    offsets = OffsetMap(limit_bytes=4_000_000)
    number = 0
    while not offsets.is_full:
        offsets.put(b"key of forty-eight bytes at most %015d" % number, number)
        number += 1
    offsets.freeze(number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(offsets) == number > 10_000
    assert peak < 1.25 * offsets.limit_bytes, "what is counted is what it costs"
