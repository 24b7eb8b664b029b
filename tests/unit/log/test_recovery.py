"""Starts: clean ones that scan nothing, unclean ones, torn tails, damage, files that are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.log.logs import NOW_MS, PARTITION, append, batch, config, fill, headers, open_log, read_all
from tierlog.errors import StorageError
from tierlog.log.log import Log
from tierlog.log.opening import holes, loading
from tierlog.log.opening.recovery import Recovery

SIZE = len(batch())
EVERY_BATCH = config(index_interval_bytes=0)
INTERVAL = config(index_interval_bytes=2 * SIZE, segment_bytes=5 * SIZE)


def active_path(log: Log) -> Path:
    return log.segments.active.path(".log")


def stop(log: Log) -> Path:
    log.close_abruptly()
    return active_path(log)


def corrupt_files(log: Log) -> list[Path]:
    return sorted(log.directory.glob("*.corrupt"))


def test_a_clean_start_scans_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path, INTERVAL)
    for number in range(23):
        append(log, batch(producer_id=4, sequence=number), leader_epoch=number // 10)
    wanted, epochs = read_all(log), log.epochs
    log.close_clean()

    def never(*args: object) -> bool:
        raise AssertionError("recovered")

    monkeypatch.setattr(Recovery, "recover", never)
    monkeypatch.setattr(loading, "rebuild_indexes", never)
    log = open_log(tmp_path, INTERVAL, was_clean=True, recovery_point=23, high_watermark=23)
    assert (log.log_end_offset, log.recovery_point, log.is_lossy) == (23, 23, False)
    assert log.epochs == epochs
    assert read_all(log) == wanted
    assert append(log, batch(producer_id=4, sequence=23)).base_offset == 23


def test_only_segments_from_the_recovery_point_on_are_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path, INTERVAL)
    fill(log, 12)
    log.flush()
    fill(log, 11)
    stop(log)
    proved = []
    real = Recovery.recover

    def noted(self: Recovery, segment: object) -> bool:
        proved.append(segment.base_offset)  # type: ignore[attr-defined]
        return real(self, segment)  # type: ignore[arg-type]

    monkeypatch.setattr(Recovery, "recover", noted)
    log = open_log(tmp_path, INTERVAL, recovery_point=12)
    assert proved == [10, 15, 20]
    assert log.log_end_offset == 23


@pytest.mark.parametrize("tail", [b"\0" * 500, b"\xff" * 70, b"x", bytes(batch(base_offset=3))[:-1]])
def test_a_torn_tail_is_cut(tmp_path: Path, tail: bytes) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    path = stop(log)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    log = open_log(tmp_path)
    assert (log.log_end_offset, log.is_lossy) == (3, False)
    assert path.read_bytes() == whole
    assert corrupt_files(log) == []


@pytest.mark.parametrize("cut", range(1, SIZE))
def test_a_last_batch_of_any_length(tmp_path: Path, cut: int) -> None:
    log = open_log(tmp_path)
    fill(log, 2)
    path = stop(log)
    path.write_bytes(path.read_bytes()[:-cut])
    log = open_log(tmp_path)
    assert (log.log_end_offset, log.size_bytes, log.is_lossy) == (1, SIZE, False)
    assert append(log, batch()).base_offset == 1


@pytest.mark.parametrize("at", [9, 16, 17, 30, 60, SIZE - 1])
def test_damage_with_good_batches_behind_it_is_kept_and_lossy(tmp_path: Path, at: int) -> None:
    log = open_log(tmp_path)
    fill(log, 5)
    path = stop(log)
    data = bytearray(path.read_bytes())
    data[2 * SIZE + at] ^= 0x55
    path.write_bytes(data)
    log = open_log(tmp_path)
    assert (log.log_end_offset, log.is_lossy) == (2, True)
    assert "damaged" in log.lossy_reason
    (kept,) = corrupt_files(log)
    assert kept.name == "00000000000000000002.corrupt"
    assert kept.read_bytes() == data[2 * SIZE :]


def test_damage_in_an_older_segment_sets_the_rest_aside(tmp_path: Path) -> None:
    log = open_log(tmp_path, INTERVAL)
    fill(log, 13)
    stop(log)
    path = log.segments.first.path(".log")
    data = bytearray(path.read_bytes())
    data[3 * SIZE + 40] ^= 1
    path.write_bytes(data)
    log = open_log(tmp_path, INTERVAL)
    assert (log.log_end_offset, log.segment_count, log.is_lossy) == (3, 1, True)
    assert [int(kept.name[:20]) for kept in corrupt_files(log)] == [3, 5, 10]
    assert sum(kept.stat().st_size for kept in corrupt_files(log)) == 10 * SIZE
    assert append(log, batch()).base_offset == 3
    stop(log)
    log = open_log(tmp_path, INTERVAL)
    assert log.log_end_offset == 4


def test_damage_twice_keeps_both(tmp_path: Path) -> None:
    for _ in range(2):
        log = open_log(tmp_path)
        fill(log, 3 - log.log_end_offset)
        path = stop(log)
        data = bytearray(path.read_bytes())
        data[SIZE + 40] ^= 1
        path.write_bytes(data)
        log = open_log(tmp_path)
        assert log.log_end_offset == 1
    assert len(corrupt_files(log)) == 2


@pytest.mark.parametrize(
    "second",
    [
        batch(base_offset=0, leader_epoch=5),  # backwards
        batch(base_offset=1, leader_epoch=4),  # an older epoch
        batch(base_offset=1 << 31, leader_epoch=5),  # farther from its segment than an index can tell
        batch(base_offset=(1 << 63) - 1, leader_epoch=5),
    ],
)
def test_batches_that_do_not_go_on(tmp_path: Path, second: memoryview) -> None:
    log = open_log(tmp_path, EVERY_BATCH)
    fill(log, 1)
    path = stop(log)
    path.write_bytes(path.read_bytes() + bytes(second))
    log = open_log(tmp_path, EVERY_BATCH)
    assert log.log_end_offset == 1


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_hole_between_segments_ends_the_log(tmp_path: Path, kept: int) -> None:
    """A power loss may take the end of a segment and leave the next one whole."""
    log = open_log(tmp_path, INTERVAL)
    fill(log, 13)
    stop(log)
    path = log.segments.floor(5).path(".log")
    path.write_bytes(path.read_bytes()[: kept * SIZE])
    log = open_log(tmp_path, INTERVAL)
    assert (log.log_end_offset, log.is_lossy) == (5 + kept, True)
    assert [int(found.name[:20]) for found in corrupt_files(log)] == [10]
    assert append(log, batch()).base_offset == 5 + kept
    stop(log)
    again = open_log(tmp_path, INTERVAL)
    assert (again.log_end_offset, again.is_lossy) == (6 + kept, False)


COMPACT = frozenset({"compact"})


def copy_with_holes(log: Log, *offsets: int) -> None:
    for offset in offsets:
        log.append_as_follower(batch(base_offset=offset, leader_epoch=0), NOW_MS)


@pytest.mark.parametrize("policy", [{"compact"}, {"delete"}, {"compact", "delete"}])
@pytest.mark.parametrize("synced", [0, 1, 91])
def test_holes_that_were_right_stay_right(tmp_path: Path, policy: set[str], synced: int) -> None:
    """Within a segment and between two, whatever the policy is after the stop."""
    log = open_log(tmp_path, replace(INTERVAL, cleanup_policy=COMPACT))
    copy_with_holes(log, *range(0, 92, 5), 92, 101)
    assert log.segment_count > 3
    stop(log)
    log = open_log(
        tmp_path,
        replace(INTERVAL, cleanup_policy=frozenset(policy)),
        recovery_point=synced,
        high_watermark=90,
    )
    assert (log.log_end_offset, log.is_lossy, corrupt_files(log)) == (102, False, [])
    assert [header.base_offset for header in headers(read_all(log))] == [*range(0, 92, 5), 92, 101]


def test_holes_between_segments_are_damage_again_where_the_log_was_cut(tmp_path: Path) -> None:
    log = open_log(tmp_path, INTERVAL)
    copy_with_holes(log, *range(0, 92, 5))
    log.truncate_to(10, NOW_MS)
    fill(log, 13)
    stop(log)
    path = log.segments.after(log.segments.first).path(".log")  # type: ignore[union-attr]
    path.write_bytes(path.read_bytes()[:SIZE])
    log = open_log(tmp_path, INTERVAL)
    assert log.is_lossy
    assert log.log_end_offset < 20


def test_an_unreadable_note_of_holes_counts_as_none(tmp_path: Path) -> None:
    log = open_log(tmp_path, INTERVAL)
    copy_with_holes(log, *range(0, 92, 5))
    stop(log)
    path = log.directory / holes.FILE_NAME
    assert path.exists()
    path.write_text("0\n9")
    log = open_log(tmp_path, INTERVAL)
    assert (log.log_end_offset, log.is_lossy) == (21, True)


@pytest.mark.parametrize("known", ["recovery_point", "high_watermark"])
@pytest.mark.parametrize("was_clean", [True, False])
def test_an_emptied_directory_is_lossy(tmp_path: Path, known: str, was_clean: bool) -> None:
    log = open_log(tmp_path, was_clean=was_clean, **{known: 7})  # type: ignore[arg-type]
    assert (log.log_end_offset, log.is_lossy) == (0, True)
    assert "has held 7" in log.lossy_reason


def test_a_log_below_its_own_start_starts_over(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    stop(log)
    log = open_log(tmp_path, log_start_offset=10)
    assert (log.log_start_offset, log.log_end_offset, log.segment_count) == (10, 10, 1)
    assert append(log, batch()).base_offset == 10


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("how", ["missing", "torn", "zeros"])
def test_unusable_indexes_are_rebuilt(tmp_path: Path, suffix: str, how: str) -> None:
    log = open_log(tmp_path, INTERVAL)
    for number in range(12):
        append(log, batch(timestamp=NOW_MS + number))
    log.close_clean()
    path = log.segments.first.path(suffix)
    wanted = path.read_bytes()
    assert wanted
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(wanted[:-3] if how == "torn" else wanted + bytes(len(wanted)))
    log = open_log(tmp_path, INTERVAL, was_clean=True, recovery_point=12)
    if suffix == ".index" or how != "zeros":
        assert path.read_bytes() == wanted
    assert log.log_end_offset == 12
    assert len(headers(read_all(log, 3))) == 9
    assert log.offset_for_timestamp(NOW_MS + 3) == (NOW_MS + 3, 3, 5)


def test_an_index_that_is_rebuilt_ends_before_offsets_that_it_cannot_hold(tmp_path: Path) -> None:
    log = open_log(tmp_path, INTERVAL)
    fill(log, 12)
    log.close_clean()
    first = log.segments.first
    data = bytearray(first.path(".log").read_bytes())
    data[3 * SIZE : 3 * SIZE + 8] = b"\x7f" + b"\xff" * 7
    first.path(".log").write_bytes(data)
    first.path(".index").unlink()
    log = open_log(tmp_path, EVERY_BATCH, was_clean=True, recovery_point=12)
    assert log.log_end_offset == 12
    assert log.segments.first.offset_index.count == 2
    assert len(headers(read_all(log, 5))) == 7


def test_a_transaction_index_is_rebuilt_too(tmp_path: Path) -> None:
    from tests.unit.log.test_append import marker
    from tierlog.log.append import AppendOrigin

    log = open_log(tmp_path)
    append(log, batch(2, producer_id=11, is_transactional=True))
    log.roll(NOW_MS)
    log.append_as_leader(marker(is_commit=False), 5, NOW_MS, AppendOrigin.COORDINATOR)
    log.roll(NOW_MS)
    wanted = log.aborted_transactions(0, 3)
    assert len(wanted) == 1
    log.close_clean()
    (path,) = log.directory.glob("*.txnindex")
    path.write_bytes(path.read_bytes()[:-1])
    log = open_log(tmp_path, was_clean=True, recovery_point=3)
    assert log.aborted_transactions(0, 3) == wanted


@pytest.mark.parametrize("was_clean", [True, False])
@pytest.mark.parametrize("content", [None, "", "0\n2\n1 0\n", "7\n0\n", "nonsense", "0\n3\n0 0\n1 4\n2 8"])
def test_the_epoch_lineage_is_rebuilt_from_headers(
    tmp_path: Path, content: str | None, was_clean: bool
) -> None:
    log = open_log(tmp_path, INTERVAL)
    for number in range(12):
        append(log, batch(), leader_epoch=number // 4)
    log.close_clean()
    path = log.directory / "leader-epoch-checkpoint"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    log = open_log(tmp_path, INTERVAL, was_clean=was_clean, recovery_point=12)
    assert log.epochs.entries == ((0, 0), (1, 4), (2, 8))


@pytest.mark.parametrize("was_clean", [True, False])
@pytest.mark.parametrize("broken", [(), (20,), (20, 15), (20, 15, 10, 5)])
def test_producers_come_from_older_snapshots_or_the_log(
    tmp_path: Path, broken: tuple[int, ...], was_clean: bool
) -> None:
    log = open_log(tmp_path, INTERVAL)
    for number in range(20):
        append(log, batch(producer_id=4, sequence=number))
    log.close_clean()
    for offset in broken:
        path = log.directory / f"{offset:020d}.snapshot"
        path.write_bytes(path.read_bytes()[:-2])
    log = open_log(tmp_path, INTERVAL, was_clean=was_clean, recovery_point=20)
    assert log.append_as_leader(batch(producer_id=4, sequence=19), 5, NOW_MS).is_duplicate
    assert append(log, batch(producer_id=4, sequence=20)).base_offset == 20


def test_snapshots_of_lost_offsets_are_not_believed(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(5):
        append(log, batch(producer_id=4, sequence=number))
    log.close_clean()
    path = active_path(log)
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) * 3 // 5])
    log = open_log(tmp_path, recovery_point=0)
    assert log.log_end_offset == 3
    assert append(log, batch(producer_id=4, sequence=3)).base_offset == 3


def test_leftovers_are_removed(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 2)
    log.close_clean()
    left = ["00000000000000000000.log.deleted", "leader-epoch-checkpoint.tmp", "00000000000000000009.index"]
    for name in left:
        (log.directory / name).write_bytes(b"left")
    (log.directory / "keep-me").write_bytes(b"not ours")
    log = open_log(tmp_path, was_clean=True, recovery_point=2)
    assert not any((log.directory / name).exists() for name in left)
    assert (log.directory / "keep-me").exists()


def test_a_directory_of_another_topic_is_refused(tmp_path: Path) -> None:
    open_log(tmp_path)
    with pytest.raises(StorageError, match="another topic"):
        Log.open(tmp_path / str(PARTITION), PARTITION, bytes(16), config(), now_ms=NOW_MS, was_clean=True)
