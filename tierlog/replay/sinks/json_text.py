"""Record batches as JSON, a line for each record. Column by column: what is alike in a batch is looked at once.

Bytes that are no UTF-8 stand as base64 under ``<column>_base64``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

NULL = "null"


def lines_of(batch: pa.RecordBatch) -> bytes:
    """As ``json.dumps`` writes each record."""
    columns = [
        _members(field.name, column) for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return "".join("{" + ", ".join(members) + "}\n" for members in zip(*columns, strict=True)).encode()


def _members(name: str, column: pa.Array) -> Iterable[str]:
    """``"name": value`` of each row."""
    kind, key = column.type, f"{json.dumps(name)}: "
    if pa.types.is_dictionary(kind):
        known = [key + json.dumps(_of(value)) for value in column.dictionary.to_pylist()]
        return [key + NULL if at is None else known[at] for at in column.indices.to_pylist()]
    if pa.types.is_integer(kind):
        return [key + (NULL if value is None else str(value)) for value in column.to_pylist()]
    if kind == pa.timestamp("ms", "UTC"):
        texts = pc.strftime(column.cast(pa.timestamp("ms")), format='"%Y-%m-%dT%H:%M:%S+00:00"')
        return [key + (text or NULL) for text in texts.to_pylist()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        other = f"{json.dumps(name + '_base64')}: "
        return [_bytes(key, other, value) for value in column.to_pylist()]
    if pa.types.is_list(kind) and not column.null_count and not len(column.flatten()):
        return [f"{key}[]"] * len(column)
    return [key + json.dumps(_of(value)) for value in column.to_pylist()]


def _bytes(key: str, other: str, value: bytes | None) -> str:
    if value is None:
        return key + NULL
    try:
        return key + json.dumps(value.decode())
    except UnicodeDecodeError:
        return f'{other}"{base64.b64encode(value).decode()}"'


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """What JSON has: of the record, and of all that is in it."""
    plain: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, bytes):
            try:
                plain[name] = value.decode()
            except UnicodeDecodeError:
                plain[f"{name}_base64"] = base64.b64encode(value).decode()
        else:
            plain[name] = _of(value)
    return plain


def _of(value: Any) -> Any:
    if isinstance(value, dict):
        return _plain(value)
    if isinstance(value, list | tuple):  # A map is a list of pairs.
        return [_of(each) for each in value]
    if isinstance(value, datetime):
        exact = "milliseconds" if value.microsecond % 1_000 == 0 else "microseconds"
        return value.isoformat(timespec=exact)
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
