"""Memory of chunks: drives ``admission``, one load per chunk at a time.

A load is a task of the cache. It outlives the read that asked; its chunk is there for the stream's next read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, assert_never

from tiering.catalog import Catalog
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry
from tiering.reading.admission import Admission, Cancel, Cut, Effect, Load, Settle, uncut
from tiering.reading.chunks import RangeSizes
from tiering.reading.holding import Chunk, Reader, Stream, Want
from tiering.tasks import begin

# While somebody waits for memory, streams that have become idle are looked for.
TICK_S = 0.25

Fetch = Callable[[Chunk], Coroutine[Any, Any, memoryview]]


def _nothing(_: Chunk) -> None:
    """For a cache that is the only one."""


@dataclass(slots=True)
class CacheStats:
    """Counters since the start."""

    hit_count: int = 0
    """Reads of chunks that were ready."""
    demand_count: int = 0
    """Loads that a reader waited for."""
    read_ahead_count: int = 0
    wait_count: int = 0
    """Ranges that had to wait for memory."""


class ChunkCache:
    """The ready chunks, the loads, and the futures of those who wait."""

    def __init__(
        self,
        budget_bytes: int,
        chunk_bytes: int,
        fetch: Fetch,
        on_shared: Callable[[Chunk], None] = _nothing,
        cut: Cut = uncut,
    ) -> None:
        """``fetch(chunk)`` gives its verified bytes. ``on_shared``: told of a ready chunk that is read again."""
        self.admission = Admission(RangeSizes.of(budget_bytes, chunk_bytes), cut)
        self.stats = CacheStats()
        self._fetch = fetch
        self._on_shared = on_shared
        self._loads: dict[Chunk, asyncio.Future[None]] = {}
        self._turns: dict[Want, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    # -- streams

    def find(self, keys: PartitionKeys, reader: Reader | None, offset: int) -> Stream | None:
        """The stream that goes on at ``offset``."""
        return self.admission.streams.find(keys, reader, offset, _now_s())

    def open(self, keys: PartitionKeys, reader: Reader | None, offset: int) -> Stream | None:
        """A new stream; None if there are too many."""
        now_s = _now_s()
        left = self.admission.streams.replaced(keys, reader)
        if left is not None:
            self.admission.drop(left, now_s)
        self.admission.expire(now_s)
        self._carry_out()
        return self.admission.streams.open(keys, reader, offset, now_s)

    def go_on(
        self,
        stream: Stream,
        offset: int,
        entry: SegmentEntry,
        position: int,
        read_bytes: int,
        has_waited: bool,
    ) -> None:
        """The stream has read so much, up to ``offset``, which lies at ``position`` in the object."""
        now_s = _now_s()
        other = self.admission.streams.move(stream, offset)
        if other is not None:
            self.admission.drop(other, now_s)
        self.admission.go_on(stream, entry, position, read_bytes, has_waited, now_s)
        self._carry_out()

    def drop(self, stream: Stream) -> None:
        """The stream reads no more."""
        self.admission.drop(stream, _now_s())
        self._carry_out()

    # -- chunks

    def piece(self, entry: SegmentEntry, position: int) -> memoryview | None:
        """The bytes from ``position`` to the end of its chunk, if it is ready; counts as a read."""
        chunk = self.admission.chunks.find(entry.uuid, position)
        if chunk is None or chunk.data is None:
            return None
        self.stats.hit_count += 1
        return chunk.data[position - chunk.start :]

    def note_read(self, entry: SegmentEntry, start: int, end: int) -> None:
        """A reader has used the bytes [start, end)."""
        while start < end and (chunk := self.admission.chunks.find(entry.uuid, start)) is not None:
            size_bytes, before_bytes = chunk.end - chunk.start, chunk.read_bytes
            chunk.read_bytes += min(chunk.end, end) - start
            # One reader uses as much as it holds; a second one is in the middle of it here.
            if before_bytes * 2 <= size_bytes * 3 < chunk.read_bytes * 2 and chunk.data is not None:
                self._on_shared(chunk)
            start = chunk.end

    def demand(self, want: Want) -> asyncio.Future[None]:
        """Asks for bytes. When the future ends, look again: there is something new. Await it with ``asyncio.wait`` and
        never cancel it; its exception is that of the load."""
        found = self.admission.demand(want, _now_s())
        if isinstance(found, Chunk):
            self._carry_out()
            return self._loads[found]
        turn = self._turns.get(found)
        if turn is None:
            self.stats.wait_count += 1
            turn = self._turns[found] = asyncio.get_running_loop().create_future()
        self._carry_out()
        return turn

    def read_ahead(self, stream: Stream, catalog: Catalog, stop_offset: int) -> None:
        """Loads what the stream will come to, as far as memory allows."""
        self.admission.read_ahead(stream, catalog, stop_offset, _now_s())
        self._carry_out()

    async def close(self) -> None:
        """Cancels the loads in flight; nobody's turn comes any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for turn in self._turns.values():
            turn.cancel()
        self._turns.clear()
        loads = list(self._loads.values())
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        self._loads.clear()

    # -- inside

    def _carry_out(self) -> None:
        effects = self.admission.effects()
        if self._is_closed:
            return
        for effect in effects:
            self._do(effect)
        if self.admission.queue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Load(chunk):
                is_ahead = chunk.ahead_of is not None
                self.stats.read_ahead_count += is_ahead
                self.stats.demand_count += not is_ahead
                self._loads[chunk] = begin(self._fill(chunk))
            case Cancel(chunk):
                self._loads.pop(chunk).cancel()
            case Settle(want):
                turn = self._turns.pop(want, None)
                if turn is not None and not turn.done():
                    turn.set_result(None)
            case _:
                assert_never(effect)

    def _tick(self) -> None:
        self._timer = None
        self.admission.advance(_now_s(), is_thorough=True)
        self._carry_out()

    async def _fill(self, chunk: Chunk) -> None:
        try:
            data = await self._fetch(chunk)
        except BaseException as error:
            if self._loads.pop(chunk, None) is not None:
                self.admission.failed(chunk, error, _now_s())
                self._carry_out()
            raise
        if self._loads.pop(chunk, None) is not None:
            self.admission.loaded(chunk, data, _now_s())
            self._carry_out()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
