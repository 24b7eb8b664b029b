"""The value of an expression without columns, as DuckDB itself understands it."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import duckdb

from tierlog.sql.conditions import Evaluate, Node

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SHAPE = "SELECT NULL"


def constants(connection: DuckDBPyConnection) -> Evaluate:
    """Evaluated with the settings of ``connection``, its time zone for one, beside what runs on it."""
    cursor = connection.cursor()
    ((told,),) = cursor.execute("SELECT json_serialize_sql(?)", [_SHAPE]).fetchall()
    shape: dict[str, Any] = json.loads(told)

    def evaluate(expression: Node, is_time: bool) -> float | None:
        statement = deepcopy(shape)
        statement["statements"][0]["node"]["select_list"] = [expression]
        try:
            ((text,),) = cursor.execute("SELECT json_deserialize_sql(?)", [json.dumps(statement)]).fetchall()
            inner = f"(SELECT * FROM ({text}) one(value))"
            asked = f"epoch_us(CAST({inner} AS TIMESTAMPTZ))" if is_time else f"CAST({inner} AS DOUBLE)"
            ((found,),) = cursor.execute(f"SELECT {asked}").fetchall()
        except duckdb.Error:
            return None
        return None if found is None else float(found)

    return evaluate
