"""Plans the next actions of one partition's tier: facts and policy in, actions out. Pure; planning twice is harmless.

The driver carries out the actions in order and plans anew after each commit. An action is planned for one head and is
committed only if the head is still that one, so a stale plan changes nothing.

Order of the actions of one plan: copy the head to the bucket (only now and then; at the end, a busy partition would never
reach it), move the start (publish before anything is deleted), delete (a full store gets room even while copying fails),
make room in the head, copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from tiering.catalog import Catalog
from tiering.model import (
    TAIL_ENTRIES_MAX,
    DisplacedSegment,
    MetaObject,
    SegmentEntry,
    TierHead,
)
from tiering.pages import Pages
from tiering.retention import Expiring, StartMove, retained_start

PAGE_AT_ENTRIES = 48
"""Entries leave the tail well before it is full, so that copying never waits for a page."""
TAIL_KEPT_ENTRIES = 8
COPIES_PER_PLAN = 4
DELETES_PER_PLAN = 500
STALE_GRACE_MS = 60_000
"""A reader of an older head may still be loading its pages; if it loses the race it reads the head again."""


class LocalSegment(NamedTuple):
    """A sealed local segment."""

    base_offset: int
    end_offset: int
    """Exclusive: base offset of the next segment."""
    size_bytes: int
    timestamp_ms: int = -1
    """Largest record timestamp, or the time of the file's last write."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about one partition on its leader."""

    catalog: Catalog
    pages: Pages
    sealed: Sequence[LocalSegment]
    """Oldest first, adjoining; without the active segment."""
    copy_limit_offset: int
    """Exclusive: min(high watermark, last stable offset). Only segments that end at or below it may be copied."""
    active_bytes: int = 0
    head_copied_sequence: int = -1
    """Sequence of the head copy that is in the bucket; -1 when unknown."""
    head_copied_ms: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Effective configs of the topic."""

    retention_ms: int = -1
    retention_bytes: int = -1
    delete_grace_ms: int = 600_000
    """``tierlog.remote.delete.grace.ms``: how long retired objects stay, and so how long undelete works."""
    is_copy_enabled: bool = True
    copy_lag_ms: int = 0
    """A segment may be copied once its newest record is so old, or once it has ``copy_lag_bytes`` behind it. 0, in
    either: at once. -1: this one lets nothing be copied."""
    copy_lag_bytes: int = -1
    head_copy_interval_ms: int = 60_000
    page_at_entries: int = PAGE_AT_ENTRIES
    tail_kept_entries: int = TAIL_KEPT_ENTRIES
    stale_grace_ms: int = STALE_GRACE_MS


class AdvanceStart(NamedTuple):
    """Commit ``head.with_start(offset)``."""

    offset: int
    move: StartMove


class CopySegment(NamedTuple):
    """Copy ``[base_offset, end_offset)`` from the local segment that begins at ``segment_base_offset``, then
    commit its entry; several of one plan are committed in order."""

    base_offset: int
    end_offset: int
    segment_base_offset: int


class WritePage(NamedTuple):
    """Move this many entries of the tail to a page."""

    moved_count: int


class DeleteObjects(NamedTuple):
    """Delete the objects of retired entries, commit ``head.with_retired_removed(end_offset)``, and only then delete the
    pages that held nothing else: a head never needs a page that has been deleted."""

    entries: tuple[SegmentEntry, ...]
    pages: tuple[MetaObject, ...]
    end_offset: int


class DeleteStale(NamedTuple):
    """Commit ``head.with_stale_removed``, then delete the replaced page objects (under both suffixes)."""

    names: frozenset[MetaObject]


class DeleteDisplaced(NamedTuple):
    """Commit ``head.with_displaced_removed``, then delete these segment objects."""

    segments: tuple[DisplacedSegment, ...]


class CopyHead(NamedTuple):
    """Put a copy of the head of this sequence into the bucket."""

    sequence: int


class ReportGap(NamedTuple):
    """The local log begins behind the tiered end: nothing can be copied until somebody acts."""

    tiered_end_offset: int
    local_start_offset: int


Action: TypeAlias = (
    AdvanceStart
    | CopySegment
    | WritePage
    | DeleteObjects
    | DeleteStale
    | DeleteDisplaced
    | CopyHead
    | ReportGap
)


def plan(facts: Facts, policy: Policy, now_ms: int) -> tuple[Action, ...]:
    """All actions that are due now."""
    head = facts.catalog.head
    actions: list[Action] = []
    is_copy_due = now_ms - facts.head_copied_ms >= policy.head_copy_interval_ms
    if head.sequence > max(facts.head_copied_sequence, 0) and is_copy_due:  # 0: nothing was ever committed
        actions.append(CopyHead(head.sequence))
    move = retained_start(
        facts.catalog,
        local_only_bytes(facts),
        policy.retention_ms,
        policy.retention_bytes,
        now_ms,
        () if policy.is_copy_enabled else never_copied(facts),
    )
    if move is not None:
        actions.append(AdvanceStart(move.offset, move))
    deletes = _deletes(facts, policy, now_ms)
    if deletes is not None:
        actions.append(deletes)
    due_stale = _stale_due(head, policy, now_ms)
    if due_stale:
        actions.append(DeleteStale(due_stale))
    due = tuple(d for d in head.displaced if d.displaced_ms + policy.delete_grace_ms <= now_ms)
    if due:
        actions.append(DeleteDisplaced(due))
    if len(head.tail) >= policy.page_at_entries:
        actions.append(WritePage(len(head.tail) - policy.tail_kept_entries))
    if policy.is_copy_enabled:
        actions += _copies(facts, head, held_from(facts, policy, now_ms))
    return tuple(actions)


def local_only_bytes(facts: Facts) -> int:
    """Size of the data that lies only on local disk. A segment that the tiered end cuts does not count: since this
    decides what is deleted, too small is safer than too large."""
    end = facts.catalog.end
    return facts.active_bytes + sum(s.size_bytes for s in facts.sealed if s.base_offset >= end)


def never_copied(facts: Facts) -> list[Expiring]:
    """Segments that could be copied if copying were not switched off."""
    waiting = (s for s in facts.sealed if _is_eligible(s, facts.catalog.end, facts.copy_limit_offset))
    return [Expiring(s.end_offset, s.size_bytes, s.timestamp_ms) for s in waiting]


def _is_eligible(segment: LocalSegment, tiered_end: int, copy_limit: int) -> bool:
    return tiered_end < segment.end_offset <= copy_limit and segment.end_offset > segment.base_offset


def held_from(facts: Facts, policy: Policy, now_ms: int) -> int | None:
    """Base offset of the first segment that is too young to be copied, with all behind it; None if none is (KIP-1241)."""
    if policy.copy_lag_ms == 0 or policy.copy_lag_bytes == 0:
        return None
    newer_bytes = facts.active_bytes + sum(segment.size_bytes for segment in facts.sealed)
    for segment in facts.sealed:
        newer_bytes -= segment.size_bytes
        is_old = 0 < policy.copy_lag_ms <= now_ms - segment.timestamp_ms
        has_enough_behind = 0 < policy.copy_lag_bytes <= newer_bytes
        if not is_old and not has_enough_behind:
            return segment.base_offset
    return None


def _copies(facts: Facts, head: TierHead, held_from: int | None) -> list[Action]:
    copies: list[Action] = []
    end = head.end
    room = min(COPIES_PER_PLAN, TAIL_ENTRIES_MAX - len(head.tail))
    for segment in facts.sealed:
        if not _is_eligible(segment, end, facts.copy_limit_offset):
            continue
        if held_from is not None and segment.base_offset >= held_from:
            break
        if segment.base_offset > end:
            return [*copies, ReportGap(end, segment.base_offset)]
        if len(copies) >= room:
            break
        copies.append(CopySegment(end, segment.end_offset, segment.base_offset))
        end = segment.end_offset
    return copies


def _deletes(facts: Facts, policy: Policy, now_ms: int) -> DeleteObjects | None:
    head = facts.catalog.head
    due = head.removable_end(now_ms, policy.delete_grace_ms)
    if due <= head.removed_end:
        return None
    entries: list[SegmentEntry] = []
    for entry in facts.catalog.retired(due):
        if len(entries) == DELETES_PER_PLAN:
            due = entries[-1].end_offset
            break
        if not entry.is_lost_page:  # the sweep finds the objects it listed, once no head names them any more
            entries.append(entry)
    pages = tuple(row.name for row in facts.pages.rows if head.removed_end < row.end_offset <= due)
    return DeleteObjects(tuple(entries), pages, due)


def _stale_due(head: TierHead, policy: Policy, now_ms: int) -> frozenset[MetaObject]:
    """Stale objects whose grace is over. A head without room for more has already forgotten the oldest."""
    return frozenset(s.name for s in head.stale if s.stale_ms + policy.stale_grace_ms <= now_ms)
