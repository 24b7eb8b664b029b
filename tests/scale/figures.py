"""What a run has measured, each figure beside the bar that it is held to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` must be at most ``bar``; without a bar it is only told."""

    row: str
    name: str
    value: float
    bar: float | None = None

    @property
    def holds(self) -> bool:
        return self.bar is None or self.value <= self.bar


def show(console: Console, figures: Iterable[Figure]) -> None:
    table = Table(title="at size: each figure and the most that it may be")
    for heading in ("row", "figure", "value", "bar", ""):
        table.add_column(heading, justify="right" if heading in ("value", "bar") else "left", overflow="fold")
    before = ""
    for figure in figures:
        if figure.row != before:
            table.add_section()
        row, before = (figure.row if figure.row != before else ""), figure.row
        bar = "" if figure.bar is None else f"{figure.bar:,.4g}"
        verdict = "" if figure.bar is None else ("holds" if figure.holds else "FAILS")
        table.add_row(row, figure.name, f"{figure.value:,.4g}", bar, verdict)
    console.print(table)


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which that share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
