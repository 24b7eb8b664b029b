"""ListOffsets by time: the first record at or after it, by offset."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.log.logs import append, batch, config, open_log
from tierlog.records.batch import Compression

T = 1_000_000


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.ZSTD])
@pytest.mark.parametrize("was_clean", [None, True, False])
def test_times_that_go_back_and_forth(tmp_path: Path, codec: Compression, was_clean: bool | None) -> None:
    topic = config(segment_bytes=400, index_interval_bytes=100)
    log = open_log(tmp_path, topic)
    starts = (0, 100, 50, 400, 300, 200, 900, 120)
    for start in starts:
        append(log, batch(3, timestamp=T + start, compression=codec))
    if was_clean is not None:
        log.close_clean()
        log = open_log(
            tmp_path, topic, was_clean=was_clean, recovery_point=log.recovery_point if was_clean else 0
        )
    assert log.segment_count > 2
    records = [(T + start + i, 3 * number + i) for number, start in enumerate(starts) for i in range(3)]
    for timestamp in range(T - 2, T + 910):
        found = log.offset_for_timestamp(timestamp)
        wanted = next((record for record in records if record[0] >= timestamp), None)
        assert (found and found[:2]) == wanted
    assert log.max_timestamp() == (T + 902, 20, 5)


def test_the_log_start_inside_a_batch(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    append(log, batch(5, timestamp=T))
    log.advance_log_start_offset(3)
    assert log.offset_for_timestamp(T) == (T + 3, 3, 5)
    assert log.offset_for_timestamp(T + 4) == (T + 4, 4, 5)
    assert log.offset_for_timestamp(T + 5) is None


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.LZ4])
def test_the_largest_timestamp_is_never_below_the_log_start(tmp_path: Path, codec: Compression) -> None:
    starts = (900, 100, 500, 300, 400, 900)
    log = open_log(tmp_path, config(segment_bytes=250, index_interval_bytes=100))
    for start in starts:
        append(log, batch(3, timestamp=T + start, compression=codec))
    assert log.segment_count > 2
    timestamps = [T + start + i for start in starts for i in range(3)]
    for log_start in range(len(timestamps)):
        log.advance_log_start_offset(log_start)
        largest = max(timestamps[log_start:])
        assert log.max_timestamp() == (largest, timestamps.index(largest, log_start), 5)


def test_records_without_a_timestamp(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    append(log, batch(timestamp=-1))
    assert log.offset_for_timestamp(0) is None
    assert log.max_timestamp() is None
