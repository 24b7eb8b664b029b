"""A log on a full disk: what waits for room, what is refused, and that nothing half-made is left behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.log.logs import NOW_MS, FailingFilesystem, append, batch, config, fill, open_log
from tierlog.errors import DiskFull
from tierlog.log.files.checkpoints import write_properties
from tierlog.log.files.names import LOG
from tierlog.log.leader_epochs import CHECKPOINT_FILE_NAME

SIZE = len(batch())


class Disk:
    """Full for the system calls of these names."""

    def __init__(self) -> None:
        self.full_for: set[str] = set()
        self.calls_before = 0

    def __call__(self, name: str) -> None:
        if name in self.full_for:
            self.calls_before -= 1
            if self.calls_before < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class NoPreallocation(FailingFilesystem):
    def allocate(self, fd: int, size_bytes: int) -> None:
        os.posix_fallocate(fd, 0, size_bytes // 2)  # as far as it goes
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_a_flush_does_without_the_epoch_file(tmp_path: Path, disk: Disk) -> None:
    log = open_log(tmp_path, filesystem=FailingFilesystem(disk))
    append(log, batch())
    log.flush()
    log.assign_epoch(6)
    append(log, batch(), leader_epoch=6)
    disk.full_for = {"create"}
    log.flush()
    assert log.recovery_point == 2
    with pytest.raises(DiskFull):
        log.close_clean()
    with pytest.raises(DiskFull):
        log.roll(NOW_MS)
    reopened = open_log(tmp_path, recovery_point=2)
    assert reopened.epochs == log.epochs, "from the headers of the active segment"
    disk.full_for = set()
    log.flush()
    append(log, batch(), leader_epoch=6)
    log.flush()
    assert "6 1" in (log.directory / CHECKPOINT_FILE_NAME).read_text()


def test_a_log_opens_without_room_for_its_epochs(tmp_path: Path, disk: Disk) -> None:
    log = open_log(tmp_path)
    append(log, batch())
    log.flush()
    (log.directory / CHECKPOINT_FILE_NAME).unlink()
    disk.full_for = {"pwrite"}
    reopened = open_log(tmp_path, filesystem=FailingFilesystem(disk))
    assert reopened.epochs == log.epochs
    disk.full_for = set()
    append(reopened, batch())
    reopened.flush()
    assert (log.directory / CHECKPOINT_FILE_NAME).exists()


@pytest.mark.parametrize("calls_before", range(4))
def test_a_segment_that_cannot_be_made_leaves_no_file(tmp_path: Path, disk: Disk, calls_before: int) -> None:
    """A stray ``.log`` would end the segment before it at the next start, whatever was appended there since."""
    log = open_log(tmp_path, config(segment_bytes=3 * SIZE), filesystem=FailingFilesystem(disk))
    fill(log, 2)
    disk.full_for, disk.calls_before = {"create"}, calls_before
    with pytest.raises(DiskFull):
        log.append_as_leader(batch(2, value_bytes=90), 5, NOW_MS)
    assert [path.name for path in log.directory.glob(f"*{LOG}")] == ["00000000000000000000.log"]
    disk.full_for = set()
    append(log, batch())
    log.close_clean()
    assert open_log(tmp_path, was_clean=True).log_end_offset == 3


def test_a_segment_may_do_without_preallocation(tmp_path: Path, disk: Disk) -> None:
    log = open_log(tmp_path, config(preallocate=True), filesystem=NoPreallocation(disk))
    append(log, batch())
    assert log.segments.active.path(LOG).stat().st_size == SIZE
    assert open_log(tmp_path, log.config).log_end_offset == 1


def test_what_cannot_be_written_aside_is_taken_away(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "meta.properties"
    write: Callable[[str], None] = lambda value: write_properties(  # noqa: E731
        path, {"a": value}, FailingFilesystem(disk)
    )
    write("1")
    disk.full_for = {"pwrite"}
    with pytest.raises(DiskFull, match=r"meta\.properties: No space left"):
        write("2")
    assert [found.name for found in tmp_path.iterdir()] == ["meta.properties"]
    assert path.read_text() == "#\na=1\n"
