"""A statement over what it is said to need answers as over the whole tables."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierlog.sql.boxes import ALL, Box, Need, is_whole
from tierlog.sql.columns import columns_of
from tierlog.sql.constants import constants
from tierlog.sql.pruning import needs_of

COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value")
SECONDS = 8


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table, step in (("a", 1), ("b", 2)):
            connection.execute(
                f"""CREATE TABLE whole_{table} AS SELECT '{table}' AS topic, p AS partition, o AS "offset",
                    to_timestamp((o * {step} + p) % {SECONDS}) AS timestamp, (o % 3)::VARCHAR AS key, o * 10 AS value
                    FROM range(3) parts(p), range(6) offsets(o)"""
            )
        yield connection


def parsed(database: duckdb.DuckDBPyConnection, sql: str) -> Mapping[str, Any]:
    row = database.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    assert row is not None
    tree = json.loads(row[0])
    assert not tree["error"], (tree, sql)
    found: Mapping[str, Any] = tree["statements"][0]["node"]
    return found


def needs(database: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Need]:
    return needs_of(parsed(database, sql), constants(database))


def condition(need: Need) -> str:
    """The boxes as SQL."""
    boxes = []
    for box in need:
        parts = ["true"]
        if box.partitions is not None:
            parts.append(f"partition IN ({', '.join(map(str, sorted(box.partitions)))})")
        for column, start, end in (
            ('"offset"', box.start_offset, box.end_offset),
            ("epoch_ms(timestamp)", box.start_ms, box.end_ms),
        ):
            parts += [f"{column} >= {start}"] if start is not None else []
            parts += [f"{column} < {end}"] if end is not None else []
        boxes.append(" AND ".join(parts))
    return " OR ".join(f"({box})" for box in boxes) or "false"


def answer(database: duckdb.DuckDBPyConnection, sql: str, tables: dict[str, Need]) -> list[Any]:
    for table in ("a", "b"):
        where = condition(tables.get(table, ALL))
        database.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT * FROM whole_{table} WHERE {where}")
    try:
        return sorted(database.execute(sql).fetchall(), key=repr)
    except duckdb.Error as error:
        return [type(error).__name__]


# -- what is found

DAY_MS = 86_400_000
T = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1_000)
JANUARY = (Box(start_ms=T, end_ms=T + 31 * DAY_MS),)
IN_JANUARY = "timestamp >= '2026-01-01' AND timestamp < '2026-02-01'"


@pytest.mark.parametrize(
    ("sql", "need"),
    [
        (f"SELECT * FROM a WHERE {IN_JANUARY}", JANUARY),
        (f"SELECT count(*) FROM a f WHERE f.{IN_JANUARY.replace('AND ', 'AND f.')}", JANUARY),
        (f"FROM a WHERE ({IN_JANUARY}) AND key = 'x' AND NOT (partition = 3)", JANUARY),
        (f"WITH x AS (SELECT key FROM a WHERE {IN_JANUARY}) SELECT * FROM x", JANUARY),
        (f"WITH x AS (SELECT * FROM a) SELECT count(*) FROM x WHERE {IN_JANUARY}", JANUARY),
        (f"WITH x AS (SELECT key, timestamp FROM a), y AS (FROM x) FROM y WHERE {IN_JANUARY}", JANUARY),
        (
            "SELECT * FROM (SELECT timestamp AS t FROM a) WHERE t >= '2026-01-01' AND t < '2026-02-01'",
            JANUARY,
        ),
        (f"SELECT * FROM b WHERE EXISTS (FROM a WHERE {IN_JANUARY})", JANUARY),
        (f"SELECT * FROM a JOIN (SELECT key AS k FROM b) o ON k = key WHERE {IN_JANUARY}", JANUARY),
        (f"SELECT 1 UNION ALL SELECT value FROM a WHERE {IN_JANUARY} ORDER BY 1", JANUARY),
        (
            "SELECT * FROM a WHERE timestamp BETWEEN '2026-01-01' AND TIMESTAMP '2026-02-01' - INTERVAL '1 ms'",
            JANUARY,
        ),
        ("SELECT * FROM a WHERE partition IN (1, 2)", (Box(frozenset({1})), Box(frozenset({2})))),
        ('SELECT * FROM a WHERE 5 <= "offset" AND 7 > "offset"', (Box(start_offset=5, end_offset=7),)),
        ('SELECT * FROM a WHERE "offset" > 4.5 AND partition = 1', (Box(frozenset({1}), 5),)),
        ('SELECT * FROM a WHERE "offset" = 1 OR partition = 2', (Box(None, 1, 2), Box(frozenset({2})))),
        (
            'SELECT * FROM a x JOIN a y ON x.key = y.key WHERE x."offset" < 2 AND y.partition = 1',
            (Box(None, None, 2), Box(frozenset({1}))),
        ),
        ('SELECT * FROM a WHERE "offset" < 2 AND "offset" > 5', ()),
    ],
)
def test_bounds_are_found(database: duckdb.DuckDBPyConnection, sql: str, need: Need) -> None:
    assert sorted(needs(database, sql)["a"], key=repr) == sorted(need, key=repr)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM a",
        f"SELECT * FROM a WHERE {IN_JANUARY} OR key = 'x'",
        "SELECT * FROM a WHERE timestamp > to_timestamp(random())",
        "SELECT * FROM a WHERE timestamp > (SELECT max(timestamp) FROM b)",
        f"WITH x AS (SELECT * FROM a LIMIT 5) SELECT * FROM x WHERE {IN_JANUARY}",
        f"WITH x AS (SELECT *, row_number() OVER () AS n FROM a) SELECT * FROM x WHERE {IN_JANUARY}",
        f"WITH x AS (SELECT * FROM a) SELECT * FROM x WHERE {IN_JANUARY} UNION ALL FROM x",
        f"SELECT * FROM b ANTI JOIN a USING (key) WHERE {IN_JANUARY}",
        f"SELECT * FROM (SELECT key, max(timestamp) AS timestamp FROM a GROUP BY key) WHERE {IN_JANUARY}",
        f"SELECT * FROM b ASOF JOIN a ON b.key = a.key AND b.timestamp <= a.timestamp WHERE a.{IN_JANUARY}",
        f"SELECT * FROM a TABLESAMPLE 10% WHERE {IN_JANUARY}",
        "SELECT * FROM a WHERE timestamp > 'nonsense'",
        'SELECT * FROM a WHERE "offset" = key::INT',
    ],
)
def test_what_cannot_be_bounded_is_read_whole(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert is_whole(needs(database, sql)["a"])


def test_a_table_that_is_a_cte_is_none(database: duckdb.DuckDBPyConnection) -> None:
    assert set(
        needs(database, "WITH a AS (SELECT * FROM b), c AS (FROM a) SELECT * FROM c, s.t, 'x.csv'")
    ) == {
        "b",
        "x.csv",
    }
    recursive = (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r, a WHERE n < 3) SELECT * FROM r"
    )
    assert set(needs(database, recursive)) == {"a"}


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT count(*) FROM a", ["topic"]),
        ("SELECT max(f.timestamp) FROM a f WHERE partition = 1", ["partition", "timestamp"]),
        ("SELECT key FROM a JOIN b USING (value)", ["key", "value"]),
        ("SELECT f FROM a f", list(COLUMNS)),
        ("FROM a", list(COLUMNS)),
        ("SELECT COLUMNS('k.*') FROM a", list(COLUMNS)),
    ],
)
def test_columns(database: duckdb.DuckDBPyConnection, sql: str, columns: list[str]) -> None:
    assert columns_of(parsed(database, sql), COLUMNS) == columns


# -- any statement

_NAMES = itertools.count()


def comparisons(table: str) -> st.SearchStrategy[str]:
    time = st.integers(0, SECONDS).map(lambda s: f"to_timestamp({s})")
    number = st.integers(0, 6).map(str)
    operator = st.sampled_from(["=", "<", "<=", ">", ">=", "<>"])
    return st.one_of(
        st.builds(lambda o, n: f'{table}"offset" {o} {n}', operator, number),
        st.builds(lambda o, n: f"{n} {o} {table}partition", operator, number),
        st.builds(lambda o, t: f"{table}timestamp {o} {t}", operator, time),
        st.builds(lambda a, b: f"{table}timestamp BETWEEN {a} AND {b}", time, time),
        st.builds(lambda a, b: f'{table}"offset" IN ({a}, {b})', number, number),
        st.builds(lambda n: f"{table}partition NOT IN ({n})", number),
        st.just(f"{table}key = '1'"),
        st.just(f"{table}value IS NULL"),
    )


def wheres(tables: list[str]) -> st.SearchStrategy[str]:
    leaf = st.one_of(*(comparisons(table) for table in tables))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda a, b: f"({a} AND {b})", inner, inner),
            st.builds(lambda a, b: f"({a} OR {b})", inner, inner),
            inner.map(lambda a: f"NOT ({a})"),
        ),
        max_leaves=3,
    )


@st.composite
def queries(draw: st.DrawFn, depth: int = 2, shown: tuple[str, ...] = ("a", "b")) -> str:
    """Of the columns that a topic has, by any way."""
    with_, names = "", shown
    if depth and draw(st.booleans()):
        name = draw(st.sampled_from(["x", "a"])) if draw(st.booleans()) else f"c{next(_NAMES)}"
        if name not in ("a",):
            with_ = f"WITH {name} AS ({draw(queries(depth - 1, shown))}) "
            names = (*shown, name)
    table = st.sampled_from(names)
    if depth:
        table = st.one_of(table, queries(depth - 1, names).map(lambda inner: f"({inner})"))
    source, qualifiers = f"{draw(table)} AS l", ["", "l."]
    star = draw(st.sampled_from(["*", "l.*", '"offset", partition, timestamp, key, value', "*, 1 AS one"]))
    if not draw(st.integers(0, 2)):
        join = draw(
            st.sampled_from(
                ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN", "NATURAL JOIN"]
            )
        )
        on = (
            ""
            if join.startswith("NATURAL")
            else draw(st.sampled_from([" ON l.key = r.key", ' ON l."offset" = r.partition']))
        )
        source += f" {join} {draw(table)} AS r{on}"
        is_half = join.startswith(("SEMI", "ANTI"))
        qualifiers = ["l."] if not is_half else ["", "l."]
        qualifiers += ["r."] if not is_half and not join.startswith("NATURAL") else []
        star = "l.*"
    where = f" WHERE {draw(wheres(qualifiers))}" if draw(st.integers(0, 4)) else ""
    end = draw(
        st.sampled_from(
            [
                "",
                "",
                "",
                " ORDER BY ALL LIMIT 5",
                " QUALIFY row_number() OVER (ORDER BY ALL) < 9",
                " UNION ALL FROM a",
            ]
        )
    )
    if end.startswith(" QUALIFY"):
        end = ' QUALIFY row_number() OVER (ORDER BY l."offset", l.partition, l.timestamp, l.value) < 9'
    return f"{with_}SELECT {star} FROM {source}{where}{end}"


@settings(max_examples=40)
@given(data=st.data())
def test_a_statement_sees_no_difference(database: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    sql = data.draw(queries())
    found = needs(database, sql)
    assert answer(database, sql, found) == answer(database, sql, {}), (sql, found)
