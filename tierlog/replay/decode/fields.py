"""Where the fields of all records of some batches lie. Raises Unusual for whatever is not as usual, damage included."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tierlog.records.spans import MIN_RECORD_BYTES
from tierlog.replay.decode.starts import record_starts
from tierlog.replay.decode.varints import Arena, Positions, Unusual, varints_at

HEADERS_IN_STEPS_MAX = 64
"""Records with more headers than this are left to the plain reader."""


class Slices(NamedTuple):
    """Parts of the arena, ascending and disjoint; a negative length is null."""

    starts: Positions
    lengths: Positions


class RecordHeaders(NamedTuple):
    """Headers of all records, in order; ``counts`` per record."""

    counts: Positions
    keys: Slices
    values: Slices


class Fields(NamedTuple):
    """One row per record; ``batch`` is the number of its batch."""

    batch: npt.NDArray[np.int64]
    timestamp_deltas: Positions
    offset_deltas: Positions
    keys: Slices
    values: Slices
    headers: RecordHeaders | None
    """None: no record has any."""


def fields_of(arena: Arena, begins: Positions, ends: Positions, counts: Positions) -> Fields:
    """Fields of the records in the bodies [begins, ends) of the arena, of ``counts`` records each."""
    if (counts < 0).any() or (counts * MIN_RECORD_BYTES > ends - begins).any():
        raise Unusual("more records than there is room for")
    starts = record_starts(arena, begins, ends, counts)
    batch = np.repeat(np.arange(len(counts)), counts)
    record_ends = np.empty_like(starts)
    record_ends[:-1] = starts[1:]
    has_records = counts > 0
    record_ends[np.cumsum(counts)[has_records] - 1] = ends[has_records]
    _, at = varints_at(arena, starts)
    timestamp_deltas, at = varints_at(arena, at + 1)
    offset_deltas, at = varints_at(arena, at)
    keys, at = _slices(arena, at, record_ends)
    values, at = _slices(arena, at, record_ends)
    if (at >= record_ends).any():
        raise Unusual("a record is longer than its length says")
    headers = _headers(arena, at, record_ends)
    return Fields(batch, timestamp_deltas, offset_deltas, keys, values, headers)


def _slices(arena: Arena, at: Positions, ends: Positions, *, least: int = -1) -> tuple[Slices, Positions]:
    """Length-prefixed bytes at each position, and the positions behind them."""
    lengths, at = varints_at(arena, at)
    if (lengths < least).any() or (lengths > ends - at).any():
        raise Unusual("a field is longer than its record")
    return Slices(at, lengths), at + np.maximum(lengths, 0)


def _headers(arena: Arena, at: Positions, ends: Positions) -> RecordHeaders | None:
    if not arena.data[at].any():
        if np.array_equal(at + 1, ends):
            return None
        raise Unusual("bytes after the last record header")
    counts, at = varints_at(arena, at)
    most = int(counts.max())
    if (counts < 0).any() or (2 * counts > ends - at).any() or most > HEADERS_IN_STEPS_MAX:
        raise Unusual("very many headers")
    first = np.cumsum(counts) - counts
    total = int(counts.sum())
    keys, values = (Slices(np.empty(total, np.int64), np.empty(total, np.int64)) for _ in range(2))
    for number in range(most):
        having = np.flatnonzero(counts > number)
        slots = first[having] + number
        here, its_end = at[having], ends[having]
        for column, least in ((keys, 0), (values, -(2**62))):
            found, here = _slices(arena, here, its_end, least=least)
            column.starts[slots], column.lengths[slots] = found
        at[having] = here
    if not np.array_equal(at, ends):
        raise Unusual("bytes after the last record header")
    return RecordHeaders(counts, keys, values)
