"""Moving partitions between brokers (KIP-455): begin, change, cancel and list, decided on the image.

While a reassignment is under way, the assignment is the target followed by the replicas to be removed; ``adding`` and
``removing`` say which. It completes by itself (``election``) once the whole target is in sync. The origin is the
assignment before the first request: a replica that one request adds and a later one does not name leaves at once. The
error codes and messages are those of Kafka's controller (replication factor: KIP-860).

A request is refused if it would leave fewer than ``min_isr`` replicas that surely have the data, where more have it now,
unless the topic allows unclean elections. (Kafka refuses only a request that would leave none.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tierlog.errors import ErrorCode
from tierlog.metadata.control.assignments import Refused, checked_replicas
from tierlog.metadata.control.decisions import PartitionDecision, PartitionFacts, PartitionResult
from tierlog.metadata.control.election import min_isr_bound, with_replicas
from tierlog.metadata.image import MetadataImage, TopicImage
from tierlog.metadata.records import PartitionState
from tierlog.metadata.rules import TopicRules


@dataclass(frozen=True, slots=True)
class Reassignment:
    """A request for one partition. ``replicas`` None cancels the reassignment under way."""

    topic: str
    partition: int
    replicas: tuple[int, ...] | None


def decide_reassignments(
    image: MetadataImage,
    rules: TopicRules,
    wishes: Sequence[Reassignment],
    *,
    allow_replication_factor_change: bool = True,
) -> Iterator[PartitionDecision]:
    """One decision per request, in order."""
    facts = PartitionFacts(image, rules)
    for wish in wishes:
        try:
            decision = _decide(facts, wish, allow_replication_factor_change)
        except Refused as refused:
            result = PartitionResult(wish.topic, wish.partition, refused.error, refused.message)
            decision = PartitionDecision(result)
        yield decision


def is_carried_out(image: MetadataImage, wish: Reassignment) -> bool:
    """Whether the image shows that the requested reassignment is under way, or done."""
    topic = image.topic(wish.topic)
    state = None if topic is None else topic.partitions.get(wish.partition)
    if state is None:
        return False
    if wish.replicas is None:
        return not is_under_way(state)
    return target_of(state) == wish.replicas


def ongoing(
    image: MetadataImage, wanted: Mapping[str, Sequence[int]] | None
) -> Iterator[tuple[str, list[tuple[int, PartitionState]]]]:
    """Each topic with its partitions that are being moved, often none. ``wanted`` None means all topics; topics and
    partitions that do not exist are left out."""
    names = sorted(image.topics_by_name) if wanted is None else wanted
    for name in names:
        topic = image.topic(name)
        if topic is None:
            continue
        partitions = sorted(topic.partitions) if wanted is None else wanted[name]
        moving = [
            (n, s) for n in partitions if (s := topic.partitions.get(n)) is not None and is_under_way(s)
        ]
        yield name, moving


def is_under_way(state: PartitionState) -> bool:
    return bool(state.adding or state.removing)


def target_of(state: PartitionState) -> tuple[int, ...]:
    return tuple(r for r in state.replicas if r not in state.removing)


def _origin_of(state: PartitionState) -> tuple[int, ...]:
    return tuple(r for r in state.replicas if r not in state.adding)


def _decide(facts: PartitionFacts, wish: Reassignment, may_change_factor: bool) -> PartitionDecision:
    topic = facts.image.topic(wish.topic)
    if topic is None:
        raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {wish.topic}.")
    old = topic.partitions.get(wish.partition)
    if old is None or wish.partition >= topic.partition_count:
        raise Refused(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            f"Unable to find partition {wish.topic}:{wish.partition}.",
        )
    if wish.replicas is None:
        changed = _cancelled(facts, topic, wish, old)
    else:
        changed = _moved(facts, topic, wish.replicas, old, may_change_factor)
    result = PartitionResult(wish.topic, wish.partition)
    if changed == old:
        return PartitionDecision(result)
    new = facts.settled(topic, old, changed)
    return PartitionDecision(result, (facts.txn(topic, wish.partition, old, new),))


def _moved(
    facts: PartitionFacts,
    topic: TopicImage,
    target: Sequence[int],
    old: PartitionState,
    may_change_factor: bool,
) -> PartitionState:
    target = checked_replicas(facts.image, target, None)
    count = len(target_of(old))
    if not may_change_factor and count != len(target):
        raise Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor is changed from {count} to {len(target)}",
        )
    origin = _origin_of(old)
    adding = tuple(r for r in target if r not in origin)
    removing = tuple(r for r in origin if r not in target)
    changed = with_replicas(old, (*target, *removing), adding, removing)
    if _leaves_too_few(old, changed) and not facts.is_unclean_allowed(topic):
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Unable to reassign {topic.name}: fewer than {old.min_isr} replicas that have all "
            "records would be left at once.",
        )
    return changed


def _cancelled(
    facts: PartitionFacts, topic: TopicImage, wish: Reassignment, old: PartitionState
) -> PartitionState:
    if not is_under_way(old):
        raise Refused(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, None)
    changed = with_replicas(old, _origin_of(old), (), ())
    if _leaves_too_few(old, changed) and not facts.is_unclean_allowed(topic):
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Unable to revert partition assignment for {wish.topic}:{wish.partition} because it would require "
            "an unclean leader election, or leave fewer than min.insync.replicas that have all records.",
        )
    return changed


def _leaves_too_few(old: PartitionState, changed: PartitionState) -> bool:
    """Whether fewer than ``min_isr`` replicas that surely have the data would be left, where more have it now. The ones
    left may lose it, or have lost it and not said so yet: ``min_isr`` is the promised protection against that."""
    bound = min(old.min_isr, min_isr_bound(changed))
    before, after = len({*old.isr, *old.elr}), len({*changed.isr, *changed.elr})
    # A replica that lost its eligibility in a power loss may turn out to be the only one that has everything.
    also_before, also_after = before + len(old.last_eligible), after + len(changed.last_eligible)
    return after < min(before, bound) or also_after < min(also_before, bound)
