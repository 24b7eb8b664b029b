"""What a follower knows of a tier: it serves what the leader would, keeps up with it, and leaves the rest to it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from copy import copy
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_follower_reads import body, follower_of, pair
from tests.unit.broker.test_handlers import call, fetch_of, part, rows_of, session
from tests.unit.broker.test_replication import Cluster, cluster
from tests.unit.offload.brokers import World, produce, until
from tiering.errors import Unavailable
from tiering.model import MetaObject, SegmentEntry
from tiering.replacing import replace_entries
from tierlog.broker.node import Broker
from tierlog.broker.offload.reading import followed_views
from tierlog.broker.offload.reading.followed_views import CannotView, FollowedTier, FollowedViews
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode, StoreUnavailable
from tierlog.log.append import AppendOrigin
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.batch import walk_whole
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch

READ_COMMITTED = 1


class Tiered:
    """Two replicas of a tiered topic, all of which is in the object store alone."""

    def __init__(self, made: Cluster, world: World) -> None:
        self.made = made
        self.objects = world.objects

    @property
    def leader(self) -> Broker:
        return pair(self.made)[0]

    @property
    def follower(self) -> Broker:
        return pair(self.made)[1]

    @property
    def replica(self) -> Partition:
        return follower_of(self.made)

    @property
    def tier(self) -> PartitionTier:
        found = self.made.led.remote
        assert isinstance(found, PartitionTier)
        return found

    @property
    def views(self) -> FollowedViews:
        assert self.follower.tiering is not None
        return self.follower.tiering.views

    @property
    def view(self) -> FollowedTier:
        found = self.views.ready(self.replica)
        assert found is not None
        return found

    async def write(self, count: int, first: int = 0, **how: int) -> bytes:
        """Appends batches of two records; returns once they are copied, and gone from the disks."""
        written = produce(self.made.led, count, first=first, **how)
        await self.settled()
        return written

    async def settled(self) -> None:
        led, replica = self.made.led, self.replica
        led.log.roll(2_000)
        self.made.brokers[led.leader_id].tiering.offload.wake(led)  # type: ignore[union-attr]
        await until(lambda: self.tier.is_loaded and self.tier.end_offset == led.log.log_end_offset)
        await until(lambda: replica.high_watermark == led.high_watermark == led.log.log_end_offset)
        replica.log.roll(2_000)
        for broker, each in ((self.leader, led), (self.follower, replica)):
            broker.replicas.unlink_later(each.log.delete_segments_below(self.tier.end_offset, 0))
            assert each.log.local_log_start_offset == each.log.log_end_offset

    async def ask(self, offset: int, broker: Broker | None = None, **how: Any) -> Any:
        given = {"max_bytes": 1, **how}
        isolation, connection = given.pop("isolation_level", 0), given.pop("connection", None)
        request = fetch_of(part(offset=offset, **given), max_wait_ms=2_000, isolation_level=isolation)
        (row,) = rows_of(await call(broker or self.follower, request, 12, connection))
        return row

    async def error_of(self, offset: int) -> ErrorCode:
        return ErrorCode((await self.ask(offset)).error_code)

    async def read_all(self, offset: int) -> bytes:
        got = b""
        while offset < self.made.led.high_watermark:
            row = await self.ask(offset, max_bytes=10_000)
            assert row.error_code == ErrorCode.NONE, offset
            got += body(row)
            if not body(row):
                continue
            *_, (_, last) = walk_whole(got)
            offset = last.base_offset + last.last_offset_delta + 1
        return got


@pytest.fixture
async def tiered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tiered]:
    world = World(tmp_path, monkeypatch)
    given = {
        "remote_log_storage_system_enable": "true",
        "tierlog_remote_delete_grace_ms": "0",
        "tierlog_chunk_cache_memory_bytes": str(4 << 20),
    }
    async with cluster(tmp_path, 2, **given) as made:
        await made.create(remote_storage_enable="true", local_retention_bytes="-1", retention_ms="-1")
        yield Tiered(made, world)


def deaf(views: FollowedViews, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch tells nothing any more."""
    monkeypatch.setattr(views, "on_head", lambda key, value, revision: None)


