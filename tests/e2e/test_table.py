"""``tierlog table`` on a real broker that tiers: each record once, whatever is killed and whoever else writes."""

from __future__ import annotations

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
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

import tierlog.replay
from tests.e2e.tiered import create, delete, figure, hurried, produce, until
from tests.replay_forks import Forks
from tests.servers.tierlog import BrokerProcess
from tierlog.replay.iceberg.commits import offsets_of
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

    def arguments(self, verb: str, topic: str, *more: str) -> list[str]:
        place = [] if verb != "create" else ["--warehouse", self.warehouse]
        asked = [] if verb in ("compact", "drop") else ["-b", self.broker.bootstrap]
        return ["table", verb, topic, "--iceberg", self.uri, *place, *asked, *more]

    @property
    def catalog(self) -> Catalog:
        return load_catalog("default", uri=self.uri)

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
        while not self._is_over.wait(0.05):
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
        rows = table.scan(row_filter=f"partition = {number}").to_arrow().cast(whole.schema)
        assert digest(rows) == digest(whole)
        for task in table.scan(row_filter=f"partition = {number}").plan_files():
            start, end = (range_of(task.file, bound) for bound in ("lower_bounds", "upper_bounds"))
            field = pa.compute.field("offset")
            part = (field >= start) & (field <= end)
            assert rows.filter(part).num_rows == task.file.record_count == end - start + 1
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
                every_s=0.02,
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
    arguments = kept.arguments("compact", "merged", "--format", "json")
    with closing(sqlite3.connect(kept.uri.removeprefix("sqlite:///"))) as catalog:
        catalog.execute("BEGIN IMMEDIATE")  # Its commit waits.
        pid = forks.start(arguments)
        until(lambda: len(list(data.iterdir())) == files + PARTITIONS)
        os.kill(pid, signal.SIGKILL)
        assert forks.wait() == -signal.SIGKILL
    table = kept.table("merged")
    assert table.current_snapshot() == before
    pid = forks.start(kept.arguments("follow", "merged", "--follow-interval", "100ms"))
    with Producing(kept.broker, "merged"):
        until(lambda: kept.snapshots("merged") > len(table.snapshots()))
        done = tierlog_json(*arguments)
    assert (done["merged_files"] >= files, done["new_files"]) == (True, PARTITIONS)
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
    told = tierlog_json(*kept.arguments("describe", "again", "--format", "json"))
    assert (told["records"], told["lag_offsets"], told["topic"]) == (400, 50, "again")
    first, second = told["partitions"]
    assert (first["next_offset"], first["end_offset"], first["lag_offsets"]) == (200, 250, 50)
    assert 3_600_000 <= first["lag_ms"] < 3_700_000
    assert (second["lag_offsets"], second["lag_ms"]) == (0, 0)
    assert "again" in run("list", "--iceberg", kept.uri).stdout
    delete(kept.broker, "again")
    gone = run(*kept.arguments("follow", "again")[1:])
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
    assert "there is no topic again" in gone.stderr
    create(kept.broker, "again", PARTITIONS)
    anew = run(*kept.arguments("follow", "again", "--once")[1:])
    assert (anew.returncode, anew.stderr.count("\n")) == (1, 1)
    assert (
        "again has been deleted and made anew: tierlog.again keeps the records of the old one" in anew.stderr
    )
    assert kept.table("again").scan().count() == 400
    assert run(*kept.arguments("drop", "again", "--purge", "--yes")[1:]).returncode == 0
    assert not kept.catalog.table_exists("tierlog.again")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tierlog", "table", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


def tierlog_json(*arguments: str) -> Any:
    done = run(*arguments[1:])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
