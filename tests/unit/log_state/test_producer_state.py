"""Sequences, duplicates, transactions, expiry, snapshots."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.errors import ErrorCode
from tierlog.log.producers.snapshot_file import (
    CorruptSnapshot,
    EarlierBatch,
    SnapshotEntry,
    decode_snapshot,
    encode_snapshot,
)
from tierlog.log.producers.state import MAX_SEQUENCE, KnownBatch, ProducerState, last_batches
from tierlog.records.batch import BatchHeader, parse_header
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch, empty_batch
from tierlog.types import AbortedTransaction

COMMIT, ABORT = EndTransactionMarker(True, 1), EndTransactionMarker(False, 1)


def header(
    sequence: int, count: int = 1, *, producer_id: int = 7, epoch: int = 0, is_transactional: bool = False
) -> BatchHeader:
    return parse_header(
        build_batch(
            [Record(b"k", b"v", 1000)] * count,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
            is_transactional=is_transactional,
        )
    )


def marker_header(producer_id: int = 7, epoch: int = 0, marker: EndTransactionMarker = COMMIT) -> BatchHeader:
    return parse_header(
        build_end_transaction_marker(marker, producer_id=producer_id, producer_epoch=epoch, timestamp_ms=2000)
    )


def append(state: ProducerState, batch: BatchHeader, now_ms: int = 0) -> int:
    """As the leader does; the base offset."""
    assert state.check(batch) is ErrorCode.NONE
    offset = state.map_end_offset
    state.update(batch, offset, now_ms)
    return offset


def end(state: ProducerState, marker: EndTransactionMarker, **fields: int) -> AbortedTransaction | None:
    return state.end_transaction(marker_header(**fields), state.map_end_offset, marker, 0)


def test_sequences_follow_on() -> None:
    state = ProducerState()
    for sequence, count in ((0, 3), (3, 1), (4, 10)):
        append(state, header(sequence, count))
    assert state.map_end_offset == 14
    for wrong in (13, 15, 20, 0):
        assert state.check(header(wrong)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_the_last_five_batches_are_answered_again() -> None:
    state = ProducerState()
    for sequence in range(7):
        append(state, header(sequence * 2, 2))
    for sequence in range(2, 7):
        assert state.check(header(sequence * 2, 2)) == KnownBatch(
            sequence * 2, sequence * 2 + 1, sequence * 2, sequence * 2 + 1, 1000
        )
    assert state.check(header(2, 2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, "forgotten"
    assert state.check(header(12, 1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, "not the same batch"


def test_an_unknown_producer_may_start_anywhere() -> None:
    assert ProducerState().check(header(55)) is ErrorCode.NONE


def test_a_new_epoch_starts_at_zero_and_an_older_one_is_fenced() -> None:
    state = ProducerState()
    append(state, header(0, 5))
    assert state.check(header(5, epoch=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    append(state, header(0, epoch=1))
    assert state.check(header(5, epoch=0)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert state.check(header(0, 5, epoch=0)) is ErrorCode.INVALID_PRODUCER_EPOCH, (
        "no duplicate of another epoch"
    )


def test_sequences_wrap() -> None:
    state = ProducerState()
    append(state, header(MAX_SEQUENCE - 1, 2))
    assert state.check(header(1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    append(state, header(0, 1))
    state = ProducerState()
    append(state, header(MAX_SEQUENCE, 3))
    assert state.check(header(MAX_SEQUENCE, 3)) == KnownBatch(0, 2, MAX_SEQUENCE, 1, 1000)
    append(state, header(2))


def test_transactions_bound_the_first_unstable_offset() -> None:
    state = ProducerState()
    append(state, header(0, 2, producer_id=1, is_transactional=True))  # 0, 1
    append(state, header(0, 3, producer_id=2, is_transactional=True))  # 2..4
    assert state.first_unstable_offset == 0
    assert end(state, ABORT, producer_id=1) == AbortedTransaction(1, 0, 5, last_stable_offset=2)
    assert state.first_unstable_offset == 0, "its marker is not below the high watermark yet"
    state.advance_high_watermark(5)
    assert state.first_unstable_offset == 0
    state.advance_high_watermark(6)
    assert state.first_unstable_offset == 2
    assert end(state, COMMIT, producer_id=2) is None
    state.advance_high_watermark(7)
    assert state.first_unstable_offset is None
    assert end(state, ABORT, producer_id=2) is None, "nothing was open"


def test_a_plain_batch_within_a_transaction_is_refused() -> None:
    state = ProducerState()
    append(state, header(0, is_transactional=True))
    assert state.check(header(1)) is ErrorCode.INVALID_TXN_STATE
    end(state, COMMIT)
    append(state, header(1))


def test_a_marker_that_bumps_the_epoch_fences_and_restarts_sequences() -> None:
    state = ProducerState()
    append(state, header(0, 4, is_transactional=True))
    end(state, COMMIT, epoch=1)
    assert state.check(header(4, is_transactional=True)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert state.check(header(4, epoch=1, is_transactional=True)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert state.check(header(0, epoch=1, is_transactional=True)) is ErrorCode.NONE


def test_stale_markers_are_refused() -> None:
    state = ProducerState()
    append(state, header(0, epoch=3, is_transactional=True))
    assert state.check_marker(marker_header(epoch=2), COMMIT) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert state.check_marker(marker_header(epoch=3), COMMIT) is ErrorCode.NONE
    state.end_transaction(marker_header(epoch=3), 1, EndTransactionMarker(True, 5), 0)
    older = EndTransactionMarker(True, 4)
    assert state.check_marker(marker_header(epoch=3), older) is ErrorCode.TRANSACTION_COORDINATOR_FENCED
    assert state.check_marker(marker_header(producer_id=99), older) is ErrorCode.NONE


def test_expiry_is_by_when_it_was_seen_and_spares_transactions() -> None:
    state = ProducerState()
    append(state, header(0, producer_id=1), now_ms=0)  # its records are of 1970; that does not matter
    append(state, header(0, producer_id=2, is_transactional=True), now_ms=0)
    append(state, header(0, producer_id=3), now_ms=50)
    append(state, header(1, producer_id=1), now_ms=60)
    assert state.expire(149, 100) == 0
    assert state.expire(150, 100) == 1 and state.get(3) is None
    assert state.expire(160, 100) == 1 and state.get(1) is None
    assert state.get(2) is not None


def test_the_table_is_bounded() -> None:
    state = ProducerState(max_producers_count=3)
    append(state, header(0, producer_id=0, is_transactional=True), now_ms=0)
    for producer_id in range(1, 10):
        append(state, header(0, producer_id=producer_id), now_ms=producer_id)
    assert sorted(entry.producer_id for entry in state.entries()) == [0, 8, 9]


def test_replay_of_any_batch() -> None:
    state = ProducerState()
    plain = build_batch([Record(b"k", b"v", 1)] * 2)
    assert state.replay(plain, 0, parse_header(plain), 0) is None
    data = build_batch(
        [Record(b"k", b"v", 1)],
        base_offset=2,
        producer_id=5,
        producer_epoch=0,
        base_sequence=0,
        is_transactional=True,
    )
    state.replay(data, 0, parse_header(data), 0)
    marker = build_end_transaction_marker(
        ABORT, producer_id=5, producer_epoch=0, timestamp_ms=1, base_offset=3
    )
    assert state.replay(marker, 0, parse_header(marker), 0) == AbortedTransaction(5, 2, 3, 4)
    emptied = empty_batch(parse_header(marker)._replace(base_offset=4))
    assert state.replay(emptied, 0, parse_header(emptied), 0) is None
    other = build_batch([Record(b"\0\0\0\2", b"", 1)], base_offset=5, is_control=True, producer_id=1)
    assert state.replay(other, 0, parse_header(other), 0) is None
    assert state.map_end_offset == 6
    assert last_batches(state.entries())[5] == (2, 0)


def test_advance_log_start_forgets_closed_transactions() -> None:
    state = ProducerState()
    append(state, header(0, is_transactional=True))
    end(state, ABORT)
    state.advance_log_start(2)
    assert state.first_unstable_offset is None and state.map_end_offset == 2


def test_snapshot_keeps_batches_and_the_open_transaction() -> None:
    state = ProducerState()
    append(state, header(0, 2, producer_id=1))
    append(state, header(2, 2, producer_id=1))
    append(state, header(0, 3, producer_id=2, epoch=4, is_transactional=True))
    end(state, COMMIT, producer_id=3, epoch=2)
    loaded = ProducerState()
    loaded.load_snapshot(state.encode_snapshot(), state.map_end_offset, 0)
    assert loaded.map_end_offset == 8 and loaded.first_unstable_offset == 4
    assert loaded.check(header(2, 2, producer_id=1)) == KnownBatch(2, 3, 2, 3, 1000)
    assert loaded.check(header(4, producer_id=1)) is ErrorCode.NONE
    assert loaded.check(header(0, 2, producer_id=1)) == KnownBatch(0, 1, 0, 1, 1000)
    assert loaded.check(header(0, producer_id=3, epoch=1)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert loaded.encode_snapshot() != b""
    assert sorted(decode_snapshot(loaded.encode_snapshot())) == sorted(
        decode_snapshot(state.encode_snapshot())
    )


def test_all_five_batches_live_through_a_snapshot() -> None:
    """A producer may have five batches unanswered when the broker dies right after a roll."""
    state = ProducerState()
    for sequence in range(0, 21, 3):
        append(state, header(sequence, 3))
    loaded = ProducerState()
    loaded.load_snapshot(state.encode_snapshot(), state.map_end_offset, 0)
    for sequence in range(6, 21, 3):
        assert loaded.check(header(sequence, 3)) == state.check(header(sequence, 3))
    assert loaded.check(header(3, 3)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert loaded.encode_snapshot() == state.encode_snapshot()


def test_a_snapshot_of_kafkas_has_the_last_batch_only() -> None:
    state = ProducerState()
    for sequence in (0, 1):
        append(state, header(sequence))
    kafkas = encode_snapshot(decode_snapshot(state.encode_snapshot()))
    loaded = ProducerState()
    loaded.load_snapshot(kafkas, state.map_end_offset, 0)
    assert loaded.check(header(1)) == KnownBatch(1, 1, 1, 1, 1000)
    assert loaded.check(header(0)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


INT64 = st.integers(-1, 2**63 - 1)
INT32 = st.integers(-1, 2**31 - 1)
ENTRIES = st.builds(
    SnapshotEntry, INT64, st.integers(-1, 2**15 - 1), INT32, INT64, INT32, INT64, INT32, INT64
)


@given(st.lists(ENTRIES, max_size=10))
def test_snapshot_round_trip(entries: list[SnapshotEntry]) -> None:
    assert decode_snapshot(encode_snapshot(entries)) == entries


@given(st.binary(max_size=120), st.integers(0, 200))
def test_any_bytes_give_a_snapshot_or_one_error(data: bytes, cut: int) -> None:
    entries = [SnapshotEntry(1, 2, 3, 4, 0, 5, 6, 7)]
    for good in (encode_snapshot(entries), encode_snapshot(entries, [EarlierBatch(1, 2, 0, 3, 4)])):
        for hostile in (data, good[:cut] + data, good + data):
            try:
                decode_snapshot(hostile)
            except CorruptSnapshot:
                continue
            assert hostile == good


def test_a_failed_load_changes_nothing() -> None:
    state = ProducerState()
    append(state, header(0))
    with pytest.raises(CorruptSnapshot):
        state.load_snapshot(b"\0\1", 5, 0)
    assert state.get(7) is not None


def test_check_and_update_are_cheap() -> None:
    """Budget 2 us per batch; the bound here only catches a change of kind on a busy machine."""
    state = ProducerState()
    headers = [header(0)._replace(base_sequence=sequence) for sequence in range(5000)]
    best = 1e9
    for _ in range(3):
        state.clear()
        started = time.thread_time()
        for offset, batch in enumerate(headers):
            state.check(batch)
            state.update(batch, offset, 0)
        best = min(best, (time.thread_time() - started) / len(headers))
    assert best < 20e-6
