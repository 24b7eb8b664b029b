"""Copies of a log's directory while it grows, wishes on the disk, and what a start makes of two logs of one name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import append, create, led, running, until
from tests.unit.broker.test_log_dirs import opened, two
from tests.unit.log.logs import PARTITION, TOPIC_ID, batch, config, fill, open_log
from tests.unit.log.logs import append as append_to
from tierlog.broker.disk import future_dirs
from tierlog.broker.disk.dir_copy import DirCopy, Part
from tierlog.broker.disk.future_dirs import found_futures, future_path
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.disk.opening import found_directories
from tierlog.broker.reports.offline_replicas import in_dir
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.files.checkpoints import read_partition_metadata, write_partition_metadata
from tierlog.log.files.names import PARTITION_METADATA, future_directory, parse_future_directory
from tierlog.log.opening.last_record import LastRecord, last_record
from tierlog.metadata.records import PartitionState
from tierlog.types import TopicPartition

FIRST, SECOND, THIRD = f"{0:020d}", f"{10:020d}", f"{20:020d}"


@pytest.fixture
def dirs(tmp_path: Path) -> Iterator[list[LogDir]]:
    with opened(tmp_path / "a", tmp_path / "b") as log_dirs:
        yield log_dirs


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_copy_follows_a_log_that_grows(tmp_path: Path) -> None:
    source, target = tmp_path / "t-0", tmp_path / "copy"
    source.mkdir()
    (source / f"{FIRST}.log").write_bytes(b"a" * 10)
    (source / f"{FIRST}.index").write_bytes(b"i")
    (source / f"{SECOND}.log").write_bytes(b"b" * 4 + bytes(100))  # preallocated
    (source / f"{SECOND}.index").write_bytes(bytes(100))
    copy = DirCopy(source, target)
    target.mkdir()
    (target / "left").touch()
    copy.begin()
    copy.copy_parts([Part(FIRST, 10, True), Part(SECOND, 4, False)])
    assert copy.copied_bytes == 14
    assert content(target).keys() == {f"{FIRST}.log", f"{FIRST}.index", f"{SECOND}.log"}

    (source / f"{SECOND}.log").write_bytes(b"b" * 9)
    (source / f"{SECOND}.index").write_bytes(b"j")
    (source / "leader-epoch-checkpoint").write_text("0\n")
    copy.copy_parts([Part(FIRST, 10, True), Part(SECOND, 6, False)])
    copy.copy_rest()
    assert content(target) == content(source)
    assert copy.copied_bytes == 19


def test_what_was_copied_whole_is_not_copied_again(tmp_path: Path) -> None:
    source, target = tmp_path / "t-0", tmp_path / "copy"
    source.mkdir()
    for name in (FIRST, SECOND, THIRD):
        (source / f"{name}.log").write_bytes(name[-2:].encode() * 50)
    first = DirCopy(source, target)
    first.begin()
    write_partition_metadata(target, TOPIC_ID)
    first.copy_parts([Part(FIRST, 100, True), Part(SECOND, 100, True), Part(THIRD, 30, False)])

    # One of the two is written anew meanwhile, as by a cut, in the same length.
    (source / f"{SECOND}.log").write_bytes(b"x" * 100)
    os.utime(source / f"{SECOND}.log", ns=(1, 1))
    again = DirCopy(source, target)
    again.begin()
    assert content(target).keys() == {f"{FIRST}.log", PARTITION_METADATA}
    assert again.copied_bytes == 100
    assert read_partition_metadata(target) == TOPIC_ID
    again.copy_parts([Part(FIRST, 100, True), Part(SECOND, 100, True), Part(THIRD, 30, False)])
    again.copy_rest()
    (target / PARTITION_METADATA).unlink()
    assert content(target) == content(source)
    assert again.copied_bytes == 300


def test_a_copy_that_is_given_up_says_so(tmp_path: Path) -> None:
    (tmp_path / f"{FIRST}.log").write_bytes(b"a")
    copy = DirCopy(tmp_path, tmp_path / "new")
    copy.begin()
    copy.is_given_up = True
    with pytest.raises(StorageError, match="given up"):
        copy.copy_parts([Part(FIRST, 1, False)])


@pytest.mark.parametrize(
    ("ends", "wins", "strays"),
    [
        (((5, 3), (5, 5)), "b", ["a"]),
        (((5, 5), (5, 3)), "a", ["b"]),
        (((6, 2), (5, 9)), "a", ["b"]),
        (((5, 4), (5, 4)), "b", []),
    ],
)
def test_of_two_logs_of_one_replica_the_newer_one_counts(
    dirs: list[LogDir], ends: tuple[tuple[int, int], tuple[int, int]], wins: str, strays: list[str]
) -> None:
    for log_dir, (leader_epoch, end_offset) in zip(dirs, ends, strict=True):
        log = open_log(log_dir.path, config(segment_bytes=200))
        for _ in range(end_offset):
            append_to(log, batch(), leader_epoch=leader_epoch)
        log.close_clean()
        (log_dir.path / f"{PARTITION}-stray").mkdir()  # from another time
    ((name, (found, directory)),) = found_directories(dirs).items()
    assert (name, found.path.name, directory) == (str(PARTITION), wins, found.path / str(PARTITION))
    left = {
        log_dir.path.name: [p.name for p in log_dir.path.iterdir() if p.is_dir() and any(p.iterdir())]
        for log_dir in dirs
    }
    assert left.pop(wins) == [str(PARTITION)]
    (others,) = left.values()
    assert len(others) == len(strays)
    assert all(name.endswith("-stray") for name in others)


def test_how_far_a_log_goes(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=200))
    assert last_record(log.directory)[:2] == (-1, 0)
    fill(log, 5)
    log.roll(1)
    log.close_clean()
    os.utime(log.directory / PARTITION_METADATA, ns=(7, 7))
    assert last_record(log.directory) == LastRecord(5, 5, 7)
    with next(iter(sorted(log.directory.glob("*4.log")))).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"torn")
    (log.directory / f"{5:020d}.log").unlink()
    assert last_record(log.directory)[:2] == (5, 4)


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        (LastRecord(3, 9, 1), LastRecord(2, 90, 1)),
        (LastRecord(3, 9, 1), LastRecord(3, 8, 1)),
        (LastRecord(3, 9, 2), LastRecord(3, 9, 1)),
        (LastRecord(-1, 9, 0), LastRecord(3, 8, 1)),  # all that it had is deleted
        (LastRecord(3, 8, 1), LastRecord(-1, 0, 0)),
    ],
)
def test_which_of_two_logs_is_newer(newer: LastRecord, older: LastRecord) -> None:
    assert newer.is_newer(older) and not older.is_newer(newer) and not newer.is_newer(newer)


# -- wishes


def test_names_as_kafka_gives_them() -> None:
    name = future_directory(TopicPartition("t-1", 3), "0" * 32)
    assert name == f"t-1-3.{'0' * 32}-future"
    assert parse_future_directory(name) == 3
    long = future_directory(TopicPartition("t" * 249, 12), "0" * 32)
    assert (len(long), parse_future_directory(long)) == (255, 12)
    assert parse_future_directory("t-3-future") is None


def test_a_start_finds_the_wishes(dirs: list[LogDir]) -> None:
    first, second = dirs
    older, newer, torn = (future_path(log_dir, PARTITION) for log_dir in (first, second, second))
    future_dirs.create(older, TOPIC_ID)
    os.utime(older / PARTITION_METADATA, ns=(1, 1))
    future_dirs.create(newer, TOPIC_ID)
    torn.mkdir()
    for _ in range(2):
        assert found_futures(dirs) == {(TOPIC_ID, PARTITION.partition): (second, newer)}
        assert not older.exists() and not torn.exists()
    future_dirs.retire(newer, PARTITION)
    assert found_futures(dirs) == {}
    assert [path for log_dir in dirs for path in log_dir.path.iterdir() if path.is_dir()] == []
    future_dirs.retire(newer, PARTITION)
    first.fail(StorageError("pulled"))
    assert found_futures(dirs) == {}


async def test_a_wish_outlives_the_process(tmp_path: Path) -> None:
    async with running(tmp_path, **two(tmp_path)) as broker:
        (partition,) = await create(broker)
        append(partition)
        source, target = broker.log_dirs
        partition.log.removals.holder = "a test"  # so that it does not begin yet
        assert await broker.dir_moves.move([(partition, target)]) == {}
        assert broker.dir_moves.future_of(partition) == (target, 0)
        partition.log.removals.holder = ""
        partition.pending_cut = 1  # nor end
        await until(lambda: broker.dir_moves.future_of(partition) == (target, partition.log.size_bytes))
        partition.pending_cut = 0
        await broker.dir_moves.close()
        assert partition.log_dir is source
        ((_, future),) = found_futures(broker.log_dirs).values()
        assert future.parent == target.path
    async with running(tmp_path, **two(tmp_path)) as broker:
        (partition,) = await led(broker, 1)
        await until(lambda: not isinstance(broker.replicas.by_name("t", 0), ErrorCode))
        await until(lambda: [p.log_dir for p in broker.replicas] == [broker.log_dirs[1]])
        (partition,) = await led(broker, 1)
        assert partition.log.log_end_offset == 1
        assert found_futures(broker.log_dirs) == {}
        assert not (tmp_path / "a" / "t-0").exists()


async def test_a_wish_may_be_taken_back(tmp_path: Path) -> None:
    async with running(tmp_path, **two(tmp_path)) as broker:
        (partition,) = await create(broker)
        source, target = broker.log_dirs
        partition.log.removals.holder = "a test"
        await broker.dir_moves.move([(partition, target)])
        await broker.dir_moves.move([(partition, target)])
        assert len(found_futures(broker.log_dirs)) == 1
        await broker.dir_moves.move([(partition, source)])
        assert broker.dir_moves.future_of(partition) is None
        assert found_futures(broker.log_dirs) == {}
        partition.log.removals.holder = ""
        await until(lambda: broker.dir_moves._task is None or broker.dir_moves._task.is_over)
        assert partition.log_dir is source
        assert [path for path in target.path.iterdir() if path.is_dir()] == []


async def test_a_wish_that_cannot_be_noted_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, **two(tmp_path)) as broker:
        (partition,) = await create(broker)
        target = broker.log_dirs[1]
        target.path.rename(tmp_path / "away")
        failures = await broker.dir_moves.move([(partition, target)])
        assert set(failures) == {partition.topic_partition}
        (tmp_path / "away").rename(target.path)
        assert broker.dir_moves.future_of(partition) is None


def test_a_record_says_where_one_replica_lies() -> None:
    state = PartitionState(leader=1, leader_epoch=0, isr=(1, 2), replicas=(1, 2), min_isr=1)
    once = in_dir(state, 2, "x")
    assert once.dirs == ("", "x")
    assert in_dir(in_dir(once, 1, "y"), 2, "z").dirs == ("y", "z")
