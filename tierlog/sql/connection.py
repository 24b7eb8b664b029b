"""DuckDB with topics as tables.

::

    import tierlog.sql

    database = tierlog.sql.connect(bootstrap="127.0.0.1:9092")
    database.query("SELECT count(*) FROM flights WHERE timestamp >= now() - INTERVAL 1 DAY").fetchall()

A statement is looked at first: which topics it names, which columns, and what it bounds of partition, offset and timestamp.
Only that is read. Everything else is DuckDB's own: files, its functions, tables of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import duckdb

from tierlog.admin.errors import no_such_topic
from tierlog.errors import UserError
from tierlog.replay.collected import Collected
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.plan import Plan
from tierlog.replay.resolve import Origin
from tierlog.sql.boxes import Need, is_whole
from tierlog.sql.columns import columns_of
from tierlog.sql.constants import constants
from tierlog.sql.planning import plan_of
from tierlog.sql.pruning import needs_of
from tierlog.sql.scan import Scan, Source

T = TypeVar("T")
CLIENT_ID = "tierlog-sql"
_MISSING = re.compile(r"Table with name (\S+) does not exist")


class TopicRead(NamedTuple):
    """What a statement reads of one topic."""

    table: str
    topic: str
    need: Need
    columns: list[str]
    plan: Plan

    @property
    def is_bounded(self) -> bool:
        return not is_whole(self.need)


class Database:
    """``duckdb`` is DuckDB's own connection. A context manager."""

    def __init__(
        self, bootstrap: str | None, bucket: str | None, disorder_ms: int | None, collected: Collected
    ) -> None:
        self.duckdb = duckdb.connect()
        self._collected = collected
        self._source = Source(bootstrap, bucket, collected.caller)
        self._disorder_ms = disorder_ms
        self._topics: list[str] = []

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Tells the ledger of the bucket what was asked."""
        self.duckdb.close()
        _aside(self._collected.write())

    def reads(self, sql: str) -> list[TopicRead]:
        """What the statement will read, resolved now. Raises UserError."""
        statement = self._parsed(sql)
        needs = needs_of(statement, constants(self.duckdb))
        columns = columns_of(statement, SCHEMA.names)
        return _aside(self._resolved(needs, columns))

    def query(self, sql: str, reads: list[TopicRead] | None = None) -> duckdb.DuckDBPyConnection:
        """Runs one SELECT, on a cursor of its own; ``reads``: as told for it before, else asked now. Raises UserError."""
        cursor = self.duckdb.cursor()
        for read in self.reads(sql) if reads is None else reads:
            cursor.register(read.table, Scan(self._source, read.plan, read.columns))
        try:
            return cursor.execute(sql)
        except duckdb.CatalogException as error:
            missing = _MISSING.search(str(error))
            if missing is None:
                raise UserError(_one_line(error)) from error
            raise no_such_topic(missing[1], self._topics) from error
        except duckdb.Error as error:
            raise UserError(_one_line(error)) from error

    def _parsed(self, sql: str) -> Mapping[str, Any]:
        ((text,),) = self.duckdb.cursor().execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        tree = json.loads(text)
        if tree["error"]:
            only = tree["error_type"] == "not implemented"
            told = "only a SELECT can be asked" if only else f"{tree['error_message']}"
            raise UserError(f'{told}; quote topics and columns that are SQL words, as in "offset"')
        if len(tree["statements"]) != 1:
            raise UserError(f"{len(tree['statements'])} statements: ask one SELECT at a time")
        node: Mapping[str, Any] = tree["statements"][0]["node"]
        return node

    async def _resolved(self, needs: Mapping[str, Need], columns: list[str]) -> list[TopicRead]:
        origin = Origin(self._source.bootstrap, self._source.bucket, caller=self._source.caller)
        try:
            await origin.start()
            topics = self._topics = await origin.topics()
            found = []
            for table, need in needs.items():
                topic = _topic_of(table, topics)
                if topic is not None:
                    plan = await plan_of(origin, topic, need, self._disorder_ms)
                    found.append(TopicRead(table, topic, need, columns, plan))
            return found
        finally:
            await origin.close()


def connect(
    bootstrap: str | None = None,
    bucket: str | None = None,
    *,
    disorder_ms: int | None = None,
    client_id: str = CLIENT_ID,
    ledger: bool = True,
) -> Database:
    """``bootstrap``: any brokers; ``bucket``: URL of the bucket, alone to read without brokers. ``disorder_ms``: by how much
    a record may be older than one before it, for upper bounds on ``timestamp``; None: as the topic's segments show.
    ``client_id``: towards brokers, and in the ledger of the bucket, which is told of the requests when the database is
    closed, unless ``ledger`` is false."""
    return Database(bootstrap, bucket, disorder_ms, Collected(client_id, is_counted=ledger))


def _aside(work: Coroutine[Any, Any, T]) -> T:
    """In a loop of its own: a notebook has one already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _topic_of(table: str, topics: list[str]) -> str | None:
    """SQL does not tell upper from lower case; topics do, and the exact name is first."""
    if table in topics:
        return table
    alike = [topic for topic in topics if topic.lower() == table.lower()]
    if len(alike) > 1:
        raise UserError(
            f"{table} is one of {', '.join(sorted(alike))}: write the name as it is, in double quotes"
        )
    return alike[0] if alike else None


def _one_line(error: duckdb.Error) -> str:
    """DuckDB's first paragraph; an error of ours that came through it is ours again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__
    return " ".join(str(error).split("\n\n")[0].split())
