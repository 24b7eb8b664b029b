"""The columns of a replay as Iceberg has them, and the properties of tables that are made here. Pure."""

from __future__ import annotations

import pyarrow as pa

FILE_BYTES = 128 << 20
UNBOUNDED = ("key", "value", "headers")
"""No least and largest value of these is kept: nobody looks for ranges of them."""
PROPERTIES = {
    # A commit that meets another one must fail: the other one may hold the same offsets.
    "commit.retry.num-retries": "0",
    "write.parquet.compression-codec": "zstd",
    "write.target-file-size-bytes": str(FILE_BYTES),
    # Else each commit leaves a description of the whole table.
    "write.metadata.delete-after-commit.enabled": "true",
    **{f"write.metadata.metrics.column.{name}": "none" for name in ("key", "value")},
    **{f"write.metadata.metrics.column.headers.element.{name}": "none" for name in ("key", "value")},
}


def table_schema(schema: pa.Schema) -> pa.Schema:
    """As Iceberg has it: microseconds, no dictionaries, no small integers."""
    return pa.schema([pa.field(field.name, _type_of(field.type)) for field in schema])


def _type_of(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(type_):
        return pa.string()
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", tz="UTC")
    return pa.int32() if pa.types.is_int8(type_) else type_