def refusing(store: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The metadata store answers no ``get``; how often it was asked."""
    asked: list[str] = []

    async def get(key: str) -> None:
        asked.append(key)
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "get", get)
    return lambda: sum(key.startswith("/tier/") for key in asked)


async def test_a_view_keeps_up_by_the_watch_alone(tiered: Tiered, monkeypatch: pytest.MonkeyPatch) -> None:
    written = await tiered.write(30)
    assert await tiered.read_all(0) == written
    asked = refusing(tiered.follower.store, monkeypatch)
    written += await tiered.write(30, first=30)
    await until(lambda: tiered.view.revision == tiered.tier.revision)
    assert await tiered.read_all(0) == written
    target = tiered.tier.head.tail[1].base_offset + 1
    assert await tiered.leader.replicas.advance_log_start(tiered.made.led, target) is ErrorCode.NONE
    await until(lambda: tiered.view.start_offset == target)
    assert await tiered.error_of(target - 1) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert await tiered.error_of(target) is ErrorCode.NONE
    assert asked() == 0


async def test_pages_are_read_when_the_head_names_others(
    tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_views, "RENEW_S", 3600.0)
    written = await tiered.write(80, batches_per_segment=1)
    assert tiered.tier.head.page_index is not None
    assert await tiered.read_all(0) == written
    first_index = tiered.view.head.page_index
    assert first_index is not None
    written += await tiered.write(80, first=80, batches_per_segment=1)
    assert tiered.tier.head.page_index != first_index
    assert body(await tiered.ask(0)), "by the old pages"
    assert await tiered.leader.replicas.advance_log_start(tiered.made.led, 2) is ErrorCode.NONE
    await until(lambda: tiered.view.start_offset == 2)
    assert tiered.view.head.page_index == first_index
    assert await tiered.error_of(1) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert body(await tiered.ask(2)) in written
    monkeypatch.setattr(followed_views, "RENEW_S", 0.0)
    await until(lambda: tiered.view.head.page_index == tiered.tier.head.page_index)
    assert await tiered.read_all(2) == written[len(written) // 160 :]


async def replaced_by_a_copy(tiered: Tiered, at: int) -> SegmentEntry:
    """The segment lies in an object of another name, and the former object is gone. Returns the former entry."""
    tier, objects = tiered.tier, tiered.objects.inner
    old = tier.head.tail[at]
    new = old._replace(uuid=b"%016d" % at, generation=1)
    _, data = await objects.get(tier.keys.segment(old))
    await objects.put(tier.keys.segment(new), data, size_bytes=len(data))
    plan = replace_entries(tier.head, tier.pages, [new], lambda: MetaObject(0, 0, b"never used here."))
    assert plan is not None
    await tier.commit(lambda head: plan.after(head, 0) or head)
    await objects.delete([tier.keys.segment(old)])
    return old


async def test_an_old_view_finds_what_was_replaced_and_what_was_deleted(
    tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_views, "RENEW_S", 0.0)
    written = await tiered.write(50)
    first, *_ = tiered.tier.head.tail
    assert await tiered.error_of(first.base_offset) is ErrorCode.NONE
    deaf(tiered.views, monkeypatch)
    before = tiered.view.revision
    moved = await replaced_by_a_copy(tiered, 2)
    assert body(await tiered.ask(moved.base_offset)) in written
    assert tiered.view.revision == tiered.tier.revision > before, "read anew, since the object was gone"
    target = tiered.tier.head.tail[1].end_offset
    gone = tiered.tier.head.tail[1]
    assert await tiered.leader.replicas.advance_log_start(tiered.made.led, target) is ErrorCode.NONE
    tiered.tier.next_check_ms = 0
    await until(lambda: tiered.tier.head.removed_end == target)
    assert await tiered.error_of(gone.base_offset) is ErrorCode.OFFSET_OUT_OF_RANGE
    lost = tiered.tier.head.tail[-1]
    tiered.objects.missing.add(tiered.tier.keys.segment(lost))
    assert await tiered.error_of(lost.base_offset) is ErrorCode.KAFKA_STORAGE_ERROR


async def test_a_reader_in_the_middle_of_an_object_that_was_replaced_goes_on(
    tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It remembers its place in the former object, of which memory holds a part."""
    monkeypatch.setattr(followed_views, "RENEW_S", 0.0)
    batches = [bytes(build_batch([Record(b"k", bytes([n]) * 700_000)])) for n in range(12)]
    for each in batches:
        assert tiered.made.led.append(memoryview(bytearray(each)), False, 1).error is ErrorCode.NONE
    await tiered.settled()
    (entry,) = tiered.tier.head.tail
    assert entry.data_bytes > 8_000_000
    one = session()
    for offset in range(12):
        if offset == 2:
            deaf(tiered.views, monkeypatch)
            await replaced_by_a_copy(tiered, 0)
        row = await tiered.ask(offset, connection=one)
        while not row.error_code and not body(row):
            row = await tiered.ask(offset, connection=one)
        assert (row.error_code, body(row)[61:]) == (ErrorCode.NONE, batches[offset][61:])
    assert tiered.view.revision == tiered.tier.revision


async def test_what_the_follower_cannot_reach_it_leaves_to_its_leader(
    tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tiered.write(30)
    with monkeypatch.context() as patch:
        asked = refusing(tiered.follower.store, patch)
        assert await tiered.error_of(0) is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert asked() == 1
    tiered.objects.outage = Unavailable
    assert await tiered.error_of(0) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    tiered.objects.outage = None
    assert await tiered.error_of(0) is ErrorCode.NONE
    # Never: a view that ends below the local log, though it was read from the store just now.
    view = tiered.view
    view.head, view.catalog = view.head.empty(), type(view.catalog)(view.head.empty())
    monkeypatch.setattr(followed_views, "RENEW_S", 3600.0)
    assert await tiered.error_of(0) is ErrorCode.OFFSET_NOT_AVAILABLE


async def test_never_above_what_the_follower_knows_to_be_committed(tiered: Tiered) -> None:
    written = await tiered.write(30)
    follower = tiered.replica.follower
    assert follower is not None
    await (
        tiered.made.brokers[tiered.follower.config.node_id]
        .followed_brokers.of(tiered.leader.config.node_id)
        .close()
    )
    follower.high_watermark = 10
    for offset in (0, 5, 9):
        row = await tiered.ask(offset, max_bytes=1 << 20)
        batches = [header.base_offset for _, header in walk_whole(body(row))]
        assert (row.error_code, row.high_watermark) == (0, 10)
        assert batches == list(range(offset // 2 * 2, 10, 2))
    follower.high_watermark = 60
    assert await tiered.read_all(0) == written


async def test_aborted_transactions_are_told_as_by_the_leader(tiered: Tiered) -> None:
    led = tiered.made.led
    batch = build_batch(
        [Record(b"k", b"v")], producer_id=7, producer_epoch=0, base_sequence=0, is_transactional=True
    )
    assert led.append(memoryview(batch), False, 1).error is ErrorCode.NONE
    marker = build_end_transaction_marker(
        EndTransactionMarker(is_commit=False, coordinator_epoch=0),
        producer_id=7,
        producer_epoch=0,
        timestamp_ms=1,
    )
    assert led.append(memoryview(marker), False, 1, AppendOrigin.COORDINATOR).error is ErrorCode.NONE
    await tiered.write(20)
    for level in (0, READ_COMMITTED):
        rows = [
            await tiered.ask(0, each, isolation_level=level, max_bytes=1 << 20)
            for each in (tiered.leader, tiered.follower)
        ]
        assert body(rows[0]) == body(rows[1])
        told = [[(a.producer_id, a.first_offset) for a in row.aborted_transactions or ()] for row in rows]
        assert told[0] == told[1] == ([(7, 0)] if level else [])


async def test_a_change_of_the_leader_and_the_end_of_the_topic(tiered: Tiered) -> None:
    written = await tiered.write(30)
    assert await tiered.read_all(0) == written
    new, views = tiered.follower, tiered.views
    old = tiered.leader.config.node_id
    await tiered.made.stop(old)
    await until(lambda: tiered.made.leader_id == new.config.node_id)
    await until(lambda: tiered.tier.is_loaded)
    assert body(await tiered.ask(0, new)), "by its own tier now"
    views.tidy()
    assert len(views) == 0
    await tiered.made.start(old)
    await until(tiered.made.are_in_sync)
    await tiered.settled()
    written += await tiered.write(10, first=30)
    assert await tiered.read_all(0) == written
    views, topic_id = tiered.views, tiered.made.led.topic_id
    assert len(views) == 1
    await tiered.made.controller.services.admin.delete_topics([topic_id])
    await until(lambda: len(views) == 0)


async def test_all_wait_for_one_read_of_the_view(tiered: Tiered, monkeypatch: pytest.MonkeyPatch) -> None:
    await tiered.write(20)
    store = tiered.follower.store
    real, asked = store.get, list[str]()

    async def slow(key: str) -> Any:
        asked.append(key)
        await asyncio.sleep(0.05)
        return await real(key)

    monkeypatch.setattr(store, "get", slow)
    rows = await asyncio.gather(*(tiered.ask(offset) for offset in range(10)))
    assert [row.error_code for row in rows] == [0] * 10
    assert all(body(row) for row in rows)
    assert sum(key.startswith("/tier/") for key in asked) == 1


async def test_a_replica_that_is_opened_again_has_one_view(tiered: Tiered) -> None:
    written = await tiered.write(10)
    assert await tiered.read_all(0) == written
    views, again = tiered.views, copy(tiered.replica)
    assert await views.get(again, asyncio.get_running_loop().time() + PATIENT_S) is views.ready(again)
    assert (len(views), views.ready(tiered.replica)) == (1, None)
    await tiered.write(10, first=10)
    await until(lambda: views.ready(again).revision == tiered.tier.revision)  # type: ignore[union-attr]
    again.follower = None
    views.tidy()
    assert len(views) == 0


async def test_nothing_refers_to_a_view_that_was_forgotten(
    tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cycle of long-lived objects would never be freed (``long_lived``)."""
    await tiered.write(10)
    asked = refusing(tiered.follower.store, monkeypatch)
    assert await tiered.error_of(0) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert asked() == 1
    views = tiered.views
    await until(lambda: not views._loads)
    (view,) = views._views.values()
    gc.collect()
    gc.disable()
    try:
        monkeypatch.setattr(followed_views, "IDLE_S", 0.0)
        views.tidy()
        assert [type(each) for each in gc.get_referrers(view) if not isinstance(each, FrameType)] == []
    finally:
        gc.enable()


async def test_a_gap_in_the_watch_is_made_good(tiered: Tiered, monkeypatch: pytest.MonkeyPatch) -> None:
    written = await tiered.write(30)
    assert await tiered.read_all(0) == written
    views, before = tiered.views, tiered.view.revision
    with monkeypatch.context() as patch:
        deaf(views, patch)
        await tiered.write(30, first=30)
    assert tiered.view.revision == before
    views.on_gap()
    assert views.ready(tiered.replica) is None
    assert await tiered.error_of(0) is ErrorCode.NONE
    assert tiered.view.revision == tiered.tier.revision


async def test_a_view_knows_all_by_which_local_segments_go(
    tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = await tiered.write(30)
    assert await tiered.read_all(0) == written
    deaf(tiered.views, monkeypatch)
    await tiered.write(30, first=30)
    assert tiered.follower.tiering is not None
    assert tiered.view.revision < tiered.tier.revision
    await tiered.follower.tiering.followed._look(tiered.replica)
    assert tiered.replica.tiered_end_offset == tiered.view.head.end == tiered.tier.end_offset


async def test_views_keep_to_their_memory_and_few_are_read_at_once(
    tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, views, count = tiered.made, tiered.views, 12
    monkeypatch.setattr(followed_views, "VIEWS_BYTES", 5 * followed_views.HEAD_BYTES_MAX)
    await made.controller.services.admin.create_topics(
        [NewTopic("many", count, 2, configs={"remote.storage.enable": "true"})]
    )

    def followed() -> list[Partition]:
        found = [tiered.follower.replicas.by_name("many", n) for n in range(count)]
        return [p for p in found if isinstance(p, Partition) and p.follower is not None]

    await until(lambda: len(followed()) >= 6)
    under_way = most = 0

    async def read(*key: Any) -> tuple[None, int]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return None, 0

    monkeypatch.setattr(
        views, "_heads", SimpleNamespace(read=read)
    )  # the tiers that are led here read heads too
    deadline_s = asyncio.get_running_loop().time() + 60
    found = await asyncio.gather(*(views.get(p, deadline_s) for p in followed()), return_exceptions=True)
    assert all(isinstance(each, CannotView) for each in found)
    assert most == followed_views.LOADS_AT_ONCE
    assert 1 <= len(views) <= 5
    assert views.size_bytes <= followed_views.VIEWS_BYTES
    monkeypatch.setattr(followed_views, "IDLE_S", 0.0)
    views.tidy()
    assert len(views) == 0
