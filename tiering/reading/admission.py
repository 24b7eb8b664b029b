"""Who may load, how much, and what has to go for it. Pure: the driver (``cache``) carries the effects out.

Rules:

* ``budget_bytes`` bounds all chunks, ready or loading. Memory is reserved before a GET.
* A stream that needs bytes joins the queue and is given a range when its turn comes (``fair_queue``). Nobody overtakes
  the first in the queue, so a large range waits no longer than a small one.
* A stream waits for one range at a time, and keeps its place between its reads until it is idle.
* A chunk stays until its streams have read it to its end, are idle, or have held it for ``TURN_S`` while others wait.
  The exceptions are in ``eviction``; none of them is a chunk that a stream out of the queue is in the middle of. So who
  is in the queue holds nothing that others wait for: all wait for readers that read.
* What lies on the disk and what lies in the store are loaded apart (``cut``), so that no byte is fetched twice.
* Read-ahead takes free memory and chunks that were read (none that its own stream comes to), while nobody waits and there
  is no quota, up to the stream's share of the budget. Its window doubles when a reader in sequence had to wait, and halves
  when what was read ahead had to go unread.

A stream's share is the budget by the number of fronts: streams in the same chunk count once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tiering.catalog import Catalog
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry
from tiering.reading.chunks import (
    READAHEAD_BYTES_MAX,
    ChunkMap,
    RangeSizes,
    aligned,
    blocks_end,
    range_from,
)
from tiering.reading.eviction import Shelves, Step, may_shrink, plan, plan_ahead, rest_start
from tiering.reading.fair_queue import FairQueue
from tiering.reading.holding import Chunk, Stream, Want
from tiering.reading.streams import Streams

# Fronts are counted anew after this time.
COUNT_S = 0.05
# What a stream is given before it has read in sequence.
FIRST_BYTES = 1 << 20
# The first window of one that has, and the least that is asked for then.
FIRST_WINDOW_BYTES = 16 << 20
RAMP_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """Load the chunk, then call ``loaded`` or ``failed``."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up the load; the chunk is forgotten already."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Settle:
    """The want is in the queue no more: its stream looks again."""

    want: Want


Effect: TypeAlias = Load | Cancel | Settle


Cut: TypeAlias = Callable[[PartitionKeys, SegmentEntry, int, int, int], tuple[int, int]]
"""``cut(keys, entry, position, start, end)``: the part of the range around the position that is to be loaded at once."""


def uncut(
    _keys: PartitionKeys, _entry: SegmentEntry, _position: int, start: int, end: int
) -> tuple[int, int]:
    """All of it: there is one place to load from."""
    return start, end


