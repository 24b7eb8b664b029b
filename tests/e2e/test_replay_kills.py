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

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import tierlog.replay
from tests.e2e.tiered import figure, until
from tests.replay_bucket import BucketMaker, Shape
from tests.replay_forks import Forks
from tierlog.records.batch import Compression
from tierlog.replay.sinks.parquet import NAME

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
def forks() -> Iterator[Forks]:
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
