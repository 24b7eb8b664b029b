"""Elections on request, and the balance of leaders (ElectLeaders, ``auto.leader.rebalance.enable``).

A preferred election moves the leadership to the first replica, if that is in sync and not about to stop. An
unclean one makes any replica the leader of a partition that has none, and may lose data. Error codes and messages
are those of Kafka's controller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from tierlog.errors import ErrorCode
from tierlog.metadata.control.decisions import PartitionDecision, PartitionFacts, PartitionResult
from tierlog.metadata.image import MetadataImage, TopicImage
from tierlog.metadata.records import NO_LEADER, PartitionState
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.transactions import MAX_NESTED, Txn

MAX_BALANCED_PARTITIONS = 1000


class ElectionType(IntEnum):
    """The numbers are those of ElectLeaders."""

    PREFERRED = 0
    UNCLEAN = 1


class Election(NamedTuple):
    topic: str
    partition: int


def decide_elections(
    image: MetadataImage, rules: TopicRules, elections: Sequence[Election], kind: ElectionType
) -> Iterator[PartitionDecision]:
    """One decision per partition, in order; ELECTION_NOT_NEEDED where the requested leader already leads."""
    facts = PartitionFacts(image, rules)
    for election in elections:
        yield _decide(facts, election, kind)


def all_elections(image: MetadataImage) -> list[Election]:
    """One election for every existing partition."""
    return [
        Election(name, n)
        for name, topic in image.topics_by_name.items()
        for n in range(topic.partition_count)
    ]


def has_wanted_leader(image: MetadataImage, election: Election, kind: ElectionType) -> bool:
    topic = image.topic(election.topic)
    state = None if topic is None else topic.partitions.get(election.partition)
    return state is not None and _is_needless(state, kind)


def balance_changes(image: MetadataImage, rules: TopicRules) -> Iterator[Txn]:
    """Preferred elections of partitions that can have them, at most ``MAX_BALANCED_PARTITIONS``, packed into few
    transactions."""
    facts = PartitionFacts(image, rules)
    nested: list[Txn] = []
    for topic in image.topics_by_name.values():
        for partition, state in topic.partitions.items():
            if len(nested) == MAX_BALANCED_PARTITIONS:
                break
            if state.leader not in (NO_LEADER, state.replicas[0]) and _can_lead(facts, state):
                nested.append(_preferred(facts, topic, partition, state))
    for i in range(0, len(nested), MAX_NESTED):
        yield Txn((), tuple(nested[i : i + MAX_NESTED]))


def _decide(facts: PartitionFacts, election: Election, kind: ElectionType) -> PartitionDecision:
    name, partition = election
    topic = facts.image.topic(name)
    if topic is None:
        return _refused(election, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    old = topic.partitions.get(partition)
    if old is None or partition >= topic.partition_count:
        message = f"No such partition as {name}-{partition}"
        return _refused(election, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
    if _is_needless(old, kind):
        return _refused(
            election, ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition."
        )
    if kind is ElectionType.PREFERRED:
        if not _can_lead(facts, old):
            message = "The preferred leader was not available."
            return _refused(election, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, message)
        txn = _preferred(facts, topic, partition, old)
    else:
        ends = facts.image.log_ends_of(topic.topic_id, partition)
        new = facts.settled(topic, old, old, unclean=True, ends=ends)
        if new.leader == NO_LEADER:
            message = "Eligible topic partition leaders are not available."
            return _refused(election, ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, message)
        txn = facts.txn(topic, partition, old, new)
    return PartitionDecision(PartitionResult(name, partition), (txn,))


def _is_needless(state: PartitionState, kind: ElectionType) -> bool:
    if kind is ElectionType.PREFERRED:
        return state.leader == state.replicas[0]
    return state.leader != NO_LEADER


def _can_lead(facts: PartitionFacts, state: PartitionState) -> bool:
    """Whether the preferred leader may take over right now, without any other change."""
    preferred = state.replicas[0]
    cluster = facts.cluster
    offline = bool(state.dirs) and state.dirs[0] in cluster.offline_dirs
    return (
        preferred in state.isr
        and preferred in cluster.active
        and preferred not in cluster.leaving
        and not offline
    )


def _preferred(facts: PartitionFacts, topic: TopicImage, partition: int, old: PartitionState) -> Txn:
    new = old._replace(leader=old.replicas[0], leader_epoch=old.leader_epoch + 1)
    new.check()
    return facts.txn(topic, partition, old, new)


def _refused(election: Election, error: ErrorCode, message: str) -> PartitionDecision:
    return PartitionDecision(PartitionResult(election.topic, election.partition, error, message))
