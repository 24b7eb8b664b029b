"""Topic configs: validation and the effective config of a topic.

A topic's own configs (*overrides*, written by CreateTopics and AlterConfigs) take precedence over the broker's, which
take precedence over Kafka's defaults. Messages about single values are those of Kafka's clients; the rules between
values are Kafka 4.4's (KIP-405, KIP-950). A Kafka config that is not honoured yet may only have its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import InvalidValue, Status, Value
from tierlog.config.lookup import TOPIC
from tierlog.config.places import OBJECT_STORE, url_problem
from tierlog.config.tiers import local_ms_of, parse_tiers, retention_ms_of
from tierlog.config.topic import TopicConfig

_FIELD_OF = {
    name: name.replace(".", "_")
    for name in TOPIC
    if name.replace(".", "_") in {field.name for field in fields(TopicConfig)}
}


def validate_topic_configs(
    configs: Mapping[str, str | None], *, broker: BrokerConfig, existing: Mapping[str, str] | None = None
) -> list[str]:
    """Messages for INVALID_CONFIG; empty when all values are valid.

    ``configs`` is the whole new set of overrides; ``existing`` the set before an alteration, for the rule
    about switching remote storage off (KIP-950).
    """
    errors: list[str] = []
    parsed: dict[str, Value] = {}
    for name, text in configs.items():
        error = _parse_into(parsed, name, text)
        if error is not None:
            errors.append(error)
    if errors:
        return errors
    config = _apply(parsed, broker.topic_defaults)
    errors = [
        *_compaction_rules(config),
        *_remote_rules(config, broker, existing or {}),
        *_store_rules(config),
    ]
    return errors + (_tier_rules(config) if "tierlog.tiers" in parsed else [])


def effective_topic_config(
    overrides: Mapping[str, str], broker: BrokerConfig, replication_factor: int | None = None
) -> TopicConfig:
    """``overrides`` must be validated before (InvalidValue otherwise; unknown names are left out).

    With a replication factor ``flush_mode`` is resolved as ``flush_mode`` below says.
    """
    parsed = {name: TOPIC[name].parse(text) for name, text in overrides.items() if name in TOPIC}
    config = _apply(parsed, broker.topic_defaults)
    if replication_factor is not None:
        config = replace(config, flush_mode=flush_mode(overrides, broker, replication_factor))
    return config


def ages_of_tiers(overrides: Mapping[str, str], broker: BrokerConfig) -> dict[str, str]:
    """The ages that the topic's ladder stands for, by the name of the config that it does not set itself."""
    config = effective_topic_config(overrides, broker)
    if not (config.remote_storage_enable and config.tierlog_tiers):
        return {}
    ages = {"local.retention.ms": config.local_retention_ms, "retention.ms": config.retention_ms}
    return {name: str(age_ms) for name, age_ms in ages.items() if name not in overrides}


def flush_mode(overrides: Mapping[str, str], broker: BrokerConfig, replication_factor: int) -> str:
    """ "os" or "ack": the topic's value, else the broker's, else "ack" with a single replica and "os" with more."""
    own = overrides.get("flush.mode") or broker.flush_mode
    return own or ("ack" if replication_factor == 1 else "os")


def _parse_into(parsed: dict[str, Value], name: str, text: str | None) -> str | None:
    definition = TOPIC.get(name)
    if definition is None:
        return f"Unknown topic config name: {name}"
    if text is None:
        return f"Null value not supported for topic configs: {name}"
    try:
        value = definition.parse(text)
    except InvalidValue as error:
        return str(error)
    default = None if definition.default is None else definition.parse(definition.default)
    if definition.status is Status.REFUSED and value != default:
        return f"Invalid value {text} for configuration {name}: not supported yet, only the default is"
    if name == "compression.type" and value != "producer":
        return f"Invalid value {text} for configuration {name}: not supported yet, only producer is"
    parsed[name] = value
    return None


def _apply(parsed: Mapping[str, Value], base: TopicConfig) -> TopicConfig:
    changes: dict[str, Any] = {}
    for name, value in parsed.items():
        if name == "internal.segment.bytes":
            changes["segment_bytes"] = value
        elif name == "segment.bytes" and "internal.segment.bytes" in parsed:
            continue
        elif name == "tierlog.tiers":
            changes["tierlog_tiers"] = parse_tiers(str(value))
        elif name in _FIELD_OF:
            changes[_FIELD_OF[name]] = frozenset(value) if isinstance(value, tuple) else value
    config = replace(base, **changes) if changes else base
    return _with_ages(config, parsed) if config.remote_storage_enable and config.tierlog_tiers else config


