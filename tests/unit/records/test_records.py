"""Records in and out, hostile bodies, timestamps, markers, deep validation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records.strategies import BATCHES, plain
from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    HEADER_BYTES,
    Compression,
    InvalidBatch,
    parse_header,
    restamp,
    seal,
    verify_crc,
)
from tierlog.records.control import (
    ControlType,
    EndTransactionMarker,
    build_end_transaction_marker,
    control_type,
    read_control_type,
    read_end_transaction_marker,
)
from tierlog.records.records import (
    Record,
    assemble,
    build_batch,
    empty_batch,
    read_records,
    records_body,
)
from tierlog.records.spans import record_keys, record_spans
from tierlog.records.steps import finished
from tierlog.records.times import find_max_timestamp, find_timestamp
from tierlog.records.validate import InvalidRecords, check_header, check_records
from tierlog.records.varint import decode_varint, encode_varint


@given(BATCHES, st.sampled_from(Compression), st.integers(0, 2**60))
def test_round_trip(records: list[Record], codec: Compression, base_offset: int) -> None:
    data = build_batch(records, compression=codec, base_offset=base_offset)
    header = parse_header(data)
    assert verify_crc(data, 0, header)
    read = [plain(record) for record in read_records(data, 0, header)]
    assert read == [record._replace(offset=base_offset + i) for i, record in enumerate(records)]
    assert header.max_timestamp == max(record.timestamp for record in records)


@given(BATCHES)
def test_both_fast_walks_agree_with_the_reader(records: list[Record]) -> None:
    data = build_batch(records)
    header = parse_header(data)
    body = records_body(data, 0, header)
    spans = record_spans(body, len(records))
    assert [body[s[4] : s[5]] if s[4] >= 0 else None for s in spans] == [r.key for r in records]
    assert [body[s[6] : s[7]] if s[6] >= 0 else None for s in spans] == [r.value for r in records]
    assert record_keys(body, len(records)) == [(s[3], s[4], s[5] if s[4] >= 0 else -1) for s in spans]


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3))
def test_varints(value: int, prefix: bytes) -> None:
    encoded = encode_varint(value)
    assert decode_varint(prefix + encoded, len(prefix)) == (value, len(prefix) + len(encoded))


@given(BATCHES, st.randoms(use_true_random=False), st.sampled_from(Compression))
def test_mutated_bodies_give_records_or_one_error(
    records: list[Record], rng: random.Random, codec: Compression
) -> None:
    data = build_batch(records, compression=codec)
    for _ in range(4):
        data[rng.randrange(HEADER_BYTES, len(data))] = rng.randrange(256)
    header = parse_header(data)
    for read in (
        lambda: read_records(data, 0, header),
        lambda: record_keys(records_body(data, 0, header), header.records_count),
        lambda: check_records(data, 0, header, keys_required=True),
        lambda: finished(find_timestamp(data, 0, header, header.max_timestamp)),
    ):
        try:
            read()
        except InvalidBatch:
            continue


@pytest.mark.parametrize("count", [-1, 0, 2, 2**31 - 1])
def test_a_count_that_is_not_the_number_of_records_is_refused(count: int) -> None:
    data = build_batch([Record(b"key", b"value", 1)])
    header = parse_header(data)._replace(records_count=count)
    with pytest.raises(InvalidBatch):
        read_records(data, 0, header)


def test_an_emptied_batch_reads_as_no_records() -> None:
    original = parse_header(
        build_batch(
            [Record(b"k", b"v", 7)] * 3,
            base_offset=5,
            compression=Compression.ZSTD,
            producer_id=1,
            producer_epoch=0,
            base_sequence=10,
        )
    )
    data = empty_batch(original)
    header = parse_header(data)
    assert len(data) == HEADER_BYTES and verify_crc(data, 0, header)
    assert (header.base_offset, header.last_offset, header.last_sequence) == (5, 7, 12)
    assert header.compression is Compression.NONE and header.max_timestamp == 7
    assert read_records(data, 0, header) == []
    assert finished(find_max_timestamp(data, 0, header)) is None


@given(BATCHES, st.integers(-1, 4_102_444_800_001), st.booleans())
def test_find_timestamp_is_the_first_record_at_or_after(
    records: list[Record], timestamp: int, is_append_time: bool
) -> None:
    data = build_batch(records, base_offset=100, append_time_ms=50 if is_append_time else None)
    header = parse_header(data)
    read = read_records(data, 0, header)
    expected = next(((r.timestamp, r.offset) for r in read if r.timestamp >= timestamp), None)
    assert finished(find_timestamp(data, 0, header, timestamp)) == expected
    largest = max(r.timestamp for r in read)
    assert finished(find_max_timestamp(data, 0, header)) == next(
        (r.timestamp, r.offset) for r in read if r.timestamp == largest
    )


def test_find_timestamp_in_a_sparse_append_time_batch() -> None:
    data = build_batch([Record(b"a", b"v", 1), Record(b"b", b"v", 1)], base_offset=10)
    restamp(data, 0, parse_header(data), 77)
    header, body = parse_header(data), records_body(data, 0, parse_header(data))
    sparse = assemble(header._replace(records_count=1), body[record_spans(body, 2)[1][0] :])
    assert finished(find_timestamp(sparse, 0, parse_header(sparse), 70)) == (77, 11)


@pytest.mark.parametrize("is_commit", [True, False])
def test_markers(is_commit: bool) -> None:
    marker = EndTransactionMarker(is_commit, 17)
    data = build_end_transaction_marker(
        marker, producer_id=4, producer_epoch=1, timestamp_ms=9, base_offset=3
    )
    header = parse_header(data)
    assert header.is_control and header.is_transactional and header.base_sequence == -1
    assert read_end_transaction_marker(data, 0, header) == marker
    kind = ControlType.COMMIT if is_commit else ControlType.ABORT
    assert read_control_type(data, 0, header) is kind
    emptied = empty_batch(header)
    assert read_control_type(emptied, 0, parse_header(emptied)) is None
    assert read_end_transaction_marker(emptied, 0, parse_header(emptied)) is None


def test_other_control_types_are_stepped_over() -> None:
    assert control_type(b"\0\0\0\2") is ControlType.LEADER_CHANGE
    assert control_type(b"\0\0\0\x63") is ControlType.UNKNOWN
    data = build_batch([Record(b"\0\0\0\2", b"whatever", 1)], is_control=True)
    assert read_end_transaction_marker(data, 0, parse_header(data)) is None
    for bad in (None, b"", b"\xff\xff\0\0"):
        with pytest.raises(InvalidBatch):
            control_type(bad)
    cut_off = build_batch([Record(b"\0\0\0\1", b"\0", 1)], is_control=True)
    with pytest.raises(InvalidBatch):
        read_end_transaction_marker(cut_off, 0, parse_header(cut_off))


GOOD = parse_header(build_batch([Record(b"k", b"v", 1000)] * 2))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"records_count": 3}, ErrorCode.INVALID_RECORD),
        ({"records_count": 0}, ErrorCode.INVALID_RECORD),
        ({"records_count": -1, "last_offset_delta": -2}, ErrorCode.INVALID_RECORD),
        ({"attributes": 5}, ErrorCode.CORRUPT_MESSAGE),
        ({"attributes": 0x20}, ErrorCode.INVALID_RECORD),
        ({"attributes": 0x10}, ErrorCode.INVALID_RECORD),
        ({"attributes": 0x08}, ErrorCode.INVALID_TIMESTAMP),
        ({"producer_id": 3}, ErrorCode.INVALID_RECORD),
        ({"max_timestamp": 2001}, ErrorCode.INVALID_TIMESTAMP),
        ({"base_timestamp": 499}, ErrorCode.INVALID_TIMESTAMP),
    ],
)
def test_headers_that_no_client_may_send(change: dict[str, int], code: ErrorCode) -> None:
    with pytest.raises(InvalidBatch) as refused:
        check_header(
            GOOD._replace(**change), is_client=True, earliest_timestamp_ms=500, latest_timestamp_ms=2000
        )
    assert refused.value.error_code is code


def test_headers_that_pass() -> None:
    check_header(GOOD, is_client=True, earliest_timestamp_ms=500, latest_timestamp_ms=1000)
    check_header(
        GOOD._replace(base_timestamp=-1, max_timestamp=-1), is_client=True, earliest_timestamp_ms=500
    )
    marker = build_end_transaction_marker(
        EndTransactionMarker(True, 0), producer_id=1, producer_epoch=0, timestamp_ms=1
    )
    check_header(parse_header(marker), is_client=False)


def test_deep_validation() -> None:
    data = build_batch([Record(b"k", b"v", 1), Record(None, b"v", 2)])
    check_records(data, 0, parse_header(data), keys_required=False)
    with pytest.raises(InvalidRecords) as refused:
        check_records(data, 0, parse_header(data), keys_required=True)
    assert [index for index, _ in refused.value.record_errors] == [1]
    wrong_time = parse_header(data)._replace(max_timestamp=5)
    with pytest.raises(InvalidBatch, match="max timestamp"):
        check_records(data, 0, wrong_time, keys_required=False)
    shifted = bytearray(data)
    body = records_body(data, 0, parse_header(data))
    shifted[HEADER_BYTES + record_spans(body, 2)[1][0] + 3] = 4  # offset delta 1 -> 2
    seal(shifted, 0, len(shifted))
    with pytest.raises(InvalidBatch, match="offset delta"):
        check_records(shifted, 0, parse_header(shifted), keys_required=False)
