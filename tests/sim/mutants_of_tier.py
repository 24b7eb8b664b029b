"""Broken variants of what may be deleted in the bucket, in which order, and who waits for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

from tests.model.tiering_world import Leader, Steps, Unanswered, name_of
from tests.sim.mutation import Mutation, method, together
from tiering import model
from tiering.catalog import Catalog
from tiering.keys import PartitionKeys
from tiering.lifecycle import Attempts, Named, ObjectName
from tiering.sweeping.sweeps import Sweeps


@method(Leader, "delete")
def pages_go_before_the_commit(original: Any, self: Leader, action: Any) -> Steps:
    self.remove(name_of(entry) for entry in action.entries)
    self.remove(action.pages)
    yield
    self.commit(self.head.with_retired_removed(action.end_offset, self.world.now_ms))


@method(Leader, "wait_for_turn")
def _note_early(original: Any, self: Leader, names: Iterable[ObjectName]) -> Steps:
    for name in names:
        self.attempts.committing(name.uuid, self.head.sequence)
    yield from original(self, names)


noted_before_the_turn = together(_note_early, lambda: patch.object(Leader, "note", lambda self, names: None))


@method(PartitionKeys, "head_copy")
def _one_name(original: Any, self: PartitionKeys, sequence: int) -> str:
    return self.unordered_head_copy


@method(Leader, "remove")
def _keep_copies(original: Any, self: Leader, names: Iterable[ObjectName | str]) -> None:
    original(self, [name for name in names if not isinstance(name, str)])


head_copies_replace_each_other = together(_one_name, _keep_copies)


@method(PartitionKeys, "older_head_copies")
def the_newest_copy_goes_too(original: Any, self: PartitionKeys, listed: Iterable[str]) -> list[str]:
    return list(listed)


@method(Leader, "delete")
def removal_waits_for_deletes(original: Any, self: Leader, action: Any) -> Steps:
    if self.bucket.delete(name_of(entry) for entry in action.entries):
        raise Unanswered
    yield from original(self, action)


@method(Leader, "remove")
def _wait(original: Any, self: Leader, names: Iterable[ObjectName | str]) -> None:
    if self.bucket.delete(names):
        raise Unanswered


@method(model, "_newest")
def _all_of_them(original: Any, stale: tuple[Any, ...]) -> tuple[Any, ...]:
    assert len(stale) <= model.STALE_OBJECTS_MAX, "H3"
    return stale


# The head names what is stale until it is deleted.
stale_names_wait_for_deletes: Mutation = together(
    _wait,
    _all_of_them,
    lambda: patch.object(model, "STALE_OBJECTS_MAX", 6),
    lambda: patch.object(model.TierHead, "with_stale_removed", lambda self, names: self.renewed()),
)


@method(Catalog, "references")
def lost_pages_name_nothing(original: Any, self: Catalog, base_offset: int, uuid: bytes) -> bool:
    found = bool(original(self, base_offset, uuid))
    return found and uuid in {*(e.uuid for e in self.pages), *(e.uuid for e in self.head.tail)}


@method(Leader, "turn")
def a_lost_page_stops_the_tier(original: Any, self: Leader) -> Steps:
    if not self.pages.lost:
        yield from original(self)


@method(Attempts, "awaits_later_head")
def idle_partitions_keep_their_orphans(original: Any, self: Attempts, reread: Named) -> bool:
    return False


@method(Sweeps, "is_due")
def one_sweep_is_enough(original: Any, self: Sweeps, now_ms: int) -> bool:
    return self.done_count == 0


@method(Named, "has_removed")
def removed_is_named(original: Any, self: Named, name: ObjectName) -> bool:
    """What was removed and could not be deleted stays for as long as a page that is lost may list it."""
    return False


MUTANTS_OF_TIER: dict[str, tuple[Mutation, int]] = {
    "pages_go_before_the_commit": (pages_go_before_the_commit, 40),
    "noted_before_the_turn": (noted_before_the_turn, 520),
    "head_copies_replace_each_other": (head_copies_replace_each_other, 0),
    "the_newest_copy_goes_too": (the_newest_copy_goes_too, 0),
    "removal_waits_for_deletes": (removal_waits_for_deletes, 0),
    "stale_names_wait_for_deletes": (stale_names_wait_for_deletes, 0),
    "lost_pages_name_nothing": (lost_pages_name_nothing, 60),
    "a_lost_page_stops_the_tier": (a_lost_page_stops_the_tier, 60),
    "idle_partitions_keep_their_orphans": (idle_partitions_keep_their_orphans, 0),
    "one_sweep_is_enough": (one_sweep_is_enough, 0),
    "removed_is_named": (removed_is_named, 0),
}
"""With a seed that is known to catch each."""
