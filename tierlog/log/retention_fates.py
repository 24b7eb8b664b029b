"""Which rule keeps, removes or holds each local segment, and when: the reasons behind ``retention.decide``. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from tierlog.config.topic import TopicConfig
from tierlog.log.retention import AS_TOTAL, Limits, RetentionReason, SegmentFacts, limits_of, reason_of

NEVER_MS = -1
NOW_MS = 0


class Verdict(Enum):
    """What retention does with a segment at its next look."""

    REMOVED = "removed"
    ROLLED = "rolled"
    """The active segment has expired too: it is rolled, and may then be removed."""
    HELD = "held"
    """It has expired, and something else keeps it."""
    KEPT = "kept"


class Fate(NamedTuple):
    """``due_ms``: when the rule removes the segment; ``NOW_MS`` at the next look, ``NEVER_MS`` not by time, or not known."""

    verdict: Verdict
    rule: str
    due_ms: int


def fates(
    segments: Sequence[SegmentFacts],
    config: TopicConfig,
    *,
    log_start_offset: int,
    high_watermark: int,
    now_ms: int,
    tiered_end_offset: int | None = None,
    size_bytes: int | None = None,
    is_cut: bool = False,
) -> list[Fate]:
    """One for each segment; the arguments are those of ``retention.decide``. ``is_cut``: these are the oldest ones only,
    without the active one."""
    limits = limits_of(config, high_watermark, tiered_end_offset)
    names = _names(config)
    if size_bytes is None:
        size_bytes = sum(segment.size_bytes for segment in segments)
    excess_bytes = size_bytes - limits.size_bytes
    active_at = -1 if is_cut else len(segments) - 1
    found: list[Fate] = []
    due_ms = NOW_MS
    kept: SegmentFacts | None = None
    is_over = False
    for index, segment in enumerate(segments):
        reason = reason_of(segment, limits, log_start_offset, excess_bytes, now_ms)
        due_ms = _later(due_ms, segment, limits)
        if reason is None:
            is_over = True
            found.append(Fate(Verdict.KEPT, _why_kept(limits, names, index == active_at), due_ms))
        elif index == active_at and not is_over:
            found.append(_active(segment, names[reason], high_watermark))
        elif kept is not None:
            rule = f"{names[reason]} is over, but an older segment stays, at {kept.base_offset}"
            found.append(Fate(Verdict.HELD, rule, NEVER_MS))
        elif reason is RetentionReason.LOG_START or segment.end_offset <= limits.removable_end_offset:
            found.append(Fate(Verdict.REMOVED, names[reason], NOW_MS))
        else:
            rule = f"{names[reason]} is over, but {_hindrance(segment, config, high_watermark)}"
            found.append(Fate(Verdict.HELD, rule, NEVER_MS))
        if reason is not None:
            excess_bytes -= segment.size_bytes
        if kept is None and found[-1].verdict is not Verdict.REMOVED:
            kept = segment
    return found


def _names(config: TopicConfig) -> dict[RetentionReason, str]:
    """The property behind each reason."""
    is_local = config.remote_storage_enable and not config.remote_log_copy_disable
    local = config.local_retention_ms != AS_TOTAL, config.local_retention_bytes != AS_TOTAL
    time = ("local.retention.ms", config.local_retention_ms) if is_local and local[0] else ("", 0)
    size = ("local.retention.bytes", config.local_retention_bytes) if is_local and local[1] else ("", 0)
    time = time if time[0] else ("retention.ms", config.retention_ms)
    size = size if size[0] else ("retention.bytes", config.retention_bytes)
    return {
        RetentionReason.LOG_START: "below the log start (DeleteRecords, or retention of the whole)",
        RetentionReason.TIME: f"{time[0]}={time[1]}",
        RetentionReason.SIZE: f"{size[0]}={size[1]}",
    }


def _later(due_ms: int, segment: SegmentFacts, limits: Limits) -> int:
    """When this segment may go by time: not before those that are older."""
    if limits.time_ms < 0 or due_ms == NEVER_MS:
        return NEVER_MS
    return max(due_ms, segment.largest_timestamp_ms + limits.time_ms + 1)


def _why_kept(limits: Limits, names: dict[RetentionReason, str], is_active: bool) -> str:
    active = "active; " if is_active else ""
    time = f"{names[RetentionReason.TIME]} is not over" if limits.time_ms >= 0 else ""
    size = f"{names[RetentionReason.SIZE]} is not reached" if limits.size_bytes >= 0 else ""
    return active + (", ".join(filter(None, (time, size))) or "no limit by time or size")


def _active(segment: SegmentFacts, rule: str, high_watermark: int) -> Fate:
    if not segment.size_bytes:
        return Fate(Verdict.KEPT, "active and empty", NEVER_MS)
    if segment.end_offset > high_watermark:
        return Fate(
            Verdict.HELD, f"{rule} is over, but it ends above the high watermark {high_watermark}", NEVER_MS
        )
    return Fate(Verdict.ROLLED, f"{rule}: the active segment has expired too", NOW_MS)


def _hindrance(segment: SegmentFacts, config: TopicConfig, high_watermark: int) -> str:
    if segment.end_offset > high_watermark:
        return f"it ends above the high watermark {high_watermark}"
    assert config.remote_storage_enable
    return "it is not in the object store yet"
