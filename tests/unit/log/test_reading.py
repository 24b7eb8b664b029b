"""Locating and reading: boundaries, limits, segment crossings, readers that outlive what they read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.log.logs import NOW_MS, append, batch, config, fill, headers, open_log, read_all
from tierlog.errors import StorageError
from tierlog.log import scan
from tierlog.log.log import Log
from tierlog.log.positions import APPENDED_MAX, READ_MAX
from tierlog.log.reading import Slice, read, read_nowait
from tierlog.log.segments import OPEN_SEALED_MAX

SIZE = len(batch())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Ten batches in each of three sealed segments, five in the active one; an index entry at every third."""
    log = open_log(tmp_path, config(segment_bytes=10 * SIZE, index_interval_bytes=2 * SIZE))
    fill(log, 35)
    assert log.segment_count == 4
    return log


def test_first_batch_is_returned_whole_whatever_the_limit(log: Log) -> None:
    located = log.locate(4, 1, 35)
    assert located is not None
    assert located.size_bytes == SIZE
    assert headers(log.read(located))[0].base_offset == 4


def test_without_min_one_batch_nothing_fits(log: Log) -> None:
    located = log.locate(4, SIZE - 1, 35, min_one_batch=False)
    assert located is not None
    assert located.size_bytes == 0
    exactly = log.locate(4, SIZE, 35, min_one_batch=False)
    assert exactly is not None
    assert exactly.size_bytes == SIZE


@pytest.mark.parametrize("end_offset", range(36))
def test_nothing_at_or_behind_the_end_offset(log: Log, end_offset: int) -> None:
    for start in range(36):
        located = log.locate(start, 1 << 20, end_offset)
        if start >= end_offset:
            assert located is None
        else:
            assert located is not None
            offsets = [header.base_offset for header in headers(log.read(located))]
            last_of_segment = start // 10 * 10 + 10
            assert offsets == list(range(start, min(end_offset, last_of_segment)))


def test_an_end_offset_inside_a_batch_excludes_the_batch(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3, count=5)
    located = log.locate(0, 1 << 20, 12)
    assert located is not None
    assert [header.base_offset for header in headers(log.read(located))] == [0, 5]
    assert log.locate(10, 1 << 20, 12) is None


def test_a_fetch_offset_inside_a_batch_returns_the_batch(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3, count=5)
    assert [header.base_offset for header in headers(read_all(log, 7))] == [5, 10]


@pytest.mark.parametrize("max_bytes", [1, SIZE, 3 * SIZE + 1, 7 * SIZE, 1 << 20])
def test_a_sequential_reader_sees_everything_once(log: Log, max_bytes: int) -> None:
    assert [header.base_offset for header in headers(read_all(log, 0, max_bytes))] == list(range(35))


def test_a_sequential_reader_does_not_walk_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path, config(index_interval_bytes=2 * SIZE))
    fill(log, 300)
    walked = []

    def counting(*args: object) -> object:
        walked.append(args)
        return scan.walk_headers(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("tierlog.log.reading.walk_headers", counting)
    assert len(headers(read_all(log, 0, 20 * SIZE))) == 300
    assert len(walked) == 1  # only to find offset 0


def test_a_tail_reader_and_a_high_watermark_behind_do_not_walk_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path)
    fill(log, 10)

    def never(*args: object) -> object:
        raise AssertionError("walked")

    monkeypatch.setattr("tierlog.log.reading.walk_headers", never)
    for _ in range(100):
        high_watermark = log.log_end_offset
        fill(log, 3)
        located = log.locate(high_watermark - 1, 1 << 20, high_watermark)
        assert located is not None
        assert [header.base_offset for header in headers(log.read(located))] == [high_watermark - 1]


def test_tables_and_open_files_are_bounded(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=2 * SIZE))
    fill(log, 2 * APPENDED_MAX)
    for offset in range(0, log.log_end_offset, 2):
        assert log.locate(offset, 1, log.log_end_offset) is not None
    assert APPENDED_MAX // 2 < len(log._positions._appended) <= APPENDED_MAX
    assert len(log._positions._read) == READ_MAX
    assert sum(segment.is_open for segment in log.segments) <= OPEN_SEALED_MAX + 1


def test_a_reader_outlives_the_segment(log: Log) -> None:
    located = log.locate(0, 1 << 20, 35)
    assert located is not None
    wanted = log.read(located)
    for due in log.delete_segments_below(10, NOW_MS):
        due.path.unlink()
    fd = located.descriptor.fd
    fill(log, 30)  # would take the number if it were free
    assert log.read(located) == wanted
    assert read_nowait(located) == wanted
    del located
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_truncated_file_gives_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 10)
    located = log.locate(0, 1 << 20, 10)
    assert located is not None
    log.truncate_to(5, NOW_MS)
    assert read(located) == b""
    assert read_nowait(located) is None


def test_a_dead_descriptor_is_a_storage_error(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 1)
    located = log.locate(0, 100, 1)
    assert located is not None
    beyond = Slice(located.descriptor, -5, 10, 0)
    with pytest.raises(StorageError):
        read(beyond)
    with pytest.raises(StorageError):
        read_nowait(beyond)


def test_pages_that_are_not_cached_are_left_to_a_thread(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 50, value_bytes=60_000)
    log.flush()
    located = log.locate(0, 1 << 20, 50)
    assert located is not None
    os.posix_fadvise(located.descriptor.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    found = read_nowait(located)
    assert found is None or bytes(found) == read(located)  # a memory filesystem has it all the same


def test_compacted_holes_at_the_end_of_a_segment(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(cleanup_policy=frozenset({"compact"})))
    log.append_as_follower(batch(base_offset=3, leader_epoch=0), NOW_MS)
    log.segments.active.end_offset = log.log_end_offset = 20
    log.roll(NOW_MS)
    log.append_as_follower(batch(base_offset=25, leader_epoch=0), NOW_MS)
    for offset, wanted in ((0, 3), (3, 3), (4, 25), (19, 25), (20, 25), (25, 25)):
        located = log.locate(offset, 1 << 20, 26)
        assert located is not None
        assert headers(log.read(located))[0].base_offset == wanted
    assert log.locate(4, 1 << 20, 20) is None


def test_an_empty_log(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    assert log.locate(0, 100, 0) is None
    assert log.offset_for_timestamp(0) is None
    assert log.max_timestamp() is None
    assert log.aborted_transactions(0, 10) == []
    append(log, batch())
    assert log.locate(0, 100, 1) is not None
