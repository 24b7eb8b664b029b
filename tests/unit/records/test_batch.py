"""The header: fields, stamping, walking, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.errors import ErrorCode, MalformedMessage
from tierlog.records.batch import (
    CRC_AT,
    HEADER,
    HEADER_BYTES,
    Compression,
    InvalidBatch,
    TimestampType,
    parse_header,
    restamp,
    stamp,
    verify_crc,
    walk,
    walk_whole,
)
from tierlog.records.records import Record, build_batch, read_records


def batch(count: int = 3, **fields: int) -> bytearray:
    return build_batch([Record(b"k", b"v", 1000 + i) for i in range(count)], **fields)


def test_header_says_what_was_built() -> None:
    data = build_batch(
        [Record(b"k", b"v", 5), Record(b"k", b"v", 3)],
        base_offset=40,
        leader_epoch=7,
        compression=Compression.LZ4,
        producer_id=9,
        producer_epoch=2,
        base_sequence=0x7FFFFFFF,
        is_transactional=True,
    )
    header = parse_header(data)
    assert header.size_bytes == len(data)
    assert (header.base_offset, header.last_offset, header.next_offset) == (40, 41, 42)
    assert (header.base_timestamp, header.max_timestamp) == (5, 5)
    assert header.partition_leader_epoch == 7
    assert header.compression is Compression.LZ4
    assert header.timestamp_type is TimestampType.CREATE_TIME
    assert header.is_transactional and not header.is_control and not header.has_delete_horizon
    assert header.delete_horizon_ms is None
    assert header.last_sequence == 0, "sequences wrap"
    assert header.has_producer_id
    assert verify_crc(data, 0, header)


def test_stamp_leaves_the_checksum_valid() -> None:
    data = bytearray(b"before") + batch()
    stamp(data, 6, 2**40, 12)
    header = parse_header(data, 6)
    assert (header.base_offset, header.partition_leader_epoch) == (2**40, 12)
    assert verify_crc(data, 6, header)


def test_stamp_writes_through_a_memoryview() -> None:
    data = batch()
    stamp(memoryview(data), 0, 5, 1)
    assert parse_header(data).base_offset == 5


def test_restamp_makes_every_record_carry_the_append_time() -> None:
    data = batch()
    restamp(data, 0, parse_header(data), 99_999)
    header = parse_header(data)
    assert header.timestamp_type is TimestampType.LOG_APPEND_TIME
    assert verify_crc(data, 0, header)
    assert [record.timestamp for record in read_records(data, 0, header)] == [99_999] * 3


def test_a_flipped_bit_behind_the_crc_is_seen() -> None:
    data = batch()
    data[-1] ^= 1
    assert not verify_crc(data, 0, parse_header(data))
    assert not verify_crc(data[:-1], 0, parse_header(data)), "cut off"


def test_walk_passes_every_batch() -> None:
    data = batch(1) + batch(2) + batch(3)
    found = [(pos, header.records_count) for pos, header in walk(data)]
    assert found == [(0, 1), (len(batch(1)), 2), (len(batch(1)) + len(batch(2)), 3)]
    assert [h.records_count for _, h in walk(data, len(batch(1)), len(batch(1) + batch(2)))] == [2]


def test_walk_refuses_what_is_cut_off_and_walk_whole_ignores_it() -> None:
    for cut in (len(batch()) + 3, 2 * len(batch()) - 1):
        data = (batch() + batch())[:cut]
        with pytest.raises(InvalidBatch):
            list(walk(data))
        assert len(list(walk_whole(data))) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"magic": 0}, ErrorCode.INVALID_RECORD),
        ({"magic": 1}, ErrorCode.INVALID_RECORD),
        ({"magic": 3}, ErrorCode.CORRUPT_MESSAGE),
        ({"batch_length": 48}, ErrorCode.CORRUPT_MESSAGE),
        ({"batch_length": -1}, ErrorCode.CORRUPT_MESSAGE),
        ({"last_offset_delta": -1}, ErrorCode.INVALID_RECORD),
    ],
)
def test_impossible_headers_are_refused_with_kafkas_codes(change: dict[str, int], code: ErrorCode) -> None:
    data = batch()
    HEADER.pack_into(data, 0, *parse_header(data)._replace(**change))
    with pytest.raises(InvalidBatch) as refused:
        parse_header(data)
    assert refused.value.error_code is code


def test_unknown_codec_is_refused() -> None:
    header = parse_header(batch())._replace(attributes=7)
    with pytest.raises(InvalidBatch):
        _ = header.compression


@given(st.binary(max_size=150), st.integers(-3, 160))
def test_any_bytes_give_a_header_or_one_error(data: bytes, pos: int) -> None:
    try:
        header = parse_header(data, pos)
    except MalformedMessage:
        return
    assert header.size_bytes >= HEADER_BYTES
    verify_crc(data, pos, header)


@given(st.binary(max_size=300))
def test_any_bytes_can_be_walked(data: bytes) -> None:
    good = bytes(batch())
    for walker in (walk, walk_whole):
        try:
            positions = [pos for pos, _ in walker(good + data)]
        except MalformedMessage:
            continue
        assert positions[0] == 0


def test_crc_position_is_where_the_header_has_it() -> None:
    data = batch()
    assert int.from_bytes(data[CRC_AT : CRC_AT + 4]) == parse_header(data).crc