class Admission:
    """All chunks of one broker, their streams, and all who wait for memory."""

    def __init__(self, sizes: RangeSizes, cut: Cut = uncut) -> None:
        self._cut = cut
        self.sizes = sizes
        self.budget_bytes = sizes.budget_bytes
        self.bytes_per_second = 0
        """The fetch quota; 0: none."""
        self.used_bytes = 0
        """Reserved by all chunks. Invariant: <= budget_bytes."""
        self.streams = Streams()
        self.chunks = ChunkMap()
        self.queue: FairQueue[Want] = FairQueue()
        self.unread_evictions = 0
        self._finished: dict[Chunk, None] = {}
        """Ready chunks that no stream holds and that were not read ahead; the longest unused first."""
        self._ahead: dict[Chunk, None] = {}
        """Chunks that were read ahead and that no stream has come to; the latest last."""
        self._loose: dict[Chunk, None] = {}
        """Chunks that may shrink, or might when they were noted."""
        self._is_stuck = False
        """The first in the queue cannot be served, and nothing has changed since that would help."""
        self._effects: list[Effect] = []
        self._front_count = 1
        self._counted_at_s = float("-inf")

    def effects(self) -> list[Effect]:
        """What is to be done, in order. Call after each change."""
        effects, self._effects = self._effects, []
        return effects

    # -- what streams do

    def demand(self, want: Want, now_s: float) -> Chunk | Want:
        """What the stream has to wait for: a chunk that is loading, or its place in the queue."""
        stream, queued = want.stream, want.stream.want
        stream.seen_s = now_s
        if not stream.is_located:
            stream.entry, stream.position = want.entry, want.batch_start
        chunk = self.chunks.find(want.entry.uuid, want.position)
        if chunk is None and queued is not None and queued.place == want.place:
            return queued
        self._leave_queue(stream)
        stream.note_asked(now_s)
        if chunk is not None:
            self.enter(stream, chunk, now_s)
            return chunk
        stream.want = want
        self.queue.add(stream.keys, stream.client, want)
        position = want.batch_start
        while position < want.position and (there := self.chunks.find(want.entry.uuid, position)) is not None:
            self.enter(stream, there, now_s)
            position = there.end
        for held in stream.held:
            self._note_loose(held)
        self.advance(now_s)
        return self.chunks.find(want.entry.uuid, want.position) or want

    def enter(self, stream: Stream, chunk: Chunk, now_s: float) -> None:
        """The stream is in the middle of the chunk, or waits for it."""
        if stream in chunk.holders:
            return
        self._finished.pop(chunk, None)
        self._ahead.pop(chunk, None)
        chunk.ahead_of = None
        chunk.holders[stream] = now_s
        stream.held[chunk] = None

    def go_on(
        self,
        stream: Stream,
        entry: SegmentEntry,
        position: int,
        read_bytes: int,
        has_waited: bool,
        now_s: float,
    ) -> None:
        """The stream has read so much, ``has_waited`` for it or for what follows, and goes on at ``position``, behind the
        chunks in front of that."""
        stream.note_asked(now_s, read_bytes)
        if has_waited and stream.is_sequential:
            stream.window_bytes = min(max(4 * stream.window_bytes, FIRST_WINDOW_BYTES), READAHEAD_BYTES_MAX)
        for chunk in list(stream.held):
            if chunk.entry.uuid != entry.uuid or chunk.end <= position:
                self._leave(stream, chunk)
        stream.entry, stream.position = entry, position
        stream.is_located = position < entry.data_bytes
        here = self.chunks.find(entry.uuid, position)
        if here is not None:
            self.enter(stream, here, now_s)
            self._note_loose(here)
        self.advance(now_s)

    def drop(self, stream: Stream, now_s: float) -> None:
        """The stream is gone. Its chunks stay while nobody needs their memory."""
        self._drop(stream)
        self.advance(now_s)

    def _drop(self, stream: Stream) -> None:
        self._leave_queue(stream)
        for chunk in list(stream.held):
            self._leave(stream, chunk)
        for chunk in [chunk for chunk in self._ahead if chunk.ahead_of is stream]:
            chunk.ahead_of = None
            del self._ahead[chunk]
            if chunk.data is not None:
                self._finish(chunk)

    def read_ahead(self, stream: Stream, catalog: Catalog, stop_offset: int, now_s: float) -> None:
        """Loads what lies behind the stream's chunk, as far as its window and its share allow, across segment borders, up
        to the segment that holds ``stop_offset``. Call after ``go_on``: a second time, the stream reads in sequence."""
        entry, position = stream.entry, stream.position
        is_sequential, stream.is_sequential = stream.is_sequential, True
        if not is_sequential or self.queue or entry is None or self.bytes_per_second:
            return
        passed: set[Chunk] = set()
        usual = self.usual_bytes(now_s)
        limit = min(max(stream.window_bytes, usual), self.budget_bytes // self._fronts(now_s) - usual)
        here = self.chunks.find(entry.uuid, position)
        position, ahead_bytes = here.end if here is not None else position, 0
        while ahead_bytes < limit and entry is not None and entry.base_offset < stop_offset:
            if position >= entry.data_bytes:
                entry, position = catalog.next(entry), 0
                continue
            chunk = self.chunks.find(entry.uuid, position)
            if chunk is None:
                start, end = range_from(entry, position, _ramp(stream, usual), position)
                chunk = self._chunk(stream, entry, position, start, end)
                size_bytes = _whole_bytes(chunk)
                finished = (each for each in self._finished if each not in passed)
                steps = plan_ahead(finished, self.used_bytes + size_bytes - self.budget_bytes)
                if steps is None or ahead_bytes + chunk.end - position > limit:
                    break
                self._carry_out(steps)
                self._add(chunk, size_bytes)
                chunk.ahead_of = stream
                self._ahead[chunk] = None
            elif chunk in self._finished:  # the stream comes to it soon: it goes last
                del self._finished[chunk]
                self._finished[chunk] = None
            passed.add(chunk)
            ahead_bytes += chunk.end - position
            position = chunk.end

    # -- what becomes of loads

    def loaded(self, chunk: Chunk, data: memoryview, now_s: float) -> None:
        """The chunk is ready."""
        assert len(data) == chunk.end - chunk.start
        chunk.data = data
        for stream in chunk.holders:
            chunk.holders[stream] = stream.ready_s = now_s
        if not chunk.holders and chunk.ahead_of is None:
            self._finish(chunk)
        self.advance(now_s)

    def failed(self, chunk: Chunk, error: BaseException, now_s: float) -> None:
        """The chunk could not be loaded. Those who asked for it are told with their next read."""
        for stream in chunk.holders:
            stream.note_failure(error)
        self._forget(chunk)
        self.advance(now_s)

    def _forget(self, chunk: Chunk) -> None:
        for stream in chunk.holders:
            del stream.held[chunk]
        chunk.holders.clear()
        self._finished.pop(chunk, None)
        self._loose.pop(chunk, None)
        if chunk.ahead_of is not None:
            del self._ahead[chunk]
            chunk.ahead_of = None
        self._is_stuck = False
        self.used_bytes -= chunk.reserved_bytes
        chunk.reserved_bytes = 0
        self.chunks.remove(chunk)

    # -- deciding

    def expire(self, now_s: float) -> None:
        """Streams that are idle leave what they hold, and their place."""
        for stream in self.streams.idle(now_s):
            self._drop(stream)

    def advance(self, now_s: float, *, is_thorough: bool = False) -> None:
        """Gives memory to as many as there is for. ``is_thorough``: now and then, for what time alone has changed."""
        if not self.queue or (self._is_stuck and not is_thorough):
            return
        self.expire(now_s)
        self._is_stuck = False
        while (want := self.queue.first()) is not None:
            if not self._grant(want, now_s, is_thorough):
                self._is_stuck = True
                break
            taken = self.queue.take()
            assert taken is want
            want.stream.want = None
            want.stream.ready_s = now_s
            self._effects.append(Settle(want))

    def _grant(self, want: Want, now_s: float, is_thorough: bool) -> bool:
        """Whether the want need not wait any longer: its bytes are there, or on their way."""
        stream, entry = want.stream, want.entry
        position = want.batch_start
        while position < want.needed_end and (found := self.chunks.find(entry.uuid, position)) is not None:
            position = found.end
        if position >= want.needed_end:
            return True
        size = FIRST_BYTES
        if stream.is_sequential:
            usual, fronts = self.usual_bytes(now_s), self._fronts(now_s)
            size = self.sizes.paced(usual, fronts, stream.pace_bytes_per_s)
            if self.used_bytes <= self.budget_bytes // 2:
                size = _ramp(stream, size)
        start, end = range_from(entry, position, size, want.needed_end)
        chunk = self._chunk(stream, entry, position, start, end, want.needed_end)
        own_bytes = sum(min(each.reserved_bytes, each.end - rest_start(each)) for each in stream.held)
        size_bytes = min(_whole_bytes(chunk), self.budget_bytes - own_bytes)
        held = [each for each in self.chunks if each.holders] if is_thorough else ()
        shelves = Shelves(self._finished, self._loose, self._ahead, held)
        steps = plan(shelves, stream, self.used_bytes + size_bytes - self.budget_bytes, now_s)
        if steps is None:
            return False
        self._carry_out(steps)
        self._add(chunk, size_bytes)
        self.enter(stream, chunk, now_s)
        return True

    def _chunk(
        self, stream: Stream, entry: SegmentEntry, position: int, start: int, end: int, needed_end: int = 0
    ) -> Chunk:
        """Cut where chunks lie, and where the disk's part begins or ends; not by the latter within a batch that is needed,
        which would have to be loaded in two turns, and the first part could go before the second has come."""
        start, end = self.chunks.gap(entry.uuid, position, start, end)
        first, last = self._cut(stream.keys, entry, position, start, end)
        last = max(last, min(end, blocks_end(needed_end)))
        return Chunk(stream.keys, entry, first, last, stream.client)

    def _add(self, chunk: Chunk, size_bytes: int) -> None:
        chunk.reserved_bytes = size_bytes
        self.used_bytes += size_bytes
        self.chunks.add(chunk)
        self._effects.append(Load(chunk))

    def _carry_out(self, steps: list[Step]) -> None:
        for chunk, start in steps:
            if start is not None:
                del self._loose[chunk]
                self.used_bytes -= chunk.shrink(start)
                continue
            if chunk.ahead_of is not None:
                self.unread_evictions += 1
                chunk.ahead_of.window_bytes //= 2
            if chunk.data is None:
                self._effects.append(Cancel(chunk))
            self._forget(chunk)

    # -- inside

    def _leave(self, stream: Stream, chunk: Chunk) -> None:
        del stream.held[chunk]
        del chunk.holders[stream]
        if chunk.holders:
            self._note_loose(chunk)
        elif chunk.data is not None:
            self._finish(chunk)

    def _finish(self, chunk: Chunk) -> None:
        self._loose.pop(chunk, None)
        self._finished[chunk] = None
        self._is_stuck = False

    def _note_loose(self, chunk: Chunk) -> None:
        if may_shrink(chunk):
            self._loose[chunk] = None
            self._is_stuck = False

    def _leave_queue(self, stream: Stream) -> None:
        if stream.want is not None:
            self.queue.remove(stream.keys, stream.client, stream.want)
            self._effects.append(Settle(stream.want))
            stream.want = None
            self._is_stuck = False

    @property
    def is_tight(self) -> bool:
        """Whether a chunk that was read may soon have to go."""
        return self.used_bytes > self.budget_bytes - self.budget_bytes // 8

    def usual_bytes(self, now_s: float) -> int:
        """How much a GET asks for now."""
        return self.sizes.usual(self._fronts(now_s), self.bytes_per_second)

    def _fronts(self, now_s: float) -> int:
        if now_s - self._counted_at_s >= COUNT_S:
            self._counted_at_s = now_s
            live = [stream for stream in self.streams if not stream.is_idle(now_s)]
            fronts = {next(reversed(stream.held)) if stream.held else stream for stream in live}
            self._front_count = max(len(fronts), 1)
        return self._front_count

    def check(self) -> None:
        """Asserts what holds between any two calls."""
        used = 0
        for chunk in self.chunks:
            used += chunk.reserved_bytes
            places = (bool(chunk.holders), chunk in self._ahead, chunk in self._finished)
            assert sum(places) == 1 or (sum(places) == 0 and chunk.data is None), "each chunk has one place"
            assert all(chunk in stream.held for stream in chunk.holders)
            assert self.chunks.find(chunk.entry.uuid, chunk.end - 1) is chunk, "chunks do not overlap"
        assert used == self.used_bytes <= self.budget_bytes, "I15: the chunk budget"
        waiting = [stream for stream in self.streams if stream.want is not None]
        assert len(self.queue) >= len(waiting)


def _ramp(stream: Stream, size_bytes: int) -> int:
    """A window of a few GETs side by side, while it grows: the first of them are soon there."""
    return min(size_bytes, max(stream.window_bytes // 4, RAMP_BYTES))


def _whole_bytes(chunk: Chunk) -> int:
    """What its load takes of memory."""
    first, last = aligned(chunk)
    return last - first
