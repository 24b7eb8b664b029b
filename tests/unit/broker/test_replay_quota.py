"""The brokers' quota for replays holds them to its rate, whatever their client id, and nobody else."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from tests.unit.broker.test_config_effects import create, running
from tierlog.admin.client import SOFTWARE as ORDINARY
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.network.replay_quota import SOFTWARE as TOLD_BY
from tierlog.records.records import Record, build_batch
from tierlog.replay import cluster as replays
from tierlog.telemetry.exposition import render
from tierlog.types import TopicPartition

RATE = 1 << 20
VALUE_BYTES = 500_000
RECORDS = 5


def fetched_all(bootstrap: str, client_id: str, software: str) -> float:
    """How long it took to read everything, two records at a time."""
    replays.SOFTWARE, kept = software, replays.SOFTWARE
    asking = replays.Cluster(bootstrap, client_id=client_id)
    replays.SOFTWARE = kept
    began_s, offset, where = time.perf_counter(), 0, TopicPartition("t", 0)
    while offset < RECORDS:
        size = len(asking.fetch(where, offset, 2 * VALUE_BYTES + 1000).records)
        offset += size // VALUE_BYTES
    # The connection is held back after its last answer too.
    asking.offset_at(where, replays.EARLIEST)
    asking.close()
    return time.perf_counter() - began_s


async def test_replays_are_held_to_the_rate(tmp_path: Path) -> None:
    assert replays.SOFTWARE == TOLD_BY
    rate = {"tierlog_replay_fetch_max_bytes_per_second": str(RATE)}
    async with running(tmp_path, **rate) as broker:
        (partition,) = await create(broker)
        for _ in range(RECORDS):
            batch = build_batch([Record(b"k", bytes(VALUE_BYTES), wall_clock_ms())])
            partition.append(memoryview(batch), False, wall_clock_ms())
        address = f"127.0.0.1:{broker.endpoints[0].port}"
        replay_s, other_s = await asyncio.gather(
            asyncio.to_thread(fetched_all, address, "nightly-report", TOLD_BY),
            asyncio.to_thread(fetched_all, address, "tierlog-replay", ORDINARY),
        )
        owed_s = RECORDS * VALUE_BYTES / RATE - 1
        assert replay_s >= 0.95 * owed_s
        assert other_s < replay_s
        assert broker.replicas.replay_rate.counted_bytes >= RECORDS * VALUE_BYTES
        shown = b"".join([chunk async for chunk in render(broker.registry)]).decode()
        held_back_ms = re.search(r"^tierlog_replay_throttle_time_ms_total (\d+)", shown, re.MULTILINE)
        assert held_back_ms is not None
        assert 900 * owed_s <= int(held_back_ms[1])
