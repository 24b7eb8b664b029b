"""Dynamic configs of topics and brokers: AlterConfigs and IncrementalAlterConfigs decided on the image
(KIP-226, KIP-339).

A change of ``min.insync.replicas`` or ``unclean.leader.election.enable`` is only written as a config here;
the controller's reconciler then carries it into each partition's state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from tierlog.config.places import OBJECT_STORE
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.control.topic_stores import altered_store_problem, change_of_store
from tierlog.metadata.control.topics import topic_name_problem
from tierlog.metadata.image import NO_CONFIGS, ConfigChange, MetadataImage, TopicImage
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.transactions import Compare, Delete, Put, Txn

MAX_VALUE_BYTES = 32767
TOPIC = "topic"
BROKER = "broker"


class ConfigOp(IntEnum):
    """The numbers are those of IncrementalAlterConfigs."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True)
class ConfigOperation:
    name: str
    op: ConfigOp
    value: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigAlteration:
    """Changes of one resource. ``resource_type``: "topic" or "broker"; a broker name of "" means all brokers.
    ``replace_all``: the legacy AlterConfigs, which drops every config that the request does not name."""

    resource_type: str
    name: str
    operations: Sequence[ConfigOperation]
    replace_all: bool = False


@dataclass(frozen=True, slots=True)
class ConfigResult:
    resource_type: str
    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigDecision:
    result: ConfigResult
    txns: tuple[Txn, ...] = ()


def decide_alter_configs(
    image: MetadataImage, rules: TopicRules, alterations: Sequence[ConfigAlteration]
) -> Iterator[ConfigDecision]:
    """One decision per alteration, in order."""
    times = Counter([(a.resource_type, a.name) for a in alterations])
    for alteration in alterations:
        resource = (alteration.resource_type, alteration.name)
        if times[resource] > 1:
            result = ConfigResult(*resource, ErrorCode.INVALID_REQUEST, "Duplicate resource.")
            yield ConfigDecision(result)
        else:
            yield _alter(image, rules, alteration)


def _alter(image: MetadataImage, rules: TopicRules, alteration: ConfigAlteration) -> ConfigDecision:
    resource = (alteration.resource_type, alteration.name)
    error, message = _resource_problem(image, *resource)
    if error is ErrorCode.NONE:
        is_topic = alteration.resource_type == TOPIC
        table = image.topic_configs if is_topic else image.broker_configs
        before = dict(table.get(alteration.name, NO_CONFIGS))
        after: dict[str, str] = {} if alteration.replace_all else dict(before)
        error, message = _apply(after, alteration.operations, rules)
        if error is ErrorCode.NONE:
            validate = rules.validate_topic_configs if is_topic else rules.validate_broker_configs
            problems = validate(dict(after), before)
            problems = problems or _store_problems(image, resource, after)
            if problems:
                error, message = ErrorCode.INVALID_CONFIG, "; ".join(problems)
    if error is not ErrorCode.NONE:
        return ConfigDecision(ConfigResult(*resource, error, message))
    if after == before:
        return ConfigDecision(ConfigResult(*resource))
    return ConfigDecision(ConfigResult(*resource), (_txn(image, resource, after),))


def _store_problems(image: MetadataImage, resource: tuple[str, str], after: Mapping[str, str]) -> list[str]:
    topic = _topic_of_other_store(image, resource, after)
    if topic is None:
        return []
    problem = altered_store_problem(image, topic, after.get(OBJECT_STORE, ""))
    return [] if problem is None else [problem]


def _topic_of_other_store(
    image: MetadataImage, resource: tuple[str, str], configs: Mapping[str, str]
) -> TopicImage | None:
    """The topic, if these configs give it another object store than it has."""
    kind, name = resource
    topic = image.topics_by_name[name] if kind == TOPIC else None
    has = "" if topic is None or topic.record is None else topic.record.store
    return topic if configs.get(OBJECT_STORE, "") != has else None


def _resource_problem(image: MetadataImage, resource_type: str, name: str) -> tuple[ErrorCode, str | None]:
    if resource_type == TOPIC and name not in image.topics_by_name:
        problem = topic_name_problem(name)
        if problem is not None:
            return ErrorCode.INVALID_TOPIC_EXCEPTION, problem
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist."
    if resource_type == BROKER and name != keys.CLUSTER_DEFAULT:
        if not name.isdecimal():
            return ErrorCode.INVALID_REQUEST, "Node id must be an integer, but it is: " + name
        if int(name) not in image.brokers:
            return ErrorCode.BROKER_ID_NOT_REGISTERED, f"No broker with id {name} found."
    return ErrorCode.NONE, None


def _apply(
    configs: dict[str, str], operations: Sequence[ConfigOperation], rules: TopicRules
) -> tuple[ErrorCode, str | None]:
    names = [o.name for o in operations]
    duplicates = sorted({n for n in names if names.count(n) > 1})
    if duplicates:
        return ErrorCode.INVALID_REQUEST, f"Error due to duplicate config keys : {','.join(duplicates)}"
    for name, op, value in ((o.name, o.op, o.value) for o in operations):
        if op is ConfigOp.DELETE:
            configs.pop(name, None)
            continue
        if value is None:
            return ErrorCode.INVALID_REQUEST, f"Null value not supported for : {op.name}:{name}"
        if op is ConfigOp.SET:
            configs[name] = value
        elif name not in rules.list_configs:
            return ErrorCode.INVALID_CONFIG, f"Can't {op.name} to key {name} because its type is not LIST."
        else:
            have = [v for v in configs.get(name, rules.list_configs[name]).split(",") if v]
            given = [v.strip() for v in value.split(",")]
            if op is ConfigOp.APPEND:
                have += [v for v in given if v not in have]
            else:
                have = [v for v in have if v not in given]
            configs[name] = ",".join(have)
        if len(configs[name].encode()) > MAX_VALUE_BYTES:
            message = (
                "The configuration value cannot be added because it exceeds the maximum value size of "
                f"{MAX_VALUE_BYTES} bytes."
            )
            return ErrorCode.INVALID_CONFIG, message
    return ErrorCode.NONE, None


def _txn(image: MetadataImage, resource: tuple[str, str], configs: dict[str, str]) -> Txn:
    resource_type, name = resource
    key = keys.topic_config(name) if resource_type == TOPIC else keys.broker_config(name)
    revision = image.config_revisions.get(ConfigChange(resource_type, name), 0)
    compares = [Compare(key, "mod", revision)]
    if resource_type == TOPIC:
        # If the topic is deleted meanwhile, no configs may be left for a later topic of the same name.
        topic = image.topics_by_name[name]
        compares.append(Compare(keys.topic(topic.topic_id), "mod", topic.record_revision))
    writes: list[Put | Delete] = [Put(key, records.encode_configs(configs)) if configs else Delete(key)]
    moved = _topic_of_other_store(image, resource, configs)
    if moved is not None:
        heads, record = change_of_store(moved, configs.get(OBJECT_STORE, ""))
        compares += heads
        writes.append(record)
    return Txn(tuple(compares), tuple(writes))
