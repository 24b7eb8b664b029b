"""Avro schemas, as fastavro has parsed them, to Arrow types and to what makes its values ready for Arrow. Pure.

A union of null and one type is that type; any other union is a string column of JSON text. An enum is a string, a map a map.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from tierlog.replay.values.port import DEPTH_MAX, FIELDS_MAX, Undecodable

_PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
}
DECIMAL_DIGITS_MAX = 76
Fit = Callable[[Any], Any]
"""From what fastavro reads to what Arrow takes."""
Named = Mapping[str, Any]
"""Records, enums and fixed ones by their full names."""


class AvroType(NamedTuple):
    """``fit`` None: fastavro's value is what Arrow takes."""

    arrow: pa.DataType
    fit: Fit | None


def avro_type(schema: Any, named: Named) -> AvroType:
    """Raises Undecodable for what cannot be a column, or could not be read in bounded time."""
    return _Walk(named).type_of(schema, ())


class _Walk:
    def __init__(self, named: Named) -> None:
        self._named = named
        self._fields = 0

    def type_of(self, schema: Any, above: tuple[str, ...]) -> AvroType:
        """``above``: names of the types that hold it."""
        self._fields += 1
        if self._fields > FIELDS_MAX or len(above) > DEPTH_MAX:
            raise Undecodable(f"its schema has more than {FIELDS_MAX:,} fields, or {DEPTH_MAX} levels")
        if isinstance(schema, str):
            if schema in _PRIMITIVES:
                return AvroType(_PRIMITIVES[schema], None)
            if schema in above:
                raise Undecodable(f"its schema is recursive: {schema} holds itself")
            schema = self._named[schema]
        if isinstance(schema, list):
            return self._union(schema, above)
        kind = schema["type"]
        inside = (*above, schema.get("name", kind))
        match kind:
            case "record" | "error":
                return self._record(schema, inside)
            case "array":
                return self._list(schema["items"], inside)
            case "map":
                return self._map(schema["values"], inside)
            case "enum":
                return AvroType(pa.string(), None)
        if kind == "fixed" or (isinstance(kind, str) and kind in _PRIMITIVES):
            return _simple(schema)
        return self.type_of(kind, inside)

    def _union(self, branches: list[Any], above: tuple[str, ...]) -> AvroType:
        found = [self.type_of(each, above) for each in branches if each != "null"]
        if len(found) == 1:
            return found[0]
        return AvroType(pa.string(), _text) if found else AvroType(pa.null(), None)

    def _record(self, schema: Mapping[str, Any], inside: tuple[str, ...]) -> AvroType:
        # A record of the schema may come again beside itself; only one that holds itself has no end.
        found = [(field["name"], self.type_of(field["type"], inside)) for field in schema["fields"]]
        if not found:
            return AvroType(pa.string(), _text)  # Parquet and Iceberg have no column without fields.
        arrow = pa.struct([pa.field(name, each.arrow) for name, each in found])
        fits = [(name, each.fit) for name, each in found if each.fit is not None]
        if not fits:
            return AvroType(arrow, None)

        def fit(value: Any) -> Any:
            return None if value is None else {**value, **{name: inner(value[name]) for name, inner in fits}}

        return AvroType(arrow, fit)

    def _list(self, items: Any, inside: tuple[str, ...]) -> AvroType:
        if self._takes_nothing(items):
            raise Undecodable(
                "its schema has arrays of items without bytes, of which a few bytes hold any number"
            )
        inner = self.type_of(items, inside)
        fit = inner.fit
        if fit is None:
            return AvroType(pa.list_(inner.arrow), None)
        return AvroType(
            pa.list_(inner.arrow), lambda value: None if value is None else [fit(each) for each in value]
        )

    def _map(self, values: Any, inside: tuple[str, ...]) -> AvroType:
        inner = self.type_of(values, inside)
        fit = inner.fit
        return AvroType(
            pa.map_(pa.string(), inner.arrow),
            lambda value: (
                None
                if value is None
                else [(key, each if fit is None else fit(each)) for key, each in value.items()]
            ),
        )

    def _takes_nothing(self, schema: Any, depth: int = 0) -> bool:
        """Whether a value of it can have no bytes; True where it cannot be told."""
        if depth > DEPTH_MAX:
            return True
        if isinstance(schema, str):
            if schema in _PRIMITIVES:
                return schema == "null"
            schema = self._named[schema]
        if isinstance(schema, list):  # It begins with the number of its branch.
            return False
        if schema["type"] in ("record", "error"):
            return all(self._takes_nothing(field["type"], depth + 1) for field in schema["fields"])
        if schema["type"] == "fixed":
            return bool(schema["size"] == 0)
        if schema["type"] in ("array", "map", "enum"):
            return False
        return self._takes_nothing(schema["type"], depth + 1)


def _simple(schema: Mapping[str, Any]) -> AvroType:
    """A primitive, or a fixed one, with what it means beside."""
    kind, meaning = schema["type"], schema.get("logicalType")
    if meaning == "decimal" and kind in ("bytes", "fixed"):
        digits, scale = int(schema.get("precision", 0)), int(schema.get("scale", 0))
        if not 0 <= scale <= digits <= DECIMAL_DIGITS_MAX or not digits:
            raise Undecodable(
                f"its schema has a decimal of {digits} digits, {scale} of them behind the point"
            )
        return AvroType(pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale), None)
    if meaning == "uuid":
        return AvroType(pa.string(), lambda value: None if value is None else str(value))
    if kind == "fixed":
        return AvroType(pa.binary(int(schema["size"])), None)
    return AvroType(_LOGICAL.get((kind, str(meaning)), _PRIMITIVES[kind]), None)


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=_told)


def _told(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
