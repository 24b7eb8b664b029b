"""Every backend of the metadata store, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.metadata_store.harness import Harness, MemoryHarness, SqliteHarness
from tierlog.metadata.store import MetadataStore


@pytest.fixture(params=["memory", "sqlite"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    made: Harness = MemoryHarness() if request.param == "memory" else SqliteHarness(tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def store(harness: Harness) -> MetadataStore:
    return harness.store
