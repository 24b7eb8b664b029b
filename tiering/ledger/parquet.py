"""The ledger's objects as Parquet. Imports pyarrow when it is called, as only ``tiering.manifest_worker`` does beside it.

A broker has its rows encoded by that process; a report reads objects in its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tiering.errors import CorruptObject, UnsupportedFormat
from tiering.ledger.columns import (
    FLOATS,
    INTEGERS,
    NARROW,
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


class LedgerFile:
    """The object ``key``, opened: its rows are decoded when they are asked for. Raises ``CorruptObject`` and
    ``UnsupportedFormat``, each with one line that names it."""

    def __init__(self, data: bytes, key: str, name: LedgerName) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._key = key
        self._name = name
        with self._named_errors():
            options: dict[str, Any] = {"page_checksum_verification": True, "read_dictionary": TEXTS}
            self._file = pq.ParquetFile(pa.BufferReader(data), **options)
            metadata = {k.decode(): v.decode() for k, v in (self._file.schema_arrow.metadata or {}).items()}
            version = int(metadata[VERSION_KEY])
            if version > VERSION:
                raise UnsupportedFormat(f"{key}: ledger version {version}; this release knows {VERSION}")
            if self._file.metadata.num_rows > ROWS_MAX:
                raise CorruptObject(f"{key}: {self._file.metadata.num_rows} rows")
            self.written_ms = int(metadata[WRITTEN_KEY])
            """Until when its rows tell."""

    def rows(self, without: Collection[str] = ()) -> list[LedgerRow]:
        """But for kinds that are not known here; columns that it lacks, and those ``without``, have their defaults. Raises
        ``CorruptObject``."""
        with self._named_errors():
            there = set(self._file.schema_arrow.names) - set(without)
            names = [name for name in LedgerRow._fields if name in there]
            table = self._file.read(columns=names, use_threads=False)
            rows = _rows_of(table)
        for row in rows:
            if (row.hour_ms, row.broker_id) != self._name[:2] or not math.isfinite(row.byte_hours):
                raise CorruptObject(f"{self._key}: a row that does not belong there: {row}")
        return rows

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            told = " ".join(str(error).split())[:200]
            reason = f"{self._key}: no ledger of tierlog: {type(error).__name__}: {told}"
            raise CorruptObject(reason) from None


def _rows_of(table: pyarrow.Table) -> list[LedgerRow]:
    fields: list[Iterable[Any]] = []
    for name in LedgerRow._fields:
        if name in table.column_names:
            values = _values_of(table.column(name))
            fields.append([_KINDS.get(text) for text in values] if name == "kind" else values)
        else:
            fields.append([LedgerRow._field_defaults[name]] * table.num_rows)
    return [row for row in map(LedgerRow._make, zip(*fields, strict=True)) if row.kind is not None]


def _values_of(column: pyarrow.ChunkedArray) -> list[Any]:
    """A text that stands in many rows is one object."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        found: list[Any] = column.to_pylist()
        return found
    values: list[Any] = []
    for chunk in column.chunks:
        texts = chunk.dictionary.to_pylist()
        values += [texts[index] for index in chunk.indices.to_pylist()]
    return values
