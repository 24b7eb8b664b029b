"""The ledger's objects as Parquet. Imports pyarrow when it is called, as only ``tiering.manifest_worker`` does beside it.

A broker has its rows encoded by that process; a report reads objects in its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tiering.errors import CorruptObject, UnsupportedFormat
from tiering.ledger.columns import (
    FLOATS,
    INTEGERS,
    NARROW,
    SINCE_KEY,
    TEXTS,
    VERSION,
    VERSION_KEY,
    WRITTEN_KEY,
)
from tiering.ledger.names import LedgerName
from tiering.ledger.rows import Kind, LedgerRow

if TYPE_CHECKING:
    import pyarrow

ROWS_MAX = 1_000_000
_KINDS = {kind.value: kind for kind in Kind}


class LedgerObject(NamedTuple):
    """What one object holds; ``since_ms`` and ``written_ms``: what time its rows are of."""

    since_ms: int
    written_ms: int
    rows: list[LedgerRow]


def encode_ledger(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """The Parquet file of ``Columns.message``; in the form of the worker's operations."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row_count = header["rows"]
    columns: dict[str, Any] = {}
    for number, name in enumerate((*INTEGERS, *FLOATS, *TEXTS)):
        buffer = pa.py_buffer(body[8 * row_count * number : 8 * row_count * (number + 1)])
        kind = pa.float64() if name in FLOATS else pa.int64()
        column = pa.Array.from_buffers(kind, row_count, [None, buffer])
        if name in TEXTS:
            texts = pa.array(header["texts"][name], pa.string())
            column = pa.DictionaryArray.from_arrays(column.cast(pa.int32()), texts).cast(pa.string())
        elif name in NARROW:
            column = column.cast(pa.int32())
        columns[name] = column
    fields = [pa.field(name, columns[name].type, nullable=False) for name in LedgerRow._fields]
    table = pa.Table.from_arrays(
        [columns[name] for name in LedgerRow._fields], schema=pa.schema(fields, metadata=header["metadata"])
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return {}, sink.getvalue().to_pybytes()


def decode_ledger(data: bytes, key: str, name: LedgerName) -> LedgerObject:
    """What the object ``key`` holds, but for kinds that are not known here; columns that it lacks have their defaults.
    Raises ``CorruptObject`` and ``UnsupportedFormat``, each with one line that names it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        metadata = {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}
        version = int(metadata[VERSION_KEY])
        if version > VERSION:
            raise UnsupportedFormat(f"{key}: ledger version {version}; this release knows {VERSION}")
        if file.metadata.num_rows > ROWS_MAX:
            raise CorruptObject(f"{key}: {file.metadata.num_rows} rows")
        table = file.read(
            columns=[n for n in LedgerRow._fields if n in file.schema_arrow.names], use_threads=False
        )
        since_ms, written_ms = int(metadata.get(SINCE_KEY, name.hour_ms)), int(metadata[WRITTEN_KEY])
        rows = _rows_of(table)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        told = " ".join(str(error).split())[:200]
        raise CorruptObject(f"{key}: no ledger of tierlog: {type(error).__name__}: {told}") from None
    for row in rows:
        if (row.hour_ms, row.broker_id) != name[:2] or not math.isfinite(row.byte_hours):
            raise CorruptObject(f"{key}: a row that does not belong there: {row}")
    return LedgerObject(since_ms, written_ms, rows)


def _rows_of(table: pyarrow.Table) -> list[LedgerRow]:
    names = [name for name in table.column_names if name != "kind"]
    columns = [table.column(name).to_pylist() for name in names]
    kinds = [_KINDS.get(text) for text in table.column("kind").to_pylist()]
    return [
        LedgerRow(kind=kind, **dict(zip(names, values, strict=True)))
        for kind, *values in zip(kinds, *columns, strict=True)
        if kind is not None
    ]
