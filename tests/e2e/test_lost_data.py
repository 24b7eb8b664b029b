"""Starts after a crash, a boot, a damaged file, an emptied directory: what is lost is found, said, and marked."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from tests.e2e.tiered import admin, produce, read, until
from tests.patience import PATIENT_S
from tests.servers.tierlog import BrokerProcess
from tierlog.broker.disk.session_file import FILE_NAME

COUNT = 300
LOSSY = "tierlog_lossy_partitions"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """With one topic of which ``COUNT`` records are written, and whose high watermarks are on disk."""
    quick = {"replica.high.watermark.checkpoint.interval.ms": "100"}
    with BrokerProcess(tmp_path, quick) as running:
        client = admin(running)
        client.create_topics([NewTopic("t", 2, 1)])["t"].result(30)
        produce(running, "t", COUNT, partitions=2)
        until(lambda: checkpointed(running) == COUNT)
        yield running


def checkpointed(broker: BrokerProcess) -> int:
    """Sum of the high watermarks on disk."""
    try:
        lines = (broker.log_dir / "replication-offset-checkpoint").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return sum(int(line.split()[2]) for line in lines[2:])


def records(broker: BrokerProcess, prefix: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{broker.directory / 'metadata.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT v FROM kv WHERE k LIKE ? ORDER BY k", (f"{prefix}%",)).fetchall()
    return [json.loads(value) for (value,) in rows]


def recovering(broker: BrokerProcess) -> int:
    """Of the partitions' records."""
    return sum("c" in record for record in records(broker, "/p/"))


def lossless_since(broker: BrokerProcess) -> int:
    (registration,) = records(broker, "/b/reg/")
    since: int = registration["lossless_since"]
    return since


def said(broker: BrokerProcess) -> list[str]:
    return [line for line in broker.log.read_text().splitlines() if "a replica has lost records" in line]


def read_back(broker: BrokerProcess, count: int = COUNT) -> None:
    assert len(read(broker, "t", count, {0: 0, 1: 0})) == count


def test_a_killed_process_loses_nothing(broker: BrokerProcess) -> None:
    for _ in range(2):
        broker.kill()
        broker.start()
        assert broker.metrics()[LOSSY] == 0
        assert lossless_since(broker) > 0
        assert (recovering(broker), said(broker)) == (0, [])
    read_back(broker)


def test_after_another_boot_the_partitions_are_recovering(broker: BrokerProcess) -> None:
    broker.kill()
    path = broker.log_dir / FILE_NAME
    session = json.loads(path.read_text())
    path.write_text(json.dumps(session | {"boot_id": "00000000-0000-0000-0000-000000000000"}))
    broker.start()
    # Nothing is missing in fact; but nobody could know.
    assert broker.metrics()[LOSSY] == 0
    assert (recovering(broker), lossless_since(broker)) == (2, 0)
    read_back(broker)


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_file_below_its_high_watermark_is_lossy(broker: BrokerProcess, is_clean: bool) -> None:
    if is_clean:
        assert broker.stop() == 0
    else:
        broker.kill()
    log = broker.log_dir / "t-0" / f"{0:020}.log"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2)
    for index in log.parent.glob("*index"):
        index.unlink()
    broker.start()
    assert broker.metrics()[LOSSY] == 1
    (line,) = said(broker)
    assert "t-0" in line and "has held" in line
    # It leads, since nobody else can have the data; the whole broker is trusted less.
    assert (recovering(broker), lossless_since(broker)) == (2, 0)
    left = read(broker, "t", 1, {0: 0})
    assert left[0].offset == 0
    produce(broker, "t", 10, partitions=2, seed=5)
    assert broker.stop() == 0
    broker.start()
    assert broker.metrics()[LOSSY] == 0
    assert lossless_since(broker) > 0


def test_an_emptied_log_directory_is_lossy(broker: BrokerProcess) -> None:
    assert broker.stop() == 0
    shutil.rmtree(broker.log_dir)
    broker.start()
    assert broker.metrics()[LOSSY] == 2
    assert len(said(broker)) == 2
    assert (recovering(broker), lossless_since(broker)) == (2, 0)
    produce(broker, "t", 10, partitions=2)
    read_back(broker, 10)


def test_a_start_that_fails_after_recovery_forgets_nothing(broker: BrokerProcess) -> None:
    broker.kill()
    with socket.create_server(("127.0.0.1", broker.port)):
        broker.launch()
        assert broker.process is not None
        assert broker.process.wait(PATIENT_S) == 1
        broker.process = None
    assert f"cannot listen on PLAINTEXT://127.0.0.1:{broker.port}" in broker.log.read_text()
    broker.start()
    assert broker.metrics()[LOSSY] == 0
    assert (recovering(broker), lossless_since(broker) > 0) == (0, True)
    read_back(broker)
