"""Swapping compacted segments in. (Every interruption: tests/model/test_log_crash_points.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.log.logs import NOW_MS, append, batch, config, headers, open_log, read_all
from tierlog.log.compaction.output import CleanedSegment
from tierlog.log.log import Log

SIZE = len(batch())
TOPIC = config(
    cleanup_policy=frozenset({"compact"}),
    segment_bytes=4 * SIZE,
    index_interval_bytes=0,
    file_delete_delay_ms=100,
)


def cleaned(log: Log, old: list[int], kept: list[int]) -> CleanedSegment:
    """The batches at ``kept`` offsets in place of the segments at ``old``."""
    new = CleanedSegment(log.filesystem, log.directory, old[0], 0)
    new.old_base_offsets = old
    for offset in kept:
        located = log.locate(offset, 1, log.log_end_offset)
        assert located is not None
        new.append(memoryview(log.read(located)))
    new.finish()
    return new


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = open_log(tmp_path, TOPIC)
    for number in range(14):
        append(log, batch(timestamp=NOW_MS + number))
    assert [segment.base_offset for segment in log.segments] == [0, 4, 8, 12]
    return log


def offsets(log: Log) -> list[int]:
    return [header.base_offset for header in headers(read_all(log))]


def test_two_segments_become_one(log: Log, tmp_path: Path) -> None:
    before = log.locate(2, 1 << 20, 14)
    assert before is not None
    wanted = log.read(before)
    due = log.replace_segments([cleaned(log, [0, 4], [1, 6, 7])], NOW_MS)
    assert offsets(log) == [1, 6, 7, *range(8, 14)]
    assert log.read(before) == wanted
    assert {later.due_ms for later in due} == {NOW_MS + 100}
    assert log.size_bytes == 9 * SIZE
    assert [(s.base_offset, s.end_offset, s.max_timestamp) for s in log.sealed_segments()[:2]] == [
        (0, 8, NOW_MS + 7),
        (8, 12, NOW_MS + 11),
    ]
    assert log.offset_for_timestamp(NOW_MS + 2) == (NOW_MS + 6, 6, 5)
    for start, first in ((0, 1), (2, 6), (6, 6), (8, 8)):
        located = log.locate(start, 1, 14)
        assert located is not None
        assert headers(log.read(located))[0].base_offset == first
    for later in due:
        later.path.unlink()
    log.close_clean()
    for was_clean in (True, False):
        again = open_log(tmp_path, TOPIC, was_clean=was_clean, recovery_point=14 if was_clean else 0)
        assert (offsets(again), again.is_lossy) == ([1, 6, 7, *range(8, 14)], False)


def test_nothing_is_left_of_a_segment(log: Log, tmp_path: Path) -> None:
    log.replace_segments([cleaned(log, [4], [])], NOW_MS)
    assert offsets(log) == [0, 1, 2, 3, *range(8, 14)]
    located = log.locate(5, 1, 14)
    assert located is not None
    assert headers(log.read(located))[0].base_offset == 8
    log.close_clean()
    assert offsets(open_log(tmp_path, TOPIC, was_clean=True, recovery_point=14)) == [
        0,
        1,
        2,
        3,
        *range(8, 14),
    ]
    assert offsets(open_log(tmp_path, TOPIC)) == [0, 1, 2, 3, *range(8, 14)]


def test_several_at_once(log: Log) -> None:
    log.replace_segments([cleaned(log, [0], [3]), cleaned(log, [4, 8], [9])], NOW_MS)
    assert offsets(log) == [3, 9, 12, 13]
    assert [segment.base_offset for segment in log.segments] == [0, 4, 12]
    assert log.delete_segments_below(4, NOW_MS)
    assert offsets(log) == [9, 12, 13]


@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".txnindex"])
@pytest.mark.parametrize("has_own", [True, False])
@pytest.mark.parametrize("recovery_point", [0, 14])
def test_an_index_left_alone_by_a_stop_is_made_anew(
    log: Log, tmp_path: Path, suffix: str, has_own: bool, recovery_point: int
) -> None:
    """The log file was renamed before the stop. Its index under ``.swap`` may be of any swap: it must neither stay, for the
    next swap to take, nor be believed."""
    log.replace_segments([cleaned(log, [0, 4], [1, 6, 7])], NOW_MS)
    log.close_abruptly()
    path = log.segments.first.path(suffix)
    stale = path.with_name(path.name + ".swap")
    stale.write_bytes(bytes(34 if suffix == ".txnindex" else 24))
    if not has_own:
        path.unlink(missing_ok=True)
    again = open_log(tmp_path, TOPIC, recovery_point=recovery_point)
    assert not stale.exists()
    assert offsets(again) == [1, 6, 7, *range(8, 14)]
    assert again.offset_for_timestamp(NOW_MS + 2) == (NOW_MS + 6, 6, 5)
    again.replace_segments([cleaned(again, [0], [1, 6])], NOW_MS)
    assert offsets(again) == [1, 6, *range(8, 14)]
    assert again.aborted_transactions(0, 14) == []
