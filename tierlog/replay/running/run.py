"""A replay into a sink, from its plan to its end: what the command line runs. Says how far it is by calling back.

The state is saved before the first record and each time that a sink has settled, about once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tierlog.errors import UserError
from tierlog.replay.dead.choosing import open_dead_letters
from tierlog.replay.dead.port import DeadLetters, Forgotten
from tierlog.replay.decode.schema import schema_of
from tierlog.replay.group import GroupOffsets
from tierlog.replay.lanes import all_chunks, lanes_of
from tierlog.replay.plan import Plan, gaps
from tierlog.replay.reading import Chunk, Reading, parallel_of
from tierlog.replay.resolve import Origin
from tierlog.replay.running.job import Consent, Job, Progress, Told
from tierlog.replay.running.keeping import Keeping, state_path
from tierlog.replay.running.pacing import Pacing
from tierlog.replay.running.state import State, load
from tierlog.replay.sinks.choosing import columns_for, open_sink
from tierlog.replay.sinks.port import Done, Sink
from tierlog.replay.values.decoding import NEEDED, Values, settled
from tierlog.replay.values.formats import name_of, open_decoder
from tierlog.replay.where import where_of
from tierlog.types import TopicPartition


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
        parallel_of(job.parallel, "--parallel")
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
        self._dead: DeadLetters = Forgotten()
        self._keep: Keeping | None = None

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
        self._values = await asyncio.to_thread(self._decoding, state, origin)
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
        beside = lanes_of(job.is_ordered)
        reading = Reading(origin, self._read, parallel=job.parallel, rate_bytes=job.rate_bytes, beside=beside)
        found = all_chunks(reading, plan)
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

    def _decoding(self, state: State, origin: Origin) -> Values | None:
        job = self._job
        if job.values is None:
            return None
        decoder = open_decoder(job.values, job.request.topics, state.value_type)
        if self._is_resumed and decoder.type is None:
            raise UserError(
                f"{job.resume}: the earlier run found nothing to decode; begin anew without --resume"
            )
        self._dead = open_dead_letters(job.dead_letters, origin.cluster, is_resumed=self._is_resumed)
        return Values(decoder, self._shown, self._dead.take)

    async def _begin(self, state: State, origin: Origin) -> Done:
        sink = await asyncio.to_thread(self._opened, state, origin)
        self._keep = Keeping(sink, self._dead, state, state_path(self._job))
        _check_fit(self._job, sink)
        return await asyncio.to_thread(self._keep.start, self._is_resumed)

    def _opened(self, state: State, origin: Origin) -> Sink:
        job, schema = self._job, self._shown
        if self._values is not None:
            schema = self._values.schema
            state.value_type = self._values.remembered()
        return open_sink(
            job.sink, schema or schema_of(None), origin.cluster, job.file_bytes, self._dead.settle
        )

    async def _give_up(self) -> None:
        await asyncio.to_thread(self._dead.close if self._keep is None else self._keep.give_up)

    async def _filtered(self, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
        """In time, and with the records that are wanted."""
        pacing = Pacing(self._job.speed)
        async for chunk in chunks:
            await pacing.wait(chunk.batch)
            if chunk.batch is not None and self._where is not None:
                chunk = chunk._replace(batch=chunk.batch.filter(self._where.expression))
            yield chunk

    async def _write(self, chunk: Chunk, reading: Reading, keep: Keeping, progress: Progress) -> None:
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
