"""The leader's view of one partition: who follows, who is in sync, how far everything is replicated.

Rules (reliability: A1-A5, KIP-497, KIP-966):

* the high watermark is the smallest log end over the *maximal* ISR, that is every ISR that the metadata store may
  hold while a change of it is unresolved;
* it never goes back on one leader epoch, and does not move while the ISR is smaller than ``min_isr``;
* ``min_isr`` comes from the partition's record, never from the topic config;
* a replica's log end counts only as far as its flush mode calls it durable, the leader's own included.

Invariants: I2 (high watermark monotone), I7 (ISR changes only through a committed record).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Follower:
    """Progress of one follower, from its fetches on this leader epoch only."""

    broker_epoch: int = -1
    # Next offset it will ask for; everything below is durable there. -1 until the first fetch of this epoch.
    log_end_offset: int = -1


@dataclass(slots=True)
class Leader:
    """State of a partition that this broker leads on ``leader_epoch``.

    ``durable_end_offset`` (exclusive) is the leader's own log end as its flush mode counts it.
    Invariant: ``high_watermark <= durable_end_offset``.
    """

    broker_id: int
    leader_epoch: int
    epoch_start_offset: int
    isr: frozenset[int]
    min_isr: int
    partition_epoch: int
    durable_end_offset: int
    high_watermark: int
    # ISR that a compare-and-set in flight may have installed already; united with ``isr`` for the watermark.
    pending_isr: frozenset[int] = frozenset()
    followers: dict[int, Follower] = field(default_factory=dict)
    # The usual case on the hot path: nobody else counts.
    alone: bool = field(init=False)

    def __post_init__(self) -> None:
        self.alone = self._is_alone()
        self.check()

    def _is_alone(self) -> bool:
        return (self.isr | self.pending_isr) == {self.broker_id} and self.min_isr <= 1

    @property
    def accepts_all_acks(self) -> bool:
        """Whether a produce with acks=all may be appended now (else NOT_ENOUGH_REPLICAS)."""
        return len(self.isr) >= self.min_isr

    def on_durable(self, end_offset: int) -> bool:
        """The own log is durable below ``end_offset``; True where the high watermark moved."""
        if end_offset <= self.durable_end_offset:
            return False
        self.durable_end_offset = end_offset
        if self.alone:
            self.high_watermark = end_offset
            return True
        return self._advance()

    def on_follower_fetch(self, broker_id: int, broker_epoch: int, fetch_offset: int) -> bool:
        """A follower asked, after its divergence check, for ``fetch_offset``; True where the watermark moved."""
        follower = self.followers.setdefault(broker_id, Follower())
        follower.broker_epoch = broker_epoch
        follower.log_end_offset = fetch_offset
        return self._advance()

    def on_partition_record(self, isr: frozenset[int], min_isr: int, partition_epoch: int) -> bool:
        """A committed record of the same leader epoch; older ones are ignored. True where the watermark moved."""
        if partition_epoch < self.partition_epoch:
            return False
        self.isr, self.min_isr, self.partition_epoch = isr, min_isr, partition_epoch
        self.pending_isr = frozenset()
        self.alone = self._is_alone()
        return self._advance()

    def _advance(self) -> bool:
        if len(self.isr) < self.min_isr:
            return False
        end = self.durable_end_offset
        for broker_id in self.isr | self.pending_isr:
            if broker_id != self.broker_id:
                follower = self.followers.get(broker_id)
                end = min(end, follower.log_end_offset if follower else -1)
        if end <= self.high_watermark:
            return False
        self.high_watermark = end
        return True

    def check(self) -> None:
        """Asserts I2's static half and the field invariants."""
        assert self.high_watermark <= self.durable_end_offset, "I2: high watermark above the durable end"
        assert self.broker_id in self.isr or not self.isr, "I7: a leader outside its ISR"
        assert self.min_isr >= 1
