"""How much memory replays and tables need, and how fast they are: a table that takes a topic's history and merges it, and
replays into Parquet and lines, with few and many GETs at once, in order and in none.

Usage: python -m benchmarks.memory_rows [--segments N] [--only TEXT] [--json]

A bucket of four partitions is made in a temporary directory, of segments of 100,000 records of 400 bytes; the commands run
as they are, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.replay_bucket import BucketMaker, Shape
from tierlog.records.batch import Compression

PARTITIONS = 4
RECORDS = 100_000
SHAPE = Shape(400, 130, Compression.ZSTD)


def bucket(root: Path, segments: int) -> BucketMaker:
    made = BucketMaker(root / "bucket")
    for partition in range(PARTITIONS):
        made.fill("flights", partition, 1, RECORDS, SHAPE)
        for _ in range(segments - 1):
            made.repeat("flights", partition)
    made.publish()
    return made


def measured(*arguments: str) -> dict[str, float]:
    """Of a process: seconds by the clock and of CPU, and the most memory that it held."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "tierlog", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "most_mb": round(usage.ru_maxrss * 1024 / 1e6),
    }


REPLAYS: dict[str, tuple[str, ...]] = {
    "parquet": ("--sink", "parquet:"),
    "parquet, 1 GET": ("--sink", "parquet:", "--parallel", "1"),
    "parquet, 32 GETs": ("--sink", "parquet:", "--parallel", "32"),
    "parquet, no order": ("--sink", "parquet:", "--unordered"),
    "parquet, no order, 32 GETs": ("--sink", "parquet:", "--unordered", "--parallel", "32"),
    "lines": ("--sink", "jsonl:"),
}


def replayed(made: BucketMaker, name: str, root: Path) -> dict[str, float]:
    _, sink, *rest = REPLAYS[name]
    target = root / "replayed"
    command = ("replay", "flights", "--bucket", made.url, "--sink", f"{sink}{target}", *rest)
    row = measured(*command, "--progress", "none", "--no-ledger")
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.memory_rows")
    parser.add_argument("--segments", type=int, default=10, help="of each partition")
    parser.add_argument("--only", default="", help="a part of the rows' names")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        made = bucket(root, given.segments)
        catalog = ("--iceberg", f"sqlite:///{root}/catalog.db")
        written = (
            "--bucket",
            made.url,
            "--warehouse",
            f"file://{root}/tables",
            "--once",
            "--progress",
            "none",
        )
        work = {
            "history": partial(measured, "table", "create", "flights", *catalog, *written),
            "merge": partial(measured, "table", "compact", "flights", *catalog),
            **{name: partial(replayed, made, name, root) for name in REPLAYS},
        }
        found = {name: row() for name, row in work.items() if given.only in name}
    records = PARTITIONS * RECORDS * given.segments
    for row in found.values():
        row["records_per_cpu_second"] = round(records / row["cpu_seconds"])
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, row in found.items():
        print(
            f"{name:28} {records:,} records: " + ", ".join(f"{key} {value:,}" for key, value in row.items())
        )


if __name__ == "__main__":
    main()
