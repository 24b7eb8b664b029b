"""Decides which sealed segments of the local log may go: by time, by size, by log start offset, by the tier.

Kafka's rules: the oldest go first and only as a prefix; never above the high watermark; time is the largest
record timestamp of a segment, not its age on disk. One difference: a timestamp in the future says nothing about age, and
would keep all segments behind it, so the time of the last write counts instead. A topic with remote storage loses a local
segment only below the tiered end (taken from one snapshot of the tier's head) or below the log start offset; there
``local.retention.*`` replaces ``retention.*``, and its -2 means "as ``retention.*``". Retention never removes data that is
not yet copied.

When every segment, the active one included, has expired and the active one holds records, it is rolled first:
the caller rolls, then asks again. An active segment is never copied, so not being copied must not stop that roll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tierlog.config.topic import TopicConfig

UNLIMITED = -1
AS_TOTAL = -2


class SegmentFacts(NamedTuple):
    """The facts about one local segment that the decision needs. ``end_offset``: exclusive. ``largest_timestamp_ms``:
    the largest record timestamp, or the file's modification time where no record has one that can be trusted."""

    base_offset: int
    end_offset: int
    size_bytes: int
    largest_timestamp_ms: int


class RetentionReason(Enum):
    LOG_START = "log start offset"
    SIZE = "retention.bytes"
    TIME = "retention.ms"


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    """The ``delete_count`` oldest segments go, with one reason each; all end at or below ``delete_end_offset``.

    ``delete_end_offset``: the new log start offset of a log without remote storage, the new *local* log start
    offset of one with it; the first segment's base offset when nothing goes. ``roll_active``: the active
    segment has expired too, so roll it first; it is not counted in ``delete_count``.
    """

    delete_count: int
    delete_end_offset: int
    roll_active: bool
    reasons: tuple[RetentionReason, ...]


def local_retention_ms(config: TopicConfig) -> int:
    """How long a *tiered* segment stays on the local disk; -1 for ever."""
    return config.retention_ms if config.local_retention_ms == AS_TOTAL else config.local_retention_ms


def local_retention_bytes(config: TopicConfig) -> int:
    """How much of a tiered log stays on the local disk; -1 all of it."""
    return (
        config.retention_bytes if config.local_retention_bytes == AS_TOTAL else config.local_retention_bytes
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a topic's local segments; -1 is none. ``removable_end_offset``: exclusive; below it time and size count."""

    time_ms: int
    size_bytes: int
    removable_end_offset: int


def limits_of(config: TopicConfig, high_watermark: int, tiered_end_offset: int | None) -> Limits:
    """The arguments are those of ``decide``."""
    if not config.remote_storage_enable:
        if not config.is_deleted_by_retention:
            return Limits(UNLIMITED, UNLIMITED, 0)
        return Limits(config.retention_ms, config.retention_bytes, high_watermark)
    tiered_end = 0 if tiered_end_offset is None else tiered_end_offset
    removable_end = min(high_watermark, tiered_end)
    if not config.is_deleted_by_retention and AS_TOTAL in (
        config.local_retention_ms,
        config.local_retention_bytes,
    ):
        # Compacted for ever: the total is unlimited whatever retention.ms says.
        time_ms = UNLIMITED if config.local_retention_ms == AS_TOTAL else config.local_retention_ms
        size_bytes = UNLIMITED if config.local_retention_bytes == AS_TOTAL else config.local_retention_bytes
        return Limits(time_ms, size_bytes, removable_end)
    if config.remote_log_copy_disable:
        # Nothing is copied any more, so segments that the tier already holds go by the total limits.
        return Limits(config.retention_ms, config.retention_bytes, removable_end)
    return Limits(local_retention_ms(config), local_retention_bytes(config), removable_end)


def decide(
    segments: Sequence[SegmentFacts],
    config: TopicConfig,
    *,
    log_start_offset: int,
    high_watermark: int,
    now_ms: int,
    tiered_end_offset: int | None = None,
    size_bytes: int | None = None,
) -> RetentionDecision:
    """``segments``: ascending and adjoining, the active one last; at least one. Looks at no more of them than it must.

    ``tiered_end_offset`` (exclusive) matters only with remote storage; None: nothing is known to be copied.
    ``size_bytes``: total of all segments, where the caller knows it.
    """
    assert segments, "a log has an active segment"
    limits = limits_of(config, high_watermark, tiered_end_offset)
    if size_bytes is None:
        size_bytes = sum([segment.size_bytes for segment in segments])
    excess_bytes = size_bytes - limits.size_bytes
    reasons: list[RetentionReason] = []
    delete_end_offset = -1
    last = len(segments) - 1
    for index in range(last):
        segment = segments[index]
        reason = reason_of(segment, limits, log_start_offset, excess_bytes, now_ms)
        is_removable = (
            reason is RetentionReason.LOG_START or segment.end_offset <= limits.removable_end_offset
        )
        if delete_end_offset < 0 and (reason is None or not is_removable):
            delete_end_offset = segment.base_offset
        if reason is None:
            return RetentionDecision(len(reasons), delete_end_offset, False, tuple(reasons))
        if delete_end_offset < 0:
            reasons.append(reason)
        excess_bytes -= segment.size_bytes
    active = segments[last]
    reason = reason_of(active, limits, log_start_offset, excess_bytes, now_ms)
    # An empty active segment stays; its next roll removes it if it lies below the log start offset.
    roll_active = reason is not None and active.size_bytes > 0 and active.end_offset <= high_watermark
    if delete_end_offset < 0:
        delete_end_offset = active.base_offset
    return RetentionDecision(len(reasons), delete_end_offset, roll_active, tuple(reasons))


def reason_of(
    segment: SegmentFacts, limits: Limits, log_start_offset: int, excess_bytes: int, now_ms: int
) -> RetentionReason | None:
    """Why the oldest remaining segment has expired; None when it stays."""
    if segment.end_offset <= log_start_offset:
        return RetentionReason.LOG_START
    if limits.size_bytes >= 0 and excess_bytes >= segment.size_bytes:
        return RetentionReason.SIZE
    if limits.time_ms >= 0 and now_ms - segment.largest_timestamp_ms > limits.time_ms:
        return RetentionReason.TIME
    return None
