"""A range of the sealed local log in the form that the mover takes, and the facts that the planner needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from tiering.codec import AbortedTransaction
from tiering.copying.source import SegmentSource
from tiering.ladder import Ladder, Rung
from tiering.objects.classes import ClassNames, StorageClass
from tiering.planner import CopySegment, Facts, LocalSegment, Policy
from tierlog.broker.offload.tier import PartitionTier
from tierlog.config.tiers import LOCAL
from tierlog.config.topic import TopicConfig
from tierlog.log.log import Log
from tierlog.log.reading import find_batch
from tierlog.log.retention import local_retention_bytes, local_retention_ms
from tierlog.log.segment import Segment


def facts_of(tier: PartitionTier, now_ms: int) -> Facts:
    """The state of one partition as it is now."""
    log = tier.partition.log
    config = tier.partition.config
    needs_ages = config.remote_log_copy_disable or config.delays_copies
    sealed = [
        LocalSegment(base, s.end_offset, s.size_bytes, s.trusted_timestamp_ms(now_ms) if needs_ages else -1)
        for base, s in _copyable(log, tier.end_offset)
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


def policy_of(config: TopicConfig, delete_grace_ms: int, *, is_disk_short: bool = False) -> Policy:
    """The tier's retention and copy settings, from the topic's config. On a disk that is short of room no copy is delayed,
    since only what is copied can go."""
    is_deleting = config.is_deleted_by_retention
    lag_ms, lag_bytes = config.remote_copy_lag_ms, config.remote_copy_lag_bytes
    return Policy(
        retention_ms=config.retention_ms if is_deleting else -1,
        retention_bytes=config.retention_bytes if is_deleting else -1,
        delete_grace_ms=delete_grace_ms,
        is_copy_enabled=not config.remote_log_copy_disable,
        copy_lag_ms=0 if is_disk_short else local_retention_ms(config) if lag_ms == -1 else lag_ms,
        copy_lag_bytes=local_retention_bytes(config) if lag_bytes == -1 else lag_bytes,
    )


def ladder_of(config: TopicConfig, names: dict[StorageClass, ClassNames]) -> Ladder | None:
    """The topic's ladder in the classes of the store; None without one, or in a store of one class."""
    remote = [rung for rung in config.tierlog_tiers if rung.name != LOCAL]
    if not remote or not names:
        return None
    ages = [0, *(rung.until_ms for rung in remote)]
    classes = {each.label: each for each in StorageClass}
    rungs = (Rung(classes[rung.name], from_ms) for rung, from_ms in zip(remote, ages, strict=False))
    return Ladder(tuple(rungs), names, is_early_allowed=config.tierlog_tiers_before_minimum)


def source_of(log: Log, copy: CopySegment) -> SegmentSource | None:
    """The range of the segment's file to copy; None if the segment is gone or has changed since it was planned. Reads
    one small file and some headers."""
    segment = next((s for _, s in _copyable(log, copy.base_offset) if s.end_offset == copy.end_offset), None)
    if segment is None or copy.segment_base_offset > copy.base_offset:
        return None
    start_position = 0
    if copy.base_offset > segment.base_offset:
        start_position = _position_of(log, copy.base_offset, segment.base_offset)
        if start_position < 0:
            return None
    sealed, snapshot = segment.describe(), b""
    with suppress(FileNotFoundError):
        snapshot = sealed.snapshot_path.read_bytes()
    return SegmentSource(
        path=str(sealed.log_path),
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


def _copyable(log: Log, offset: int) -> Iterator[tuple[int, Segment]]:
    """Sealed segments with a batch at or above ``offset``, each with its base offset for the copy: the end of the segment
    before. If compaction has emptied a segment, wholly or from ``offset`` on, its range counts as part of the next one."""
    base = -1
    for segment in log.segments.starting_at(offset):
        if not segment.is_sealed or log.snapshots.is_pending(segment.end_offset):
            return
        if base < 0:
            base = segment.base_offset
        is_cut = segment.base_offset < offset < segment.end_offset
        if segment.size_bytes and (not is_cut or _position_of(log, offset, segment.base_offset) >= 0):
            yield base, segment
            base = segment.end_offset


def _position_of(log: Log, offset: int, base_offset: int) -> int:
    """The file position of the first batch at or above ``offset`` in the segment of ``base_offset``; -1 if there is none."""
    place = find_batch(log.segments, offset)
    return place[1] if place is not None and place[0].base_offset == base_offset else -1
