"""Many cold readers through one small memory: hardly a byte is fetched twice, in large ranges, and nobody starves.

The figures do not depend on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.patience import PATIENT_S
from tests.unit.tiering.many_partitions import MIB, Consumed, ManyPartitions
from tiering.objects.delayed import DelayedStore
from tiering.reading.reader import RemoteReader

PARTITIONS = 24
BUDGET_BYTES = 64 * MIB
GIB = 1 << 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ManyPartitions:
    return asyncio.run(ManyPartitions.make(tmp_path_factory.mktemp("world"), PARTITIONS, 1, 48 * MIB))


def reader_of(world: ManyPartitions, cache_bytes: int = BUDGET_BYTES) -> RemoteReader:
    return RemoteReader(DelayedStore(world.store, get_delay_ms=2), cache_bytes=cache_bytes)


async def all_of(*consumers: asyncio.Future[Consumed]) -> list[Consumed]:
    async with asyncio.timeout(PATIENT_S):
        return await asyncio.gather(*consumers)


async def test_a_hundred_readers_of_24_partitions(world: ManyPartitions) -> None:
    reader, rng = reader_of(world), random.Random(1)
    starts = world.bases[: len(world.bases) // 2]
    await all_of(
        *(
            asyncio.ensure_future(world.consume(reader, n % PARTITIONS, rng.choice(starts), f"reader {n}"))
            for n in range(100)
        )
    )
    served = reader.served_bytes
    assert reader.stats.fetched_bytes <= 1.1 * served
    assert reader.stats.get_count / served * GIB <= 300
    assert reader.cached_bytes <= BUDGET_BYTES
    await reader.close()
