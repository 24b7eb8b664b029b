"""Passes events and questions of the hosted replicas to the parts of the broker that handle them.

The replicas are made before most of these parts. So each call looks its part up when it is made, and has a default for the
time before the part exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tierlog.errors import ErrorCode

if TYPE_CHECKING:
    from tierlog.broker.disk.log_dirs import LogDir
    from tierlog.broker.following.followed_brokers import FollowedBrokers
    from tierlog.broker.offload.service import Tiering
    from tierlog.broker.replicas.partition import Partition
    from tierlog.broker.reports.failure_reports import FailureReports
    from tierlog.broker.upkeep.housekeeping import Housekeeping
    from tierlog.metadata.records import PartitionState


class Parts(Protocol):
    """The broker's parts that act on its replicas. ``followed_brokers`` exists before any replica has a role,
    ``housekeeping`` before any log is open."""

    followed_brokers: FollowedBrokers
    housekeeping: Housekeeping
    failure_reports: FailureReports | None
    tiering: Tiering | None


class OwnerOfReplicas:
    """One per broker; implements ``ReplicasOwner``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_cut_synced(self, partition: Partition, cut: int) -> None:
        self._parts.housekeeping.on_cut_synced(partition, cut)

    def on_writeback_due(self, partition: Partition) -> None:
        self._parts.housekeeping.on_writeback_due(partition)

    def on_synced(self, partition: Partition) -> None:
        self._parts.followed_brokers.on_synced(partition)

    def follow(self, partition: Partition) -> None:
        self._parts.followed_brokers.follow(partition)

    def on_dir_failed(self, log_dir: LogDir) -> None:
        """Failures before the reports exist are reported once they do."""
        if self._parts.failure_reports is not None:
            self._parts.failure_reports.on_dir_failed(log_dir)

    def on_unopened(self) -> None:
        if self._parts.failure_reports is not None:
            self._parts.failure_reports.on_unopened()

    def may_lead(self, partition: Partition, state: PartitionState) -> bool:
        tiering = self._parts.tiering
        return tiering is None or tiering.lead_check.may_lead(partition, state)

    async def commit_log_start(self, partition: Partition, offset: int) -> ErrorCode:
        tiering = self._parts.tiering
        return (
            ErrorCode.NONE if tiering is None else await tiering.offload.commit_log_start(partition, offset)
        )
