"""One replica of the simulation: a log, and the production machine of its role."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.sim.disk import Record, SimLog
from tests.sim.tier import Bucket, Content, SimTier
from tiering.model import TierHead
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
from tierlog.log.producers.state import KnownBatch
from tierlog.metadata.commits import joining_from_image, partition_change
from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.control.log_ends import EMPTY_LOG_EPOCH
from tierlog.metadata.records import LogEnd, PartitionState
from tierlog.metadata.transactions import TxnResult
from tierlog.replication import follower as effects
from tierlog.replication.fetches import FetchReply, FollowerFetch
from tierlog.replication.follower import Follower
from tierlog.replication.isr_changes import IsrChange
from tierlog.replication.leader import Leader
from tierlog.replication.proof import Proof
from tierlog.replication.roles import RoleChange, follow, lead, role_change
from tierlog.replication.truncation import disagrees_with_tier
from tierlog.replication.waiters import OffsetWaiters

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.clients import Attempt

MAX_RECORDS_PER_FETCH = 4


class Waiting(NamedTuple):
    """A produce that waits for its acknowledgement."""

    attempt: Attempt
    offset: int


def last_epoch(log: SimLog) -> int:
    """Of the last record."""
    found = log.epochs.epoch_for_offset(log.log_end_offset - 1) if log.log_end_offset else None
    return EMPTY_LOG_EPOCH if found is None else found


def removable_end(replica: SimReplica) -> int:
    """How far local segments may go: I11."""
    return replica.bucket.read()[0].end


class SimReplica:
    def __init__(self, broker: SimBroker, topic_id: bytes, partition: int) -> None:
        self.broker = broker
        self.world = broker.world
        self.topic_id = topic_id
        self.partition = partition
        self.log = SimLog(self.world.rng.randint(2, 5))
        self.checkpointed_high_watermark = 0
        self.leader: Leader | None = None
        self.follower: Follower | None = None
        self.state: PartitionState | None = None
        self.waiters: OffsetWaiters[Waiting] = OffsetWaiters()
        self.tier: SimTier | None = None
        self.shard: GroupShard | None = None
        self.carried_high_watermark = 0
        # What the disk says: that this replica is whole. ``unsure``: a write of it is under way.
        self.is_noted = False
        self.unsure: bool | None = None
        # The disk has lost what was synced; recovery will find it.
        self.is_damaged = False
        self.proof = Proof(broker.wants_synced, 0)

    def __repr__(self) -> str:
        return f"{self.broker.broker_id}/p{self.partition}"

    @property
    def high_watermark(self) -> int:
        if self.leader is not None:
            return self.leader.high_watermark
        return self.carried_high_watermark if self.follower is None else self.follower.high_watermark

    @property
    def durable_end_offset(self) -> int:
        return self.log.synced_end_offset if self.proof.counts_synced else self.log.log_end_offset

    # -- life

    def restart(self) -> None:
        self.log.restart()
        if self.unsure is not None:
            self.is_noted, self.unsure = self.world.rng.random() < 0.5, None
        self._open_proof()
        if self.world.mix.is_tiered:
            self._compare_with_tier()
        self._carry(self.checkpointed_high_watermark)
        self.on_record()

    def _carry(self, high_watermark: int) -> None:
        """From role to role: what is gone from this disk was committed."""
        log = self.log
        self.carried_high_watermark = min(max(high_watermark, log.local_log_start_offset), log.log_end_offset)

    def lose_power(self) -> int:
        """How many records are gone."""
        rng, log = self.world.rng, self.log
        if self.world.mix.changes_mode and rng.random() < 0.3:
            log.synced_end_offset = rng.randint(log.local_log_start_offset, log.synced_end_offset)
            self.is_damaged = True
        return log.lose_power(rng)

    def _open_proof(self) -> None:
        """As the broker does before it registers: what the note says counts, unless the mode is another by now."""
        wants_synced = self.broker.wants_synced
        self.is_noted = self.is_noted and wants_synced and not self.is_damaged
        self.is_damaged = False
        self.proof = Proof(wants_synced, self.log.log_end_offset)
        if self.is_noted:
            self.proof.on_written(True)

    def configure(self) -> None:
        """``flush.mode`` may have changed."""
        before = self.proof.counts_synced
        self.proof.configure(self.broker.wants_synced, self.log.log_end_offset)
        self._take_effect(before)

    def _take_effect(self, before: bool) -> None:
        if before and not self.proof.counts_synced and self.leader is not None:
            self.after_leader_step(self.leader.on_durable(self.durable_end_offset))

    def note_step(self) -> None:
        """Begins to write the note anew, or is told that it is written."""
        if self.unsure is not None:
            before, self.is_noted, self.unsure = self.proof.counts_synced, self.unsure, None
            self.proof.on_written(self.is_noted)
            self._take_effect(before)
        elif not self.proof.is_settled and self.broker.broker_epoch:
            is_named = self.belongs_in_file()
            if is_named != self.is_noted:
                self.unsure = is_named
                self.proof.on_write_begun(is_named)
                self.world.counts["notes written" if is_named else "notes removed"] += 1

    def belongs_in_file(self) -> bool:
        broker, log = self.broker, self.log
        assert broker.feed is not None
        record = broker.feed.image.partition(self.topic_id, self.partition)
        is_in_sync = record is not None and broker.broker_id in record.isr and broker.is_handled
        return self.proof.belongs_in_file(is_in_sync, log.synced_end_offset, log.log_end_offset)

    def forget(self) -> None:
        """The process has ended."""
        self.leader = self.follower = self.state = self.tier = self.shard = None
        self.waiters = OffsetWaiters()

    def drop(self) -> None:
        """It is assigned elsewhere."""
        self._resign()
        self.forget()

    def checkpoint(self) -> None:
        self.checkpointed_high_watermark = self.high_watermark

    # -- roles

    def on_record(self) -> None:
        broker = self.broker
        assert broker.feed is not None
        record = broker.feed.image.partition(self.topic_id, self.partition)
        if record is None:
            return
        if self.state is None or record.partition_epoch > self.state.partition_epoch:
            self.state = record
        change = role_change(record, broker.broker_id, self.leader, self.follower, may_lead=broker.is_handled)
        match change:
            case RoleChange.LEAD:
                self._lead(record)
            case RoleChange.FOLLOW:
                self._follow(record)
            case RoleChange.RESIGN:
                self._resign()
            case RoleChange.UPDATE if self.leader is not None:
                moved = self.leader.on_partition_record(
                    frozenset(record.isr), record.min_isr, record.partition_epoch, frozenset(record.replicas)
                )
                self.after_leader_step(moved)

    def _follow(self, record: PartitionState) -> None:
        self._resign()
        self.follower = follow(
            record,
            self.broker.broker_id,
            self.broker.broker_epoch,
            high_watermark=min(self.carried_high_watermark, self.log.log_end_offset),
            is_lossy=self.broker.may_have_lost,
        )

    def _lead(self, record: PartitionState) -> None:
        self._resign()
        if record.recovering and self.world.mix.is_tiered:
            self._lead_behind_the_tier()
        self.log.assign_epoch(record.leader_epoch)
        self.leader = lead(
            record,
            self.broker.broker_id,
            self.broker.broker_epoch,
            log_end_offset=self.log.log_end_offset,
            durable_end_offset=self.durable_end_offset,
            high_watermark=self.carried_high_watermark,
            now_ms=self.broker.now_ms,
        )
        self.world.note(self, f"leads on epoch {record.leader_epoch} from {self.log.log_end_offset}")
        self.world.checker.on_lead(self)
        self.after_leader_step(True)

    def _resign(self) -> None:
        self.carried_high_watermark = self.high_watermark
        if self.leader is not None:
            self.world.counts["resignations"] += 1
            for _, waiting, _ in self.waiters.drain():
                waiting.attempt.answer(ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)
        self.leader = self.follower = self.tier = self.shard = None

    # -- the tier

    @property
    def bucket(self) -> Bucket:
        return self.world.buckets[self.partition]

    def _compare_with_tier(self) -> None:
        """As the broker does before it registers: a log that is behind its tier begins anew at the tiered end."""
        head, _, pages = self.bucket.read()
        footer = self.bucket.footer_at(head, pages)
        if disagrees_with_tier(self.log, head.end, footer.records[-1].leader_epoch if footer else None):
            self._begin_at(head, footer)

    def _lead_behind_the_tier(self) -> None:
        """Elected without proof: see broker.offload.lead_check."""
        self._compare_with_tier()
        self._carry(self.carried_high_watermark)

    def _begin_at(self, head: TierHead, footer: Content | None) -> None:
        self.world.counts["started from the tier"] += 1
        self.world.note(self, f"starts from the tier at {head.end}")
        self.log.start_at(
            head.end, footer.lineage if footer else (), footer.producer_snapshot if footer else None
        )
        self.log.advance_log_start(head.start)

    def start_from_tier(self) -> None:
        """What the driver does with the effect; it may fail, and is tried again."""
        follower = self.follower
        assert follower is not None
        head, _, pages = self.bucket.read()
        if self.world.rng.random() < 0.2:
            follower.on_failure(None, self.broker.now_ms)
            return
        self._begin_at(head, self.bucket.footer_at(head, pages))
        follower.on_started_from_tier(follower.leader_epoch, head.end)

    def copy_step(self) -> None:
        """One step of the leader's work on the tier."""
        if self.leader is None or not self.broker.broker_epoch:
            return
        if self.tier is None:
            self.tier = SimTier(self, self.bucket, self.world.attempts)
            self.tier.adopt()
        self.bucket.disturb(self.bucket.read()[0])
        next(self.tier.steps)

    def come_clean(self) -> None:
        """At rest: see tier."""
        self.copy_step()
        assert self.tier is not None
        self.tier.come_clean()

    def delete_records(self) -> None:
        if self.leader is not None and self.tier is not None:
            self.tier.delete_records(self.world.rng.randint(0, self.high_watermark))

    def delete_local(self) -> None:
        """Local retention: below the tiered end that the store names."""
        end = removable_end(self)
        before = self.log.local_log_start_offset
        if self.log.delete_below(min(end, self.high_watermark)) > before:
            self.world.counts["local segments deleted"] += 1
            self.world.checker.on_local_deletion(self)

    def say_log_end(self, leader_epoch: int) -> LogEnd | None:
        """While nobody leads on ``leader_epoch``."""
        follower, log = self.follower, self.log
        if self.leader is not None or (follower is not None and follower.leader_epoch > leader_epoch):
            return None
        return LogEnd(
            self.broker.broker_epoch, leader_epoch, last_epoch(log), log.log_end_offset, self.proof.is_whole
        )

    # -- leading

    def produce(self, attempt: Attempt) -> None:
        leader, answer = self.leader, attempt.answer
        if leader is None:
            answer(ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)
            return
        if attempt.needs_all_acks and not leader.accepts_all_acks:
            answer(ErrorCode.NOT_ENOUGH_REPLICAS, -1)
            return
        record = Record(leader.leader_epoch, attempt.value, attempt.producer_id, attempt.sequence)
        verdict = self.log.check_producer(record)
        if isinstance(verdict, KnownBatch):
            offset = verdict.first_offset
            self.world.counts["duplicates recognised"] += 1
        elif verdict:
            answer(verdict, -1)
            return
        else:
            offset = self.log.log_end_offset
            self.log.append((record,))
            self.world.checker.on_append(self, offset)
        if not attempt.needs_all_acks:
            answer(ErrorCode.NONE, offset)
        else:
            self.waiters.park(offset + 1, Waiting(attempt, offset))
        self.after_leader_step(leader.on_durable(self.durable_end_offset) or isinstance(verdict, KnownBatch))

    def park(self, attempt: Attempt, end_offset: int) -> None:
        """Answered when everything below ``end_offset`` is committed."""
        self.waiters.park(end_offset, Waiting(attempt, end_offset - 1))

    def after_leader_step(self, moved: bool) -> None:
        leader = self.leader
        if leader is None or not moved:
            return
        leader.check()
        self.world.checker.on_high_watermark(self)
        for _, waiting, _ in self.waiters.release(leader.high_watermark):
            self.world.checker.on_acknowledged(self, waiting.attempt, waiting.offset)
            waiting.attempt.answer(ErrorCode.NONE, waiting.offset)

    def sync(self) -> None:
        self.log.sync()
        if self.leader is not None:
            self.after_leader_step(self.leader.on_durable(self.durable_end_offset))

    def on_fetch(self, fetch: FollowerFetch) -> None:
        leader, log = self.leader, self.log
        if leader is None:
            self._reply(fetch, FetchReply(ErrorCode.NOT_LEADER_OR_FOLLOWER), ())
            return
        verdict = leader.on_follower_fetch(fetch, log, self.broker.now_ms)
        self.after_leader_step(verdict.watermark_moved)
        if verdict.error or verdict.diverging is not None:
            self.world.counts["fetches refused"] += 1
            reply = FetchReply(
                verdict.error, -1, log.log_start_offset, log.log_end_offset, verdict.diverging, False
            )
            self._reply(fetch, reply, ())
            return
        count = self.world.rng.randint(1, MAX_RECORDS_PER_FETCH)
        records = tuple(log.records[fetch.fetch_offset : fetch.fetch_offset + count])
        leader.on_fetch_answered(fetch.broker_id)
        reply = FetchReply(
            high_watermark=leader.high_watermark,
            log_start_offset=log.log_start_offset,
            has_records=bool(records),
        )
        self._reply(fetch, reply, records)
        if verdict.may_join:
            self.change_isr(self.world.mix.lag_time_max_ms)

    def _reply(self, fetch: FollowerFetch, reply: FetchReply, records: tuple[Record, ...]) -> None:
        target = self.world.brokers[fetch.broker_id]

        def deliver() -> None:
            if (replica := target.replicas.get(self.partition)) is not None:
                replica.on_reply(fetch, reply, records)

        self.world.network.send(
            self.broker.broker_id,
            fetch.broker_id,
            deliver,
        )

    def change_isr(self, lag_time_max_ms: int) -> None:
        leader, state, broker = self.leader, self.state, self.broker
        if leader is None or state is None or state.partition_epoch != leader.partition_epoch:
            return
        assert broker.feed is not None
        image = broker.feed.image
        available = {b.broker_id: b.broker_epoch for b in image.brokers.values() if b.is_available}
        change = leader.propose_isr_change(broker.now_ms, lag_time_max_ms, self.log.log_end_offset, available)
        if change is None:
            return
        joining = {b: joining_from_image(image, b, epoch) for b, epoch in change.joining.items()}
        new = with_isr(state, change.isr)
        txn = partition_change(
            self.topic_id,
            self.partition,
            state,
            new,
            broker_id=broker.broker_id,
            broker_epoch=change.broker_epoch,
            joining={b: guard for b, guard in joining.items() if guard is not None},
        )
        self.world.note(self, f"wants the ISR {sorted(change.isr)} on {change.partition_epoch}")

        def answered(result: TxnResult | None) -> None:
            if self.leader is leader:
                self._on_isr_outcome(leader, change, new, result)

        self.world.store.send(broker.broker_id, txn, broker.guard(answered))
        self.after_leader_step(True)

    def _on_isr_outcome(
        self, leader: Leader, change: IsrChange, new: PartitionState, result: TxnResult | None
    ) -> None:
        if result is None:
            leader.on_isr_change_unknown(change, self.broker.now_ms)
        elif result.ok:
            assert self.state is not None
            if result.revision > self.state.partition_epoch:
                self.state = new._replace(partition_epoch=result.revision)
            self.after_leader_step(leader.on_isr_change_applied(change, result.revision))
        else:
            self.world.counts["ISR changes refused"] += 1
            found = result.gets[0].mod_revision if result.gets and result.gets[0] else change.partition_epoch
            self.after_leader_step(leader.on_isr_change_refused(change, found, self.broker.now_ms))

    # -- following

    @property
    def is_idle_follower(self) -> bool:
        return self.follower is not None and self.follower.outstanding is None

    def break_connection(self) -> None:
        if self.follower is not None and self.follower.outstanding is not None:
            self.follower.on_failure(self.follower.outstanding, self.broker.now_ms)

    def send_fetch(self) -> None:
        follower = self.follower
        if follower is None or not self.broker.broker_epoch:
            return
        fetch = follower.next_fetch(self.log, self.durable_end_offset, self.broker.now_ms)
        if fetch is None:
            return
        target = self.world.brokers[follower.leader_id]

        def deliver() -> None:
            if target.is_up and (replica := target.replicas.get(self.partition)) is not None:
                replica.on_fetch(fetch)

        self.world.network.send(self.broker.broker_id, follower.leader_id, deliver)

    def truncate(self, offset: int) -> None:
        """Synced before anything is fetched."""
        self.log.truncate_to(offset)

    def on_reply(self, fetch: FollowerFetch, reply: FetchReply, records: tuple[Record, ...]) -> None:
        follower, log = self.follower, self.log
        if follower is None:
            return
        for effect in follower.on_reply(fetch, reply, log, self.broker.now_ms):
            match effect:
                case effects.Append():
                    log.append(records)
                    self.world.checker.on_append(self, fetch.fetch_offset)
                    follower.on_appended(log.log_end_offset)
                case effects.Truncate(offset):
                    self.world.note(self, f"truncates from {log.log_end_offset} to {offset}")
                    self.world.checker.on_truncate(self, offset)
                    self.truncate(offset)
                case effects.StartAt(offset):
                    log.start_at(offset, (), None)
                    log.advance_log_start(offset)
                case effects.StartFromTier():
                    self.start_from_tier()
                case _:
                    self.world.checker.fail(f"{self}: {effect}")
        follower.check(log)
        log.advance_log_start(min(follower.log_start_offset, follower.high_watermark))
        self.world.checker.on_followed(self)
