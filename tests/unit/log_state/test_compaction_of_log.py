"""Compaction on the real log: planned, run, swapped in, read back and recovered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tierlog.config.topic import TopicConfig
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendOrigin
from tierlog.log.compaction.run import compaction_run, plan_of
from tierlog.log.log import Log
from tierlog.records.batch import walk
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch, read_records
from tierlog.types import TopicPartition

CONFIG = TopicConfig(cleanup_policy=frozenset({"compact"}), segment_bytes=4000, index_interval_bytes=100)
TOPIC_PARTITION = TopicPartition("compacted", 0)


def open_log(directory: Path, *, was_clean: bool = False, config: TopicConfig = CONFIG) -> Log:
    return Log.open(directory, TOPIC_PARTITION, bytes(16), config, now_ms=0, was_clean=was_clean)


def compact(log: Log, checkpoint_offset: int | None, now_ms: int = 0) -> int:
    run = compaction_run(log, checkpoint_offset, log.log_end_offset, now_ms)
    assert run is not None
    for cleaned in run.steps():
        if cleaned is not None:
            for unlink in log.replace_segments([cleaned], now_ms):
                unlink.path.unlink()
    return run.end_offset


def contents(log: Log) -> dict[bytes, tuple[int, bytes]]:
    """Last value of each key, by fetches of small size from the start on; offsets must ascend."""
    found: dict[bytes, tuple[int, bytes]] = {}
    offset = log.local_log_start_offset
    last_read = -1
    while (slice_ := log.locate(offset, 700, log.log_end_offset)) is not None:
        data = log.read(slice_)
        for pos, header in walk(data):
            for record in read_records(data, pos, header):
                assert record.offset > last_read
                last_read = record.offset
                if not header.is_control:
                    found[bytes(record.key or b"")] = (record.offset, bytes(record.value or b""))
            offset = header.next_offset
    return found


def test_compacted_log_is_small_and_reads_the_same(tmp_path: Path) -> None:
    log = open_log(tmp_path / "compacted-0")
    for i in range(500):
        batch = build_batch([Record(b"%d" % (i % 20), b"value %d" % i, 1000 + i)])
        assert log.append_as_leader(memoryview(batch), 0, 0).error is ErrorCode.NONE
    before, sealed = contents(log), log.segment_count
    assert sealed > 5
    first_dirty = compact(log, None)
    assert log.segment_count == 2
    assert contents(log) == before
    assert plan_of(log, first_dirty, log.log_end_offset, 0) is None, "nothing is dirty any more"
    found = log.offset_for_timestamp(1490)
    assert found is not None and found.offset == 490
    log.close_abruptly()
    for was_clean in (False, True):
        log = open_log(tmp_path / "compacted-0", was_clean=was_clean)
        assert contents(log) == before and log.log_end_offset == 500
        log.close_clean()


def test_producers_and_aborted_transactions_survive_compaction_and_recovery(tmp_path: Path) -> None:
    log = open_log(tmp_path / "compacted-0", config=replace(CONFIG, segment_bytes=400))

    def produce(
        key: bytes, value: bytes, producer_id: int, sequence: int, is_transactional: bool
    ) -> ErrorCode:
        batch = build_batch(
            [Record(key, value, 1)],
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
            is_transactional=is_transactional,
        )
        return log.append_as_leader(memoryview(batch), 0, 0).error

    for i in range(10):
        assert produce(b"a", b"%d" % i, 1, i, False) is ErrorCode.NONE
        assert produce(b"a", b"aborted", 2, i, True) is ErrorCode.NONE
        marker = build_end_transaction_marker(
            EndTransactionMarker(False, 0), producer_id=2, producer_epoch=0, timestamp_ms=1
        )
        assert (
            log.append_as_leader(memoryview(marker), 0, 0, AppendOrigin.COORDINATOR).error is ErrorCode.NONE
        )
    assert produce(b"b", b"other", 3, 0, False) is ErrorCode.NONE
    log.roll(0)
    assert log.first_unstable_offset is not None
    log.producers.advance_high_watermark(log.log_end_offset)
    compact(log, None)
    assert contents(log) == {b"a": (27, b"9"), b"b": (30, b"other")}
    assert log.aborted_transactions(0, 31), "their index entries stay while their markers do"
    log.close_abruptly()
    log = open_log(tmp_path / "compacted-0")
    assert produce(b"a", b"gap", 1, 11, False) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert produce(b"a", b"gap", 2, 11, True) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert produce(b"a", b"next", 1, 10, False) is ErrorCode.NONE
    assert produce(b"a", b"next", 2, 10, True) is ErrorCode.NONE
    log.close_abruptly()
