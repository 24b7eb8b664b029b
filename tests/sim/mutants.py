"""Broken variants of the production rules, one at a time: each must be caught, or the simulation proves nothing.

``python -m tests.sim --mutants`` looks for the first seed that catches each. ``MASKED`` are those that break nothing
observable, with the reason; they stay in the code as a second line of defence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.model.test_tiering_protocol import Impatient, NoEpochs, UnknownIsFailed
from tests.sim import mutants_of_elections as more
from tests.sim import mutants_of_proofs as proofs
from tests.sim import mutants_of_sessions as sessions
from tests.sim import replica as sim_replica
from tests.sim import tier as sim_tier
from tests.sim import world as sim_world
from tests.sim.disk import SimLog
from tests.sim.mutants_of_tier import MUTANTS_OF_TIER
from tests.sim.mutation import Mutation, method, property_of, together
from tests.sim.replica import SimReplica
from tests.sim.world import World
from tiering.lifecycle import Attempts
from tiering.model import TierHead
from tierlog.errors import ErrorCode
from tierlog.log.leader_epochs import EpochLineage
from tierlog.metadata.control import controller, election
from tierlog.metadata.control.isr import with_isr
from tierlog.replication import follower as follower_module
from tierlog.replication import leader as leader_module
from tierlog.replication.follower import Follower
from tierlog.replication.isr_changes import NOBODY, IsrChanges
from tierlog.replication.leader import Leader

# -- truncation and divergence


@method(Follower, "next_fetch")
def truncate_to_hw(original: Any, self: Follower, log: Any, durable: int, now_ms: int) -> Any:
    """A new follower cuts its log at its high watermark, as Kafka did before KIP-101."""
    if self.backoff_ms == follower_module.BACKOFF_MIN_MS and self.log_start_offset == 0:
        self.log_start_offset = -1  # once
        log.truncate_to(min(self.high_watermark, log.log_end_offset))
        durable = min(durable, log.log_end_offset)
    return original(self, log, durable, now_ms)


@method(Leader, "_refusal")
def no_divergence_check(original: Any, self: Leader, fetch: Any, log: Any) -> Any:
    return original(self, fetch._replace(last_fetched_epoch=-1), log)


@method(leader_module, "_is_forgotten")
def forgotten_tails_are_kept(original: Any, leader_epoch: int, log: Any) -> bool:
    """DeleteRecords takes away where an epoch ended, and a follower keeps what it has of it below the log start."""
    return False


@method(Leader, "_refusal")
def no_fetch_epoch_check(original: Any, self: Leader, fetch: Any, log: Any) -> Any:
    return original(self, fetch._replace(leader_epoch=self.leader_epoch), log)


@method(Leader, "_refusal")
def old_incarnations_are_counted(original: Any, self: Leader, fetch: Any, log: Any) -> Any:
    if fetch.broker_id in self.followers:
        self.followers[fetch.broker_id].broker_epoch = fetch.broker_epoch
    return original(self, fetch, log)


@method(Follower, "on_reply")
def unmatched_reply(original: Any, self: Follower, fetch: Any, reply: Any, log: Any, now_ms: int) -> Any:
    """Any reply of the same epoch and offset is taken, also one to an earlier fetch."""
    same = (fetch.leader_epoch, fetch.broker_epoch) == (self.leader_epoch, self.broker_epoch)
    if same and fetch.fetch_offset == log.log_end_offset:
        self.outstanding = fetch
    return original(self, fetch, reply, log, now_ms)


@method(EpochLineage, "assign")
def epoch_cache_keeps_conflicts(original: Any, self: EpochLineage, epoch: int, start: int) -> Any:
    """An epoch that was led here without a record stays when records of an older one come."""
    if not self._epochs or self._epochs[-1] < epoch:
        self._epochs.append(epoch)
        self._starts.append(start)
    return True


# -- high watermark


@method(Leader, "advance")
def hw_under_minisr(original: Any, self: Leader) -> Any:
    min_isr, self.min_isr = self.min_isr, 1
    try:
        return original(self)
    finally:
        self.min_isr = min_isr


@method(Leader, "advance")
def ack_without_hw(original: Any, self: Leader) -> Any:
    members, self._members = self._members, ()
    try:
        return original(self)
    finally:
        self._members = members


def _configured(world: World) -> int:
    return world.checker.configured_min_isr


@method(SimReplica, "on_record")
def _min_isr_of_the_config(original: Any, self: SimReplica) -> Any:
    original(self)
    if self.leader is not None:
        self.leader.min_isr = _configured(self.world)


@method(SimReplica, "produce")
def _min_isr_of_the_config_at_produce(original: Any, self: SimReplica, attempt: Any) -> Any:
    if self.leader is not None:
        self.leader.min_isr = _configured(self.world)
    original(self, attempt)


minisr_from_config = together(_min_isr_of_the_config, _min_isr_of_the_config_at_produce)


@property_of(SimReplica, "durable_end_offset")
def unsynced_counts(self: Any) -> int:
    """With flush.mode=ack: what is written counts before it is synced."""
    end: int = self.log.log_end_offset
    return end


# -- ISR


@property_of(Leader, "maximal_isr")
def no_maximal_isr(self: Any) -> Any:
    return self.isr


@property_of(Leader, "maximal_isr")
def optimistic_shrink(self: Any) -> Any:
    change = self.changes.in_flight
    return change.isr if change is not None and change.isr < self.isr else self.isr | self.changes.pending


@method(IsrChanges, "unknown")
def unknown_is_refused(original: Any, self: IsrChanges, change: Any, now_ms: int) -> Any:
    if self.in_flight is change:
        self.unresolved = NOBODY
        self._failed(now_ms)


@method(Leader, "on_partition_record")
def same_record_resolves(original: Any, self: Leader, isr: Any, min_isr: int, epoch: int, *args: Any) -> Any:
    """The record that a change compares with, seen once more, is taken for its outcome."""
    if epoch == self.partition_epoch:
        self.changes.resolved()
        self._count_members()
    return original(self, isr, min_isr, epoch, *args)


@method(Leader, "_has_enough")
def expand_ignores_epoch_start(original: Any, self: Leader, follower: Any) -> Any:
    return follower.log_end_offset >= self.high_watermark


@method(Leader, "_may_join")
def _any_epoch_joins(original: Any, self: Leader, broker_id: int, follower: Any, available: Any) -> Any:
    return broker_id in available and original(self, broker_id, follower, {broker_id: follower.broker_epoch})


@method(sim_replica, "joining_from_image")
def _guard_of_the_present_epoch(original: Any, image: Any, broker_id: int, epoch: int) -> Any:
    return original(image, broker_id, image.brokers[broker_id].broker_epoch)


no_broker_epoch = together(_any_epoch_joins, _guard_of_the_present_epoch)


@method(sim_replica, "partition_change")
def joining_is_not_guarded(original: Any, *args: Any, **kwargs: Any) -> Any:
    """The transaction compares the partition and the leader's registration only."""
    txn = original(*args, **kwargs)
    return replace(txn, compares=txn.compares[:2])


