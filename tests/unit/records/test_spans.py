"""Records of a body that comes in pieces: the same spans as of the whole, whatever the pieces, and bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records.strategies import BATCHES
from tierlog.records import spans
from tierlog.records.batch import Compression, InvalidBatch, parse_header
from tierlog.records.records import Record, assemble, build_batch, records_body
from tierlog.records.spans import record_spans, span_groups
from tierlog.records.steps import finished
from tierlog.records.times import find_timestamp


def cut(body: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield body[at : at + size]
        at += size
    yield body[at:]


@given(BATCHES, st.lists(st.integers(0, 40)), st.booleans())
def test_pieces_make_no_difference(records: list[Record], sizes: list[int], whole: bool) -> None:
    data = build_batch(records)
    body = records_body(data, 0, parse_header(data))
    found = [
        (span[2], span[3], part[span[4] : span[5]] if span[4] >= 0 else None, part[span[0] : span[1]])
        for part, group in span_groups(cut(body, sizes), len(records), whole_records=whole)
        for span in group
    ]
    assert found == [
        (span[2], span[3], body[span[4] : span[5]] if span[4] >= 0 else None, body[span[0] : span[1]])
        for span in record_spans(body, len(records))
    ]


@given(BATCHES, st.lists(st.integers(0, 40)), st.integers(0, 200), st.integers(0, 255), st.integers(-1, 1))
def test_any_other_bytes_are_one_error_in_both(
    records: list[Record], sizes: list[int], at: int, value: int, more: int
) -> None:
    data = build_batch(records)
    body = bytearray(records_body(data, 0, parse_header(data)))
    body[at % len(body)] = value
    count = len(records) + more

    def whole() -> object:
        return [span[2:4] for span in record_spans(bytes(body), count)]

    def in_pieces() -> object:
        groups = span_groups(cut(bytes(body), sizes), count, whole_records=True)
        return [span[2:4] for _, group in groups for span in group]

    try:
        expected = whole()
    except InvalidBatch:
        with pytest.raises(InvalidBatch):
            in_pieces()
    else:
        assert in_pieces() == expected


def test_large_records_are_passed_over_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "LARGE_RECORD_BYTES", 100)
    records = [Record(b"k" * 60, b"v" * (n % 3) * 200, n) for n in range(50)]
    data = build_batch(records, compression=Compression.SNAPPY)
    header = parse_header(data)
    body = records_body(data, 0, header)
    for size in (1, 7, 64, 1000):
        groups = span_groups(cut(body, [size] * (len(body) // size)), 50, whole_records=False)
        assert [span[2:4] for _, group in groups for span in group] == [(n, n) for n in range(50)]
    for count in (49, 51):
        with pytest.raises(InvalidBatch):
            list(span_groups(cut(body, [64] * (len(body) // 64)), count, whole_records=False))


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
def test_a_search_for_a_time_holds_a_piece_of_a_bomb(codec: Compression) -> None:
    one = build_batch([Record(b"k", bytes(60_000_000), 1), Record(b"k", b"", 5)], compression=codec)
    header = parse_header(one)
    tracemalloc.start()
    found = finished(find_timestamp(one, 0, header, 5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == (5, 1)
    assert peak < 8_000_000


def test_times_and_offsets_beyond_the_batch_are_refused() -> None:
    data = build_batch([Record(b"k", b"v", 1), Record(b"k", b"v", 3)])
    header = parse_header(data)
    body = records_body(data, 0, header)
    late = assemble(header._replace(base_timestamp=2**63 - 2, max_timestamp=2**63 - 1), body)
    with pytest.raises(InvalidBatch):
        finished(find_timestamp(late, 0, parse_header(late), 2**63 - 1))
    far = assemble(header._replace(last_offset_delta=0), body)
    with pytest.raises(InvalidBatch):
        finished(find_timestamp(far, 0, parse_header(far), 3))
