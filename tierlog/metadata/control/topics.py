"""Topic creation, growth and deletion, decided on the image: error codes and messages as Kafka's controller
gives them.

Each decision is a result plus the transactions that carry it out, to be executed in order (the driver adds the
controller's guard to each). If the comparisons of a transaction fail, the image was old: decide again. A topic too
large for one transaction is written partitions first, name last; an interrupted creation has no name, and the
controller deletes it. Nothing here changes the image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tierlog.config.places import OBJECT_STORE
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.control.assignments import (
    Refused,
    checked_replicas,
    choose_assignment,
    new_partition,
    place_evenly,
)
from tierlog.metadata.control.topic_stores import store_problem
from tierlog.metadata.image import MetadataImage, TopicImage
from tierlog.metadata.records import PartitionState, TopicRecord
from tierlog.metadata.rules import TopicRules, configured_min_isr
from tierlog.metadata.transactions import Compare, Delete, Put, Txn

MAX_NAME_LENGTH = 249
MAX_PARTITIONS_PER_REQUEST = 10_000
MAX_RECORDS_PER_REQUEST = 10_000
PARTITIONS_PER_TXN = 100
CLUSTER_METADATA_TOPIC = "__cluster_metadata"
NO_TOPIC_ID = bytes(16)
_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create; -1: the default. ``assignments``: partition → replicas; empty for automatic placement."""

    name: str
    partition_count: int = -1
    replication_factor: int = -1
    assignments: Sequence[tuple[int, Sequence[int]]] = ()
    configs: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewPartitions:
    """Growth of a topic to ``total_count`` partitions in all; ``assignments``: replicas of each new one, None for
    automatic placement."""

    name: str
    total_count: int
    assignments: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class TopicResult:
    """The answer about one topic. ``configs``: the topic's own configs as stored."""

    name: str
    topic_id: bytes = NO_TOPIC_ID
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    partition_count: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicDecision:
    result: TopicResult
    txns: tuple[Txn, ...] = ()


def topic_name_problem(name: str) -> str | None:
    """Kafka's error message when the name is not allowed, else None."""
    if name == "":
        reason = "the empty string is not allowed"
    elif name in (".", ".."):
        reason = f"'{name}' is not allowed"
    elif len(name) > MAX_NAME_LENGTH:
        reason = f"the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}"
    elif not _LEGAL_NAME.fullmatch(name):
        reason = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    else:
        return None
    return f"Topic name is invalid: {reason}"


# -- creation


def decide_create_topics(
    image: MetadataImage,
    rules: TopicRules,
    topics: Sequence[NewTopic],
    *,
    new_topic_id: Callable[[], bytes],
    start: int,
) -> Iterator[TopicDecision]:
    """One decision per distinct name, in order. ``start``: a random number for the placement."""
    times = Counter([t.name for t in topics])
    by_name = {t.name: t for t in topics}
    is_too_much = _is_too_much(image, rules, by_name)
    taken: dict[str, str] = {}
    if not is_too_much and any("." in n or "_" in n for n in times):
        taken = {n.replace(".", "_"): n for n in image.topics_by_name}
    room = MAX_PARTITIONS_PER_REQUEST
    for n, (name, topic) in enumerate(by_name.items()):
        try:
            if times[name] > 1:
                raise Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            if is_too_much:
                raise Refused(
                    ErrorCode.POLICY_VIOLATION, "Unable to perform excessively large batch operation."
                )
            decision = _create(image, rules, topic, taken, room, new_topic_id(), start + n)
            taken[name.replace(".", "_")] = name
            room -= decision.result.partition_count
        except Refused as refused:
            decision = TopicDecision(TopicResult(name, error=refused.error, message=refused.message))
        yield decision


def _is_too_much(image: MetadataImage, rules: TopicRules, topics: Mapping[str, NewTopic]) -> bool:
    """Whether a request would write more records than Kafka's controller writes at once: one for each topic, partition and
    config. Topics that already exist count as none."""
    if len(topics) > MAX_RECORDS_PER_REQUEST:
        return True
    records_count = 0
    for name, topic in topics.items():
        if name not in image.topics_by_name:
            count = topic.partition_count if topic.partition_count != -1 else rules.partition_count
            # A topic with too many partitions is refused by itself.
            partitions = len(topic.assignments) or (count if count <= MAX_PARTITIONS_PER_REQUEST else 0)
            records_count += 1 + max(partitions, 0) + len(topic.configs)
    # One topic may be as large as a request.
    return len(topics) > 1 and records_count > MAX_RECORDS_PER_REQUEST


