"""Flat rows as CSV and Parquet; money and quantities stay exact decimals."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from tiering.cost.exact import exact

SCALE = 18
PRECISION = 38


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """With a line of names; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_plain(value) for value in row.values()])
    return text.getvalue()


def _plain(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    text = format(_grain(value), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@exact
def _grain(value: Decimal) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-SCALE))


def parquet_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    """Decimals of 38 digits, 18 of them behind the point."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        if any(isinstance(value, Decimal) for value in values):
            rounded = [None if value is None else _grain(value) for value in values]
            columns[name] = pa.array(rounded, pa.decimal128(PRECISION, SCALE))
        else:
            # A column of nothing is one of texts: no reader likes null types.
            is_empty = all(value is None for value in values)
            columns[name] = pa.array(values, pa.string() if is_empty else None)
    made = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), made, compression="zstd")
    return bytes(made.getvalue().to_pybytes())
