"""Opens and drops logs while the broker serves: in slices, since each costs system calls on directories and files.

Rules:

* all dropped logs are gone before any is opened: a topic may be created again under the same name;
* a log is opened with the newest record that the image had.

Bound: one entry per partition that the image assigns to this broker, and one per partition that it took away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from tierlog.broker.replicas.partition import Partition
from tierlog.metadata.records import PartitionState

SLICE_S = 0.004


class LogChanges:
    """``open_log(topic, topic id, partition, record)`` is called for each log to be opened, in order, unless it is
    forgotten before; ``drop_log(partition)`` for each log to be dropped."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        open_log: Callable[[str, bytes, int, PartitionState], None],
        drop_log: Callable[[Partition], None],
    ) -> None:
        self._loop = loop
        self._open_log = open_log
        self._drop_log = drop_log
        self._opening: dict[tuple[bytes, int], tuple[str, PartitionState]] = {}
        self._dropping: deque[Partition] = deque()
        self._settled: asyncio.Future[None] | None = None

    def open(self, topic: str, topic_id: bytes, index: int, state: PartitionState) -> None:
        """Replaces an earlier record of the same partition that still waits to be opened."""
        self._opening[topic_id, index] = (topic, state)
        self._go_on_soon()

    def forget(self, topic_id: bytes, index: int) -> None:
        """The partition is not to be opened any more."""
        self._opening.pop((topic_id, index), None)

    def drop(self, partition: Partition) -> None:
        self._dropping.append(partition)
        self._go_on_soon()

    def drop_all(self) -> None:
        """Drops at once all that wait for it; for a stop."""
        while self._dropping:
            self._drop_log(self._dropping.popleft())

    async def settled(self) -> None:
        """Returns once nothing is left to be done."""
        if self._settled is not None:
            await asyncio.shield(self._settled)

    def _go_on_soon(self) -> None:
        if self._settled is None:
            self._settled = self._loop.create_future()
            self._loop.call_soon(self._do_some)

    def _do_some(self) -> None:
        ends_s = self._loop.time() + SLICE_S
        while self._dropping and self._loop.time() < ends_s:
            self._drop_log(self._dropping.popleft())
        while self._opening and self._loop.time() < ends_s:
            (topic_id, index), (topic, state) = next(iter(self._opening.items()))
            del self._opening[topic_id, index]
            self._open_log(topic, topic_id, index, state)
        if self._opening or self._dropping:
            self._loop.call_soon(self._do_some)
        else:
            assert self._settled is not None
            self._settled.set_result(None)
            self._settled = None
