"""While one holds a log's segments, all others who remove or replace some come in vain, and succeed when they come again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from tests.unit.offload.brokers import Running, World, produce, until
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.following.apply_reply import take_answer
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.upkeep.disk_relief import DiskRelief
from tierlog.errors import ErrorCode
from tierlog.log.removals import COMPACTION, MOVE, REPAIR
from tierlog.replication.follower import Follower
from tierlog.wire.messages.fetch import EpochEndOffset, PartitionData

OTHER = 2
KEEPS = {"local_retention_bytes": "-1"}


async def retention(one: Running, partition: Partition) -> None:
    await one.broker.housekeeping.retain()


async def commit_of_the_tier(one: Running, partition: Partition) -> None:
    one.broker.housekeeping.on_tiered(partition)


async def followers_retention(one: Running, partition: Partition) -> None:
    follow(one, partition)
    partition.tiered_end_offset = 60
    await one.broker.housekeeping.retain()


async def relief(one: Running, partition: Partition) -> None:
    replicas = SimpleNamespace(
        in_log_dir=lambda log_dir: [partition], unlink_later=one.broker.replicas.unlink_later
    )
    log_dir = SimpleNamespace(wanted_bytes=30_000, reserve_reached=False, path=partition.log_dir.path)
    DiskRelief(cast(Any, replicas), wall_clock_ms).relieve(cast(Any, log_dir))


async def mending(one: Running, partition: Partition) -> None:
    tier = partition.remote
    assert isinstance(tier, PartitionTier)
    await one.tiering.work._mend_segment(tier, partition.log.segments[1].end_offset, "rot")


async def cleaner(one: Running, partition: Partition) -> None:
    await one.broker.cleaner.clean_dirtiest()


async def followers_cut(one: Running, partition: Partition) -> None:
    """The leader's log has another end of this epoch."""
    epoch = partition.log.epochs.latest_epoch
    assert epoch is not None
    answer(one, partition, PartitionData(diverging_epoch=EpochEndOffset(epoch=epoch, end_offset=50)))


async def followers_start_anew(one: Running, partition: Partition) -> None:
    """The leader's log begins and ends above this one's."""
    out_of_range = PartitionData(
        error_code=ErrorCode.OFFSET_OUT_OF_RANGE,
        high_watermark=500,
        log_start_offset=500,
        last_stable_offset=500,
    )
    answer(one, partition, out_of_range)


async def start_at_the_tiered_end(one: Running, partition: Partition) -> None:
    follow(one, partition)
    await one.tiering.start_follower(partition)


async def lead_check(one: Running, partition: Partition) -> None:
    one.broker.replicas.roles.leave(partition)
    await one.tiering.lead_check._is_in_line(partition, partition.leader_epoch)


def follow(one: Running, partition: Partition) -> Follower:
    """Another broker leads, on the same epoch."""
    if partition.follower is None:
        one.broker.replicas.roles.leave(partition)
        committed = partition.high_watermark
        follower = Follower(1, 1, OTHER, partition.leader_epoch, committed, may_lose_committed=True)
        partition.follow(follower, partition.partition_epoch)
    assert partition.follower is not None
    return partition.follower


def answer(one: Running, partition: Partition, data: PartitionData) -> None:
    follower = follow(one, partition)
    fetch = follower.next_fetch(partition.log, partition.log.log_end_offset, 2**40)
    assert fetch is not None
    take_answer(partition, fetch, data, 0, wall_clock_ms())


class Case(NamedTuple):
    """``is_behind``: the log ends below its tier."""

    come: Callable[[Running, Partition], Awaitable[None]]
    configs: dict[str, str] = KEEPS
    is_behind: bool = False


CASES = [
    Case(retention, {}),
    Case(commit_of_the_tier, {}),
    Case(followers_retention, {}),
    Case(relief),
    Case(mending),
    Case(
        cleaner,
        {"remote_storage_enable": "false", "cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0"},
    ),
    Case(followers_cut),
    Case(followers_start_anew),
    Case(start_at_the_tiered_end, is_behind=True),
    Case(lead_check, is_behind=True),
]


def shape(partition: Partition) -> tuple[object, ...]:
    """Changes with each segment that goes, is cut, or is replaced."""
    log = partition.log
    files = sorted((path.name, path.stat().st_ino) for path in log.directory.glob("*.log"))
    return [segment.base_offset for segment in log.segments], log.log_end_offset, files


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.come.__name__)
async def test_nobody_removes_what_another_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    async with World(tmp_path, monkeypatch).broker(log_cleaner_enable="false") as one:
        partition = await one.create(**case.configs)
        with partition.log.removals.hold(MOVE):  # so that local retention leaves something
            produce(partition, 31)
            if partition.remote is not None:
                await one.tiered(partition)
            await until(lambda: partition.high_watermark == partition.log.log_end_offset)
        if case.is_behind:
            one.broker.replicas.roles.leave(partition)
            partition.log.truncate_to(20, wall_clock_ms())
        for holder in (COMPACTION, REPAIR, MOVE):
            with partition.log.removals.hold(holder):
                before = shape(partition)
                for _ in range(2):
                    await case.come(one, partition)
                assert shape(partition) == before
                assert partition.offline is None
                assert partition.log.removals.holder == holder
        await case.come(one, partition)
        assert shape(partition) != before
        assert partition.offline is None
