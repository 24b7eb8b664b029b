"""Decides who may remove or replace segments of one log: one holder at a time, and everybody asks first.

While compaction rewrites a log, a repair mends one of its segments, or a move copies it to another directory, that work
holds the segments: retention, the tier's commits, disk relief and truncation wait for their next turn. Moving the log start
(DeleteRecords) removes no file and need not ask. The deletion of a topic does not wait: it takes the whole directory, and
the holder then finds the log unhosted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

COMPACTION = "compaction"
REPAIR = "a repair"
MOVE = "a move to another log directory"


class Removals:
    """``holder``: who holds the segments; "" when anybody may remove some."""

    __slots__ = ("holder",)

    def __init__(self) -> None:
        self.holder = ""

    @property
    def are_held(self) -> bool:
        return bool(self.holder)

    @contextmanager
    def hold(self, holder: str) -> Iterator[None]:
        """Nobody else may hold the segments: the caller checks that first, in the same step."""
        assert not self.holder, f"{holder} takes segments that {self.holder} holds"
        self.holder = holder
        try:
            yield
        finally:
            self.holder = ""

    def check(self, *who: str) -> None:
        """Asserts that ``who`` may remove segments now."""
        assert self.holder in ("", *who), f"segments are removed while {self.holder} holds them"
