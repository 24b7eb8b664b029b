"""Which part of each topic a statement can see.

Pure. Every reference to a table is looked at with the WHERE of its own SELECT, and with those of the SELECTs around it as
far as rows pass through unchanged: a subquery or CTE of plain columns without LIMIT, grouping, windows or sampling. A topic
needs what any of its references needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tierlog.sql.boxes import ALL, Need, both, either
from tierlog.sql.conditions import Evaluate, Node, need_of, nodes

_PASSING_JOINS = {"REGULAR", "CROSS", "NATURAL"}
_SHOWN_JOINS = {"INNER", "LEFT", "RIGHT", "OUTER"}
"""Those of which both sides' columns are visible: an unqualified one of the right side would be ambiguous."""
_HARMLESS = {"ORDER_MODIFIER"}


class _Filter(NamedTuple):
    """A condition around a table, and what its columns are called there: name outside → name in the table."""

    condition: Node
    names: tuple[str, ...]
    """By which a column may be qualified."""
    columns: Mapping[str, str] | None
    """None: every column keeps its name."""


class _Reference(NamedTuple):
    table: str
    need: Need


def needs_of(statement: Node, evaluate: Evaluate) -> dict[str, Need]:
    """Tables that are no CTEs of the statement → what of them it can see."""
    found: dict[str, list[Need]] = {}
    for reference in _of_query(statement, (), {}, evaluate):
        found.setdefault(reference.table, []).append(reference.need)
    return {table: either(needs) for table, needs in found.items()}


class _Cte:
    """A CTE's body; ``filters`` of each place that reads it."""

    def __init__(self, body: Node, aliases: Sequence[str]) -> None:
        self.body = body
        self.has_aliases = bool(aliases)
        self.read: list[tuple[_Filter, ...]] = []


def _of_query(
    query: Node, around: tuple[_Filter, ...], ctes: Mapping[str, _Cte | None], evaluate: Evaluate
) -> Iterator[_Reference]:
    """``around``: conditions that every row of the query's result must meet. ``ctes``: None where the name is the query's
    own, as in a recursion."""
    own = {
        entry["key"].lower(): _Cte(_body(entry["value"]), entry["value"].get("aliases", []))
        for entry in query.get("cte_map", {}).get("map", [])
    }
    within: dict[str, _Cte | None] = {**ctes, **own}
    if query.get("type") == "SELECT_NODE":
        yield from _of_select(query, around, within, evaluate)
    else:
        yield from _of_others(query, within, evaluate)
    # The last one first: a CTE may be read by those behind it, and by no others.
    for at, (_, cte) in reversed(list(enumerate(own.items()))):
        visible = {**ctes, **dict(list(own.items())[:at])}
        for filters in _told_once(cte.read):
            passing = () if cte.has_aliases else filters
            yield from _of_query(cte.body, passing, visible, evaluate)


def _told_once(read: list[tuple[_Filter, ...]]) -> list[tuple[_Filter, ...]]:
    """One empty list of filters says all."""
    return [()] if any(not filters for filters in read) else read


def _of_others(query: Node, ctes: Mapping[str, _Cte | None], evaluate: Evaluate) -> Iterator[_Reference]:
    """Set operations, recursions, VALUES: what is in them is looked at by itself."""
    own_name = str(query.get("cte_name") or query.get("ctename") or "").lower()
    visible = {**ctes, own_name: None} if own_name else ctes
    for key, value in query.items():
        if key != "cte_map":
            yield from _of_tree(value, visible, evaluate)


def _of_tree(tree: Any, ctes: Mapping[str, _Cte | None], evaluate: Evaluate) -> Iterator[_Reference]:
    """All queries and tables inside, without any condition from outside."""
    if isinstance(tree, list):
        for each in tree:
            yield from _of_tree(each, ctes, evaluate)
    elif isinstance(tree, Mapping):
        kind = str(tree.get("type", ""))
        if kind.endswith("_NODE"):
            yield from _of_query(tree, (), ctes, evaluate)
        elif kind == "BASE_TABLE":
            yield from _of_table(tree, (), ctes)
        else:
            for each in tree.values():
                yield from _of_tree(each, ctes, evaluate)


