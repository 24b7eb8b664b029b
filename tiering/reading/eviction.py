"""Which chunks go when memory is needed. Pure.

In this order:

1. chunks that all their streams have read to the end, the longest unused first;
2. the part that was read of a chunk of which little is left, or whose streams are all in the queue (they wait for the
   rest of a batch that is cut there);
3. what was read ahead, the latest first; what is still loading before what is ready, since less of it is lost;
4. chunks whose streams have all held them for longer than ``TURN_S``;
5. chunks whose streams are all in the queue: they will load the cut batch whole.

Read-ahead takes only the first. The last two need a look at all chunks, which is taken now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tiering.reading.holding import Chunk, Stream

# So long a stream that does ask keeps one chunk while others wait for memory.
TURN_S = 30.0
# A chunk shrinks if at most this part of it is left to read.
REST_SHARE = 8


class Step(NamedTuple):
    """Drop the chunk, or keep only what begins at ``rest_start``."""

    chunk: Chunk
    rest_start: int | None

    @property
    def freed_bytes(self) -> int:
        if self.rest_start is None:
            return self.chunk.reserved_bytes
        return max(self.chunk.reserved_bytes - (self.chunk.end - self.rest_start), 0)


class Shelves(NamedTuple):
    """All chunks, as far as the plan looks at them."""

    finished: Iterable[Chunk]
    loose: Iterable[Chunk]
    """Chunks that may shrink."""
    ahead: Iterable[Chunk]
    """The latest last."""
    held: Iterable[Chunk] = ()
    """Chunks that streams hold; empty unless the look is thorough."""


def plan(shelves: Shelves, stream: Stream, excess_bytes: int, now_s: float) -> list[Step] | None:
    """Steps that free ``excess_bytes`` for a demand of the stream; None if nothing can."""
    steps: dict[Chunk, Step] = {}
    freed_bytes = 0
    if excess_bytes <= 0:
        return []
    for step in _steps(shelves, stream, now_s):
        before = steps.get(step.chunk)
        gain = step.freed_bytes - (before.freed_bytes if before is not None else 0)
        if gain <= 0:
            continue
        steps[step.chunk] = step
        freed_bytes += gain
        if freed_bytes >= excess_bytes:
            return list(steps.values())
    return None


def plan_ahead(finished: Iterable[Chunk], excess_bytes: int) -> list[Step] | None:
    """Steps that free ``excess_bytes`` for read-ahead; None if nothing can."""
    steps: list[Step] = []
    if excess_bytes <= 0:
        return steps
    for chunk in finished:
        steps.append(Step(chunk, None))
        excess_bytes -= chunk.reserved_bytes
        if excess_bytes <= 0:
            return steps
    return None


def _steps(shelves: Shelves, stream: Stream, now_s: float) -> Iterator[Step]:
    for chunk in shelves.finished:
        yield Step(chunk, None)
    for chunk in shelves.loose:
        if may_shrink(chunk):
            yield Step(chunk, rest_start(chunk))
    latest_first = list(shelves.ahead)[::-1]
    yield from (Step(chunk, None) for chunk in latest_first if chunk.data is None)
    yield from (Step(chunk, None) for chunk in latest_first if chunk.data is not None)
    others = [chunk for chunk in shelves.held if chunk.data is not None and stream not in chunk.holders]
    for chunk in others:
        if all(now_s - since_s > TURN_S for since_s in chunk.holders.values()):
            yield Step(chunk, None)
    yield from (Step(chunk, None) for chunk in others if _is_queued(chunk))


def may_shrink(chunk: Chunk) -> bool:
    """Whether its streams need only the rest of it before they wait for more."""
    if chunk.data is None or not chunk.holders:
        return False
    start = rest_start(chunk)
    if start == chunk.start:
        return False
    return (chunk.end - start) * REST_SHARE <= chunk.end - chunk.start or _is_queued(chunk)


def rest_start(chunk: Chunk) -> int:
    """From where on its streams still need the chunk."""
    return min(_place(holder, chunk) for holder in chunk.holders)


def _is_queued(chunk: Chunk) -> bool:
    return all(holder.want is not None for holder in chunk.holders)


def _place(stream: Stream, chunk: Chunk) -> int:
    """Where the stream goes on in the chunk."""
    is_inside = stream.uuid == chunk.entry.uuid and chunk.start <= stream.position < chunk.end
    return stream.position if is_inside else chunk.start
