"""Which objects may be deleted: orphans, which no head names, and the objects of deleted topics. Pure.

Orphans are segments, pages and page indexes. A head commit is one transaction that compares the partition record, the
writer's registration and the head itself. Hence:

* O1: an object of an older leader epoch that the head does not name is an orphan, deletable at once: its
  writer can never commit again.
* O2: an object of the present epoch whose commit was never sent, or was refused, is deletable at once.
* O3: an object of the present epoch is deletable only after two steps if its commit has an unknown outcome, or nobody
  remembers it: a *later* successful write of the head (which makes a delayed commit fail for good), and a re-read of the
  head and its pages that does not name the object. "Later" means later than the head that the commit was based on. That
  head is noted in the step that sends the commit, never before, since another commit may go first.
* O4: an object of a newer epoch is left alone.
* O5: a segment that ends at or below ``removed_end`` no longer counts as named, whatever pages list: its deletion was
  refused once, or the object appeared after it.

An object that a lost page may name counts as named.

Topics: ``MARKED`` (put into the bucket before the metadata store forgets the topic) → ``PURGING`` (grace over, objects
are being deleted) → ``PURGED`` (a later second sweep is due, for uploads that were still under way and for objects that
could not be deleted) → gone. Each step is idempotent, so a restart at any point repeats it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from tiering.catalog import Catalog
from tiering.errors import CorruptObject, UnsupportedFormat
from tiering.keys import SegmentName
from tiering.model import MetaObject, TierHead
from tiering.pages import Pages

MARKER_FORMAT_VERSION = 1
SECOND_SWEEP_MS = 3_600_000

ObjectName: TypeAlias = SegmentName | MetaObject


@dataclass(frozen=True, slots=True)
class Named:
    """All objects that one head names."""

    catalog: Catalog
    metas: frozenset[MetaObject] = frozenset()
    unknown_up_to_sequence: int = -1
    """A page written from a head of up to this sequence may be named by an index that cannot be read. -1: none."""

    @staticmethod
    def of(head: TierHead, pages: Pages) -> Named:
        rows = frozenset(row.name for row in pages.rows if row.end_offset > head.removed_end)
        lost = max((row.name.sequence for row in pages.lost if row.name in rows), default=-1)
        return Named(Catalog(head, pages.columns), head.meta_objects() | rows, lost)

    @property
    def sequence(self) -> int:
        return self.catalog.head.sequence

    def __contains__(self, name: object) -> bool:
        if isinstance(name, MetaObject):
            return name in self.metas or name.sequence <= self.unknown_up_to_sequence
        assert isinstance(name, SegmentName)
        if any(name.uuid == each.uuid for each in self.catalog.head.displaced):
            return True
        return not self.has_removed(name) and self.catalog.references(name.base_offset, name.uuid)

    def has_removed(self, name: ObjectName) -> bool:
        """Whether O5 applies to the object."""
        return isinstance(name, SegmentName) and name.end_offset <= self.catalog.head.removed_end


class AttemptState(Enum):
    """How far one object is on its way into the head."""

    COPYING = "copying"
    COMMITTING = "committing"
    UNKNOWN = "unknown"
    ORPHANED = "orphaned"


TRANSITIONS: dict[AttemptState, frozenset[AttemptState]] = {
    AttemptState.COPYING: frozenset({AttemptState.COMMITTING, AttemptState.ORPHANED}),
    AttemptState.COMMITTING: frozenset({AttemptState.UNKNOWN, AttemptState.ORPHANED}),
    AttemptState.UNKNOWN: frozenset({AttemptState.UNKNOWN, AttemptState.ORPHANED}),
    AttemptState.ORPHANED: frozenset(),
}
"""A committed attempt is forgotten: the head names it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One object that this leader wrote, until the head names it or it is deleted."""

    name: ObjectName
    state: AttemptState
    based_on_sequence: int = -1
    """Sequence of the head that its (possibly delayed) commit compares with."""


class Attempts:
    """The objects of one partition that this leader has under way; bounded by the copies that run at once and
    the orphans not yet deleted."""

    def __init__(self, leader_epoch: int) -> None:
        self.leader_epoch = leader_epoch
        self._by_uuid: dict[bytes, Attempt] = {}

    def __len__(self) -> int:
        return len(self._by_uuid)

    def copying(self, name: ObjectName) -> None:
        """The upload begins."""
        assert name.leader_epoch == self.leader_epoch
        assert name.uuid not in self._by_uuid
        self._by_uuid[name.uuid] = Attempt(name, AttemptState.COPYING)

    def committing(self, uuid: bytes, head_sequence: int) -> None:
        """Call in the step that makes the commit from this head; the commit is sent next."""
        self._move(uuid, AttemptState.COMMITTING, head_sequence)

    def committed(self, uuid: bytes) -> None:
        """The store confirmed the commit."""
        del self._by_uuid[uuid]

    def failed(self, uuid: bytes) -> None:
        """The upload failed, or the store refused the commit: it will never be applied (O2)."""
        self._move(uuid, AttemptState.ORPHANED)

    def unknown(self, uuid: bytes) -> None:
        """The commit was sent and its outcome is not known (O3)."""
        self._move(uuid, AttemptState.UNKNOWN, self._by_uuid[uuid].based_on_sequence)

    def interrupted(self, uuid: bytes) -> None:
        """The work stopped at an unknown point: O3 if the commit may have been sent, else O2."""
        is_sent = self._by_uuid[uuid].state is AttemptState.COMMITTING
        (self.unknown if is_sent else self.failed)(uuid)

    def deleted(self, uuids: Iterable[bytes]) -> None:
        """The objects are gone, or left to the sweep."""
        for uuid in uuids:
            self._by_uuid.pop(uuid, None)

    def forget(self, orphans_max: int) -> int:
        """Keeps only the youngest of the orphans that an outage kept from being deleted. Returns how many are left to
        the next sweep."""
        orphans = [uuid for uuid, a in self._by_uuid.items() if a.state is AttemptState.ORPHANED]
        forgotten = orphans[: max(len(orphans) - orphans_max, 0)]
        self.deleted(forgotten)
        return len(forgotten)

    def settle(self, reread: Named) -> tuple[ObjectName, ...]:
        """Objects to delete now, given a head that was *read from the store after* its last write here, with its
        pages. Forgets attempts that turn out committed."""
        for uuid, attempt in list(self._by_uuid.items()):
            if attempt.state is not AttemptState.UNKNOWN:
                continue
            if attempt.name in reread:
                del self._by_uuid[uuid]
            elif reread.sequence > attempt.based_on_sequence:
                self._move(uuid, AttemptState.ORPHANED)
        return tuple(a.name for a in self._by_uuid.values() if a.state is AttemptState.ORPHANED)

    def awaits_later_head(self, reread: Named) -> bool:
        """Whether some object stays until the head is written once more (O3); there may be no other reason to write it."""
        return any(
            a.state is AttemptState.UNKNOWN and a.based_on_sequence >= reread.sequence
            for a in self._by_uuid.values()
        )

    def sweep(self, listed: Iterable[ObjectName], reread: Named) -> tuple[ObjectName, ...]:
        """Objects to delete now, of those found by a listing that *began before* the head was read.

        Objects of the present epoch that nobody remembers become attempts of unknown outcome, for a later ``settle``."""
        orphans = []
        for name in listed:
            if name.uuid in self._by_uuid or name in reread or name.leader_epoch > self.leader_epoch:
                continue
            if name.leader_epoch < self.leader_epoch or reread.has_removed(name):
                orphans.append(name)
            else:
                self._by_uuid[name.uuid] = Attempt(name, AttemptState.UNKNOWN, reread.sequence)
        return tuple(orphans)

    def _move(self, uuid: bytes, state: AttemptState, sequence: int = -1) -> None:
        attempt = self._by_uuid[uuid]
        assert state in TRANSITIONS[attempt.state], f"{attempt.state} → {state}"
        self._by_uuid[uuid] = replace(attempt, state=state, based_on_sequence=sequence)


class TopicState(Enum):
    """Life of a deleted topic's marker."""

    MARKED = "marked"
    PURGING = "purging"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class DeletionMarker:
    """A deleted topic whose objects are still to be deleted."""

    topic_id: bytes
    name: str
    partition_count: int
    state: TopicState
    since_ms: int
    """When it entered this state."""

    def encode(self) -> bytes:
        return json.dumps(
            {
                "format_version": MARKER_FORMAT_VERSION,
                "topic_id": self.topic_id.hex(),
                "name": self.name,
                "partition_count": self.partition_count,
                "state": self.state.value,
                "since_ms": self.since_ms,
            }
        ).encode()

    @staticmethod
    def decode(data: bytes, key: str) -> DeletionMarker:
        """Raises ``CorruptObject`` or ``UnsupportedFormat``."""
        try:
            fields = json.loads(data)
            version = fields["format_version"]
            if version != MARKER_FORMAT_VERSION:
                raise UnsupportedFormat(
                    f"{key}: format_version {version}; this release knows {MARKER_FORMAT_VERSION}"
                )
            return DeletionMarker(
                bytes.fromhex(fields["topic_id"]),
                str(fields["name"]),
                int(fields["partition_count"]),
                TopicState(fields["state"]),
                int(fields["since_ms"]),
            )
        except (ValueError, KeyError, TypeError) as e:
            raise CorruptObject(f"{key}: no deletion marker: {e}") from None


