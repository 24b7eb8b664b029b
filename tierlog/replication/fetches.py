"""The values that pass between a follower's state machine and its leader's: what a Fetch asks, and what it is answered.

Kafka's Fetch carries them; the driver translates. ``ReplicaLog`` is all that the machines read of a log.
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
    """One partition of a follower's Fetch. ``fetch_offset``: the follower's log end, the next offset that it needs.
    ``last_fetched_epoch``: the epoch of the record before ``fetch_offset``, -1 with an empty log.
    ``log_start_offset``: the follower's own log start."""

    broker_id: int
    broker_epoch: int
    leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    log_start_offset: int


class DivergingEpoch(NamedTuple):
    """The largest epoch, at or below the requested one, that the leader knows, and the end offset of that epoch
    (exclusive); ``(-1, -1)`` if it knows none (KIP-279)."""

    leader_epoch: int
    end_offset: int


class FetchReply(NamedTuple):
    """The leader's answer for one partition, without the records. Offsets are -1 if the answer does not have them.

    ``log_end_offset`` is the leader's (exclusive), set only beside OFFSET_OUT_OF_RANGE, if the driver knows it."""

    error: ErrorCode = ErrorCode.NONE
    high_watermark: int = -1
    log_start_offset: int = -1
    log_end_offset: int = -1
    diverging: DivergingEpoch | None = None
    has_records: bool = False


def last_epoch_of(log: ReplicaLog) -> int:
    """The leader epoch of the log's last record, -1 with an empty log.

    This is not always the lineage's latest entry: the lineage also has an epoch in which this broker led but wrote
    nothing, and no other replica knows that epoch."""
    if log.log_end_offset <= log.log_start_offset:
        return -1
    epoch = log.epochs.epoch_for_offset(log.log_end_offset - 1)
    return -1 if epoch is None else epoch
