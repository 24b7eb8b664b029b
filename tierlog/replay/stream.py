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
from typing import Literal, NamedTuple

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.bounds import bound_of
from tierlog.replay.decode.schema import schema_of
from tierlog.replay.lanes import all_chunks, lanes_of
from tierlog.replay.ledger import CLIENT_ID, Caller
from tierlog.replay.plan import Plan
from tierlog.replay.reading import PARALLEL, Chunk, Reading, parallel_of
from tierlog.replay.resolve import Origin, Request
from tierlog.replay.values.decoding import NEEDED, Take, Values, settled
from tierlog.replay.values.formats import Format, Json, open_decoder

BATCHES_AHEAD = 2
GIVEN_UP_POLL_S = 0.2
When = str | int | datetime


Batches = Callable[[], AsyncGenerator[pa.RecordBatch | pa.Schema]]
"""Their schema first, as soon as it is known."""


class _Asked(NamedTuple):
    """The arguments of ``open``, checked."""

    request: Request
    schema: pa.Schema
    bootstrap: str | None
    bucket: str | None
    is_committed: bool
    rate_bytes: int
    parallel: int
    is_ordered: bool
    caller: Caller
    decode: Format | None
    dead_letters: Take | None

    @property
    def read_schema(self) -> pa.Schema:
        """What is read, before values are decoded."""
        if self.decode is None:
            return self.schema
        return schema_of([*self.schema.names, *NEEDED])


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
    parallel: int = PARALLEL,
    unordered: bool = False,
    client_id: str = CLIENT_ID,
    ledger: bool = True,
    decode: Format | Literal["json"] | None = None,
    dead_letters: Take | None = None,
) -> pa.RecordBatchReader:
    """Records with ``start`` <= offset or time < ``end``, resolved now: a later record is never seen.

    ``start`` and ``end``: an offset, a time, a duration ago such as "7d", "earliest" or "end". ``bootstrap``: any brokers;
    ``bucket``: URL of the bucket, where the brokers do not tell it, or to read without any. Records come in order of their
    offsets within a partition. ``committed`` leaves out aborted transactions. ``client_id``: towards brokers, and in the
    ledger of the bucket, which tells the requests of this replay unless ``ledger`` is false.

    ``parallel``: GETs of 4 MiB that are under way at once, 1 to 32. ``unordered``: four stretches of the range are read
    beside each other, each in order, and a GET that is late holds up its own; as much is in memory as without.

    ``decode``: makes ``value`` a struct of typed columns. ``dead_letters`` takes batches of the records whose values cannot
    be decoded, with the column ``error``, and is called from the thread that reads; without it, the first such value ends
    the reading. Raises ``tierlog.errors.UserError``."""
    asked = _asked(
        *(topics, start, end, bootstrap, bucket, partitions, columns, committed, rate_bytes),
        *(parallel, not unordered, Caller(client_id, ledger), decode, dead_letters),
    )
    pump = _Pump(lambda: _batches(asked))
    return pa.RecordBatchReader.from_batches(pump.schema, pump.batches())


