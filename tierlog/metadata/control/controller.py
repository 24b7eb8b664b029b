"""The controller: a stateless reconciler. Given the image, it yields the transactions that are still to be done.

There is no memory between calls and no queue of events: ``reconcile`` looks at the facts and yields changes, each
guarded by the facts that it was decided on. The driver executes them under its controller token, waits until the
image shows them, and calls again until nothing is yielded. A controller may die at any point; the next one goes
on.

When a broker registers again, the order matters. First every partition stops counting on it (ISR, ELR when it may
have lost data, leader epoch). Only when the image shows no such partition any more does its ``BrokerState`` take
the new broker epoch. A broker serves nothing before it sees that state, so it never resumes its former leadership
(reliability rules of registration). The guard of an election names the broker epoch of the elected broker, so a
broker that registers again meanwhile is not elected.

Invariants: M6 a broker state takes a broker epoch only when no partition has that broker in its ISR or as
its leader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tierlog.metadata import keys, records
from tierlog.metadata.commits import controllers_change
from tierlog.metadata.control.election import (
    ClusterFacts,
    desired,
    gather_facts,
    is_settled,
    waits_for_log_ends,
)
from tierlog.metadata.features import FinalizedLevels
from tierlog.metadata.image import BrokerImage, MetadataImage, TopicImage
from tierlog.metadata.internal_topics import growth_changes
from tierlog.metadata.records import BrokerState, ControllerLease, PartitionState
from tierlog.metadata.rules import TopicRules, configured_min_isr, unclean_leader_election
from tierlog.metadata.transactions import MAX_NESTED, Compare, Delete, Get, Put, Txn

SCAN_SLICE = 2000


def acquire(broker_id: int, broker_epoch: int, lease: int) -> Txn:
    """Takes the controller lease if nobody has it; the token is ``result.revision``."""
    value = records.encode_controller(ControllerLease(broker_id, broker_epoch))
    return Txn(
        (
            Compare(keys.CONTROLLER, "mod", 0),
            Compare(keys.registration(broker_id), "create", broker_epoch),
        ),
        (Put(keys.CONTROLLER, value, lease),),
        (Get(keys.CONTROLLER),),
    )


def guarded(txn: Txn, token: int) -> Txn:
    """``txn``, to be applied only while this controller still holds the lease."""
    return replace(txn, compares=(Compare(keys.CONTROLLER, "create", token), *txn.compares))


def reconcile(image: MetadataImage, rules: TopicRules) -> Iterator[Txn | None]:
    """Yields the transactions to do, and now and then None during a long scan, so that the driver can let others
    run.

    Broker states come only when no partition needs a change (see the module head): call again until nothing is
    yielded. The image may change while the scan is suspended; the guards then fail what is out of date.
    """
    yield from flag_changes(image)
    facts = gather_facts(image)
    scanned_with = _broker_revisions(image)
    is_quiet = True
    for item in partition_changes(image, rules, facts):
        is_quiet = is_quiet and item is None
        yield item
    # The scan did not look in the partitions for a registration that came during it, hence the comparison. Nor for one
    # that comes between two yields of ``broker_changes``, hence the tuple.
    if is_quiet and scanned_with == _broker_revisions(image):
        yield from tuple(broker_changes(image))
        yield from growth_changes(image, rules, facts)
    yield from leftover_changes(image)
    yield from answered_log_ends(image)


def _broker_revisions(image: MetadataImage) -> dict[int, tuple[int, int]]:
    return {i: (b.registration_revision, b.state_revision) for i, b in image.brokers.items()}


# -- partitions


def partition_changes(image: MetadataImage, rules: TopicRules, facts: ClusterFacts) -> Iterator[Txn | None]:
    """Elections and all other changes that ``desired`` finds, packed into few transactions."""
    nested: list[Txn] = []
    scanned = 0
    for topic in list(image.topics_by_name.values()):
        overrides = image.configs_of_topic(topic.name)
        min_isr = configured_min_isr(image, rules, overrides)
        unclean = unclean_leader_election(image, rules, overrides)
        for partition, state in list(topic.partitions.items()):
            scanned += 1
            if scanned % SCAN_SLICE == 0:
                yield None
            if is_settled(state, facts, min_isr):
                continue
            ends = image.log_ends_of(topic.topic_id, partition)
            new = desired(state, facts, min_isr=min_isr, unclean=unclean, ends=ends)
            if new != state:
                nested.append(_partition_txn(topic, partition, state, new, facts))
                if len(nested) == MAX_NESTED:
                    yield Txn((), tuple(nested))
                    nested = []
                    yield None  # a partition with a change costs far more than one that is only looked at
    if nested:
        yield Txn((), tuple(nested))


def _partition_txn(
    topic: TopicImage, partition: int, old: PartitionState, new: PartitionState, facts: ClusterFacts
) -> Txn:
    return controllers_change(topic.topic_id, partition, old, new, facts.active)


# -- brokers


def flag_changes(image: MetadataImage) -> Iterator[Txn]:
    """Sets "shutting down" and offline directories before the partitions move, so that no leader takes the broker
    back into an ISR meanwhile."""
    for broker_id in sorted(image.brokers):
        broker = image.brokers[broker_id]
        registration, state = broker.registration, broker.state
        if registration is None or state is None or not broker.is_handled:
            continue
        wanted = replace(
            state, shutting_down=registration.want_shut_down, offline_dirs=registration.offline_dirs
        )
        if wanted != state:
            yield _broker_txn(broker, wanted)


def broker_changes(image: MetadataImage) -> Iterator[Txn]:
    """The controller's answers to the registrations of brokers, only when no partition needs a change
    (M6)."""
    for broker_id in sorted(image.brokers):
        broker = image.brokers[broker_id]
        wanted = _desired_broker_state(broker, image.features)
        if wanted is not None and wanted != broker.state:
            _check_unused(image, broker, wanted)
            yield _broker_txn(broker, wanted)


def _desired_broker_state(broker: BrokerImage, levels: FinalizedLevels) -> BrokerState | None:
    registration, state = broker.registration, broker.state
    if registration is None:
        return None if state is None else replace(state, fenced=True)
    if not broker.is_handled or state is None:
        return BrokerState(broker.broker_epoch, fenced=True)
    # A broker that wants to stop and is still fenced has nothing to hand over.
    fenced = registration.want_fence or (state.fenced and registration.want_shut_down)
    # M13: one that has been finalized without it would misread what the others write.
    fenced = fenced or levels.first_gap(registration.features) is not None
    return replace(state, fenced=fenced)


def _check_unused(image: MetadataImage, broker: BrokerImage, wanted: BrokerState) -> None:
    if broker.state is not None and wanted.broker_epoch != broker.state.broker_epoch:
        for topic in image.topics_by_name.values():
            for state in topic.partitions.values():
                assert broker.broker_id not in state.isr, f"M6 {topic} {state}"


def _broker_txn(broker: BrokerImage, wanted: BrokerState) -> Txn:
    state_key = keys.broker_state(broker.broker_id)
    return Txn(
        (
            Compare(keys.registration(broker.broker_id), "create", broker.broker_epoch),
            Compare(state_key, "mod", broker.state_revision),
        ),
        (Put(state_key, records.encode_broker_state(wanted)),),
    )


# -- topics without a name


def leftover_changes(image: MetadataImage) -> Iterator[Txn]:
    """Deletes the keys of deleted topics and of topic creations that never finished.

    A tombstone stays while a broker or the tier still has data of the topic to drop.
    """
    for topic in list(image.hidden_topics()):
        record = topic.record
        assert not topic.name, f"a name without a topic: {topic}"
        partition_keys = [keys.partition(topic.topic_id, n) for n in sorted(topic.partitions)]
        for i in range(0, len(partition_keys), 2 * MAX_NESTED):
            yield Txn((), tuple(Delete(key) for key in partition_keys[i : i + 2 * MAX_NESTED]))
        if record is None or partition_keys:
            continue
        key = keys.topic(topic.topic_id)
        guard = (Compare(key, "mod", topic.record_revision),)
        pending = tuple(b for b in record.pending if b in image.brokers and not image.brokers[b].is_gone)
        if not record.deleting or (not pending and not record.tier_pending):
            yield Txn(guard, (Delete(key),))
        elif pending != record.pending:
            yield Txn(guard, (Put(key, records.encode_topic(replace(record, pending=pending))),))


def answered_log_ends(image: MetadataImage) -> Iterator[Txn]:
    """Deletes the log ends that replicas reported, once the partition does not wait for them any more."""
    done = []
    for key, ends in image.log_ends.items():
        state = image.partition(*key)
        if state is None or not waits_for_log_ends(state):
            done += [keys.log_end(*key, broker_id) for broker_id in ends]
    for i in range(0, len(done), 2 * MAX_NESTED):
        yield Txn((), tuple(Delete(name) for name in done[i : i + 2 * MAX_NESTED]))


def needs_reconciling(changed: Iterable[PartitionState], facts: ClusterFacts) -> bool:
    """Whether partition changes alone give the controller work: an ISR change by a healthy leader does not, unless
    a reassignment or a recovery waits for it."""
    return any(
        s.leader not in facts.active
        or any(r not in facts.active for r in s.isr)
        or bool(s.elr or s.adding or s.removing or s.recovering)
        for s in changed
    )
