"""Logs that are to be opened while the broker serves: in slices, since one costs several file creations.

The records by which they are opened are the newest that the image had. Bound: one entry per partition that the image assigns
to this broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tierlog.metadata.records import PartitionState

OPEN_SLICE_S = 0.004


class LaterOpenings:
    """``open_log(topic, topic id, partition, record)`` is called for each, in order, unless it is forgotten before."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, open_log: Callable[[str, bytes, int, PartitionState], None]
    ) -> None:
        self._loop = loop
        self._open_log = open_log
        self._waiting: dict[tuple[bytes, int], tuple[str, PartitionState]] = {}
        self._settled: asyncio.Future[None] | None = None

    def add(self, topic: str, topic_id: bytes, index: int, state: PartitionState) -> None:
        """Takes the place of what was to be opened for that partition before."""
        if self._settled is None:
            self._settled = self._loop.create_future()
            self._loop.call_soon(self._open_some)
        self._waiting[topic_id, index] = (topic, state)

    def forget(self, topic_id: bytes, index: int) -> None:
        self._waiting.pop((topic_id, index), None)

    async def settled(self) -> None:
        """Returns once none is left."""
        if self._settled is not None:
            await asyncio.shield(self._settled)

    def _open_some(self) -> None:
        ends_s = self._loop.time() + OPEN_SLICE_S
        while self._waiting and self._loop.time() < ends_s:
            (topic_id, index), (topic, state) = next(iter(self._waiting.items()))
            del self._waiting[topic_id, index]
            self._open_log(topic, topic_id, index, state)
        if self._waiting:
            self._loop.call_soon(self._open_some)
        else:
            assert self._settled is not None
            self._settled.set_result(None)
            self._settled = None
