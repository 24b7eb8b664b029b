"""Replays that are killed at random points and resumed: each record once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError

import tierlog.replay
from tests.e2e.tiered import figure, until
from tests.replay_bucket import BucketMaker, Shape
from tests.replay_forks import Forks
from tierlog.records.batch import Compression
from tierlog.replay.iceberg.commits import offsets_of
from tierlog.replay.iceberg.schema import table_schema
from tierlog.replay.sinks.parquet import NAME
from tierlog.types import TopicPartition

KILLS = 20
RECORDS = 1_000
SEGMENTS = 50


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> BucketMaker:
    made = BucketMaker(tmp_path_factory.mktemp("bucket"))
    made.fill("flights", 0, SEGMENTS, RECORDS, Shape(100, 70, Compression.LZ4))
    made.fill("flights", 1, SEGMENTS, RECORDS, Shape(100, 500, Compression.ZSTD))
    return made


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Any]]:
    """Opens the catalog that the environment tells."""
    root = tmp_path_factory.mktemp("catalog")
    told = {
        "PYICEBERG_CATALOG__KILLS__TYPE": "sql",
        "PYICEBERG_CATALOG__KILLS__URI": f"sqlite:///{root}/catalog.db",
        "PYICEBERG_CATALOG__KILLS__WAREHOUSE": f"file://{root}/warehouse",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        yield lambda: load_catalog(
            "kills",
            type="sql",
            uri=told["PYICEBERG_CATALOG__KILLS__URI"],
            warehouse=told["PYICEBERG_CATALOG__KILLS__WAREHOUSE"],
        )


@pytest.fixture(scope="module")
def forks(catalog: Callable[[], Any]) -> Iterator[Forks]:
    with Forks() as served:
        yield served


def killed_runs(
    forks: Forks,
    arguments: list[str],
    seed: int,
    kills: int,
    progress: Callable[[], int],
    least_s: float,
    slowly: Sequence[str] = (),
) -> None:
    """Runs it and kills it a random while after it has got further, again and again; then to its end."""
    rng = random.Random(seed)
    begun = time.monotonic()
    codes = []
    for _ in range(kills):
        before = progress()
        pid = forks.start([*arguments, *slowly])
        is_running = Path(f"/proc/{pid}").exists
        until(
            lambda before=before, is_running=is_running: progress() != before or not is_running(),
            every_s=0.005,
        )
        time.sleep(least_s + rng.uniform(0, 0.02))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        codes.append(forks.wait())
    forks.start(arguments)
    assert forks.wait() == 0
    assert codes.count(-signal.SIGKILL) >= kills // 2
    figure(f"killed {codes.count(-9)} times in {time.monotonic() - begun:.1f} s")


def digest(table: pa.Table) -> str:
    """Of the rows in order of their offsets."""
    return hashlib.sha256(repr(table.sort_by("offset").to_pydict()).encode()).hexdigest()


def expected(bucket: BucketMaker, partition: int) -> pa.Table:
    """All of a partition; its offsets have no holes."""
    return tierlog.replay.open("flights", bucket=bucket.url, partitions=[partition]).read_all()


def test_parquet_has_each_record_once(bucket: BucketMaker, forks: Forks, tmp_path: Path) -> None:
    """Files are small and many, so that kills meet them at every stage."""
    target, state = tmp_path / "out", tmp_path / "state.json"
    arguments = [
        "replay",
        "flights",
        "--bucket",
        bucket.url,
        "--sink",
        f"parquet:{target}",
    ]
    arguments += ["--file-bytes", "20KB", "--resume", str(state)]

    def files() -> int:
        return len(list(target.rglob("*.parquet")))

    killed_runs(forks, arguments, 7, KILLS, files, 0)
    whole = [expected(bucket, partition) for partition in (0, 1)]
    covered: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    for path in sorted(target.rglob("*.parquet")):
        match = NAME.fullmatch(path.relative_to(target).as_posix())
        assert match is not None
        partition, start, end = int(match[2]), int(match[3]), int(match[4])
        covered[partition].append((start, end))
        found = parquet.ParquetFile(path).read()
        assert digest(found) == digest(whole[partition].slice(start, end - start))
    for ranges in covered.values():
        bounds = [0, *(end for _, end in ranges)]
        assert [start for start, _ in ranges] == bounds[:-1]
        assert bounds[-1] == SEGMENTS * RECORDS
        assert len(ranges) > 5
    assert not list(target.glob(".writing*"))


def test_lines_have_each_record_once(bucket: BucketMaker, forks: Forks, tmp_path: Path) -> None:
    target, state = tmp_path / "lines", tmp_path / "state.json"
    arguments = [
        "replay",
        "flights",
        "--bucket",
        bucket.url,
        "--sink",
        f"jsonl:{target}",
        "--resume",
        str(state),
    ]
    arguments += ["--partitions", "1", "--columns", "offset"]

    def settled() -> int:
        return state.stat().st_mtime_ns if state.exists() else 0

    killed_runs(forks, arguments, 11, 3, settled, 0.9, ("--rate", "500KB/s"))
    offsets = [json.loads(line)["offset"] for line in target.read_text().splitlines()]
    assert offsets == list(range(SEGMENTS * RECORDS))


def test_an_iceberg_table_has_each_record_once(
    bucket: BucketMaker, forks: Forks, tmp_path: Path, catalog: Callable[[], Any]
) -> None:
    """Kills meet data files without a commit, and commits."""
    state = tmp_path / "state.json"
    arguments = ["replay", "flights", "--bucket", bucket.url, "--sink", "iceberg:kills.logs.flights"]
    arguments += ["--rate", "8MB/s", "--file-bytes", "1MB", "--resume", str(state)]

    def snapshots() -> int:
        with suppress(NoSuchTableError):
            return len(catalog().load_table("logs.flights").snapshots())
        return 0

    killed_runs(forks, arguments, 13, KILLS // 2, snapshots, 0)
    table = catalog().load_table("logs.flights")
    found = table.scan().to_arrow()
    for partition in (0, 1):
        rows = found.filter(pa.compute.field("partition") == partition)
        whole = expected(bucket, partition)
        whole = whole.cast(table_schema(whole.schema))
        assert digest(rows.cast(whole.schema)) == digest(whole)
    assert offsets_of(table) == {
        TopicPartition("flights", partition): [(0, SEGMENTS * RECORDS)] for partition in (0, 1)
    }
    assert forks.start([*arguments[:-2]]) and forks.wait() == 1, (
        "a table that is not empty is not appended to"
    )
    with pytest.raises(CommitFailedException):
        other = catalog().load_table("logs.flights")
        table.append(found.slice(0, 1))
        other.append(found.slice(0, 1))