# -- elections


@method(controller, "desired")
def elect_any_replica(original: Any, state: Any, facts: Any, **kwargs: Any) -> Any:
    new = original(state, facts, **kwargs)
    if new.leader == state.leader:
        return new
    anybody = [r for r in reversed(new.replicas) if r in facts.active]
    if not anybody:
        return new
    isr = new.isr if anybody[0] in new.isr else (anybody[0],)
    return with_isr(new, isr)._replace(leader=anybody[0], leader_epoch=state.leader_epoch + 1)


@method(election, "is_lossless")
def unclean_keeps_elr(original: Any, broker: Any) -> bool:
    return True


@method(sim_replica, "role_change")
def resume_leadership(original: Any, *args: Any, may_lead: bool) -> Any:
    """A record that names this broker is enough, whichever incarnation was elected."""
    return original(*args, may_lead=True)


@method(controller, "_check_unused")
def _no_check(original: Any, *args: Any) -> None:
    return None


@method(controller, "_partition_txn")
def elected_is_not_guarded(original: Any, *args: Any) -> Any:
    """The election does not name the incarnation that it elects."""
    txn = original(*args)
    return replace(txn, compares=txn.compares[:1])


def _in_sim_broker(mutation: Any) -> Mutation:
    from tests.sim import broker as sim_broker

    def start() -> Any:
        original = sim_broker.reconcile
        return patch.object(sim_broker, "reconcile", lambda image, rules: mutation(original, image, rules))

    return start


def _hasty(original: Any, image: Any, rules: Any) -> Any:
    yield from tuple(controller.broker_changes(image))
    yield from controller.partition_changes(image, rules, election.gather_facts(image))


acknowledges_before_the_partitions = together(_in_sim_broker(_hasty), _no_check)

# -- the tier


