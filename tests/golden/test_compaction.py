"""Apache Kafka 4.4.0 compacted a log twice; from the same segments we keep the same batches.

``compaction/0-written`` was written by librdkafka (five codecs, two transactional producers, tombstones) with
``segment.ms=3000`` and ``delete.retention.ms=5000``, and cleaned to ``1-cleaned``; more was written
(``2-written``) and cleaned after the delete horizon (``3-cleaned``). The time of a cleaning is its horizon less
the retention. Two freedoms: a codec's bytes, and the base timestamp of a batch that lost its first record.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.model.compaction_log import FileLog, Source
from tests.unit.records.strategies import plain
from tierlog.config.topic import TopicConfig
from tierlog.log.producers.snapshot_file import decode_snapshot, encode_snapshot
from tierlog.log.producers.state import ProducerState
from tierlog.log.txn_index import ENTRY
from tierlog.records.batch import BatchHeader, Compression, parse_header, walk
from tierlog.records.records import Record
from tierlog.types import AbortedTransaction

STAGES = Path(__file__).parent / "compaction"
DELETE_RETENTION_MS = 5000
CONFIG = TopicConfig(cleanup_policy=frozenset({"compact"}), delete_retention_ms=DELETE_RETENTION_MS)


def load(stage: str, directory: Path) -> FileLog:
    """A copy of the stage's segments, with Kafka's transaction indexes and the producers they leave."""
    log = FileLog(directory, CONFIG)
    for path in sorted((STAGES / stage).glob("*.log")):
        copy = Path(shutil.copy(path, directory))
        data = copy.read_bytes()
        for pos, header in walk(data):
            log.producers.replay(data, pos, header, 0)
            log.log_end_offset = header.next_offset
        log.sources.append(Source(int(path.stem), log.log_end_offset, copy))
        index = path.with_suffix(".txnindex")
        if index.exists():
            log.aborted += [AbortedTransaction(*row[1:]) for row in ENTRY.iter_unpack(index.read_bytes())]
    return log


def comparable(batch: tuple[BatchHeader, list[Record]]) -> tuple[BatchHeader, list[Record]]:
    header, records = batch
    base_timestamp = header.base_timestamp if header.has_delete_horizon or not records else 0
    return header._replace(batch_length=0, crc=0, base_timestamp=base_timestamp), [plain(r) for r in records]


@pytest.mark.parametrize(("written", "cleaned"), [("0-written", "1-cleaned"), ("2-written", "3-cleaned")])
def test_the_same_batches_stay(written: str, cleaned: str, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "kafkas").mkdir()
    ours, kafkas = load(written, tmp_path / "ours"), load(cleaned, tmp_path / "kafkas")
    expected = kafkas.batches()
    now_ms = max(header.delete_horizon_ms or 0 for header, _ in expected) - DELETE_RETENTION_MS
    end = ours.sources[-1].base_offset
    first_dirty = 0 if written == "0-written" else 111
    ours.compact(first_dirty, end, now_ms=now_ms)
    found = ours.batches()
    assert [comparable(batch) for batch in found] == [comparable(batch) for batch in expected]
    identical = sum(mine == theirs for mine, theirs in zip(found, expected, strict=True))
    uncompressed = sum(header.compression is Compression.NONE for header, _ in expected)
    assert identical >= uncompressed > 10, "without a codec the bytes are the same"
    assert ours.aborted == kafkas.aborted
    assert [source.base_offset for source in ours.sources] == [
        source.base_offset for source in kafkas.sources
    ]


def test_kafkas_aborted_transactions_and_snapshots_are_what_we_derive() -> None:
    state = ProducerState()
    aborted: list[AbortedTransaction] = []
    for path in sorted((STAGES / "0-written").glob("*.log")):
        snapshot = path.with_suffix(".snapshot")
        if snapshot.exists():
            entries = decode_snapshot(snapshot.read_bytes())
            assert encode_snapshot(entries) == snapshot.read_bytes()
            assert sorted(entries) == sorted(decode_snapshot(state.encode_snapshot()))
            assert len(entries) == 7
        data = path.read_bytes()
        for pos, header in walk(data):
            transaction = state.replay(data, pos, header, 0)
            if transaction is not None:
                aborted.append(transaction)
    index = (STAGES / "0-written" / f"{0:020d}.txnindex").read_bytes()
    assert aborted == [AbortedTransaction(*row[1:]) for row in ENTRY.iter_unpack(index)]
    assert parse_header(data).base_offset == 111