class PurgeStep(Enum):
    """The work that a marker requires."""

    WAIT = "wait"
    BEGIN = "begin"
    """Put the marker as PURGING."""
    SWEEP = "sweep"
    """Delete everything below the partitions' prefixes and the topic record, then put it as PURGED."""
    FINISH = "finish"
    """Sweep once more, then delete the marker."""


def purge_step(marker: DeletionMarker, grace_ms: int, now_ms: int) -> PurgeStep:
    """The next step; after a crash in the middle of it, the same one again."""
    age_ms = now_ms - marker.since_ms
    if marker.state is TopicState.MARKED:
        return PurgeStep.BEGIN if age_ms >= grace_ms else PurgeStep.WAIT
    if marker.state is TopicState.PURGING:
        return PurgeStep.SWEEP
    return PurgeStep.FINISH if age_ms >= SECOND_SWEEP_MS else PurgeStep.WAIT


def after_step(marker: DeletionMarker, step: PurgeStep, now_ms: int) -> DeletionMarker | None:
    """The marker to put once the step is done; None when it is to be deleted."""
    if step is PurgeStep.BEGIN:
        return replace(marker, state=TopicState.PURGING, since_ms=now_ms)
    if step is PurgeStep.SWEEP:
        return replace(marker, state=TopicState.PURGED, since_ms=now_ms)
    return None if step is PurgeStep.FINISH else marker
