"""What a partition's record makes of this broker's replica: leader, follower, or nothing new.

Rules: a role changes with the leader epoch alone. Leadership is taken only from an epoch higher than any this broker
has seen, so a broker that restarts never resumes leading (every registration raises the epoch of what it led). The
high watermark is carried from role to role; the log is cut at no role change.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Protocol

from tierlog.replication.follower import Follower
from tierlog.replication.leader import Leader


class PartitionRecord(Protocol):
    """``metadata.records.PartitionState`` as far as replication looks at it."""

    @property
    def leader(self) -> int: ...
    @property
    def leader_epoch(self) -> int: ...
    @property
    def isr(self) -> Collection[int]: ...
    @property
    def replicas(self) -> Collection[int]: ...
    @property
    def min_isr(self) -> int: ...
    @property
    def recovering(self) -> bool: ...
    @property
    def partition_epoch(self) -> int: ...


class RoleChange(Enum):
    NOTHING = "nothing"
    LEAD = "lead"
    FOLLOW = "follow"
    # The role stays; a leader takes the new ISR over.
    UPDATE = "update"


def role_change(
    record: PartitionRecord,
    broker_id: int,
    leader: Leader | None,
    follower: Follower | None,
    known_epoch: int,
) -> RoleChange:
    """``known_epoch``: the highest leader epoch that this broker has seen of the partition. After a start that is the
    record's own, where the record is older than the registration of this start or not dealt with by the controller;
    -1 for a partition that has just been made."""
    if record.leader_epoch < known_epoch:
        return RoleChange.NOTHING
    is_new_epoch = record.leader_epoch > known_epoch
    if record.leader == broker_id:
        if is_new_epoch:
            return RoleChange.LEAD
        return RoleChange.NOTHING if leader is None else RoleChange.UPDATE
    if is_new_epoch or follower is None:
        return RoleChange.FOLLOW
    return RoleChange.UPDATE


def lead(
    record: PartitionRecord,
    broker_id: int,
    broker_epoch: int,
    *,
    log_end_offset: int,
    durable_end_offset: int,
    high_watermark: int,
    now_ms: int,
) -> Leader:
    """The machine of a new leader; the driver has assigned the epoch to the log before (``Log.assign_epoch``).
    What can be committed at once (alone in the ISR) is."""
    leader = Leader(
        broker_id=broker_id,
        leader_epoch=record.leader_epoch,
        epoch_start_offset=log_end_offset,
        isr=frozenset(record.isr),
        min_isr=record.min_isr,
        partition_epoch=record.partition_epoch,
        durable_end_offset=durable_end_offset,
        high_watermark=min(high_watermark, durable_end_offset),
        replicas=frozenset(record.replicas),
        broker_epoch=broker_epoch,
        elected_ms=now_ms,
    )
    leader.advance()
    return leader


def follow(
    record: PartitionRecord, broker_id: int, broker_epoch: int, *, high_watermark: int, is_lossy: bool
) -> Follower:
    """The machine of a new follower; ``high_watermark`` is at most the log end. ``is_lossy``: this replica has lost
    records (``Log.is_lossy``, or a registration that could not rule it out)."""
    return Follower(
        broker_id,
        broker_epoch,
        record.leader,
        record.leader_epoch,
        high_watermark,
        may_lose_committed=is_lossy or record.recovering,
    )
