"""Memory cache of verified chunks: one load per chunk at a time, and memory is reserved before any GET.

Rules:

* ``budget_bytes`` bounds ready chunks and loads in flight together. (A read keeps the slots it waited for until it is
  answered, and views that were handed out keep their chunk alive a little longer: a few chunks per running request,
  capped by the bounds on requests and output. Nothing is pinned, so a load that waits for memory holds none.)
* A load is a task of the cache: it outlives the read that asked, and later readers of the chunk join it.
* A ready chunk is in one of three states: *unread* (read ahead, no reader came yet), *open* (a reader is in the middle
  of it), *finished* (the reader went past its end).
* Demand loads wait for memory in order of arrival. They evict finished chunks first, then open ones not touched while
  a whole budget was loaded, then unread ones, then open ones.
* Read-ahead starts only when memory is free at once, takes at most ``READAHEAD_SHARE`` of the budget, and evicts only
  finished or long untouched chunks: it never evicts a chunk that a reader is using.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from tiering.tasks import begin

READAHEAD_SHARE = 0.75

Fetch = Callable[[], Coroutine[Any, Any, memoryview]]


class Slot:
    """One chunk: in flight while ``data`` is None."""

    __slots__ = ("data", "is_unread", "key", "reserved_bytes", "size_bytes", "task", "touched_at")

    def __init__(self, key: Hashable, size_bytes: int, is_unread: bool) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.is_unread = is_unread
        self.data: memoryview | None = None
        self.reserved_bytes = 0
        self.touched_at = 0
        """The cache's count of loaded bytes when it was last read."""
        self.task: asyncio.Future[None] | None = None


@dataclass(slots=True)
class CacheStats:
    """Counters since the start."""

    hit_count: int = 0
    """Reads of chunks that were ready."""
    demand_count: int = 0
    """Loads that a reader waited for."""
    read_ahead_count: int = 0


