"""The ledger of one broker: hours that end, clocks that jump, a store that fails, what is deleted again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.broker.test_dynamic_effects import alter
from tests.unit.offload.brokers import World, produce, until
from tiering.errors import Unavailable
from tiering.ledger.columns import Columns
from tiering.ledger.held import Held
from tiering.ledger.names import LedgerName, key_of, ledger_prefix, parse_name
from tiering.ledger.parquet import encode_ledger
from tiering.ledger.reader import read_hours
from tiering.ledger.rows import HOUR_MS, Kind, LedgerRow
from tiering.metering.meta_sizes import MetaSizes
from tiering.objects.faulty import Faults, FaultyStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import list_all
from tierlog.broker.offload.ledger import ledger as ledger_module
from tierlog.broker.offload.ledger import old_objects
from tierlog.broker.offload.ledger.ledger import Ledger
from tierlog.broker.offload.ledger.look import Look, Shared
from tierlog.broker.offload.ledger.old_objects import DAY_MS, OldObjects
from tierlog.broker.work.background import Background
from tierlog.config.broker import BrokerConfig
from tierlog.config.properties import load

HOUR = 500_000 * HOUR_MS


class Counts:
    """Counts one byte for each ``add``."""

    def __init__(self) -> None:
        self.count = 0

    def drain(self) -> Iterator[LedgerRow]:
        count, self.count = self.count, 0
        if count:
            yield LedgerRow(0, 0, Kind.TRAFFIC, topic="t", sent_bytes=count)


class Desk:
    """A ledger with clocks of its own, over a store that can fail."""

    def __init__(self, faults: Faults) -> None:
        self.wall_ms, self.monotonic_ms = HOUR + 10, 1_000
        self.store = FaultyStore(MemoryStore(), faults, seed=3)
        self.counts = Counts()
        self.background = Background()
        self.keys: list[str] = []
        held = Held()
        self.ledger = Ledger(
            7,
            "c",
            self.store,
            self.encode,
            held,
            Look(held, list, lambda partition: None, [], MetaSizes(), Shared("c", lambda: False)),
            [self.counts],
            self.background,
            may_write=lambda: True,
            wall_ms=lambda: self.wall_ms,
            monotonic_ms=lambda: self.monotonic_ms,
        )

    async def encode(self, header: dict[str, Any], body: bytes) -> bytes:
        return encode_ledger(header, body)[1]

    def passes(self, by_ms: int, count: int) -> None:
        self.wall_ms += by_ms
        self.monotonic_ms += max(by_ms, 0)
        self.counts.count += count

    async def sums(self) -> dict[int, int]:
        """Bytes of each hour, counted from ``HOUR``."""
        found: dict[int, int] = {}
        async for rows in read_hours(self.store, "c", 0, 2 * HOUR, pytest.fail):
            found[(rows[0].hour_ms - HOUR) // HOUR_MS] = sum(row.sent_bytes for row in rows)
        return found

    async def written(self) -> int:
        return len([info async for info in list_all(self.store, ledger_prefix("c"))])


@asynccontextmanager
async def desk(monkeypatch: pytest.MonkeyPatch, faults: Faults | None = None) -> AsyncIterator[Desk]:
    for name, value in (("TICK_S", 0.005), ("RETRY_MIN_S", 0.005), ("RETRY_MAX_S", 0.01)):
        monkeypatch.setattr(ledger_module, name, value)
    made = Desk(faults or Faults())
    made.ledger.configure(BrokerConfig())
    made.ledger.start()
    yield made
    await made.ledger.close()
    await made.background.close()


async def test_an_object_for_each_hour_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(monkeypatch) as made:
        book = made.ledger.book
        made.passes(HOUR_MS, 1)  # a moment late
        await until(lambda: book.hour_ms == HOUR + HOUR_MS)
        assert book.since_ms == HOUR + HOUR_MS
        made.passes(5 * HOUR_MS, 20)  # it jumps
        await until(lambda: book.hour_ms == HOUR + 6 * HOUR_MS)
        made.passes(-3 * HOUR_MS, 300)  # and back
        await until(lambda: book.hour_ms == HOUR + 3 * HOUR_MS)
        made.passes(20, 4_000)
    assert await made.sums() == {0: 1, 1: 20, 6: 300, 3: 4_000}
    assert await made.written() == 4


async def test_what_seems_to_fail_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(burst=0.2, lost_request=0.2, applied_but_timed_out=0.5)
    async with desk(monkeypatch, faults) as made:
        made.ledger.configure(load({"tierlog.ledger.flush.interval.ms": "1000"}))
        for number in range(20):
            made.passes(1_000, 1)
            since_ms = made.ledger.book.since_ms
            await until(lambda since_ms=since_ms: made.ledger.book.since_ms > since_ms)  # type: ignore[misc]
            told = json.loads(await made.ledger.unwritten())
            assert told["pieces"][-1]["rows"] == [], number
        await until(lambda: not made.ledger.book.waiting)
        made.store.faults = Faults()
        assert made.store.fault_count > 5
        made.counts.count += 1
        told = json.loads(await made.ledger.unwritten())
        (open_row,) = told["pieces"][-1]["rows"]
        assert dict(zip(told["columns"], open_row, strict=True))["sent_bytes"] == 1
    assert await made.sums() == {0: 21}


async def test_a_stop_while_the_store_is_away_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "LAST_WRITE_S", 0.1)
    async with desk(monkeypatch) as made:
        made.counts.count = 5
        made.store.outage = Unavailable
    made.store.outage = None
    assert await made.written() == 0


async def test_the_interval_is_dynamic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "TICK_S", 0.01)
    world = World(tmp_path, monkeypatch)
    async with world.broker(tierlog_ledger_enable="true") as running:
        partition = await running.create()
        produce(partition, 40)
        tier = await running.tiered(partition)
        assert running.tiering.ledger is not None
        cluster_id = running.broker.services.cluster_id

        def told() -> int:
            assert running.tiering.ledger is not None
            return len(running.tiering.ledger.book.waiting)

        assert told() == 0
        await alter(running.broker, "", tierlog_ledger_flush_interval_ms="1000")
        found: list[str] = []
        while len(found) < 2:
            found = [info.key async for info in list_all(world.objects, ledger_prefix(cluster_id))]
            await asyncio.sleep(0.05)
        assert {parse_name(cluster_id, key) is not None for key in found} == {True}
        rows = [
            row async for hour in read_hours(world.objects, cluster_id, 0, 2**42, pytest.fail) for row in hour
        ]
        held = {row.kind: row.held_bytes for row in rows if row.topic == "t"}
        log, (_, _, object_bytes) = partition.log, tier.catalog.held_by_class()[0]
        assert held == {Kind.LOCAL: log.size_bytes, Kind.STORED: object_bytes}
        sealed = log.size_bytes - log.segments.active.size_bytes
        assert sum(row.duplicated_bytes for row in rows if row.kind is Kind.LOCAL) == sealed


async def put(store: MemoryStore, hour_ms: int) -> str:
    key = key_of("c", LedgerName(hour_ms, 1, f"{hour_ms:032x}"))
    columns = Columns()
    data = encode_ledger(*columns.message(0, 0))[1]
    await store.put(key, data, size_bytes=len(data))
    return key


@pytest.mark.parametrize("is_mine", [True, False])
async def test_old_objects_go_where_it_is_this_brokers_turn(
    monkeypatch: pytest.MonkeyPatch, is_mine: bool
) -> None:
    monkeypatch.setattr(old_objects, "TICK_S", 0.005)
    store, now_ms = MemoryStore(), HOUR + 500 * DAY_MS
    keys = [await put(store, now_ms - days * DAY_MS) for days in (500, 401, 399, 0)]
    other = f"{ledger_prefix('c')}0000/readme"
    await store.put(other, b"", size_bytes=0)
    old = OldObjects("c", store, lambda: is_mine, lambda: now_ms)
    old.configure(BrokerConfig())
    background = Background()
    task = background.forever("old", old.run)

    async def left() -> list[str]:
        return [info.key async for info in list_all(store, "")]

    if is_mine:
        while len(await left()) > 3:
            await asyncio.sleep(0.005)
        assert await left() == [other, *keys[2:]]
        old.configure(load({"tierlog.ledger.retention.days": "-1"}))
        await asyncio.sleep(0.05)
        assert await left() == [other, *keys[2:]]
        old.configure(load({"tierlog.ledger.retention.days": "0"}))
        while len(await left()) > 2:
            await asyncio.sleep(0.005)
    else:
        await asyncio.sleep(0.05)
        assert len(await left()) == 5
    await task.stop()
    await background.close()
