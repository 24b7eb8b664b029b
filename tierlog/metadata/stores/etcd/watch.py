"""One watch of the port over etcd's watch streams.

Rules:

* All prefixes are one watch in etcd, over their common prefix, and are told apart here. So a revision is never spread
  over several answers. Fragments are not asked for, so no answer ends inside a revision.
* When a stream ends, the next one goes on at the next member, from the position reached. A progress notification moves
  that position too, so a quiet watch does not fall behind a compaction.
* The watch also asks etcd for the revision before the wanted one: if that is compacted, deletions of the wanted revision
  may be missing without notice (etcd 18089), and ``Compacted`` is right. Events that were delivered before are dropped.
  A new event under a revision that was already delivered needs a reload: ``Compacted`` again.
* When the consumer reads too slowly, reading of the stream stops: etcd keeps the rest, up to its compaction.
* After longer than the request timeout without a connection: ``StoreUnavailable``, and the watch ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import grpc.aio

from tierlog.errors import StoreUnavailable
from tierlog.metadata.stores import watching
from tierlog.metadata.stores.etcd import messages
from tierlog.metadata.stores.etcd.endpoints import Endpoint, Endpoints
from tierlog.metadata.stores.etcd.keyspace import Keyspace
from tierlog.metadata.stores.etcd.messages import WatchAnswer
from tierlog.metadata.stores.port import Compacted
from tierlog.metadata.transactions import Event, WatchBatch

# Decoding yields to the loop after so many events.
SLICE_EVENTS = 1000
RETRY_S = 0.1
# The watch id of answers to no particular watch; older members send such a progress too early (etcd 15220).
_NO_WATCH = (1 << 64) - 1


class _Interrupted(Exception):
    """The stream ended; the next one goes on."""


class EtcdWatch:
    """See the module head; made by the store."""

    def __init__(
        self,
        endpoints: Endpoints,
        keyspace: Keyspace,
        prefixes: Sequence[str],
        from_revision: int,
        *,
        timeout_s: float,
        forget: Callable[[EtcdWatch], None],
    ) -> None:
        self._endpoints = endpoints
        self._keyspace = keyspace
        self._prefixes = tuple(prefixes)
        self._span = keyspace.span(_common(self._prefixes))
        self._next_revision = from_revision
        # The newest delivered revision, and its delivered keys; None: all of them.
        self._last_revision = from_revision - 1
        self._last_keys: frozenset[str] | None = None
        self._timeout_s = timeout_s
        self._batches: deque[WatchBatch] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._error: BaseException | None = None
        self._is_closed = False
        self._endpoint: Endpoint | None = None
        self._stream: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="etcd-watch")
        self._task.add_done_callback(lambda task: self._on_end(forget))

    # -- the consumer's side

    def __aiter__(self) -> AsyncIterator[WatchBatch]:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._batches:
            if self._error is not None:
                raise self._error
            if self._is_closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        self._taken.set()
        return self._batches.popleft()

    def close(self) -> None:
        self._is_closed = True
        self._batches.clear()
        self._task.cancel()
        self._arrived.set()

    async def ended(self) -> None:
        """Call after ``close``: returns when nothing of the watch is left running."""
        await asyncio.wait([self._task])

    def _on_end(self, forget: Callable[[EtcdWatch], None]) -> None:
        if self._error is None and not self._is_closed:
            self._error = StoreUnavailable("etcd: the watch was given up")
        self._arrived.set()
        forget(self)

    def leave(self, endpoint: Endpoint) -> None:
        """Calls to that member fail: go on at another one."""
        if (
            self._endpoint is endpoint
            and self._stream is not None
            and asyncio.current_task() is not self._stream
        ):
            self._stream.cancel()

    # -- the stream's side

    async def _run(self) -> None:
        try:
            await self._follow_streams()
        except Exception as error:
            self._error = error
            self._arrived.set()
        finally:
            if self._stream is not None and not self._stream.done():
                self._stream.cancel()
                await asyncio.wait([self._stream])

    async def _follow_streams(self) -> None:
        """Never returns; raises the exception that the watch ends with."""
        interrupted_s = None
        while True:
            self._stream = self._loop.create_task(self._follow(), name="etcd-watch-stream")
            await asyncio.wait([self._stream])
            was_created, self._endpoint = self._endpoint is not None, None
            why = "the member was left"
            if not self._stream.cancelled():
                try:
                    self._stream.result()
                except _Interrupted as error:
                    why = str(error)
            now_s = self._loop.time()
            if was_created or interrupted_s is None:
                interrupted_s = now_s
            elif now_s - interrupted_s > self._timeout_s:
                raise StoreUnavailable(f"etcd: the watch does not come to stand again ({why})")
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """One stream. Raises ``_Interrupted`` at its end, ``Compacted``, ``StoreUnavailable``."""
        endpoint, metadata = await self._endpoints.for_stream()
        stream = endpoint.stream(messages.WATCH, metadata)
        try:
            async with asyncio.timeout(self._timeout_s):
                # Ask for the revision before as well: see the module head.
                request = messages.watch_request(*self._span, max(self._next_revision - 1, 1))
                await stream.write(request)
                answer = self._checked(await stream.read())
            self._endpoint = endpoint
            while True:
                await self._take(answer)
                answer = self._checked(await stream.read())
        except grpc.aio.AioRpcError as error:
            self._endpoints.stream_failed(endpoint, metadata, error)
            raise _Interrupted(f"{endpoint.address}: {error.details()}") from None
        except (TimeoutError, asyncio.InvalidStateError):
            self._endpoints.failed(endpoint)
            raise _Interrupted(f"{endpoint.address}: no watch") from None
        finally:
            stream.cancel()

    def _checked(self, data: object) -> WatchAnswer:
        if not isinstance(data, bytes):
            raise _Interrupted("the stream ended")
        answer = messages.watch_answer(data)
        if answer.compact_revision:
            raise Compacted(answer.compact_revision + 1)
        if answer.canceled:
            self._endpoints.forget_token()
            raise _Interrupted(answer.cancel_reason or "etcd canceled the watch")
        return answer

    async def _take(self, answer: WatchAnswer) -> None:
        if not answer.events:
            if not answer.created and answer.watch_id != _NO_WATCH:
                self._next_revision = max(self._next_revision, answer.revision + 1)
            return
        revision, events = 0, list[Event]()
        for count, encoded in enumerate(answer.events, 1):
            event = messages.watch_event(encoded)
            if event.kv.mod_revision != revision:
                await self._deliver(revision, events)
                revision, events = event.kv.mod_revision, []
            events.append(self._keyspace.event(event))
            if count % SLICE_EVENTS == 0:
                await asyncio.sleep(0)
        await self._deliver(revision, events)

    async def _deliver(self, revision: int, events: list[Event]) -> None:
        if revision < self._next_revision:
            self._drop(revision, events)
            return
        while len(self._batches) >= watching.MAX_QUEUED_BATCHES:
            self._taken.clear()
            await self._taken.wait()
        self._last_revision, self._next_revision = revision, revision + 1
        self._last_keys = frozenset(event.key for event in events)
        wanted = tuple(event for event in events if event.key.startswith(self._prefixes))
        if wanted:
            self._batches.append(WatchBatch(revision, wanted))
            self._arrived.set()

    def _drop(self, revision: int, events: list[Event]) -> None:
        """Raises ``Compacted`` when the events were not delivered before."""
        is_known = revision < self._last_revision or (
            revision == self._last_revision
            and (self._last_keys is None or all(event.key in self._last_keys for event in events))
        )
        if events and not is_known:
            raise Compacted(self._next_revision)


def _common(prefixes: Sequence[str]) -> str:
    """The longest common prefix."""
    low, high = min(prefixes), max(prefixes)
    end = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:end]
