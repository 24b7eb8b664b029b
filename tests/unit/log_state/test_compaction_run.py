"""Compaction of files: transactions, grouping, index entries, corruption, abandonment, horizons."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_stored_garbage import GARBAGE, stored
from tests.model.compaction_log import CONFIG, FileLog
from tierlog.errors import StorageError
from tierlog.log.compaction.plan import CompactionPlan
from tierlog.log.compaction.run import CompactionRun
from tierlog.records.batch import (
    ATTRIBUTES_AT,
    BASE_TIMESTAMP_AT,
    CONTROL_BIT,
    HEADER_BYTES,
    Compression,
    InvalidBatch,
    parse_header,
    seal,
    stamp,
    walk,
)
from tierlog.records.control import ControlType, read_control_type
from tierlog.records.records import Record, assemble, encode_record, read_records

DAY_MS = CONFIG.delete_retention_ms


def transactional(log: FileLog, key: bytes, value: bytes, sequence: int, producer_id: int = 1) -> None:
    log.put(
        [Record(key, value, 5)],
        producer_id=producer_id,
        producer_epoch=0,
        base_sequence=sequence,
        is_transactional=True,
    )


def markers(log: FileLog) -> list[tuple[int, ControlType | None, int | None]]:
    """(offset, type, delete horizon) of the control batches."""
    found = []
    for source in log.sources:
        data, pos = source.log_path.read_bytes(), 0
        while pos < len(data):
            header = parse_header(data, pos)
            if header.is_control:
                kind = read_control_type(data, pos, header)
                found.append((header.base_offset, kind, header.delete_horizon_ms))
            pos += header.size_bytes
    return found


@pytest.mark.parametrize("first_dirty_is_behind_the_abort", [False, True])
def test_an_aborted_transaction_does_not_taint_the_producers_next(
    tmp_path: Path, first_dirty_is_behind_the_abort: bool
) -> None:
    log = FileLog(tmp_path)
    log.put([Record(b"k", b"old", 1)])
    transactional(log, b"k", b"aborted", 0)
    log.end_transaction(1, is_commit=False)
    log.roll()
    dirty = log.log_end_offset
    transactional(log, b"k", b"committed", 1)
    log.end_transaction(1, is_commit=True)
    log.roll()
    log.compact(dirty if first_dirty_is_behind_the_abort else 0, log.log_end_offset)
    assert [value for _, value, _ in log.records().values()] == [b"committed"]


def test_an_abort_marker_outlives_its_records_by_a_round_and_the_retention_time(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    transactional(log, b"k", b"aborted", 0)
    log.end_transaction(1, is_commit=False)
    log.put([Record(b"x", b"1", 1)])
    log.producers.clear()  # no producer keeps its last batch
    log.roll()
    end = log.log_end_offset
    aborted = list(log.aborted)
    log.compact(0, end, now_ms=0)
    assert list(log.records()) == [2]
    assert markers(log) == [(1, ControlType.ABORT, None)], "its records were there in this round"
    assert log.aborted == aborted, "so readers of older copies still need the index"
    log.compact(end, end, now_ms=10)
    assert markers(log) == [(1, ControlType.ABORT, 10 + DAY_MS)] and log.aborted == []
    log.compact(end, end, now_ms=9 + DAY_MS)
    assert len(markers(log)) == 1
    log.compact(end, end, now_ms=10 + DAY_MS)
    assert markers(log) == []


def test_a_commit_marker_stays_as_long_as_its_records(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    transactional(log, b"k", b"v", 0)
    log.end_transaction(1, is_commit=True)
    log.put([Record(b"x", b"1", 1)])
    log.producers.clear()
    log.roll()
    end = log.log_end_offset
    for now_ms in (0, DAY_MS, 10 * DAY_MS):
        log.compact(0, end, now_ms=now_ms)
        assert markers(log) == [(1, ControlType.COMMIT, None)]
    log.put([Record(b"k", b"newer", 1)])
    log.roll()
    log.compact(end, log.log_end_offset, now_ms=0)
    assert markers(log) == [(1, ControlType.COMMIT, None)], "the batch was met in this round"
    log.compact(log.log_end_offset, log.log_end_offset, now_ms=5)
    assert markers(log) == [(1, ControlType.COMMIT, 5 + DAY_MS)]
    log.compact(log.log_end_offset, log.log_end_offset, now_ms=5 + DAY_MS)
    assert markers(log) == []


def test_a_marker_that_is_a_producers_last_stays_as_an_empty_batch(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.end_transaction(1, is_commit=True)  # the producer has no data batch any more
    log.put([Record(b"x", b"1", 1)])
    log.roll()
    log.compact(0, 2, now_ms=0)
    log.compact(2, 2, now_ms=DAY_MS)
    assert markers(log) == [(0, None, None)]


def test_tombstones_get_a_horizon_and_keep_their_times(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    headers = (("h", b"1"),)
    log.put([Record(b"a", None, 100, headers), Record(b"b", b"v", 90)], Compression.ZSTD)
    log.put([Record(b"c", b"v", 1)])
    log.roll()
    log.compact(0, 3, now_ms=1_000_000)
    (header, records), _ = log.batches()
    assert header.delete_horizon_ms == 1_000_000 + DAY_MS
    assert header.compression is Compression.ZSTD and header.max_timestamp == 100
    assert [(r.timestamp, len(r.headers)) for r in records] == [(100, 1), (90, 0)]
    log.compact(3, 3, now_ms=1_000_000 + DAY_MS)
    (header, records), _ = log.batches()
    assert [(r.timestamp, r.offset) for r in records] == [(90, 1)]
    assert header.has_delete_horizon and header.max_timestamp == 90 and header.last_offset == 1


def test_small_segments_become_one_and_large_ones_do_not(tmp_path: Path) -> None:
    log = FileLog(tmp_path, replace(CONFIG, segment_bytes=2000))
    for segment in range(20):
        for i in range(10):
            # Segments 10 and 11 have keys of their own, the others all the same ones.
            name = b"%d-%d" % (segment, i) if segment in (10, 11) else b"%d" % i
            log.put([Record(name, b"x" * 60, 1)])
        log.roll()
    log.compact(0, log.log_end_offset)
    sizes = [source.size_bytes for source in log.sources]
    assert len(sizes) == 4 and max(sizes) <= 2000, sizes
    assert log.sources[0].base_offset == 0 and log.sources[-1].end_offset == 200
    assert len(log.records()) == 30


def test_a_segment_without_garbage_is_left_alone(tmp_path: Path) -> None:
    log = FileLog(tmp_path, replace(CONFIG, segment_bytes=150))
    for i in range(4):
        log.put([Record(b"%d" % i, b"x" * 60, 1)])
        log.roll()
    inodes = [source.log_path.stat().st_ino for source in log.sources]
    log.compact(0, log.log_end_offset)
    assert [source.log_path.stat().st_ino for source in log.sources] == inodes


def test_offsets_too_far_apart_do_not_share_a_segment(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.put([Record(b"a", b"1", 1)])
    log.roll()
    log.log_end_offset = 2**31
    log.roll()
    log.put([Record(b"a", b"2", 1)])
    log.put([Record(b"a", b"3", 1)])
    log.roll()
    log.compact(0, log.log_end_offset)
    assert [source.base_offset for source in log.sources] == [0, 2**31, 2**31 + 2]


def run_over(log: FileLog) -> CompactionRun:
    return CompactionRun(
        log.sources,
        CompactionPlan(0, log.log_end_offset, 0, 1, True),
        log.config,
        aborted=(),
        producers=(),
        now_ms=0,
        directory=log.directory,
        slice_bytes=200,
    )


def filled(directory: Path, index_interval_bytes: int = 4096) -> FileLog:
    log = FileLog(directory, replace(CONFIG, index_interval_bytes=index_interval_bytes))
    for i in range(30):
        log.put([Record(b"%d" % (i % 10), b"value", 50 - i)])
    log.roll()
    return log


def test_index_entries_point_at_batches(tmp_path: Path) -> None:
    cleaned = next(c for c in run_over(filled(tmp_path, index_interval_bytes=100)).steps() if c is not None)
    data = cleaned.path.read_bytes()
    assert len(cleaned.offset_index) >= 4
    for offset, position in cleaned.offset_index:
        assert parse_header(data, position).last_offset == offset
    assert cleaned.time_index == [(30, 20)], "timestamps fall, so the first is the largest throughout"
    cleaned.discard()


def test_a_run_that_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    steps = run_over(log).steps()
    for _ in range(20):  # well within the second walk
        next(steps)
    assert {path.name for path in tmp_path.iterdir()} != before
    steps.close()
    assert {path.name for path in tmp_path.iterdir()} == before


UNREADABLE = GARBAGE | {
    "control": (b"no marker at all", 1, Compression.NONE),
    "earliest": (encode_record(Record(b"t", None), 0, -(2**62)), 1, Compression.NONE),
    "latest": (encode_record(Record(b"t", None), 0, 2**62), 1, Compression.NONE),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_batch_that_cannot_be_opened_costs_only_itself(tmp_path: Path, name: str) -> None:
    """It stays, byte for byte, in each round; all else is compacted. Where its keys can be told, the
    latest stays."""
    garbage = bytearray(stored(*UNREADABLE[name]))
    if name == "control":
        struct.pack_into(">h", garbage, ATTRIBUTES_AT, CONTROL_BIT)
    elif name in ("earliest", "latest"):
        struct.pack_into(">q", garbage, BASE_TIMESTAMP_AT, (-1 if name == "earliest" else 1) * (2**63 - 5))
    wanted = 1 if name in ("earliest", "latest", "times") else 2
    log = FileLog(tmp_path)
    for value in (b"1", b"2"):
        for key in (b"a", b"b", b""):
            log.put([Record(key, value, 5)])
        stamp(garbage, 0, log.log_end_offset, 1)
        seal(garbage, 0, len(garbage))
        log.append(bytearray(garbage))
    log.put([Record(b"a", b"3", 5)])
    log.roll()
    last = log.log_end_offset
    for first_dirty in (0, last, last):
        run = log.compact(first_dirty, last, slice_bytes=100_000)
        assert run.stats.unreadable_batches_count == wanted
        values = dict[bytes, bytes]()
        kept = 0
        (source,) = (source for source in log.sources if source.size_bytes)
        data = source.log_path.read_bytes()
        for at, header in walk(data):
            batch = data[at : at + header.size_bytes]
            if batch[HEADER_BYTES:] == garbage[HEADER_BYTES:]:
                kept += 1
                continue
            for record in read_records(data, at, header):
                assert bytes(record.key or b"") not in values
                values[bytes(record.key or b"")] = bytes(record.value or b"")
        assert kept == wanted
        assert values == {b"a": b"3", b"b": b"2", b"": b"2"}


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "garbage"])
def test_a_damaged_segment_is_not_rewritten(tmp_path: Path, damage: str) -> None:
    log = filled(tmp_path)
    path = log.sources[0].log_path
    data = bytearray(path.read_bytes())
    if damage == "flipped bit":
        data[100] ^= 1
    elif damage == "cut off":
        del data[-10:]
    else:
        data[-200:] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(InvalidBatch):
        list(run_over(log).steps())
    assert not list(tmp_path.glob("*.cleaned"))


def test_a_missing_segment_is_a_storage_error(tmp_path: Path) -> None:
    log = filled(tmp_path)
    log.sources[0].log_path.unlink()
    with pytest.raises(StorageError):
        list(run_over(log).steps())


def test_each_step_reads_a_slice(tmp_path: Path) -> None:
    run = run_over(filled(tmp_path))
    before = 0
    for cleaned in run.steps():
        assert run.stats.read_bytes - before <= 200
        before = run.stats.read_bytes
        if cleaned is not None:
            cleaned.discard()
    assert run.stats.kept_records_count == run.stats.map_keys_count == 10


def test_a_batch_larger_than_a_slice_is_read_whole(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.put([Record(b"%d" % (i % 7), b"v" * 50, 1) for i in range(100)])
    log.put([Record(b"z", b"", 1)])
    log.roll()
    log.compact(0, 101, slice_bytes=64)
    assert sorted(log.records()) == [*range(93, 100), 100]


def test_log_append_time_survives(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.put([Record(b"a", b"1", 1), Record(b"b", None, 2)], append_time_ms=77)
    log.put([Record(b"a", b"2", 1)], append_time_ms=78)
    log.roll()
    log.compact(0, 3, now_ms=10)
    assert {offset: record[2] for offset, record in log.records().items()} == {1: 77, 2: 78}


def test_sparse_batches_are_compacted_again(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.put([Record(b"%d" % i, b"v", i) for i in range(10)], Compression.LZ4)
    log.put([Record(b"%d" % i, b"w", i) for i in (2, 3, 9)])
    log.roll()
    log.compact(0, 13)
    log.put([Record(b"0", b"x", 1), Record(b"new", b"x", 1)])
    log.roll()
    log.compact(13, 15)
    assert sorted(log.records()) == [1, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14]
    header = log.batches()[0][0]
    assert (header.base_offset, header.last_offset, header.records_count) == (0, 9, 6)
    assert assemble(header, b"")  # its fields still make a batch
