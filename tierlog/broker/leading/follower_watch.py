"""Tracks which partitions have news for a follower: one watch per fetch session, over all partitions of the session.

A partition is quiet while the follower has its log end and has been told all about it. A quiet partition is looked at again
only after it changed: the cost of a fetch grows with the partitions that have news, not with the size of its session.

Rules:

* a partition reports appends, moves of the high watermark, ISR changes and the end of its role. Retention moves a log start
  without a report: ``RECHECKED`` partitions, in turn, are checked for that every ``RECHECK_MS``;
* an append ends the follower's presence in that partition: from then on only a fetch that reads it proves the follower's
  position;
* a follower's newest session replaces any older watch of the same broker.

Bound: an entry per partition of the session; one watch per other broker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.sessions import FetchedPartition, FetchSession
from tierlog.broker.replicas.partition import Partition

if TYPE_CHECKING:
    from tierlog.broker.replicas.partition import ParkedReplica

RECHECKED = 100
RECHECK_MS = 100


class ReplicaWatch:
    """The watch of one session. ``fetch``: the follower's parked fetch, if any. ``parked``: as what the kernel parks one,
    once it has (``kernel_fetch``)."""

    __slots__ = ("_at", "_stirred", "broker_id", "fetch", "parked", "rechecked_ms", "session")

    def __init__(self, broker_id: int, session: FetchSession) -> None:
        self.fetch: ParkedReplica | None = None
        self.parked: ParkedReplica | None = None
        self.broker_id = broker_id
        self.session = session
        self.rechecked_ms = 0
        self._stirred: dict[FetchedPartition, None] = dict.fromkeys(session.partitions.values())
        session.stirred = self._stirred
        self._at: dict[Partition, FetchedPartition] = {}

    def close(self) -> None:
        """Stops watching."""
        self.session.stirred = None
        for partition in self._at:
            partition.parked_replicas.pop(id(self), None)
        self._at.clear()

    # -- what a fetch asks

    def take(self, now_ms: int) -> list[FetchedPartition]:
        """Returns the partitions to look at: those that changed, were named anew, or were not quiet at the last look."""
        if now_ms - self.rechecked_ms >= RECHECK_MS:
            self.recheck(now_ms)
        partitions = self.session.partitions
        taken = [asked for asked in self._stirred if partitions.get(asked.key) is asked]
        self._stirred.clear()
        return taken

    def put_back(self, unseen: Collection[FetchedPartition]) -> None:
        """Gives back partitions that were taken but not looked at; they come first the next time."""
        if not unseen:
            return
        later = list(self._stirred)
        self._stirred.clear()
        self._stirred.update(dict.fromkeys(unseen))
        self._stirred.update(dict.fromkeys(later))

    def seen(self, reads: Iterable[PartitionRead]) -> None:
        """Notes that these were looked at: from now on their partitions report changes to this watch."""
        for read in reads:
            partition = read.partition
            if partition is not None:
                self._at[partition] = read.asked
                partition.parked_replicas[id(self)] = self

    def answered(self, reads: Iterable[PartitionRead]) -> None:
        """Has the next fetch look again at the partitions that are not quiet."""
        for read in reads:
            if read.asked.quiet_at is None:
                self._stirred[read.asked] = None

    def recheck(self, now_ms: int) -> None:
        """Looks for moves that nobody reports, at some of the partitions."""
        self.rechecked_ms = now_ms
        partitions = self.session.partitions
        for _ in range(min(RECHECKED, len(partitions))):
            key, asked = partitions.popitem(last=False)
            partitions[key] = asked
            quiet = asked.quiet_at
            if quiet is not None and (
                quiet.changes != asked.quiet_changes
                or quiet.log.log_end_offset != asked.fetch_offset
                or quiet.log.log_start_offset != asked.sent_log_start_offset
            ):
                self._stir(quiet)

    # -- reports of the partitions (ParkedReplica)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        self._stir(partition)
        if self.fetch is not None:
            self.fetch.on_progress(partition, new_bytes)
        if new_bytes == 0:
            # The partition may be gone for good; if not, ``seen`` watches it again after the next look.
            self._at.pop(partition, None)
            partition.parked_replicas.pop(id(self), None)

    def on_watermark_moved(self, partition: Partition) -> None:
        self._stir(partition)
        if self.fetch is not None:
            self.fetch.on_watermark_moved(partition)

    def on_changed(self, partition: Partition) -> None:
        self._stir(partition)

    def _stir(self, partition: Partition) -> None:
        asked = self._at.get(partition)
        if asked is None:
            return
        self._stirred[asked] = None
        asked.quiet_at = None
        if partition.leader is not None:
            partition.leader.on_stirred(self.broker_id)


class Watches:
    """One per broker: the watches of its followers, by the follower's broker id."""

    def __init__(self) -> None:
        self._by_broker: dict[int, ReplicaWatch] = {}

    @property
    def table(self) -> dict[int, ReplicaWatch]:
        """By the follower's broker id, as they are at any time: for the kernel, which only looks."""
        return self._by_broker

    def __iter__(self) -> Iterator[ReplicaWatch]:
        return iter(self._by_broker.values())

    def of(self, broker_id: int, session: FetchSession) -> ReplicaWatch:
        """The watch of this session; a watch of another session of the same broker ends."""
        current = self.of_now(broker_id, session)
        if current is not None:
            return current
        watch = self._by_broker.get(broker_id)
        if watch is not None:
            watch.close()
        watch = self._by_broker[broker_id] = ReplicaWatch(broker_id, session)
        return watch

    def of_now(self, broker_id: int, session: FetchSession) -> ReplicaWatch | None:
        """The watch of this session, if that is the broker's."""
        watch = self._by_broker.get(broker_id)
        return (
            watch if watch is not None and watch.session is session and session.stirred is not None else None
        )

    def end(self, broker_id: int, session: FetchSession) -> None:
        """Ends the watch of this session: the follower has registered anew, or the session is new."""
        watch = self._by_broker.get(broker_id)
        if watch is not None and watch.session is session:
            watch.close()
