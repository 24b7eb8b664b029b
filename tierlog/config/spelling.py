"""Finds the known name nearest to an unknown one, if any is near.

Near depends on the length: one typing error in a short name, two in a longer one, three in a long one; or the same words
in another spelling or order. A name that is merely similar gets no hint, since a misleading one is worse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[._\-\s]+")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one nearest to ``name``; None where none is near."""
    words = _words(name)
    slips = 1 if len(name) < 9 else 2 if len(name) < 24 else 3
    best: tuple[int, str] | None = None
    for candidate in known:
        if _words(candidate) == words:
            return candidate
        if abs(len(candidate) - len(name)) > slips:
            continue
        distance = _distance(name.lower(), candidate, slips)
        if distance <= slips and (best is None or (distance, candidate) < best):
            best = distance, candidate
    return best[1] if best is not None else None


def _words(name: str) -> list[str]:
    return sorted(word.lower() for word in _WORD_ENDS.split(name) if word)


def _distance(left: str, right: str, limit: int) -> int:
    """Number of insertions, deletions, substitutions and swaps of neighbours; above ``limit`` just some larger number."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, char in enumerate(left, 1):
        current = [i]
        for j, other in enumerate(right, 1):
            cost = min(row[j] + 1, current[j - 1] + 1, row[j - 1] + (char != other))
            if i > 1 and j > 1 and char == right[j - 2] and left[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        if min(current) > limit:
            return limit + 1
        before, row = row, current
    return row[-1]
