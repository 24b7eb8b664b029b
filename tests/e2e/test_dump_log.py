"""Each reads the other's files: Kafka's dump-log tool on segments of a real tierlog broker, our log on Kafka's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.servers import kafka
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.config.topic import TopicConfig
from tierlog.log import reading
from tierlog.log.files.checkpoints import read_partition_metadata
from tierlog.log.log import Log
from tierlog.records.batch import walk
from tierlog.records.records import read_records
from tierlog.types import TopicPartition as Partition

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("java")]

COMPLAINTS = re.compile(r"mismatch|invalid|isvalid: false|out of order|error|exception", re.IGNORECASE)
RECORD = re.compile(r"^\| offset: (\d+) .*? key: (\S*) payload: (.*)$", re.MULTILINE)
COUNT = 3000
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
Rows = dict[int, tuple[str, str]]  # offset → (key, value)


def fill(cluster: BrokerProcess | KafkaProcess, topic: str) -> Rows:
    """One partition over several segments: each codec in turn, plain and idempotent producers; all acknowledged."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    new = NewTopic(topic, num_partitions=1, replication_factor=1, config={"segment.bytes": "1048576"})
    admin.create_topics([new])[topic].result(30)
    rows: Rows = {}

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        rows[message.offset()] = (message.key().decode(), message.value().decode())  # type: ignore[attr-defined]

    for number, codec in enumerate(CODECS):
        producer = Producer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "compression.type": codec,
                "enable.idempotence": number % 2 == 0,
                "linger.ms": 20,
                "batch.size": 32_768,
            }
        )
        for n in range(COUNT // len(CODECS)):
            value = f"{codec}-{n}-" + "".join(f"{n * 7919 % 99991 + i:05x}" for i in range(200))
            producer.produce(topic, key=f"k{n % 13}", value=value, partition=0, on_delivery=delivered)
        assert producer.flush(60) == 0
    assert len(rows) == COUNT
    return rows


def commit(cluster: BrokerProcess, group: str, topic: str, offset: int) -> None:
    reader = Consumer(
        {"bootstrap.servers": cluster.bootstrap, "group.id": group, "enable.auto.commit": False}
    )
    reader.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    reader.close()


def files(directory: Path) -> list[str]:
    wanted = re.compile(r"\.(log|\w*index|snapshot)$")
    return sorted(str(path) for path in directory.iterdir() if wanted.search(path.name))


def dump(directory: Path, *options: str) -> str:
    """What the tool says of every file of a partition; any complaint of it fails the test."""
    found = files(directory)
    out = kafka.tool("DumpLogSegments", "--files", ",".join(found), *options).out
    unkeyed = re.sub(r" payload: .*", "", out)
    assert not COMPLAINTS.search(unkeyed), COMPLAINTS.findall(unkeyed)
    return out


def dumped_rows(out: str) -> Rows:
    return {int(offset): (key, value) for offset, key, value in RECORD.findall(out)}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[BrokerProcess, Rows]:
    """A broker of our own that has stopped cleanly, with the topic ``ours`` and a committed offset."""
    broker = BrokerProcess(tmp_path_factory.mktemp("dumped"))
    with broker:
        rows = fill(broker, "ours")
        commit(broker, "dumped-group", "ours", 1234)
    return broker, rows


def test_dump_log_reads_our_segments(filled: tuple[BrokerProcess, Rows]) -> None:
    broker, rows = filled
    directory = broker.log_dir / "ours-0"
    assert len(list(directory.glob("*.log"))) > 2
    out = dump(directory, "--deep-iteration", "--print-data-log")
    assert dumped_rows(out) == rows
    assert {codec for codec in CODECS if f"compresscodec: {codec}" in out} == set(CODECS)


def test_dump_log_accepts_our_indexes(filled: tuple[BrokerProcess, Rows]) -> None:
    directory = filled[0].log_dir / "ours-0"
    indexes = [str(path) for path in sorted(directory.glob("*index")) if path.suffix != ".txnindex"]
    sane = kafka.tool("DumpLogSegments", "--files", ",".join(indexes), "--index-sanity-check").out
    assert sane.count("passed sanity check") == len(indexes)


def test_dump_log_decodes_our_committed_offsets(filled: tuple[BrokerProcess, Rows]) -> None:
    broker, _ = filled
    partitions = sorted(broker.log_dir.glob("__consumer_offsets-*"))
    assert len(partitions) == 50
    (used,) = (each for each in partitions if any(log.stat().st_size for log in each.glob("*.log")))
    out = dump(used, "--offsets-decoder")
    assert "dumped-group" in out and "1234" in out and '"topic":"ours"' in out


def test_dump_log_reads_what_recovery_left_behind(tmp_path: Path) -> None:
    """kill -9 with an open segment, then a start that scans and truncates a torn tail."""
    broker = BrokerProcess(tmp_path)
    broker.start()
    rows = fill(broker, "torn")
    broker.kill()
    directory = broker.log_dir / "torn-0"
    active = max(directory.glob("*.log"))
    with active.open("ab") as torn:
        torn.write(active.read_bytes()[:100] or b"\0" * 100)
    with broker:
        pass
    assert dumped_rows(dump(directory, "--deep-iteration", "--print-data-log")) == rows


@pytest.fixture(scope="module")
def kafkas(apache: KafkaProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """A copy of a partition that Kafka wrote. The broker runs on: the active segment has preallocated indexes."""
    rows = fill(apache, "theirs")
    copy = tmp_path_factory.mktemp("theirs") / "theirs-0"
    shutil.copytree(apache.log_dir / "theirs-0", copy)
    return copy, rows


@pytest.mark.parametrize("trusted", [True, False], ids=["as it lies", "after a scan"])
def test_our_log_reads_kafkas_segments(kafkas: tuple[Path, Rows], tmp_path: Path, trusted: bool) -> None:
    source, rows = kafkas
    directory = tmp_path / source.name
    shutil.copytree(source, directory)
    topic_id = read_partition_metadata(directory)
    assert topic_id is not None
    log = Log.open(
        directory,
        Partition("theirs", 0),
        topic_id,
        TopicConfig(segment_bytes=1 << 20),
        now_ms=1_800_000_000_000,
        was_clean=trusted,
        recovery_point=COUNT if trusted else 0,
    )
    assert (log.log_start_offset, log.log_end_offset, log.is_lossy) == (0, COUNT, False)
    assert log.segment_count == len(list(source.glob("*.log"))) > 2
    assert read_back(log) == rows
    log.close_clean()
    assert dumped_rows(dump(directory, "--deep-iteration", "--print-data-log")) == rows


def read_back(log: Log) -> Rows:
    rows: Rows = {}
    offset = 0
    while offset < log.log_end_offset:
        located = log.locate(offset, 100_000, log.log_end_offset, True)
        assert located is not None
        data = reading.read(located)
        for position, header in walk(data):
            for record in read_records(data, position, header):
                assert record.key is not None and record.value is not None
                rows[record.offset] = (bytes(record.key).decode(), bytes(record.value).decode())
            offset = header.next_offset
    return rows
