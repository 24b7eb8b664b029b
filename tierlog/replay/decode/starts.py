"""Where the records of many batches begin.

Each length field tells where the next record begins, so one batch is a chain. Many batches are walked side by side, one step
of all chains at a time; few and long chains are walked one after the other, which takes 0.1 µs a record.
"""

from __future__ import annotations

import numpy as np

from tierlog.records.varint import decode_varint
from tierlog.replay.decode.varints import STEP, Arena, Positions, Unusual, varints_at

LANES_MIN = 24
"""Below so many chains a vector step costs more than it saves."""


def record_starts(arena: Arena, begins: Positions, ends: Positions, counts: Positions) -> Positions:
    """Positions of all records, batch by batch, of bodies that hold exactly ``counts`` records. Raises Unusual."""
    order = np.argsort(-counts, kind="stable")
    at, left = begins[order], counts[order]
    slots = (np.cumsum(counts) - counts)[order]
    found = np.empty(int(counts.sum()), dtype=np.int64)
    # From long to short: the chains that still go on are the first ones.
    lanes_at = (
        np.searchsorted(-left, -np.arange(1, int(left[LANES_MIN - 1]) + 1), side="right")
        if (len(left) >= LANES_MIN)
        else ()
    )
    walked = 0
    for lanes in lanes_at:
        front = at[:lanes]
        found[slots[:lanes]] = front
        slots[:lanes] += 1
        at[:lanes] += _steps(arena, front)
        walked += 1
    for lane in np.flatnonzero(left > walked):
        slot, count = int(slots[lane]), int(left[lane]) - walked
        begin, end = int(at[lane]), int(ends[order[lane]])
        if begin > end:
            raise Unusual("beyond the end")
        chain = _chain(arena.data[begin:end].tobytes(), count)
        found[slot : slot + count] = chain[:-1]
        found[slot : slot + count] += begin
        at[lane] = begin + chain[-1]
    if not np.array_equal(at, ends[order]):
        raise Unusual("records do not fill their batch")
    return found


def _steps(arena: Arena, at: Positions) -> Positions:
    try:
        steps = STEP[arena.pairs[at]]
    except IndexError:
        raise Unusual("beyond the end") from None
    if not steps.all():
        longer = np.flatnonzero(steps == 0)
        lengths, behind = varints_at(arena, at[longer])
        # A length beyond the buffer would overflow positions later on.
        if (lengths < 0).any() or (lengths > len(arena.data)).any():
            raise Unusual("an impossible length")
        steps[longer] = lengths + behind - at[longer]
    return steps


def _chain(body: bytes, count: int) -> list[int]:
    """Positions of ``count`` records, and where the last one ends."""
    found, at = [0], 0
    take = found.append
    try:
        for _ in range(count):
            low = body[at]
            if low < 0x80:
                at += (low >> 1) + 1
            else:
                high = body[at + 1]
                if high < 0x80:
                    at += (high << 6 | (low & 0x7F) >> 1) + 2
                    low &= 1
                else:
                    length, behind = decode_varint(body, at)
                    at, low = behind + length, length < 0
            if low & 1:
                raise Unusual("a negative length")
            take(at)
    except (IndexError, ValueError):
        raise Unusual("a length is cut off") from None
    if at > len(body):
        raise Unusual("a record is cut off")
    return found
