"""Chooses the offset at which a follower cuts its log: by epoch, not by high watermark (KIP-101, KIP-279)."""

from __future__ import annotations

from tierlog.replication.fetches import DivergingEpoch, ReplicaLog


def truncation_target(log: ReplicaLog, diverging: DivergingEpoch, high_watermark: int) -> int:
    """The exclusive end of the records that this log and the leader's may have in common, at most the log end.

    If both logs have the epoch, it is the smaller of the two end offsets of that epoch. If this log never had it,
    everything after the largest older epoch that it has is cut, and the next fetch asks about that one. If the leader
    knows no such epoch at all, the high watermark is the only offset that both have agreed on."""
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
    """Whether the log must be set aside and begun anew at the tiered end: it ends below the tiered end, or its record
    right before the tiered end is of another epoch. Tiered records were committed, so the tier is right.
    ``tiered_end_offset`` is exclusive; ``tiered_last_epoch``: the epoch of offset ``tiered_end_offset - 1``, None if the
    tier no longer holds anything."""
    if log.log_end_offset < tiered_end_offset:
        return True
    if tiered_last_epoch is None or tiered_end_offset == 0:
        return False
    local_epoch = log.epochs.epoch_for_offset(tiered_end_offset - 1)
    return local_epoch is not None and local_epoch != tiered_last_epoch
