"""One broker for the tests that need nothing of their own from it, and what clients under test leave behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.conftest import NO_RETENTION
from tests.servers.tierlog import BrokerProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """kafka-python leaves the socket of a connection that it gave up to the collector. Not ours to mend: its warning is
    ignored in the tests of modules that import it."""
    for item in items:
        if any(_of_kafka_python(value) for value in vars(getattr(item, "module", item)).values()):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
            assert isinstance(item, pytest.Function)
            item.fixturenames.append("collected")


def _of_kafka_python(value: object) -> bool:
    return str(getattr(value, "__module__", "")).startswith("kafka.")


@pytest.fixture
def collected() -> Iterator[None]:
    """What the test left behind is collected before the next one, which may be strict."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker"), NO_RETENTION) as running:
        yield running
