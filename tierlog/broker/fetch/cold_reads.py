"""Runs reads that have to wait for a disk in a few threads, outside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
COLD_READ_THREADS = 4


class ColdReads:
    """A few threads for local reads that miss the page cache. Bound: the queue holds one entry per fetched partition
    of the requests in flight."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(COLD_READ_THREADS, thread_name_prefix="cold-read")
        self.count = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        self.count += 1
        return await self._loop.run_in_executor(self._executor, function, *args)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
