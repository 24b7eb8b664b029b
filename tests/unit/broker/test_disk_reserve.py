"""The reserve of a log directory, what may use it, what is given up for room, and what a broker does without any.

How it all looks from outside, on a real file system that is full, is in ``tests/e2e/test_disk_full``.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.broker.test_config_effects import append, create, running, until
from tierlog.broker.disk.flusher import Flusher, Plan
from tierlog.broker.disk.log_dirs import RESERVE_NAME, LogDir, Space
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.upkeep import disk_relief
from tierlog.broker.upkeep.disk_relief import DiskRelief
from tierlog.errors import DiskFull, ErrorCode, StorageError
from tierlog.log.append import AppendOrigin
from tierlog.log.files.checkpoints import CLEAN_SHUTDOWN
from tierlog.log.log import Log
from tierlog.records.records import Record, build_batch

MIB = 1 << 20


class SmallLogDir(LogDir):
    """On a disk of 64 MiB of which others use ``others_bytes``."""

    total_bytes = 64 * MIB
    others_bytes = 0

    def space(self) -> Space:
        reserve = self.path / RESERVE_NAME
        own_bytes = reserve.stat().st_size if reserve.exists() else 0
        return Space(self.total_bytes, max(self.total_bytes - self.others_bytes - own_bytes, 0))


def begun(path: Path, reserve_bytes: int) -> SmallLogDir:
    log_dir = SmallLogDir(path, reserve_bytes)
    log_dir.begin()
    return log_dir


def test_the_reserve_is_given_up_and_taken_back(tmp_path: Path) -> None:
    log_dir = begun(tmp_path, 8 * MIB)
    reserve = tmp_path / RESERVE_NAME
    assert reserve.stat().st_blocks * 512 >= 8 * MIB
    log_dir.others_bytes = 51 * MIB  # 5 left beside the reserve
    assert not log_dir.watch_reserve()
    assert log_dir.wanted_bytes == 11 * MIB, "making room begins before produce is refused"
    log_dir.others_bytes = 53 * MIB
    assert log_dir.watch_reserve() and log_dir.reserve_reached and not reserve.exists()
    assert not log_dir.watch_reserve(), "said once"
    assert log_dir.wanted_bytes == 13 * MIB
    log_dir.others_bytes = 49 * MIB
    assert not log_dir.watch_reserve() and log_dir.reserve_reached
    log_dir.others_bytes = 47 * MIB
    assert log_dir.watch_reserve() and not log_dir.reserve_reached
    assert reserve.stat().st_size == 8 * MIB
    log_dir.close()


def test_a_write_that_finds_the_disk_full_first_is_noticed_by_the_watch(tmp_path: Path) -> None:
    log_dir = begun(tmp_path, 8 * MIB)
    log_dir.others_bytes = 60 * MIB
    assert log_dir.on_disk_full(), "there is room now"
    assert not log_dir.on_disk_full()
    assert log_dir.reserve_reached
    assert log_dir.watch_reserve()
    log_dir.close()


def test_the_reserve_of_a_small_disk_can_be_regained(tmp_path: Path) -> None:
    log_dir = begun(tmp_path, 64 * MIB)
    assert (tmp_path / RESERVE_NAME).stat().st_size == 8 * MIB
    log_dir.others_bytes = 60 * MIB
    assert log_dir.watch_reserve()
    log_dir.others_bytes = 0
    assert log_dir.watch_reserve() and not log_dir.reserve_reached
    log_dir.close()


def test_a_start_on_a_full_disk_begins_at_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, 8 * MIB).close()
    monkeypatch.setattr(SmallLogDir, "others_bytes", 56 * MIB)
    log_dir = begun(tmp_path, 8 * MIB)
    assert log_dir.reserve_reached
    assert log_dir.space().usable_bytes == 8 * MIB, "recovery may use it"
    assert log_dir.watch_reserve(), "and it is said"
    log_dir.close()


def test_no_reserve(tmp_path: Path) -> None:
    log_dir = begun(tmp_path, 0)
    log_dir.others_bytes = 64 * MIB
    assert not log_dir.on_disk_full()
    assert not log_dir.watch_reserve() and not log_dir.reserve_reached
    assert not log_dir.wanted_bytes
    log_dir.close()


# -- who may use it


def replace_method(log: Log, name: str, instead: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this log alone: its class has slots, so that no object takes a method of its own."""
    own = getattr(Log, name)

    def method(self: Log, *args: Any, **more: Any) -> Any:
        return instead(*args, **more) if self is log else own(self, *args, **more)

    monkeypatch.setattr(Log, name, method)


