"""The ladder on S3 and on Google Cloud Storage: a broker that is stopped at every step of its moves.

The brokers run in this process, one after the other, on a fast clock. One call to the store is a broker's last: it gets
through or not, and whatever comes behind it does not. The next broker goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from tests.unit.offload.brokers import Running, World, until
from tests.unit.offload.test_class_moves import DAY_MS, TIERS, Clock, on, passes_until, produce_now
from tiering.errors import Unavailable
from tiering.objects.classes import GCS_CLASSES, S3_CLASSES, StorageClass
from tiering.objects.port import ObjectStore
from tiering.objects.wrapping import Call, WrappedStore
from tierlog.broker.offload.outlook import outlook
from tierlog.broker.offload.tier import PartitionTier

R = TypeVar("R")
NAMES = {"moto": S3_CLASSES, "gcs": GCS_CLASSES}
BATCHES = 6
STANDARD, INFREQUENT, *_ = StorageClass


class Ending(WrappedStore):
    """Counts what moves take. ``last_call``: nothing gets through behind it; ``is_lost``: nor does itself."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.calls = 0
        self.last_call = 0
        self.is_lost = False
        self.copies: Counter[str] = Counter()
        self.heads = 0

    @property
    def is_over(self) -> bool:
        return 0 < self.last_call <= self.calls

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        was_over = self.is_over
        self.calls += 1
        if was_over or (self.is_over and self.is_lost):
            raise Unavailable("the broker is dead")
        if call.verb == "copy":
            self.copies[call.key] += 1
        self.heads += call.verb == "head"
        result = await work()
        if self.is_over:
            raise Unavailable("the broker is dead")
        return result

    def live_again(self, last_call: int, is_lost: bool) -> None:
        self.calls, self.last_call, self.is_lost = 0, last_call, is_lost
        self.copies.clear()
        self.heads = 0

    async def close(self) -> None:
        """It outlives the brokers."""


@pytest.fixture(params=list(NAMES))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(
    backend: str, bare_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    world = World(tmp_path, monkeypatch)
    world.objects = Ending(bare_store)  # type: ignore[assignment]
    monkeypatch.setattr("tierlog.broker.offload.service.class_names_of", lambda url: NAMES[backend])
    monkeypatch.setattr("tiering.ladder.BILLED_BYTES_MIN", 0)
    yield world


async def classes(store: ObjectStore, tier: PartitionTier) -> set[tuple[int, int]]:
    """(what the entry says, what the object is) of all live segments."""
    found = set()
    for entry in tier.catalog:
        info = await store.head(tier.keys.segment(entry), complete=True)
        found.add((entry.storage_class, int(info.storage_class or 0)))
    return found


def is_all(
    tier: PartitionTier, storage_class: StorageClass, or_else: Callable[[], bool] = lambda: False
) -> Callable[[], bool]:
    return lambda: or_else() or {entry.storage_class for entry in tier.catalog} == {storage_class}


async def begin(running: Running, clock: Clock) -> PartitionTier:
    """Once the start's own work is done."""
    tier = await running.tiered(await running.leading())
    await until(lambda: tier.job is None)
    on(running, clock)
    return tier


async def lift(running: Running, store: ObjectStore, tier: PartitionTier) -> None:
    """Objects and entries as if they had never moved: there is only one way down."""
    lifted = []
    await until(lambda: tier.job is None)
    tier.next_try_ms = 2**62
    for entry in tier.catalog:
        key = tier.keys.segment(entry)
        await store.copy(key, key, version=(await store.head(key)).version, storage_class=STANDARD)
        lifted.append(entry._replace(storage_class=int(STANDARD), version_hash=0))
    await running.tiering.work.class_moves._commit(tier, lifted)


async def test_stopped_at_every_step_each_segment_goes_down_once_and_as_planned(
    backend: str, world: World
) -> None:
    clock = Clock()
    store = world.objects
    assert isinstance(store, Ending)
    async with world.broker() as running:
        partition = await running.create(tierlog_tiers=TIERS)
        written = produce_now(partition, BATCHES)
        tier = await running.tiered(partition)
        row = await outlook(running.tiering, partition, None, clock() + 31 * DAY_MS)
        assert row is not None
        (plan,) = row["due"]
        assert (plan["segments"], plan["from"], plan["to"]) == (len(tier.catalog), "standard", "infrequent")

    clock.ahead_ms = 31 * DAY_MS
    for step in count(2):
        async with world.broker() as running:
            tier = await begin(running, clock)
            store.live_again(last_call=step // 2, is_lost=step % 2 == 0)
            await passes_until(tier, is_all(tier, INFREQUENT, or_else=lambda: store.is_over))
            is_uninterrupted = not store.is_over
        if is_uninterrupted:
            break
        store.last_call = 0
        async with world.broker() as running:
            tier = await begin(running, clock)
            await passes_until(tier, is_all(tier, INFREQUENT))
            assert await classes(store.inner, tier) == {(INFREQUENT, INFREQUENT)}, step
            assert store.copies.total() == len(store.copies) == plan["segments"], step
            assert await running.read_all(tier.partition, 0) == written
            await lift(running, store.inner, tier)
    assert step > 4 * plan["segments"], "a look and a copy each, before the store and behind it"
    assert (store.heads, store.copies.total()) == (plan["segments"], plan["segments"])
    assert (tier.counters.class_moves, tier.counters.class_move_bytes) == (plan["segments"], plan["bytes"])
    assert await classes(store.inner, tier) == {(INFREQUENT, INFREQUENT)}
