"""What a replay will read: offsets per partition, resolved once, and the segments and local ranges that hold them.

Pure. A segment that the range cuts counts in proportion to its offsets; the read itself asks its index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tiering.model import SegmentEntry
from tierlog.replay.gets import get_count
from tierlog.types import TopicPartition

GET_LATENCY_S = 0.05
STREAM_BYTES_PER_SECOND = 60_000_000
DECODED_BYTES_PER_SECOND = 300_000_000
"""Of one process: for a first estimate of the time."""


class SegmentRead(NamedTuple):
    """Records with offsets in [start, end) of one segment object."""

    topic: str
    partition: int
    start_offset: int
    end_offset: int
    store: str
    """URL of the object store."""
    key: str
    entry: SegmentEntry

    @property
    def is_cut(self) -> bool:
        """Whether only a part of the segment is wanted."""
        return self.start_offset > self.entry.base_offset or self.end_offset < self.entry.end_offset

    @property
    def size_bytes(self) -> int:
        """Of the batches; an estimate where the range cuts the segment."""
        entry = self.entry
        share = (self.end_offset - self.start_offset) / (entry.end_offset - entry.base_offset)
        return round(entry.stored_bytes * share)

    @property
    def gets(self) -> int:
        return get_count(self.size_bytes, self.is_cut)


class LocalRead(NamedTuple):
    """Records with offsets in [start, end) that no bucket holds yet: asked from the leader."""

    topic: str
    partition: int
    start_offset: int
    end_offset: int
    size_bytes: int
    """An estimate."""


Read = SegmentRead | LocalRead


class PartitionPlan(NamedTuple):
    """[start, end) of one partition, oldest read first; the reads adjoin."""

    topic: str
    partition: int
    start_offset: int
    end_offset: int
    reads: tuple[Read, ...]

    @property
    def offsets(self) -> int:
        return self.end_offset - self.start_offset

    @property
    def remote_bytes(self) -> int:
        return sum(read.size_bytes for read in self.reads if isinstance(read, SegmentRead))

    @property
    def local_bytes(self) -> int:
        return sum(read.size_bytes for read in self.reads if isinstance(read, LocalRead))

    @property
    def gets(self) -> int:
        return sum(read.gets for read in self.reads if isinstance(read, SegmentRead))


class Plan(NamedTuple):
    partitions: tuple[PartitionPlan, ...]

    @property
    def offsets(self) -> int:
        return sum(part.offsets for part in self.partitions)

    @property
    def remote_bytes(self) -> int:
        return sum(part.remote_bytes for part in self.partitions)

    @property
    def local_bytes(self) -> int:
        return sum(part.local_bytes for part in self.partitions)

    @property
    def gets(self) -> int:
        return sum(part.gets for part in self.partitions)

    def seconds(self, parallel: int, processes: int, rate_bytes: int) -> float:
        """A rough estimate of the time; ``rate_bytes`` a second are asked for, 0: no limit."""
        total = self.remote_bytes + self.local_bytes
        transfer = self.gets * GET_LATENCY_S / parallel + total / (parallel * STREAM_BYTES_PER_SECOND)
        decoding = total / (DECODED_BYTES_PER_SECOND * max(processes, 1))
        return max(transfer, decoding, total / rate_bytes if rate_bytes else 0.0)

    def reads(self) -> list[Read]:
        """In order of time as far as segments tell it, and per partition in order of offsets."""
        waiting = [list(reversed(part.reads)) for part in self.partitions if part.reads]
        found: list[Read] = []
        while waiting:
            first = min(waiting, key=lambda reads: _time_of(reads[-1]))
            found.append(first.pop())
            if not first:
                waiting.remove(first)
        return found

    def stretches(self, count: int) -> list[list[Read]]:
        """The reads in order of partitions and offsets, in at most so many parts of about as many bytes each."""
        total, sofar = self.remote_bytes + self.local_bytes, 0
        found: list[list[Read]] = []
        for read in (read for part in self.partitions for read in part.reads):
            if len(found) < count and sofar * count >= total * len(found):
                found.append([])
            found[-1].append(read)
            sofar += read.size_bytes
        return found


def partition_plan(
    where: TopicPartition,
    start: int,
    end: int,
    segments: Iterable[SegmentRead],
    local_bytes_per_offset: float = 0.0,
) -> PartitionPlan:
    """``segments``: live ones in order, whole; those outside of the range are passed over. What none holds is local."""
    reads: list[Read] = []
    at = start

    def local(until: int) -> None:
        if at < until:
            size = round((until - at) * local_bytes_per_offset)
            reads.append(LocalRead(where.topic, where.partition, at, until, size))

    for segment in segments:
        if segment.end_offset <= at:
            continue
        if segment.start_offset >= end:
            break
        local(min(segment.start_offset, end))
        at = max(at, segment.start_offset)
        until = min(segment.end_offset, end)
        reads.append(segment._replace(start_offset=at, end_offset=until))
        at = until
    local(end)
    return PartitionPlan(where.topic, where.partition, start, end, tuple(reads))


def gaps(start: int, end: int, done: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of [start, end) none of the ranges ``done`` covers; these may come in any order."""
    found = []
    at = start
    for first, behind in sorted(done):
        if at < min(first, end):
            found.append((at, min(first, end)))
        at = max(at, behind)
    if at < end:
        found.append((at, end))
    return found


def joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same offsets, in order; those that overlap or adjoin are one, empty ones none."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _time_of(read: Read) -> float:
    """When its records begin; local ones are the newest."""
    return read.entry.first_timestamp_ms if isinstance(read, SegmentRead) else float("inf")
