"""Chunks of cold reads on a local disk: drives ``index`` with the files of ``files``.

Rules:

* It never makes a read fail or wait long: what is not there, damaged or late is fetched from the object store.
* All file work runs on threads of its own: so many reads at once, and one write.
* What waits to be written is bounded, and what is beyond that is not kept.
* A disk that fails or is full is left alone for a while: said once, and counted.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar, TypeVarTuple

from tiering.disk_cache.entries import BLOCK_BYTES, ENTRY_BYTES_MAX, CachedObject, Place
from tiering.disk_cache.files import BadEntry, CacheFiles
from tiering.disk_cache.index import DiskIndex, Entry
from tiering.disk_cache.touches import Touches
from tiering.errors import Misconfigured

READ_THREADS = 4
READ_TIMEOUT_S = 5.0
PAUSE_S = 60.0
WAITING_BYTES_MAX = 32 << 20
# A full disk gets back this part of the budget each time, as its divisor: others need the room more.
GIVE_BACK_SHARE = 16
RETAIN_SLICE = 200

CLOSE_S = 10.0

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
Say = Callable[[str], None]


@dataclass(slots=True)
class DiskCacheStats:
    """Counters since the start."""

    hit_count: int = 0
    """Loads that came from the disk."""
    miss_count: int = 0
    eviction_count: int = 0
    """Entries that made room for others."""
    corrupt_count: int = 0
    """Entries that were damaged, cut off, foreign or gone, and so were dropped."""
    read_error_count: int = 0
    write_error_count: int = 0
    unkept_count: int = 0
    """Ranges that were worth keeping, but too many waited, or the disk was left alone."""
    read_bytes: int = 0
    written_bytes: int = 0


class _Offer(NamedTuple):
    object: CachedObject
    start: int
    data: memoryview

    @property
    def held_bytes(self) -> int:
        """Of memory: all that the view keeps alive."""
        return memoryview(self.data.obj).nbytes


class DiskCache:
    """Made by ``open``; ``run`` writes, until cancelled; ``close`` at last."""

    def __init__(
        self, files: CacheFiles, budget_bytes: int, say: Say, waiting_bytes_max: int = WAITING_BYTES_MAX
    ) -> None:
        self.stats = DiskCacheStats()
        self._files = files
        self._index = DiskIndex(budget_bytes)
        self._touches = Touches(budget_bytes)
        self._say = say
        self._waiting_bytes_max = waiting_bytes_max
        self._offers: deque[_Offer] = deque()
        self._waiting_bytes = 0
        self._has_work = asyncio.Event()
        self._no_reads_until_s = self._no_writes_until_s = float("-inf")
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="disk-cache-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="disk-cache-write")

    @classmethod
    async def open(
        cls,
        directory: Path,
        budget_bytes: int,
        cluster_id: str,
        say: Say,
        *,
        free_bytes_min: int = 0,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> DiskCache:
        """Locks the directory and takes over what an earlier run has left in it. ``say``: told in one line when the disk
        fails. ``free_bytes_min``: of the file system, for others. Raises ``Misconfigured``."""
        files = CacheFiles(directory, free_bytes_min=free_bytes_min)
        cache = cls(files, budget_bytes, say, waiting_bytes_max)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(cache._writer, files.open, cluster_id, budget_bytes)
            cache.stats.corrupt_count += found.broken_count
            # Nobody else knows the index yet.
            unwanted = await loop.run_in_executor(cache._writer, cache._index.restore, found.places)
            gone = await loop.run_in_executor(cache._writer, files.remove, unwanted)
            if len(gone) < len(unwanted):
                raise Misconfigured(f"{directory}: its files cannot be removed")
        except BaseException:
            await cache.close()
            raise
        return cache

    @property
    def used_bytes(self) -> int:
        """On the disk; never above the budget."""
        return self._index.used_bytes

    @property
    def entry_count(self) -> int:
        return len(self._index)

    @property
    def waiting_bytes(self) -> int:
        """Memory of what waits to be written."""
        return self._waiting_bytes

    @property
    def is_paused(self) -> bool:
        """Whether the disk is left alone, for reading or for writing."""
        return _now_s() < max(self._no_reads_until_s, self._no_writes_until_s)

    # -- reading

    async def read(self, object_: CachedObject, start: int, end: int) -> memoryview | None:
        """The bytes [start, end), whole blocks of what was offered, verified; None where they must be fetched."""
        paused = _now_s() < self._no_reads_until_s
        entries = None if paused else self._index.begin_read(object_, start, end)
        if entries is None:
            self.stats.miss_count += 1
            return None
        places = [entry.place for entry in entries]
        reading = asyncio.get_running_loop().run_in_executor(
            self._readers, self._files.read, places, start, end
        )
        reading.add_done_callback(partial(self._read_is_over, entries))
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                # A thread cannot be stopped: it goes on, and so do its entries.
                data = await asyncio.shield(reading)
        except BadEntry as error:
            self._drop_bad(error.place, entries)
        except TimeoutError:
            self._reading_failed(f"no answer to a read within {READ_TIMEOUT_S:g} s")
        except OSError as error:
            for entry in entries:
                self._index.drop(entry)
            self._has_work.set()
            self._reading_failed(_why(error))
        else:
            self.stats.hit_count += 1
            self.stats.read_bytes += len(data)
            return data
        self.stats.miss_count += 1
        return None

    def stretch(self, object_: CachedObject, position: int, start: int, end: int) -> tuple[int, int]:
        """The part of [start, end) around ``position`` that is all to be read here, or all to be fetched."""
        if _now_s() < self._no_reads_until_s:
            return start, end
        return self._index.stretch(object_, position, start, end)

    def _read_is_over(self, entries: Sequence[Entry], reading: asyncio.Future[memoryview]) -> None:
        if not reading.cancelled():
            reading.exception()  # retrieved, also if nobody waits any more
        self._index.end_read(entries)
        if self._index.leaving_count:
            self._has_work.set()

    def _drop_bad(self, place: Place, entries: Sequence[Entry]) -> None:
        self.stats.corrupt_count += 1
        # What is fetched instead is to be kept again.
        self._touches.note(place.object.segment.uuid, place.start, place.end)
        for entry in entries:
            if entry.place == place:
                self._index.drop(entry)
        self._has_work.set()

    def _reading_failed(self, why: str) -> None:
        self.stats.read_error_count += 1
        if _now_s() >= self._no_reads_until_s:
            self._say(f"cannot be read: {why}; left alone for {PAUSE_S:g} s")
        self._no_reads_until_s = self._no_writes_until_s = _now_s() + PAUSE_S

    # -- keeping

    def note_fetched(self, object_: CachedObject, start: int, end: int) -> bool:
        """Whether [start, end), just fetched from the object store, is worth keeping: it was fetched before."""
        return self._touches.note(object_.segment.uuid, start, end)

    def offer(self, object_: CachedObject, start: int, data: memoryview) -> None:
        """Has the bytes from ``start`` on written, as far as they are not there. Verified ones, whole blocks only."""
        is_there = not self._index.missing(object_, start, start + len(data))
        if is_there and not self._index.leaving_count:  # else it may have to be written anew
            return
        offer = _Offer(object_, start, data)
        is_paused = _now_s() < self._no_writes_until_s
        if is_paused or self._waiting_bytes + offer.held_bytes > self._waiting_bytes_max:
            self.stats.unkept_count += 1
            return
        self._waiting_bytes += offer.held_bytes
        self._offers.append(offer)
        self._has_work.set()

    def offer_part(self, object_: CachedObject, start: int, data: memoryview, data_end: int) -> None:
        """The same for any bytes of an object's data, which ends at ``data_end``: its whole blocks are kept."""
        end = start + len(data)
        first = -(-start // BLOCK_BYTES) * BLOCK_BYTES
        last = end if end == data_end else end // BLOCK_BYTES * BLOCK_BYTES
        if first < last:
            self.offer(object_, first, data[first - start : last - start])

    async def retain(self, is_wanted: Callable[[CachedObject], bool]) -> int:
        """Drops the entries of objects that are not wanted any more, some at a time. Returns how many."""
        objects, dropped = self._index.objects, 0
        for at in range(0, len(objects), RETAIN_SLICE):
            dropped += self._index.retain(is_wanted, objects[at : at + RETAIN_SLICE])
            await asyncio.sleep(0)
        if self._index.leaving_count:
            self._has_work.set()
        return dropped

    async def run(self) -> None:
        """Writes and removes files, until cancelled."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            await self._remove_leaving()
            while self._offers:
                offer = self._offers.popleft()
                try:
                    await self._keep(offer)
                finally:
                    self._waiting_bytes -= offer.held_bytes
                    del offer

    async def _keep(self, offer: _Offer) -> None:
        await self._remove_leaving()
        end = offer.start + len(offer.data)
        for gap in self._index.missing(offer.object, offer.start, end):
            for start in range(gap.start, gap.end, ENTRY_BYTES_MAX):
                place = Place(offer.object, start, min(start + ENTRY_BYTES_MAX, gap.end))
                await self._write(place, offer.data[place.start - offer.start : place.end - offer.start])

    async def _write(self, place: Place, data: memoryview) -> None:
        if _now_s() >= self._no_writes_until_s:
            self.stats.eviction_count += self._index.make_room(place.file_bytes)
            await self._remove_leaving()
            entry = self._index.reserve(place)
            if entry is not None:
                await self._write_entry(entry, data)
                return
        self.stats.unkept_count += 1

    async def _write_entry(self, entry: Entry, data: memoryview) -> None:
        try:
            await self._on_writer(self._files.write, entry.place, data)
        except OSError as error:
            self._index.drop(entry)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self.stats.eviction_count += self._index.give_back(
                    self._index.budget_bytes // GIVE_BACK_SHARE
                )
            self._writing_failed(_why(error))
            await self._remove_leaving()
            return
        self._index.written(entry)
        self.stats.written_bytes += len(data)

    def _writing_failed(self, why: str) -> None:
        self.stats.write_error_count += 1
        if _now_s() >= self._no_writes_until_s:
            self._say(f"cannot be written: {why}; nothing is written for {PAUSE_S:g} s")
        self._no_writes_until_s = _now_s() + PAUSE_S

    async def _remove_leaving(self) -> None:
        leaving = {entry.place: entry for entry in self._index.removable()}
        if leaving:
            for place in await self._on_writer(self._files.remove, list(leaving)):
                self._index.removed(leaving[place])

    async def _on_writer(self, work: Callable[[*Ts], R], *args: *Ts) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *args)

    async def close(self) -> None:
        """Gives the directory free, once no thread writes in it any more. End ``run`` first."""
        self._offers.clear()
        self._readers.shutdown(wait=False, cancel_futures=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._on_writer(self._files.close)
        self._writer.shutdown(wait=False)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
