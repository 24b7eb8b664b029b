"""Side by side with Apache Kafka 4.4.0 in one run, on the same work with the same clients.

    python -m benchmarks [--cluster] [--only PATTERN] [--quick] [--list] [--keep]

``BENCH_AGAINST=DIR`` puts another checkout of tierlog (with its own ``.venv``) in Kafka's place: what a change costs. Its
topics have flush.mode=os, and the bars that compare with Kafka say nothing then.

Needs what ``tools/install_test_deps.sh`` provides. Runs alternate between tierlog with flush.mode=os (Kafka's
contract), tierlog's default and Kafka; the table shows medians. Costs per GB count record values, 1 GB = 1e9
bytes. A run is called client-bound when the broker used less than 60 % of a core.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.backfill_rows import BackfillRows
from benchmarks.bars import Bar
from benchmarks.cluster_rows import ClusterRows
from benchmarks.cold_rows import ColdRows
from benchmarks.replay_beside import ReplayBeside
from benchmarks.report import RESULTS, Report
from benchmarks.rows import QUICK, PairedRows, Sizes
from benchmarks.sides import AGAINST
from benchmarks.single_rows import SingleRows
from benchmarks.tiered_rows import TieredRows
from tests.servers import kafka


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cluster", action="store_true", help="the rows of three brokers, and only those")
    parser.add_argument("--only", default="", help="a regular expression that row names must contain")
    parser.add_argument("--quick", action="store_true", help="small sizes and one run each, for development")
    parser.add_argument("--runs", type=int, help="measured runs per row and column")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--keep", action="store_true", help="keep the brokers' directories")
    return parser.parse_args()


def _groups(
    sizes: Sizes, cluster: bool
) -> Sequence[SingleRows | PairedRows | TieredRows | ColdRows | BackfillRows | ReplayBeside | ClusterRows]:
    if cluster:
        return (ClusterRows(sizes),)
    return (
        SingleRows(sizes),
        PairedRows(sizes),
        TieredRows(sizes),
        ColdRows(sizes),
        BackfillRows(sizes),
        ReplayBeside(sizes),
    )


def run(asked: argparse.Namespace, console: Console) -> None:
    sizes = QUICK if asked.quick else Sizes()
    if asked.runs:
        sizes = dataclasses.replace(sizes, runs=asked.runs)
    groups = _groups(sizes, asked.cluster)
    bars: dict[str, list[Bar]] = {name: list(held) for group in groups for name, held in group.rows.items()}
    pattern = re.compile(asked.only)
    if asked.list:
        for name in bars:
            console.print(name, highlight=False)
        return
    report = Report(bars, {"only": asked.only, **dataclasses.asdict(sizes)})
    RESULTS.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=RESULTS))
    try:
        for group in groups:
            for row, column, figures in group.run(directory, lambda name: bool(pattern.search(name))):
                report.add(row, column, figures)
                report.write()
                shown = ", ".join(
                    f"{k} {v:,.4g}" for k, v in figures.items() if k not in ("records", "bytes")
                )
                console.print(f"{time.strftime('%H:%M:%S')} {row} | {column}: {shown}", highlight=False)
            if not asked.keep:
                for each in directory.iterdir():
                    shutil.rmtree(each, ignore_errors=True)
    finally:
        if report.samples:
            report.show(console)
        failures = [each for group in groups for each in group.failures]
        for failure in failures:
            console.print(f"FAILED {failure}", style="red", markup=False)
        if not asked.keep:
            shutil.rmtree(directory, ignore_errors=True)
    if failures:
        sys.exit(1)


def main() -> None:
    asked = arguments()
    console = Console(width=None if sys.stdout.isatty() else 220, soft_wrap=False)
    reason = kafka.absent() if AGAINST is None else None
    if reason is not None and not asked.list:
        console.print(f"cannot compare: {reason}", style="red")
        sys.exit(1)
    run(asked, console)


if __name__ == "__main__":
    main()
