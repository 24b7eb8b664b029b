"""Tracks which partitions of a consumer's session a fetch has to look at: those that it has not read to the end, and those
that changed since. The cost of a fetch, and of its wait, grows with them and not with the session.

Rules:

* each partition of the session is in ``session.stirred``, or it is quiet: then the watch is registered there, once;
* the first change of a quiet partition stirs it and ends its registration, so that whoever appends tells nobody again before
  the consumer has asked. While a fetch waits, it hears of every change;
* only an answer makes a partition quiet. What was looked at and not answered is looked at again;
* what a partition does not report (a log start moves, an ISR changes) is found in turn: each fetch checks ``RECHECKED``
  quiet partitions, which are all of a small session.

Bound: an entry per partition of the session. With the session it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from tierlog.broker.fetch.sessions import FetchedPartition, FetchSession
from tierlog.broker.replicas.partition import Partition

if TYPE_CHECKING:
    from tierlog.broker.fetch.partition_read import PartitionRead

RECHECKED = 100
_place = attrgetter("place")


class Waiting(Protocol):
    """A parked fetch."""

    def on_progress(self, partition: Partition, new_bytes: int) -> None: ...

    def wake(self) -> None:
        """Ends the wait."""


class ConsumerWatch:
    """The watch of one session."""

    __slots__ = ("_at", "_fetch", "_round", "_session", "_stirred", "fresh")

    def __init__(self, session: FetchSession) -> None:
        self._session = session
        self._stirred: dict[FetchedPartition, None] = dict.fromkeys(session.partitions.values())
        session.stirred = self._stirred
        session.watch = self
        # Where it is registered, and for what.
        self._at: dict[Partition, FetchedPartition] = {}
        self._fetch: Waiting | None = None
        # What has changed since a fetch was parked, in order.
        self.fresh: dict[FetchedPartition, None] = {}
        self._round: list[FetchedPartition] = []

    @classmethod
    def of(cls, session: FetchSession) -> ConsumerWatch | None:
        """The session's watch. None if a follower uses the session: it has a watch of its own."""
        if session.stirred is None:
            return cls(session)
        watch = session.watch
        return watch if isinstance(watch, cls) and session.stirred is watch._stirred else None

    def forget(self, asked: FetchedPartition) -> None:
        self._stirred.pop(asked, None)
        self._leave(asked)

    def close(self) -> None:
        """Stops watching; a fetch that waits looks once more."""
        for asked in list(self._at.values()):
            self._leave(asked)
        self._session.watch = self._session.stirred = None
        if self._fetch is not None:
            self._fetch.wake()

    @property
    def live_session(self) -> FetchSession | None:
        """None where it has ended."""
        return self._session if self._session.watch is self else None

    # -- what a fetch asks

    def take(self) -> list[FetchedPartition]:
        """The partitions to look at, in the session's order."""
        self._recheck()
        stirred = self._stirred
        for asked in [each for each in stirred if not self._has(each)]:
            del stirred[asked]
        return sorted(stirred, key=_place)

    def answered(self, read: PartitionRead) -> None:
        """The partition's part of the answer is settled: it is quiet, or the next fetch looks at it again."""
        asked = read.asked
        quiet_at = asked.quiet_at
        if quiet_at is not None and asked.is_quiet and self._has(asked):
            self._stirred.pop(asked, None)
            self._register(quiet_at, asked)
            return
        self._stirred[asked] = None
        asked.quiet_at = None
        self._leave(asked)

    def park(self, fetch: Waiting, reads: Mapping[FetchedPartition, PartitionRead]) -> None:
        """The fetch waits, also at the partitions that it has looked at."""
        for asked, read in reads.items():
            if read.partition is not None:
                self._register(read.partition, asked)
        self.wait(fetch)
        if any(asked not in reads for asked in self._stirred):
            fetch.wake()  # it has changed since the look

    def wait(self, fetch: Waiting) -> None:
        """The fetch is told what changes; one that waited before looks once more."""
        other, self._fetch = self._fetch, fetch
        self.fresh = {}
        if other is not None and other is not fetch:
            other.wake()

    def unpark(self, fetch: Waiting) -> None:
        if self._fetch is fetch:
            self._fetch = None

    def _has(self, asked: FetchedPartition) -> bool:
        return self._session.partitions.get(asked.key) is asked

    def _recheck(self) -> None:
        if not self._round:
            self._round = list(self._session.partitions.values())
        for asked in self._round[-RECHECKED:]:
            if asked.quiet_at is not None and not asked.is_quiet:
                self._stirred[asked] = None
                asked.quiet_at = None
                self._leave(asked)
        del self._round[-RECHECKED:]

    # -- reports of the partitions (Parked)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        asked = self._at.get(partition)
        if asked is None:
            return
        self._stirred[asked] = None
        asked.quiet_at = None
        fetch = self._fetch
        if fetch is None or new_bytes == 0:
            # The partition may be gone for good.
            self._leave(asked)
        if fetch is not None:
            self.fresh[asked] = None
            fetch.on_progress(partition, new_bytes)

    def _register(self, partition: Partition, asked: FetchedPartition) -> None:
        if asked.watched_at is not partition:
            self._leave(asked)
        if self._session.watch is self:
            asked.watched_at = partition
            self._at[partition] = asked
            partition.parked[id(self)] = self

    def _leave(self, asked: FetchedPartition) -> None:
        partition, asked.watched_at = asked.watched_at, None
        if partition is not None and self._at.get(partition) is asked:
            del self._at[partition]
            partition.parked.pop(id(self), None)
