"""Who may copy next, where more partitions have something to copy than may copy at once. Pure.

* Where a disk is short of room, the largest backlog on it goes first: copying is what makes room.
* Else the partition goes first whose oldest record has waited longest, so that none is passed over for ever.

Nobody holds anything up while waiting: who is refused goes on with its other work, and is told when its turn has come. A
turn is for one segment.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class Claim(NamedTuple):
    """Why a partition should copy before others."""

    is_disk_short: bool
    backlog_bytes: int
    since_ms: int
    """When the oldest record that is not in the bucket was first seen."""

    @property
    def rank(self) -> tuple[int, int]:
        """The smallest goes first."""
        return (0, -self.backlog_bytes) if self.is_disk_short else (1, self.since_ms)


class CopyTurns(Generic[T]):
    """``turns``: how many copies may run at once. Bounded by the partitions that ask."""

    def __init__(self, turns: int) -> None:
        self._free = turns
        self._waiting: dict[T, Claim] = {}
        self._granted: set[T] = set()
        self._copying: set[T] = set()

    def may_copy(self, who: T, claim: Claim) -> bool:
        """Whether it may copy one segment now; it must ``leave`` then. If not, it is named by ``grant`` later."""
        assert who not in self._copying, "one copy at a time"
        if who in self._granted:
            self._granted.remove(who)
        elif self._free > 0 and not self._waiting:
            self._free -= 1
        else:
            self._waiting[who] = claim
            return False
        self._copying.add(who)
        return True

    def leave(self, who: T) -> None:
        """It copies no more, or no longer wants to."""
        self._waiting.pop(who, None)
        for held in (self._granted, self._copying):
            if who in held:
                held.remove(who)
                self._free += 1

    def grant(self) -> list[T]:
        """Those whose turn has come; each must ask again, or leave."""
        named: list[T] = []
        while self._free > 0 and self._waiting:
            best = min(self._waiting, key=lambda who: self._waiting[who].rank)
            del self._waiting[best]
            self._granted.add(best)
            self._free -= 1
            named.append(best)
        return named

    def is_granted(self, who: T) -> bool:
        return who in self._granted
