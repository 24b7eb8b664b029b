"""The results as JSON and as a table: medians per column, ratio to Kafka, and whether each bar holds."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bars import Bar, Results
from benchmarks.measure import Figures, median
from benchmarks.sides import ACK, APACHE, OS, SYNCED

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = (OS.label, ACK.label, SYNCED.label, APACHE.label)
# What the table shows of a row, where the row has it: figure, heading, digits.
SHOWN = (
    ("mb_per_s", "MB/s", 0),
    ("records_per_s", "rec/s", 0),
    ("p50_ms", "p50 ms", 2),
    ("p99_ms", "p99 ms", 2),
    ("broker_cpu_s_per_gb", "CPU s/GB", 2),
    ("broker_cpu_s_per_million_requests", "CPU s/M req", 1),
    ("broker_cores", "cores", 2),
    ("client_cpu_s", "client s", 1),
    ("peak_rss_mib", "peak MiB", 0),
)
_SPECIAL = (
    "start_s",
    "rss_mib",
    "segments",
    "load_s",
    "local_mb",
    "stall_max_ms",
    "stall_max_since_start_ms",
    "fetched_per_byte_served",
)


class Report:
    """Collects samples as they come; ``write`` may be called after each row, so that a stopped run is not lost."""

    def __init__(self, bars: Mapping[str, Sequence[Bar]], settings: Mapping[str, object]) -> None:
        self.bars = bars
        self.samples: dict[str, dict[str, list[Figures]]] = {}
        self.settings = settings
        self.started_at = time.strftime("%Y%m%d-%H%M%S")
        self.path = RESULTS / f"{self.started_at}.json"

    def add(self, row: str, column: str, figures: Figures) -> None:
        self.samples.setdefault(row, {}).setdefault(column, []).append(figures)

    def medians(self) -> Results:
        return {
            row: {column: median(samples) for column, samples in columns.items()}
            for row, columns in self.samples.items()
        }

    def write(self) -> None:
        results = self.medians()
        document = {
            "started_at": self.started_at,
            "machine": {
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
            "settings": self.settings,
            "rows": [
                {
                    "name": row,
                    "columns": {c: {"median": results[row][c], "runs": runs} for c, runs in columns.items()},
                    "bars": [self._bar(bar, row, results) for bar in self.bars.get(row, ())],
                }
                for row, columns in self.samples.items()
            ],
        }
        RESULTS.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(document, indent=1))

    @staticmethod
    def _bar(bar: Bar, row: str, results: Results) -> dict[str, object]:
        return {"bar": bar.text(), "value": bar.value(row, results), "holds": bar.holds(row, results)}

    def show(self, console: Console) -> None:
        results = self.medians()
        table = Table(title="medians; CPU is the broker's, or all brokers', with the whole process tree")
        for heading in ("row", "column", *(heading for _, heading, _ in SHOWN), "more", "bars"):
            table.add_column(
                heading, overflow="fold", justify="left" if heading in ("row", "bars") else "right"
            )
        for row, columns in results.items():
            for n, column in enumerate(c for c in COLUMNS if c in columns):
                cells = [_cell(columns[column], figure, digits) for figure, _, digits in SHOWN]
                verdicts = self._verdicts(row, results) if n == 0 else ""
                if n == 0:
                    table.add_section()
                table.add_row(row if n == 0 else "", column, *cells, _more(columns[column]), verdicts)
        console.print(table)
        failed = [
            f"{row}: {bar.text()}"
            for row in results
            for bar in self.bars.get(row, ())
            if bar.holds(row, results) is False
        ]
        console.print(f"results: {self.path}")
        console.print(f"bars that do not hold: {len(failed)}")
        for line in failed:
            console.print(f"  {line}", style="red")

    def _verdicts(self, row: str, results: Results) -> str:
        lines = []
        for bar in self.bars.get(row, ()):
            value = bar.value(row, results)
            holds = bar.holds(row, results)
            mark = "?" if holds is None else "[green]ok[/]" if holds else "[red]NO[/]"
            lines.append(f"{mark} {'' if value is None else f'{value:.2f} '}({bar.text()})")
        return "\n".join(lines)


def _cell(figures: Figures, name: str, digits: int) -> str:
    return f"{figures[name]:,.{digits}f}" if name in figures else ""


def _more(figures: Figures) -> str:
    lines = [f"{name} {figures[name]:,.2f}" for name in _SPECIAL if name in figures]
    if figures.get("client_bound", 0) >= 0.5:
        lines.append("client-bound")
    return "\n".join(lines)
