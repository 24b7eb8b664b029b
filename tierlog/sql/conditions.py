"""What a WHERE clause says of partition, offset and timestamp of one table.

Pure: constants are told by ``Evaluate``. What is not understood bounds nothing, so a need is never too small. The tree is
that of DuckDB's ``json_serialize_sql``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from tierlog.sql.boxes import ALL, NOTHING, Box, Need, both, either

Node: TypeAlias = Mapping[str, Any]
Evaluate: TypeAlias = Callable[[Node, bool], float | None]
"""The value of an expression without columns: a number; as a time (True) microseconds since 1970; None if it is neither."""
Place: TypeAlias = Callable[[Node], str | None]
"""Which column of the table a column reference names: partition, offset, timestamp or another one; None if it is of
another table."""

_FLIPPED = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}
BOUNDED = ("partition", "offset", "timestamp")
# The same for every row, and in every scan of one statement.
_STEADY = {
    *("now", "get_current_timestamp", "current_timestamp", "current_localtimestamp", "today", "current_date"),
    *("get_current_date", "make_date", "make_timestamp", "make_timestamptz", "to_timestamp", "strptime"),
    *("epoch_ms", "date_trunc", "datetrunc", "to_years", "to_months", "to_weeks", "to_days", "to_hours"),
    *("to_minutes", "to_seconds", "to_milliseconds", "interval", "abs", "least", "greatest"),
    *("+", "-", "*", "/", "//"),
}


def need_of(condition: Node | None, place: Place, evaluate: Evaluate) -> Need:
    """The records of the table for which the condition can be true."""
    if not condition:
        return ALL
    kind = condition.get("type")
    children: list[Node] = condition.get("children", [])
    if kind == "CONJUNCTION_AND":
        need = ALL
        for child in children:
            need = both(need, need_of(child, place, evaluate))
        return need
    if kind == "CONJUNCTION_OR":
        return either(need_of(child, place, evaluate) for child in children)
    if kind == "COMPARE_BETWEEN":
        column = _column(condition["input"], place)
        if column is None:
            return ALL
        low = _compared(column, "COMPARE_GREATERTHANOREQUALTO", condition["lower"], evaluate)
        return both(low, _compared(column, "COMPARE_LESSTHANOREQUALTO", condition["upper"], evaluate))
    if kind == "COMPARE_IN" and len(children) > 1:
        column = _column(children[0], place)
        if column is None:
            return ALL
        return either(_compared(column, "COMPARE_EQUAL", child, evaluate) for child in children[1:])
    if kind in _FLIPPED:
        left, right = condition["left"], condition["right"]
        if (column := _column(left, place)) is not None:
            return _compared(column, kind, right, evaluate)
        if (column := _column(right, place)) is not None:
            return _compared(column, _FLIPPED[kind], left, evaluate)
    return ALL


def _column(node: Node, place: Place) -> str | None:
    if node.get("class") != "COLUMN_REF":
        return None
    column = place(node)
    return column if column in BOUNDED else None


def _compared(column: str, kind: str, constant: Node, evaluate: Evaluate) -> Need:
    if not is_steady(constant):
        return ALL
    value = evaluate(constant, column == "timestamp")
    if value is None or not math.isfinite(value):
        return ALL
    if column == "timestamp":
        value /= 1_000
    start, end = _range(kind, value)
    if column == "timestamp":
        return (Box(start_ms=start, end_ms=end),)
    if column == "offset":
        return (Box(start_offset=start, end_offset=end),)
    if kind != "COMPARE_EQUAL":
        return ALL
    return (Box(partitions=frozenset({start})),) if start is not None and value == start else NOTHING


def _range(kind: str, value: float) -> tuple[int | None, int | None]:
    """Whole numbers for which the comparison holds: [start, end). Of "equal" to a broken number, one too many."""
    match kind:
        case "COMPARE_EQUAL":
            return math.floor(value), math.floor(value) + 1
        case "COMPARE_GREATERTHAN":
            return math.floor(value) + 1, None
        case "COMPARE_GREATERTHANOREQUALTO":
            return math.ceil(value), None
        case "COMPARE_LESSTHAN":
            return None, math.ceil(value)
        case _:
            return None, math.floor(value) + 1


def is_steady(node: Node) -> bool:
    """Whether the expression has one value for all rows: no columns, no subqueries, nothing random."""
    for each in nodes(node):
        match each.get("class"):
            case "CONSTANT" | "CAST" | "TYPE" | None:
                continue
            case "FUNCTION" if each.get("function_name") in _STEADY:
                continue
            case _:
                return False
    return True


def nodes(tree: Any) -> Iterator[Node]:
    """The tree's objects, itself included."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
