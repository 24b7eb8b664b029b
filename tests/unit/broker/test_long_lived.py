"""What the collector has to look at does not grow with the partitions, and what is frozen goes all the same."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import create, running, until
from tierlog.broker.replicas import long_lived
from tierlog.errors import ErrorCode

PARTITIONS = 300


async def test_the_collector_does_not_look_at_what_has_come_to_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_lived, "FREEZE_EVERY", 50)
    async with running(tmp_path, metadata_store="memory:") as broker:
        gc.collect()
        before = len(gc.get_objects())
        await create(broker, PARTITIONS)
        await until(lambda: all(p.leader is not None for p in broker.replicas))
        gc.collect()
        grown = len(gc.get_objects()) - before
        # A partition, its log and its role are some sixty objects.
        assert grown < 20 * PARTITIONS


async def test_what_is_frozen_goes_without_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_lived, "FREEZE_EVERY", 1)
    async with running(tmp_path, metadata_store="memory:") as broker:
        (partition,) = await create(broker)
        # The partition refers to its log, so that it is gone as well.
        log, topic_id = weakref.ref(partition.log), partition.topic_id
        del partition
        gc.disable()
        try:
            (deleted,) = await broker.services.admin.delete_topics([topic_id])
            assert deleted.error is ErrorCode.NONE
            await until(lambda: log() is None)
        finally:
            gc.enable()
