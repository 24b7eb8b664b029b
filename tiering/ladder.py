"""Which segments are due for a colder storage class, and why the others are not. Pure.

Rules:

* A segment's class follows from its age (``SegmentEntry.retention_timestamp_ms``: a timestamp of the future counts as the
  time of the copy, so a clock that jumps ahead at a producer keeps nothing warm).
* Segments only ever move down. A ladder that was made warmer later changes nothing that has moved.
* A segment goes at once to the coldest class that its age allows: no object is moved twice in one go. Classes that a
  provider calls the same are the same.
* Providers bill a minimum time in each class. A segment stays where it is until that is over, unless ``is_early_allowed``.
* Small objects stay: providers bill ``BILLED_BYTES_MIN`` at least in colder classes, and the move costs a request.
* What is retired, in a lost page or of another cluster is left alone.
* A move may have been made and not committed (a crash, a lost leadership). So the object is looked at first (``found_as``):
  one that is colder already counts as moved, and is never made warmer again; one that is not the object of the entry is
  refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice, takewhile
from typing import NamedTuple

from tiering.catalog import Catalog
from tiering.model import SegmentEntry, hash_of_version
from tiering.objects.classes import ClassNames, StorageClass
from tiering.objects.port import ObjectInfo

DAY_MS = 86_400_000
BILLED_BYTES_MIN = 128 << 10
MOVES_PER_LOOK = 16
"""One commit takes them. The partition's copies and deletes have their turn between two looks."""
ENTRIES_PER_LOOK = 400
"""A look takes two milliseconds or so; and a run of moves spans few pages, which are written anew."""


class Rung(NamedTuple):
    """Data of an age of at least ``from_ms`` belongs into this class."""

    storage_class: StorageClass
    from_ms: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """Warm to cold, ages ascending; the first rung begins at 0."""

    rungs: tuple[Rung, ...]
    names: dict[StorageClass, ClassNames]
    """What the store's provider calls the classes, and the time that it bills at least."""
    is_early_allowed: bool = False

    def class_of(self, age_ms: int) -> StorageClass:
        """Where data of this age belongs."""
        found = self.rungs[0].storage_class
        for rung in self.rungs:
            if rung.from_ms <= age_ms:
                found = rung.storage_class
        return found


class Why(Enum):
    """Why a segment is not moved now."""

    IN_PLACE = "is where it belongs"
    TOO_SMALL = "is smaller than what a colder class bills at least"
    MINIMUM = "its class bills a minimum time that is not over"
    FOREIGN = "belongs to another cluster"
    LOST = "its page cannot be read"


class Verdict(NamedTuple):
    """What the ladder says of one segment: to move to ``target`` now (``why`` None), or not."""

    target: StorageClass
    why: Why | None
    due_ms: int = 0
    """With ``MINIMUM``: when it may move."""


class Move(NamedTuple):
    """One segment and its new class."""

    entry: SegmentEntry
    target: StorageClass


def verdict(entry: SegmentEntry, ladder: Ladder, now_ms: int) -> Verdict:
    """Constant time."""
    now_in = StorageClass(entry.storage_class)
    target = ladder.class_of(now_ms - entry.retention_timestamp_ms(now_ms))
    if target <= now_in or ladder.names[target] == ladder.names[now_in]:
        return Verdict(target, Why.IN_PLACE)
    if entry.is_lost_page:
        return Verdict(target, Why.LOST)
    if entry.origin:
        return Verdict(target, Why.FOREIGN)
    if entry.object_bytes < BILLED_BYTES_MIN:
        return Verdict(target, Why.TOO_SMALL)
    due_ms = entry.class_since_ms + ladder.names[now_in].days_min * DAY_MS
    if due_ms > now_ms and not ladder.is_early_allowed:
        return Verdict(target, Why.MINIMUM, due_ms)
    return Verdict(target, None)


class Found(Enum):
    """What an object is, seen from the entry that is to move."""

    AS_KNOWN = "to be copied into the target class"
    COLDER = "moved already: only the entry does not say so yet"
    ANOTHER = "not the object that the entry names"


def found_as(entry: SegmentEntry, info: ObjectInfo, ladder: Ladder) -> Found:
    """``info``: the object as it is, with its class if the store tells one."""
    names, now_in, said = ladder.names, info.storage_class, StorageClass(entry.storage_class)
    if info.size_bytes != entry.object_bytes:
        return Found.ANOTHER
    if now_in is not None and now_in > said and names[now_in] != names[said]:
        return Found.COLDER
    is_known = entry.version_hash in (0, hash_of_version(info.version))
    return Found.AS_KNOWN if is_known else Found.ANOTHER


class Look(NamedTuple):
    """What one look found. Go on at ``next_offset``; the pass is over when that is the tier's end."""

    moves: tuple[Move, ...]
    next_offset: int


def look(catalog: Catalog, ladder: Ladder, now_ms: int, from_offset: int) -> Look:
    """The next moves at or behind ``from_offset``, oldest first. One commit takes them: all are paged, or none."""
    moves: list[Move] = []
    paged_end = catalog.head.page_index.end_offset if catalog.head.page_index else 0
    next_offset = from_offset
    for entry in islice(catalog.starting_at(from_offset), ENTRIES_PER_LOOK):
        is_border = moves and (moves[0].entry.base_offset < paged_end) != (entry.base_offset < paged_end)
        if moves and (is_border or entry.is_lost_page):
            break
        next_offset = entry.end_offset
        told = verdict(entry, ladder, now_ms)
        if told.why is None:
            moves.append(Move(entry, told.target))
            if len(moves) == MOVES_PER_LOOK:
                break
    else:
        return Look(tuple(moves), next_offset if next_offset > from_offset else catalog.end)
    return Look(tuple(moves), next_offset)


def with_moves(catalog: Catalog, moved: Sequence[SegmentEntry]) -> list[SegmentEntry]:
    """The whole run of entries from the first to the last of these, with them in it: what takes the run's place."""
    by_base = {entry.base_offset: entry for entry in moved}
    end = moved[-1].end_offset
    run = takewhile(lambda entry: entry.base_offset < end, catalog.starting_at(moved[0].base_offset))
    return [by_base.get(entry.base_offset, entry) for entry in run]


def class_at_copy(ladder: Ladder | None, timestamp_ms: int, data_bytes: int, now_ms: int) -> StorageClass:
    """Where a segment goes that is copied now: one that is old already is not moved later."""
    if ladder is None or data_bytes < BILLED_BYTES_MIN:
        return StorageClass.STANDARD
    return ladder.class_of(now_ms - timestamp_ms if 0 <= timestamp_ms <= now_ms else 0)
