"""The Python API: a range of topics as Arrow.

::

    import tierlog.replay

    reader = tierlog.replay.open("flights", start="7d", end="end", bootstrap="127.0.0.1:9092")
    duckdb.sql("SELECT count(*) FROM reader")

A reader is a ``pyarrow.RecordBatchReader``: DuckDB, Polars, pandas and pyiceberg take it as it is. It reads ahead of its
user, by a few batches, in a thread of its own, which ends with the range or with the reader.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from tierlog.replay.bounds import bound_of
from tierlog.replay.decode.schema import schema_of
from tierlog.replay.ledger import CLIENT_ID, Caller
from tierlog.replay.plan import Plan
from tierlog.replay.reading import Reading
from tierlog.replay.resolve import Origin, Request

BATCHES_AHEAD = 2
GIVEN_UP_POLL_S = 0.2
When = str | int | datetime


Batches = Callable[[], AsyncGenerator[pa.RecordBatch | None]]
"""None first, as soon as it is known what will come."""


class _Asked(NamedTuple):
    """The arguments of ``open``, checked."""

    request: Request
    schema: pa.Schema
    bootstrap: str | None
    bucket: str | None
    is_committed: bool
    rate_bytes: int
    caller: Caller


def open(
    *topics: str,
    start: When = "earliest",
    end: When = "end",
    bootstrap: str | None = None,
    bucket: str | None = None,
    partitions: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
    committed: bool = True,
    rate_bytes: int = 0,
    client_id: str = CLIENT_ID,
    ledger: bool = True,
) -> pa.RecordBatchReader:
    """Records with ``start`` <= offset or time < ``end``, resolved now: a later record is never seen.

    ``start`` and ``end``: an offset, a time, a duration ago such as "7d", "earliest" or "end". ``bootstrap``: any brokers;
    ``bucket``: URL of the bucket, where the brokers do not tell it, or to read without any. Records come in order of their
    offsets within a partition. ``committed`` leaves out aborted transactions. ``client_id``: towards brokers, and in the
    ledger of the bucket, which tells the requests of this replay unless ``ledger`` is false. Raises
    ``tierlog.errors.UserError``."""
    asked = _asked(topics, start, end, bootstrap, bucket, partitions, columns, committed, rate_bytes)
    asked = asked._replace(caller=Caller(client_id, ledger))
    return pa.RecordBatchReader.from_batches(asked.schema, _Pump(lambda: _batches(asked)).batches())


def open_planned(
    plan: Plan, schema: pa.Schema, *, bootstrap: str | None, bucket: str | None
) -> pa.RecordBatchReader:
    """As ``open``, for a range that is resolved already."""

    async def batches() -> AsyncGenerator[pa.RecordBatch | None]:
        async with _started(Origin(bootstrap, bucket)) as origin:
            yield None
            async with aclosing(_planned(origin, plan, schema, 0)) as found:
                async for batch in found:
                    yield batch

    return pa.RecordBatchReader.from_batches(schema, _Pump(batches).batches())


async def stream(
    *topics: str,
    start: When = "earliest",
    end: When = "end",
    bootstrap: str | None = None,
    bucket: str | None = None,
    partitions: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
    committed: bool = True,
    rate_bytes: int = 0,
    client_id: str = CLIENT_ID,
    ledger: bool = True,
) -> AsyncGenerator[pa.RecordBatch]:
    """As ``open``, for asyncio: record batches, none of them empty."""
    asked = _asked(topics, start, end, bootstrap, bucket, partitions, columns, committed, rate_bytes)
    asked = asked._replace(caller=Caller(client_id, ledger))
    async with aclosing(_batches(asked)) as batches:
        async for batch in batches:
            if batch is not None:
                yield batch


def _asked(
    topics: tuple[str, ...],
    start: When,
    end: When,
    bootstrap: str | None,
    bucket: str | None,
    partitions: Sequence[int] | None,
    columns: Sequence[str] | None,
    committed: bool,
    rate_bytes: int,
) -> _Asked:
    now_ms = time.time_ns() // 1_000_000
    chosen = None if partitions is None else tuple(partitions)
    request = Request(topics, bound_of(start, "start", now_ms), bound_of(end, "end", now_ms), chosen)
    return _Asked(request, schema_of(columns), bootstrap, bucket, committed, rate_bytes, Caller())


async def _batches(asked: _Asked) -> AsyncGenerator[pa.RecordBatch | None]:
    """None first, as soon as the range is resolved."""
    origin = Origin(asked.bootstrap, asked.bucket, is_committed=asked.is_committed, caller=asked.caller)
    async with _started(origin):
        plan = await origin.plan(asked.request)
        yield None
        async with aclosing(_planned(origin, plan, asked.schema, asked.rate_bytes)) as found:
            async for batch in found:
                yield batch


@asynccontextmanager
async def _started(origin: Origin) -> AsyncIterator[Origin]:
    try:
        await origin.start()
        yield origin
    finally:
        await origin.close()


async def _planned(
    origin: Origin, plan: Plan, schema: pa.Schema, rate_bytes: int
) -> AsyncGenerator[pa.RecordBatch]:
    reading = Reading(origin, schema, rate_bytes=rate_bytes)
    async with aclosing(reading.chunks(plan.reads())) as chunks:
        async for chunk in chunks:
            if chunk.batch is not None and chunk.batch.num_rows:
                yield chunk.batch


class _Pump:
    """A thread with a loop of its own, and the batches that it is ahead."""

    def __init__(self, batches: Batches) -> None:
        self._queue: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(BATCHES_AHEAD)
        self._is_given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(batches,), name="replay", daemon=True)
        self._thread.start()
        first = self._queue.get()
        if isinstance(first, BaseException):
            raise first

    def batches(self) -> Iterator[pa.RecordBatch]:
        try:
            while (found := self._queue.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            self._is_given_up.set()

    def _run(self, batches: Batches) -> None:
        try:
            asyncio.run(self._pump(batches))
        except BaseException as error:
            self._put(error)
        else:
            self._put(None)

    async def _pump(self, batches: Batches) -> None:
        async with aclosing(batches()) as found:
            async for batch in found:
                if not await asyncio.to_thread(self._put, batch):
                    return

    def _put(self, found: pa.RecordBatch | BaseException | None) -> bool:
        """Whether somebody still reads."""
        while not self._is_given_up.is_set():
            try:
                self._queue.put(found, timeout=GIVEN_UP_POLL_S)
                return True
            except queue.Full:
                continue
        return False
