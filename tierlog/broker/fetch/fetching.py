"""One Fetch request from its first look to its answer, whoever asks.

Steps:

1. The first look (``look``) reads what is in memory. If that is enough, or a partition has an error, the answer is ready at
   once.
2. Otherwise a worker thread reads batches that are not in the page cache, and the remote tier is waited for, if nothing else
   has data. Remote reads have a deadline; one that misses it returns no records, and no error.
3. If nothing has to be read, the fetch is parked at its partitions until ``min_bytes`` are there (a consumer counts what is
   committed, a follower what is appended) or its wait is over. Then it looks again.

Rules: slowness is never an error. When reply memory is used up, a consumer's fetch first waits for some to be freed.

The wait ends, as in Kafka, on an error (except unknown partitions, so that a fetcher with old metadata does not spin), on a
diverging epoch, on a preferred read replica, on data in a segment that is not the active one, and on ``min_bytes``. Towards
``min_bytes`` a partition with more data than its limit counts with the whole limit, though only whole batches are sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from tierlog.broker.fetch.look import Look
from tierlog.broker.fetch.sessions import FetchContext
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.wire.messages.fetch import FetchRequest, FetchResponse

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts

# A fetch that has got no memory after this time is answered without records.
MEMORY_WAIT_S = 10.0


class FetchSide(Protocol):
    """Whom a Fetch serves: a consumer (``consumer_fetch``) or a follower (``leading.follower_fetch``)."""

    look: Look

    @property
    def has_to_wait(self) -> bool:
        """Whether the fetch must wait for reply memory before it reads."""

    def read(self) -> None:
        """The first look, over all that is asked."""

    def read_again(self, fetch: Fetch) -> None:
        """Another look: a partition has changed, or the wait is over."""

    def stay(self, fetch: Fetch) -> None:
        """Registers the parked fetch at its partitions."""

    def go(self, fetch: Fetch) -> None:
        """Undoes ``stay``. Does nothing if the fetch is not parked."""

    def answer(self) -> FetchResponse:
        """The answer, from what the look has found."""


def serve(
    parts: FetchParts, side: FetchSide, request: FetchRequest, context: FetchContext
) -> FetchResponse | DelayedResponse[FetchResponse]:
    """The answer, at once where nothing has to be waited for: then there is no ``Fetch``."""
    if side.has_to_wait:
        return Fetch(parts, side, request, context).start()
    side.read()
    if side.look.is_ready(request.max_wait_ms):
        return side.answer()
    return Fetch(parts, side, request, context).go_on()


class Fetch:
    """One request that has to wait: for memory, for slow reads, or parked at its partitions (then it is ``Parked``)."""

    __slots__ = (
        "_max_wait_ms",
        "_park_ms",
        "_side",
        "_timer",
        "changed",
        "future",
        "look",
        "parts",
        "was_empty",
    )

    def __init__(
        self, parts: FetchParts, side: FetchSide, request: FetchRequest, context: FetchContext
    ) -> None:
        self.parts = parts
        self.look = side.look
        self.future: DelayedResponse[FetchResponse] | None = None
        # Partitions that changed while the fetch was parked, in order.
        self.changed: dict[Partition, None] = {}
        # Whether the last look found no records.
        self.was_empty = False
        self._side = side
        self._max_wait_ms = request.max_wait_ms
        # Less than the request allows if it has very many partitions.
        self._park_ms = context.wait_ms(request.max_wait_ms)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> DelayedResponse[FetchResponse]:
        """Waits for memory, then looks for the first time."""
        future = self.future_answer()
        self._await_memory()
        return future

    def go_on(self) -> DelayedResponse[FetchResponse]:
        """Waits for what the first look has found, or has not found."""
        future = self.future_answer()
        if self.look.slow is not None:
            self._read_slowly()
        else:
            self._park()
        return future

    def _begin(self) -> FetchResponse | None:
        """The first look. The answer, or None if it comes later through ``future``."""
        self._side.read()
        if self.look.is_ready(self._max_wait_ms):
            return self._side.answer()
        self.go_on()
        return None

    def future_answer(self) -> DelayedResponse[FetchResponse]:
        if self.future is None:
            self.future = DelayedResponse()
            self.future.add_done_callback(self._leave)
        return self.future

    def _reply(self, answer: FetchResponse | None) -> None:
        assert self.future is not None
        if answer is not None:
            self.future.set_result(answer)

    # -- waiting for memory

    def _await_memory(self) -> None:
        parts = self.parts
        parts.reply_memory.wait(self, self._memory_is_there)
        self._timer = parts.loop.call_later(MEMORY_WAIT_S, self._no_memory)

    def _memory_is_there(self) -> None:
        if self._side.has_to_wait:
            self.parts.reply_memory.wait(self, self._memory_is_there)
            return
        self._unpark()
        self._reply(self._begin())

    def _no_memory(self) -> None:
        """No memory in time: answers without records and without an error, so the client asks again."""
        self._timer = None
        self.parts.reply_memory.forget(self)
        self.look.reads.clear()
        self._reply(self._side.answer())

    # -- cold and remote reads

    def _read_slowly(self) -> None:
        slow = self.look.slow
        assert slow is not None
        self.future_answer()
        slow.start(self._max_wait_ms, self._slow_reads_ended)

    def _slow_reads_ended(self, error: BaseException | None) -> None:
        # The reads refer to the look: without this, the records would stay until the collector comes.
        self.look.slow = None
        future = self.future
        assert future is not None
        if error is not None and not future.done():
            future.set_exception(error)
        elif not future.done():
            self._conclude()

    # -- waiting (Parked)

    @property
    def is_parked(self) -> bool:
        """Whether it waits, and nothing has woken it."""
        return self._timer is not None

    def _park(self) -> None:
        self.future_answer()
        self.was_empty = self.look.gathered_bytes == 0
        if not self.was_empty:
            self.look.drop_records()
        self._timer = self.parts.loop.call_later(self._park_ms / 1000, self.look_again)
        self._side.stay(self)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        self.look.gathered_bytes += new_bytes
        self.changed[partition] = None
        if self._timer is not None and (new_bytes == 0 or self.look.has_enough):
            self.wake()

    def wake(self) -> None:
        """Looks again, and answers with the data that is there. Not at once: an append that calls this sends its own reply
        first, and its other partitions count too."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.parts.loop.call_soon(self.look_again)

    def look_again(self) -> None:
        """The wait is over: answers with what another look finds."""
        future = self.future
        assert future is not None
        if future.done():
            return
        self._timer = None
        if self._side.has_to_wait:
            self._unpark()
            self._await_memory()
            return
        self._side.read_again(self)
        self.finish()

    def finish(self) -> None:
        """The wait is over: answers with what was found, once slow reads are done."""
        self._unpark()
        if self.look.has_slow_reads():
            self._read_slowly()
        else:
            self._conclude()

    def _conclude(self) -> None:
        self._reply(self._side.answer())

    def _unpark(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._side.go(self)

    def _leave(self, future: DelayedResponse[FetchResponse]) -> None:
        self._unpark()
        if future.cancelled():
            self.parts.reply_memory.forget(self)
            if self.look.slow is not None:
                self.look.slow.cancel()
                self.look.slow = None
