"""Rows as columns, on their way to the process that writes Parquet. Pure.

Texts go as a list of the different ones and an index per row, everything else as 64 bits a row: few topics and clients have
many rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from tiering.ledger.rows import LedgerRow

VERSION = 1
"""Of the format in ``docs/ledger.md``."""
VERSION_KEY = "tierlog.ledger.version"
WRITTEN_KEY = "written_ms"
SINCE_KEY = "since_ms"
TEXTS = ("kind", *(name for name, default in LedgerRow._field_defaults.items() if isinstance(default, str)))
FLOATS = ("byte_hours",)
INTEGERS = tuple(name for name in LedgerRow._fields if name not in {*TEXTS, *FLOATS})
NARROW = ("broker_id", "partition")
"""32 bits in Parquet, all other integers have 64."""


class Columns:
    """Takes row after row, so that the caller may pause between them."""

    def __init__(self) -> None:
        self.row_count = 0
        self._numbers = {name: array("d" if name in FLOATS else "q") for name in (*INTEGERS, *FLOATS)}
        self._indexes = {name: array("q") for name in TEXTS}
        self._texts: dict[str, dict[str, int]] = {name: {} for name in TEXTS}

    def add(self, row: LedgerRow) -> None:
        self.row_count += 1
        for name, column in self._numbers.items():
            column.append(getattr(row, name))
        for name, indexes in self._indexes.items():
            known = self._texts[name]
            indexes.append(known.setdefault(getattr(row, name), len(known)))

    def message(self, since_ms: int, until_ms: int) -> tuple[dict[str, Any], bytes]:
        """Header and body of the request to encode them; ``tiering.ledger.parquet`` takes it."""
        header = {
            "op": "encode-ledger",
            "rows": self.row_count,
            "texts": {name: list(known) for name, known in self._texts.items()},
            "metadata": {VERSION_KEY: str(VERSION), WRITTEN_KEY: str(until_ms), SINCE_KEY: str(since_ms)},
        }
        parts: Iterable[array[Any]] = (*self._numbers.values(), *self._indexes.values())
        return header, b"".join(part.tobytes() for part in parts)
