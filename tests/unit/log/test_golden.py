"""A partition that a real Kafka broker wrote (five codecs, five idempotent producers, an aborted and a committed
transaction): read as it is, and every derived file rebuilt byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.log.logs import NOW_MS, config, headers, read_all
from tierlog.log.files.checkpoints import (
    clean_shutdown_broker_epoch,
    encode_topic_id,
    read_partition_metadata,
    read_properties,
    write_partition_metadata,
)
from tierlog.log.log import Log
from tierlog.log.producers.snapshot_file import decode_snapshot, encode_snapshot
from tierlog.records.records import read_records
from tierlog.types import AbortedTransaction, TopicPartition

KAFKA = Path(__file__).resolve().parents[2] / "golden" / "log"
PARTITION_DIRECTORY = KAFKA / "golden-0"
END_OFFSET = 208


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PARTITION_DIRECTORY, tmp_path / "golden-0"))


def open_kafkas(directory: Path, *, was_clean: bool) -> Log:
    topic_id = read_partition_metadata(PARTITION_DIRECTORY)
    assert topic_id is not None
    return Log.open(
        directory,
        TopicPartition("golden", 0),
        topic_id,
        config(index_interval_bytes=1000),
        now_ms=NOW_MS,
        was_clean=was_clean,
        recovery_point=END_OFFSET if was_clean else 0,
    )


def test_every_record_is_read(copy: Path) -> None:
    log = open_kafkas(copy, was_clean=True)
    assert (log.local_log_start_offset, log.log_end_offset, log.is_lossy) == (0, END_OFFSET, False)
    stored = read_all(log, max_bytes=700)
    assert stored == (PARTITION_DIRECTORY / "00000000000000000000.log").read_bytes()
    values = []
    position = 0
    for header in headers(stored):
        if not header.is_control:
            values += [bytes(record.value or b"") for record in read_records(stored, position, header)]
        position += header.size_bytes
    wanted = [
        f"{codec} {batch} {record} ".encode() * 6
        for codec in ("none", "gzip", "snappy", "lz4", "zstd")
        for batch in range(5)
        for record in range(8)
    ]
    assert values == [*wanted, *[b"aborted"] * 5, b"committed"]


@pytest.mark.parametrize("was_clean", [True, False])
def test_every_derived_file_is_kafkas_byte_for_byte(copy: Path, was_clean: bool) -> None:
    """A clean stop leaves Kafka's files as they were; a rebuild from the ``.log`` alone gives the same, but for the
    earlier batches of producers, which a snapshot of ours keeps behind Kafka's part."""
    if not was_clean:
        for path in copy.iterdir():
            if path.suffix != ".log":
                path.unlink()
    log = open_kafkas(copy, was_clean=was_clean)
    log.close_clean()
    wanted = {path.name: path.read_bytes() for path in PARTITION_DIRECTORY.iterdir()}
    found = {path.name: path.read_bytes() for path in copy.iterdir()}
    for name in found:
        if name.endswith(".snapshot"):
            found[name] = encode_snapshot(decode_snapshot(found[name]))
    assert found == wanted


def test_transactions_and_producers(copy: Path) -> None:
    log = open_kafkas(copy, was_clean=True)
    assert [aborted[1:] for aborted in log.aborted_transactions(0, END_OFFSET)] == [(200, 205, 206)]
    assert isinstance(log.aborted_transactions(0, END_OFFSET)[0], AbortedTransaction)
    assert log.first_unstable_offset is None
    assert len(log.producers) == 6


def test_the_small_files(tmp_path: Path) -> None:
    topic_id = read_partition_metadata(PARTITION_DIRECTORY)
    assert topic_id is not None
    write_partition_metadata(tmp_path, topic_id)
    written = (tmp_path / "partition.metadata").read_bytes()
    assert written == (PARTITION_DIRECTORY / "partition.metadata").read_bytes()
    assert encode_topic_id(topic_id).encode() in written
    assert (clean_shutdown_broker_epoch(KAFKA) or 0) > 0
    properties = read_properties(KAFKA / "meta.properties")
    assert (properties["version"], properties["node.id"]) == ("1", "1")
