"""What the disk cache holds, what may be written, and what has to go for it. Pure: the driver (``cache``) does it.

Rules:

* ``budget_bytes`` bounds the files, whole pages and headers counted: those that are ready, those being written, and those
  that are to be removed, until they are. Room is made before a file is written: victims are removed, then it is reserved.
* Entries of an object never overlap. One that is to be removed keeps its range until it is gone, so no two files ever have
  one name.
* The entry that was not read for the longest time goes first. An entry that is being read is not removed: its space would
  come back only when the read is over.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum, auto

from tiering.disk_cache.entries import CachedObject, Place, file_bytes

# About 0.3 KiB of memory each.
ENTRIES_MAX = 65_536


class State(Enum):
    """Of a file."""

    WRITING = auto()
    READY = auto()
    LEAVING = auto()
    """To be removed, as soon as nobody reads it."""


class Entry:
    """One file. ``object`` is one value for all entries of an object: there are many entries."""

    __slots__ = ("end", "object", "reader_count", "start", "state")

    def __init__(self, object_: CachedObject, start: int, end: int, state: State) -> None:
        self.object = object_
        self.start = start
        self.end = end
        self.state = state
        self.reader_count = 0

    @property
    def place(self) -> Place:
        return Place(self.object, self.start, self.end)

    @property
    def file_bytes(self) -> int:
        return file_bytes(self.end - self.start)


class DiskIndex:
    """All entries of one directory."""

    def __init__(self, budget_bytes: int, entries_max: int = ENTRIES_MAX) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        """What all files take. Invariant: <= budget_bytes."""
        self._entries_max = entries_max
        self._objects: dict[CachedObject, list[Entry]] = {}
        """Sorted by start, in any state."""
        self._by_age: OrderedDict[Entry, None] = OrderedDict()
        """Those that are ready, the longest unread first."""
        self._leaving: dict[Entry, None] = {}
        self._count = 0

    def __len__(self) -> int:
        """Entries that can be read."""
        return len(self._by_age)

    @property
    def leaving_count(self) -> int:
        return len(self._leaving)

    # -- what a start finds

    def restore(self, found: Iterable[Place]) -> list[Place]:
        """Takes the files that are there, the latest read first. Returns those that are to be removed before anything else:
        beyond the bounds, or overlapping others."""
        unwanted: list[Place] = []
        kept: list[Entry] = []
        for place in found:
            if self._has_room(place) and self.missing(*place) == [place]:
                kept.append(self._add(place, State.READY))
            else:
                unwanted.append(place)
        for entry in reversed(kept):
            self._by_age[entry] = None
        return unwanted

    # -- reading

    def begin_read(self, object_: CachedObject, start: int, end: int) -> list[Entry] | None:
        """The entries that hold [start, end), which stay until ``end_read``; None unless they hold all of it."""
        entries = self._objects.get(object_, [])
        at = bisect_right(entries, start, key=_start) - 1
        found: list[Entry] = []
        position = start
        while position < end:
            if not 0 <= at < len(entries):
                return None
            entry = entries[at]
            if entry.state is not State.READY or not entry.start <= position < entry.end:
                return None
            found.append(entry)
            position = entry.end
            at += 1
        for entry in found:
            entry.reader_count += 1
            self._by_age.move_to_end(entry)
        return found

    def stretch(self, object_: CachedObject, position: int, start: int, end: int) -> tuple[int, int]:
        """The part of [start, end) around ``position`` that can be read from here as a whole, or of which nothing can."""
        ready = [e for e in self._objects.get(object_, ()) if e.state is State.READY]
        at = bisect_right(ready, position, key=_start) - 1
        if at >= 0 and position < ready[at].end:
            first = last = at
            while first > 0 and ready[first - 1].end == ready[first].start:
                first -= 1
            while last + 1 < len(ready) and ready[last].end == ready[last + 1].start:
                last += 1
            return max(start, ready[first].start), min(end, ready[last].end)
        if at >= 0:
            start = max(start, ready[at].end)
        if at + 1 < len(ready):
            end = min(end, ready[at + 1].start)
        return start, end

    @staticmethod
    def end_read(entries: Iterable[Entry]) -> None:
        for entry in entries:
            entry.reader_count -= 1

    # -- writing

    def missing(self, object_: CachedObject, start: int, end: int) -> list[Place]:
        """The parts of [start, end) that no entry has, whatever its state."""
        gaps: list[Place] = []
        position = start
        for entry in self._objects.get(object_, ()):
            if entry.end <= position:
                continue
            if entry.start >= end:
                break
            if entry.start > position:
                gaps.append(Place(object_, position, entry.start))
            position = entry.end
        if position < end:
            gaps.append(Place(object_, position, end))
        return gaps

    def make_room(self, size_bytes: int) -> int:
        """Lets go what one file of this size needs to fit. Returns how many; remove those of ``removable`` next."""
        leaving_bytes = sum(entry.file_bytes for entry in self._leaving)
        excess_bytes = self.used_bytes - leaving_bytes + size_bytes - self.budget_bytes
        excess_count = self._count - len(self._leaving) + 1 - self._entries_max
        return self._let_go(excess_bytes, excess_count)

    def give_back(self, size_bytes: int) -> int:
        """Lets go so many bytes, whatever the bounds allow. Returns how many entries; remove those of ``removable`` next."""
        return self._let_go(size_bytes, 0)

    def _let_go(self, excess_bytes: int, excess_count: int) -> int:
        victims = []
        for entry in self._by_age:
            if excess_bytes <= 0 and excess_count <= 0:
                break
            if not entry.reader_count:
                victims.append(entry)
                excess_bytes -= entry.file_bytes
                excess_count -= 1
        for entry in victims:
            self._leave(entry)
        return len(victims)

    def reserve(self, place: Place) -> Entry | None:
        """Counts a file before it is written; None if there is no room for it."""
        if not self._has_room(place):
            return None
        return self._add(place, State.WRITING)

    def written(self, entry: Entry) -> None:
        """The file is there, whole."""
        assert entry.state is State.WRITING
        entry.state = State.READY
        self._by_age[entry] = None

    def drop(self, entry: Entry) -> None:
        """The file is no use, or is not whole. ``removable`` names it until it is gone."""
        if entry.state is not State.LEAVING:
            self._leave(entry)

    def retain(self, is_wanted: Callable[[CachedObject], bool], objects: Iterable[CachedObject]) -> int:
        """Drops the entries of those objects that are not wanted any more. Returns how many."""
        dropped = 0
        for object_ in objects:
            if object_ in self._objects and not is_wanted(object_):
                for entry in self._objects[object_]:
                    if entry.state is State.READY:
                        self._leave(entry)
                        dropped += 1
        return dropped

    @property
    def objects(self) -> list[CachedObject]:
        return list(self._objects)

    # -- removing

    def removable(self) -> list[Entry]:
        """Entries whose files are to be removed now."""
        return [entry for entry in self._leaving if not entry.reader_count]

    def removed(self, entry: Entry) -> None:
        """The file is gone."""
        del self._leaving[entry]
        entries = self._objects[entry.object]
        entries.remove(entry)
        if not entries:
            del self._objects[entry.object]
        self.used_bytes -= entry.file_bytes
        self._count -= 1

    # -- inside

    def _has_room(self, place: Place) -> bool:
        return self.used_bytes + place.file_bytes <= self.budget_bytes and self._count < self._entries_max

    def _add(self, place: Place, state: State) -> Entry:
        entries = self._objects.setdefault(place.object, [])
        object_ = entries[0].object if entries else place.object
        entry = Entry(object_, place.start, place.end, state)
        insort(entries, entry, key=_start)
        self.used_bytes += entry.file_bytes
        self._count += 1
        return entry

    def _leave(self, entry: Entry) -> None:
        self._by_age.pop(entry, None)
        entry.state = State.LEAVING
        self._leaving[entry] = None

    def check(self) -> None:
        """Asserts what holds between any two calls."""
        used = count = 0
        for object_, entries in self._objects.items():
            position = 0
            for entry in entries:
                assert entry.object == object_
                assert (entry in self._by_age) == (entry.state is State.READY)
                assert (entry in self._leaving) == (entry.state is State.LEAVING)
                assert entry.reader_count >= 0
                assert entry.start >= position, "entries do not overlap"
                position = entry.end
                used += entry.file_bytes
                count += 1
        assert used == self.used_bytes
        assert used <= self.budget_bytes, "I15: the disk cache's budget"
        assert count == self._count <= self._entries_max


def _start(entry: Entry) -> int:
    return entry.start
