"""Removes a broker that will not come back from the metadata (UnregisterBroker).

Only a broker that is not running can be unregistered: a running one would register again at once. It stays in
the assignments that name it, as in Kafka: move its partitions away first, or let a broker of the same id take
its place. It leaves the ELR, since no information is kept by which a returning broker's data could be trusted; a
partition without any eligible replica then waits for an unclean election.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.control.decisions import PartitionFacts
from tierlog.metadata.control.election import ClusterFacts
from tierlog.metadata.image import ConfigChange, MetadataImage
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.transactions import Compare, Delete, Put, Txn

# Each partition takes a comparison, and one more when a leader is elected: so this stays within the store's bound.
PARTITIONS_PER_TXN = 40


@dataclass(frozen=True, slots=True)
class RemovalResult:
    broker_id: int
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


@dataclass(frozen=True, slots=True)
class RemovalDecision:
    result: RemovalResult
    txns: tuple[Txn, ...] = ()


def decide_unregister(image: MetadataImage, rules: TopicRules, broker_id: int) -> RemovalDecision:
    """Partitions first, the broker's own keys last, so an interrupted removal can simply be requested again."""
    broker = image.brokers.get(broker_id)
    if broker is None or broker.is_gone:
        message = f"Broker ID {broker_id} is not currently registered"
        return RemovalDecision(RemovalResult(broker_id, ErrorCode.BROKER_ID_NOT_REGISTERED, message))
    if broker.registration is not None:
        message = f"Broker {broker_id} is running: stop it before it is unregistered."
        return RemovalDecision(RemovalResult(broker_id, ErrorCode.INVALID_REQUEST, message))
    absent = Compare(keys.registration(broker_id), "mod", 0)
    changes = _without_eligibility(image, rules, broker_id)
    txns = [
        _together(absent, changes[i : i + PARTITIONS_PER_TXN])
        for i in range(0, len(changes), PARTITIONS_PER_TXN)
    ]
    state_key = keys.broker_state(broker_id)
    guard = Compare(state_key, "mod", broker.state_revision)
    compares, uncordoned = _uncordoned(image, broker_id)
    gone = Txn(
        (absent, guard, *compares), (Delete(state_key), Delete(keys.clean_stop(broker_id)), *uncordoned)
    )
    return RemovalDecision(RemovalResult(broker_id), (*txns, gone))


def _uncordoned(image: MetadataImage, broker_id: int) -> tuple[tuple[Compare, ...], tuple[Put | Delete, ...]]:
    """The next broker of this id must get replicas again; all other configs of the broker stay."""
    name = str(broker_id)
    configs = dict(image.broker_configs.get(name, {}))
    if configs.pop("cordoned.log.dirs", None) is None:
        return (), ()
    key = keys.broker_config(name)
    compare = Compare(key, "mod", image.config_revisions.get(ConfigChange("broker", name), 0))
    return (compare,), (Put(key, records.encode_configs(configs)) if configs else Delete(key),)


def is_removed(image: MetadataImage, broker_id: int) -> bool:
    broker = image.brokers.get(broker_id)
    return broker is None or broker.is_gone


def _together(guard: Compare, changes: Sequence[Txn]) -> Txn:
    """One transaction: the broker's keys must not go while a partition still counts on it."""
    compares = [compare for change in changes for compare in change.compares]
    return Txn((guard, *dict.fromkeys(compares)), tuple(op for change in changes for op in change.then))


def _without_eligibility(image: MetadataImage, rules: TopicRules, broker_id: int) -> list[Txn]:
    facts = PartitionFacts(image, rules)
    cluster = facts.cluster
    facts.cluster = ClusterFacts(
        cluster.active, cluster.leaving, cluster.lossy | {broker_id}, cluster.offline_dirs
    )
    changes = []
    for topic in image.topics_by_name.values():
        for partition, old in topic.partitions.items():
            if broker_id in (*old.isr, *old.elr, *old.last_eligible):
                new = facts.settled(topic, old, old)
                # Nobody waits for this broker's proof any more: the next broker of its id is another one.
                left = tuple(b for b in new.last_eligible if b != broker_id)
                changes.append(facts.txn(topic, partition, old, new._replace(last_eligible=left)))
    return changes
