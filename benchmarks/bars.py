"""What a row is held to: a figure of tierlog's against a constant, against Kafka, or against another row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measure import Figures
from benchmarks.sides import APACHE, OS

Results = Mapping[str, Mapping[str, Figures]]  # row name → column label → medians


@dataclass(frozen=True, slots=True)
class Bar:
    """``figure`` of ``column`` must be ``at_most``/``at_least`` ``limit`` times the reference.

    The reference is ``against`` (a column of the same row), or ``against_row`` (the same column of another row);
    with neither, ``limit`` is the value itself.
    """

    figure: str
    limit: float
    at_most: bool = True
    against: str | None = APACHE.label
    against_row: str | None = None
    column: str = OS.label

    def value(self, row: str, results: Results) -> float | None:
        """The figure, or its ratio to the reference; None where one of them was not measured."""
        mine = results.get(row, {}).get(self.column, {}).get(self.figure)
        if mine is None:
            return None
        if self.against_row is not None:
            other = results.get(self.against_row, {}).get(self.column, {}).get(self.figure)
        elif self.against is not None:
            other = results.get(row, {}).get(self.against, {}).get(self.figure)
        else:
            return mine
        return None if not other else mine / other

    def holds(self, row: str, results: Results) -> bool | None:
        value = self.value(row, results)
        if value is None:
            return None
        return value <= self.limit if self.at_most else value >= self.limit

    def text(self) -> str:
        sign = "<=" if self.at_most else ">="
        if self.against_row is not None:
            return f"{self.figure} {sign} {self.limit:g}x {self.against_row}"
        if self.against is not None:
            return f"{self.figure} {sign} {self.limit:g}x {self.against}"
        return f"{self.figure} {sign} {self.limit:g}"


def most(figure: str, limit: float, **kwargs: object) -> Bar:
    return Bar(figure, limit, True, **kwargs)  # type: ignore[arg-type]


def least(figure: str, limit: float, **kwargs: object) -> Bar:
    return Bar(figure, limit, False, **kwargs)  # type: ignore[arg-type]