@method(sim_tier, "content_of")
def untrimmed_first_upload(original: Any, log: Any, name: Any) -> Any:
    """The whole segment is uploaded under the name of the part behind the tiered end."""
    base = max(b for b in log.segments if b <= name.base_offset)
    return original(log, name._replace(base_offset=base))


def _orphans(broken: type[Attempts]) -> Mutation:
    return lambda: patch.object(sim_world, "Attempts", broken)


@method(TierHead, "with_start")
def start_past_the_end_alone(original: Any, self: TierHead, offset: int, now_ms: int) -> Any:
    """The start moves past the tiered end, and the end stays."""
    head = original(self, offset, now_ms)
    return replace(head, end=self.end) if head.end != self.end else head


@property_of(sim_tier.TierSide, "log_end")
def uncommitted_is_copied(self: Any) -> int:
    end: int = self.replica.log.log_end_offset
    return end


@method(sim_tier, "tier_head_change")
def zombies_commit(original: Any, *args: Any, **kwargs: Any) -> Any:
    """The commit compares the head only, neither partition nor registration."""
    txn = original(*args, **kwargs)
    return replace(txn, compares=txn.compares[2:])


@method(sim_tier, "tier_head_change")
def head_is_not_compared(original: Any, *args: Any, **kwargs: Any) -> Any:
    txn = original(*args, **kwargs)
    return replace(txn, compares=txn.compares[:2])


@method(sim_replica, "removable_end")
def local_deletion_at_the_watermark(original: Any, replica: SimReplica) -> int:
    return replica.high_watermark


@method(SimLog, "start_at")
def tier_start_without_producers(
    original: Any, self: SimLog, offset: int, lineage: Any, snapshot: Any
) -> Any:
    return original(self, offset, lineage, None)


@method(SimLog, "start_at")
def tier_start_without_lineage(original: Any, self: SimLog, offset: int, lineage: Any, snapshot: Any) -> Any:
    return original(self, offset, (), snapshot)


@method(SimReplica, "truncate")
def truncation_is_not_synced(original: Any, self: SimReplica, offset: int) -> None:
    """A power loss brings back what was cut off, while the high watermark's checkpoint has moved on."""
    self.log.truncate_unsynced(offset)


@method(SimReplica, "_lead_behind_the_tier")
def unproven_lead_at_once(original: Any, self: SimReplica) -> None:
    """Whoever is elected without proof leads with the log that it has."""


@method(SimLog, "restart")
def lineage_is_not_rebuilt(original: Any, self: SimLog) -> None:
    """Power loss right after an election: the lineage on the disk lacks the newest epoch, and the records are not asked."""
    original(self)
    if len(self.epochs.entries) > 1:
        self.epochs = EpochLineage(self.epochs.entries[:-1])


# -- the coordinator


@method(SimReplica, "_resign")
def shard_outlives_leadership(original: Any, self: SimReplica) -> None:
    """Who leads again goes on with the shard of the last time."""
    shard = self.shard
    original(self)
    self.shard = shard


@method(SimReplica, "produce")
def replies_before_the_commit(original: Any, self: SimReplica, attempt: Any) -> None:
    original(self, attempt)
    if self.leader is not None:
        attempt.answer(ErrorCode.NONE, self.log.log_end_offset - 1)


