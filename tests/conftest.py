"""Real programs that tests of several directories share: a tierlog broker or its peer, Apache Kafka, and Java.

``TIERLOG_E2E_PEER=kafka`` runs every test that takes ``cluster`` against Apache Kafka instead of tierlog: a test
that does not pass there asks for something that Kafka does not promise.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers import kafka
from tests.servers.tierlog import BrokerProcess

# Tests write records of 2023, which the default retention of a week deletes 30 s after the broker's start.
NO_RETENTION = {"log.initial.task.delay.ms": "3600000", "log.retention.check.interval.ms": "3600000"}
# How long an example takes says more about what else runs on the machine than about the code.
settings.register_profile("tierlog", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=10)
settings.load_profile(os.environ.get("TIERLOG_HYPOTHESIS", "tierlog"))
# Tests start hundreds of brokers; what measures or takes hours starts each with its own imports.
BrokerProcess.forked = True
# Each clean stop of a broker would start the process that writes Parquet; tests of the ledger switch it on.
os.environ["KAFKA_TIERLOG_LEDGER_ENABLE"] = "false"
# Files run side by side, each as a whole: those that take long come first, so that none of them is left alone at the end.
LONG_FIRST = (
    "tests/e2e/",
    "tests/sim/",
    "tests/contract/",
    "tests/model/",
    "tests/fuzz/",
    "tests/unit/chaos/",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long directories first; within one the (random) order stays."""
    items.sort(key=lambda item: _rank(item.nodeid))
    for item in items:
        is_e2e = item.nodeid.startswith("tests/e2e/")
        if is_e2e and any(
            _is_of_kafka_python(value) for value in vars(item.getparent(pytest.Module).obj).values()
        ):
            _let_sockets_be(item)


def _rank(nodeid: str) -> int:
    return next((i for i, prefix in enumerate(LONG_FIRST) if nodeid.startswith(prefix)), len(LONG_FIRST))


def _is_of_kafka_python(value: object) -> bool:
    return str(getattr(value, "__module__", "")).startswith("kafka.")


def _let_sockets_be(item: pytest.Item) -> None:
    """kafka-python leaves the socket of a connection that it gave up to the collector: not ours to mend."""
    assert isinstance(item, pytest.Function)
    item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
    item.fixturenames.append("collected")


@pytest.fixture
def collected() -> Iterator[None]:
    """What the test left behind is collected before the next one, which may be strict."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def java() -> None:
    """Skips, loudly, where Java or Kafka's jars are truly absent."""
    kafka.install_without_apt()
    reason = kafka.absent()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def kcat() -> str:
    path = shutil.which("kcat")
    if path is None:
        pytest.skip("no kcat on this machine: run tools/install_test_deps.sh")
    return path
