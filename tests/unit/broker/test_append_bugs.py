"""A bug behind the write of an append costs the request where the log could be made as it was, else the partition."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.log.logs import NOW_MS, PARTITION, TOPIC_ID, batch, open_log, read_all
from tierlog.broker import bugs
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.replicas.partition import Offline, Partition
from tierlog.errors import ErrorCode
from tierlog.log.producers.state import ProducerState
from tierlog.replication.leader import Leader


class Broken(Exception):
    pass


class Around:
    """A log dir with room, a flusher that is not asked, and an owner that breaks."""

    reserve_reached = False

    def __init__(self) -> None:
        self.high_watermarks: dict[object, int] = {}

    def request(self, partition: Partition) -> None:
        raise AssertionError("flush.mode is os")

    def on_writeback_due(self, partition: Partition) -> None:
        raise Broken


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Partition:
    monkeypatch.delenv(bugs.FATAL_VARIABLE, raising=False)
    around = cast(Any, Around())
    made = Partition(PARTITION, TOPIC_ID, open_log(tmp_path), cast(LogDir, around), around, around)
    made.leader = cast(Leader, LeaderAlone())
    made.leader_epoch = 3
    return made


class LeaderAlone:
    leader_epoch = 3
    accepts_all_acks = True
    high_watermark = 0

    def on_durable(self, end_offset: int) -> bool:
        self.high_watermark = end_offset
        return True


@pytest.mark.parametrize("is_for_good", [False, True])
def test_behind_the_write(partition: Partition, monkeypatch: pytest.MonkeyPatch, is_for_good: bool) -> None:
    assert partition.append(batch(2, producer_id=9), True, NOW_MS).error is ErrorCode.NONE
    before = read_all(partition.log)
    real, calls = ProducerState.update, 0

    def update(self: ProducerState, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1 or is_for_good:
            raise Broken
        real(self, *args)

    monkeypatch.setattr(ProducerState, "update", update)
    refused = partition.append(batch(2, producer_id=9, sequence=2), True, NOW_MS)
    monkeypatch.undo()
    path = partition.log.segments.active.path(".log")
    assert path.read_bytes() == before, "the file was cut back"
    again = partition.append(batch(2, producer_id=9, sequence=2), True, NOW_MS)
    if is_for_good:
        assert refused.error is ErrorCode.KAFKA_STORAGE_ERROR
        assert partition.offline is Offline.BUG
        assert again.error is ErrorCode.KAFKA_STORAGE_ERROR
    else:
        assert refused.error is ErrorCode.UNKNOWN_SERVER_ERROR
        assert partition.offline is None
        assert (again.error, again.base_offset) == (ErrorCode.NONE, 2)


def test_who_is_told_of_an_append(partition: Partition) -> None:
    partition.writeback_bytes = 0
    assert partition.append(batch(), True, NOW_MS).error is ErrorCode.KAFKA_STORAGE_ERROR
    assert partition.offline is Offline.BUG
