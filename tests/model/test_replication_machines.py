"""One leader after another over three replicas, in any order of fetches, replies, losses and ISR changes: what a
leader has called committed stands in every later leader.

The smallest world that has all of the machines in it; ``tests/sim`` is the large one. The store applies an ISR change
when the rule says so, later, or never; replies may be lost, kept back or repeated.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.replication.logs import ListLog
from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.records import PartitionState
from tierlog.replication.fetches import FetchReply, FollowerFetch
from tierlog.replication.follower import Append, Follower, Truncate
from tierlog.replication.isr_changes import IsrChange
from tierlog.replication.leader import Leader
from tierlog.replication.roles import follow, lead

BROKERS = (1, 2, 3)
AVAILABLE = dict.fromkeys(BROKERS, 1)


class Values(ListLog):
    """Records with a value each, so that two of one epoch can be told apart."""

    def __init__(self) -> None:
        self.values: list[int] = []
        super().__init__()

    def truncate_to(self, offset: int) -> None:
        super().truncate_to(offset)
        del self.values[offset:]


class Replicas(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.record = PartitionState(1, 1, BROKERS, BROKERS, 2, partition_epoch=1)
        self.logs = {b: Values() for b in BROKERS}
        self.watermarks = dict.fromkeys(BROKERS, 0)
        self.leaders: dict[int, Leader] = {}
        self.followers: dict[int, Follower] = {}
        self.fetches: list[tuple[int, FollowerFetch]] = []
        self.replies: list[tuple[int, FollowerFetch, FetchReply, list[tuple[int, int]]]] = []
        self.changes: list[tuple[int, IsrChange]] = []
        self.committed: list[tuple[int, int]] = []
        self.value = 0
        for b in BROKERS:
            self.apply_record(b)

    def apply_record(self, b: int) -> None:
        log, record = self.logs[b], self.record
        leader = self.leaders.get(b)
        if leader is not None and record.leader == b and leader.leader_epoch == record.leader_epoch:
            leader.on_partition_record(frozenset(record.isr), record.min_isr, record.partition_epoch)
        elif record.leader == b:
            self.followers.pop(b, None)
            log.epochs.assign(record.leader_epoch, log.log_end_offset)
            end = log.log_end_offset
            self.leaders[b] = lead(
                record, b, 1, log_end_offset=end, durable_end_offset=end, high_watermark=self.watermarks[b], now_ms=0
            )  # fmt: skip
        elif b not in self.followers or self.followers[b].leader_epoch < record.leader_epoch:
            self.leaders.pop(b, None)
            self.followers[b] = follow(record, b, 1, high_watermark=self.watermarks[b], is_lossy=False)

    def entries(self, b: int) -> list[tuple[int, int]]:
        return list(zip(self.logs[b].records, self.logs[b].values, strict=True))

    @rule(b=st.sampled_from(BROKERS))
    def metadata(self, b: int) -> None:
        self.apply_record(b)

    @rule(b=st.sampled_from(BROKERS))
    def elect(self, b: int) -> None:
        if b in self.record.isr and b != self.record.leader:
            self.record = self.record._replace(
                leader=b, leader_epoch=self.record.leader_epoch + 1, partition_epoch=self.record.partition_epoch + 1
            )  # fmt: skip

    @rule(b=st.sampled_from(BROKERS), count=st.integers(1, 3))
    def produce(self, b: int, count: int) -> None:
        leader = self.leaders.get(b)
        if leader is not None and leader.accepts_all_acks:
            for _ in range(count):
                self.value += 1
                self.logs[b].append([leader.leader_epoch])
                self.logs[b].values.append(self.value)
            leader.on_durable(self.logs[b].log_end_offset)

    @rule(b=st.sampled_from(BROKERS))
    def fetch(self, b: int) -> None:
        follower = self.followers.get(b)
        if follower is not None:
            asked = follower.next_fetch(self.logs[b], self.logs[b].log_end_offset, 10**9)
            if asked is not None:
                self.fetches.append((follower.leader_id, asked))

    @precondition(lambda self: self.fetches)
    @rule(data=st.data(), again=st.booleans())
    def serve(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.fetches) - 1))
        to, asked = self.fetches[at] if again else self.fetches.pop(at)
        leader, log = self.leaders.get(to), self.logs[to]
        if leader is None:
            return
        verdict = leader.on_follower_fetch(asked, log, 0)
        records = self.entries(to)[asked.fetch_offset :][:2]
        if verdict.error or verdict.diverging is not None:
            records = []
        reply = FetchReply(
            verdict.error, leader.high_watermark, 0, log.log_end_offset, verdict.diverging, bool(records)
        )
        self.replies.append((asked.broker_id, asked, reply, records))

    @precondition(lambda self: self.replies)
    @rule(data=st.data(), again=st.booleans(), is_lost=st.booleans())
    def answer(self, data: st.DataObject, again: bool, is_lost: bool) -> None:
        at = data.draw(st.integers(0, len(self.replies) - 1))
        b, asked, reply, records = self.replies[at] if again else self.replies.pop(at)
        follower, log = self.followers.get(b), self.logs[b]
        if follower is None:
            return
        if is_lost:
            follower.on_failure(asked, 0)
            return
        for effect in follower.on_reply(asked, reply, log, 10**9):
            if isinstance(effect, Append):
                for epoch, value in records:
                    log.append([epoch])
                    log.values.append(value)
                follower.on_appended(log.log_end_offset)
            else:
                assert isinstance(effect, Truncate), effect
                log.truncate_to(effect.offset)
        follower.check(log)

    @rule(b=st.sampled_from(BROKERS), now_ms=st.sampled_from([0, 40_000, 80_000]))
    def change_isr(self, b: int, now_ms: int) -> None:
        leader = self.leaders.get(b)
        if leader is not None:
            change = leader.propose_isr_change(now_ms, 30_000, self.logs[b].log_end_offset, AVAILABLE)
            if change is not None:
                self.changes.append((b, change))

    @precondition(lambda self: self.changes)
    @rule(data=st.data(), is_told=st.booleans())
    def store(self, data: st.DataObject, is_told: bool) -> None:
        b, change = self.changes.pop(data.draw(st.integers(0, len(self.changes) - 1)))
        applied = self.record.partition_epoch == change.partition_epoch
        if applied:
            new = with_isr(self.record, change.isr)
            self.record = new._replace(partition_epoch=self.record.partition_epoch + 1)
            self.record.check()
        leader = self.leaders.get(b)
        if leader is None:
            return
        if not is_told:
            leader.on_isr_change_unknown(change, 0)
        elif applied:
            leader.on_isr_change_applied(change, self.record.partition_epoch)
        else:
            leader.on_isr_change_refused(change, self.record.partition_epoch, 0)

    @precondition(lambda self: self.changes)
    @rule(data=st.data())
    def time_out(self, data: st.DataObject) -> None:
        """The leader gives up waiting; the store may still apply it."""
        b, change = data.draw(st.sampled_from(self.changes))
        if b in self.leaders:
            self.leaders[b].on_isr_change_unknown(change, 0)

    @invariant()
    def what_is_committed_stays(self) -> None:
        if not hasattr(self, "record"):
            return
        for b, leader in self.leaders.items():
            leader.check()
            self.watermarks[b] = max(self.watermarks[b], leader.high_watermark)
            mine = self.entries(b)
            for offset in range(min(len(self.committed), leader.high_watermark)):
                assert mine[offset] == self.committed[offset], "I3"
            self.committed += mine[len(self.committed) : leader.high_watermark]
            if leader.leader_epoch == self.record.leader_epoch:
                assert mine[: len(self.committed)] == self.committed, "I3: a leader without committed records"
                assert set(self.record.isr) <= leader.maximal_isr, "A3"
        for b, follower in self.followers.items():
            self.watermarks[b] = follower.high_watermark
            assert self.entries(b)[: follower.high_watermark] == self.committed[: follower.high_watermark], (
                "I4"
            )


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(max_examples=60, stateful_step_count=60, deadline=None, derandomize=True)
