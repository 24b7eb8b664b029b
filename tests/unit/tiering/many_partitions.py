"""Many remote partitions for the price of one: each has objects of its own, all with the same bytes in memory."""

from __future__ import annotations

import asyncio
import random
import struct
from dataclasses import dataclass
from pathlib import Path

from tests.unit.tiering.segments import KEYS, Tier, extend
from tiering.catalog import Catalog
from tiering.keys import PartitionKeys
from tiering.model import TierHead
from tiering.objects.memory import MemoryStore
from tiering.objects.port import ObjectStore
from tiering.reading.holding import Reader
from tiering.reading.reader import RemotePartition, RemoteReader

MIB = 1 << 20
_BASE_AND_SIZE = struct.Struct(">qi")
_COUNT_AT = 23


@dataclass
class Consumed:
    """What one consumer has got."""

    next_offset: int
    size_bytes: int = 0
    empty_reads: int = 0


@dataclass
class ManyPartitions:
    store: ObjectStore
    partitions: list[RemotePartition]
    bases: list[int]
    """Base offsets of all batches, the same in each partition."""

    @staticmethod
    async def make(directory: Path, count: int, segments: int, segment_bytes: int) -> ManyPartitions:
        """``count`` partitions of the same ``segments`` objects of about ``segment_bytes`` each."""
        store = MemoryStore()
        rng, tier = random.Random(1), Tier(store, directory)
        for _ in range(segments):
            await tier.add(extend(tier.log, rng, segment_bytes // 16_000, payload_bytes=(16_000, 16_000)))
        partitions = []
        for number in range(count):
            keys = PartitionKeys("cluster-1", bytes(range(16)), 100 + number)
            head = TierHead.empty()
            for entry in tier.head.tail:
                own = entry._replace(uuid=rng.randbytes(16))
                _, data = await store.get(KEYS.segment(entry), bytes_max=1 << 40)
                await store.put(keys.segment(own), data, size_bytes=len(data))
                head = head.with_committed(own)
            partitions.append(RemotePartition(keys, Catalog(head)))
        return ManyPartitions(store, partitions, [one.base_offset for one in tier.log.batches])

    async def consume(
        self,
        reader: RemoteReader,
        partition: int,
        offset: int,
        name: str,
        *,
        read_bytes: int = MIB,
        pause_s: float = 0.0,
        size_bytes: int = 1 << 40,
    ) -> Consumed:
        """Reads on as a client does, to the end or until it has ``size_bytes``; checks that no batch is left out."""
        view, got = self.partitions[partition], Consumed(offset)
        loop = asyncio.get_running_loop()
        while got.next_offset < view.catalog.end and got.size_bytes < size_bytes:
            read = await reader.read(
                view, got.next_offset, read_bytes, deadline=loop.time() + 0.5, reader=Reader(name, name)
            )
            got.empty_reads += not read.size_bytes
            if read.size_bytes:
                base, length = _BASE_AND_SIZE.unpack_from(b"".join(part[:12] for part in read.buffers)[:12])
                assert base <= got.next_offset < read.next_offset
                assert length > 0
            read.accept()
            got.size_bytes += read.size_bytes
            got.next_offset = read.next_offset
            await asyncio.sleep(pause_s)
        return got
