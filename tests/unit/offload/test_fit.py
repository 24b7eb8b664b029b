"""Starts whose tier does not fit: refused, in one line, and nothing has changed. What an older release allowed is mended."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.broker.test_identity import content, refused
from tests.unit.offload.brokers import Running, World, produce, until
from tiering.keys import CLUSTER_MARKER
from tierlog.broker.node import Broker
from tierlog.broker.offload.fit import of_topics
from tierlog.broker.replicas.partition import Partition
from tierlog.cli.broker import embedded
from tierlog.errors import ErrorCode
from tierlog.log.files.checkpoints import LOG_START_OFFSETS
from tierlog.metadata.keys import PartitionKey

OFF = "remote.log.storage.system.enable=false"


@asynccontextmanager
async def running(directory: Path, *overrides: str) -> AsyncIterator[Running]:
    """On a directory of objects."""
    broker = Broker(embedded(directory, "127.0.0.1", 0, -1, ["tierlog.disk.reserve.bytes=65536", *overrides]))
    await broker.start()
    try:
        yield Running(broker)
    finally:
        await broker.stop()


async def filled(directory: Path, *overrides: str) -> None:
    """A broker that has copied most of 50 batches, and has stopped."""
    async with running(directory, *overrides) as broker:
        partition = await broker.create()
        produce(partition, 50)
        await broker.tiered(partition)


async def served(directory: Path, *overrides: str) -> None:
    async with running(directory, *overrides) as broker:
        partition = await broker.leading()
        assert (partition.log_start_offset, partition.log.log_end_offset) == (0, 100)
        await broker.tiered(partition)
        await broker.read_all(partition, 0)


async def test_a_tier_that_is_switched_off(tmp_path: Path) -> None:
    await filled(tmp_path)
    line = await refused(tmp_path, tmp_path, OFF)
    assert "topic t has data in the tier" in line and "set remote.log.storage.system.enable=true" in line
    await served(tmp_path)


async def test_a_tier_that_is_switched_off_for_one_of_two(tmp_path: Path) -> None:
    store = f"metadata.store=sqlite:{tmp_path}/one/metadata.db"
    await filled(tmp_path / "one", store)
    line = await refused(tmp_path, tmp_path / "two", store, "node.id=2", OFF)
    assert "topic t has data in the tier" in line
    assert not (tmp_path / "two" / "logs").exists()
    await served(tmp_path / "one", store)


async def test_a_tier_without_data_may_be_switched_off(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        partition = await broker.create()
        produce(partition, 5, batches_per_segment=1000)
        assert await broker.broker.replicas.advance_log_start(partition, 4) is ErrorCode.NONE
    other = Broker(embedded(tmp_path, "127.0.0.1", 0, -1, [OFF]))
    await other.start()
    found = other.replicas.by_name("t", 0)
    assert isinstance(found, Partition)
    assert (found.log_start_offset, found.log.log_end_offset) == (4, 10)
    await other.stop()


@pytest.mark.parametrize("has_marker", [False, True])
async def test_another_bucket(tmp_path: Path, has_marker: bool) -> None:
    await filled(tmp_path)
    ours, other = tmp_path / "objects", tmp_path / "other"
    if has_marker:  # of this cluster, as after a start in the time before there was anything in the tier
        (other / CLUSTER_MARKER).parent.mkdir(parents=True)
        shutil.copy(ours / CLUSTER_MARKER, other / CLUSTER_MARKER)
    there = f"tierlog.object.store=dir:{other}"
    line = await refused(tmp_path, tmp_path, there)
    assert "is not where the tier lies: topic t has data in it" in line
    await served(tmp_path)
    shutil.rmtree(other, ignore_errors=True)
    ours.rename(other)
    assert "is not where the tier lies" in await refused(tmp_path, tmp_path)
    await served(tmp_path, there)


async def test_a_bucket_that_is_known_but_empty_is_taken_while_nothing_is_in_the_tier(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    async with running(tmp_path, f"tierlog.object.store=dir:{tmp_path}/other"):
        pass
    assert content(tmp_path / "other") == content(tmp_path / "objects")


async def test_records_that_were_deleted_while_the_tier_was_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older release started so, and moved the start of the log behind the end of its tier: copying goes on there."""
    world = World(tmp_path, monkeypatch)
    async with world.broker() as broker:
        partition = await broker.create(local_retention_bytes="-1")
        produce(partition, 100)
        tier = await broker.tiered(partition)
        tiered_end = tier.end_offset
        produce(partition, 5, first=100, batches_per_segment=1000)
        start = partition.log.log_end_offset - 4
        assert start > tiered_end
    (world.directory / "logs" / LOG_START_OFFSETS).write_text(f"0\n1\nt 0 {start}\n")
    async with world.broker() as broker:
        partition = await broker.leading()
        assert partition.log_start_offset == start
        written = produce(partition, 50, first=110)
        tier = await broker.tiered(partition)
        assert (tier.start_offset, tier.head.tail[0].base_offset) == (start, start)
        assert (await broker.read_all(partition, start)).endswith(written)
        tier.next_check_ms = 0
        await until(lambda: tier.head.removed_end >= tiered_end)


def test_names_are_bounded() -> None:
    topics = {n: SimpleNamespace(name=f"{n:03}" + "x" * 97) for n in range(200)}
    image = cast(Any, SimpleNamespace(topics_by_id=topics))
    said = of_topics(image, [PartitionKey(cast(Any, n), 0) for n in topics])
    assert said.startswith("topics 000x") and said.endswith("and 198 more have data") and len(said) < 250
