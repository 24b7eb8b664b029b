"""Internal topics get more replicas as brokers join, up to their configured replication factor.

A cluster begins with one broker, so its consumer offsets begin with one replica; nobody should have to remember to
change that. Each step is an ordinary reassignment that only adds replicas. Nothing is ever removed here: a broker
that is gone for a while keeps its place. The preferred leader is chosen anew, so that a later balance spreads the
partitions that the first broker led alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tierlog.metadata.commits import controllers_change
from tierlog.metadata.control.assignments import candidate_of
from tierlog.metadata.control.election import ClusterFacts, desired, with_replicas
from tierlog.metadata.control.placement import Candidate, extend
from tierlog.metadata.image import MetadataImage, TopicImage
from tierlog.metadata.records import PartitionState
from tierlog.metadata.rules import TopicRules, configured_min_isr, unclean_leader_election
from tierlog.metadata.transactions import MAX_NESTED, Txn

OFFSETS_TOPIC = "__consumer_offsets"
INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, "__transaction_state", "__share_group_state"})


def growth_changes(image: MetadataImage, rules: TopicRules, facts: ClusterFacts) -> Iterator[Txn]:
    """The reassignments still to be done, packed into few transactions."""
    available = [
        candidate_of(b)
        for b in image.brokers.values()
        if b.broker_id in facts.active and b.is_available and not image.is_cordoned(b.broker_id)
    ]
    nested: list[Txn] = []
    for name in sorted(rules.internal_topics):
        topic = image.topic(name)
        wanted = min(rules.internal_topics[name].replication_factor, len(available))
        if topic is not None:
            nested += _topic_changes(image, rules, facts, topic, wanted, available)
    for i in range(0, len(nested), MAX_NESTED):
        yield Txn((), tuple(nested[i : i + MAX_NESTED]))


def _topic_changes(
    image: MetadataImage,
    rules: TopicRules,
    facts: ClusterFacts,
    topic: TopicImage,
    wanted: int,
    available: Sequence[Candidate],
) -> Iterator[Txn]:
    overrides = image.configs_of_topic(topic.name)
    min_isr = configured_min_isr(image, rules, overrides)
    unclean = unclean_leader_election(image, rules, overrides)
    held: dict[int, int] = {}
    led: dict[int, int] = {}
    for state in topic.partitions.values():
        for replica in state.replicas:
            held[replica] = held.get(replica, 0) + 1
        if len(state.replicas) >= wanted:
            led[state.replicas[0]] = led.get(state.replicas[0], 0) + 1
    for partition, state in sorted(topic.partitions.items()):
        if len(state.replicas) >= wanted or state.adding or state.removing:
            continue
        replicas = extend(state.replicas, wanted, available, held)
        first = min(replicas, key=lambda r: led.get(r, 0))
        led[first] = led.get(first, 0) + 1
        adding = replicas[len(state.replicas) :]
        for replica in adding:
            held[replica] = held.get(replica, 0) + 1
        ordered = (first, *(r for r in replicas if r != first))
        new = with_replicas(state, ordered, adding, ())
        yield _txn(topic, partition, state, new, facts, min_isr, unclean)


def _txn(
    topic: TopicImage,
    partition: int,
    old: PartitionState,
    grown: PartitionState,
    facts: ClusterFacts,
    min_isr: int,
    unclean: bool,
) -> Txn:
    new = desired(grown, facts, min_isr=min_isr, unclean=unclean, since=old)
    return controllers_change(topic.topic_id, partition, old, new, facts.active)
