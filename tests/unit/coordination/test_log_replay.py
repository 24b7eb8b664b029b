"""From batches to a shard's events."""

from __future__ import annotations

import pytest

from tierlog.coordination.log_replay import LogReplay
from tierlog.coordination.records import CommittedOffset, Event, OffsetCommitted, encode_event
from tierlog.records.batch import Compression, InvalidBatch
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch


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
