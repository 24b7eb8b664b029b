"""How fast a table takes a topic's history, how fast it is merged, and how much memory each needs.

Usage: python -m benchmarks.table_rows [--segments N] [--json]

A bucket of four partitions is made in a temporary directory, of segments of 100,000 records of 400 bytes; both commands run
as they are, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
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
        "most_mb": usage.ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.table_rows")
    parser.add_argument("--segments", type=int, default=10, help="of each partition")
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
        found = {
            "history": measured("table", "create", "flights", *catalog, *written),
            "merge": measured("table", "compact", "flights", *catalog),
        }
    records = PARTITIONS * RECORDS * given.segments
    for row in found.values():
        row["records_per_cpu_second"] = round(records / row["cpu_seconds"])
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, row in found.items():
        print(f"{name:8} {records:,} records: " + ", ".join(f"{key} {value:,}" for key, value in row.items()))


if __name__ == "__main__":
    main()
