"""What must hold, checked at the event that could break it. Numbers as in INVARIANTS.md; A3 and M4 as in the design.

The checker sees everything: the store at each of its revisions, every log, every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.sim.disk import GONE, Record
from tests.sim.replica import last_epoch
from tests.sim.store import Feed
from tierlog.metadata.records import PartitionState

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.clients import Attempt
    from tests.sim.replica import SimReplica
    from tests.sim.world import World


def boot_of(incarnation: str) -> int:
    return int(incarnation.partition(".")[2])


class Violation(AssertionError):
    """An invariant is broken."""


@dataclass
class Losses:
    """What elections without proof have cost a partition. ``epoch``: of the last one; what leaders of an older epoch
    still commit or acknowledge is lost with the rest. ``is_open``: the elected has not begun to lead, so nobody knows
    how much it has. ``cuts``: (leader epoch, offset) from where on what older epochs had acknowledged is gone."""

    epoch: int = -1
    is_open: bool = False
    cuts: list[tuple[int, int]] = field(default_factory=list)

    def excuses(self, acked_epoch: int, offset: int) -> bool:
        return any(acked_epoch < epoch and offset >= cut for epoch, cut in self.cuts)


class Checker:
    def __init__(self, world: World) -> None:
        self.world = world
        self.feed: Feed | None = None
        self.truth: dict[int, PartitionState] = {}
        self.committed: dict[int, list[Record]] = {p: [] for p in world.partitions}
        self.leaders: dict[tuple[int, int], int] = {}
        self.watermarks: dict[tuple[int, int], int] = {}
        self.records: dict[tuple[int, int, int], Record] = {}
        # The newest sequence of each producer, and its offset.
        self.sequences: dict[tuple[int, int], tuple[int, int]] = {}
        # Broker → the boot that lost data; and partitions that a single replica may hold.
        self.lossy: dict[int, int] = {}
        self.thin = dict.fromkeys(world.partitions, False)
        self.configured_min_isr = world.mix.min_isr
        # Whoever has not seen this revision may still write a min ISR of 1, which has been taken back.
        self.min_isr_raised = 0
        self.losses = {p: Losses() for p in world.partitions}

    def fail(self, why: str) -> None:
        raise Violation(why)

    def begin(self) -> None:
        self.feed = Feed(self.world.store.memory)
        for p in self.world.partitions:
            state = self.feed.image.partition(self.world.topic_id, p)
            assert state is not None
            self.truth[p] = state

    # -- the store

    def on_store_changed(self) -> None:
        if self.feed is None:
            return
        for delta in self.feed.catch_up(1000):
            for change in delta.partitions_changed:
                old, new = change.old, change.new
                assert old is not None
                assert new is not None
                self._on_partition(change.partition, old, new)

    def _on_partition(self, p: int, old: PartitionState, new: PartitionState) -> None:
        counts = self.world.counts
        new.check()
        self.truth[p] = new
        if new.leader_epoch < old.leader_epoch or (
            new.leader != old.leader and new.leader_epoch == old.leader_epoch
        ):
            self.fail(f"M4: the leader epoch goes from {old} to {new}")
        if new.leader_epoch > old.leader_epoch:
            counts["elections"] += new.leader >= 0
            counts["leaderless"] += new.leader < 0
            if self._is_proven(p, old, new):
                counts["elected by proof"] += 1
            elif new.leader not in (-1, *old.isr, *old.elr):
                self._on_unclean_election(p, old, new)
        self._check_move(old, new)
        counts["moves completed"] += bool(
            old.removing and not new.removing and len(new.replicas) < len(old.replicas)
        )
        if new.leader_epoch == old.leader_epoch:
            counts["ISR shrunk"] += len(new.isr) < len(old.isr)
            counts["ISR expanded"] += len(new.isr) > len(old.isr)
        counts["elected from the ELR"] += new.leader >= 0 and new.leader in old.elr
        self.thin[p] = new.min_isr == 1 or (self.thin[p] and len(new.isr) < 2)
        if self.world.is_tracing:
            self.world.note("store", f"p{p}: {new}")
        self._check_maximal_isr(p, new)
        self._check_members(p)

    def _check_move(self, old: PartitionState, new: PartitionState) -> None:
        """M4, M7: who is taken away is replaced in sync; what was only begun is undone with somebody left to lead."""
        gone = set(old.replicas) - set(new.replicas)
        if not gone:
            return
        if new.leader_epoch == old.leader_epoch:
            self.fail(f"M4: replicas {gone} leave and the leader epoch stays: {old} → {new}")
        had = {*old.isr, *old.elr}
        is_left = len(had - gone) >= min(len(had), old.min_isr) or self.world.mix.is_unclean
        is_undone = gone <= set(old.adding) and is_left
        if not is_undone and set(new.isr) != set(new.replicas):
            self.fail(f"M7: replicas {gone} leave while their successors lag: {old} → {new}")

    def _on_unclean_election(self, p: int, old: PartitionState, new: PartitionState) -> None:
        mix = self.world.mix
        if not new.recovering:
            self.fail(f"M5: elected outside ISR and ELR: {old} → {new}")
        if not (mix.counts_boots or mix.may_lose):
            self.fail(f"M5: an election without proof, though nobody has lost anything: {old} → {new}")
        self.world.counts["elections without proof"] += 1
        if not mix.is_unclean:
            self._check_longest(p, new)
        if mix.may_lose:
            self.losses[p].epoch, self.losses[p].is_open = new.leader_epoch, True

    def _is_proven(self, p: int, old: PartitionState, new: PartitionState) -> bool:
        """It was eligible and says that it is whole: then nothing excuses a loss."""
        assert self.feed is not None
        said = self.feed.image.log_ends_of(self.world.topic_id, p).get(new.leader)
        is_whole = said is not None and said.is_whole and said.leader_epoch == old.leader_epoch
        return is_whole and new.leader in old.last_eligible

    def _check_longest(self, p: int, new: PartitionState) -> None:
        """M8: nobody's log goes further. Who is down may have lost what it had said."""
        brokers = self.world.brokers
        ends = {
            b: (last_epoch(replica.log), replica.log.log_end_offset)
            for b in new.replicas
            if brokers[b].is_up and (replica := brokers[b].replicas.get(p)) is not None
        }
        if new.leader in ends and ends[new.leader] < max(ends.values()):
            self.fail(f"M8: of the logs {ends} that of {new.leader} is elected")

    def _check_maximal_isr(self, p: int, state: PartitionState) -> None:
        if state.leader < 0:
            return
        replica = self.world.brokers[state.leader].replicas.get(
            p
        )  # an unclean one may not know of its place yet
        leader = None if replica is None else replica.leader
        if leader is None or leader.leader_epoch != state.leader_epoch:
            return
        if not leader.maximal_isr.issuperset(state.isr):
            self.fail(f"A3: the store has {state}, its leader counts {sorted(leader.maximal_isr)}")

    # -- leaders

    def on_lead(self, replica: SimReplica) -> None:
        leader, p = replica.leader, replica.partition
        assert leader is not None
        broker_id = replica.broker.broker_id
        if self.leaders.setdefault((p, leader.leader_epoch), broker_id) != broker_id:
            self.fail(f"I5: two leaders of p{p} on epoch {leader.leader_epoch}")
        state, committed = self.truth[p], self.committed[p]
        if self.losses[p].is_open and leader.leader_epoch >= self.losses[p].epoch:
            self._count_losses(replica)
        if leader.leader_epoch == state.leader_epoch and not self.losses[p].is_open:
            if not replica.log.has(committed, 0, len(committed)) or len(committed) > len(replica.log.records):
                self.fail(f"I3: {replica} leads on epoch {leader.leader_epoch} without committed records")
            self._check_maximal_isr(p, state)

    def _count_losses(self, replica: SimReplica) -> None:
        """What the elected does not have was never committed from here on."""
        p = replica.partition
        losses, committed, log = self.losses[p], self.committed[p], replica.log
        end = min(len(committed), log.log_end_offset)
        cut = next((o for o in range(end) if log.records[o] not in (GONE, committed[o])), end)
        self.world.counts["records lost by an unproven election"] += len(committed) - cut
        del committed[cut:]
        for key in [key for key in self.sequences if key[0] == p]:
            del self.sequences[key]
        for offset, record in enumerate(committed):
            if record.producer_id >= 0:
                self.sequences[p, record.producer_id] = (record.sequence, offset)
        losses.cuts.append((losses.epoch, cut))
        losses.is_open = False

    def on_high_watermark(self, replica: SimReplica) -> None:
        leader, p, records = replica.leader, replica.partition, replica.log.records
        assert leader is not None
        high_watermark = leader.high_watermark
        seen = self.watermarks.get((p, leader.leader_epoch), 0)
        if high_watermark < seen:
            self.fail(f"I2: the high watermark of {replica} goes back to {high_watermark}")
        self.watermarks[p, leader.leader_epoch] = high_watermark
        if leader.leader_epoch < self.losses[p].epoch:
            return
        committed = self.committed[p]
        known = min(len(committed), high_watermark)
        if not replica.log.has(committed, seen, known):
            self.fail(f"I4: {replica} commits other records than were committed before in [{seen}, {known})")
        if high_watermark > known:
            if leader.leader_epoch != self.truth[p].leader_epoch:
                self.world.counts["commits racing a leader change"] += 1
            for offset in range(known, high_watermark):
                self._commit(p, records[offset], offset)
            self._check_members(p)

    def _commit(self, p: int, record: Record, offset: int) -> None:
        self.committed[p].append(record)
        self.world.counts["commits"] += 1
        if p == 0:
            self.world.members.on_committed(record.value)
        if record.producer_id >= 0:
            key = (p, record.producer_id)
            newest, newest_at = self.sequences.get(key, (-1, -1))
            if record.sequence <= newest and newest_at < self.world.buckets[p].read()[0].start:
                # A replica that began anew at the log start has forgotten who wrote only what is deleted (Kafka's too).
                self.world.counts["written again after the deletion"] += 1
            elif record.sequence <= newest:
                self.fail(f"I6: p{p} has {record} at {offset} after sequence {newest}")
            self.sequences[key] = (record.sequence, offset)

    def _check_members(self, p: int) -> None:
        """Whoever the store calls in sync or eligible has, durably, all that was ever committed; unless it has lost
        data within the promise and the controller has not dealt with that yet. This is the heart of it: every leader
        is elected from these."""
        state, committed = self.truth[p], self.committed[p]
        end = len(committed)
        if not end or self.losses[p].is_open:
            return
        for broker_id in (*state.isr, *state.elr):
            member = self.world.brokers[broker_id].replicas[p]
            # A mode that has just become "ack" finds unsynced what was counted before.
            is_synced = self.world.mix.changes_mode or member.durable_end_offset >= end
            if is_synced and member.log.log_end_offset >= end and member.log.has(committed, end - 1, end):
                continue
            if not self._is_excused(broker_id):
                self.fail(
                    f"A3: {end} records are committed, {member} has {member.durable_end_offset}: {state}"
                )

    def _is_excused(self, broker_id: int) -> bool:
        return broker_id in self.lossy and not self._is_dealt_with(broker_id)

    def _is_dealt_with(self, broker_id: int) -> bool:
        """The controller has acknowledged a registration made after the loss. One that the dead process had sent may
        come late; it vouches for what is gone, but nobody will ever ask to be unfenced under it."""
        assert self.feed is not None
        image = self.feed.image.brokers.get(broker_id)
        if image is None or image.registration is None or not image.is_handled:
            return False
        return boot_of(image.registration.incarnation) > self.lossy[broker_id]

    def on_acknowledged(self, replica: SimReplica, attempt: Attempt, offset: int) -> None:
        committed = self.committed[replica.partition]
        assert replica.leader is not None
        attempt.answering_epoch = replica.leader.leader_epoch
        if attempt.answering_epoch < self.losses[replica.partition].epoch:
            return
        self.world.counts["acks"] += 1
        if offset < replica.log.log_start_offset:
            return  # a duplicate of what is deleted by now
        if offset >= len(committed) or committed[offset].value != attempt.value:
            self.fail(f"I3: {replica} acknowledges value {attempt.value} at {offset}, which is not committed")

    # -- followers and consumers

    def on_append(self, replica: SimReplica, start_offset: int) -> None:
        """I4: an offset and a leader epoch name one record, on every replica and for good; the lineage knows it."""
        for offset, record in enumerate(replica.log.records[start_offset:], start_offset):
            if replica.log.epochs.epoch_for_offset(offset) != record.leader_epoch:
                self.fail(f"I4: {replica} has {record} at {offset}, its lineage is {replica.log.epochs}")
            known = self.records.setdefault((replica.partition, offset, record.leader_epoch), record)
            if known != record:
                self.fail(f"I4: {replica} has {record} at {offset}, another replica {known}")

    def on_truncate(self, replica: SimReplica, offset: int) -> None:
        self.world.counts["truncations"] += 1
        state, committed = self.truth[replica.partition], self.committed[replica.partition]
        records = replica.log.records
        cuts_committed = offset < min(len(committed), len(records)) and records[offset] == committed[offset]
        is_open = self.losses[replica.partition].is_open
        if cuts_committed and not is_open and replica.broker.broker_id in (*state.isr, *state.elr):
            self.fail(f"A7: {replica} truncates committed records from {offset} on")

    def on_followed(self, replica: SimReplica) -> None:
        high_watermark = replica.high_watermark
        self._check_visible(replica, max(0, high_watermark - 8), high_watermark)

    def on_consume(self, replica: SimReplica) -> None:
        self._check_visible(replica, 0, replica.high_watermark)

    def _check_visible(self, replica: SimReplica, start: int, end: int) -> None:
        losses = self.losses[replica.partition]
        is_leader = replica.leader is not None and replica.leader.leader_epoch >= losses.epoch
        if losses.epoch >= 0 and (losses.is_open or not is_leader):
            return  # followers show what is lost until they have heard of it
        committed = self.committed[replica.partition]
        if len(committed) < end or not replica.log.has(committed, start, end):
            self.fail(f"I2: {replica} shows records below {end} that were never committed")

    # -- the tier

    def on_local_deletion(self, replica: SimReplica) -> None:
        tiered_end = replica.bucket.read()[0].end
        if replica.log.local_log_start_offset > tiered_end:
            self.fail(
                f"I11: {replica} starts at {replica.log.local_log_start_offset}, the tier ends at {tiered_end}"
            )

    # -- the promise of KIP-966

    def may_set_min_isr(self, value: int) -> bool:
        """With 1 no loss at all is promised: not while one is being made up for."""
        self._forget_made_up_losses()
        if value == 1 and self.lossy and not self.world.mix.loses_all:
            return False
        if value > self.configured_min_isr:
            self.min_isr_raised = self.world.store.revision + 1
        self.configured_min_isr = value
        return True

    def may_lose_data(self, broker: SimBroker) -> bool:
        """One data-losing stop at a time, and none while a single replica may hold what was committed. With
        ``flush.mode=ack`` there is no limit."""
        if self.world.mix.flush_acks:
            return True
        if self.world.mix.loses_all:
            self.lossy[broker.broker_id] = broker.boot
            return True
        self._forget_made_up_losses()
        others = self.lossy.keys() - {broker.broker_id}
        if others or self._may_be_one_min_isr() or any(self.thin.values()):
            return False
        self.lossy[broker.broker_id] = broker.boot
        return True

    def _may_be_one_min_isr(self) -> bool:
        """Configured, or about to be written by a controller whose image is behind."""
        if self.configured_min_isr == 1:
            return True
        seen = min((b.revision for b in self.world.brokers.values() if b.is_up), default=0)
        return self.min_isr_raised > 0 and (seen < self.min_isr_raised or bool(self.world.store.calls))

    def _forget_made_up_losses(self) -> None:
        assert self.feed is not None
        for broker_id in list(self.lossy):
            image = self.feed.image.brokers.get(broker_id)
            states = [s for s in self.truth.values() if broker_id in s.replicas]
            is_back = image is not None and image.is_active and self._is_dealt_with(broker_id)
            if is_back and all(broker_id in s.isr and len(s.isr) >= s.min_isr for s in states):
                del self.lossy[broker_id]

    def _check_tier(self, p: int, state: PartitionState) -> None:
        """At rest: everything from the log start on is on the leader's disk or in the bucket."""
        bucket = self.world.buckets[p]
        bucket.check_tier()
        head = bucket.read()[0]
        leader = self.world.brokers[state.leader].replicas[p].log
        if leader.local_log_start_offset > max(head.end, leader.log_start_offset):
            self.fail(f"I12: p{p} begins at {leader.local_log_start_offset}, the tier ends at {head.end}")

    # -- the end

    def converged(self, away: int = 0) -> str:
        """Why the healed cluster has not come to rest; "" when it has. Without broker ``away`` it may."""
        for p, state in self.truth.items():
            if state.leader < 0:
                return f"nobody leads p{p}: {state}"
            if state.adding or state.removing:
                return f"p{p} is still being moved: {state}"
            if state.recovering and away not in state.replicas:
                return f"p{p} is still recovering: {state}"
            if set(state.isr) != set(state.replicas) - {away}:
                return f"the ISR of p{p} is not full: {state}"
            replicas = [self.world.brokers[b].replicas[p] for b in state.isr]
            leader = replicas[state.isr.index(state.leader)]
            if leader.leader is None or leader.leader.leader_epoch != state.leader_epoch:
                return f"{leader} does not know that it leads"
            end = leader.log.log_end_offset
            for replica in replicas:
                if replica.log.log_end_offset != end or replica.high_watermark != end:
                    return f"{replica} ends at {replica.log.log_end_offset}, {replica.high_watermark}; leader {end}"
        return ""

    def all_serve(self, away: int = 0) -> str:
        """Which broker is not back in the cluster, or not as it wishes to be, though nothing fails; "" when all are."""
        assert self.feed is not None
        for b in self.world.brokers.values():
            if b.broker_id == away:
                continue
            image = self.feed.image.brokers.get(b.broker_id)
            if image is None or not image.is_available or image.broker_epoch != b.broker_epoch:
                return f"broker {b.broker_id} is not back in the cluster: {image}"
            assert b.session is not None
            if not b.is_active or not b.session.is_as_wished():
                return f"broker {b.broker_id} is in the cluster, but not as it wishes: {image}"
        return ""

    def check_all(self, away: int = 0) -> None:
        """At rest: every replica has every committed record, and nothing else."""
        for p, state in self.truth.items():
            for broker_id in set(state.replicas) - {away}:
                log, committed = self.world.brokers[broker_id].replicas[p].log, self.committed[p]
                if len(log.records) != len(committed) or not log.has(committed, 0, len(committed)):
                    self.fail(f"I3: {broker_id}/p{p} differs from what was committed")
            self._check_tier(p, state)
            for producer in self.world.producers:
                for attempt in producer.acked(p):
                    offset = attempt.acked_offset
                    if self.losses[p].excuses(attempt.acked_epoch, offset):
                        continue
                    if offset >= len(self.committed[p]) or self.committed[p][offset].value != attempt.value:
                        self.fail(f"I3: {attempt.value} was acknowledged at {attempt.acked_offset}")
