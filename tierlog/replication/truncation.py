"""Where a follower cuts its log: by epoch, never by high watermark (KIP-101, KIP-279)."""

from __future__ import annotations

from tierlog.replication.fetches import DivergingEpoch, ReplicaLog


def truncation_target(log: ReplicaLog, diverging: DivergingEpoch, high_watermark: int) -> int:
    """The end of what this log and the leader's may have in common, at most the log end.

    Where both know the epoch it ends at the nearer end. Where this log never had it, everything behind the largest
    older epoch that it has is cut, and the next fetch asks about that one. A leader that knows no epoch at all leaves
    the high watermark as the only thing both have agreed on."""
    log_end_offset = log.log_end_offset
    epoch, end_offset = diverging
    if epoch < 0:
        return min(high_watermark, log_end_offset)
    own_epoch, own_end_offset = log.epochs.end_offset_for(epoch, log_end_offset)
    if own_end_offset < 0:
        own_end_offset = log_end_offset
    if own_epoch != epoch:
        return min(own_end_offset, log_end_offset)
    return min(own_end_offset, end_offset, log_end_offset)


def disagrees_with_tier(log: ReplicaLog, tiered_end_offset: int, tiered_last_epoch: int | None) -> bool:
    """Whether the log must be set aside and begun anew at the tiered end: it ends before, or another epoch wrote the
    last record there. What is tiered was committed, so the tier is right. ``tiered_last_epoch``: the epoch of offset
    ``tiered_end_offset - 1``, None where the tier holds nothing any more."""
    if log.log_end_offset < tiered_end_offset:
        return True
    if tiered_last_epoch is None or tiered_end_offset == 0:
        return False
    local_epoch = log.epochs.epoch_for_offset(tiered_end_offset - 1)
    return local_epoch is not None and local_epoch != tiered_last_epoch
