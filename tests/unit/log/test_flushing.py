"""Plans run elsewhere: what they cover, and what happens to the log meanwhile. And disks that refuse."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.unit.log.logs import (
    NOW_MS,
    FailingFilesystem,
    append,
    batch,
    config,
    fill,
    headers,
    open_log,
    read_all,
)
from tierlog.errors import DiskFull, StorageError

SIZE = len(batch())


def test_the_recovery_point_moves_when_told(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    plan = log.flush_plan()
    assert plan is not None
    fill(log, 2)
    assert log.recovery_point == 0
    plan.run()
    log.mark_flushed(plan)
    assert log.recovery_point == 3
    log.flush()
    assert log.recovery_point == 5
    assert log.flush_plan() is None


def test_a_roll_meanwhile(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    plan = log.flush_plan()
    assert plan is not None
    fill(log, 1)
    log.roll(NOW_MS)
    plan.run()
    log.mark_flushed(plan)
    again = log.flush_plan()
    assert again is not None
    assert [segment.base_offset for segment in again.sealed] == [0]
    assert log.sealed_segments()[0].snapshot_path in again.paths
    assert log.directory in again.paths  # in the first plan too, and changed since
    again.run()
    log.mark_flushed(again)
    assert (log.recovery_point, log.flush_plan()) == (4, None)


def test_a_truncation_meanwhile_outdates_the_plan(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    plan = log.flush_plan()
    assert plan is not None
    log.truncate_to(1, NOW_MS)
    fill(log, 2)
    plan.run()
    log.mark_flushed(plan)
    assert log.recovery_point == 0


def test_a_deletion_meanwhile_does_no_harm(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=2 * SIZE))
    fill(log, 5)
    plan = log.flush_plan()
    assert plan is not None
    for due in log.delete_segments_below(4, NOW_MS):
        due.path.unlink()
    plan.run()
    log.mark_flushed(plan)
    assert log.recovery_point == 5


def test_a_refused_sync_is_a_storage_error(tmp_path: Path) -> None:
    def decide(name: str) -> None:
        if name == "fdatasync":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    log = open_log(tmp_path, filesystem=FailingFilesystem(decide))
    fill(log, 1)
    plan = log.flush_plan()
    assert plan is not None
    with pytest.raises(StorageError):
        plan.run()
    assert log.recovery_point == 0


def test_writeback_asks_for_each_byte_once(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    assert log.bytes_since_writeback == 3 * SIZE
    plan = log.writeback_plan()
    assert plan is not None
    assert (plan.position, plan.size_bytes) == (0, 3 * SIZE)
    plan.run()
    assert log.bytes_since_writeback == 0
    assert log.writeback_plan() is None
    fill(log, 1)
    plan = log.writeback_plan()
    assert plan is not None
    assert (plan.position, plan.size_bytes) == (3 * SIZE, SIZE)


class Refusals:
    """Refuses the next call of ``name`` with ``code``; a short write first when ``short`` is set."""

    def __init__(self) -> None:
        self.name = ""
        self.code = 0
        self.short: int | None = None

    def __call__(self, name: str) -> int | None:
        if name != self.name:
            return None
        if self.short is not None:
            short, self.short = self.short, None
            return short
        self.name = ""
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("short", [None, 10, 61, SIZE - 1])
@pytest.mark.parametrize(
    ("code", "family"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, StorageError)]
)
def test_a_failed_write_changes_nothing(
    tmp_path: Path, short: int | None, code: int, family: type[StorageError]
) -> None:
    refusals = Refusals()
    log = open_log(tmp_path, filesystem=FailingFilesystem(refusals))
    append(log, batch(producer_id=4))
    path = log.segments.active.path(".log")
    before = path.read_bytes()
    refusals.name, refusals.code, refusals.short = "pwrite", code, short
    with pytest.raises(family) as caught:
        log.append_as_leader(batch(producer_id=4, sequence=1), 5, NOW_MS)
    assert isinstance(caught.value, DiskFull) == (code != errno.EIO)
    assert path.read_bytes() == before
    assert log.log_end_offset == 1
    assert append(log, batch(producer_id=4, sequence=1)).base_offset == 1
    assert [header.base_offset for header in headers(read_all(log))] == [0, 1]


def test_a_short_write_that_goes_on(tmp_path: Path) -> None:
    shorts: list[int | None] = []
    filesystem = FailingFilesystem(lambda name: shorts.pop(0) if name == "pwrite" and shorts else None)
    log = open_log(tmp_path, filesystem=filesystem)
    shorts += [5, 20, None]
    append(log, batch())
    assert [header.base_offset for header in headers(read_all(log))] == [0]
    assert shorts == []


@pytest.mark.parametrize("name", ["create", "pwrite", "rename"])
def test_a_refused_roll_leaves_the_old_segment_active(tmp_path: Path, name: str) -> None:
    refusals = Refusals()
    log = open_log(tmp_path, config(segment_bytes=2 * SIZE), filesystem=FailingFilesystem(refusals))
    fill(log, 2)
    refusals.name, refusals.code = name, errno.ENOSPC
    with pytest.raises(DiskFull):
        log.append_as_leader(batch(), 5, NOW_MS)
    assert (log.log_end_offset, log.segment_count) == (2, 1)
    assert append(log, batch()).base_offset == 2
    assert log.segment_count == 2
    assert len(headers(read_all(log))) == 3
    assert open_log(tmp_path, log.config).log_end_offset == 3


def test_index_entries_wait_for_space(tmp_path: Path) -> None:
    """The batch is written already: what its index needs is kept in memory and written later."""
    full = []

    def decide(name: str) -> None:
        if full and name == "pwrite":
            full.append(name)
            if len(full) > 2:
                raise OSError(errno.ENOSPC, "no space")

    log = open_log(tmp_path, config(index_interval_bytes=0), filesystem=FailingFilesystem(decide))
    fill(log, 512)
    full.append("from now on: one write for the batch, none for the index")
    fill(log, 1)
    full.clear()
    assert log.segments.active.offset_index.count == 512
    log.roll(NOW_MS)
    assert log.segments.first.offset_index.path.stat().st_size == 8 * 512
    assert len(headers(read_all(log, 500))) == 13
