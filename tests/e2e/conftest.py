"""One broker, and one Apache Kafka, for the tests that need nothing of their own from it. Both end with the last of them: an
idle JVM takes a tenth of a core."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import NO_RETENTION
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess

PEER = os.environ.get("TIERLOG_E2E_PEER", "tierlog")


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker"), NO_RETENTION) as running:
        yield running


@pytest.fixture(scope="package")
def apache(java: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaProcess]:
    """Apache Kafka itself."""
    with KafkaProcess(tmp_path_factory.mktemp("kafka"), NO_RETENTION) as running:
        yield running


@pytest.fixture(scope="package")
def cluster(request: pytest.FixtureRequest) -> BrokerProcess | KafkaProcess:
    """What the clients' tests talk to: tierlog, or Kafka where TIERLOG_E2E_PEER says so."""
    name = {"tierlog": "broker", "kafka": "apache"}[PEER]
    running: BrokerProcess | KafkaProcess = request.getfixturevalue(name)
    return running


@pytest.fixture(scope="package")
def is_kafka() -> bool:
    """Whether ``cluster`` is Apache Kafka: for the few answers that differ on purpose."""
    return PEER == "kafka"
