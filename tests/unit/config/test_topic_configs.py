"""Topic configs: what is refused and how, what the effective config is."""

from __future__ import annotations

import pytest

from tierlog.config.broker import BrokerConfig
from tierlog.config.properties import load
from tierlog.config.topic import TopicConfig
from tierlog.config.topic_configs import effective_topic_config, flush_mode, validate_topic_configs

TIERED = load({"remote.log.storage.system.enable": "true"})
REMOTE = {"remote.storage.enable": "true"}


@pytest.mark.parametrize(
    "configs",
    [
        {},
        {"segment.bytes": "1048576"},
        {"internal.segment.bytes": "100"},
        {"cleanup.policy": "compact,delete"},
        {"cleanup.policy": ""},
        {"retention.bytes": "-5"},
        {"local.retention.ms": "10", "retention.ms": "5"},
        {"compression.type": "producer", "leader.replication.throttled.replicas": ""},
        {"leader.replication.throttled.replicas": "0:1,1:2", "follower.replication.throttled.replicas": "*"},
        {"flush.mode": "ack", "tierlog.validate.records": "true"},
        {"segment.jitter.ms": "10", "segment.ms": "5"},
        {"remote.log.copy.disable": "true"},
        {"remote.copy.lag.ms": "10", "remote.copy.lag.bytes": "-1"},
        REMOTE | {"remote.copy.lag.ms": "10", "local.retention.ms": "10"},
        REMOTE | {"remote.copy.lag.bytes": "10", "local.retention.bytes": "-1", "retention.bytes": "-1"},
        REMOTE | {"remote.copy.lag.ms": "-1", "remote.copy.lag.bytes": "0"},
        REMOTE,
        REMOTE | {"local.retention.bytes": "10", "retention.bytes": "-1"},
        REMOTE | {"remote.log.copy.disable": "true"},
        REMOTE | {"remote.log.copy.disable": "true", "local.retention.bytes": "10", "retention.bytes": "10"},
        REMOTE | {"remote.log.delete.on.disable": "false"},
    ],
)
def test_allowed(configs: dict[str, str | None]) -> None:
    assert validate_topic_configs(configs, broker=TIERED) == []


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"nope": "1"}, "Unknown topic config name: nope"),
        ({"retention.ms": None}, "Null value not supported for topic configs: retention.ms"),
        (
            {"segment.bytes": "1048575"},
            "Invalid value 1048575 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            {"max.compaction.lag.ms": "5", "min.compaction.lag.ms": "10"},
            "max.compaction.lag.ms (5) is less than",
        ),
        ({"compression.type": "zstd"}, "compression.type: not supported yet, only producer is"),
        ({"compression.type": "uncompressed"}, "not supported yet"),
        ({"compression.type": "foo"}, "String must be one of"),
        ({"remote.copy.lag.ms": "-2"}, "remote.copy.lag.ms"),
        ({"tierlog.remote.copy.max.delay.ms": "10"}, "tierlog.remote.copy.max.delay.ms"),
        (
            REMOTE | {"tierlog.remote.copy.max.delay.ms": "1000", "remote.copy.lag.ms": "5"},
            "tierlog.remote.copy.max.delay.ms cannot be kept where remote.copy.lag.ms and",
        ),
        (
            REMOTE | {"remote.copy.lag.ms": "11", "local.retention.ms": "10"},
            "Invalid value 11 for configuration remote.copy.lag.ms: "
            "Value must not exceed local.retention.ms, which is 10",
        ),
        (
            REMOTE | {"remote.copy.lag.bytes": "11", "retention.bytes": "10"},
            "Invalid value 11 for configuration remote.copy.lag.bytes: "
            "Value must not exceed local.retention.bytes, which is 10",
        ),
        (
            {"leader.replication.throttled.replicas": "0:1,x"},
            "Invalid value [0:1, x] for configuration leader.replication.throttled.replicas: "
            "leader.replication.throttled.replicas must be the literal '*' or a list of replicas",
        ),
        ({"follower.replication.throttled.replicas": "*,0:1"}, "must be the literal '*'"),
        (REMOTE | {"cleanup.policy": "compact"}, "needs cleanup.policy=delete"),
        (REMOTE | {"cleanup.policy": "compact,delete"}, "needs cleanup.policy=delete"),
        (
            REMOTE | {"local.retention.ms": "10", "retention.ms": "5"},
            "Invalid value 10 for configuration local.retention.ms: "
            "Value must not be more than retention.ms property value: 5",
        ),
        (
            REMOTE | {"local.retention.bytes": "10", "retention.bytes": "5"},
            "not be more than retention.bytes",
        ),
        (
            REMOTE | {"local.retention.ms": "-1"},
            "Value must not be -1 as retention.ms value is set as 604800000.",
        ),
        (
            REMOTE | {"remote.log.copy.disable": "true", "local.retention.ms": "10"},
            "with remote.log.copy.disable=true local.retention.ms and retention.ms must be equal",
        ),
        (
            REMOTE | {"remote.log.copy.disable": "true", "local.retention.bytes": "10"},
            "with remote.log.copy.disable=true local.retention.bytes and retention.bytes must be equal",
        ),
        ({"flush.mode": "none"}, "String must be one of: os, ack"),
    ],
)
def test_refused(configs: dict[str, str | None], message: str) -> None:
    errors = validate_topic_configs(configs, broker=TIERED)
    assert len(errors) == 1
    assert message in errors[0]


