"""Dynamic broker configs, beside Apache Kafka: which there are, for whom they may be set, what a wrong one is answered."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.test_same_as_kafka_configs import BROKER, change_of, describe_of
from tests.e2e.transcript import Scenario, Transcript, assert_same
from tests.servers.kafka import KafkaProcess
from tests.servers.raw_client import RawClient
from tests.servers.tierlog import BrokerProcess
from tests.unit.config.test_dynamic import FACTS, NOT_HERE, THROTTLES
from tierlog.config.broker_table import KAFKA
from tierlog.config.dynamic import is_dynamic
from tierlog.wire.registry import APIS

SET, DELETE = 0, 1
VALUES = {
    "cordoned.log.dirs": "",
    "log.cleanup.policy": "compact,delete",
    "log.message.timestamp.type": "LogAppendTime",
    "compression.type": "producer",
    "log.preallocate": "false",
    "unclean.leader.election.enable": "false",
    "max.connections.per.ip.overrides": "127.0.0.9:7",
    "log.cleaner.min.cleanable.ratio": "0.7",
    "log.cleaner.dedupe.buffer.size": "134217729",
    "num.recovery.threads.per.data.dir": "3",
    "log.local.retention.ms": "-2",
    "log.local.retention.bytes": "-2",
    "log.segment.bytes": "2097152",
}
OURS = sorted(row.name for row in KAFKA if is_dynamic(row) and row.name not in THROTTLES)


def ask(broker: BrokerProcess | KafkaProcess, request: Any) -> Any:
    spec = APIS[request.API_KEY]
    client = RawClient(broker.port)
    try:
        return client.call(request, spec.response, spec.max_version)
    finally:
        client.socket.close()


@pytest.mark.java
def test_the_facts_are_those_of_kafka(apache: KafkaProcess) -> None:
    (result,) = ask(apache, describe_of("1", resource_type=BROKER)).results
    changeable = {row.name for row in result.configs if not row.read_only}
    assert changeable == {*FACTS["per_broker"], *FACTS["per_listener"], *FACTS["cluster_wide"]}


def test_our_describe_says_the_same(broker: BrokerProcess) -> None:
    (result,) = ask(broker, describe_of("1", resource_type=BROKER)).results
    changeable = {row.name for row in result.configs if not row.read_only}
    facts = {*FACTS["per_broker"], *FACTS["per_listener"], *FACTS["cluster_wide"]}
    ours = {name for name in changeable if name.startswith("tierlog.")}
    assert changeable - ours == (facts & {row.name for row in KAFKA}) - NOT_HERE.keys()


def each_is_taken(t: Transcript) -> None:
    """By one broker and as the default of all; then it stands, and it goes again."""
    t.ours_differs("min.insync.replicas, 1", "Kafka's ELR feature keeps it in the cluster's configs")
    for name in OURS:
        value = VALUES.get(name, "100000")
        for entity in ("1", ""):
            label = f"{name}, {entity}"
            change = change_of(entity, (name, SET, value), resource_type=BROKER, validate_only=True)
            t.call(label, change, 1)


def wrong_ones(t: Transcript) -> None:
    for label, name, value in (
        ("negative", "log.cleaner.backoff.ms", "-1"),
        ("no number", "log.cleaner.backoff.ms", "soon"),
        ("small buffer", "log.cleaner.dedupe.buffer.size", "5"),
        ("negative connections", "max.connections", "-1"),
        ("overrides", "max.connections.per.ip.overrides", "nobody"),
        ("no threads", "num.recovery.threads.per.data.dir", "0"),
        ("too many threads", "num.recovery.threads.per.data.dir", "100"),
        ("expiry", "producer.id.expiration.ms", "0"),
        ("wait", "remote.fetch.max.wait.ms", "0"),
        ("list wait", "remote.list.offsets.request.timeout.ms", "0"),
        ("cache", "remote.log.index.file.cache.total.size.bytes", "0"),
        ("copy rate", "remote.log.manager.copy.max.bytes.per.second", "0"),
        ("fetch rate", "remote.log.manager.fetch.max.bytes.per.second", "-1"),
        ("fixed", "num.partitions", "3"),
        ("unknown type of value", "unclean.leader.election.enable", "maybe"),
    ):
        for entity in ("1", ""):
            for validate_only in (True, False):
                change = change_of(
                    entity, (name, SET, value), resource_type=BROKER, validate_only=validate_only
                )
                t.call(f"{label}, {entity}, {validate_only}", change, 1)


SCENARIOS: list[Scenario] = [each_is_taken, wrong_ones]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
