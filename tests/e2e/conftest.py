"""One broker for the tests that need nothing of their own from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import NO_RETENTION
from tests.servers.tierlog import BrokerProcess


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker"), NO_RETENTION) as running:
        yield running
