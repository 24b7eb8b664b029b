"""JSON values to an Arrow type, and into one. Pure.

Types widen: int64 to double, and to string whatever has several types; a string column holds other values as JSON text. A
field that is always null, an object without fields and an integer beyond 64 bits are text too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import types

from tierlog.replay.values.columns import nulls_of, objects_of
from tierlog.replay.values.port import DEPTH_MAX, FIELDS_MAX, Undecodable
from tierlog.times import in_utc

INT64 = range(-(1 << 63), 1 << 63)
_SIMPLE = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}
_NULL: type = type(None)
_INTEGERS = frozenset({int, _NULL})
_NUMBERS = frozenset({int, float, _NULL})
_TRUTH = frozenset({bool, _NULL})
_TEXTS = frozenset({str, _NULL})
_TIMES = frozenset({str, int, _NULL})
_OBJECTS = frozenset({dict, _NULL})
_LISTS = frozenset({list, _NULL})
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", int: "an integer"}
Column = Callable[[list[Any]], pa.Array]
"""Raises Undecodable, or an error of Arrow, if one of the values does not fit."""


class _List(NamedTuple):
    items: _Kind


_Kind = str | _List | dict[str, Any] | None
"""A key of ``_SIMPLE``, a list, the fields of an object; None: not known yet."""


def kind_of(value: Any, depth: int = 0) -> _Kind:
    """The narrowest type that holds the value."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in INT64 else "text"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str) or depth >= DEPTH_MAX:
        return "text"
    if isinstance(value, list):
        items: _Kind = None
        for each in value:
            items = wider(items, kind_of(each, depth + 1))
        return _List(items)
    if len(value) > FIELDS_MAX:
        return "text"
    return {name: kind_of(each, depth + 1) for name, each in value.items() if is_text(name)}


def wider(a: _Kind, b: _Kind) -> _Kind:
    """Holds what either holds."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    if isinstance(a, dict) and isinstance(b, dict):
        # Values are many: what adds nothing costs no copy, and what adds without end is text.
        changed = {
            name: each for name, kind in b.items() if (each := wider(a.get(name), kind)) != a.get(name, "")
        }
        merged = {**a, **changed} if changed else a
        return merged if len(merged) <= FIELDS_MAX else "text"
    if isinstance(a, _List) and isinstance(b, _List):
        return _List(wider(a.items, b.items))
    return "float" if {str(a), str(b)} == {"int", "float"} else "text"


def is_text(name: str) -> bool:
    """JSON can name halves of surrogate pairs, which are no text."""
    return name.isascii() or not any("\ud800" <= each <= "\udfff" for each in name)


def arrow_of(kind: _Kind) -> pa.DataType:
    """Of an object. Raises Undecodable for one of too many fields."""
    if not isinstance(kind, dict) or size_of(kind) > FIELDS_MAX:
        raise Undecodable(f"more than {FIELDS_MAX:,} fields")
    return _arrow_of(kind)


def size_of(kind: _Kind) -> int:
    if isinstance(kind, dict):
        return 1 + sum(size_of(each) for each in kind.values())
    return 1 + size_of(kind.items) if isinstance(kind, _List) else 1


def _arrow_of(kind: _Kind) -> pa.DataType:
    if isinstance(kind, dict) and kind:
        return pa.struct([pa.field(name, _arrow_of(each)) for name, each in kind.items()])
    if isinstance(kind, _List):
        return pa.list_(_arrow_of(kind.items))
    return _SIMPLE[kind] if isinstance(kind, str) else pa.string()


def column_for(kind: pa.DataType, is_whole: bool, path: str = "") -> Column:
    """``is_whole``: a field that the type lacks is refused; else it is left out. Raises TypeError for a type that JSON does
    not have."""
    if types.is_struct(kind) and kind.num_fields:
        return _objects(kind, is_whole, path)
    if types.is_list(kind):
        return _lists(kind, is_whole, path)
    if types.is_string(kind) or types.is_large_string(kind):
        return lambda values: pa.array(_texts(values), kind)
    if types.is_integer(kind):
        return lambda values: _numbers(_checked(values, _INTEGERS, kind, path), kind, path)
    if types.is_floating(kind):
        return lambda values: _numbers(_floats(_checked(values, _NUMBERS, kind, path)), kind, path)
    if types.is_boolean(kind):
        return lambda values: pa.array(_checked(values, _TRUTH, kind, path), kind)
    if types.is_timestamp(kind) or types.is_date(kind):
        return lambda values: pa.array(
            [_time(value, kind, path) for value in _checked(values, _TIMES, kind, path)], kind
        )
    raise TypeError(f"{path or 'value'}: {kind} cannot be read from JSON")


def _objects(kind: pa.DataType, is_whole: bool, path: str) -> Column:
    before = f"{path}." if path else ""
    columns = [(field.name, column_for(field.type, is_whole, before + field.name)) for field in kind]
    known = frozenset(name for name, _ in columns)

    def column(values: list[Any]) -> pa.Array:
        _checked(values, _OBJECTS, kind, path)
        if is_whole:
            for value in values:
                if value is not None and not value.keys() <= known:
                    unknown = min(value.keys() - known)[:100]
                    raise Undecodable(f"{before}{unknown}: a field that the first values do not have")
        fields = (
            inner([None if value is None else value.get(name) for value in values]) for name, inner in columns
        )
        return objects_of(values, kind, fields)

    return column


def _lists(kind: pa.DataType, is_whole: bool, path: str) -> Column:
    inner = column_for(kind.value_type, is_whole, f"{path}[]")

    def column(values: list[Any]) -> pa.Array:
        _checked(values, _LISTS, kind, path)
        ends = accumulate((len(value or ()) for value in values), initial=0)
        items = inner([each for value in values for each in value or ()])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, type=kind, mask=nulls_of(values))

    return column


def _checked(values: list[Any], wanted: frozenset[type], kind: pa.DataType, path: str) -> list[Any]:
    """The same values. Raises Undecodable if one has another type."""
    if not wanted.issuperset(map(type, values)):
        other = next(value for value in values if type(value) not in wanted)
        told = "an object" if types.is_struct(kind) else str(kind)
        raise Undecodable(f"{path or 'value'}: expected {told}, found {_NAMES.get(type(other), 'a number')}")
    return values


def _texts(values: list[Any]) -> list[str | None]:
    if _TEXTS.issuperset(map(type, values)):
        return values
    return [
        value if value is None or type(value) is str else json.dumps(value, ensure_ascii=False)
        for value in values
    ]


def _numbers(values: list[Any], kind: pa.DataType, path: str) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (OverflowError, pa.ArrowInvalid):
        raise Undecodable(f"{path}: a number beyond {kind}") from None


def _floats(values: list[Any]) -> list[float | None]:
    return [float(value) if type(value) is int else value for value in values] if _has_int(values) else values


def _has_int(values: list[Any]) -> bool:
    return int in set(map(type, values))


def _time(value: Any, kind: pa.DataType, path: str) -> Any:
    if type(value) is not str:
        return value
    try:
        if types.is_date(kind):
            return date.fromisoformat(value)
        time = datetime.fromisoformat(value)
    except ValueError:
        raise Undecodable(f"{path}: {value[:40]!r} is no time") from None
    return time if kind.tz is None else in_utc(time)
