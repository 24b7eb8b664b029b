"""The sparse indexes by themselves, with entries in the file, in the tail and across both."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import pytest

from tierlog.log.files.filesystem import REAL
from tierlog.log.indexes import TAIL_BYTES, CorruptIndex, OffsetIndex, TimeIndex
from tierlog.log.txn_index import TransactionIndex
from tierlog.types import AbortedTransaction

BASE = 10_000


def offset_index(path: Path, entries: int) -> OffsetIndex:
    index = OffsetIndex(REAL, path / "o.index", BASE, 10 << 20)
    index.reset()
    for number in range(1, entries + 1):
        index.append(BASE + 10 * number, 100 * number)
    return index


@pytest.mark.parametrize("entries", [0, 1, 2, TAIL_BYTES // 8 - 1, TAIL_BYTES // 8, 3000])
def test_lookups_agree_with_a_list(tmp_path: Path, entries: int) -> None:
    index = offset_index(tmp_path, entries)
    offsets = [BASE + 10 * number for number in range(1, entries + 1)]
    for probe in {*range(BASE, BASE + 60), *range(offsets[-1] - 40, offsets[-1] + 30)} if offsets else {BASE}:
        below = bisect_right(offsets, probe)
        assert index.floor_position(probe) == 100 * below
    for position in (0, 99, 100, 101, 100 * entries - 1, 100 * entries, 100 * entries + 50):
        assert index.boundary_at_or_below(position) == min(max(position, 0) // 100, entries) * 100


@pytest.mark.parametrize("entries", [1, 511, 512, 513, 1500])
def test_written_and_loaded_again(tmp_path: Path, entries: int) -> None:
    index = offset_index(tmp_path, entries)
    index.write_out()
    assert index.path.stat().st_size == 8 * entries
    again = OffsetIndex(REAL, index.path, BASE, 10 << 20)
    again.load()
    assert again.count == entries
    assert again.last_position() == 100 * entries
    again.append(BASE + 10 * entries + 10, 100 * entries + 100)
    assert again.floor_position(BASE + 10 * entries + 10) == 100 * entries + 100


@pytest.mark.parametrize("kept", [0, 1, 511, 512, 513, 999])
def test_truncation_in_file_and_tail(tmp_path: Path, kept: int) -> None:
    index = offset_index(tmp_path, 1000)
    index.truncate_to(BASE + 10 * kept + 10)
    assert index.count == kept
    assert index.last_position() == 100 * kept
    index.append(BASE + 10 * kept + 10, 100 * kept + 100)
    index.write_out()
    assert index.path.read_bytes()[-8:] == OffsetIndex.ENTRY.pack(10 * kept + 10, 100 * kept + 100)
    assert index.path.stat().st_size == 8 * (kept + 1)


def test_full_at_kafkas_counts(tmp_path: Path) -> None:
    index = OffsetIndex(REAL, tmp_path / "o.index", 0, 24)
    for number in (1, 2):
        index.append(number, number)
    assert not index.is_full
    index.append(3, 3)
    assert index.is_full
    times = TimeIndex(REAL, tmp_path / "o.timeindex", 0, 36)
    times.append(1, 1)
    assert not times.is_full
    times.append(2, 2)
    assert times.is_full


@pytest.mark.parametrize("content", [b"123", bytes(8), b"\xff" * 8, bytes(7 * 8)])
def test_what_is_no_offset_index(tmp_path: Path, content: bytes) -> None:
    index = OffsetIndex(REAL, tmp_path / "o.index", BASE, 10 << 20)
    index.path.write_bytes(content)
    with pytest.raises(CorruptIndex):
        index.load()


def test_time_index_takes_only_larger_timestamps(tmp_path: Path) -> None:
    index = TimeIndex(REAL, tmp_path / "t.timeindex", BASE, 10 << 20)
    index.reset()
    assert index.last() == (-1, BASE)
    for timestamp, offset in ((50, 3), (50, 9), (40, 12), (60, 15)):
        index.append(timestamp, BASE + offset)
    assert index.count == 2
    assert [index.floor_offset(time) - BASE for time in (0, 49, 50, 59, 60, 99)] == [0, 0, 3, 3, 15, 15]
    index.truncate_to(BASE + 15)
    assert index.last() == (50, BASE + 3)
    index.write_out()
    index.path.write_bytes(index.path.read_bytes() + TimeIndex.ENTRY.pack(7, 20))
    with pytest.raises(CorruptIndex):
        index.load()


def test_transaction_index(tmp_path: Path) -> None:
    index = TransactionIndex(REAL, tmp_path / "x.txnindex")
    index.load()
    assert not index.path.exists()
    entries = [AbortedTransaction(7, first, first + 5, first + 6) for first in (0, 10, 20)]
    for entry in entries:
        index.append(entry)
    again = TransactionIndex(REAL, index.path)
    again.load()
    assert again.entries == entries
    again.truncate_to(25)
    assert again.entries == entries[:2]
    assert index.path.stat().st_size == 68
    index.path.write_bytes(bytes(33))
    with pytest.raises(ValueError, match="33 bytes"):
        again.load()
