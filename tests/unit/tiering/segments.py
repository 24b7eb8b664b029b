"""Synthetic batches, segment files and remote partitions for the tests of the tier."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

from crc32c import crc32c

from tiering.catalog import Catalog
from tiering.codec import AbortedTransaction
from tiering.copying.mover import Mover
from tiering.copying.port import Target
from tiering.copying.source import SegmentSource
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry, TierHead
from tiering.objects.port import ObjectStore
from tiering.reading.reader import RemotePartition

KEYS = PartitionKeys("cluster-1", bytes(range(16)), 3)


def batch(
    base_offset: int,
    count: int,
    payload: bytes,
    *,
    leader_epoch: int = 0,
    max_timestamp_ms: int = 1_000,
    producer_id: int = -1,
) -> bytes:
    """One v2 batch whose records are ``payload`` (the tier never looks inside)."""
    body = struct.pack(
        ">hiqqqhii", 0, count - 1, max_timestamp_ms, max_timestamp_ms, producer_id, -1, -1, count
    )
    body += payload
    head = struct.pack(">qiibI", base_offset, 9 + len(body), leader_epoch, 2, crc32c(body))
    return head + body


@dataclass
class LocalBatch:
    base_offset: int
    end_offset: int
    data: bytes
    max_timestamp_ms: int


@dataclass
class LocalLog:
    """What a reader should get, whatever was tiered: the reference of the tests."""

    batches: list[LocalBatch] = field(default_factory=list)

    @property
    def end_offset(self) -> int:
        return self.batches[-1].end_offset if self.batches else 0

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that holds ``offset``, the first always."""
        out = b""
        for one in self.batches:
            if one.end_offset <= offset:
                continue
            if out and len(out) + len(one.data) > max_bytes:
                break
            out += one.data
            if len(out) > max_bytes:
                break
        return out

    def tail(self, offset: int) -> bytes:
        return b"".join(b.data for b in self.batches if b.end_offset > offset)


def extend(
    log: LocalLog,
    rng: random.Random,
    count: int,
    *,
    payload_bytes: tuple[int, int] = (10, 3_000),
    leader_epoch: int = 0,
    timestamps: tuple[int, int] = (1_000, 9_000),
) -> list[LocalBatch]:
    """Append ``count`` random batches; returns them."""
    added = []
    for _ in range(count):
        base = log.end_offset
        records = rng.randint(1, 20)
        timestamp = rng.randint(*timestamps)
        data = batch(
            base,
            records,
            rng.randbytes(rng.randint(*payload_bytes)),
            leader_epoch=leader_epoch,
            max_timestamp_ms=timestamp,
        )
        added.append(LocalBatch(base, base + records, data, timestamp))
        log.batches.append(added[-1])
    return added


def write_source(
    path: Path,
    batches: list[LocalBatch],
    *,
    start_batch: int = 0,
    aborted: tuple[AbortedTransaction, ...] = (),
    lineage: tuple[tuple[int, int], ...] = ((0, 0),),
    producer_snapshot: bytes = b"",
) -> SegmentSource:
    """A segment file with these batches, of which the first ``start_batch`` are already tiered."""
    path.write_bytes(b"".join(b.data for b in batches))
    return SegmentSource(
        path=str(path),
        start_position=sum(len(b.data) for b in batches[:start_batch]),
        end_position=sum(len(b.data) for b in batches),
        base_offset=batches[start_batch].base_offset,
        end_offset=batches[-1].end_offset,
        lineage=lineage,
        aborted=aborted,
        producer_snapshot=producer_snapshot,
    )


@dataclass
class Tier:
    """A remote partition that grows by segments of a local log."""

    store: ObjectStore
    directory: Path
    log: LocalLog = field(default_factory=LocalLog)
    head: TierHead = field(default_factory=TierHead.empty)
    uploads: int = 0

    async def add(self, batches: list[LocalBatch], **facts: object) -> SegmentEntry:
        """Copy the batches as one segment and commit it."""
        self.uploads += 1
        source = write_source(self.directory / f"{self.uploads}.log", batches, **facts)  # type: ignore[arg-type]
        mover = Mover(self.store, clock_ms=lambda: 5_000)
        entry = await mover.copy(source, Target(KEYS, 1, self.uploads.to_bytes(16, "big")))
        await mover.close()
        self.head = self.head.with_committed(entry)
        return entry

    @property
    def partition(self) -> RemotePartition:
        return RemotePartition(KEYS, Catalog(self.head))
