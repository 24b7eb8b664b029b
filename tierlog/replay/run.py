"""A replay into a sink, from its plan to its end: what the command line runs. Says how far it is by calling back.

The state is saved before the first record and each time that a sink has settled, about once a second.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.decode.schema import schema_of
from tierlog.replay.group import GroupOffsets
from tierlog.replay.lanes import LANES, as_they_come
from tierlog.replay.ledger import Caller
from tierlog.replay.pacing import Pacing
from tierlog.replay.plan import Plan, gaps
from tierlog.replay.reading import PARALLEL, Chunk, Reading
from tierlog.replay.resolve import Origin, Request
from tierlog.replay.sinks.choosing import columns_for, open_sink
from tierlog.replay.sinks.port import Done, Sink, explained
from tierlog.replay.state import State, load, save
from tierlog.replay.values.dead_letters import DeadLetterFile
from tierlog.replay.values.decoding import NEEDED, Values, settled
from tierlog.replay.values.formats import Format, name_of, open_decoder
from tierlog.replay.where import where_of
from tierlog.types import TopicPartition

SETTLE_S = 1.0
STATE_FILE = ".replay.json"


class Job(NamedTuple):
    """What the command line asks for."""

    request: Request
    bootstrap: str | None
    bucket: str | None
    sink: str
    columns: tuple[str, ...] | None = None
    where: str = ""
    rate_bytes: int = 0
    file_bytes: int = 0
    """Of Parquet files; 0: the sink's own."""
    speed: float = 0.0
    """So many seconds of records in a second; 0: as fast as it goes."""
    resume: Path | None = None
    is_committed: bool = True
    parallel: int = PARALLEL
    """GETs under way at most."""
    is_ordered: bool = True
    """Each partition in order of its offsets."""
    group: str = ""
    """Whose offsets move to the ends of the ranges, once the sink has everything for good."""
    caller: Caller = Caller()
    is_dry: bool = False
    """Only the plan is made."""
    values: Format | None = None
    """What values are decoded from."""
    dead_letters: Path | None = None
    """Where those go that cannot be decoded; None: nowhere, but they are counted."""


@dataclass(slots=True)
class Progress:
    """``done_bytes`` of ``total_bytes``, both of the log."""

    total_bytes: int
    offsets: int
    done_bytes: int = 0
    records: int = 0
    written: int = 0
    """Records behind ``--where``, dead letters apart."""
    dead: int = 0
    """Records whose values cannot be decoded, and where and why the first one."""
    first_dead: str = ""
    left: dict[TopicPartition, int] = field(default_factory=dict)
    """By partition, offsets that are still to come."""

    @staticmethod
    def of(plan: Plan) -> Progress:
        progress = Progress(plan.remote_bytes + plan.local_bytes, plan.offsets)
        for part in plan.partitions:
            where = TopicPartition(part.topic, part.partition)
            progress.left[where] = progress.left.get(where, 0) + part.offsets
        return progress

    @property
    def behind(self) -> str:
        """The partition that has most offsets left."""
        left = self.left
        return str(max(left, key=lambda where: left[where])) if left else ""

    def add(self, chunk: Chunk, written: int) -> None:
        self.done_bytes += chunk.size_bytes
        self.records += chunk.records
        self.written += written
        self.left[chunk.where] -= chunk.next_offset - chunk.start_offset


Consent = Callable[[Plan], bool]
"""Shows the plan, or what is left of it; whether to go on."""
Told = Callable[[Progress], None]


async def run(job: Job, agree: Consent, tell: Told) -> Progress | None:
    """None: no consent. Raises UserError."""
    running = _Run(job, tell)
    origin = Origin(job.bootstrap, job.bucket, is_committed=job.is_committed, caller=job.caller)
    try:
        await origin.start()
        return await running.go(origin, agree)
    finally:
        await origin.close()


