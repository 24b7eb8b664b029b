"""The roles that the partition records give this broker's replicas (leader, follower), and from when on they count.

Rules:

* no replica has a role before this process is registered, and its logs are recovered and compared with their tiers
  (``begin``);
* leadership begins only while the image shows this very registration as handled by the controller; when that changes
  the record of every hosted partition is applied again (``replication.roles``);
* a replica begins to lead only after its log was compared with its tier, if its election was unclean
  (``PartitionState.recovering``) or the comparison at the start failed (``offload.lead_check``). Until then it has no role;
* the high watermark is carried from role to role by the partition;
* observers are told of leadership in the order in which they subscribed, in the same step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from tierlog.broker.clock import monotonic_ms
from tierlog.broker.replicas.partition import Partition
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import PartitionState
from tierlog.replication.roles import RoleChange, follow, lead, role_change

WAKE_AFTER_S = 0.025

logger = structlog.get_logger()


class RolesOwner(Protocol):
    """Acts on the roles that replicas get, in the same step."""

    def follow(self, partition: Partition) -> None:
        """The partition has a new ``Follower``, or has none any more; see following.followed_brokers."""

    def may_lead(self, partition: Partition, state: PartitionState) -> bool:
        """Whether this broker may begin to lead now. If not, the record is applied again once it may; see
        offload.lead_check."""


class ParkedFollower(Protocol):
    """A follower's fetch that waits for news here."""

    def wake(self) -> None:
        """Ends the wait: the fetch is answered soon, with the data that is there."""


class ReplicaRoles:
    """One per broker."""

    def __init__(
        self,
        broker_id: int,
        image: Callable[[], MetadataImage],
        loop: asyncio.AbstractEventLoop,
        owner: RolesOwner,
    ) -> None:
        self._owner = owner
        self.observers: list[ReplicaObserver] = []
        # By the follower's broker id: its fetch that was parked last.
        self.parked: dict[int, ParkedFollower] = {}
        # This broker's own, of its newest registration; 0 before the first.
        self.broker_epoch = 0
        # Whether data that an earlier process wrote may be lost: found at the start, and true for as long as this one runs.
        self.may_have_lost = False
        self._broker_id = broker_id
        self._image = image
        self._loop = loop
        self._has_begun = False
        self._was_handled = False
        self._to_wake: set[int] = set()

    # -- when roles count

    def begin(self, partitions: Iterable[Partition]) -> None:
        """Roles count from here on: the logs are recovered and compared with their tiers."""
        self._has_begun = True
        self._was_handled = self._is_handled
        self.apply_all(partitions)

    def on_registered(self, broker_epoch: int, lossless_since: int, partitions: Iterable[Partition]) -> None:
        """A first registration, or another one after a lost lease."""
        self.may_have_lost |= lossless_since == broker_epoch
        self.broker_epoch = broker_epoch
        for partition in partitions:
            if partition.follower is not None:
                partition.follower.on_registered(broker_epoch)
                self._owner.follow(partition)

    def refresh(self, partitions: Iterable[Partition]) -> None:
        """The image's view of this broker may have changed."""
        is_handled = self._is_handled
        if is_handled != self._was_handled:
            self._was_handled = is_handled
            self.apply_all(partitions)

    @property
    def _is_handled(self) -> bool:
        broker = self._image().brokers.get(self._broker_id)
        return (
            self.broker_epoch > 0
            and broker is not None
            and broker.is_handled
            and broker.broker_epoch == self.broker_epoch
        )

    @property
    def has_begun(self) -> bool:
        return self._has_begun

    def is_in_sync(self, partition: Partition) -> bool:
        """Whether the image shows this registration as handled, and the replica in the ISR. Then a leader has checked, since
        the registration, that the replica has all committed records."""
        state = self._image().partition(partition.topic_id, partition.topic_partition.partition)
        return self._is_handled and state is not None and self._broker_id in state.isr

    # -- roles

    def apply_all(self, partitions: Iterable[Partition]) -> None:
        image = self._image()
        for partition in partitions:
            state = image.partition(partition.topic_id, partition.topic_partition.partition)
            if state is not None and self._broker_id in state.replicas:
                self.apply(partition, state)

    def apply(self, partition: Partition, state: PartitionState) -> None:
        """Applies the partition's record, as the image has it now."""
        partition.replicas = state.replicas
        if not self._has_begun or not self.broker_epoch:
            return
        leader = partition.leader
        change = role_change(state, self._broker_id, leader, partition.follower, may_lead=self._is_handled)
        match change:
            case RoleChange.LEAD if self._owner.may_lead(partition, state):
                self._lead(partition, state)
            case RoleChange.FOLLOW:
                self._follow(partition, state)
            case RoleChange.RESIGN | RoleChange.LEAD:
                self.leave(partition)
            case RoleChange.UPDATE:
                partition.partition_epoch = state.partition_epoch
                if leader is not None:
                    moved = leader.on_partition_record(
                        frozenset(state.isr), state.min_isr, state.partition_epoch, frozenset(state.replicas)
                    )
                    partition.on_isr_changed(moved)
            case RoleChange.NOTHING:
                pass

    def _lead(self, partition: Partition, state: PartitionState) -> None:
        self.leave(partition)
        log = partition.log
        log.assign_epoch(state.leader_epoch)
        leader = lead(
            state,
            self._broker_id,
            self.broker_epoch,
            log_end_offset=log.log_end_offset,
            durable_end_offset=partition.durable_end_offset,
            high_watermark=partition.high_watermark,
            now_ms=monotonic_ms(self._loop),
        )
        partition.lead(leader, state.partition_epoch)
        for observer in self.observers:
            observer.on_lead(partition)
        if len(state.replicas) > 1:
            self._wake_followers(state.replicas)

    def _wake_followers(self, replicas: Iterable[int]) -> None:
        """Wakes followers that wait here for news of other partitions, so that they ask for this one too. They learn of it
        from the same record, about now."""
        if not self._to_wake:
            self._loop.call_later(WAKE_AFTER_S, self._wake_parked)
        self._to_wake.update(replicas)

    def _wake_parked(self) -> None:
        brokers, self._to_wake = self._to_wake, set()
        for broker_id in sorted(brokers):
            parked = self.parked.pop(broker_id, None)
            if parked is not None:
                parked.wake()

    def _follow(self, partition: Partition, state: PartitionState) -> None:
        self.leave(partition)
        follower = follow(
            state,
            self._broker_id,
            self.broker_epoch,
            high_watermark=partition.high_watermark,
            is_lossy=self.may_have_lost or bool(partition.lossy_reason),
        )
        partition.follow(follower, state.partition_epoch)
        self._owner.follow(partition)

    def leave(self, partition: Partition) -> None:
        """Neither leader nor follower from here on."""
        if partition.leader is not None:
            for observer in self.observers:
                observer.on_resign(partition)
        was_following = partition.follower is not None
        partition.resign(-1, partition.leader_epoch, partition.partition_epoch)
        if was_following:
            self._owner.follow(partition)


class ReplicaObserver(Protocol):
    """Reacts to changes of what this broker hosts."""

    def on_lead(self, partition: Partition) -> None:
        """This broker has begun to lead the partition on a new epoch."""

    def on_resign(self, partition: Partition) -> None:
        """This broker no longer leads the partition, or the partition is gone."""

    def on_reconfigured(self, partition: Partition) -> None:
        """The topic's config changed."""