def _create(
    image: MetadataImage,
    rules: TopicRules,
    topic: NewTopic,
    taken: Mapping[str, str],
    room: int,
    topic_id: bytes,
    start: int,
) -> TopicDecision:
    _check_new_name(image, topic.name, taken)
    configs = _checked_configs(rules, topic)
    store = configs.get(OBJECT_STORE, "")
    problem = store_problem(image, store)
    if problem is not None:
        raise Refused(ErrorCode.INVALID_CONFIG, problem)
    assignment = choose_assignment(image, rules, topic.name, topic, room=room, start=start)
    min_isr = configured_min_isr(image, rules, configs)
    states = [
        new_partition(image, replicas, min_isr, n if topic.assignments else None)
        for n, replicas in enumerate(assignment)
    ]
    result = TopicResult(
        topic.name,
        topic_id,
        partition_count=len(states),
        replication_factor=len(assignment[0]),
        configs=configs,
    )
    record = TopicRecord(topic.name, len(states), store=store)
    return TopicDecision(result, _creation_txns(record, topic_id, states, configs))


def _check_new_name(image: MetadataImage, name: str, taken: Mapping[str, str]) -> None:
    if name == CLUSTER_METADATA_TOPIC:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited.",
        )
    problem = topic_name_problem(name)
    if problem is not None:
        raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    if name in image.topics_by_name:
        raise Refused(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    colliding = taken.get(name.replace(".", "_")) if "." in name or "_" in name else None
    if colliding is not None:
        raise Refused(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {colliding}"
        )


def _checked_configs(rules: TopicRules, topic: NewTopic) -> dict[str, str]:
    missing = [name for name, value in topic.configs.items() if value is None]
    if missing:
        raise Refused(
            ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(missing)}"
        )
    problems = rules.validate_topic_configs(topic.configs, {})
    if problems:
        raise Refused(ErrorCode.INVALID_CONFIG, "; ".join(problems))
    configs = {name: value for name, value in topic.configs.items() if value is not None}
    internal = rules.internal_topics.get(topic.name)
    if internal is not None:
        configs |= internal.configs
    return configs


def _creation_txns(
    record: TopicRecord, topic_id: bytes, states: Sequence[PartitionState], configs: Mapping[str, str]
) -> tuple[Txn, ...]:
    name = record.name
    absent = Compare(keys.topic_name(name), "mod", 0)
    puts = [Put(keys.partition(topic_id, n), records.encode_partition(s)) for n, s in enumerate(states)]
    chunks = [puts[i : i + PARTITIONS_PER_TXN] for i in range(0, len(puts), PARTITIONS_PER_TXN)]
    name_puts = [
        Put(keys.topic(topic_id), records.encode_topic(record)),
        Put(keys.topic_name(name), records.encode_topic_name(keys.format_topic_id(topic_id))),
    ]
    if configs:
        name_puts.append(Put(keys.topic_config(name), records.encode_configs(configs)))
    first = [Txn((absent,), tuple(chunk)) for chunk in chunks[:-1]]
    return (*first, Txn((absent,), (*chunks[-1], *name_puts)))


# -- growth


def decide_create_partitions(
    image: MetadataImage, rules: TopicRules, requests: Sequence[NewPartitions], *, start: int
) -> Iterator[TopicDecision]:
    """One decision per distinct name, in order."""
    times = Counter([r.name for r in requests])
    room = MAX_PARTITIONS_PER_REQUEST
    for name, request in {r.name: r for r in requests}.items():
        try:
            if times[name] > 1:
                raise Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            decision, added = _grow(image, rules, request, start, room)
            room -= added
            yield decision
        except Refused as refused:
            yield TopicDecision(TopicResult(name, error=refused.error, message=refused.message))


