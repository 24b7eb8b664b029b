"""The aborted transactions that go with an uploaded range, over the real log: wherever their markers lie, and none that
the range does not overlap. The mutant copies the segment's own index verbatim, as Kafka's segment-by-segment copy does.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.log.logs import NOW_MS, append, batch, config, open_log
from tests.unit.log.test_append import marker
from tiering.codec import AbortedTransaction
from tiering.planner import CopySegment
from tierlog.broker.offload.sources import source_of
from tierlog.log.append import AppendOrigin
from tierlog.log.log import Log


def with_transactions(directory: Path) -> Log:
    """Segment 0: records 0-1 of a transaction, 2. Segment 3: its abort, then 4-5 of another, its abort, 7. Active: 8."""
    log = open_log(directory, config(remote_storage_enable=True))
    append(log, batch(2, producer_id=11, is_transactional=True), batch())
    log.roll(NOW_MS)
    log.append_as_leader(marker(is_commit=False), 5, NOW_MS, AppendOrigin.COORDINATOR)
    append(log, batch(2, producer_id=11, sequence=2, is_transactional=True))
    log.append_as_leader(marker(is_commit=False), 5, NOW_MS, AppendOrigin.COORDINATOR)
    append(log, batch())
    log.roll(NOW_MS)
    append(log, batch())
    log.producers.advance_high_watermark(log.log_end_offset)
    return log


def aborted_of(log: Log, base: int, end: int, segment_base: int) -> list[tuple[int, int]]:
    source = source_of(log, CopySegment(base, end, segment_base))
    assert source is not None
    return [(aborted.first_offset, aborted.last_offset) for aborted in source.aborted]


def check(log: Log) -> None:
    assert aborted_of(log, 0, 3, 0) == [(0, 3)], "its marker lies in the next segment"
    assert aborted_of(log, 3, 8, 3) == [(0, 3), (4, 6)]
    assert aborted_of(log, 4, 8, 3) == [(4, 6)], "a trimmed range has nothing of what ended before it"


def test_the_range_decides(tmp_path: Path) -> None:
    check(with_transactions(tmp_path))


def test_the_verbatim_copy_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verbatim(log: Log, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
        segment = next(s for s in log.segments.sealed() if s.end_offset == end_offset)
        return [AbortedTransaction(*aborted) for aborted in segment.txn_index.entries]

    monkeypatch.setattr(Log, "aborted_transactions", verbatim)
    with pytest.raises(AssertionError):
        check(with_transactions(tmp_path))
