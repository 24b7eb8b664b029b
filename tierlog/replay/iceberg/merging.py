"""Which small files of a table become one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

LARGE_SHARE = 0.75
"""A file of this share of the wanted size is large enough."""


class Piece(NamedTuple):
    """A file with records of one partition, offsets in [start, end). ``path`` tells it from others."""

    partition: int
    start: int
    end: int
    size_bytes: int
    path: str


def merges(pieces: Iterable[Piece], wanted_bytes: int, *, is_thrifty: bool = False) -> list[list[Piece]]:
    """Files that follow one another in a partition, at least two, of ``wanted_bytes`` together at most.

    ``is_thrifty``: a file is not written again for others that are smaller than itself together, so that a table which is
    merged again and again writes each record only so often. Files whose offsets overlap stay as they are."""
    found = []
    for run in _runs(sorted(pieces), wanted_bytes):
        total = sum(piece.size_bytes for piece in run)
        while is_thrifty and len(run) > 1 and 2 * run[0].size_bytes > total:
            total -= run.pop(0).size_bytes
        if len(run) > 1:
            found.append(run)
    return found


def _runs(pieces: list[Piece], wanted_bytes: int) -> Iterator[list[Piece]]:
    run: list[Piece] = []
    total = 0
    for piece in pieces:
        follows = not run or (run[-1].partition == piece.partition and run[-1].end <= piece.start)
        if run and (not follows or total + piece.size_bytes > wanted_bytes):
            yield run
            run, total = [], 0
        if piece.size_bytes >= LARGE_SHARE * wanted_bytes:
            if run:
                yield run
            run, total = [], 0
            continue
        run.append(piece)
        total += piece.size_bytes
    yield run