class ChunkCache:
    """Chunks by key, bounded in bytes."""

    def __init__(self, budget_bytes: int) -> None:
        assert budget_bytes > 0
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        """Reserved for chunks ready or in flight. Invariant: <= budget_bytes."""
        self.unread_evictions = 0
        self.stats = CacheStats()
        self._flights: dict[Hashable, Slot] = {}
        self._unread: OrderedDict[Hashable, Slot] = OrderedDict()
        self._open: OrderedDict[Hashable, Slot] = OrderedDict()
        self._finished: OrderedDict[Hashable, Slot] = OrderedDict()
        self._loaded_bytes = 0
        self._ahead_bytes = 0
        """Of read-ahead in flight or not yet read."""
        self._queue: deque[tuple[Slot, asyncio.Future[None]]] = deque()

    def get(self, key: Hashable) -> memoryview | None:
        """The chunk if it is ready; counts as a read."""
        slot = self._open.get(key)
        if slot is not None:
            self._open.move_to_end(key)
        else:
            slot = self._unread.pop(key, None) or self._finished.pop(key, None)
            if slot is None:
                return None
            self._now_read(slot)
            self._open[key] = slot
        slot.touched_at = self._loaded_bytes
        self.stats.hit_count += 1
        return slot.data

    def finish(self, key: Hashable) -> None:
        """A reader went past the end of the chunk: it may be evicted first."""
        slot = self._open.pop(key, None)
        if slot is not None:
            self._finished[key] = slot

    def __contains__(self, key: Hashable) -> bool:
        """Whether the chunk is ready or in flight."""
        return key in self._flights or self._ready(key) is not None

    def demand(self, key: Hashable, size_bytes: int, fetch: Fetch) -> Slot:
        """The slot of the chunk; starts a load if needed. Await ``slot.task`` with ``asyncio.wait`` (never cancel it)
        and take ``slot.data``, which stays even if the cache evicts the slot at once."""
        slot = self._flights.get(key) or self._ready(key)
        if slot is None:
            self.stats.demand_count += 1
            slot = self._start(Slot(key, size_bytes, is_unread=False), fetch)
        elif slot.is_unread and slot.data is None:
            self._now_read(slot)
        return slot

    def read_ahead(self, key: Hashable, size_bytes: int, fetch: Fetch) -> bool:
        """Start loading if memory allows; False otherwise."""
        if self._queue or self._ahead_bytes + size_bytes > READAHEAD_SHARE * self.budget_bytes:
            return False
        slot = Slot(key, size_bytes, is_unread=True)
        if not self._reserve(slot, is_ahead=True):
            return False
        self._ahead_bytes += size_bytes
        self.stats.read_ahead_count += 1
        self._start(slot, fetch)
        return True

    def discard(self, keys: list[Hashable]) -> None:
        """Drop ready chunks (their object is gone)."""
        for key in keys:
            slot = self._ready(key)
            if slot is not None:
                self._drop(slot)
        self._grant()

    async def close(self) -> None:
        """Cancel the loads in flight and forget everything."""
        tasks = [slot.task for slot in self._flights.values() if slot.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for slot in self._flights.values():  # tasks that were cancelled before their first step
            self._release(slot)
        self._flights.clear()
        for shelf in (self._finished, self._open, self._unread):
            for slot in list(shelf.values()):
                self._drop(slot)
        assert self.used_bytes == 0

    # inside -----------------------------------------------------------------------------------------------

    def _start(self, slot: Slot, fetch: Fetch) -> Slot:
        self._flights[slot.key] = slot
        slot.task = begin(self._fill(slot, fetch))
        return slot

    async def _fill(self, slot: Slot, fetch: Fetch) -> None:
        try:
            if not slot.reserved_bytes and not (not self._queue and self._reserve(slot, is_ahead=False)):
                granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._queue.append((slot, granted))
                self._grant()
                await granted
            slot.data = await fetch()
        finally:
            del self._flights[slot.key]
            if slot.data is None:
                self._queue = deque(entry for entry in self._queue if entry[0] is not slot)
                self._release(slot)
            else:
                self._loaded_bytes += slot.size_bytes
                slot.touched_at = self._loaded_bytes
                (self._unread if slot.is_unread else self._open)[slot.key] = slot
            self._grant()

    def _ready(self, key: Hashable) -> Slot | None:
        return self._open.get(key) or self._unread.get(key) or self._finished.get(key)

    def _reserve(self, slot: Slot, *, is_ahead: bool) -> bool:
        """Take the slot's bytes from the budget, evicting chunks as allowed. A chunk larger than the budget takes all of
        it."""
        want = min(slot.size_bytes, self.budget_bytes)
        for victim in self._victims(is_ahead):
            if self.used_bytes + want <= self.budget_bytes:
                break
            self.unread_evictions += victim.is_unread
            self._drop(victim)
        if self.used_bytes + want > self.budget_bytes:
            return False
        slot.reserved_bytes = want
        self.used_bytes += want
        return True

    def _victims(self, is_ahead: bool) -> Iterator[Slot]:
        """Chunks that may be evicted, the least useful first; lazily, since mostly none or one is needed."""
        yield from list(self._finished.values())
        stale_before = self._loaded_bytes - self.budget_bytes
        yield from [s for s in self._open.values() if s.touched_at < stale_before]
        if not is_ahead:
            yield from list(self._unread.values())
            yield from list(self._open.values())

    def _grant(self) -> None:
        while self._queue:
            slot, granted = self._queue[0]
            if not granted.done() and not self._reserve(slot, is_ahead=False):
                return
            self._queue.popleft()
            if not granted.done():
                granted.set_result(None)

    def _drop(self, slot: Slot) -> None:
        for shelf in (self._finished, self._open, self._unread):
            if shelf.get(slot.key) is slot:
                del shelf[slot.key]
        self._release(slot)

    def _release(self, slot: Slot) -> None:
        self.used_bytes -= slot.reserved_bytes
        slot.reserved_bytes = 0
        self._now_read(slot)

    def _now_read(self, slot: Slot) -> None:
        if slot.is_unread:
            slot.is_unread = False
            self._ahead_bytes -= slot.size_bytes
