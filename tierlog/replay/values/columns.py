"""Python's objects to Arrow columns, field by field: several times as fast as ``pyarrow.array`` with whole objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

Objects = list[dict[str, Any] | None]


def column_of(values: list[Any], kind: pa.DataType) -> pa.Array:
    """As ``pyarrow.array``, and with its errors; objects have all fields of their type."""
    if not pa.types.is_struct(kind):
        return pa.array(values, kind)
    return objects_of(
        values,
        kind,
        (
            column_of([None if value is None else value[field.name] for value in values], field.type)
            for field in kind
        ),
    )


def objects_of(values: Objects, kind: pa.DataType, fields: Iterable[pa.Array]) -> pa.Array:
    """A column of objects, whose fields are there already."""
    return pa.StructArray.from_arrays(list(fields), fields=list(kind), mask=nulls_of(values))


def nulls_of(values: list[Any]) -> pa.Array | None:
    """None: there is none."""
    return pa.array([value is None for value in values], pa.bool_()) if None in values else None
