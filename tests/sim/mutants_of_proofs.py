"""Broken variants of the proof that a replica is whole, and of who may lead on it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from tests.sim import replica as sim_replica
from tests.sim.mutation import method, together
from tests.sim.replica import SimReplica
from tierlog.metadata.control import election
from tierlog.metadata.records import PartitionState
from tierlog.replication.proof import Note, Proof


def everybody_is_whole() -> Any:
    return patch.object(Proof, "is_whole", property(lambda self: True))


@method(Proof, "configure")
def mode_changes_before_the_note_goes(original: Any, self: Proof, wants_synced: bool, end: int) -> None:
    original(self, wants_synced, end)
    self.counts_synced = wants_synced


@method(Proof, "belongs_in_file")
def note_survives_the_mode(
    original: Any, self: Proof, is_in_sync: bool, synced_end: int, log_end: int
) -> bool:
    """Once whole, always whole; "os" takes effect all the same."""
    if self.note is Note.PRESENT and not self.wants_synced:
        self.counts_synced = False
        return True
    return bool(original(self, is_in_sync, synced_end, log_end))


@method(Proof, "belongs_in_file")
def note_before_the_sync(original: Any, self: Proof, is_in_sync: bool, synced_end: int, log_end: int) -> bool:
    return bool(original(self, is_in_sync, log_end, log_end))


@method(Proof, "belongs_in_file")
def note_without_a_voucher(
    original: Any, self: Proof, is_in_sync: bool, synced_end: int, log_end: int
) -> bool:
    return bool(original(self, True, synced_end, log_end))


@method(SimReplica, "_open_proof")
def damage_is_forgiven(original: Any, self: SimReplica) -> None:
    self.is_damaged = False
    original(self)


@method(SimReplica, "_open_proof")
def note_of_another_mode(original: Any, self: SimReplica) -> None:
    """The mode was changed while the broker was away: the note stays."""
    was_noted = self.is_noted and not self.is_damaged
    original(self)
    if was_noted:
        self.is_noted = True
        self.proof.note = Note.PRESENT


def _keep(original: Any, state: PartitionState, isr: Any, lossy: Any = ()) -> PartitionState:
    new: PartitionState = original(state, isr, lossy)
    before = {*state.last_eligible, *({*state.isr, *state.elr} & {*lossy})} - {*new.isr, *new.elr}
    return new._replace(last_eligible=tuple(r for r in new.replicas if r in before))


# ``last_eligible`` is not cleared when enough are in sync without those in it.
whoever_left_stays_eligible = together(
    method(election, "with_isr")(_keep),
    method(sim_replica, "with_isr")(_keep),
    lambda: patch.object(PartitionState, "check", lambda self: None),
)


@method(election, "_is_current")
def whole_in_another_life(original: Any, end: Any, state: Any, broker_epoch: int) -> bool:
    return bool(end.is_whole or original(end, state, broker_epoch))


@method(election, "_elect_outside_isr")
def whole_but_not_eligible(original: Any, state: Any, facts: Any, unclean: bool, ends: Any) -> Any:
    """Whoever is whole may lead, eligible or not."""
    others = tuple(r for r in state.replicas if r not in state.elr)
    return original(state._replace(last_eligible=others), facts, unclean, ends)