def _with_ages(config: TopicConfig, own: Mapping[str, Value]) -> TopicConfig:
    """The ladder stands for the ages that the topic does not set itself."""
    local_ms, retention_ms = local_ms_of(config.tierlog_tiers), retention_ms_of(config.tierlog_tiers)
    changes: dict[str, Any] = {}
    if local_ms is not None and "local.retention.ms" not in own:
        changes["local_retention_ms"] = local_ms
    if retention_ms is not None and "retention.ms" not in own:
        changes["retention_ms"] = retention_ms
    return replace(config, **changes)


def _compaction_rules(config: TopicConfig) -> list[str]:
    if config.max_compaction_lag_ms >= config.min_compaction_lag_ms:
        return []
    return [
        f"max.compaction.lag.ms ({config.max_compaction_lag_ms}) is less than "
        f"min.compaction.lag.ms ({config.min_compaction_lag_ms})"
    ]


def _store_rules(config: TopicConfig) -> list[str]:
    url = config.tierlog_object_store
    if not url:
        return []
    problem = url_problem(OBJECT_STORE, url)
    if problem is None and not config.remote_storage_enable:
        problem = "needs remote.storage.enable=true: without it the topic has nothing in any store"
    return [] if problem is None else [f"{OBJECT_STORE}: {problem}"]


def _remote_rules(config: TopicConfig, broker: BrokerConfig, existing: Mapping[str, str]) -> list[str]:
    if not config.remote_storage_enable:
        was_remote = existing.get("remote.storage.enable", "").strip().lower() == "true"
        if was_remote:
            return [
                "remote.storage.enable cannot be switched off: the remote data must stay readable, and "
                "remote.log.delete.on.disable=true, which would delete it, is not supported yet; with "
                "remote.log.copy.disable=true nothing more is copied"
            ]
        return []
    errors = []
    if not broker.remote_log_storage_system_enable:
        errors.append("remote.storage.enable needs a broker with remote.log.storage.system.enable=true")
    if config.is_compacted:
        errors.append("remote.storage.enable needs cleanup.policy=delete: compacted topics stay local")
    for unit in ("ms", "bytes"):
        errors += _retention_rules(config, unit) + _lag_rules(config, unit)
    if config.delays_copies and config.tierlog_remote_copy_max_delay_ms >= 0:
        errors.append(
            "tierlog.remote.copy.max.delay.ms cannot be kept where remote.copy.lag.ms and remote.copy.lag.bytes delay "
            "copies: leave it out, or set remote.copy.lag.ms=0"
        )
    return errors


def _tier_rules(config: TopicConfig) -> list[str]:
    """A topic that sets an age and a ladder may not set another age than the ladder's. Where the ladder is the cluster's
    default, the topic's own age holds."""
    if not config.remote_storage_enable:
        return []
    rungs = config.tierlog_tiers
    ages = {
        "local.retention.ms": (local_ms_of(rungs), config.local_retention_ms),
        "retention.ms": (retention_ms_of(rungs), config.retention_ms),
    }
    return [
        f"tierlog.tiers says {ladder_ms} ms where {name} says {own_ms}: leave {name} out, or make them equal"
        for name, (ladder_ms, own_ms) in ages.items()
        if ladder_ms is not None and ladder_ms != own_ms
    ]


def _lag_rules(config: TopicConfig, unit: str) -> list[str]:
    """A segment must be copied before local retention would delete it (KIP-1241)."""
    lag: int = getattr(config, f"remote_copy_lag_{unit}")
    local: int = getattr(config, f"local_retention_{unit}")
    total: int = getattr(config, f"retention_{unit}")
    limit = total if local == -2 else local
    if lag <= 0 or limit < 0 or lag <= limit:
        return []
    name = f"remote.copy.lag.{unit}"
    return [
        str(InvalidValue(name, str(lag), f"Value must not exceed local.retention.{unit}, which is {limit}"))
    ]


def _retention_rules(config: TopicConfig, unit: str) -> list[str]:
    """Local retention must not exceed the retention; with copying disabled both must be equal (KIP-950)."""
    local: int = getattr(config, f"local_retention_{unit}")
    total: int = getattr(config, f"retention_{unit}")
    name = f"local.retention.{unit}"
    if config.remote_log_copy_disable and local not in (-2, total):
        return [f"with remote.log.copy.disable=true {name} and retention.{unit} must be equal"]
    if total == -1 or local == -2:
        return []
    if local == -1:
        reason = f"Value must not be -1 as retention.{unit} value is set as {total}."
    elif local > total:
        reason = f"Value must not be more than retention.{unit} property value: {total}"
    else:
        return []
    return [str(InvalidValue(name, str(local), reason))]
