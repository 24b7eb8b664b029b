"""A log moves to another directory while it is written to; the move is stopped at every single system call that changes a
disk, and the next start looks at what is there.

Two kinds of stop, as in ``test_log_crash_points``: *process* and *power*. After each: exactly one directory has the log's
name, it holds what was acknowledged (after a power loss: what was flushed), nothing else of a log lies about, and the wish
is still there unless it was never answered or is fulfilled. Then the move goes on and ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.model.test_log_crash_points import Stopped, StoppingFilesystem
from tests.unit.log.logs import NOW_MS, PARTITION, TOPIC_ID, append, batch, config, open_log, read_all
from tierlog.broker.disk import future_dirs
from tierlog.broker.disk.dir_copy import DirCopy
from tierlog.broker.disk.future_dirs import found_futures, future_path
from tierlog.broker.disk.log_dirs import LogDir, open_log_dirs
from tierlog.broker.disk.opening import Opening, found_directories
from tierlog.broker.upkeep.dir_swap import finish, parts_of
from tierlog.log.files.checkpoints import META_PROPERTIES
from tierlog.log.files.filesystem import Filesystem
from tierlog.log.log import Log
from tierlog.metadata.records import PartitionState

TOPIC = config(segment_bytes=300, index_interval_bytes=50)
STATE = PartitionState(leader=1, leader_epoch=5, isr=(1,), replicas=(1,), min_isr=1)
NAME = str(PARTITION)
BATCHES, FLUSHED_BATCHES = 9, 4


class Unsynced(Filesystem):
    """Nobody pulls the plug here, so nothing need reach the disk."""

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        return

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        return


class Stopping(StoppingFilesystem):
    """Notes what a sync would have made durable."""

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.count("fdatasync")
        self.note_synced(fd)

    fsync = fdatasync  # type: ignore[assignment]


@contextmanager
def log_dirs(directory: Path) -> Iterator[tuple[LogDir, LogDir]]:
    for name in ("a", "b"):  # synced long ago
        (directory / name).mkdir(parents=True, exist_ok=True)
        owner = f"cluster.id=c\nnode.id=1\ndirectory.id={name}\n"
        (directory / name / META_PROPERTIES).write_text(owner)
    first, second = open_log_dirs([str(directory / "a"), str(directory / "b")], 0)
    try:
        yield first, second
    finally:
        first.close()
        second.close()


class Life:
    """A log in the first directory, and its move to the second. ``content``: what was acknowledged."""

    def __init__(self, filesystem: Stopping) -> None:
        self.filesystem = filesystem
        self.content = b""
        self.flushed = b""
        self.is_wished = False
        self.is_begun = False  # the move, and with it the stops
        self.log: Log | None = None

    def live(self, first: LogDir, second: LogDir) -> None:
        stop_at, self.filesystem.stop_at = self.filesystem.stop_at, 1 << 30
        log = self.log = open_log(first.path, TOPIC, filesystem=self.filesystem)
        self.write(log, FLUSHED_BATCHES)
        log.flush()
        self.flushed = self.content
        self.write(log, 2)
        self.filesystem.calls, self.filesystem.stop_at = 0, stop_at

        target = future_path(second, PARTITION)
        future_dirs.create(target, TOPIC_ID, self.filesystem)
        self.is_wished = True
        copy = DirCopy(log.directory, target, self.filesystem)
        copy.begin()
        copy.copy_parts(parts_of(log))
        self.write(log, BATCHES - FLUSHED_BATCHES - 3)
        copy.copy_parts(parts_of(log))
        self.write(log, 1)
        move_rest(copy, log, second)

    def write(self, log: Log, count: int) -> None:
        for _ in range(count):
            append(log, batch(2, timestamp=NOW_MS))
            self.content = read_all(log)


def move_rest(copy: DirCopy, log: Log, target: LogDir) -> None:
    log.close_clean(sync=False)
    opening = Opening(PARTITION, TOPIC_ID, STATE, TOPIC, target, target.path / NAME, NOW_MS)
    finish(copy, opening, log, log.log_end_offset).close_abruptly()
    log.delete_directory(NOW_MS)


def run_until(directory: Path, stop_at: int) -> Life:
    life = Life(Stopping(stop_at))
    with log_dirs(directory) as (first, second):
        try:
            life.live(first, second)
        except Stopped:
            assert life.filesystem.calls >= stop_at
    if life.log is not None:
        life.log.close_abruptly()
    return life


def names(log_dir: LogDir) -> list[str]:
    return sorted(path.name for path in log_dir.path.iterdir() if path.is_dir())


def check(directory: Path, life: Life, *, power: bool) -> None:
    with log_dirs(directory) as both:
        first, second = both
        found = found_directories(both)
        assert list(found) == [NAME], "one whole log"
        (log_dir, _) = found[NAME]
        log = reopened(log_dir)
        content = read_all(log)
        assert life.content.startswith(content) and content.startswith(life.flushed)
        assert power or content == life.content
        futures = found_futures(both)
        others = [name for each in both for name in names(each) if name != NAME]
        strays = [name for name in others if name.endswith("-stray")]
        assert sorted(others) == sorted([*strays, *(future.directory.name for future in futures.values())])
        assert power or not strays
        if log_dir is first:
            assert len(futures) == 1 or not life.is_wished, "the wish outlives the stop"
        if futures and log_dir is first:
            ((target, future),) = futures.values()
            assert target is second
            copy = DirCopy(log.directory, future, Unsynced())
            copy.begin()
            copy.copy_parts(parts_of(log))
            move_rest(copy, log, second)
            second.load_checkpoints()
            log = reopened(second)
            assert read_all(log) == content
            assert found_futures(both) == {}
        log.close_abruptly()


def reopened(log_dir: LogDir) -> Log:
    return open_log(log_dir.path, TOPIC, filesystem=Unsynced())


@pytest.fixture(scope="module")
def calls_count(tmp_path_factory: pytest.TempPathFactory) -> int:
    directory = tmp_path_factory.mktemp("whole")
    life = run_until(directory, 1 << 30)
    with log_dirs(directory) as both:
        (place,) = found_directories(both).values()
        assert place[0] is both[1]
        assert found_futures(both) == {}
    assert 30 < life.filesystem.calls < 400
    return life.filesystem.calls


@pytest.mark.parametrize("power", [False, True])
def test_every_stop_of_a_move(tmp_path: Path, calls_count: int, power: bool) -> None:
    rng = random.Random(11)
    for stop_at in range(1, calls_count + 1):
        directory = tmp_path / str(stop_at)
        directory.mkdir()
        life = run_until(directory, stop_at)
        if power:
            for name in "ab":
                life.filesystem.cut_power(directory / name, rng)
        check(directory, life, power=power)
