"""Freezes long-lived objects, so that the garbage collector does not look at them again.

Python's collector walks all objects that it knows, in one step, whenever their number has grown by a quarter: with 3,000
partitions the loop stood still for 0.1 s each time. Frozen objects are not looked at again.

Rules:

* only the young generations are collected before a freeze, so that it costs a millisecond however many objects there are;
* a frozen object is freed when nobody refers to it; a cycle of frozen objects is never freed. So objects that come and go
  with topics and roles (partitions, logs, leaders, followers) hold no cycles.
"""

from __future__ import annotations

import gc

# In partitions. That is some ten thousand objects, which the collector walks in a few milliseconds.
FREEZE_EVERY = 200
_YOUNG = 1


class LongLived:
    """One per broker, though it affects the whole process."""

    def __init__(self) -> None:
        self._fresh = 0

    def grew(self, partitions: int) -> None:
        """So many partitions were opened, or have a new record and perhaps a new role."""
        self._fresh += partitions
        if self._fresh >= FREEZE_EVERY:
            self.settle()

    def settle(self) -> None:
        """Freezes all objects that are alive now."""
        self._fresh = 0
        gc.collect(_YOUNG)
        gc.freeze()
