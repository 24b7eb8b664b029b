"""Takes what has come to stay out of the collector's sight.

Python's collector goes over all objects that it knows, in one step, whenever their number has grown by a quarter: with
3,000 partitions the loop stood still for 0.1 s each time. What is frozen is not looked at again.

Rules:

* only the young are collected before, so that a freeze costs a millisecond however much there is;
* what is frozen goes when nobody refers to it; a cycle of frozen objects stays for ever. So what comes and goes with topics
  and roles (partitions, logs, leaders, followers) holds no cycles.
"""

from __future__ import annotations

import gc

# Some ten thousand objects: the collector is through with them in a few milliseconds.
FREEZE_EVERY = 200
_YOUNG = 1


class LongLived:
    """One per broker, though what it does is done to the process."""

    def __init__(self) -> None:
        self._fresh = 0

    def grew(self, partitions: int) -> None:
        """So many partitions were opened, or have another record, and with it another role."""
        self._fresh += partitions
        if self._fresh >= FREEZE_EVERY:
            self.settle()

    def settle(self) -> None:
        """What is alive now stays."""
        self._fresh = 0
        gc.collect(_YOUNG)
        gc.freeze()
