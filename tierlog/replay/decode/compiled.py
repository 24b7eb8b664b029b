"""Many batches in one call of the kernel. What it does not decide on comes back as a range, for the vector steps."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

from tierlog.records.batch import COMPRESSION_MASK, HEADER_BYTES, InvalidBatch, parse_header
from tierlog.records.spans import MIN_RECORD_BYTES
from tierlog.replay.decode.buffers import Buffers, Sizes
from tierlog.replay.decode.codecs import Opener
from tierlog.replay.decode.columns import Decoded, Wanted
from tierlog.types import Buffer

PACKED_BYTES = 64 << 10
"""Of compressed bodies that are opened before the kernel reads them: so few that they stay in the processor's cache."""
MARGIN = 1.5
"""How much larger the buffers are for what is left of the data than its first batch, or the group before, lets expect."""
NOTHING = Sizes(0, 0, 0, 0, 0, 0)
Undecided = tuple[int, int]
"""Bytes [start, end) of the data: one batch, or what is none."""


def in_one_call(
    kernel: ModuleType,
    data: Buffer,
    wanted: Wanted,
    left_out: array[int],
    at: int,
    end: int,
    bytes_max: int,
) -> Iterator[Decoded | Undecided]:
    """The records of the batches in ``data[at:end]`` but those at ``left_out``, in groups of about ``bytes_max``.

    The first batch is read twice: it tells how large the buffers must be."""
    view, opener = memoryview(data), Opener()
    bounds = (wanted.start_offset, wanted.end_offset, left_out)
    room: Sizes | None = None
    group, group_at = Buffers(wanted, _room_of_first(view, at, end)), at
    while at < end:
        places, stop = kernel.packed(view, at, end, *bounds, PACKED_BYTES if room else 1)
        bodies = opener.all_opened(view, places)
        stop = stop if stop > at else end
        is_enough = False
        while at < stop:
            at, why, used = kernel.columns(view, at, stop, bodies, *bounds, group.columns, group.tally)
            bodies = bodies[used:]
            if why == kernel.ENDED:
                break
            if why == kernel.FULL and not group.is_empty:
                size = group.used()
                share = bytes_max / max(size.string_bytes + MIN_RECORD_BYTES * size.rows, 1)
                span = at - group_at
                if room is None:
                    at = stop = group_at
                else:
                    yield group.taken()
                room = size.times(min(share, MARGIN * (end - at) / span))
                group, group_at, is_enough = Buffers(wanted, room), at, False
            elif why == kernel.FULL and not is_enough:
                group, is_enough = Buffers(wanted, _largest(view, at, bodies)), True
            else:
                if not group.is_empty:
                    yield group.taken()
                behind = _behind(view, at, end)
                yield at, behind
                at = stop = behind
                group, group_at = Buffers(wanted, room or NOTHING), at
    if not group.is_empty:
        yield group.taken()


def _largest(view: memoryview, at: int, bodies: tuple[bytes, ...]) -> Sizes:
    """What the batch may come to."""
    header = parse_header(view, at)
    size = len(bodies[0]) if header.attributes & COMPRESSION_MASK else header.size_bytes - HEADER_BYTES
    return Sizes(min(header.records_count, size // MIN_RECORD_BYTES), size, size, size // 2, size, size)


def _room_of_first(view: memoryview, at: int, end: int) -> Sizes:
    """For the first batch alone, if it tells its size; else it is found out that there is no room."""
    with suppress(InvalidBatch):
        header = parse_header(view, at)
        if (
            header.records_count >= 0
            and not header.attributes & COMPRESSION_MASK
            and header.size_bytes <= end - at
        ):
            return _largest(view, at, ())
    return NOTHING


def _behind(view: memoryview, at: int, end: int) -> int:
    """The end of the batch, if one begins there."""
    try:
        return min(at + parse_header(view, at).size_bytes, end)
    except InvalidBatch:
        return end
