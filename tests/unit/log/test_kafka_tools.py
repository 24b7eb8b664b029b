"""Kafka's own dump-log tool on what we write: no complaint, the same records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.servers import kafka
from tests.unit.log.logs import NOW_MS, append, batch, config, open_log
from tests.unit.log.test_append import marker
from tierlog.log.append import AppendOrigin
from tierlog.log.log import Log
from tierlog.records.batch import Compression

COMPLAINTS = re.compile(r"mismatch|invalid|isvalid: false|out of order|error|exception", re.IGNORECASE)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Every codec, idempotent and transactional producers, several epochs, a truncation, several segments."""
    log = open_log(tmp_path, config(segment_bytes=12_000, index_interval_bytes=1000))
    for number in range(60):
        records = batch(
            3, value_bytes=300, timestamp=NOW_MS + 10 * number, compression=Compression(number % 5)
        )
        append(log, records, leader_epoch=number // 20)
    log.truncate_to(150, NOW_MS)
    for number in range(40):
        append(log, batch(2, producer_id=9, sequence=2 * number, value_bytes=200), leader_epoch=7)
    append(log, batch(2, producer_id=11, is_transactional=True), leader_epoch=7)
    log.append_as_leader(marker(is_commit=False), 7, NOW_MS, AppendOrigin.COORDINATOR)
    log.close_clean()
    assert log.segment_count > 2
    return log


@pytest.mark.java
def test_dump_log_finds_no_fault(log: Log, java: None) -> None:
    files = sorted(
        str(path) for path in log.directory.iterdir() if re.search(r"\.(log|\w*index|snapshot)$", path.name)
    )
    out = kafka.tool("DumpLogSegments", "--files", ",".join(files), "--deep-iteration").out
    assert not COMPLAINTS.search(out), out
    offsets = [int(offset) for offset in re.findall(r"^\| offset: (\d+) ", out, re.MULTILINE)]
    assert offsets == list(range(log.log_end_offset))
    assert f"producerId: 11 firstOffset: {log.log_end_offset - 3} lastOffset: {log.log_end_offset - 1}" in out
    assert out.count("isTransactional: true isControl: true") == 1
    assert re.search(r"producerId: 9 producerEpoch: 0 .* lastSequence: 79 ", out)


@pytest.mark.java
def test_indexes_pass_kafkas_checks(log: Log, java: None) -> None:
    indexes = sorted(
        str(path) for path in log.directory.iterdir() if re.search(r"\.(index|timeindex)$", path.name)
    )
    sane = kafka.tool("DumpLogSegments", "--files", ",".join(indexes), "--index-sanity-check").out
    assert sane.count("passed sanity check") == len(indexes)
    verified = kafka.tool("DumpLogSegments", "--files", ",".join(indexes), "--verify-index-only").out
    assert not COMPLAINTS.search(verified), verified
