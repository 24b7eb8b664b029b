"""``tierlog table`` on a real broker that tiers: each record once, whatever is killed and whoever else writes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot
from typer.testing import CliRunner

import tierlog.replay
from tests.e2e.tiered import create, delete, figure, hurried, produce, until
from tests.replay_forks import Forks
from tests.servers.rest_catalog import RestCatalog
from tests.servers.tierlog import BrokerProcess
from tierlog.cli.app import app
from tierlog.replay.iceberg.commits import offsets_of
from tierlog.replay.iceberg.compaction import Compaction
from tierlog.replay.iceberg.following import Follower, Source
from tierlog.replay.iceberg.offsets import Refused
from tierlog.replay.iceberg.schema import table_schema
from tierlog.types import TopicPartition

KILLS = int(os.environ.get("TIERLOG_TABLE_KILLS", "4"))
PARTITIONS = 2


class Kept:
    """Tables of one broker's topics in one catalog on SQLite."""

    def __init__(self, broker: BrokerProcess, root: Path) -> None:
        self.broker = broker
        self.uri = f"sqlite:///{root}/catalog.db"
        self.warehouse = f"file://{root}/warehouse"
        self.catalog = load_catalog("default", uri=self.uri)

    def arguments(self, verb: str, topic: str, *more: str) -> list[str]:
        place = [] if verb != "create" else ["--warehouse", self.warehouse]
        asked = [] if verb in ("compact", "drop") else ["-b", self.broker.bootstrap]
        return ["table", verb, topic, "--iceberg", self.uri, *place, *asked, *more]

    def table(self, topic: str) -> Table:
        return self.catalog.load_table(f"tierlog.{topic}")

    def snapshots(self, topic: str) -> int:
        with suppress(NoSuchTableError):
            return len(self.table(topic).snapshots())
        return 0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with hurried(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture(scope="module")
def kept(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(broker, tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as served:
        yield served


class Producing:
    """A context: records come all the time, a few at once."""

    def __init__(self, broker: BrokerProcess, topic: str) -> None:
        self._thread = threading.Thread(target=self._run, args=(broker, topic))
        self._is_over = threading.Event()

    def _run(self, broker: BrokerProcess, topic: str) -> None:
        seed = 100
        while not self._is_over.wait(0.15):
            produce(broker, topic, 200, partitions=PARTITIONS, codec="lz4", value_bytes=200, seed=seed)
            seed += 1

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()


def digest(rows: pa.Table) -> str:
    return hashlib.sha256(repr(rows.sort_by("offset").to_pydict()).encode()).hexdigest()


def check_whole(kept: Kept, topic: str) -> Table:
    """The table holds what a replay of the topic gives, range by range as its files have it."""
    table = kept.table(topic)
    done = offsets_of(table)
    total = 0
    for number in range(PARTITIONS):
        whole = tierlog.replay.open(topic, bootstrap=kept.broker.bootstrap, partitions=[number]).read_all()
        whole = whole.cast(table_schema(whole.schema))
        total += whole.num_rows
        assert done[TopicPartition(topic, number)] == [(0, whole["offset"][-1].as_py() + 1)]
        found = table.scan(row_filter=f"partition = {number}")
        rows = found.to_arrow().cast(whole.schema)
        assert rows.num_rows == whole.num_rows
        for task in found.plan_files():
            start, end = (range_of(task.file, bound) for bound in ("lower_bounds", "upper_bounds"))
            part = (pa.compute.field("offset") >= start) & (pa.compute.field("offset") <= end)
            assert task.file.record_count == end - start + 1
            assert digest(rows.filter(part)) == digest(whole.filter(part))
    assert table.scan().count() == total
    return table


def range_of(file: Any, bound: str) -> int:
    return int.from_bytes(getattr(file, bound)[3], "little")


def test_each_record_once_whatever_is_killed(kept: Kept, forks: Forks) -> None:
    """Kills meet the history, the following, data files without a commit, and commits."""
    create(kept.broker, "killed", PARTITIONS)
    produce(kept.broker, "killed", 6_000, partitions=PARTITIONS, codec="zstd", value_bytes=200)
    rng = random.Random(5)
    codes = []
    pace = ("--follow-interval", "200ms", "--file-bytes", "100KB", "--progress", "none")
    with Producing(kept.broker, "killed"):
        for _ in range(KILLS):
            verb = "follow" if kept.snapshots("killed") else "create"
            before = kept.snapshots("killed")
            pid = forks.start(kept.arguments(verb, "killed", *pace))
            is_running = Path(f"/proc/{pid}").exists
            until(
                lambda before=before, is_running=is_running: (
                    kept.snapshots("killed") != before or not is_running()
                ),
                every_s=0.05,
            )
            time.sleep(rng.uniform(0, 0.3))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            codes.append(forks.wait())
        pid = forks.start(kept.arguments("follow", "killed", *pace))
        before = kept.snapshots("killed")
        until(lambda: kept.snapshots("killed") > before)
        os.kill(pid, signal.SIGTERM)
        assert forks.wait() == 0, "SIGTERM ends it after a commit"
    assert forks.start(kept.arguments("follow", "killed", "--once")) and forks.wait() == 0
    table = check_whole(kept, "killed")
    figure(f"exit codes {codes}, {len(table.snapshots())} snapshots")
    assert codes.count(-signal.SIGKILL) == KILLS
    first = table.snapshots()[0]
    assert table.scan(snapshot_id=first.snapshot_id).count() < table.scan().count(), "time travel"


def test_only_one_of_two_followers_goes_on(kept: Kept, forks: Forks) -> None:
    create(kept.broker, "twice", PARTITIONS)
    produce(kept.broker, "twice", 500, partitions=PARTITIONS)
    assert forks.start(kept.arguments("create", "twice", "--once")) and forks.wait() == 0
    command = [
        sys.executable,
        "-m",
        "tierlog",
        *kept.arguments("follow", "twice", "--follow-interval", "100ms"),
    ]
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                subprocess.Popen([*command, "--progress", "json"], stderr=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        for process in both:
            assert process.stderr is not None
            process.stderr.readline()  # Both are following now.
        with Producing(kept.broker, "twice"):
            until(lambda: any(process.poll() is not None for process in both))
            (ended,) = [process for process in both if process.poll() is not None]
            (other,) = [process for process in both if process is not ended]
            before = kept.snapshots("twice")
            until(lambda: kept.snapshots("twice") > before)
        other.send_signal(signal.SIGTERM)
        told = ended.communicate()[1].splitlines()
        other.communicate()
    assert (ended.returncode, other.returncode) == (1, 0)
    lines = [line for line in told if not line.startswith("{")]
    assert len(lines) == 1
    assert "tierlog: tierlog.twice has another writer: twice-" in lines[0]
    assert forks.start(kept.arguments("follow", "twice", "--once")) and forks.wait() == 0
    check_whole(kept, "twice")


def test_merged_and_killed_meanwhile(kept: Kept, forks: Forks) -> None:
    """A kill leaves the table as it was; what was killed leaves files, and the next run merges all the same."""
    create(kept.broker, "merged", PARTITIONS)
    produce(kept.broker, "merged", 6_000, partitions=PARTITIONS, value_bytes=400)
    assert (
        forks.start(kept.arguments("create", "merged", "--once", "--file-bytes", "100KB"))
        and forks.wait() == 0
    )
    before = kept.table("merged").current_snapshot()
    assert before is not None
    data = Path(kept.table("merged").location().removeprefix("file://")) / "data"
    files = len(list(data.iterdir()))
    assert files >= 6
    with closing(sqlite3.connect(kept.uri.removeprefix("sqlite:///"))) as catalog:
        catalog.execute("BEGIN IMMEDIATE")  # Its commit waits.
        pid = forks.start(kept.arguments("compact", "merged"))
        until(lambda: len(list(data.iterdir())) == files + PARTITIONS)
        os.kill(pid, signal.SIGKILL)
        assert forks.wait() == -signal.SIGKILL
    table = kept.table("merged")
    assert table.current_snapshot() == before
    pid = forks.start(kept.arguments("follow", "merged", "--follow-interval", "100ms"))
    with Producing(kept.broker, "merged"):
        until(lambda: kept.snapshots("merged") > len(table.snapshots()))
        done = Compaction(kept.table("merged")).run(threading.Event(), lambda _: None)
    assert (done.merged_files >= files, done.new_files) == (True, PARTITIONS)
    os.kill(pid, signal.SIGTERM)
    assert forks.wait() == 0
    assert forks.start(kept.arguments("follow", "merged", "--once")) and forks.wait() == 0
    table = check_whole(kept, "merged")
    assert table.scan(snapshot_id=before.snapshot_id).count() == 6_000, "time travel behind the merge"


def test_lag_and_a_topic_that_was_made_anew(kept: Kept, forks: Forks) -> None:
    create(kept.broker, "again", PARTITIONS)
    produce(kept.broker, "again", 400, partitions=PARTITIONS)
    assert forks.start(kept.arguments("create", "again", "--once")) and forks.wait() == 0
    hour_ago_ms = time.time_ns() // 1_000_000 - 3_600_000
    produce(kept.broker, "again", 50, timestamps=range(hour_ago_ms, hour_ago_ms + 50))
    told = json.loads(invoked(*kept.arguments("describe", "again", "--format", "json")))
    assert (told["records"], told["lag_offsets"], told["topic"]) == (400, 50, "again")
    first, second = told["partitions"]
    assert (first["next_offset"], first["end_offset"], first["lag_offsets"]) == (200, 250, 50)
    assert 3_600_000 <= first["lag_ms"] < 3_700_000
    assert (second["lag_offsets"], second["lag_ms"]) == (0, 0)
    assert "tierlog.again" in invoked("table", "list", "--iceberg", kept.uri)
    source = Source("again", kept.broker.bootstrap, None)
    follower = Follower(kept.table("again"), source, tell=lambda _: None)
    delete(kept.broker, "again")
    with pytest.raises(Refused, match="there is no topic again"):
        asyncio.run(follower.round(asyncio.Event()))
    create(kept.broker, "again", PARTITIONS)
    with pytest.raises(
        Refused, match=r"made anew: tierlog\.again keeps the records of the old one; begin another"
    ):
        asyncio.run(follower.round(asyncio.Event()))
    assert kept.table("again").scan().count() == 400
    invoked(*kept.arguments("drop", "again", "--purge", "--yes"))
    assert not kept.catalog.table_exists("tierlog.again")


def invoked(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None, done.exception
    return done.stdout


def test_it_goes_on_after_a_catalog_was_away_and_merges_meanwhile(kept: Kept, tmp_path: Path) -> None:
    create(kept.broker, "kept", PARTITIONS)
    produce(kept.broker, "kept", 100, partitions=PARTITIONS)
    pace = ["--follow-interval", "100ms", "--compact-interval", "1s", "-b", kept.broker.bootstrap]
    command = [sys.executable, "-m", "tierlog", "table", "create", "kept", *pace, "--progress", "none"]
    with RestCatalog(tmp_path) as rest:
        with subprocess.Popen(
            [*command, "--iceberg", rest.uri], stderr=subprocess.PIPE, text=True
        ) as process:
            until(lambda: rest.commits)
            rest.lose_next = "before"
            with Producing(kept.broker, "kept"):
                assert process.stderr is not None
                told = process.stderr.readline()
                before = rest.commits
                until(lambda: rest.commits > before + 3)
                until(
                    lambda: any(
                        is_merge(each) for each in rest.catalog.load_table("tierlog.kept").snapshots()
                    )
                )
            process.send_signal(signal.SIGTERM)
            rest_told = process.communicate()[1]
        assert process.returncode == 0
        assert "go on with the same command, what was committed stays; tried again in 0.1 s" in told
        assert rest_told == ""
        table = rest.catalog.load_table("tierlog.kept")
        offsets = table.scan(selected_fields=("partition", "offset")).to_arrow()
        done = offsets_of(table)
        for number in range(PARTITIONS):
            found = offsets.filter(pa.compute.field("partition") == number)["offset"].to_pylist()
            assert [(0, len(found))] == done[TopicPartition("kept", number)]
            assert sorted(found) == list(range(len(found)))


def is_merge(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and snapshot.summary.operation == Operation.OVERWRITE
