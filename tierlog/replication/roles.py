"""Derives the role of this broker's replica from the partition record: leader, follower, or no change.

Rules: a role changes only with the leader epoch. A broker begins to lead only while the image shows that the controller has
handled its registration. Before that, a record that names this broker may mean its earlier incarnation, which may have held
records that this one has lost; after that, the controller has elected this incarnation (metadata's M6). The high watermark
is carried from role to role; no role change cuts the log.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Protocol

from tierlog.replication.follower import Follower
from tierlog.replication.leader import Leader


class PartitionRecord(Protocol):
    """The part of ``metadata.records.PartitionState`` that replication uses."""

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
    # An earlier incarnation of this broker was elected: neither leader nor follower until the next record.
    RESIGN = "resign"
    # The role stays; a leader adopts the new ISR.
    UPDATE = "update"


def role_change(
    record: PartitionRecord,
    broker_id: int,
    leader: Leader | None,
    follower: Follower | None,
    *,
    may_lead: bool,
) -> RoleChange:
    """``may_lead``: the image that holds ``record`` shows the registration of this very process as handled
    (``BrokerImage.is_handled`` with its broker epoch). Ask again for every partition when that becomes true."""
    known_epoch = max(
        -1 if leader is None else leader.leader_epoch, -1 if follower is None else follower.leader_epoch
    )
    if record.leader_epoch < known_epoch:
        return RoleChange.NOTHING
    if record.leader != broker_id:
        is_same = follower is not None and follower.leader_epoch == record.leader_epoch
        return RoleChange.UPDATE if is_same else RoleChange.FOLLOW
    if leader is not None and leader.leader_epoch == record.leader_epoch:
        return RoleChange.UPDATE
    if may_lead:
        return RoleChange.LEAD
    return RoleChange.NOTHING if leader is None and follower is None else RoleChange.RESIGN


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
    """The state of a new leader; the driver has assigned the epoch to the log before (``Log.assign_epoch``).
    A leader that is alone in the ISR commits its durable records at once."""
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
    """The state of a new follower; ``high_watermark`` is at most the log end. ``is_lossy``: this replica has lost
    records (``Log.is_lossy``), or its registration could not rule that out."""
    return Follower(
        broker_id,
        broker_epoch,
        record.leader,
        record.leader_epoch,
        high_watermark,
        may_lose_committed=is_lossy or record.recovering,
    )
