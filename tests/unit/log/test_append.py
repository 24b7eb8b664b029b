"""Appending as leader and as follower: what is accepted, what is refused and with which of Kafka's codes."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path
from random import Random

import pytest

from tests.unit.log.logs import NOW_MS, append, batch, config, headers, open_log, read_all
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendOrigin
from tierlog.log.log import Log
from tierlog.log.producers.snapshot_file import EarlierBatch, SnapshotEntry, decode_whole_snapshot
from tierlog.records.batch import (
    ATTRIBUTES_AT,
    COUNT_AT,
    LAST_OFFSET_DELTA_AT,
    PRODUCER_ID_AT,
    Compression,
    parse_header,
    seal,
    stamp,
    verify_crc,
)
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch, read_records
from tierlog.types import AbortedTransaction


def test_offsets_and_epoch_are_stamped_without_touching_the_checksum(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    first, second = batch(3), batch(2)
    assert append(log, first, leader_epoch=7)[:3] == (ErrorCode.NONE, 0, 2)
    assert append(log, second, leader_epoch=8)[:3] == (ErrorCode.NONE, 3, 4)
    stored = read_all(log)
    assert stored == bytes(first) + bytes(second)
    assert [(h.base_offset, h.partition_leader_epoch) for h in headers(stored)] == [(0, 7), (3, 8)]
    assert all(verify_crc(one, 0, parse_header(one, 0)) for one in (first, second))
    assert (log.log_end_offset, log.latest_epoch) == (5, 8)
    assert log.end_offset_for_epoch(7) == (7, 3)


def test_several_batches_in_one_append(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    result = log.append_as_leader(memoryview(bytearray(bytes(batch(2)) + bytes(batch(3)))), 0, NOW_MS)
    assert (result.base_offset, result.last_offset) == (0, 4)
    assert [h.base_offset for h in headers(read_all(log))] == [0, 2]


def changed(at: int, value: bytes, **kind: int) -> memoryview:
    """A sealed batch with some bytes of its header replaced."""
    records = batch(2, **kind)  # type: ignore[arg-type]
    records[at : at + len(value)] = value
    seal(records, 0, len(records))
    return records


BAD = {
    "empty": (memoryview(bytearray()), ErrorCode.INVALID_RECORD),
    "magic 1": (changed(16, b"\1"), ErrorCode.INVALID_RECORD),
    "magic 9": (changed(16, b"\x09"), ErrorCode.CORRUPT_MESSAGE),
    "cut off": (batch(2)[:-1], ErrorCode.CORRUPT_MESSAGE),
    "less than a header": (batch(2)[:40], ErrorCode.CORRUPT_MESSAGE),
    "bytes behind": (memoryview(bytearray(bytes(batch()) + b"tail")), ErrorCode.CORRUPT_MESSAGE),
    "count": (changed(COUNT_AT, b"\0\0\0\3"), ErrorCode.INVALID_RECORD),
    "no records": (changed(LAST_OFFSET_DELTA_AT, b"\xff\xff\xff\xff"), ErrorCode.INVALID_RECORD),
    "control": (changed(ATTRIBUTES_AT, b"\0\x20"), ErrorCode.INVALID_RECORD),
    "codec 6": (changed(ATTRIBUTES_AT, b"\0\6"), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
    "log append time": (changed(ATTRIBUTES_AT, b"\0\x08"), ErrorCode.INVALID_TIMESTAMP),
    "base offset": (batch(base_offset=4), ErrorCode.INVALID_RECORD),
    "too new": (batch(timestamp=NOW_MS + 3_600_001), ErrorCode.INVALID_TIMESTAMP),
    "too large": (batch(value_bytes=2000), ErrorCode.MESSAGE_TOO_LARGE),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals_append_nothing(tmp_path: Path, name: str) -> None:
    log = open_log(tmp_path, config(max_message_bytes=1500))
    records, code = BAD[name]
    result = log.append_as_leader(records, 0, NOW_MS)
    assert result.error is code
    assert result.error_message
    assert (result.base_offset, log.log_end_offset, log.size_bytes) == (-1, 0, 0)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for at in range(8, len(batch())):
        if 12 <= at < 16:
            continue  # the leader epoch: the leader's own to write
        records = batch()
        records[at] ^= 1
        assert log.append_as_leader(records, 0, NOW_MS).error is not ErrorCode.NONE, at
    assert log.log_end_offset == 0


def test_a_batch_larger_than_a_segment(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=500))
    assert log.append_as_leader(batch(value_bytes=600), 0, NOW_MS).error is ErrorCode.RECORD_LIST_TOO_LARGE


def test_timestamps_too_old(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(message_timestamp_before_max_ms=1000))
    assert (
        log.append_as_leader(batch(timestamp=NOW_MS - 1001), 0, NOW_MS).error is ErrorCode.INVALID_TIMESTAMP
    )
    assert log.append_as_leader(batch(timestamp=NOW_MS - 1000), 0, NOW_MS).error is ErrorCode.NONE
    assert log.append_as_leader(batch(timestamp=-1), 0, NOW_MS).error is ErrorCode.NONE


def test_records_with_bad_timestamps_are_named(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(message_timestamp_before_max_ms=1000))
    records = [Record(b"k", b"v", NOW_MS + shift) for shift in (-1001, 0, -1, 3_600_001, -5000)]
    result = log.append_as_leader(memoryview(build_batch(records)), 0, NOW_MS)
    assert result.error is ErrorCode.INVALID_TIMESTAMP
    assert [error.batch_index for error in result.record_errors] == [0, 3, 4]
    marked = log.append_as_leader(changed(ATTRIBUTES_AT, b"\0\x08"), 0, NOW_MS)
    assert [error.batch_index for error in marked.record_errors] == [0, 1]
    broken = bytearray(build_batch(records, compression=Compression.GZIP))
    broken[-9] ^= 1
    seal(broken, 0, len(broken))
    result = log.append_as_leader(memoryview(broken), 0, NOW_MS)
    assert (result.error, result.record_errors) == (ErrorCode.INVALID_TIMESTAMP, ())


def test_log_append_time(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(message_timestamp_type="LogAppendTime"))
    result = append(log, batch(3, timestamp=5), now_ms=NOW_MS)
    assert result.append_time_ms == NOW_MS
    stored = read_all(log)
    header = parse_header(stored, 0)
    assert header.max_timestamp == NOW_MS
    assert verify_crc(stored, 0, header)
    assert {record.timestamp for record in read_records(stored, 0, header)} == {NOW_MS}
    found = log.offset_for_timestamp(NOW_MS)
    assert found is not None
    assert (found.timestamp, found.offset) == (NOW_MS, 0)


def test_compacted_topics_want_keys(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(cleanup_policy=frozenset({"compact"})))
    result = log.append_as_leader(batch(2, key=None), 0, NOW_MS)
    assert result.error is ErrorCode.INVALID_RECORD
    assert [error.batch_index for error in result.record_errors] == [0, 1]
    assert log.append_as_leader(batch(2), 0, NOW_MS).error is ErrorCode.NONE


@pytest.mark.parametrize("compression_type", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
def test_the_topics_own_compression(tmp_path: Path, compression_type: str) -> None:
    log = open_log(tmp_path, config(compression_type=compression_type))
    append(log, batch(5, value_bytes=100, producer_id=4, compression=Compression.LZ4), batch(2))
    stored = read_all(log)
    found = headers(stored)
    wanted = "NONE" if compression_type == "uncompressed" else compression_type.upper()
    assert [header.compression.name for header in found] == [wanted] * 2
    assert [header.producer_id for header in found] == [4, -1]
    assert [len(record.value or b"") for record in read_records(stored, 0, found[0])] == [100] * 5


class TestProducers:
    def test_duplicates_are_answered_with_their_offsets(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        append(log, batch())
        for number in range(6):
            append(log, batch(2, producer_id=9, sequence=2 * number))
        for number in range(1, 6):
            result = log.append_as_leader(batch(2, producer_id=9, sequence=2 * number), 0, NOW_MS)
            assert result.is_duplicate
            assert (result.base_offset, result.last_offset) == (1 + 2 * number, 2 + 2 * number)
            assert result.append_time_ms == parse_header(batch(2)).max_timestamp  # as Kafka answers it
        forgotten = log.append_as_leader(batch(2, producer_id=9, sequence=0), 0, NOW_MS)
        assert forgotten.error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert log.log_end_offset == 13

    def test_gaps_and_old_epochs(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        append(log, batch(producer_id=9, epoch=1))
        gap = log.append_as_leader(batch(producer_id=9, epoch=1, sequence=2), 0, NOW_MS)
        assert gap.error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        old = log.append_as_leader(batch(producer_id=9, epoch=0, sequence=1), 0, NOW_MS)
        assert old.error is ErrorCode.INVALID_PRODUCER_EPOCH
        assert append(log, batch(producer_id=9, epoch=2)).base_offset == 1

    @pytest.mark.parametrize("was_clean", [True, False])
    def test_they_survive_a_restart(self, tmp_path: Path, was_clean: bool) -> None:
        log = open_log(tmp_path)
        append(log, batch(3, producer_id=9))
        if was_clean:
            log.close_clean()
        log = open_log(tmp_path, was_clean=was_clean, recovery_point=3 if was_clean else 0)
        assert log.append_as_leader(batch(3, producer_id=9), 0, NOW_MS).is_duplicate
        assert append(log, batch(producer_id=9, sequence=3)).base_offset == 3


def marker(is_commit: bool, producer_id: int = 11) -> memoryview:
    return memoryview(
        bytearray(
            build_end_transaction_marker(
                EndTransactionMarker(is_commit, 3),
                producer_id=producer_id,
                producer_epoch=0,
                timestamp_ms=NOW_MS,
            )
        )
    )


class TestTransactions:
    def test_an_aborted_one_is_indexed_with_its_marker(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        append(log, batch(2, producer_id=11, is_transactional=True), batch())
        assert log.first_unstable_offset == 0
        log.roll(NOW_MS)
        result = log.append_as_leader(marker(is_commit=False), 5, NOW_MS, AppendOrigin.COORDINATOR)
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 3)
        wanted = [AbortedTransaction(11, 0, 3, 4)]
        assert log.aborted_transactions(0, 4) == wanted
        assert log.aborted_transactions(1, 2) == wanted
        assert log.aborted_transactions(4, 9) == []
        log.producers.advance_high_watermark(4)
        assert log.first_unstable_offset is None
        log = open_log(tmp_path)
        assert log.aborted_transactions(0, 4) == wanted
        assert log.sealed_segments()[0].txn_index_path.exists() is False

    def test_a_committed_one_is_not(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        append(log, batch(2, producer_id=11, is_transactional=True))
        log.append_as_leader(marker(is_commit=True), 5, NOW_MS, AppendOrigin.COORDINATOR)
        assert log.aborted_transactions(0, 9) == []

    def test_markers_of_clients_are_refused(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        assert log.append_as_leader(marker(is_commit=True), 5, NOW_MS).error is ErrorCode.INVALID_RECORD


class TestFollower:
    def test_offsets_and_epochs_are_kept_and_a_cut_off_batch_is_left_out(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        whole = bytes(batch(2, base_offset=0, leader_epoch=3)) + bytes(batch(base_offset=2, leader_epoch=4))
        cut_off = bytes(batch(base_offset=3, leader_epoch=4))[:-5]
        result = log.append_as_follower(memoryview(bytearray(whole + cut_off)), NOW_MS)
        assert (result.error, result.base_offset, result.last_offset) == (ErrorCode.NONE, 0, 2)
        assert read_all(log) == whole
        assert log.epochs.entries == ((3, 0), (4, 2))

    def test_holes_are_kept(self, tmp_path: Path) -> None:
        """A compacted leader has them."""
        log = open_log(tmp_path, config(cleanup_policy=frozenset({"compact"})))
        records = bytes(batch(base_offset=5, leader_epoch=1)) + bytes(batch(base_offset=90, leader_epoch=1))
        log.append_as_follower(memoryview(bytearray(records)), NOW_MS)
        assert log.log_end_offset == 91
        assert read_all(log, 6) == records[len(records) // 2 :]

    @pytest.mark.parametrize("base_offset", [0, 1])
    def test_offsets_that_go_back_are_refused(self, tmp_path: Path, base_offset: int) -> None:
        log = open_log(tmp_path)
        append(log, batch(2))
        again = batch(base_offset=base_offset, leader_epoch=5)
        assert log.append_as_follower(again, NOW_MS).error is ErrorCode.CORRUPT_MESSAGE
        assert log.log_end_offset == 2

    def test_an_empty_reply(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        assert log.append_as_follower(memoryview(bytearray()), NOW_MS).error is ErrorCode.NONE
        assert log.log_end_offset == 0


class TestWhatIsDecidedBeforeTheWrite:
    @pytest.mark.parametrize("attributes", [b"\x80\x20", b"\x80\x30", b"\xff\xe0"])
    def test_a_control_bit_is_seen_under_any_sign(self, tmp_path: Path, attributes: bytes) -> None:
        log = open_log(tmp_path)
        hostile = changed(ATTRIBUTES_AT, attributes, producer_id=9)
        assert log.append_as_leader(hostile, 0, NOW_MS).error is ErrorCode.INVALID_RECORD
        assert append(log, batch(2, producer_id=9)).base_offset == 0

    def test_more_records_than_bytes(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        hostile = changed(COUNT_AT, (2**31 - 1).to_bytes(4, "big"))
        hostile[LAST_OFFSET_DELTA_AT : LAST_OFFSET_DELTA_AT + 4] = (2**31 - 2).to_bytes(4, "big")
        seal(hostile, 0, len(hostile))
        assert log.append_as_leader(hostile, 0, NOW_MS).error is ErrorCode.INVALID_RECORD

    def test_the_last_offsets(self, tmp_path: Path) -> None:
        start = 2**63 - 4
        log = open_log(tmp_path, log_start_offset=start, recovery_point=start)
        assert append(log, batch(2)).last_offset == start + 1
        assert log.append_as_leader(batch(2), 5, NOW_MS).error is ErrorCode.INVALID_RECORD
        assert append(log, batch()).last_offset == 2**63 - 2
        assert log.append_as_leader(batch(), 5, NOW_MS).error is ErrorCode.INVALID_RECORD
        beyond = batch(2, base_offset=2**63 - 1, leader_epoch=5)
        assert log.append_as_follower(beyond, NOW_MS).error is ErrorCode.CORRUPT_MESSAGE
        assert log.log_end_offset == 2**63 - 1

    @pytest.mark.parametrize("wanted", ["uncompressed", "gzip"])
    def test_a_rewritten_batch_is_measured_again(self, tmp_path: Path, wanted: str) -> None:
        records = [Record(b"k", Random(1).randbytes(400), NOW_MS)]  # gzip has more to say about it than zstd
        if wanted == "uncompressed":
            records = [Record(b"k", bytes(3000), NOW_MS)]
        packed = memoryview(build_batch(records, compression=Compression.ZSTD))
        log = open_log(tmp_path, config(compression_type=wanted, max_message_bytes=len(packed)))
        assert log.append_as_leader(packed, 0, NOW_MS).error is ErrorCode.MESSAGE_TOO_LARGE
        assert (log.log_end_offset, log.size_bytes) == (0, 0)

    def test_a_rewritten_batch_must_fit_a_segment(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(compression_type="uncompressed", segment_bytes=1000))
        packed = batch(value_bytes=2000, compression=Compression.GZIP)
        assert log.append_as_leader(packed, 0, NOW_MS).error is ErrorCode.RECORD_LIST_TOO_LARGE

    def test_a_follower_takes_no_older_epoch(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        append(log, batch(), leader_epoch=5)
        older = batch(base_offset=1, leader_epoch=4)
        assert log.append_as_follower(older, NOW_MS).error is ErrorCode.CORRUPT_MESSAGE
        log.assign_epoch(7)  # as a leader that wrote nothing: its entry goes
        assert log.append_as_follower(batch(base_offset=1, leader_epoch=6), NOW_MS).error is ErrorCode.NONE
        assert log.epochs.entries == ((5, 0), (6, 1))

    def test_a_follower_takes_what_fits_a_segment(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(cleanup_policy=frozenset({"compact"})))
        records = b"".join(bytes(batch(base_offset=n * 2**31, leader_epoch=1)) for n in range(3))
        for number in range(3):
            rest = memoryview(bytearray(records[number * len(records) // 3 :]))
            assert log.append_as_follower(rest, NOW_MS).last_offset == number * 2**31
        assert read_all(log) == records

    def test_a_stored_control_batch_that_nobody_can_read_is_stepped_over(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        hostile = changed(ATTRIBUTES_AT, b"\x80\x20", producer_id=9, leader_epoch=1)
        assert log.append_as_follower(hostile, NOW_MS).error is ErrorCode.NONE
        log.append_as_follower(batch(base_offset=2, leader_epoch=1), NOW_MS)
        stored = read_all(log)
        reopened = open_log(tmp_path)
        assert read_all(reopened) == stored
        assert reopened.log_end_offset == 3
        reopened.truncate_to(2, NOW_MS)
        assert reopened.log_end_offset == 2


def known_producers(log: Log) -> tuple[list[SnapshotEntry], list[EarlierBatch]]:
    entries, earlier = decode_whole_snapshot(log.producers.encode_snapshot())
    return sorted(entries), sorted(earlier)


@pytest.mark.parametrize("is_control", [False, True])
def test_transactions_of_any_producer_are_replayed_as_they_were_appended(
    tmp_path: Path, is_control: bool
) -> None:
    """A follower takes what a leader of another kind has let in, and a start reads the same state from the disk."""
    log = open_log(tmp_path)
    written = b""
    ends = [(-1, 0, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))) for bits in (64, 16, 32)]
    for values in product(*ends):
        hostile = marker(is_commit=False) if is_control else batch(is_transactional=True)
        struct.pack_into(">qhi", hostile, PRODUCER_ID_AT, *values)
        sound = batch(producer_id=100 + log.log_end_offset)
        for one in (hostile, sound):
            stamp(one, 0, log.log_end_offset, 5)
            seal(one, 0, len(one))
            assert log.append_as_follower(one, NOW_MS).error is ErrorCode.NONE, values
            written += one
    open_since, state = log.first_unstable_offset, known_producers(log)
    aborted = log.aborted_transactions(0, 1000)
    log.close_abruptly()
    log = open_log(tmp_path)
    assert read_all(log) == written
    assert (log.first_unstable_offset, known_producers(log)) == (open_since, state)
    assert log.aborted_transactions(0, 1000) == aborted
    log.close_clean()
    log = open_log(tmp_path, was_clean=True, recovery_point=128, high_watermark=128)
    assert (log.first_unstable_offset, known_producers(log)) == (open_since, state)
