"""Chooses the brokers for the replicas of new partitions, as requested or placed automatically, with Kafka's refusals.

``Refused`` carries the error of one topic to ``topics``, which makes the topic's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tierlog.errors import ErrorCode
from tierlog.metadata.control.placement import Candidate, place
from tierlog.metadata.image import BrokerImage, MetadataImage
from tierlog.metadata.records import NO_LEADER, PartitionState
from tierlog.metadata.rules import TopicRules


class Shape(Protocol):
    """What a request says about partitions and replicas: -1 means the default; ``assignments`` (partition →
    replicas) is empty for automatic placement."""

    @property
    def partition_count(self) -> int: ...

    @property
    def replication_factor(self) -> int: ...

    @property
    def assignments(self) -> Sequence[tuple[int, Sequence[int]]]: ...


class Refused(Exception):
    """Carries the error of one topic to the place where its result is made; never leaves the decisions."""

    def __init__(self, error: ErrorCode, message: str | None) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


def choose_assignment(
    image: MetadataImage, rules: TopicRules, name: str, shape: Shape, *, room: int, start: int
) -> list[tuple[int, ...]]:
    """Replicas per partition of a new topic. ``room``: partitions that the request may still create. Raises
    ``Refused``."""
    if shape.assignments:
        return _manual_assignment(image, shape)
    if shape.replication_factor < -1 or shape.replication_factor == 0:
        raise Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if shape.partition_count < -1 or shape.partition_count == 0:
        raise Refused(
            ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value."
        )
    count, factor = rules.partition_count, rules.replication_factor
    internal = rules.internal_topics.get(name)
    if internal is not None:
        brokers = max(1, sum(b.is_available for b in image.brokers.values()))
        count, factor = internal.partition_count, min(internal.replication_factor, brokers)
    count = count if shape.partition_count == -1 else shape.partition_count
    factor = factor if shape.replication_factor == -1 else shape.replication_factor
    if count > room:
        raise Refused(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
    return place_evenly(image, count, factor, start)


def place_evenly(image: MetadataImage, count: int, factor: int, start: int) -> list[tuple[int, ...]]:
    """Automatic placement on available brokers; when there are too few, also on others, as Kafka does. Never on cordoned
    ones (KIP-1066). Raises ``Refused``."""
    known = [b for b in image.brokers.values() if b.state is not None and not image.is_cordoned(b.broker_id)]
    available = [b for b in known if b.is_available]
    problem = ""
    if not available:
        problem = "All brokers are currently fenced, or have all their log directories cordoned."
    elif factor > len(known):
        problem = (
            f"The target replication factor of {factor} cannot be reached because only {len(known)} broker(s) "
            "are registered or some brokers have all their log directories cordoned."
        )
    if problem:
        raise Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {factor} time(s): {problem}",
        )
    pool = available if factor <= len(available) else known
    return place(count, factor, [candidate_of(b) for b in pool], start)


def candidate_of(broker: BrokerImage) -> Candidate:
    """The broker with its rack and host, for placement."""
    registration = broker.registration
    if registration is None:
        return Candidate(broker.broker_id, None, "")
    return Candidate(broker.broker_id, registration.rack, registration.host)


def _manual_assignment(image: MetadataImage, shape: Shape) -> list[tuple[int, ...]]:
    if shape.replication_factor != -1:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    if shape.partition_count != -1:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    by_partition: dict[int, tuple[int, ...]] = {}
    factor: int | None = None
    for partition, replicas in shape.assignments:
        if partition in by_partition:
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {partition}",
            )
        by_partition[partition] = checked_replicas(image, replicas, factor)
        factor = len(replicas)
    if sorted(by_partition) != list(range(len(by_partition))):
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
        )
    return [by_partition[n] for n in range(len(by_partition))]


def checked_replicas(image: MetadataImage, replicas: Sequence[int], factor: int | None) -> tuple[int, ...]:
    problem = ""
    if not replicas:
        problem = "The manual partition assignment includes an empty replica list."
    for broker_id in replicas:
        broker = image.brokers.get(broker_id)
        if broker is None or broker.is_gone:
            problem = (
                f"The manual partition assignment includes broker {broker_id}, but no such broker is "
                "registered."
            )
            break
        if list(replicas).count(broker_id) > 1:
            problem = f"The manual partition assignment includes the broker {broker_id} more than once."
            break
    if not problem and factor is not None and factor != len(replicas):
        problem = (
            f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but "
            f"this is not consistent with previous partitions, which have {factor} replica(s)."
        )
    if problem:
        raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, problem)
    return tuple(replicas)


def new_partition(
    image: MetadataImage, replicas: tuple[int, ...], min_isr: int, manual_partition: int | None
) -> PartitionState:
    isr = tuple(r for r in replicas if (b := image.brokers.get(r)) is not None and b.is_available)
    if not isr and manual_partition is not None:
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"All brokers specified in the manual partition assignment for partition {manual_partition} are "
            "fenced or in controlled shutdown.",
        )
    state = PartitionState(
        leader=isr[0] if isr else NO_LEADER,
        leader_epoch=0,
        isr=isr,
        replicas=replicas,
        min_isr=max(1, min(min_isr, len(replicas))),
    )
    state.check()
    return state
