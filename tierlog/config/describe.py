"""The answers of DescribeConfigs: each config's value, its source, and the weaker layers below it (KIP-226).

The layers, the strongest first: the topic's own, this broker's dynamic config, the dynamic default of all
brokers, server.properties, Kafka's default. A config's *synonyms* are its texts in those layers; the first
is the value. Rules: passwords and settings of plugins are sensitive and never shown; internal configs are shown only
if set; a config is read-only if AlterConfigs would refuse it (see ``dynamic``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import ConfigType, Definition, InvalidValue, Status, Value
from tierlog.config.dynamic import is_dynamic
from tierlog.config.group_table import CLIENT_METRICS, GROUP
from tierlog.config.lookup import BROKER, TOPIC
from tierlog.config.topic_configs import ages_of_tiers, flush_mode
from tierlog.config.topic_defaults import MILLIS_OF_UNIT


class ConfigSource(IntEnum):
    """The numbers are those of DescribeConfigs."""

    UNKNOWN = 0
    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    DYNAMIC_BROKER_LOGGER_CONFIG = 6
    CLIENT_METRICS_CONFIG = 7
    GROUP_CONFIG = 8


class Synonym(NamedTuple):
    name: str
    value: str | None
    source: ConfigSource


class ConfigEntry(NamedTuple):
    """``type`` is 0 if unknown; ``value`` is None if sensitive or null."""

    name: str
    value: str | None
    source: ConfigSource
    is_read_only: bool = False
    is_sensitive: bool = False
    type: int = 0
    documentation: str = ""
    synonyms: tuple[Synonym, ...] = ()


def describe_topic(
    overrides: Mapping[str, str], broker: BrokerConfig, replication_factor: int = 1
) -> list[ConfigEntry]:
    """Every config of a topic that has these overrides, by name."""
    entries = []
    by_tiers = ages_of_tiers(overrides, broker)
    for name, definition in TOPIC.items():
        own = overrides.get(name)
        if definition.internal and own is None:
            continue
        layers = [] if own is None else [Synonym(name, own, ConfigSource.DYNAMIC_TOPIC_CONFIG)]
        synonyms = layers + _named(definition.synonyms, broker)
        layers += _broker_layers(broker, definition.synonyms)
        if own is None and name in by_tiers:
            value: str | None = by_tiers[name]
        elif layers:
            value = _in_unit_of(definition, layers[0])
        elif name == "flush.mode":
            value = flush_mode(overrides, broker, replication_factor)
        else:
            value = definition.default
        entries.append(_entry(definition, value, synonyms, read_only=False))
    return entries


def describe_broker(broker: BrokerConfig) -> list[ConfigEntry]:
    """Every property of this broker, by name; settings of plugins without their values."""
    entries = []
    shown = {"metadata.store": broker.metadata_store, "tierlog.object.store": broker.tierlog_object_store}
    for name in sorted(BROKER):
        definition = BROKER[name]
        synonyms = _named((name, *_WEAKER.get(name, ())), broker)
        if definition.internal and all(s.source is ConfigSource.DEFAULT_CONFIG for s in synonyms):
            continue
        value = synonyms[0].value if synonyms else definition.default
        if name == "node.id":
            value = str(broker.node_id)
        entries.append(
            _entry(definition, shown.get(name, value), synonyms, read_only=not is_dynamic(definition))
        )
    entries += [
        ConfigEntry(name, None, ConfigSource.STATIC_BROKER_CONFIG, is_read_only=True, is_sensitive=True)
        for name in sorted(broker.given)
        if name not in BROKER
    ]
    return entries


def describe_broker_default(broker: BrokerConfig) -> list[ConfigEntry]:
    """The dynamic defaults of all brokers."""
    source = ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG
    return [
        _entry(BROKER[name], text, [Synonym(name, text, source)], read_only=False)
        for name, text in sorted(broker.dynamic_default.items())
        if name in BROKER
    ]


def describe_group(broker: BrokerConfig) -> list[ConfigEntry]:
    """Configs of a group, the same for all; none can be set yet."""
    entries = []
    for definition in GROUP:
        if definition.internal:
            continue
        synonyms = list(_broker_layers(broker, definition.synonyms))
        value = synonyms[0].value if synonyms else definition.default
        entries.append(_entry(definition, value, synonyms, read_only=True))
    return entries


def describe_client_metrics() -> list[ConfigEntry]:
    """Configs of a subscription, the same for all; none can be set, since client telemetry is not served."""
    return [_entry(definition, definition.default, [], read_only=True) for definition in CLIENT_METRICS]


def to_text(value: Value) -> str:
    """A typed value as Kafka writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


# Property -> the properties that replace it when it is not set.
_WEAKER = {
    "log.retention.ms": ("log.retention.minutes", "log.retention.hours"),
    "log.roll.ms": ("log.roll.hours",),
    "log.roll.jitter.ms": ("log.roll.jitter.hours",),
    "log.flush.interval.ms": ("log.flush.scheduler.interval.ms",),
}


def _named(names: tuple[str, ...], broker: BrokerConfig) -> list[Synonym]:
    """The layers, beginning with the first that sets the first name itself: Kafka shows the replacements (hours, minutes)
    only after it."""
    layers = list(_broker_layers(broker, names))
    first = next((index for index, layer in enumerate(layers) if layer.name == names[0]), len(layers))
    return layers[first:]


def _broker_layers(broker: BrokerConfig, names: tuple[str, ...]) -> Iterator[Synonym]:
    layers = (
        (broker.dynamic, ConfigSource.DYNAMIC_BROKER_CONFIG),
        (broker.dynamic_default, ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG),
        (broker.given, ConfigSource.STATIC_BROKER_CONFIG),
    )
    for texts, source in layers:
        for name in names:
            if name in texts:
                hidden = BROKER[name].type is ConfigType.PASSWORD
                yield Synonym(name, None if hidden else texts[name], source)
    for name in names:
        if BROKER[name].default is not None:
            yield Synonym(name, BROKER[name].default, ConfigSource.DEFAULT_CONFIG)


def _in_unit_of(definition: Definition, synonym: Synonym) -> str | None:
    """A broker's hours or minutes as the milliseconds of a topic; any other value as it is written."""
    factor = MILLIS_OF_UNIT.get(synonym.name.rpartition(".")[2])
    if synonym.value is None or factor is None:
        return _normal(definition, synonym.value)
    return str(int(synonym.value) * factor)


def _normal(definition: Definition, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return to_text(definition.parse(text))
    except InvalidValue:
        return text


def _entry(
    definition: Definition, value: str | None, synonyms: list[Synonym], *, read_only: bool
) -> ConfigEntry:
    sensitive = definition.type is ConfigType.PASSWORD
    source = synonyms[0].source if synonyms else ConfigSource.DEFAULT_CONFIG
    doc = definition.doc
    if not doc and definition.status is not Status.HONOURED:
        doc = "Known to Kafka; it has no effect here."
    return ConfigEntry(
        definition.name,
        None if sensitive else _normal(definition, value),
        source,
        read_only,
        sensitive,
        definition.type,
        doc,
        tuple(synonyms),
    )
