"""Which columns of topics a statement reads.

Pure. By name alone, for all its tables together: a column too many costs time, one too few would be missed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tierlog.sql.conditions import Node, nodes


def columns_of(statement: Node, known: Sequence[str]) -> list[str]:
    """Of ``known``, in that order; never none."""
    named: set[str] = set()
    tables: set[str] = set()
    for each in nodes(statement):
        kind = str(each.get("type", ""))
        if each.get("class") == "STAR" or each.get("ref_type") == "NATURAL" or "PIVOT" in kind:
            return list(known)
        if each.get("class") == "COLUMN_REF":
            named |= {str(part).lower() for part in each["column_names"]}
        named |= {str(name).lower() for name in each.get("using_columns") or ()}
        if kind in ("BASE_TABLE", "SUBQUERY"):
            tables |= {str(each.get(key, "")).lower() for key in ("alias", "table_name")} - {""}
            if each.get("column_name_alias"):
                return list(known)
    if any(_is_whole_row(each, tables) for each in nodes(statement)):
        return list(known)
    return [name for name in known if name in named] or [known[0]]


def _is_whole_row(node: Node, tables: set[str]) -> bool:
    """A table's name as a value is a struct of all its columns."""
    return (
        node.get("class") == "COLUMN_REF"
        and len(node["column_names"]) == 1
        and str(node["column_names"][0]).lower() in tables
    )
