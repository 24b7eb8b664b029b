"""Whatever fails behind the write of an append, at whatever line: what was acknowledged is in the log at its offset, once,
and nothing that was not; or the log takes no more appends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import tierlog.log
from tests.unit.log.logs import NOW_MS, FailingFilesystem, append, batch, config, headers, open_log, read_all
from tests.unit.log.test_append import marker
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.append import AppendOrigin, AppendResult
from tierlog.log.files.filesystem import REAL
from tierlog.log.log import Log
from tierlog.records.batch import stamp

LOG_ROOM = str(Path(tierlog.log.__file__).parent)
TOPIC = config(segment_bytes=2000, index_interval_bytes=1)
EPOCH = 5


class Broken(Exception):
    """What no step expects."""


class RaiseAfterWrite(FailingFilesystem):
    """Raises ``error`` at the ``at``-th line of the log's code that runs after the write of records; from there on at
    each call of a function, where ``goes_on``."""

    def __init__(self, error: type[BaseException], at: int, goes_on: bool) -> None:
        super().__init__(lambda name: None)
        self.error = error
        self.at = at
        self.goes_on = goes_on
        self.lines = 0
        self.is_armed = False
        self.where = ""

    def pwrite(self, fd: int, data: Any, position: int) -> int:  # type: ignore[override]
        written = os.pwrite(fd, data, position)
        if self.is_armed and os.readlink(f"/proc/self/fd/{fd}").endswith(".log"):
            self.is_armed = False
            frame = sys._getframe()
            while frame.f_back is not None and frame.f_back.f_code.co_filename.startswith(
                (LOG_ROOM, __file__)
            ):
                frame = frame.f_back
                if frame.f_code.co_filename.startswith(LOG_ROOM):
                    frame.f_trace = self.trace
            sys.settrace(self.trace)
        return written

    def trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(LOG_ROOM):
            return None
        if self.where and self.goes_on and event == "call" and frame.f_code.co_name != "truncate":
            raise self.error("again")
        # What ``log.py`` does after that only builds the answer.
        if event == "line" and not self.where and not frame.f_code.co_filename.endswith("log.py"):
            self.lines += 1
            if self.lines == self.at:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise self.error(self.where)
        return self.trace


def leads(log: Log) -> AppendResult:
    return log.append_as_leader(batch(2, producer_id=9, sequence=2), EPOCH + 1, NOW_MS)


def copies(log: Log) -> AppendResult:
    records = bytearray(batch(2, producer_id=9, sequence=2))
    stamp(records, 0, log.log_end_offset, EPOCH + 1)
    return log.append_as_follower(memoryview(records), NOW_MS)


def aborts(log: Log) -> AppendResult:
    return log.append_as_leader(marker(is_commit=False), EPOCH + 1, NOW_MS, AppendOrigin.COORDINATOR)


def rolls(log: Log) -> AppendResult:
    return log.append_as_leader(batch(2, value_bytes=700), EPOCH, NOW_MS)


def state_of(log: Log) -> tuple[object, ...]:
    largest = max(segment.max_timestamp for segment in log.segments)
    return log.producers.encode_snapshot(), log.epochs.entries, log.size_bytes, largest


def broken_append(
    log_dir: Path, act: Callable[[Log], AppendResult], error: type[BaseException], at: int, goes_on: bool
) -> RaiseAfterWrite:
    filesystem = RaiseAfterWrite(error, at, goes_on)
    log = open_log(log_dir, TOPIC, filesystem=filesystem)
    append(log, batch(2, producer_id=9), batch(producer_id=11, is_transactional=True), batch(value_bytes=600))
    before, end_offset = read_all(log), log.log_end_offset
    state = state_of(log)
    result: AppendResult | None = None
    filesystem.is_armed = True
    tracing = sys.gettrace()
    try:
        result = act(log)
    except (Broken, StorageError, MemoryError):
        pass
    finally:
        sys.settrace(tracing)
    if result is None and not log.is_broken:
        assert log.log_end_offset == end_offset, filesystem.where
        assert read_all(log) == before, filesystem.where
        assert state_of(log) == state, filesystem.where
    acknowledged = before
    if log.is_broken:
        assert goes_on, filesystem.where
        assert log.segments.active.path(".log").stat().st_size + sum(
            segment.size_bytes for segment in log.segments.sealed()
        ) == len(before), "it was cut back all the same"
        with pytest.raises(AssertionError):
            log.append_as_leader(batch(), EPOCH + 1, NOW_MS)
    else:
        assert result is None or result.error is ErrorCode.NONE
        append(log, batch(3, producer_id=12), batch(value_bytes=600), leader_epoch=EPOCH + 1)
        acknowledged = read_all(log)
    log.close_abruptly()
    reopened = open_log(log_dir, TOPIC, filesystem=REAL)
    assert read_all(reopened) == acknowledged, filesystem.where
    offsets = [header.base_offset for header in headers(acknowledged)]
    assert offsets == sorted(set(offsets))
    assert not list(log_dir.rglob("*.corrupt"))
    return filesystem


@pytest.mark.parametrize("goes_on", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("error", [Broken, OSError, MemoryError])
@pytest.mark.parametrize("act", [leads, copies, aborts, rolls])
def test_raised_at_every_line_behind_the_write(
    tmp_path: Path, act: Callable[[Log], AppendResult], error: type[BaseException], goes_on: bool
) -> None:
    at, where = 0, []
    while True:
        at += 1
        (tmp_path / str(at)).mkdir()
        filesystem = broken_append(tmp_path / str(at), act, error, at, goes_on)
        if not filesystem.where:
            break
        where.append(filesystem.where.split(":")[0])
    assert {"segment.py", "writing.py", "leader_epochs.py", "positions.py"} <= set(where)
    assert ("indexes.py" in where) == (act is not rolls)  # a segment's first batch has no entry
    assert ("state.py" in where) == (act is not rolls)
    assert ("txn_index.py" in where) == (act is aborts)
