"""Reads a plan: GETs ahead of the decoder, in the order of the plan, in bounded memory.

* At most ``parallel`` GETs are under way, of one partition or of several; ``PIECES_AHEAD`` more wait for the decoder. All
  together they hold ``AHEAD_BYTES``, and objects that come at once with their footers ``SMALL_AHEAD_BYTES``. So the memory
  depends neither on the range nor on ``parallel``, and one partition is read as fast as many.
* Bytes that fail a checksum are asked for again, from the record that was last: they may have been damaged on the way.
* Footers are asked for a few segments ahead: they tell the checksums, what of a cut segment to read, and what was aborted.
* An object that is gone has been replaced or deleted: the bucket's newest word is asked for, until it names another one.
* Decoding runs in one thread, a group of batches at a time, so that GETs go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

import pyarrow as pa

from tiering.codec import SegmentFooter
from tiering.errors import CorruptObject, NotFound, TieringError
from tiering.metering.attribution import of_class
from tiering.objects.classes import StorageClass
from tiering.objects.port import Buffer, ObjectStore
from tiering.objects.throttled import TokenBucket
from tiering.tasks import begin
from tierlog.errors import UserError
from tierlog.records.batch import BatchHeader, InvalidBatch, walk, walk_whole
from tierlog.replay.cluster import Fetched
from tierlog.replay.decode.batches import IsAborted, decode, none_aborted
from tierlog.replay.decode.columns import Decoded, Wanted
from tierlog.replay.gets import Range, is_small, ranges_of, wanted_bytes
from tierlog.replay.plan import LocalRead, Read, SegmentRead
from tierlog.replay.resolve import Origin
from tierlog.replay.segment import SegmentPieces, aborted_batches, aborted_by
from tierlog.types import TopicPartition

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

PARALLEL = 16
PARALLEL_MAX = 32
ASKS_MAX = 3
"""For bytes that fail a checksum, before the replay ends."""
PIECES_AHEAD = 4
"""Beside those under way: what has come may wait for the decoder while other GETs go on."""
AHEAD_BYTES = 80 << 20
"""Enough for 16 GETs and those ahead: with less, what waits for the first of them holds up the others."""
SMALL_AHEAD_BYTES = 16 << 20
DECODED_BYTES = 8 << 20
FOOTERS_AHEAD = 4
"""Of large objects; of small ones, which come whole, as many as GETs may be under way."""
CHANGED_WAIT_S = 120.0
"""How long to wait for a newer copy of a head that names an object which is gone: copies lag by a minute or so."""
CHANGED_PAUSE_S = 1.0
EMPTY_ANSWERS_MAX = 60


def parallel_of(number: int, option: str) -> int:
    """GETs under way at once. Raises UserError that names the option."""
    if not 1 <= number <= PARALLEL_MAX:
        raise UserError(f"{option} {number}: expected 1 to {PARALLEL_MAX}")
    return number


class Chunk(NamedTuple):
    """Some records of one partition, and what of the range they finish. ``batch`` is None without decoding, and where no
    record is left to come: all that the range has of [start_offset, next_offset) is in this chunk."""

    where: TopicPartition
    batch: pa.RecordBatch | None
    start_offset: int
    next_offset: int
    records: int
    size_bytes: int
    """Of the log, since the chunk before."""


class _Piece(NamedTuple):
    """A GET under way. ``pieces`` is shared by all of one segment."""

    read: SegmentRead
    data: asyncio.Future[Buffer]
    position: int
    size_bytes: int
    pieces: SegmentPieces
    is_aborted: IsAborted
    is_last: bool


class _Counted(NamedTuple):
    """Records by their batches' headers, where none is decoded."""

    records: int
    next_offset: int


@dataclass(slots=True)
class _Place:
    """The read that is being decoded, and how far it has come."""

    number: int
    offset: int


