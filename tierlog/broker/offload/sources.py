"""A range of sealed local log as the mover wants it, and the facts that the planner asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from tiering.codec import AbortedTransaction
from tiering.planner import CopySegment, Facts, LocalSegment, Policy
from tiering.scan import SegmentSource
from tierlog.broker.offload.tier import PartitionTier
from tierlog.config.topic import TopicConfig
from tierlog.log.log import Log
from tierlog.log.segment import SealedSegment


def facts_of(tier: PartitionTier) -> Facts:
    """One partition as it is now."""
    log = tier.partition.log
    is_off = tier.partition.config.remote_log_copy_disable  # else nobody asks how old a local segment is
    sealed = [
        LocalSegment(s.base_offset, s.end_offset, s.size_bytes, _timestamp_ms(s) if is_off else -1)
        for s in _sealed(log)
    ]
    return Facts(
        catalog=tier.catalog,
        pages=tier.pages,
        sealed=sealed,
        copy_limit_offset=tier.partition.last_stable_offset,
        active_bytes=log.segments.active.size_bytes,
        head_copied_sequence=tier.head_copied_sequence,
        head_copied_ms=tier.head_copied_ms,
    )


def policy_of(config: TopicConfig, delete_grace_ms: int) -> Policy:
    """What the topic's config asks of its tier."""
    is_deleting = config.is_deleted_by_retention
    return Policy(
        retention_ms=config.retention_ms if is_deleting else -1,
        retention_bytes=config.retention_bytes if is_deleting else -1,
        delete_grace_ms=delete_grace_ms,
        is_copy_enabled=not config.remote_log_copy_disable,
    )


def source_of(log: Log, copy: CopySegment) -> SegmentSource | None:
    """The range in its file; None when the segment is gone or has changed since it was planned. Reads one small
    file and some headers."""
    segment = next((s for s in _sealed(log) if s.base_offset == copy.segment_base_offset), None)
    if segment is None or segment.end_offset != copy.end_offset:
        return None
    start_position = 0
    if copy.base_offset > segment.base_offset:
        found = log.locate(copy.base_offset, 1, copy.end_offset)
        if found is None or not found.size_bytes:
            return None
        start_position = found.position
    snapshot = b""
    with suppress(FileNotFoundError):
        snapshot = segment.snapshot_path.read_bytes()
    return SegmentSource(
        path=str(segment.log_path),
        start_position=start_position,
        end_position=segment.size_bytes,
        base_offset=copy.base_offset,
        end_offset=copy.end_offset,
        lineage=[(entry.leader_epoch, entry.start_offset) for entry in log.epochs.entries],
        aborted=[
            AbortedTransaction(*aborted)
            for aborted in log.aborted_transactions(copy.base_offset, copy.end_offset)
        ],
        producer_snapshot=snapshot,
    )


def _timestamp_ms(segment: SealedSegment) -> int:
    if segment.max_timestamp >= 0:
        return segment.max_timestamp
    return int(segment.log_path.stat().st_mtime * 1000)


def _sealed(log: Log) -> Iterator[SealedSegment]:
    return (segment for segment in log.sealed_segments() if segment.size_bytes)
