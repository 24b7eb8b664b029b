"""Logs of very many producers and of large segments are rolled, cut back as a follower's and begun anew at the tiered end in
steps that never hold the loop for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.log.logs import append, batch, config, open_log
from tests.unit.offload.brokers import Running, World, produce, until
from tests.unit.offload.test_held_segments import answer, follow
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.log.compaction.run import compaction_run
from tierlog.log.producers.cuts import replay_for_cut
from tierlog.log.producers.snapshot_file import SnapshotEntry, encode_snapshot
from tierlog.telemetry.loop_stall import LoopStallWatch
from tierlog.telemetry.metrics import Registry
from tierlog.wire.messages.fetch import EpochEndOffset, PartitionData

PRODUCERS = 100_000
LIMIT_S = 0.050
MIB = 1 << 20


def with_producers(partition: Partition) -> None:
    """As if each had written the first batch."""
    entries = (SnapshotEntry(1_000 + n, 0, 0, 1, 1, 1_000, -1, -1) for n in range(PRODUCERS))
    log = partition.log
    log.producers.load_snapshot(encode_snapshot(entries), log.log_end_offset, wall_clock_ms())


async def write(partition: Partition, batches: range) -> None:
    for first in batches:
        produce(partition, 1, first=first)
        await asyncio.sleep(0)


async def cut_at(one: Running, partition: Partition, offset: int) -> None:
    """As a follower whose leader has another end of this epoch; it asks until the cut is prepared."""
    epoch = partition.log.epochs.latest_epoch
    assert epoch is not None
    diverging = PartitionData(diverging_epoch=EpochEndOffset(epoch=epoch, end_offset=offset))

    def is_cut() -> bool:
        answer(one, partition, diverging)
        return partition.log.log_end_offset == offset

    await until(is_cut)


@pytest.mark.slow
async def test_a_hundred_thousand_producers_never_hold_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path, monkeypatch).broker(log_cleaner_enable="false") as one:
        partition = await one.create(local_retention_bytes="-1")
        await write(partition, range(1))
        with_producers(partition)
        watch = LoopStallWatch(Registry())
        watch.start()
        await write(partition, range(1, 31))
        tier = await one.tiered(partition)
        assert isinstance(tier, PartitionTier)
        assert len(partition.log.producers) == PRODUCERS
        await cut_at(one, partition, 42)
        assert len(partition.log.producers) == PRODUCERS
        await cut_at(one, partition, 30)
        follow(one, partition)
        assert await one.tiering.start_follower(partition) == 60
        assert len(partition.log.producers) == PRODUCERS
        await asyncio.sleep(0.05)
        watch.stop()
        assert watch.computed_max_s <= LIMIT_S


@contextmanager
def computed() -> Iterator[None]:
    """This thread uses no more CPU time within the block than the loop may be held."""
    began_s = time.thread_time()
    yield
    assert time.thread_time() - began_s <= LIMIT_S


def test_a_cut_in_and_below_a_segment_of_163_mib(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=200 * MIB, max_message_bytes=1 << 30))
    many = bytes(batch(value_bytes=16_000)) * 256
    append(log, batch(producer_id=5))
    while log.size_bytes < 163 * MIB:
        append(log, memoryview(bytearray(many)))
    middle = log.log_end_offset // 2
    log.roll(wall_clock_ms())
    append(log, batch(producer_id=6))
    with computed():
        replay = replay_for_cut(log, middle, wall_clock_ms())
    assert replay is not None
    replay.run()
    log.replay = replay
    with computed():
        assert replay_for_cut(log, middle, wall_clock_ms()) is None
        log.truncate_to(middle, wall_clock_ms())
    assert (log.log_end_offset, log.segment_count, len(log.producers)) == (middle, 1, 1)


def test_compaction_is_planned_at_once_whatever_number_of_producers(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(cleanup_policy=frozenset({"compact"}), min_cleanable_dirty_ratio=0.0))
    append(log, batch())
    entries = (SnapshotEntry(1_000 + n, 0, 0, 0, 0, 1_000, -1, -1) for n in range(PRODUCERS))
    log.producers.load_snapshot(encode_snapshot(entries), 1, wall_clock_ms())
    log.roll(wall_clock_ms())
    append(log, batch())
    with computed():
        assert compaction_run(log, None, log.log_end_offset, wall_clock_ms()) is not None