# Name → (mutation, a seed that is known to catch it).
MUTANTS: dict[str, tuple[Mutation, int]] = {
    "truncate_to_hw": (truncate_to_hw, 0),
    "no_divergence_check": (no_divergence_check, 16),
    "hw_under_minisr": (hw_under_minisr, 0),
    "optimistic_shrink": (optimistic_shrink, 0),
    "ack_without_hw": (ack_without_hw, 0),
    "minisr_from_config": (minisr_from_config, 6),
    "elect_any_replica": (elect_any_replica, 5),
    "expand_ignores_epoch_start": (expand_ignores_epoch_start, 13),
    "resume_leadership": (resume_leadership, 1),
    "unclean_keeps_elr": (unclean_keeps_elr, 32),
    "no_maximal_isr": (no_maximal_isr, 0),
    "no_broker_epoch": (no_broker_epoch, 0),
    "unmatched_reply": (unmatched_reply, 0),
    "epoch_cache_keeps_conflicts": (epoch_cache_keeps_conflicts, 0),
    "unsynced_counts": (unsynced_counts, 45),
    "unknown_is_refused": (unknown_is_refused, 13),
    "same_record_resolves": (same_record_resolves, 79),
    "joining_is_not_guarded": (joining_is_not_guarded, 0),
    "elected_is_not_guarded": (elected_is_not_guarded, 0),
    "acknowledges_before_the_partitions": (acknowledges_before_the_partitions, 90),
    "truncation_is_not_synced": (truncation_is_not_synced, 0),
    "lineage_is_not_rebuilt": (lineage_is_not_rebuilt, 13),
    "untrimmed_first_upload": (untrimmed_first_upload, 12),
    "orphan_deleted_early": (_orphans(Impatient), 142),
    "unknown_commit_is_refused": (_orphans(UnknownIsFailed), 10),
    "orphans_of_any_epoch": (_orphans(NoEpochs), 508),
    "start_past_the_end_alone": (start_past_the_end_alone, 11),
    "uncommitted_is_copied": (uncommitted_is_copied, 5),
    "zombies_commit": (zombies_commit, 0),
    "head_is_not_compared": (head_is_not_compared, 53),
    "local_deletion_at_the_watermark": (local_deletion_at_the_watermark, 9),
    "tier_start_without_producers": (tier_start_without_producers, 0),
    "tier_start_without_lineage": (tier_start_without_lineage, 0),
    "unproven_lead_at_once": (unproven_lead_at_once, 0),
    "shard_outlives_leadership": (shard_outlives_leadership, 190),
    "replies_before_the_commit": (replies_before_the_commit, 0),
    "no_fetch_epoch_check": (no_fetch_epoch_check, 0),
    "forgotten_tails_are_kept": (forgotten_tails_are_kept, 52819),
    "old_incarnations_are_counted": (old_incarnations_are_counted, 0),
    "longest_by_offset_alone": (more.longest_by_offset_alone, 298),
    "silence_is_an_empty_log": (more.silence_is_an_empty_log, 0),
    "log_ends_of_old_registrations": (more.log_ends_of_old_registrations, 0),
    "log_ends_of_old_leaderships": (more.log_ends_of_old_leaderships, 0),
    "unproven_is_not_marked": (more.unproven_is_not_marked, 2),
    "everybody_is_whole": (proofs.everybody_is_whole, 55),
    "mode_changes_before_the_note_goes": (proofs.mode_changes_before_the_note_goes, 0),
    "note_survives_the_mode": (proofs.note_survives_the_mode, 0),
    "note_before_the_sync": (proofs.note_before_the_sync, 0),
    "note_without_a_voucher": (proofs.note_without_a_voucher, 210),
    "damage_is_forgiven": (proofs.damage_is_forgiven, 0),
    "note_of_another_mode": (proofs.note_of_another_mode, 0),
    "whoever_left_stays_eligible": (proofs.whoever_left_stays_eligible, 0),
    "whole_in_another_life": (proofs.whole_in_another_life, 0),
    "whole_but_not_eligible": (proofs.whole_but_not_eligible, 164),
    "moves_end_early": (more.moves_end_early, 0),
    "removal_keeps_the_leader_epoch": (more.removal_keeps_the_leader_epoch, 0),
    "a_cancel_may_lose_all": (more.a_cancel_may_lose_all, 0),
    "a_cancel_may_leave_one": (more.a_cancel_may_leave_one, 0),
    "preferred_is_not_in_sync": (more.preferred_is_not_in_sync, 14),
    "compaction_loses_changes": (more.compaction_loses_changes, 141),
    "old_generations_commit": (more.old_generations_commit, 175),
    "generations_begin_anew": (more.generations_begin_anew, 83),
    **sessions.MUTANTS,
    **MUTANTS_OF_TIER,
}

MASKED = {
    "no_fetch_epoch_check": (
        "a fetch of another leader epoch still has to pass the divergence check, its reply is matched to a follower of "
        "that very epoch, and what it proves about the fetcher's log is true all the same"
    ),
    "old_incarnations_are_counted": (
        "a late fetch of an incarnation that has lost data counts a broker that the controller has already taken out of "
        "ISR and ELR, or will before its next incarnation is dealt with; it may hold the watermark up, never let it "
        "pass a member that counts, and its broker epoch keeps it from joining"
    ),
    "elected_is_not_guarded": (
        "a broker leads only while the image shows its own registration as dealt with (roles), and the controller deals "
        "with it only after taking it out of ISR and leadership (M6)"
    ),
    "asks_before_it_is_dealt_with": (
        "the controller fences every registration that it deals with, whatever that one asks for, and looks at the wish in "
        "a later round only: to ask early spares a write, and decides nothing"
    ),
}
