"""Threads for calls that block on a network: as an executor, but the process does not wait for them when it ends. Context
variables of the caller hold there.

A call that hangs in its server goes on until its timeout. ``concurrent.futures`` joins its threads at the end of the
process, so a broker would stop that much later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")


class _Call(NamedTuple):
    future: Future[Any]
    work: Callable[[], Any]


class Threads:
    """At most ``count`` calls at once; the others wait, as many as have callers. Threads start when they are needed."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[Thread] = []

    async def run(self, work: Callable[[], R]) -> R:
        """What ``work`` returns or raises. A caller that is cancelled leaves a call that has begun to itself; one that has
        not is never made."""
        call = _Call(Future(), partial(copy_context().run, work))
        self._calls.put(call)
        if len(self._threads) < self._count:
            thread = Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        found: R = await asyncio.wrap_future(call.future)
        return found

    def close(self) -> None:
        """Threads end behind the calls that wait, which have no callers any more."""
        for _ in self._threads:
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.future.set_running_or_notify_cancel():
                continue
            try:
                found = call.work()
            except BaseException as error:
                call.future.set_exception(error)
            else:
                call.future.set_result(found)
            del call  # Else it would live until the next one comes.
