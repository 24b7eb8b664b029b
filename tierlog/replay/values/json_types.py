"""JSON values to an Arrow type, and into one. Pure.

Types widen: int64 to double, and to string whatever has several types; a string column holds other values as JSON text. A
field that is always null, an object without fields and an integer beyond 64 bits are text too.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import types

from tierlog.replay.values.port import DEPTH_MAX, FIELDS_MAX, Fit, Undecodable

INT64 = range(-(1 << 63), 1 << 63)
_SIMPLE = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}


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
    return {name: kind_of(each, depth + 1) for name, each in value.items() if is_text(name)}


def wider(a: _Kind, b: _Kind) -> _Kind:
    """Holds what either holds."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    if isinstance(a, dict) and isinstance(b, dict):
        merged = dict(a)
        for name, kind in b.items():
            merged[name] = wider(merged.get(name), kind)
        return merged
    if isinstance(a, _List) and isinstance(b, _List):
        return _List(wider(a.items, b.items))
    return "float" if {str(a), str(b)} == {"int", "float"} else "text"


def is_text(name: str) -> bool:
    """JSON can name halves of surrogate pairs, which are no text."""
    return name.isascii() or not any("\ud800" <= each <= "\udfff" for each in name)


def arrow_of(kind: _Kind) -> pa.DataType:
    """Raises Undecodable for one of too many fields."""
    if size_of(kind) > FIELDS_MAX:
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


def fit_of(kind: pa.DataType, is_whole: bool, path: str = "") -> Fit:
    """``is_whole``: a field that the type lacks is refused; else it is left out. Raises TypeError for a type that JSON does
    not have."""
    if types.is_struct(kind):
        return _object_fit(kind, is_whole, path)
    if types.is_list(kind):
        inner = fit_of(kind.value_type, is_whole, f"{path}[]")

        def fit_list(value: Any) -> Any:
            if type(value) is list:
                return [inner(each) for each in value]
            return _null(value, kind, path)

        return fit_list
    if types.is_string(kind) or types.is_large_string(kind):
        return lambda value: (
            value if value is None or type(value) is str else json.dumps(value, ensure_ascii=False)
        )
    if types.is_integer(kind):
        bits, least = kind.bit_width, -1 if types.is_signed_integer(kind) else 0
        inside = range(least << (bits - 1), 1 << (bits + least))
        return lambda value: value if type(value) is int and value in inside else _null(value, kind, path)
    if types.is_floating(kind):
        return lambda value: float(value) if type(value) in (float, int) else _null(value, kind, path)
    if types.is_boolean(kind):
        return lambda value: value if type(value) is bool else _null(value, kind, path)
    if types.is_timestamp(kind) or types.is_date(kind):
        return _time_fit(kind, path)
    raise TypeError(f"{path or 'value'}: {kind} cannot be read from JSON")


def _object_fit(kind: pa.DataType, is_whole: bool, path: str) -> Fit:
    before = f"{path}." if path else ""
    fits = [(field.name, fit_of(field.type, is_whole, before + field.name)) for field in kind]
    known = frozenset(name for name, _ in fits)

    def fit(value: Any) -> Any:
        if type(value) is not dict:
            return _null(value, kind, path)
        if is_whole and not value.keys() <= known:
            unknown = min(value.keys() - known)
            raise Undecodable(f"{before}{unknown[:100]}: a field that the first values do not have")
        return {name: inner(value.get(name)) for name, inner in fits}

    return fit


def _time_fit(kind: pa.DataType, path: str) -> Fit:
    def fit(value: Any) -> Any:
        try:
            if type(value) is str:
                if types.is_date(kind):
                    return date.fromisoformat(value)
                time = datetime.fromisoformat(value)
                aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
                return aware if kind.tz is not None else time
        except ValueError:
            raise Undecodable(f"{path}: {value[:40]!r} is no time") from None
        return value if type(value) is int else _null(value, kind, path)

    return fit


def _null(value: Any, kind: pa.DataType, path: str) -> None:
    if value is not None:
        told = "an object" if types.is_struct(kind) else str(kind)
        raise Undecodable(f"{path or 'value'}: expected {told}, found {_name(value)}")


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", int: "an integer"}
    return names.get(type(value), "a number")
