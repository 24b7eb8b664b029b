"""What has news for a follower: one watch per session of its fetches, at all partitions of the session at once.

A partition that the follower stands at the end of, and knows all about, is looked at again when something has changed there:
a fetch costs what it finds, not what its session holds.

Rules:

* the partition itself tells of appends, high watermarks, ISR changes and the end of its role; what moves a log start without
  a word (retention) is found by looking at ``RECHECKED`` partitions, in turn, every ``RECHECK_MS``;
* an append ends the follower's presence there: from then on only a fetch that is served says how far it is;
* a follower's newest session takes the place of any other of the same broker.

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
    """``fetch``: the one that is parked, if any."""

    __slots__ = ("_at", "_broker_id", "_rechecked_ms", "_stirred", "fetch", "session")

    def __init__(self, broker_id: int, session: FetchSession) -> None:
        self.fetch: ParkedReplica | None = None
        self._broker_id = broker_id
        self.session = session
        self._rechecked_ms = 0
        self._stirred: dict[FetchedPartition, None] = dict.fromkeys(session.partitions.values())
        session.stirred = self._stirred
        self._at: dict[Partition, FetchedPartition] = {}

    def close(self) -> None:
        """It watches nothing any more."""
        self.session.stirred = None
        for partition in self._at:
            partition.parked_replicas.pop(id(self), None)
        self._at.clear()

    # -- what a fetch asks

    def take(self, now_ms: int) -> list[FetchedPartition]:
        """Those to look at: what has changed, what was asked for anew, and what was not quiet when it was looked at last."""
        if now_ms - self._rechecked_ms >= RECHECK_MS:
            self._rechecked_ms = now_ms
            self._recheck()
        partitions = self.session.partitions
        taken = [asked for asked in self._stirred if partitions.get(asked.key) is asked]
        self._stirred.clear()
        return taken

    def put_back(self, unseen: Collection[FetchedPartition]) -> None:
        """Taken, and not looked at; they come first the next time."""
        if not unseen:
            return
        later = list(self._stirred)
        self._stirred.clear()
        self._stirred.update(dict.fromkeys(unseen))
        self._stirred.update(dict.fromkeys(later))

    def seen(self, reads: Iterable[PartitionRead]) -> None:
        """They were looked at: from here on their partitions tell of changes."""
        for read in reads:
            partition = read.partition
            if partition is not None:
                self._at[partition] = read.asked
                partition.parked_replicas[id(self)] = self

    def answered(self, reads: Iterable[PartitionRead]) -> None:
        """What is not quiet is looked at by the next fetch as well."""
        for read in reads:
            if read.asked.quiet_at is None:
                self._stirred[read.asked] = None

    def _recheck(self) -> None:
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

    # -- what its partitions tell (ParkedReplica)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        self._stir(partition)
        if self.fetch is not None:
            self.fetch.on_progress(partition, new_bytes)
        if new_bytes == 0:
            # It may be gone for good; where it is not, it is watched again as soon as it has been looked at.
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
            partition.leader.on_stirred(self._broker_id)


class Watches:
    """One per broker: the watch of each follower that fetches in a session, by its broker id."""

    def __init__(self) -> None:
        self._by_broker: dict[int, ReplicaWatch] = {}

    def __iter__(self) -> Iterator[ReplicaWatch]:
        return iter(self._by_broker.values())

    def of(self, broker_id: int, session: FetchSession) -> ReplicaWatch:
        """That of this session; one of another session ends here."""
        watch = self._by_broker.get(broker_id)
        if watch is not None and watch.session is session and session.stirred is not None:
            return watch
        if watch is not None:
            watch.close()
        watch = self._by_broker[broker_id] = ReplicaWatch(broker_id, session)
        return watch

    def end(self, broker_id: int, session: FetchSession) -> None:
        """The follower begins anew in this session."""
        watch = self._by_broker.get(broker_id)
        if watch is not None and watch.session is session:
            watch.close()
