"""Rows that come in the order of their hours go to whoever adds them up, each hour in parts: nobody holds a whole one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Protocol

from tiering.ledger.rows import LedgerRow

PART_ROWS = 4096


class Taker(Protocol):
    """Adds rows up, hour by hour, oldest first."""

    def begin_hour(self, hour_ms: int) -> None: ...

    def add(self, rows: Sequence[LedgerRow]) -> None:
        """Some rows of the hour, in any order."""

    def end_hour(self) -> None:
        """Nothing more comes of it."""


def take(rows: Iterable[LedgerRow], *takers: Taker) -> None:
    for hour_ms, of_hour in groupby(rows, key=attrgetter("hour_ms")):
        for taker in takers:
            taker.begin_hour(hour_ms)
        while part := list(islice(of_hour, PART_ROWS)):
            for taker in takers:
                taker.add(part)
        for taker in takers:
            taker.end_hour()
