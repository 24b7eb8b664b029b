"""Rows that come in the order of their hours, hour by hour: reports hold one hour of them, and sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from tiering.ledger.rows import LedgerRow


def by_hour(rows: Iterable[LedgerRow]) -> Iterator[tuple[int, list[LedgerRow]]]:
    """``hour_ms`` and all rows of that hour."""
    for hour_ms, of_hour in groupby(rows, key=attrgetter("hour_ms")):
        yield hour_ms, list(of_hour)
