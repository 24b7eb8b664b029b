"""Replays that are killed at random points and resumed: each record once.

A few kills of each; ``make replay-kills`` has twenty.
"""

from __future__ import annotations

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
from pyiceberg.exceptions import CommitFailedException

import tierlog.replay
from tests.e2e.tiered import figure, until
from tests.replay_bucket import BucketMaker, Shape
from tests.replay_forks import Forks
from tierlog.records.batch import Compression
from tierlog.replay.iceberg.commits import offsets_of
from tierlog.replay.iceberg.schema import table_schema
from tierlog.replay.sinks.parquet import NAME
from tierlog.types import TopicPartition

KILLS = int(os.environ.get("TIERLOG_REPLAY_KILLS", "4"))
RECORDS = 1_000
SEGMENTS = min(3 * KILLS + 8, 50)
REPLAY = ("replay", "flights", "--bucket")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> BucketMaker:
    made = BucketMaker(tmp_path_factory.mktemp("bucket"))
    made.fill("flights", 0, SEGMENTS, RECORDS, Shape(100, 70, Compression.LZ4))
    made.fill("flights", 1, SEGMENTS, RECORDS, Shape(100, 500, Compression.ZSTD))
    return made


@pytest.fixture(scope="module")
def catalog_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalog")


@pytest.fixture(scope="module")
def catalog(catalog_root: Path) -> Iterator[Callable[[], Any]]:
    """Opens the catalog that the environment tells."""
    root = catalog_root
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
    arguments: Sequence[str],
    kills: int,
    progress: Callable[[], int],
    least_s: float = 0.0,
    slowly: Sequence[str] = (),
) -> None:
    """Runs it and kills it a random while after it has got further, again and again; then to its end."""
    rng = random.Random(7)
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


def in_order(table: pa.Table) -> pa.Table:
    """Rows by offset, in the types that all sinks have."""
    return table.cast(table_schema(table.schema)).sort_by("offset").combine_chunks()


@pytest.fixture(scope="module")
def whole(bucket: BucketMaker) -> list[pa.Table]:
    """All of each partition; offsets have no holes."""
    found = tierlog.replay.open("flights", bucket=bucket.url, ledger=False).read_all()
    return [in_order(found.filter(pa.compute.field("partition") == partition)) for partition in (0, 1)]


@pytest.mark.parametrize("order", ["--ordered", "--unordered"])
def test_parquet_has_each_record_once(
    bucket: BucketMaker, whole: list[pa.Table], forks: Forks, tmp_path: Path, order: str
) -> None:
    """Files are small and many, so that kills meet them at every stage."""
    target = tmp_path / "out"
    sink = ("--sink", f"parquet:{target}", "--file-bytes", "20KB", order)
    resume = ("--resume", str(tmp_path / "state.json"))

    def files() -> int:
        return len(list(target.rglob("*.parquet")))

    killed_runs(forks, [*REPLAY, bucket.url, *sink, *resume], KILLS, files)
    covered: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    for path in sorted(target.rglob("*.parquet")):
        match = NAME.fullmatch(path.relative_to(target).as_posix())
        assert match is not None
        partition, start, end = int(match[2]), int(match[3]), int(match[4])
        covered[partition].append((start, end))
        found = in_order(parquet.ParquetFile(path).read())
        assert found.equals(whole[partition].slice(start, end - start))
    for ranges in covered.values():
        bounds = [0, *(end for _, end in ranges)]
        assert [start for start, _ in ranges] == bounds[:-1]
        assert bounds[-1] == SEGMENTS * RECORDS
        assert len(ranges) > 5
    assert not list(target.glob(".writing*"))


def test_lines_have_each_record_once(bucket: BucketMaker, forks: Forks, tmp_path: Path) -> None:
    target, state = tmp_path / "lines", tmp_path / "state.json"
    sink = ("--sink", f"jsonl:{target}", "--partitions", "1", "--columns", "offset")

    def settled() -> int:
        return state.stat().st_mtime_ns if state.exists() else 0

    arguments = [*REPLAY, bucket.url, *sink, "--resume", str(state)]
    killed_runs(forks, arguments, KILLS // 4, settled, 0.9, ("--rate", "200KB/s"))
    offsets = [json.loads(line)["offset"] for line in target.read_text().splitlines()]
    assert offsets == list(range(SEGMENTS * RECORDS))


def test_an_iceberg_table_has_each_record_once(
    bucket: BucketMaker,
    whole: list[pa.Table],
    forks: Forks,
    tmp_path: Path,
    catalog: Callable[[], Any],
    catalog_root: Path,
) -> None:
    """Kills meet data files without a commit, and commits: a description of the table is written just before its commit."""
    sink = ("--sink", "iceberg:kills.logs.flights", "--unordered", "--rate", "8MB/s", "--file-bytes", "300KB")
    resume = ("--resume", str(tmp_path / "state.json"))

    def described() -> int:
        paths = catalog_root.glob("warehouse/logs/flights/metadata/*.metadata.json")
        return max((int(path.name.partition("-")[0]) for path in paths), default=0)

    killed_runs(forks, [*REPLAY, bucket.url, *sink, *resume], KILLS, described)
    table = catalog().load_table("logs.flights")
    figure(f"{len(table.snapshots())} snapshots")
    found = table.scan().to_arrow()
    for partition in (0, 1):
        rows = found.filter(pa.compute.field("partition") == partition)
        assert rows.cast(whole[partition].schema).sort_by("offset").equals(whole[partition])
    assert offsets_of(table) == {
        TopicPartition("flights", partition): [(0, SEGMENTS * RECORDS)] for partition in (0, 1)
    }
    forks.start([*REPLAY, bucket.url, *sink])
    assert forks.wait() == 1, "a table that is not empty is not appended to"
    with pytest.raises(CommitFailedException):
        other = catalog().load_table("logs.flights")
        table.append(found.slice(0, 1))
        other.append(found.slice(0, 1))