def _of_select(
    select: Node, around: tuple[_Filter, ...], ctes: Mapping[str, _Cte | None], evaluate: Evaluate
) -> Iterator[_Reference]:
    passing = around if _passes_rows(select) else ()
    where = select.get("where_clause") if not select.get("sample") else None
    tables = list(_tables(select.get("from_table"), True))
    for table, is_bounded in tables:
        names = _names(table)
        filters: list[_Filter] = []
        if is_bounded and names and not table.get("column_name_alias") and not table.get("sample"):
            if where:
                filters.append(_Filter(where, names, None))
            filters += [inner for each in passing if (inner := _inward(each, select, names, len(tables)))]
        if table.get("type") == "BASE_TABLE":
            yield from _of_table(table, tuple(filters), ctes, evaluate)
        elif table.get("type") == "SUBQUERY":
            yield from _of_query(_body(table), tuple(filters), ctes, evaluate)
        else:
            yield from _of_tree(list(table.values()), ctes, evaluate)
    yield from _of_tree(_joins(select.get("from_table")), ctes, evaluate)
    for key, value in select.items():
        if key not in ("from_table", "cte_map"):
            yield from _of_tree(value, ctes, evaluate)


def _of_table(
    table: Node,
    filters: tuple[_Filter, ...],
    ctes: Mapping[str, _Cte | None],
    evaluate: Evaluate | None = None,
) -> Iterator[_Reference]:
    path = table.get("qualified_name", {}).get("path") or [table["table_name"]]
    name = str(table["table_name"])
    if len(path) > 1 or table.get("schema_name") or table.get("catalog_name"):
        return
    if name.lower() in ctes:
        cte = ctes[name.lower()]
        if cte is not None:
            cte.read.append(filters)
        return
    need = ALL
    for each in filters:
        assert evaluate is not None, "only tables of a SELECT have conditions"
        need = both(need, need_of(each.condition, partial(_placed, each), evaluate))
    yield _Reference(name, need)


def _placed(filter: _Filter, reference: Node) -> str | None:
    """The column of the table that the reference in the condition names."""
    *qualifiers, column = (str(part).lower() for part in reference["column_names"])
    if qualifiers and (len(qualifiers) > 1 or qualifiers[0] not in filter.names):
        return None
    return column if filter.columns is None else filter.columns.get(column)


def _inward(outer: _Filter, select: Node, names: tuple[str, ...], tables: int) -> _Filter | None:
    """A condition on the result of ``select``, as one on its only table; None where columns cannot be followed."""
    if tables != 1:
        return None
    columns: dict[str, str] = {}
    has_star = False
    for item in select.get("select_list", []):
        match item.get("class"):
            case "STAR":
                changed = ("exclude_list", "replace_list", "rename_list", "qualified_exclude_list", "expr")
                if any(item.get(key) for key in changed) or item.get("columns"):
                    return None
                has_star = True
            case "COLUMN_REF":
                *qualifiers, column = (str(part).lower() for part in item["column_names"])
                if not qualifiers or (len(qualifiers) == 1 and qualifiers[0] in names):
                    columns[str(item.get("alias") or column).lower()] = column
            case _:
                # Something that is made: its name hides a column.
                columns[str(item.get("alias", "")).lower()] = ""
    if has_star and any(name != column for name, column in columns.items()):
        return None
    if outer.columns is not None:
        inner = {
            outside: name if has_star else columns.get(name, "") for outside, name in outer.columns.items()
        }
        return outer._replace(columns=inner)
    return outer if has_star else outer._replace(columns=columns)


def _passes_rows(select: Node) -> bool:
    """Whether each row of its result is one row of its table, whatever other rows there are."""
    if any(modifier.get("type") not in _HARMLESS for modifier in select.get("modifiers", [])):
        return False
    if any(select.get(key) for key in ("group_expressions", "group_sets", "having", "qualify", "sample")):
        return False
    if select.get("aggregate_handling", "STANDARD_HANDLING") != "STANDARD_HANDLING":
        return False
    return not any(each.get("class") == "WINDOW" for each in nodes(select.get("select_list", [])))


def _tables(table: Node | None, is_bounded: bool) -> Iterator[tuple[Node, bool]]:
    """Tables of a FROM, and whether a row of theirs that fails the WHERE may be left out before the join."""
    if not table or table.get("type") == "EMPTY":
        return
    if table.get("type") == "JOIN":
        is_passing = is_bounded and table.get("ref_type") in _PASSING_JOINS and not table.get("sample")
        yield from _tables(table["left"], is_passing)
        yield from _tables(table["right"], is_passing and table.get("join_type") in _SHOWN_JOINS)
    else:
        yield table, is_bounded


def _joins(table: Node | None) -> list[Any]:
    """The conditions of the joins of a FROM, which may hold subqueries."""
    if not table or table.get("type") != "JOIN":
        return []
    return [table.get("condition"), *_joins(table["left"]), *_joins(table["right"])]


def _names(table: Node) -> tuple[str, ...]:
    name = table.get("alias") or table.get("table_name")
    return (str(name).lower(),) if name else ("",)


def _body(holder: Node) -> Node:
    """The query of a subquery or CTE, whose tree differs between releases of DuckDB."""
    inner: Node = holder.get("subquery") or holder.get("query_node") or holder.get("query") or {}
    body: Node = inner.get("node", inner)
    return body
