"""A table that is kept up to date: reads what it lacks, commits data and offsets together, waits, and begins again.

Each round asks everything anew: the table for its offsets, brokers and bucket for what there is. So a partition that is
added, a broker or a catalog that was away for a while need nothing of their own. What only a person can decide ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from tiering.tasks import begin
from tierlog.errors import UserError
from tierlog.replay.collected import Collected
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.iceberg.catalogs import explained
from tierlog.replay.iceberg.commits import STEP, another_writer, append, name_of, offsets_of
from tierlog.replay.iceberg.data_files import OpenFiles
from tierlog.replay.iceberg.offsets import Refused, left
from tierlog.replay.iceberg.schema import FILE_BYTES
from tierlog.replay.iceberg.tables import check_columns, check_topic, refreshed
from tierlog.replay.plan import PartitionPlan, Plan, joined
from tierlog.replay.reading import Chunk, Reading
from tierlog.replay.resolve import Origin
from tierlog.replay.sinks.port import Done
from tierlog.types import TopicPartition

if TYPE_CHECKING:
    from pyiceberg.table import Table

FILES_A_COMMIT = 2
"""So many times the size of a file is committed at once, of records as they are in memory."""
COMMIT_S = 60.0
PARALLEL = 4
CLIENT_ID = "tierlog-table"
"""Pieces that wait for the decoder are most of the memory; decoding is what takes time."""
COLUMNS_STEP = "a table that is followed keeps its columns: undo the change, or begin another table"


class Source(NamedTuple):
    """What is followed. ``bootstrap``, ``bucket``: as for a replay."""

    topic: str
    bootstrap: str | None
    bucket: str | None


class Progress(NamedTuple):
    """Since the start of this process; told with each commit and at the end of each round."""

    commits: int
    files: int
    records: int
    offsets: int
    lag_offsets: int
    """What the round has still to write."""
    behind: str
    """The partition that has most of it."""


Told = Callable[[Progress], None]


class Follower:
    """``skips_deleted``: whether to go on where records were deleted before they were written."""

    def __init__(
        self, table: Table, source: Source, *, skips_deleted: bool = False, file_bytes: int = 0, tell: Told
    ) -> None:
        self.table = table
        self.collected = Collected(CLIENT_ID)
        """What is asked of the bucket, for its ledger."""
        self._source = source
        self._skips_deleted = skips_deleted
        self._file_bytes = file_bytes or FILE_BYTES
        self._commit_bytes = FILES_A_COMMIT * self._file_bytes
        self._tell = tell
        self._known: Done | None = None
        """What was committed last; None where the table has to say it."""
        self._commits = self._files = self._records = self._offsets = 0

    async def round(self, stop: asyncio.Event) -> None:
        """Writes what there is now, or what has come until ``stop``. Raises UserError, Refused if it is for a person."""
        self.table = await asyncio.to_thread(refreshed, self.table)
        check_columns(self.table, SCHEMA, COLUMNS_STEP)
        done = offsets_of(self.table)
        if self._known is not None and self._known != done:
            raise another_writer(self.table, self._known, done)
        self._known = done
        origin = Origin(self._source.bootstrap, self._source.bucket, caller=self.collected.caller)
        try:
            await origin.start()
            plan = await lacking(
                origin, self.table, self._source.topic, done, skips_deleted=self._skips_deleted
            )
            await self._write(origin, plan, done, stop)
        finally:
            await origin.close()

    async def _write(self, origin: Origin, plan: Plan, done: Done, stop: asyncio.Event) -> None:
        files = OpenFiles(self.table, self._file_bytes)
        wanted = {TopicPartition(part.topic, part.partition): part.end_offset for part in plan.partitions}
        reached = {where: list(spans) for where, spans in done.items()}
        begun_s, is_whole = time.monotonic(), True
        try:
            async with aclosing(
                _until(stop, Reading(origin, SCHEMA, parallel=PARALLEL).chunks(plan.reads()))
            ) as chunks:
                async for chunk in chunks:
                    is_whole = False
                    with explained(name_of(self.table), STEP):
                        await asyncio.to_thread(files.write, chunk)
                    self._records += chunk.records
                    spans = [*reached.get(chunk.where, []), (chunk.start_offset, chunk.next_offset)]
                    reached[chunk.where] = joined(spans)
                    is_whole = True
                    if files.taken_bytes >= self._commit_bytes or time.monotonic() - begun_s >= COMMIT_S:
                        await self._commit(files, reached, wanted)
                        begun_s = time.monotonic()
        finally:
            # What has come until bucket or brokers failed is whole, and stays.
            if is_whole and self._known is not None:
                await self._commit(files, reached, wanted)

    async def _commit(self, files: OpenFiles, reached: Done, wanted: dict[TopicPartition, int]) -> None:
        known = self._known
        assert known is not None
        if reached != known:
            after = {where: list(spans) for where, spans in reached.items()}
            self._known = None
            with explained(name_of(self.table), STEP):
                whole = await asyncio.to_thread(files.finish)
            self.table = await asyncio.to_thread(append, self.table, whole, known, after)
            self._known = after
            self._commits += 1
            self._files += len(whole)
            self._offsets += _count(after) - _count(known)
        lags = {where: end - reached[where][-1][1] for where, end in wanted.items() if where in reached}
        lags |= {where: end for where, end in wanted.items() if where not in reached and end}
        behind = max(lags, key=lambda where: lags[where], default=None)
        left_over = sum(lags.values())
        told = str(behind) if left_over else ""
        self._tell(Progress(self._commits, self._files, self._records, self._offsets, left_over, told))


async def lacking(origin: Origin, table: Table, topic: str, done: Done, *, skips_deleted: bool) -> Plan:
    """What the table has not got. Raises UserError."""
    try:
        check_topic(table, topic, await origin.topic_id(topic))
    except UserError as error:
        if not isinstance(error, Refused) and topic not in await origin.topics():
            raise Refused(str(error)) from None
        raise
    parts: list[PartitionPlan] = []
    for number in await origin.partitions(topic):
        where = TopicPartition(topic, number)
        held = await origin.held(where)
        start, end = left(where, done.get(where, []), held.start, held.end, skips_deleted=skips_deleted)
        parts.append(origin.of_held(where, held, start, end))
    return Plan(tuple(parts))


async def _until(stop: asyncio.Event, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    """What comes until ``stop``, which does not wait for a chunk."""

    async def following() -> Chunk | None:
        return await anext(chunks, None)

    stopped = begin(stop.wait())
    try:
        async with aclosing(chunks):
            while True:
                chunk = begin(following())
                await asyncio.wait((chunk, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not chunk.done():
                    chunk.cancel()
                    await asyncio.wait((chunk,))
                    return
                found = await chunk
                if found is None:
                    return
                yield found
                if stop.is_set():
                    return
    finally:
        stopped.cancel()


def _count(done: Done) -> int:
    return sum(end - start for spans in done.values() for start, end in spans)
