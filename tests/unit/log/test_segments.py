"""Rolling, sealing, deleting, truncating, starting over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.log.logs import NOW_MS, append, batch, config, fill, headers, open_log, read_all
from tierlog.log.producers.snapshots import load_snapshot, snapshot_offsets
from tierlog.types import EpochEntry

SIZE = len(batch())


def names(directory: Path) -> set[str]:
    return set(os.listdir(directory))


class TestRoll:
    def test_by_size(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(segment_bytes=2 * SIZE))
        fill(log, 5)
        assert [segment.base_offset for segment in log.segments] == [0, 2, 4]

    def test_by_record_time(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(segment_ms=100, message_timestamp_after_max_ms=10**9))
        append(log, batch(timestamp=NOW_MS), batch(timestamp=NOW_MS + 100))
        assert log.segment_count == 1
        append(log, batch(timestamp=NOW_MS + 101))
        assert log.active_base_offset == 2

    def test_by_age_where_records_have_no_time(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(segment_ms=100))
        append(log, batch(timestamp=-1), now_ms=NOW_MS)
        append(log, batch(timestamp=-1), now_ms=NOW_MS + 100)
        assert log.segment_count == 1
        append(log, batch(timestamp=-1), now_ms=NOW_MS + 101)
        assert log.segment_count == 2

    def test_by_a_full_index(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(segment_index_bytes=48, index_interval_bytes=0))
        for number in range(20):
            append(log, batch(timestamp=NOW_MS + number))
        assert [segment.base_offset for segment in log.segments] == [0, 4, 8, 12, 16]

    def test_by_offsets_beyond_32_bits(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(cleanup_policy=frozenset({"compact"})))
        log.append_as_follower(batch(base_offset=5, leader_epoch=0), NOW_MS)
        log.append_as_follower(batch(base_offset=2**31 - 1, leader_epoch=0), NOW_MS)
        assert log.segment_count == 1
        log.append_as_follower(batch(base_offset=2**31, leader_epoch=0), NOW_MS)
        assert [segment.base_offset for segment in log.segments] == [0, 2**31]

    def test_an_empty_segment_with_a_base_too_low_is_replaced(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(cleanup_policy=frozenset({"compact"})))
        log.append_as_follower(batch(base_offset=2**40, leader_epoch=0), NOW_MS)
        assert [segment.base_offset for segment in log.segments] == [2**40]
        log.close_clean()
        assert log.segments.active.path(".log").exists()
        again = open_log(tmp_path, log.config)
        assert again.log_end_offset == 2**40 + 1

    def test_when_due_by_the_clock(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(segment_ms=1000))
        assert not log.roll_if_due(NOW_MS + 5000)
        fill(log, 1, timestamp=5)
        assert not log.roll_if_due(NOW_MS + 1000)
        assert log.roll_if_due(NOW_MS + 1001)
        assert log.active_base_offset == 1

    def test_jitter_is_bounded_and_repeatable(self, tmp_path: Path) -> None:
        topic = config(segment_ms=1000, segment_jitter_ms=500)
        log = open_log(tmp_path, topic)
        jitters = []
        for _ in range(5):
            fill(log, 1)
            log.roll(NOW_MS)
            jitters.append(log.segments.active.roll_jitter_ms)
        assert len(set(jitters)) > 1
        assert all(0 <= jitter < 500 for jitter in jitters)

    def test_an_empty_segment_is_not_rolled(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        log.roll(NOW_MS)
        assert log.segment_count == 1


def test_sealed_segments_say_what_the_tier_needs(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=3 * SIZE, index_interval_bytes=SIZE))
    for number in range(7):
        append(log, batch(timestamp=NOW_MS + number * 10))
    first, second = log.sealed_segments()
    assert (first.base_offset, first.end_offset, first.size_bytes, first.max_timestamp) == (
        0,
        3,
        3 * SIZE,
        NOW_MS + 20,
    )
    assert (second.base_offset, second.end_offset) == (3, 6)
    assert first.log_path.stat().st_size == first.size_bytes
    assert first.snapshot_path.name == "00000000000000000003.snapshot"
    assert first.snapshot_path.exists()
    assert first.offset_index_path.stat().st_size == 8
    assert first.time_index_path.stat().st_size == 12  # sealing adds none: the last batch was indexed
    assert not first.txn_index_path.exists()


@pytest.mark.parametrize("is_tiered", [False, True])
def test_deletion_renames_now_and_unlinks_later(tmp_path: Path, is_tiered: bool) -> None:
    log = open_log(
        tmp_path, config(segment_bytes=2 * SIZE, remote_storage_enable=is_tiered, file_delete_delay_ms=500)
    )
    fill(log, 7)
    assert log.delete_segments_below(1, NOW_MS) == []
    due = log.delete_segments_below(5, NOW_MS)
    assert {later.due_ms for later in due} == {NOW_MS + 500}
    assert all(later.path.exists() and later.path.name.endswith(".deleted") for later in due)
    assert len(due) == 2 * 3 + 1  # .log, .index, .timeindex each and the snapshot at 2
    assert (log.log_start_offset, log.local_log_start_offset) == ((0, 4) if is_tiered else (4, 4))
    assert log.size_bytes == 3 * SIZE
    again = open_log(tmp_path, log.config)
    assert (again.log_start_offset, again.local_log_start_offset) == ((0, 4) if is_tiered else (4, 4))
    assert not any(later.path.exists() for later in due)


def test_the_active_segment_is_never_deleted(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=2 * SIZE))
    fill(log, 4)
    log.delete_segments_below(10**9, NOW_MS)
    assert (log.local_log_start_offset, log.segment_count) == (2, 1)


def test_log_start_inside_a_segment(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    append(log, batch(5), leader_epoch=1)
    append(log, batch(5), leader_epoch=2)
    assert log.advance_log_start_offset(6)
    assert not log.advance_log_start_offset(6)
    assert log.epochs.entries == ((2, 6),)
    again = open_log(tmp_path, log_start_offset=6)
    assert (again.log_start_offset, again.local_log_start_offset) == (6, 6)


class TestTruncate:
    @pytest.mark.parametrize("offset", range(1, 12))
    def test_to_any_offset(self, tmp_path: Path, offset: int) -> None:
        log = open_log(tmp_path, config(segment_bytes=3 * SIZE, index_interval_bytes=0))
        for number in range(12):
            append(
                log,
                batch(producer_id=9, sequence=number, timestamp=NOW_MS + number),
                leader_epoch=number // 4,
            )
        log.flush()
        assert log.truncate_to(offset, NOW_MS)
        assert (log.log_end_offset, log.recovery_point) == (offset, offset)
        assert [header.base_offset for header in headers(read_all(log))] == list(range(offset))
        assert log.latest_epoch == (offset - 1) // 4
        assert max(snapshot_offsets(log.directory), default=0) <= offset
        assert log.max_timestamp() == (NOW_MS + offset - 1, offset - 1, log.latest_epoch)
        assert append(log, batch(producer_id=9, sequence=offset)).base_offset == offset
        assert not log.truncate_to(offset + 1, NOW_MS)
        again = open_log(tmp_path, log.config)
        assert (again.log_end_offset, again.is_lossy) == (offset + 1, False)

    def test_inside_a_batch_cuts_the_batch(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        fill(log, 2, count=5)
        log.truncate_to(7, NOW_MS)
        assert log.log_end_offset == 5

    def test_positions_learnt_before_are_forgotten(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        fill(log, 6)
        assert len(headers(read_all(log, max_bytes=SIZE))) == 6
        log.truncate_to(2, NOW_MS)
        append(log, batch(3, value_bytes=300), batch(2))
        for offset in range(7):
            located = log.locate(offset, 1, 7)
            assert located is not None
            header = headers(log.read(located))[0]
            assert header.base_offset <= offset <= header.last_offset

    def test_below_everything_local(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, config(segment_bytes=2 * SIZE))
        fill(log, 6)
        log.delete_segments_below(4, NOW_MS)
        log.truncate_to(3, NOW_MS)
        assert (log.log_start_offset, log.log_end_offset, log.segment_count) == (3, 3, 1)
        assert append(log, batch()).base_offset == 3


class TestStartOver:
    def test_with_lineage_and_producers_of_the_tier(self, tmp_path: Path) -> None:
        source = open_log(tmp_path)
        append(source, batch(3, producer_id=9))
        source.roll(NOW_MS)
        snapshot = source.sealed_segments()[0].snapshot_path.read_bytes()
        target_dir = tmp_path / "target"
        target_dir.mkdir()
        log = open_log(target_dir, config(remote_storage_enable=True))
        fill(log, 2)
        log.truncate_fully_and_start_at(
            3,
            NOW_MS,
            [EpochEntry(0, 0), EpochEntry(4, 2)],
            load_snapshot(snapshot, 3, NOW_MS),
            set_aside=True,
        )
        assert (log.log_start_offset, log.local_log_start_offset, log.log_end_offset) == (0, 3, 3)
        assert log.epochs.entries == ((0, 0), (4, 2))
        assert log.append_as_leader(batch(3, producer_id=9), 5, NOW_MS).is_duplicate
        assert append(log, batch(producer_id=9, sequence=3)).base_offset == 3
        aside = log.directory / f"set-aside-{NOW_MS}"
        assert (aside / "00000000000000000000.log").stat().st_size == 2 * SIZE
        again = open_log(target_dir, log.config)
        assert (again.local_log_start_offset, again.log_end_offset) == (3, 4)
        assert again.epochs.entries == ((0, 0), (4, 2), (5, 3))

    def test_without_the_tier_the_log_start_moves(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        fill(log, 2)
        log.truncate_fully_and_start_at(9, NOW_MS)
        assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (9, 9, 0)
        assert {name for name in names(log.directory) if name.endswith(".log")} == {
            "00000000000000000009.log"
        }


def test_preallocation_is_cut_off_at_seal_and_close(tmp_path: Path) -> None:
    log = open_log(tmp_path, config(segment_bytes=2 * SIZE + 50, preallocate=True))
    fill(log, 3)
    first, second = log.segments
    assert first.path(".log").stat().st_size == 2 * SIZE
    assert second.path(".log").stat().st_size == 2 * SIZE + 50
    log.close_abruptly()
    log = open_log(tmp_path, log.config)
    assert (log.log_end_offset, log.is_lossy) == (3, False)
    log.close_clean()
    assert log.segments.active.path(".log").stat().st_size == SIZE


def test_topic_deletion(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 1)
    later = log.delete_directory(NOW_MS)
    assert later.path.is_dir()
    assert later.path.name.startswith("flights-3.")
    assert later.path.name.endswith("-delete")
    assert not log.directory.exists()
