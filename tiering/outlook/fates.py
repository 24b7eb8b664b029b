"""Says of each remote segment which rule keeps, removes or moves it, and when: what the planner and the ladder do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tiering.ladder import Ladder, Why, verdict
from tiering.model import SegmentEntry
from tiering.objects.classes import StorageClass
from tiering.planner import Facts, Policy, local_only_bytes, never_copied
from tiering.retention import retained_start

NEVER_MS = -1
NOW_MS = 0


class Class(NamedTuple):
    """The next change of class: to ``to`` at ``due_ms`` (``NOW_MS``: at the next pass); ``why`` it is not made, or empty."""

    to: StorageClass
    why: str
    due_ms: int


class RemoteFate(NamedTuple):
    """``verdict``: ``deleted`` (the object, after its grace), ``removed`` (from the log, at the next look) or ``kept``.
    ``due_ms``: when, ``NOW_MS`` and ``NEVER_MS`` as above."""

    entry: SegmentEntry
    verdict: str
    rule: str
    due_ms: int
    move: Class | None


def remote_fates(facts: Facts, policy: Policy, ladder: Ladder | None, now_ms: int) -> Iterator[RemoteFate]:
    """One for each object, oldest first."""
    head = facts.catalog.head
    for entry in facts.catalog.retired(head.start):
        due_ms = (head.retired_ms_of(entry.end_offset) or 0) + policy.delete_grace_ms
        rule = "below the log start: its object goes after tierlog.remote.delete.grace.ms"
        yield RemoteFate(entry, "deleted", rule, due_ms if due_ms > now_ms else NOW_MS, None)
    move = retained_start(
        facts.catalog,
        local_only_bytes(facts),
        policy.retention_ms,
        policy.retention_bytes,
        now_ms,
        () if policy.is_copy_enabled else never_copied(facts),
    )
    by_time, by_size = (move.by_time, move.by_size) if move is not None else (0, 0)
    due_ms = NOW_MS
    for number, entry in enumerate(facts.catalog):
        due_ms = max(due_ms, _expiry_ms(entry, policy.retention_ms)) if policy.retention_ms >= 0 else NEVER_MS
        if number < by_time + by_size:
            name = "retention.ms" if number < by_time else "retention.bytes"
            value = policy.retention_ms if number < by_time else policy.retention_bytes
            yield RemoteFate(entry, "removed", f"{name}={value}", NOW_MS, None)
        else:
            yield RemoteFate(entry, "kept", _why_kept(policy), due_ms, _move(entry, ladder, now_ms))


def _expiry_ms(entry: SegmentEntry, retention_ms: int) -> int:
    """The first moment at which it is too old. A timestamp of the future counts once its time has come."""
    by_copy_ms = entry.retention_timestamp_ms(0) + retention_ms + 1
    if by_copy_ms < entry.max_timestamp_ms or entry.max_timestamp_ms < 0:
        return by_copy_ms
    return entry.max_timestamp_ms + retention_ms + 1


def _why_kept(policy: Policy) -> str:
    time = f"retention.ms={policy.retention_ms} is not over" if policy.retention_ms >= 0 else ""
    size = f"retention.bytes={policy.retention_bytes} is not reached" if policy.retention_bytes >= 0 else ""
    return ", ".join(filter(None, (time, size))) or "no limit by time or size"


def _move(entry: SegmentEntry, ladder: Ladder | None, now_ms: int) -> Class | None:
    if ladder is None:
        return None
    told = verdict(entry, ladder, now_ms)
    if told.why is None:
        return Class(told.target, "", NOW_MS)
    if told.why is not Why.IN_PLACE:
        return Class(told.target, told.why.value, told.due_ms or NEVER_MS)
    born_ms = entry.retention_timestamp_ms(now_ms)
    for rung in ladder.rungs:
        is_colder = rung.storage_class > entry.storage_class
        if is_colder and ladder.names[rung.storage_class] != ladder.names[StorageClass(entry.storage_class)]:
            return Class(rung.storage_class, "", born_ms + rung.from_ms)
    return None
