"""Producers across a cut, and large snapshots: the same state as a replay of the log gives, without holding up the loop."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.log.logs import NOW_MS, FailingFilesystem, append, batch, config, fill, open_log, read_all
from tests.unit.log.test_append import marker
from tierlog.broker.following.apply_reply import is_cut_prepared
from tierlog.broker.replicas.partition import Partition
from tierlog.log.append import AppendOrigin
from tierlog.log.files.names import SNAPSHOT, segment_file
from tierlog.log.log import Log
from tierlog.log.producers import cuts as producer_cuts
from tierlog.log.producers import snapshots
from tierlog.log.producers.cuts import replay_for_cut
from tierlog.log.producers.snapshots import restore_producers
from tierlog.log.producers.state import ProducerState


def described(state: ProducerState) -> dict[int, tuple[object, ...]]:
    return {
        entry.producer_id: (
            entry.producer_epoch,
            entry.last_timestamp,
            entry.txn_first_offset,
            *entry.batches,
        )
        for entry in state.entries()
    }


def replayed(log: Log) -> ProducerState:
    state = ProducerState()
    restore_producers(log.filesystem, log.directory, log.segments, log.log_end_offset, NOW_MS, state)
    return state


def write(log: Log, rng: random.Random, count: int, producers: int) -> None:
    sequences: dict[int, int] = {}
    for entry in log.producers.entries():
        sequences[entry.producer_id] = entry.batches[-1].last_sequence + 1
    for _ in range(count):
        producer = rng.randint(-1, producers - 1)
        size = rng.randint(1, 3)
        append(log, batch(size, producer_id=producer, sequence=sequences.get(producer, 0), timestamp=NOW_MS))
        sequences[producer] = sequences.get(producer, 0) + size


@pytest.mark.parametrize("seed", range(12))
def test_the_state_after_a_cut_is_that_of_the_log(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_cuts, "INLINE_BYTES", 0)
    rng = random.Random(seed)
    log = open_log(tmp_path, config(segment_bytes=rng.choice([900, 10_000])))
    for _ in range(6):
        write(log, rng, rng.randint(5, 40), producers=rng.choice([1, 3, 10]))
        offset = rng.randint(max(1, log.log_end_offset - rng.choice([2, 40])), log.log_end_offset)
        replay = replay_for_cut(log, offset, NOW_MS)
        if replay is not None and rng.random() < 0.8:
            replay.run()
            log.replay = replay
        log.truncate_to(offset, NOW_MS)
        assert log.replay is None
        wanted = described(replayed(log))
        got = described(log.producers)
        assert got.keys() == wanted.keys()
        for producer, (epoch, time, txn, *batches) in wanted.items():
            # Of what a cut leaves, fewer may be remembered.
            assert got[producer][:3] == (epoch, time, txn)
            kept = got[producer][3:]
            assert kept
            assert list(kept) == batches[-len(kept) :]


def test_where_no_producer_is_cut_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    append(log, batch(producer_id=7))
    fill(log, 50)
    monkeypatch.setattr(producer_cuts, "restore_producers", None)
    assert replay_for_cut(log, 20, NOW_MS) is None
    log.truncate_to(20, NOW_MS)
    assert append(log, batch(producer_id=7, sequence=1)).base_offset == 20


def test_transactions_are_read_again(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    append(log, batch(2, producer_id=11, is_transactional=True))
    log.append_as_leader(marker(is_commit=False), 5, NOW_MS, AppendOrigin.COORDINATOR)
    log.truncate_to(2, NOW_MS)
    assert log.first_unstable_offset == 0


async def test_a_follower_cuts_when_the_thread_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_cuts, "INLINE_BYTES", 0)
    log = open_log(tmp_path)
    fill(log, 20)
    for number in range(9):
        append(log, batch(producer_id=5, sequence=number))
    partition = cast(Partition, SimpleNamespace(log=log))
    assert (
        is_cut_prepared(partition, 19, NOW_MS) is False
    )  # the producer is gone with all that is known of it
    running = log.replay
    while not is_cut_prepared(partition, 19, NOW_MS):
        assert log.replay is running
        await asyncio.sleep(0.001)
    assert is_cut_prepared(partition, 26, NOW_MS)  # five are remembered, two stay
    monkeypatch.setattr(producer_cuts, "restore_producers", None)
    log.truncate_to(19, NOW_MS)
    assert len(log.producers) == 0


class TestLargeSnapshots:
    @pytest.fixture(autouse=True)
    def small_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snapshots, "INLINE_PRODUCERS_MAX", 2)

    def test_they_are_written_with_the_flush_as_they_were(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        for producer in range(5):
            append(log, batch(producer_id=producer))
        wanted = log.producers.encode_snapshot()
        log.roll(NOW_MS)
        path = segment_file(log.directory, 5, SNAPSHOT)
        assert not path.exists()
        assert log.snapshots.is_pending(5)
        for producer in range(4):
            append(log, batch(producer_id=producer, sequence=1))
        log.producers.expire(NOW_MS * 2, 1)
        log.flush()
        assert path.read_bytes() == wanted
        assert not log.snapshots.is_pending(5)
        assert log.snapshots.due() == ()

    @pytest.mark.parametrize("is_late", [False, True])
    def test_a_cut_takes_them_away(self, tmp_path: Path, is_late: bool) -> None:
        log = open_log(tmp_path)
        for producer in range(5):
            append(log, batch(producer_id=producer))
        log.roll(NOW_MS)
        plan = log.flush_plan()
        assert plan is not None
        if not is_late:
            plan.run()
        log.truncate_to(3, NOW_MS)
        if is_late:
            plan.run()
        assert not segment_file(log.directory, 5, SNAPSHOT).exists()

    def test_one_that_was_never_written_is_made_from_the_log(self, tmp_path: Path) -> None:
        log = open_log(tmp_path)
        for producer in range(5):
            append(log, batch(producer_id=producer))
        log.roll(NOW_MS)
        wanted, content = described(log.producers), read_all(log)
        log.close_abruptly()
        log = open_log(tmp_path)
        assert (described(log.producers), read_all(log)) == (wanted, content)

    def test_a_log_that_is_gone_costs_no_disk(self, tmp_path: Path) -> None:
        log = open_log(tmp_path, filesystem=cast(Any, FailingFilesystem(lambda name: None)))
        for producer in range(5):
            append(log, batch(producer_id=producer))
        log.roll(NOW_MS)
        plan = log.flush_plan()
        assert plan is not None
        log.delete_directory(NOW_MS)
        plan.run()