def open_planned(
    plan: Plan, schema: pa.Schema, *, bootstrap: str | None, bucket: str | None, caller: Caller
) -> pa.RecordBatchReader:
    """As ``open``, for a range that is resolved already."""

    async def batches() -> AsyncGenerator[pa.RecordBatch | pa.Schema]:
        async with _started(Origin(bootstrap, bucket, caller=caller)) as origin:
            yield schema
            async with aclosing(Reading(origin, schema).chunks(plan.reads())) as chunks:
                async for chunk in chunks:
                    if chunk.batch is not None and chunk.batch.num_rows:
                        yield chunk.batch

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
    parallel: int = PARALLEL,
    unordered: bool = False,
    client_id: str = CLIENT_ID,
    ledger: bool = True,
    decode: Format | Literal["json"] | None = None,
    dead_letters: Take | None = None,
) -> AsyncGenerator[pa.RecordBatch]:
    """As ``open``, for asyncio: record batches, none of them empty."""
    asked = _asked(
        *(topics, start, end, bootstrap, bucket, partitions, columns, committed, rate_bytes),
        *(parallel, not unordered, Caller(client_id, ledger), decode, dead_letters),
    )
    async with aclosing(_batches(asked)) as batches:
        async for batch in batches:
            if isinstance(batch, pa.RecordBatch):
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
    parallel: int,
    is_ordered: bool,
    caller: Caller,
    decode: Format | Literal["json"] | None,
    dead_letters: Take | None,
) -> _Asked:
    now_ms = time.time_ns() // 1_000_000
    chosen = None if partitions is None else tuple(partitions)
    request = Request(topics, bound_of(start, "start", now_ms), bound_of(end, "end", now_ms), chosen)
    given = Json() if decode == "json" else decode
    if isinstance(given, str):
        raise UserError(f'decode="{given}": expected "json", Json(), Avro(URL) or Protobuf(URL)')
    schema = schema_of(columns)
    gets = parallel_of(parallel, "parallel")
    return _Asked(
        *(request, schema, bootstrap, bucket, committed, rate_bytes, gets, is_ordered),
        *(caller, given, dead_letters),
    )


async def _batches(asked: _Asked) -> AsyncGenerator[pa.RecordBatch | pa.Schema]:
    """Their schema first, as soon as the range is resolved, and the first value is there if it tells the columns."""
    origin = Origin(asked.bootstrap, asked.bucket, is_committed=asked.is_committed, caller=asked.caller)
    async with _started(origin):
        plan = await origin.plan(asked.request)
        reading = Reading(
            origin,
            asked.read_schema,
            parallel=asked.parallel,
            rate_bytes=asked.rate_bytes,
            beside=lanes_of(asked.is_ordered),
        )
        async with aclosing(all_chunks(reading, plan)) as chunks:
            values, held = None, []
            if asked.decode is not None:
                values = await asyncio.to_thread(_values, asked, asked.decode)
                held = await settled(values, chunks)
            yield asked.schema if values is None else values.schema
            for chunk in held:
                if (batch := await _made(chunk, values)) is not None:
                    yield batch
            held = []
            async for chunk in chunks:
                if (batch := await _made(chunk, values)) is not None:
                    yield batch


def _values(asked: _Asked, decode: Format) -> Values:
    decoder = open_decoder(decode, asked.request.topics)
    return Values(decoder, asked.schema, asked.dead_letters or _refuse)


def _refuse(dead: pa.RecordBatch) -> None:
    first = dead.slice(0, 1).to_pylist()[0]
    where = f"{first['topic']}-{first['partition']}"
    raise UserError(
        f"{where} offset {first['offset']}: {first['error']}; give dead_letters, which takes such records"
    )


async def _made(chunk: Chunk, values: Values | None) -> pa.RecordBatch | None:
    """None where no record is left."""
    batch = chunk.batch
    if values is not None and batch is not None and batch.num_rows:
        batch = await asyncio.to_thread(values.decode, batch)
    return batch if batch is not None and batch.num_rows else None


@asynccontextmanager
async def _started(origin: Origin) -> AsyncIterator[Origin]:
    try:
        await origin.start()
        yield origin
    finally:
        await origin.close()


class _Pump:
    """A thread with a loop of its own, and the batches that it is ahead."""

    def __init__(self, batches: Batches) -> None:
        self._queue: queue.Queue[pa.RecordBatch | pa.Schema | BaseException | None]
        self._queue = queue.Queue(BATCHES_AHEAD)
        self._is_given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(batches,), name="replay", daemon=True)
        self._thread.start()
        first = self._queue.get()
        if isinstance(first, BaseException):
            raise first
        self.schema: pa.Schema = first

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

    def _put(self, found: pa.RecordBatch | pa.Schema | BaseException | None) -> bool:
        """Whether somebody still reads."""
        while not self._is_given_up.is_set():
            try:
                self._queue.put(found, timeout=GIVEN_UP_POLL_S)
                return True
            except queue.Full:
                continue
        return False
