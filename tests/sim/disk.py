"""A replica's log in the simulation: records in a list, of which the disk holds some for certain.

Lineage and producer state are the production classes. A process crash keeps the list (page cache); a power loss keeps a
random prefix of it that has at least what was synced. Truncation is synced at once, as the protocol demands. Segments
roll at each log's own rhythm, with a producer snapshot each, so that the tier meets other roll points after an election.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tierlog.errors import ErrorCode
from tierlog.log.leader_epochs import EpochLineage
from tierlog.log.producers.state import KnownBatch, ProducerState
from tierlog.records.batch import BatchHeader


class Record(NamedTuple):
    """A batch of one record. ``value`` is unique in the world; ``producer_id`` -1: not idempotent."""

    leader_epoch: int
    value: int
    producer_id: int = -1
    sequence: int = -1


# Stands in the list for what is no longer on this disk.
GONE = Record(-1, -1)


def header_of(record: Record, offset: int) -> BatchHeader:
    return BatchHeader(
        offset, 0, record.leader_epoch, 2, 0, 0, 0, 0, 0, record.producer_id, 0, record.sequence, 1
    )


class SimLog:
    """``records[i]`` has offset i; below ``local_log_start_offset`` they are gone."""

    def __init__(self, roll_records: int = 4) -> None:
        self.records: list[Record] = []
        self.log_start_offset = 0
        self.local_log_start_offset = 0
        self.synced_end_offset = 0
        # What a truncation that was not synced may bring back: its offset, and what had been synced behind it.
        self.revivable: tuple[int, tuple[Record, ...]] | None = None
        self.epochs = EpochLineage()
        self.producers = ProducerState()
        self.roll_records = roll_records
        # Base offset of each segment → producer snapshot there.
        self.segments: dict[int, bytes] = {0: self.producers.encode_snapshot()}

    @property
    def log_end_offset(self) -> int:
        return len(self.records)

    @property
    def active_base_offset(self) -> int:
        return next(reversed(self.segments))

    def sealed(self) -> list[tuple[int, int]]:
        return list(pairwise(self.segments))

    def check_producer(self, record: Record) -> ErrorCode | KnownBatch:
        if record.producer_id < 0:
            return ErrorCode.NONE
        return self.producers.check(header_of(record, 0))

    def append(self, records: Sequence[Record]) -> None:
        for record in records:
            offset = len(self.records)
            if offset - self.active_base_offset >= self.roll_records:
                self.segments[offset] = self.producers.encode_snapshot()
            self.epochs.assign(record.leader_epoch, offset)
            self.records.append(record)
            if record.producer_id >= 0:
                self.producers.update(header_of(record, offset), offset, 0)

    def assign_epoch(self, leader_epoch: int) -> None:
        self.epochs.assign(leader_epoch, len(self.records))

    def truncate_to(self, offset: int) -> None:
        if offset < self.local_log_start_offset:
            self.start_at(offset, self.epochs.entries, None)
            return
        del self.records[offset:]
        self.epochs.truncate_from_end(offset)
        self.synced_end_offset = min(self.synced_end_offset, offset)
        self.log_start_offset = min(self.log_start_offset, offset)
        for base in [base for base in self.segments if base > offset]:
            del self.segments[base]
        base = self.active_base_offset
        self.producers = ProducerState()
        self.producers.load_snapshot(self.segments[base], base, 0)
        for i in range(base, offset):
            if self.records[i].producer_id >= 0:
                self.producers.update(header_of(self.records[i], i), i, 0)

    def start_at(self, offset: int, lineage: Iterable[tuple[int, int]], snapshot: bytes | None) -> None:
        """An empty log, with lineage and producers of what lies before it."""
        self.records = [GONE] * offset
        self.local_log_start_offset = self.synced_end_offset = offset
        self.log_start_offset = min(self.log_start_offset, offset)
        self.epochs = EpochLineage(lineage)
        self.epochs.truncate_from_end(offset)
        self.producers = ProducerState()
        if snapshot is not None:
            self.producers.load_snapshot(snapshot, offset, 0)
        self.segments = {offset: self.producers.encode_snapshot()}

    def delete_below(self, offset: int) -> int:
        """Sealed segments that end at or below ``offset`` go; the new local start."""
        bases = list(self.segments)
        base = bases[bisect_right(bases, offset) - 1] if offset >= bases[0] else bases[0]
        for i in range(self.local_log_start_offset, base):
            self.records[i] = GONE
        for gone in [b for b in bases if b < base]:
            del self.segments[gone]
        self.local_log_start_offset = base
        self.synced_end_offset = max(self.synced_end_offset, base)
        return base

    def advance_log_start(self, offset: int) -> None:
        if offset > self.log_start_offset:
            self.log_start_offset = offset
            self.epochs.truncate_from_start(offset)

    def has(self, records: Sequence[Record], start: int, end: int) -> bool:
        """Whether this disk holds the same as ``records`` in [start, end), as far as it is here at all.

        Below the log start nobody reads, and a follower may keep what diverged there: the leader's lineage, cut at the
        log start, no longer tells (Kafka's the same)."""
        start = max(start, self.local_log_start_offset, self.log_start_offset)
        return start >= end or (len(self.records) >= end and self.records[start:end] == records[start:end])

    def truncate_unsynced(self, offset: int) -> None:
        """As ``truncate_to``, but the disk does not know of it before the next sync."""
        old = self.revivable
        if offset < self.synced_end_offset and (old is None or offset < old[0]):
            self.revivable = (offset, tuple(self.records[offset : self.synced_end_offset]))
        self.truncate_to(offset)

    def sync(self) -> None:
        self.synced_end_offset = len(self.records)
        self.revivable = None

    def lose_power(self, rng: random.Random) -> int:
        """How many records are gone."""
        if self.revivable is not None:
            offset, tail = self.revivable
            self.truncate_to(min(offset, len(self.records)))
            self.append(tail)
            self.sync()
            return 0
        end = rng.randint(self.synced_end_offset, len(self.records))
        lost = len(self.records) - end
        self.truncate_to(end)
        self.sync()
        return lost

    def restart(self) -> None:
        """Recovery: what the lineage says of this disk's part comes from the records again, since it is not synced at
        an election."""
        self.epochs.truncate_from_end(self.local_log_start_offset)
        for offset in range(self.local_log_start_offset, len(self.records)):
            self.epochs.assign(self.records[offset].leader_epoch, offset)
