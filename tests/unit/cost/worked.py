"""The bills of docs/cost.md: each a price book, the ledger's rows, and the figures made by hand beside them."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tiering.cost.prices import Book, parse_book
from tiering.ledger.rows import HOUR_MS, Kind, LedgerRow

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cost.md"
START_MS = 490_000 * HOUR_MS
_BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Worked(NamedTuple):
    """``by_hand``: cents by item, ``total`` and ``without_tier``."""

    book: Book
    rows: list[LedgerRow]
    by_hand: dict[str, Decimal]


def worked_bills() -> list[Worked]:
    """Books begin with a name; the block behind each has its rows."""
    found = []
    for book, bill in pairwise(_BLOCK.findall(PAGE.read_text())):
        if book.startswith("name"):
            parsed = tomllib.loads(bill, parse_float=Decimal)
            found.append(
                Worked(parse_book(book, "docs/cost.md"), expanded(parsed["rows"]), parsed["by_hand"])
            )
    return found


def expanded(tables: list[dict[str, Any]]) -> list[LedgerRow]:
    """Each table is a row of every hour in ``hours`` = [first, end); bytes are in GiB, whole hours are held."""
    rows = []
    for table in tables:
        first, end = table.pop("hours")
        fields = {
            name.replace("_gib", "_bytes"): int(value * 2**30) if name.endswith("_gib") else value
            for name, value in table.items()
        }
        fields["kind"] = Kind(fields["kind"])
        fields.setdefault("broker_id", 1)
        fields["byte_hours"] = float(fields.get("held_bytes", 0))
        rows += [LedgerRow(START_MS + hour * HOUR_MS, **fields) for hour in range(first, end)]
    return sorted(rows, key=lambda row: row.hour_ms)