class _Run:
    def __init__(self, job: Job, tell: Told) -> None:
        self._job = job
        self._tell = tell
        self._where = where_of(job.where) if job.where else None
        extra = self._where.columns if self._where else frozenset()
        if job.speed:
            extra |= {"timestamp"}
        if job.values is None and job.dead_letters is not None:
            raise UserError("--dead-letters: choose --value-format as well; bytes need no decoding")
        if job.values is not None:
            if job.sink.startswith("topic:"):
                raise UserError(
                    "--value-format and --sink topic: a topic takes values as they are; leave one out"
                )
            extra |= frozenset(NEEDED)
        needed = columns_for(job.sink, job.columns, extra)
        self._read = None if needed is None else schema_of(needed)
        """What is read; None: records are only counted."""
        self._shown = self._read if job.columns is None else schema_of(job.columns)
        """What of it the sink takes, before values are decoded."""
        self._state = _loaded(job)
        self._is_resumed = self._state is not None
        self._values: Values | None = None
        self._keep: _Keeping | None = None

    async def go(self, origin: Origin, agree: Consent) -> Progress | None:
        job, state = self._job, self._state
        if state is None:
            plan = await origin.plan(job.request)
            ranges = [(p.topic, p.partition, p.start_offset, p.end_offset) for p in plan.partitions]
            format_name = "" if job.values is None else name_of(job.values)
            state = State(
                _named(job.sink), list(job.columns or ()), job.where, ranges, value_format=format_name
            )
        if job.is_dry:
            agree(plan if not self._is_resumed else await _left(state, state.done_ranges(), origin))
            return None
        group = await asyncio.to_thread(_group, job, origin)
        self._values = await asyncio.to_thread(self._decoding, state)
        try:
            if self._values is None or self._values.is_settled:
                done = await self._begin(state, origin)
                if self._is_resumed:
                    plan = await _left(state, done, origin)
            if not agree(plan):
                await self._give_up()
                return None
            progress = await self._pour(state, origin, plan)
        except BaseException:
            await self._give_up()
            raise
        if group is not None:
            await asyncio.to_thread(group.commit, state.ends())
        return progress

    async def _pour(self, state: State, origin: Origin, plan: Plan) -> Progress:
        job, progress = self._job, Progress.of(plan)
        beside = 1 if job.is_ordered else LANES
        reading = Reading(origin, self._read, parallel=job.parallel, rate_bytes=job.rate_bytes, beside=beside)
        found = reading.chunks(plan.reads()) if job.is_ordered else as_they_come(reading, plan)
        async with aclosing(found) as chunks, aclosing(self._filtered(chunks)) as filtered:
            held = [] if self._values is None else await settled(self._values, filtered)
            if self._keep is None:
                await self._begin(state, origin)
            assert self._keep is not None
            keep = self._keep
            await asyncio.to_thread(keep.save)
            for chunk in held:
                await self._write(chunk, reading, keep, progress)
            held.clear()
            async for chunk in filtered:
                await self._write(chunk, reading, keep, progress)
        await reading.aside(keep.finish)
        return progress

    def _decoding(self, state: State) -> Values | None:
        job = self._job
        if job.values is None:
            return None
        decoder = open_decoder(job.values, job.request.topics, state.value_type)
        if self._is_resumed and decoder.type is None:
            raise UserError(
                f"{job.resume}: the earlier run found nothing to decode; begin anew without --resume"
            )
        file = job.dead_letters
        bury = _forget if file is None else DeadLetterFile(file, is_resumed=self._is_resumed).take
        return Values(decoder, self._shown, bury)

    async def _begin(self, state: State, origin: Origin) -> Done:
        sink = await asyncio.to_thread(self._opened, state, origin)
        self._keep = _Keeping(sink, state, _state_path(self._job))
        _check_fit(self._job, sink)
        return await asyncio.to_thread(self._keep.start, self._is_resumed)

    def _opened(self, state: State, origin: Origin) -> Sink:
        job, schema = self._job, self._shown
        if self._values is not None:
            schema = self._values.schema
            state.value_type = self._values.remembered()
        return open_sink(job.sink, schema or schema_of(None), origin.cluster, job.file_bytes)

    async def _give_up(self) -> None:
        if self._keep is not None:
            await asyncio.to_thread(self._keep.give_up)

    async def _filtered(self, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
        """In time, and with the records that are wanted."""
        pacing = Pacing(self._job.speed)
        async for chunk in chunks:
            await pacing.wait(chunk.batch)
            if chunk.batch is not None and self._where is not None:
                chunk = chunk._replace(batch=chunk.batch.filter(self._where.expression))
            yield chunk

    async def _write(self, chunk: Chunk, reading: Reading, keep: _Keeping, progress: Progress) -> None:
        made = await reading.aside(self._made, chunk)
        await reading.aside(keep.write, made)
        progress.add(chunk, made.batch.num_rows if made.batch is not None else chunk.records)
        if self._values is not None:
            progress.dead, progress.first_dead = self._values.dead, self._values.first_dead
        self._tell(progress)

    def _made(self, chunk: Chunk) -> Chunk:
        """As the sink takes it."""
        batch = chunk.batch
        if batch is None:
            return chunk
        if self._values is not None:
            batch = self._values.decode(batch)
        elif self._shown is not None and batch.schema != self._shown:
            batch = batch.select(self._shown.names)
        return chunk._replace(batch=batch)


def _forget(dead: pa.RecordBatch) -> None:
    """They are counted, and no file is named for them."""


def _group(job: Job, origin: Origin) -> GroupOffsets | None:
    """Looked at before anything is read: a replay takes long. Raises UserError."""
    if not job.group:
        return None
    if origin.cluster is None:
        raise UserError("--commit-group: brokers keep a group's offsets; name one with --bootstrap-server")
    group = origin.cluster.group(job.group)
    group.check()
    return group


def _check_fit(job: Job, sink: Sink) -> None:
    """Raises UserError."""
    if not job.is_ordered and sink.needs_order:
        raise UserError(f"--unordered and --sink {job.sink}: {sink.needs_order}; leave --unordered out")
    if not job.is_ordered and job.speed:
        raise UserError("--unordered and --speed: the records' time is an order; leave one of them out")
    if job.group and not sink.is_kept:
        raise UserError(
            f"--commit-group and --sink {job.sink}: it keeps no records, the group would miss them; "
            "name another sink, such as parquet:DIR"
        )


def _loaded(job: Job) -> State | None:
    """What an earlier run has left; None if there was none. Raises UserError."""
    found = load(job.resume) if job.resume is not None else None
    if found is None:
        return None
    columns = list(job.columns or ())
    if (found.sink, found.columns, found.where) != (_named(job.sink), columns, job.where):
        raise UserError(
            f"{job.resume} is of --sink {found.sink}"
            f"{' --columns ' + ','.join(found.columns) if found.columns else ''}"
            f"{' --where ' + repr(found.where) if found.where else ''}; resume with the same, or begin anew"
        )
    if found.value_format != ("" if job.values is None else name_of(job.values)):
        raise UserError(
            f"{job.resume} is of --value-format {found.value_format or '(none)'}; resume with the same, or begin anew"
        )
    topics = {topic for topic, *_ in found.ranges}
    if topics != set(job.request.topics):
        raise UserError(f"{job.resume} is of other topics: {', '.join(sorted(topics))}")
    return found


async def _left(state: State, done: Done, origin: Origin) -> Plan:
    """What of the ranges is not done yet."""
    ranges = [(TopicPartition(topic, number), start, end) for topic, number, start, end in state.ranges]
    left = [(where, *gap) for where, start, end in ranges for gap in gaps(start, end, done.get(where, []))]
    return Plan(tuple([await origin.reads_of(*each) for each in left]))


def _named(sink: str) -> str:
    """Without what a URL may hold of secrets."""
    return sink.partition("?")[0]


def _state_path(job: Job) -> Path | None:
    if job.resume is not None:
        return job.resume
    kind, _, rest = job.sink.partition(":")
    return Path(rest) / STATE_FILE if kind == "parquet" else None


class _Keeping:
    """The sink, and the file to resume from beside it. For threads, one after the other: a replay that is cancelled waits
    for what its thread is at."""

    def __init__(self, sink: Sink, state: State, path: Path | None) -> None:
        self._sink = sink
        self._state = state
        self._path = path
        self._settles = path is not None and sink.needs_state
        self._turn = threading.Lock()
        self._settled_at_s = time.monotonic()

    def start(self, is_resumed: bool) -> Done:
        with self._turn:
            return self._sink.start(self._state, is_resumed=is_resumed)

    def save(self) -> None:
        if self._path is not None:
            with explained(self._path):
                save(self._path, self._state)

    def write(self, chunk: Chunk) -> None:
        with self._turn:
            self._sink.write(chunk)
            now_s = time.monotonic()
            if self._settles and now_s - self._settled_at_s >= SETTLE_S:
                self._settled_at_s = now_s
                self._settle()

    def finish(self) -> None:
        with self._turn:
            if self._settles:
                self._settle()
            self._sink.close()

    def give_up(self) -> None:
        with self._turn:
            self._sink.give_up()

    def _settle(self) -> None:
        self._sink.settle(self._state)
        self.save()
