"""A group of rows that starts brokers of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bars import Bar
from benchmarks.measure import Sample, guarded
from benchmarks.rows import Sizes


class OwnBrokers(ABC):
    """``rows``: by name, their bars. ``name``: of the group, for what failed."""

    rows: dict[str, list[Bar]]
    name: str

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.failures: list[str] = []

    def run(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        if any(map(wanted, self.rows)):
            yield from guarded(self.name, self._measure(directory, wanted), self.failures)

    @abstractmethod
    def _measure(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        """Starts the brokers, and ends them."""