def test_every_wrong_value_is_told() -> None:
    assert len(validate_topic_configs({"nope": "1", "preallocate": "x"}, broker=TIERED)) == 2


def test_remote_storage_needs_a_broker_that_has_it() -> None:
    (error,) = validate_topic_configs(REMOTE, broker=BrokerConfig())
    assert "remote.log.storage.system.enable=true" in error


@pytest.mark.parametrize("after", [{}, {"remote.storage.enable": "false"}])
def test_remote_storage_is_not_switched_off_while_its_data_cannot_be_deleted(
    after: dict[str, str | None],
) -> None:
    (error,) = validate_topic_configs(after, broker=TIERED, existing=REMOTE)
    assert "remote.log.copy.disable=true" in error
    (error,) = validate_topic_configs(
        after | {"remote.log.delete.on.disable": "true"}, broker=TIERED, existing=REMOTE
    )
    assert "not supported yet" in error


def test_local_retention_against_the_brokers_default() -> None:
    broker = load({"remote.log.storage.system.enable": "true", "log.retention.ms": "100"})
    assert validate_topic_configs(REMOTE | {"local.retention.ms": "101"}, broker=broker)
    assert not validate_topic_configs(REMOTE | {"local.retention.ms": "100"}, broker=broker)


def test_effective_config_is_the_brokers_with_the_topics_over_it() -> None:
    broker = load({"log.retention.hours": "1", "log.segment.bytes": "2097152"})
    config = effective_topic_config({"segment.bytes": "1048576", "cleanup.policy": "compact"}, broker)
    assert config.segment_bytes == 1_048_576
    assert config.retention_ms == 3_600_000
    assert config.is_compacted
    assert effective_topic_config({}, broker) is broker.topic_defaults
    assert effective_topic_config({}, BrokerConfig()) == TopicConfig()


def test_the_internal_segment_size_wins() -> None:
    overrides = {"internal.segment.bytes": "4096", "segment.bytes": "1048576"}
    assert effective_topic_config(overrides, BrokerConfig()).segment_bytes == 4096


@pytest.mark.parametrize(
    ("overrides", "broker", "factor", "mode"),
    [
        ({}, {}, 1, "ack"),
        ({}, {}, 3, "os"),
        ({}, {"flush.mode": "os"}, 1, "os"),
        ({}, {"flush.mode": "ack"}, 3, "ack"),
        ({"flush.mode": "os"}, {"flush.mode": "ack"}, 1, "os"),
        ({"flush.mode": "ack"}, {}, 3, "ack"),
    ],
)
def test_flush_mode(overrides: dict[str, str], broker: dict[str, str], factor: int, mode: str) -> None:
    assert flush_mode(overrides, load(broker), factor) == mode
    assert effective_topic_config(overrides, load(broker), factor).flush_mode == mode