class Reading:
    """``schema`` None: records are counted by the batches' headers, and not decoded. ``beside``: so many ``chunks`` go on
    beside each other, and divide what may be in memory."""

    def __init__(
        self,
        origin: Origin,
        schema: pa.Schema | None,
        *,
        parallel: int = PARALLEL,
        rate_bytes: int = 0,
        beside: int = 1,
    ) -> None:
        self.beside = beside
        self._origin = origin
        self._schema = schema
        self._window = max((parallel + PIECES_AHEAD) // beside, 1)
        self._footers = max(parallel // beside, 1)
        self._turns = asyncio.Semaphore(parallel)
        self._pace = TokenBucket(rate_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay: decoding")

    async def chunks(self, reads: Sequence[Read]) -> AsyncGenerator[Chunk]:
        """Raises UserError; what has come until then is right and whole."""
        left = list(reads)
        damaged, asks = ("", -1), 0
        while left:
            place = _Place(0, left[0].start_offset)
            try:
                async with aclosing(self._in_order(left, place)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except NotFound as error:
                broken = left[place.number]
                left = [*await self._changed(broken, place.offset, error), *left[place.number + 1 :]]
            except (CorruptObject, InvalidBatch) as error:
                broken = left[place.number]
                found = (str(_where(broken)), place.offset)
                asks = asks + 1 if found == damaged else 1
                damaged = found
                if asks == ASKS_MAX or place.offset >= broken.end_offset:
                    raise UserError(_damage(broken, error)) from error
                left = [broken._replace(start_offset=place.offset), *left[place.number + 1 :]]
            except TieringError as error:
                raise UserError(f"{error}; what was written stays: go on once the bucket answers") from error

    async def _changed(self, read: Read, at: int, error: NotFound) -> Sequence[Read]:
        """What is to be read instead, from the offset ``at`` on."""
        deadline = asyncio.get_running_loop().time() + CHANGED_WAIT_S
        assert isinstance(read, SegmentRead)
        while asyncio.get_running_loop().time() < deadline:
            plan = await self._origin.reads_of(_where(read), at, read.end_offset)
            if self._origin.cluster is None and not any(isinstance(each, SegmentRead) for each in plan.reads):
                raise UserError(
                    f"{error}; the bucket holds nothing of {_where(read)} any more: is it mounted, is the topic there? "
                    "What was written stays: go on once it is there"
                )
            if all(not isinstance(each, SegmentRead) or each.key != read.key for each in plan.reads):
                return plan.reads
            await asyncio.sleep(CHANGED_PAUSE_S)
        raise UserError(f"{error}; the bucket names this object still: see tierlog storage doctor")

    async def _in_order(self, reads: Sequence[Read], place: _Place) -> AsyncGenerator[Chunk]:
        window: deque[tuple[int, _Piece | LocalRead | TieringError]] = deque()
        issued = self._issued(reads)
        more, ahead_bytes = True, 0
        try:
            while more or window:
                while more and len(window) < self._window and ahead_bytes < AHEAD_BYTES // self.beside:
                    try:
                        window.append(await anext(issued))
                        ahead_bytes += _size_of(window[-1][1])
                    except StopAsyncIteration:
                        more = False
                if not window:
                    break
                number, piece = window[0]
                if number != place.number:
                    place.number, place.offset = number, reads[number].start_offset
                if isinstance(piece, TieringError):
                    raise piece
                made = self._local(piece) if isinstance(piece, LocalRead) else self._decoded(piece)
                async with aclosing(made) as chunks:
                    async for chunk in chunks:
                        start, place.offset = place.offset, chunk.next_offset
                        yield chunk._replace(start_offset=start)
                ahead_bytes -= _size_of(window.popleft()[1])
        finally:
            await issued.aclose()
            await _cancelled([piece.data for _, piece in window if isinstance(piece, _Piece)])

    async def _issued(
        self, reads: Sequence[Read]
    ) -> AsyncGenerator[tuple[int, _Piece | LocalRead | TieringError]]:
        """Begins the GETs, one each time that it is asked. An error comes in its turn, and is the last one."""
        footers: deque[asyncio.Future[tuple[SegmentFooter, Buffer]]] = deque()
        coming = deque(read for read in reads if isinstance(read, SegmentRead))
        small_bytes = 0
        try:
            for number, read in enumerate(reads):
                if isinstance(read, LocalRead):
                    yield number, read
                    continue
                while coming and self._may_begin(coming[0], len(footers), small_bytes):
                    small_bytes += _small_bytes(coming[0])
                    footers.append(begin(self._footer(coming.popleft())))
                try:
                    footer, whole = await footers[0]
                except TieringError as error:
                    yield number, error
                    return
                footers.popleft()
                small_bytes -= _small_bytes(read)
                store = await self._store(read)
                for piece in self._pieces(read, store, footer, whole):
                    yield number, piece
        finally:
            await _cancelled(list(footers))

    def _may_begin(self, read: SegmentRead, begun: int, small_bytes: int) -> bool:
        """Whether to ask for this footer too, beside ``begun`` others, and small objects of so many bytes among them."""
        if not begun:
            return True
        if not _small_bytes(read):
            return begun <= FOOTERS_AHEAD
        return begun < self._footers and small_bytes < SMALL_AHEAD_BYTES // self.beside

    def _pieces(
        self, read: SegmentRead, store: ObjectStore, footer: SegmentFooter, whole: Buffer
    ) -> Iterator[_Piece]:
        """``whole``: the data, if it came with the footer."""
        wanted = wanted_bytes(footer, read.start_offset, read.end_offset)
        pieces = SegmentPieces(footer, wanted, read.key)
        is_aborted = aborted_by(footer) if self._origin.is_committed else none_aborted
        ranges = ranges_of(wanted, footer)
        for each in ranges:
            work = _given(whole, each) if len(whole) else self._get(store, read, each)
            size = each.end - each.start
            yield _Piece(read, begin(work), each.start, size, pieces, is_aborted, each is ranges[-1])

    async def _footer(self, read: SegmentRead) -> tuple[SegmentFooter, Buffer]:
        """The footer; of a small object, all of its data too."""
        store, entry = await self._store(read), read.entry
        start = 0 if is_small(entry.object_bytes) else entry.stored_bytes
        tail = memoryview(await self._get(store, read, Range(start, entry.object_bytes)))
        footer = SegmentFooter.decode(tail[entry.stored_bytes - start :], read.key)
        told = (footer.base_offset, footer.end_offset, footer.data_bytes)
        if told != (entry.base_offset, entry.end_offset, entry.stored_bytes):
            raise CorruptObject(f"{read.key}: holds {told}, and not what the bucket lists")
        return footer, tail[: entry.stored_bytes - start]

    async def _get(self, store: ObjectStore, read: SegmentRead, wanted: Range) -> Buffer:
        async with self._turns:
            await self._pace.take(wanted.end - wanted.start)
            with of_class(StorageClass(read.entry.storage_class).label):
                return await store.get_range(read.key, wanted.start, wanted.end)

    async def _store(self, read: SegmentRead) -> ObjectStore:
        return (await self._origin.bucket(read.store)).store

    # chunks -----------------------------------------------------------------------------------------------

    async def _decoded(self, piece: _Piece) -> AsyncGenerator[Chunk]:
        data = await piece.data
        where, size = _where(piece.read), len(data)
        async with aclosing(self._stepwise(self._steps(piece, data))) as steps:
            async for made in steps:
                yield _chunk(where, made, size)
                size = 0
        if piece.is_last:
            yield Chunk(where, None, -1, piece.read.end_offset, 0, size)

    def _steps(self, piece: _Piece, data: Buffer) -> Iterator[Decoded | _Counted]:
        wanted = self._wanted(piece.read)
        for whole in piece.pieces.add(data, piece.position):
            if wanted is None:
                yield _counted(walk(whole.data, whole.start, whole.end), piece.read, piece.is_aborted)
            else:
                bounds = {"start": whole.start, "end": whole.end}
                yield from decode(whole.data, wanted, piece.is_aborted, parts=self.beside, **bounds)
        if piece.is_last:
            piece.pieces.close()

    async def _local(self, read: LocalRead) -> AsyncGenerator[Chunk]:
        """From the leader."""
        cluster, where = self._origin.cluster, _where(read)
        if cluster is None:
            raise UserError(
                f"{where}: offsets from {read.start_offset} on are in no bucket; name a broker as well"
            )
        at, empty = read.start_offset, 0
        while at < read.end_offset:
            fetched = await asyncio.to_thread(cluster.fetch, where, at)
            size = len(fetched.records)
            await self._pace.take(size)
            headers = [header for _, header in walk_whole(fetched.records)]
            if not headers:
                empty += 1
                if empty == EMPTY_ANSWERS_MAX:
                    raise UserError(
                        f"{where}: the leader has nothing from offset {at} on, of {read.end_offset}; try again"
                    )
                continue
            empty = 0
            part = read._replace(
                start_offset=at, end_offset=max(at, min(headers[-1].next_offset, read.end_offset))
            )
            end = sum(header.size_bytes for header in headers)
            async with aclosing(self._stepwise(self._local_steps(part, fetched, end))) as steps:
                async for made in steps:
                    yield _chunk(where, made, size)
                    size = 0
            at = part.end_offset
            yield Chunk(where, None, -1, at, 0, size)

    def _local_steps(self, part: LocalRead, fetched: Fetched, end: int) -> Iterator[Decoded | _Counted]:
        data, wanted = fetched.records, self._wanted(part)
        is_aborted = aborted_batches(data, end, fetched.aborted)
        if wanted is None:
            yield _counted(walk(data, 0, end), part, is_aborted)
        else:
            yield from decode(data, wanted, is_aborted, end=end)

    async def _stepwise(self, steps: Iterator[Decoded | _Counted]) -> AsyncGenerator[Decoded | _Counted]:
        """Some steps at a time, in the thread."""
        goes_on = True
        while goes_on:
            found, goes_on = await self.aside(_some, steps, DECODED_BYTES // self.beside)
            for made in found:
                yield made

    async def aside(self, work: Callable[[*Ts], R], *args: *Ts) -> R:
        """In the reading's own thread. It is one, also for what is done with the chunks: Arrow's memory stays with the
        thread that took it, and many threads would keep many times as much."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _wanted(self, read: Read) -> Wanted | None:
        if self._schema is None:
            return None
        return Wanted(read.topic, read.partition, self._schema, read.start_offset, read.end_offset)


def _small_bytes(read: SegmentRead) -> int:
    """Of an object that comes at once."""
    return read.entry.object_bytes if is_small(read.entry.object_bytes) else 0


def _size_of(piece: _Piece | LocalRead | TieringError) -> int:
    return piece.size_bytes if isinstance(piece, _Piece) else 0


def _where(read: Read) -> TopicPartition:
    return TopicPartition(read.topic, read.partition)


def _damage(read: Read, error: Exception) -> str:
    told = str(error) if isinstance(error, CorruptObject) else f"{_where(read)}: {error}"
    return (
        f"{told}; asked {ASKS_MAX} times, these bytes are damaged where they are kept: what was written stays"
    )


def _chunk(where: TopicPartition, made: Decoded | _Counted, size_bytes: int) -> Chunk:
    if isinstance(made, Decoded):
        return Chunk(where, made.batch, -1, made.next_offset, made.batch.num_rows, size_bytes)
    return Chunk(where, None, -1, made.next_offset, made.records, size_bytes)


def _counted(batches: Iterator[tuple[int, BatchHeader]], read: Read, is_aborted: IsAborted) -> _Counted:
    """A batch that the range cuts counts with the offsets that are inside."""
    records, next_offset = 0, read.start_offset
    for _, header in batches:
        if header.next_offset <= read.start_offset or header.base_offset >= read.end_offset:
            continue
        next_offset = min(header.next_offset, read.end_offset)
        if not header.is_control and not is_aborted(header):
            inside = next_offset - max(header.base_offset, read.start_offset)
            records += min(header.records_count, inside)
    return _Counted(records, next_offset)


async def _given(whole: Buffer, wanted: Range) -> Buffer:
    return memoryview(whole)[wanted.start : wanted.end]


def _some(steps: Iterator[Decoded | _Counted], bytes_max: int) -> tuple[list[Decoded | _Counted], bool]:
    """The next ``bytes_max`` or all, and whether there may be more."""
    found, size = [], 0
    for made in steps:
        found.append(made)
        size += made.batch.nbytes if isinstance(made, Decoded) else 0
        if size >= bytes_max:
            return found, True
    return found, False


async def _cancelled(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