def _grow(
    image: MetadataImage, rules: TopicRules, request: NewPartitions, start: int, room: int
) -> tuple[TopicDecision, int]:
    """The decision, and how many partitions it adds. ``room``: how many the request may still add."""
    topic = image.topic(request.name)
    if topic is None or topic.record is None:
        raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None)
    have, want = topic.partition_count, request.total_count
    if want == have:
        raise Refused(ErrorCode.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if want < have:
        raise Refused(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {request.name} currently has {have} partition(s); {want} would not be an increase.",
        )
    if want - have > room:
        raise Refused(
            ErrorCode.POLICY_VIOLATION, "Excessively large number of additional partitions per request."
        )
    factor = len(topic.partitions[0].replicas)
    manual = request.assignments is not None
    if request.assignments is not None:
        if len(request.assignments) != want - have:
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {want - have} additional partition(s), but only "
                f"{len(request.assignments)} assignment(s) were specified.",
            )
        assignment = [checked_replicas(image, replicas, factor) for replicas in request.assignments]
    else:
        assignment = place_evenly(image, want - have, factor, start)
    min_isr = configured_min_isr(image, rules, image.configs_of_topic(request.name))
    puts = []
    for n, replicas in enumerate(assignment, start=have):
        if n in topic.partitions:
            continue  # left by an interrupted growth; it may already hold data
        state = new_partition(image, replicas, min_isr, n if manual else None)
        puts.append(Put(keys.partition(topic.topic_id, n), records.encode_partition(state)))
    result = TopicResult(request.name, topic.topic_id, partition_count=want, replication_factor=factor)
    return TopicDecision(result, _growth_txns(topic, want, puts)), want - have


def _growth_txns(topic: TopicImage, want: int, puts: Sequence[Put]) -> tuple[Txn, ...]:
    assert topic.record is not None
    key = keys.topic(topic.topic_id)
    guard = Compare(key, "mod", topic.record_revision)
    chunks = [puts[i : i + PARTITIONS_PER_TXN] for i in range(0, len(puts), PARTITIONS_PER_TXN)] or [()]
    record = Put(key, records.encode_topic(replace(topic.record, partition_count=want)))
    guards = [(guard, *(Compare(put.key, "mod", 0) for put in chunk)) for chunk in chunks]
    first = [Txn(g, tuple(chunk)) for g, chunk in zip(guards[:-1], chunks[:-1], strict=True)]
    return (*first, Txn(guards[-1], (*chunks[-1], record)))


# -- deletion


def decide_delete_topics(
    image: MetadataImage, rules: TopicRules, topic_ids: Iterable[bytes]
) -> Iterator[TopicDecision]:
    """One decision per id, in order. The topic is gone at once; a tombstone remains until its data has been
    dropped."""
    for topic_id in topic_ids:
        topic = image.topics_by_id.get(topic_id)
        if not rules.deletion_enabled:
            result = TopicResult(
                "" if topic is None else topic.name,
                topic_id,
                ErrorCode.TOPIC_DELETION_DISABLED,
                "Topic deletion is disabled.",
            )
            yield TopicDecision(result)
        elif topic is None or topic.record is None:
            message = "This server does not host this topic ID."
            yield TopicDecision(TopicResult("", topic_id, ErrorCode.UNKNOWN_TOPIC_ID, message))
        else:
            yield _delete(image, rules, topic, topic.record)


def _delete(image: MetadataImage, rules: TopicRules, topic: TopicImage, record: TopicRecord) -> TopicDecision:
    holders = {r for state in topic.partitions.values() for r in state.replicas}
    pending = tuple(sorted(r for r in holders if r in image.brokers and not image.brokers[r].is_gone))
    tombstone = replace(record, deleting=True, pending=pending, tier_pending=rules.remote_storage)
    key = keys.topic(topic.topic_id)
    txn = Txn(
        (Compare(key, "mod", topic.record_revision),),
        (
            Put(key, records.encode_topic(tombstone)),
            Delete(keys.topic_name(topic.name)),
            Delete(keys.topic_config(topic.name)),
        ),
    )
    return TopicDecision(TopicResult(topic.name, topic.topic_id), (txn,))


def confirm_dropped(topic: TopicImage, *, broker_id: int | None = None, tier: bool = False) -> Txn | None:
    """Removes ``broker_id``, or the tier, from the tombstone's pending list; None when it is not there."""
    record = topic.record
    if record is None or not record.deleting:
        return None
    pending = tuple(b for b in record.pending if b != broker_id)
    left = replace(record, pending=pending, tier_pending=record.tier_pending and not tier)
    if left == record:
        return None
    key = keys.topic(topic.topic_id)
    return Txn((Compare(key, "mod", topic.record_revision),), (Put(key, records.encode_topic(left)),))
