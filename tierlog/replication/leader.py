"""The leader's state of one partition: its followers, the ISR, and the high watermark.

Rules (reliability: A1-A5, KIP-497, KIP-841, KIP-903, KIP-966):

* the high watermark is the smallest log end over the *maximal* ISR: all brokers of every ISR that the metadata store may
  hold while ISR changes are unresolved (``isr_changes``);
* the high watermark never goes back on one leader epoch, and does not move while the ISR is smaller than ``min_isr``;
* ``min_isr`` comes from the partition's record, never from the topic config;
* a replica's log end counts only as far as its flush mode calls it durable, the leader's own included. A follower's is
  taken only from a fetch of this leader epoch that passed the divergence check;
* a follower joins the ISR only when it has everything below the high watermark *and* below this epoch's start;
* a follower whose log ends at the leader's log start begins anew there if the lineage has forgotten the epoch of its last
  record: its tail may be of another history, which the divergence check could not see;
* until the high watermark has reached the epoch's start it may be below an earlier leader's, so clients are not told
  where the log ends (``is_watermark_settled``).

Invariants: I2 (high watermark monotone), I7 (ISR changes only through a committed record).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tierlog.errors import ErrorCode
from tierlog.replication.fetches import DivergingEpoch, FollowerFetch, ReplicaLog
from tierlog.replication.isr_changes import IsrChange, IsrChanges
from tierlog.replication.progress import FollowerProgress, Presence
from tierlog.replication.read_replica import ReadableReplica


class FetchVerdict(NamedTuple):
    """The result of a follower's fetch. With an error or ``diverging`` nothing was recorded; answer just that."""

    error: ErrorCode = ErrorCode.NONE
    diverging: DivergingEpoch | None = None
    # The high watermark moved: release the requests that wait for it, parked fetches of followers included.
    watermark_moved: bool = False
    # The follower has enough records to join the ISR: call ``propose_isr_change``.
    may_join: bool = False


# Verdicts without an error, by (watermark moved, may join), so that nothing is allocated per fetch.
_SERVED = (
    (FetchVerdict(), FetchVerdict(may_join=True)),
    (FetchVerdict(watermark_moved=True), FetchVerdict(watermark_moved=True, may_join=True)),
)


