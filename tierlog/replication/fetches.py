"""What a follower asks and what it is told: the values between the follower's machine and the leader's.

The wire's Fetch carries them; the driver translates. ``ReplicaLog`` is all that the machines read of a log.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tierlog.errors import ErrorCode
from tierlog.log.leader_epochs import EpochLineage


class ReplicaLog(Protocol):
    """The log of one replica, as the machines see it; ``tierlog.log.Log`` is one. They never write to it."""

    @property
    def log_start_offset(self) -> int: ...
    @property
    def local_log_start_offset(self) -> int: ...
    @property
    def log_end_offset(self) -> int: ...
    @property
    def epochs(self) -> EpochLineage: ...


class FollowerFetch(NamedTuple):
    """One partition of a follower's Fetch. ``last_fetched_epoch``: the epoch of the record before
    ``fetch_offset``, -1 with an empty log. ``log_start_offset`` is the follower's own."""

    broker_id: int
    broker_epoch: int
    leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    log_start_offset: int


class DivergingEpoch(NamedTuple):
    """The largest epoch at or below the asked one that the leader knows, and where it ended (exclusive);
    ``(-1, -1)`` when it knows none (KIP-279)."""

    leader_epoch: int
    end_offset: int


class FetchReply(NamedTuple):
    """What the leader said about one partition, without the records. Offsets are -1 where it said nothing.

    ``log_end_offset`` is set beside OFFSET_OUT_OF_RANGE alone, where the driver knows it."""

    error: ErrorCode = ErrorCode.NONE
    high_watermark: int = -1
    log_start_offset: int = -1
    log_end_offset: int = -1
    diverging: DivergingEpoch | None = None
    has_records: bool = False


def last_epoch_of(log: ReplicaLog) -> int:
    """The leader epoch of the log's last record, -1 with an empty log.

    Not the lineage's latest entry: an epoch that was led here and wrote nothing stands there too, and nobody else
    has ever heard of it."""
    if log.log_end_offset <= log.log_start_offset:
        return -1
    epoch = log.epochs.epoch_for_offset(log.log_end_offset - 1)
    return -1 if epoch is None else epoch
