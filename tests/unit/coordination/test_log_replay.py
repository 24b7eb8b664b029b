"""From batches to a shard's events."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.coordination.log_replay import LogReplay
from tierlog.coordination.records import CommittedOffset, Event, OffsetCommitted, encode_event
from tierlog.records.batch import Compression, InvalidBatch, walk
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch, read_records


def committed(offset: int, partition: int = 0) -> OffsetCommitted:
    return OffsetCommitted("g", "t", partition, CommittedOffset(offset, -1, "", 5))


def batch(*events: Event, producer_id: int = -1, compression: Compression = Compression.NONE) -> bytes:
    return bytes(
        build_batch(
            [Record(*encode_event(event), 5) for event in events],
            producer_id=producer_id,
            producer_epoch=0 if producer_id >= 0 else -1,
            is_transactional=producer_id >= 0,
            compression=compression,
        )
    )


def marker(producer_id: int, is_commit: bool) -> bytes:
    return bytes(
        build_end_transaction_marker(
            EndTransactionMarker(is_commit, 0), producer_id=producer_id, producer_epoch=0, timestamp_ms=5
        )
    )


def replayed(*batches: bytes) -> list[Event]:
    replay = LogReplay()
    for data in batches:
        replay.feed(data)
    assert replay.malformed_count == 0
    return list(replay.events())


@pytest.mark.parametrize("compression", list(Compression))
def test_the_last_record_of_a_key_counts(compression: Compression) -> None:
    first = batch(committed(1), committed(5, partition=1), compression=compression)
    second = batch(committed(2), compression=compression)
    assert replayed(first + second) == [committed(2), committed(5, partition=1)]


def test_tombstones() -> None:
    gone = OffsetCommitted("g", "t", 0, None)
    assert replayed(batch(committed(1)), batch(gone)) == []
    assert replayed(batch(gone), batch(committed(1))) == [committed(1)]


def test_transactions_count_from_their_commit_on() -> None:
    held = batch(committed(9), producer_id=7)
    other = batch(committed(8), producer_id=8)
    plain = batch(committed(1))
    assert replayed(plain, held) == [committed(1)]
    assert replayed(plain, held, other, marker(7, True)) == [committed(9)]
    assert replayed(plain, held, marker(7, False)) == [committed(1)]
    assert replayed(held, plain, marker(7, True)) == [committed(9)]
    assert replayed(marker(7, True), plain) == [committed(1)]


def test_unreadable_records_are_counted_and_passed_over() -> None:
    replay = LogReplay()
    records = [Record(None, b"v", 5), Record(b"\0\1\0", b"v", 5), Record(b"\0\7other", b"v", 5)]
    replay.feed(bytes(build_batch(records)) + batch(committed(3)))
    assert list(replay.events()) == [committed(3)]
    assert replay.malformed_count == 2


def test_a_cut_batch_is_refused() -> None:
    with pytest.raises(InvalidBatch):
        LogReplay().feed(batch(committed(3))[:-1])


keys = st.binary(min_size=0, max_size=200)
values = st.none() | st.binary(max_size=300)
records = st.lists(st.tuples(keys, values, st.integers(0, 2**40)), min_size=1, max_size=40)


@given(batches=st.lists(records, max_size=4))
def test_the_fast_loop_sees_what_the_record_reader_sees(
    batches: list[list[tuple[bytes, bytes | None, int]]],
) -> None:
    data = b"".join(bytes(build_batch([Record(k, v, t) for k, v, t in rows])) for rows in batches)
    replay = LogReplay()
    replay.feed(data)
    expected: dict[bytes, bytes | None] = {}
    for position, header in walk(data):
        for record in read_records(data, position, header):
            assert record.key is not None
            expected[bytes(record.key)] = None if record.value is None else bytes(record.value)
    assert replay._last == expected


@given(rows=records, at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 80))
def test_garbage_is_refused_or_read_but_never_breaks(
    rows: list[tuple[bytes, bytes | None, int]], at: int, byte: int, cut: int
) -> None:
    data = build_batch([Record(k, v, t) for k, v, t in rows])
    data[at % len(data)] = byte
    replay = LogReplay()
    with contextlib.suppress(InvalidBatch):
        replay.feed(bytes(data[: len(data) - cut]))
        list(replay.events())
