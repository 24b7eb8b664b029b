"""ISR changes on their way to the metadata store, and the ISRs that the store may hold because of them.

A change is a compare-and-set on the partition epoch. Until its outcome is certain the ISR in the store may be the old or
the new one, so the high watermark is computed over both: the *maximal* ISR. The outcomes:

* applied: the new ISR stands in the store, under a new partition epoch;
* refused, and the store still has the partition epoch that was compared with: a guard failed, nothing was written;
* refused, and the store has a newer partition epoch: something else was written; the watch will show it;
* unknown: the change may be applied now, later, or never. Only a record with a newer partition epoch settles this, since
  the delayed change then fails its comparison for good. So another change may be tried on the same partition epoch
  meanwhile: if it is applied, the lost one can no longer be.

One change is in flight per partition; failures wait 50 ms, doubled up to 1 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BACKOFF_MIN_MS = 50
BACKOFF_MAX_MS = 1000

NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class IsrChange:
    """Effect: write ``isr`` if the partition epoch is still ``partition_epoch`` and this broker's registration is still
    ``broker_epoch``. ``joining``: joining broker → broker epoch in its last Fetch, which the write must check (KIP-903)."""

    isr: frozenset[int]
    partition_epoch: int
    broker_epoch: int
    joining: Mapping[int, int]


@dataclass(slots=True)
class IsrChanges:
    """The ISR changes of one led partition that are not settled yet."""

    # Every broker that a change without a certain outcome, in flight or not, may have put into the ISR.
    pending: frozenset[int] = NOBODY
    in_flight: IsrChange | None = None
    # The part of ``pending`` from earlier changes: those of unknown outcome, or refused with a newer partition epoch.
    unresolved: frozenset[int] = NOBODY
    # The newest partition epoch that the store is known to have: no change is tried before the watch has shown it.
    awaited_epoch: int = 0
    retry_ms: int = 0
    backoff_ms: int = field(default=BACKOFF_MIN_MS)

    def may_try(self, partition_epoch: int, now_ms: int) -> bool:
        return self.in_flight is None and now_ms >= self.retry_ms and partition_epoch >= self.awaited_epoch

    def sent(self, change: IsrChange) -> None:
        assert self.in_flight is None, "I7: one change at a time"
        self.in_flight = change
        self._recount()

    def refused(self, change: IsrChange, found_partition_epoch: int, now_ms: int) -> None:
        if self.in_flight is not change:
            return
        if found_partition_epoch != change.partition_epoch:
            self.unresolved |= change.isr
            self.awaited_epoch = max(self.awaited_epoch, found_partition_epoch)
        self._failed(now_ms)

    def unknown(self, change: IsrChange, now_ms: int) -> None:
        if self.in_flight is not change:
            return
        self.unresolved |= change.isr
        self._failed(now_ms)

    def resolved(self) -> None:
        """A record with a newer partition epoch came: it contains the earlier changes, or they will never be applied."""
        self.in_flight = None
        self.unresolved = self.pending = NOBODY
        self.retry_ms, self.backoff_ms = 0, BACKOFF_MIN_MS

    def _failed(self, now_ms: int) -> None:
        self.in_flight = None
        self.retry_ms = now_ms + self.backoff_ms
        self.backoff_ms = min(2 * self.backoff_ms, BACKOFF_MAX_MS)
        self._recount()

    def _recount(self) -> None:
        self.pending = self.unresolved if self.in_flight is None else self.unresolved | self.in_flight.isr