def refuse_writes(partition: Partition, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The log finds no space ``times`` times."""
    inner, left = partition.log.append_as_leader, [times]

    def append_as_leader(*args: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise DiskFull("no space")
        return inner(*args)

    replace_method(partition.log, "append_as_leader", append_as_leader, monkeypatch)


@pytest.mark.parametrize(
    ("origin", "error"),
    [(AppendOrigin.CLIENT, ErrorCode.KAFKA_STORAGE_ERROR), (AppendOrigin.COORDINATOR, ErrorCode.NONE)],
)
async def test_group_commits_go_into_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: AppendOrigin, error: ErrorCode
) -> None:
    async with running(tmp_path, tierlog_disk_reserve_bytes=str(MIB)) as broker:
        (partition,) = await create(broker)
        refuse_writes(partition, monkeypatch, 1)
        result = partition.append(memoryview(build_batch([Record(b"k", b"v", 1)])), True, 1, origin)
        assert result.error is error
        assert partition.log_dir.reserve_reached
        assert partition.offline is None
        append_again = partition.append(memoryview(build_batch([Record(b"k", b"v", 1)])), True, 1)
        assert append_again.error is ErrorCode.KAFKA_STORAGE_ERROR, "until the watch finds room"
        await until(lambda: not partition.log_dir.reserve_reached)
        append(partition)


async def test_a_stop_without_room_is_no_clean_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, tierlog_disk_reserve_bytes="0") as broker:
        (partition,) = await create(broker)
        append(partition)
        replace_method(partition.log, "close_clean", no_space, monkeypatch)
        (log_dir,) = broker.log_dirs
    assert not (log_dir.path / CLEAN_SHUTDOWN).exists()
    async with running(tmp_path) as broker:
        (partition,) = broker.replicas
        assert partition.log.log_end_offset == 1
    assert (log_dir.path / CLEAN_SHUTDOWN).exists()


def no_space(*args: object, **kwargs: object) -> None:
    raise DiskFull("no space")


async def test_the_cleaner_survives_a_checkpoint_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as broker:
        (partition,) = await create(broker, cleanup_policy="compact", min_cleanable_dirty_ratio="0")
        append(partition)
        partition.log.roll(1)
        await until(lambda: partition.high_watermark == 1)
        monkeypatch.setattr(partition.log_dir, "write_cleaner_offsets", no_space)
        assert not await broker.cleaner.clean_dirtiest()
        append(partition)
        partition.log.roll(1)
        await until(lambda: partition.high_watermark == 2)
        monkeypatch.undo()
        assert await broker.cleaner.clean_dirtiest()


async def test_the_cleaner_leaves_the_reserve_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as broker:
        (partition,) = await create(broker, cleanup_policy="compact", min_cleanable_dirty_ratio="0")
        append(partition)
        partition.log.roll(1)
        await until(lambda: partition.high_watermark == 1)
        log_dir = partition.log_dir
        log_dir.reserve_reached = True
        monkeypatch.setattr(log_dir, "space", lambda: Space(MIB, partition.log.size_bytes))
        assert not await broker.cleaner.clean_dirtiest()
        monkeypatch.setattr(log_dir, "space", lambda: Space(MIB, MIB))
        assert await broker.cleaner.clean_dirtiest()
        log_dir.reserve_reached = False


async def test_new_partitions_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as broker:
        with monkeypatch.context() as full:
            full.setattr("tierlog.log.log.write_partition_metadata", no_space)
            creating = asyncio.create_task(create(broker, 3))
            await until(lambda: len(broker.replicas._without_room) == 3)
            (log_dir,) = broker.log_dirs
            assert not log_dir.partition_directories(), "nothing half-made stays"
        partitions = await creating
        assert len(partitions) == 3
        append(partitions[2])


async def test_a_flush_that_cannot_be_planned_hits_its_own_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end the round: nobody would ever be synced again."""

    def fail() -> None:
        raise StorageError("EIO")

    async with running(tmp_path, flush_mode="ack") as broker:
        broken, other = await create(broker, 2)
        errors: list[StorageError] = []
        monkeypatch.setattr(
            broker.replicas, "on_storage_error", lambda partition, error: errors.append(error)
        )
        replace_method(broken.log, "flush_plan", fail, monkeypatch)
        append(broken)
        append(other)
        await until(lambda: other.high_watermark == 1)
        assert len(errors) == 1
        monkeypatch.undo()


class HeldPlan:
    def run(self) -> None:
        """Nothing to wait for."""


async def test_an_idle_flusher_keeps_no_file_open(tmp_path: Path) -> None:
    """The plan holds the descriptors of what it syncs, and with them the space of files that are deleted meanwhile."""
    plans: list[weakref.ref[HeldPlan]] = []

    class OnePlan:
        flush_root = str(tmp_path)

        def begin_flush(self) -> Plan | None:
            plan = HeldPlan()
            plans.append(weakref.ref(plan))
            return plan

        def end_flush(self, plan: Plan) -> None:
            """Nobody waits."""

        def fail_flush(self, error: StorageError) -> None:
            raise error

    flusher = Flusher(asyncio.get_running_loop(), [str(tmp_path)])
    flusher.request(OnePlan())
    await flusher.idle()

    def is_released() -> bool:
        gc.collect()
        return plans[0]() is None

    await until(is_released)
    await flusher.drain()


# -- what is given up


def tiered(*ends: int, tiered_end: int, high_watermark: int = 1000, active_bytes: int = 0) -> Partition:
    """Sealed segments that end at ``ends``, of 100 bytes each, whose records are as old as their offsets."""
    sealed = [SimpleNamespace(end_offset=end, size_bytes=100, max_timestamp=end) for end in ends]
    deleted: list[int] = []
    log = SimpleNamespace(
        segments=SimpleNamespace(sealed=lambda: sealed, active=SimpleNamespace(size_bytes=active_bytes)),
        active_base_offset=ends[-1] if ends else tiered_end,
        delete_segments_below=lambda offset, now_ms: deleted.append(offset) or [],  # type: ignore[func-returns-value]
        deleted=deleted,
        rolled=[],
        removals=SimpleNamespace(are_held=False),
    )
    log.roll = log.rolled.append
    partition = SimpleNamespace(
        log=log,
        remote=SimpleNamespace(end_offset=tiered_end, is_loaded=True),
        high_watermark=high_watermark,
        offline=None,
        leader=object(),
        follower=None,
        tiered_end_offset=None,
        config=SimpleNamespace(remote_log_copy_disable=False),
        topic_partition="t-0",
    )
    return cast("Partition", Hashable(partition.__dict__))


class Hashable(SimpleNamespace):
    """A namespace by identity."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(**fields)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def relieve(wanted_bytes: int, *partitions: Partition, is_reached: bool = True) -> bool:
    replicas = SimpleNamespace(in_log_dir=lambda log_dir: partitions, unlink_later=lambda paths: None)
    log_dir = SimpleNamespace(wanted_bytes=wanted_bytes, reserve_reached=is_reached, path=Path("d"))
    return DiskRelief(cast("Any", replicas), lambda: 7).relieve(cast("Any", log_dir))


def deleted(partition: Partition) -> list[int]:
    return list(cast("Any", partition.log).deleted)


def rolled(partition: Partition) -> list[int]:
    return list(cast("Any", partition.log).rolled)


def test_the_oldest_copies_go_first_and_no_more_than_is_wanted() -> None:
    one, two = tiered(10, 40, 70, tiered_end=70), tiered(20, 30, 80, tiered_end=80)
    assert relieve(250, one, two)
    assert (deleted(one), deleted(two)) == ([10], [30])


def test_a_follower_frees_what_it_has_read_to_be_tiered_and_rolls_nothing() -> None:
    known, unknown = tiered(10, 20, 30, tiered_end=0), tiered(10, 20, 30, tiered_end=0)
    for each in (known, unknown):
        fields: Any = each
        fields.leader, fields.remote, fields.follower = None, None, object()
    cast("Any", known).tiered_end_offset = 25
    assert relieve(10_000, known, unknown)
    assert (deleted(known), deleted(unknown)) == ([20], [])
    cast("Any", known).tiered_end_offset = 0
    relieve(10_000, known, unknown)
    assert (rolled(known), rolled(unknown)) == ([], [])


def test_nothing_goes_that_is_nowhere_else() -> None:
    behind, ahead = tiered(10, 20, tiered_end=15), tiered(10, 20, tiered_end=20, high_watermark=19)
    unknown = tiered(10, tiered_end=10)
    cast("Any", unknown.remote).is_loaded = False
    assert relieve(10_000, behind, ahead, unknown)
    assert (deleted(behind), deleted(ahead), deleted(unknown)) == ([10], [10], [])


def test_a_roll_only_where_nothing_else_is_left() -> None:
    small = disk_relief.ROLL_FROM_BYTES
    one, two = tiered(tiered_end=5, active_bytes=small), tiered(tiered_end=5, active_bytes=2 * small)
    assert not relieve(100, one, two, is_reached=False)
    assert (rolled(one), rolled(two)) == ([], [])
    assert not relieve(100, one, two)
    assert (rolled(one), rolled(two)) == ([], [7])
    waiting = tiered(10, tiered_end=5)
    assert not relieve(100, one, waiting)
    assert rolled(one) == [], "there is something to be copied first"
    tiny = tiered(tiered_end=5, active_bytes=small - 1)
    assert not relieve(100, tiny)
    assert rolled(tiny) == []


async def test_the_watch_makes_room_by_retention_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, log_retention_check_interval_ms="3600000") as broker:
        (partition,) = await create(broker, retention_bytes="1", file_delete_delay_ms="3600000")
        append(partition)
        partition.log.roll(1)
        append(partition)
        first = partition.log.segments.first.path(".log")
        await until(lambda: partition.high_watermark == 2)
        monkeypatch.setattr(
            partition.log_dir, "space", lambda: Space(10**12, 0 if first.exists() else 10**12)
        )
        await until(lambda: partition.log_dir.reserve_reached)
        await until(lambda: not partition.log_dir.reserve_reached)
        assert not list(first.parent.glob("*.deleted")), "no delay"