@dataclass(slots=True)
class Leader:
    """State of a partition that this broker leads on ``leader_epoch``. Offsets are exclusive ends.

    ``epoch_start_offset``: the log end at the election, the first offset of this epoch. ``durable_end_offset``: end of the
    leader's own log as far as its flush mode calls it durable; moved by ``on_durable``. ``high_watermark``: moved by
    ``advance``. Invariant: ``high_watermark <= durable_end_offset``.
    """

    broker_id: int
    leader_epoch: int
    epoch_start_offset: int
    isr: frozenset[int]
    min_isr: int
    partition_epoch: int
    durable_end_offset: int
    high_watermark: int
    # The assigned replicas, this broker included: only they may fetch as followers.
    replicas: frozenset[int] = frozenset()
    # The registration under which this broker was elected; its ISR changes are valid under no other.
    broker_epoch: int = -1
    # Time of the election: followers in the ISR count as caught up then, so that they have time to fetch.
    elected_ms: int = 0
    changes: IsrChanges = field(default_factory=IsrChanges)
    followers: dict[int, FollowerProgress] = field(default_factory=dict)
    # Only this broker is in the maximal ISR, and ``min_isr`` allows that: a fast path for the high watermark.
    alone: bool = field(init=False)
    # Progress of the maximal ISR without this broker.
    _members: tuple[FollowerProgress, ...] = field(init=False)

    def __post_init__(self) -> None:
        for broker_id in self.isr:
            if broker_id != self.broker_id:
                self.followers[broker_id] = FollowerProgress(last_caught_up_ms=self.elected_ms)
        self._count_members()
        self.check()

    def _count_members(self) -> None:
        maximal = self.maximal_isr
        self.alone = maximal == {self.broker_id} and self.min_isr <= 1
        self._members = tuple(
            self.followers.setdefault(broker_id, FollowerProgress())
            for broker_id in maximal
            if broker_id != self.broker_id
        )

    @property
    def maximal_isr(self) -> frozenset[int]:
        return self.isr | self.changes.pending

    # -- produce and consume

    @property
    def accepts_all_acks(self) -> bool:
        """Whether a produce with acks=all may be appended now (else NOT_ENOUGH_REPLICAS)."""
        return len(self.isr) >= self.min_isr

    @property
    def is_watermark_settled(self) -> bool:
        """Whether ListOffsets for the log end, or by time, may be answered (else OFFSET_NOT_AVAILABLE)."""
        return self.high_watermark >= self.epoch_start_offset

    def low_watermark(self, log_start_offset: int, alive: Collection[int]) -> int:
        """The smallest log start of this replica and of the followers that are alive: DeleteRecords is done when it
        has reached the requested offset. -1 while one of them has not fetched yet."""
        starts = [
            self.followers[broker_id].log_start_offset if broker_id in self.followers else -1
            for broker_id in self.replicas
            if broker_id != self.broker_id and broker_id in alive
        ]
        return min(starts, default=log_start_offset) if not starts else min(log_start_offset, *starts)

    def readable_followers(self, fetch_offset: int, now_ms: int) -> list[ReadableReplica]:
        """The followers in the ISR whose log holds ``fetch_offset`` or ends there (KIP-392)."""
        return [
            ReadableReplica(broker_id, follower.log_end_offset, now_ms - follower.caught_up_ms)
            for broker_id, follower in self.followers.items()
            if broker_id in self.isr and follower.log_start_offset <= fetch_offset <= follower.log_end_offset
        ]

    def on_durable(self, end_offset: int) -> bool:
        """The leader's own log is durable below ``end_offset``; returns whether the high watermark moved."""
        if end_offset <= self.durable_end_offset:
            return False
        self.durable_end_offset = end_offset
        if self.alone:
            self.high_watermark = end_offset
            return True
        return self.advance()

    # -- followers

    def on_follower_fetch(self, fetch: FollowerFetch, log: ReplicaLog, now_ms: int) -> FetchVerdict:
        """Checks a follower's fetch and records what it proves. ``log`` is the leader's own."""
        refusal = self._refusal(fetch, log)
        if refusal is not None:
            return refusal
        broker_id, broker_epoch, _, fetch_offset, _, log_start_offset = fetch
        follower = self.followers.get(broker_id)
        if follower is None:
            follower = self.followers[broker_id] = FollowerProgress()
        follower.on_fetch(broker_epoch, fetch_offset, log_start_offset, log.log_end_offset, now_ms)
        moved = self.advance()
        return _SERVED[moved][broker_id not in self.isr and self._has_enough(follower)]

    def _refusal(self, fetch: FollowerFetch, log: ReplicaLog) -> FetchVerdict | None:
        """The verdict on a fetch that fails a check, else None. In Kafka's order: epochs, divergence, range."""
        broker_id, broker_epoch, leader_epoch, fetch_offset, last_fetched_epoch, log_start_offset = fetch
        if leader_epoch < self.leader_epoch:
            return FetchVerdict(ErrorCode.FENCED_LEADER_EPOCH)
        if leader_epoch > self.leader_epoch or broker_id not in self.replicas:
            return FetchVerdict(ErrorCode.UNKNOWN_LEADER_EPOCH)  # the follower's metadata is newer than ours
        known = self.followers.get(broker_id)
        if known is not None and broker_epoch < known.broker_epoch:
            return FetchVerdict(ErrorCode.STALE_BROKER_EPOCH)
        end_offset = log.log_end_offset
        if fetch_offset < log.log_start_offset:
            return FetchVerdict(ErrorCode.OFFSET_OUT_OF_RANGE)
        if log_start_offset < fetch_offset == log.log_start_offset and _is_forgotten(last_fetched_epoch, log):
            return FetchVerdict(ErrorCode.OFFSET_OUT_OF_RANGE)
        if last_fetched_epoch >= 0:
            epoch, epoch_end_offset = log.epochs.end_offset_for(last_fetched_epoch, end_offset)
            if epoch < last_fetched_epoch or epoch_end_offset < fetch_offset:
                return FetchVerdict(diverging=DivergingEpoch(epoch, epoch_end_offset))
        if fetch_offset == end_offset:
            return None
        if fetch_offset > end_offset:
            return FetchVerdict(ErrorCode.OFFSET_OUT_OF_RANGE)
        if fetch_offset < log.local_log_start_offset:
            return FetchVerdict(ErrorCode.OFFSET_MOVED_TO_TIERED_STORAGE)
        return None

    def awaits_high_watermark(self, broker_id: int) -> bool:
        """Whether the follower does not know the present high watermark: then its fetch is answered soon, and
        otherwise it may be parked until there are records or the watermark moves."""
        follower = self.followers.get(broker_id)
        return follower is None or follower.high_watermark_sent < self.high_watermark

    def on_fetch_answered(self, broker_id: int) -> None:
        """The present high watermark goes out to this follower."""
        follower = self.followers.get(broker_id)
        if follower is not None:
            follower.high_watermark_sent = self.high_watermark

    def on_quiet(self, broker_id: int, presence: Presence, log_end_offset: int) -> bool:
        """The follower has everything: its fetches need not be reported here until something changes, and count through
        ``presence`` meanwhile. False if they must be reported: the follower is behind, or is not in the ISR yet."""
        follower = self.followers.get(broker_id)
        if (
            follower is None
            or follower.log_end_offset != log_end_offset
            or follower.broker_epoch != presence.broker_epoch
            or broker_id not in self.isr
        ):
            return False
        follower.presence = presence
        return True

    def on_stirred(self, broker_id: int) -> None:
        """Something has changed: the follower's fetches no longer count through its presence. It was caught up until the
        last of them."""
        follower = self.followers.get(broker_id)
        if follower is not None:
            follower.end_presence()

    # -- the ISR

    def propose_isr_change(
        self, now_ms: int, lag_time_max_ms: int, log_end_offset: int, available: Mapping[int, int]
    ) -> IsrChange | None:
        """The one change that is due, if any: removes lagging followers and adds those that have caught up.

        Call it when a verdict has ``may_join``, and every half ``replica.lag.time.max.ms``. ``available``: broker → broker
        epoch of the brokers that are unfenced and not shutting down. The returned change is in flight: exactly one of the
        three outcomes below must be reported for it."""
        if not self.changes.may_try(self.partition_epoch, now_ms):
            return None
        lagging = {
            broker_id
            for broker_id in self.isr
            if broker_id != self.broker_id
            and self.followers[broker_id].is_lagging(log_end_offset, now_ms, lag_time_max_ms)
        }
        joining = {
            broker_id: follower.broker_epoch
            for broker_id, follower in sorted(self.followers.items())
            if self._may_join(broker_id, follower, available)
        }
        if not lagging and not joining:
            return None
        change = IsrChange(
            (self.isr - lagging).union(joining), self.partition_epoch, self.broker_epoch, joining
        )
        self.changes.sent(change)
        self._count_members()
        return change

    def _may_join(self, broker_id: int, follower: FollowerProgress, available: Mapping[int, int]) -> bool:
        return (
            broker_id not in self.isr
            and broker_id in self.replicas
            and available.get(broker_id) == follower.broker_epoch
            and self._has_enough(follower)
        )

    def _has_enough(self, follower: FollowerProgress) -> bool:
        """A5: whether the follower's log end has reached the high watermark and this epoch's start. Below the epoch's start
        the high watermark may be behind what an earlier leader committed."""
        return follower.log_end_offset >= max(self.high_watermark, self.epoch_start_offset)

    def on_isr_change_applied(self, change: IsrChange, partition_epoch: int) -> bool:
        """The store has applied the change under ``partition_epoch``; returns whether the high watermark moved."""
        if self.changes.in_flight is not change:
            return False  # the watch has already shown the new record
        return self.on_partition_record(change.isr, self.min_isr, partition_epoch)

    def on_isr_change_refused(self, change: IsrChange, found_partition_epoch: int, now_ms: int) -> bool:
        """The change was not written. ``found_partition_epoch``: the partition epoch that the same transaction found;
        ``change.partition_epoch`` if the store did nothing at all. Returns whether the high watermark moved."""
        self.changes.refused(change, found_partition_epoch, now_ms)
        self._count_members()
        return self.advance()

    def on_isr_change_unknown(self, change: IsrChange, now_ms: int) -> None:
        """The change may be applied, now or later: its ISR stays in the maximal ISR until a newer record comes."""
        self.changes.unknown(change, now_ms)
        self._count_members()

    def on_partition_record(
        self,
        isr: frozenset[int],
        min_isr: int,
        partition_epoch: int,
        replicas: frozenset[int] | None = None,
    ) -> bool:
        """A committed record of the same leader epoch; ignored unless its partition epoch is newer. Returns whether the
        high watermark moved."""
        if partition_epoch <= self.partition_epoch:
            return False
        self.isr, self.min_isr, self.partition_epoch = isr, min_isr, partition_epoch
        if replicas is not None:
            self.replicas = replicas
            for gone in [b for b in self.followers if b not in replicas]:
                del self.followers[gone]
        self.changes.resolved()
        self._count_members()
        return self.advance()

    def on_stall(self, gap_ms: int) -> None:
        """The loop stood still for ``gap_ms`` and heard no fetch: no follower is counted as lagging for that time."""
        for follower in self.followers.values():
            follower.on_stall(gap_ms)

    def advance(self) -> bool:
        if len(self.isr) < self.min_isr:
            return False
        end = self.durable_end_offset
        for follower in self._members:
            if follower.log_end_offset < end:
                end = follower.log_end_offset
        if end <= self.high_watermark:
            return False
        self.high_watermark = end
        return True

    def check(self) -> None:
        """Asserts the static part of I2 and the invariants of the fields."""
        assert self.high_watermark <= self.durable_end_offset, "I2: high watermark above the durable end"
        assert self.broker_id in self.isr or not self.isr, "I7: a leader outside its ISR"
        assert self.min_isr >= 1
        assert self.changes.in_flight is None or self.changes.in_flight.isr <= self.changes.pending, (
            "a proposed ISR counts as pending"
        )


def _is_forgotten(leader_epoch: int, log: ReplicaLog) -> bool:
    """Whether the lineage begins after ``leader_epoch``, so that the end of that epoch is no longer known."""
    earliest = log.epochs.earliest
    return earliest is not None and 0 <= leader_epoch < earliest.leader_epoch
