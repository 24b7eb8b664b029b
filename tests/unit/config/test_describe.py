"""DescribeConfigs' values, sources and synonyms; the facts are those of a real Kafka 4.4.0 broker."""

from __future__ import annotations

from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import ConfigType
from tierlog.config.describe import (
    ConfigEntry,
    ConfigSource,
    Synonym,
    describe_broker,
    describe_broker_default,
    describe_client_metrics,
    describe_group,
    describe_topic,
)
from tierlog.config.dynamic import validate_broker_configs
from tierlog.config.lookup import TOPIC
from tierlog.config.properties import load, with_dynamic

TOPIC_SOURCE = ConfigSource.DYNAMIC_TOPIC_CONFIG
OWN = ConfigSource.DYNAMIC_BROKER_CONFIG
ALL = ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG
STATIC = ConfigSource.STATIC_BROKER_CONFIG
DEFAULT = ConfigSource.DEFAULT_CONFIG


def by_name(entries: list[ConfigEntry]) -> dict[str, ConfigEntry]:
    found = {entry.name: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def test_a_topic_shows_every_config_of_kafka_but_internal_ones() -> None:
    entries = by_name(describe_topic({}, BrokerConfig()))
    assert set(entries) == set(TOPIC) - {"internal.segment.bytes"}
    assert len([name for name in entries if name != "flush.mode" and not name.startswith("tierlog.")]) == 37
    assert "internal.segment.bytes" in by_name(
        describe_topic({"internal.segment.bytes": "9"}, BrokerConfig())
    )
    assert all(entry.source is DEFAULT for entry in entries.values())


def test_every_default_shown_is_the_effective_one() -> None:
    for entry in describe_topic({}, BrokerConfig()):
        definition = TOPIC[entry.name]
        if definition.default is not None:
            assert entry.value is not None
            assert definition.parse(entry.value) == definition.parse(definition.default), entry.name
        assert entry.type == definition.type


def test_layers_of_a_topic_config() -> None:
    base = load({"log.retention.hours": "2"})
    broker = with_dynamic(base, default={"log.retention.ms": "99999"}, own={"log.retention.ms": "5"})
    entry = by_name(describe_topic({"retention.ms": "77"}, broker))["retention.ms"]
    assert (entry.value, entry.source, entry.type) == ("77", TOPIC_SOURCE, ConfigType.LONG)
    assert entry.synonyms[:4] == (
        Synonym("retention.ms", "77", TOPIC_SOURCE),
        Synonym("log.retention.ms", "5", OWN),
        Synonym("log.retention.ms", "99999", ALL),
        Synonym("log.retention.hours", "2", STATIC),
    )
    assert by_name(describe_topic({}, broker))["retention.ms"].value == "5"
    assert by_name(describe_topic({}, base))["retention.ms"].value == "7200000"
    # Kafka shows what fills in only behind what it fills in for.
    assert by_name(describe_topic({}, base))["retention.ms"].source is DEFAULT
    assert by_name(describe_topic({}, base))["retention.ms"].synonyms == ()
    own = by_name(describe_topic({"retention.ms": "77"}, base))["retention.ms"]
    assert own.synonyms == (Synonym("retention.ms", "77", TOPIC_SOURCE),)
    assert by_name(describe_topic({}, load({"log.roll.hours": "7"})))["segment.ms"].synonyms == ()
    assert by_name(describe_broker(base))["log.retention.ms"].synonyms == ()
    assert by_name(describe_broker(base))["log.retention.hours"].source is STATIC


def test_synonyms_of_a_default() -> None:
    entries = by_name(describe_topic({"cleanup.policy": "compact"}, BrokerConfig()))
    assert entries["cleanup.policy"].synonyms == (
        Synonym("cleanup.policy", "compact", TOPIC_SOURCE),
        Synonym("log.cleanup.policy", "delete", DEFAULT),
    )
    assert entries["segment.bytes"].synonyms == (Synonym("log.segment.bytes", "1073741824", DEFAULT),)
    assert entries["remote.storage.enable"].synonyms == ()
    assert entries["segment.ms"].value == "604800000"
    assert entries["flush.ms"].value == str(2**63 - 1)


def test_texts_are_shown_as_kafka_writes_them() -> None:
    entries = by_name(
        describe_topic({"preallocate": "TRUE", "cleanup.policy": " compact , delete "}, BrokerConfig())
    )
    assert entries["preallocate"].value == "true"
    assert entries["cleanup.policy"].value == "compact,delete"


def test_flush_mode_is_shown_as_it_is_resolved() -> None:
    assert by_name(describe_topic({}, BrokerConfig(), 1))["flush.mode"].value == "ack"
    assert by_name(describe_topic({}, BrokerConfig(), 3))["flush.mode"].value == "os"
    assert by_name(describe_topic({"flush.mode": "os"}, BrokerConfig(), 1))["flush.mode"].value == "os"


def test_a_broker_shows_every_property_of_kafka_and_our_own() -> None:
    entries = by_name(describe_broker(load({"node.id": "3", "num.io.threads": "9"})))
    kafka = [
        name
        for name in entries
        if not name.startswith("tierlog.") and name not in ("flush.mode", "metadata.store")
    ]
    assert len(kafka) == 350
    assert entries["node.id"] == ConfigEntry(
        "node.id",
        "3",
        STATIC,
        is_read_only=True,
        type=ConfigType.INT,
        documentation=entries["node.id"].documentation,
        synonyms=(Synonym("node.id", "3", STATIC), Synonym("node.id", "0", DEFAULT)),
    )
    assert entries["num.io.threads"].value == "9"
    assert "no effect" in entries["num.io.threads"].documentation
    assert entries["log.retention.ms"].value is None
    assert not entries["log.retention.ms"].is_read_only
    assert entries["log.retention.hours"].is_read_only
    assert entries["metadata.store"].value == "sqlite:/tmp/kafka-logs/tierlog/metadata.db"


def test_secrets_are_never_shown() -> None:
    broker = load({"password.encoder.secret": "abc", "ssl.keystore.type": "JKS"})
    entries = by_name(describe_broker(broker))
    for name in ("ssl.keystore.password", "password.encoder.secret", "sasl.jaas.config"):
        assert entries[name].value is None
        assert entries[name].is_sensitive
    assert "abc" not in repr(entries)


def test_dynamic_layers_of_a_broker() -> None:
    base = load({"log.segment.bytes": "2097152"})
    broker = with_dynamic(
        base, default={"log.segment.bytes": "3145728"}, own={"log.segment.bytes": "4194304"}
    )
    entry = by_name(describe_broker(broker))["log.segment.bytes"]
    assert entry.value == "4194304"
    assert [synonym.source for synonym in entry.synonyms] == [OWN, ALL, STATIC, DEFAULT]
    (default,) = describe_broker_default(broker)
    assert (default.name, default.value, default.source) == ("log.segment.bytes", "3145728", ALL)


def test_groups_and_client_metrics_show_kafkas_defaults() -> None:
    groups = by_name(describe_group(load({"group.consumer.session.timeout.ms": "50000"})))
    assert len(groups) == 21
    assert groups["consumer.session.timeout.ms"].value == "50000"
    assert groups["streams.assignor.name"].value == "sticky"
    assert [entry.name for entry in describe_client_metrics()] == ["interval.ms", "match", "metrics"]


def test_what_may_be_changed_while_brokers_run() -> None:
    broker = BrokerConfig()
    assert validate_broker_configs({"log.retention.ms": "5", "message.max.bytes": "99"}, broker=broker) == []
    for name in ("node.id", "log.retention.hours", "num.io.threads", "nope", "sasl.jaas.config"):
        (message,) = validate_broker_configs({name: "1"}, broker=broker)
        assert message == f"Cannot update these configs dynamically: [{name}]"
    (message,) = validate_broker_configs({"log.retention.ms": "x"}, broker=broker)
    assert message == "Invalid value x for configuration log.retention.ms: Not a number of type LONG"
    (message,) = validate_broker_configs(
        {"log.cleaner.min.compaction.lag.ms": str(2**62), "log.cleaner.max.compaction.lag.ms": "1"},
        broker=broker,
    )
    assert "less than log.cleaner.min.compaction.lag.ms" in message
