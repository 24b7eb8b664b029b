"""The index of the disk cache against a disk: any order of reads, writes, failures, removals and restarts."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tiering.disk_cache.entries import BLOCK_BYTES, HEADER_BYTES, CachedObject, Place
from tiering.disk_cache.index import DiskIndex, Entry
from tiering.disk_cache.touches import OBJECTS_MAX, Touches
from tiering.keys import PartitionKeys, SegmentName

KIB = 1 << 10
BUDGET_BYTES = 64 * KIB
ENTRIES_MAX = 5
OBJECTS = [
    CachedObject(PartitionKeys("c", bytes(16), 0), SegmentName(n, n + 1, 0, n.to_bytes(16, "big")), version)
    for n, version in ((0, 1), (0, 2), (1, 0))
]
objects = st.sampled_from(OBJECTS)
positions = st.integers(0, 30).map(KIB.__mul__)
sizes = st.integers(0, 6).map(KIB.__mul__)
choices = st.integers(0, 1 << 30)


class IndexMachine(RuleBasedStateMachine):
    """``disk``: the files that are there. A file is written by one ``begin_write`` and one ``end_write``."""

    def __init__(self) -> None:
        super().__init__()
        self.index = DiskIndex(BUDGET_BYTES, ENTRIES_MAX)
        self.disk: dict[str, Place] = {}
        self.reads: list[list[Entry]] = []
        self.writing: Entry | None = None
        self.last_read: Counter[Place] = Counter()
        self.now = 0

    @rule(object_=objects, start=positions, size=sizes)
    def begin_read(self, object_: CachedObject, start: int, size: int) -> None:
        end = start + size + KIB
        ready = [entry.place for entry in self.index._by_age if entry.place.object == object_]
        is_whole = all(any(p.start <= at < p.end for p in ready) for at in range(start, end, KIB))
        first, last = self.index.stretch(object_, start, start, end)
        assert first == start < last <= end
        assert is_whole == (last == end and any(p.start <= start < p.end for p in ready))
        found = self.index.begin_read(object_, start, end)
        assert (found is not None) == is_whole
        if found is None:
            return
        assert found[0].place.start <= start
        assert found[-1].place.end >= end
        for before, after in pairwise(found):
            assert before.place.end == after.place.start
        for entry in found:
            self.now += 1
            assert self.disk[entry.place.name] == entry.place
            self.last_read[entry.place] = self.now
        self.reads.append(found)

    @rule(object_=objects, position=positions, before=sizes, behind=sizes)
    def ask_for_a_stretch(self, object_: CachedObject, position: int, before: int, behind: int) -> None:
        """All of it is there, or nothing of it, and it is as long as that allows."""
        start, end = max(position - before, 0), position + behind + KIB
        ready = [entry.place for entry in self.index._by_age if entry.place.object == object_]
        there = [any(p.start <= at < p.end for p in ready) for at in range(start, end, KIB)]
        first, last = self.index.stretch(object_, position, start, end)
        at = (position - start) // KIB
        left, right = at, at
        while left > 0 and there[left - 1] == there[at]:
            left -= 1
        while right < len(there) and there[right] == there[at]:
            right += 1
        assert (first, last) == (start + left * KIB, start + right * KIB)

    @precondition(lambda self: self.reads)
    @rule(which=choices)
    def end_read(self, which: int) -> None:
        self.index.end_read(self.reads.pop(which % len(self.reads)))

    @rule(object_=objects, start=positions, size=sizes, outcome=st.sampled_from("wwwwwwfl"))
    def write(self, object_: CachedObject, start: int, size: int, outcome: str) -> None:
        """``outcome``: written, failed, or left for now."""
        if self.writing is None:
            self.begin_write(object_, start, size)
        if self.writing is not None and outcome != "l":
            self.end_write(fails=outcome == "f")

    def begin_write(self, object_: CachedObject, start: int, size: int) -> None:
        gaps = self.index.missing(object_, start, start + size + KIB)
        if not gaps:
            return
        before = {entry.place: entry for entry in self.index._by_age}
        count = self.index.make_room(gaps[0].file_bytes)
        gone = [place for place, entry in before.items() if entry not in self.index._by_age]
        assert len(gone) == count
        assert not any(before[place].reader_count for place in gone)
        kept = [place for place, entry in before.items() if place not in gone and not entry.reader_count]
        for place in gone:
            assert all(self.last_read[place] < self.last_read[other] for other in kept), "the oldest go first"
        self.remove_all()
        self.writing = self.index.reserve(gaps[0])
        if self.writing is not None:
            assert gaps[0].name not in self.disk
            self.disk[gaps[0].name] = gaps[0]

    def end_write(self, fails: bool) -> None:
        assert self.writing is not None
        if fails:
            self.index.drop(self.writing)
        else:
            self.index.written(self.writing)
            self.now += 1
            self.last_read[self.writing.place] = self.now
        self.writing = None

    @rule(kind=st.integers(0, 30), which=choices, object_=objects)
    def now_and_then(self, kind: int, which: int, object_: CachedObject) -> None:
        if kind == 0 and self.reads:
            self.index.drop(self.reads[which % len(self.reads)][0])  # it was damaged
        elif kind == 1:
            read_now = [entry for entry in self.index._by_age if entry.reader_count]
            self.index.give_back(which % BUDGET_BYTES)
            assert all(entry in self.index._by_age for entry in read_now)
        elif kind == 2:
            self.index.retain(lambda other: other != object_, self.index.objects)
            assert self.index.begin_read(object_, 0, KIB) is None
        elif kind == 3:
            self.restart(1 + which % 4)
        elif self.index._by_age:
            self.read_again(which)

    def read_again(self, which: int) -> None:
        entry = list(self.index._by_age)[which % len(self.index)]
        self.begin_read(entry.object, entry.start, entry.end - entry.start - KIB)
        self.index.end_read(self.reads.pop())

    def remove_all(self) -> None:
        for entry in self.index.removable():
            assert not entry.reader_count
            del self.disk[entry.place.name]
            self.index.removed(entry)

    def restart(self, budget: int) -> None:
        """As after kill -9: what is on the disk is there, what was being written is not. The budget may be another."""
        if self.writing is not None:
            del self.disk[self.writing.place.name]
        self.index = DiskIndex(budget * BUDGET_BYTES // 4, ENTRIES_MAX)
        self.reads, self.writing = [], None
        found = sorted(self.disk.values(), key=lambda place: -self.last_read[place])
        for place in self.index.restore(found):
            del self.disk[place.name]
        assert len(self.index) == len(self.disk)

    @invariant()
    def all_holds(self) -> None:
        self.index.check()
        on_disk = sum(place.file_bytes for place in self.disk.values())
        assert on_disk == self.index.used_bytes <= self.index.budget_bytes
        assert len(self.disk) <= ENTRIES_MAX


IndexMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestIndex = IndexMachine.TestCase


def test_what_a_start_finds_overlapping_is_removed() -> None:
    places = [Place(OBJECTS[0], 0, 8 * KIB), Place(OBJECTS[0], 4 * KIB, 12 * KIB), Place(OBJECTS[1], 0, KIB)]
    index = DiskIndex(BUDGET_BYTES)
    assert index.restore(places) == places[1:2]
    index.check()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=60)
)
def test_touches_against_sets(fetches: list[tuple[int, int, int]]) -> None:
    touches = Touches(50 * BLOCK_BYTES)
    seen: dict[int, set[int]] = {}
    for number, first, size in fetches:
        asked = set(range(first, first + size))
        before = seen.pop(number, set())
        seen[number] = before | asked
        again = touches.note(number.to_bytes(16, "big"), first * BLOCK_BYTES, (first + size) * BLOCK_BYTES)
        assert again == (2 * len(before & asked) >= size)
        while len(seen) > 1 and sum(map(len, seen.values())) > 50:
            del seen[next(iter(seen))]
        assert touches.remembered_bytes == BLOCK_BYTES * sum(map(len, seen.values()))


def test_touches_remember_so_many_objects() -> None:
    touches = Touches(1 << 50)
    for number in range(2 * OBJECTS_MAX):
        assert not touches.note(number.to_bytes(16, "big"), 0, BLOCK_BYTES)
    assert len(touches) == OBJECTS_MAX
    assert not touches.note((0).to_bytes(16, "big"), 0, BLOCK_BYTES)
    assert touches.note((2 * OBJECTS_MAX - 1).to_bytes(16, "big"), 0, BLOCK_BYTES)


def test_a_file_counts_with_its_header_and_whole_pages() -> None:
    assert Place(OBJECTS[0], 0, 1).file_bytes == HEADER_BYTES + 4096
    assert Place(OBJECTS[0], 4096, 3 * 4096).file_bytes == HEADER_BYTES + 2 * 4096


def test_what_is_being_read_stays_and_nothing_is_written_for_it() -> None:
    index = DiskIndex(BUDGET_BYTES, entries_max=2)
    index.restore([Place(OBJECTS[0], 0, KIB), Place(OBJECTS[1], 0, KIB)])
    reads = [index.begin_read(each, 0, KIB) for each in OBJECTS[:2]]
    assert index.make_room(KIB) == index.give_back(BUDGET_BYTES) == 0
    assert index.reserve(Place(OBJECTS[2], 0, KIB)) is None
    assert reads[0] is not None
    index.end_read(reads[0])
    assert index.make_room(KIB) == 1
    (entry,) = index.removable()
    assert entry.place == Place(OBJECTS[0], 0, KIB)
    index.removed(entry)
    assert index.reserve(Place(OBJECTS[2], 0, KIB)) is not None
    index.check()
