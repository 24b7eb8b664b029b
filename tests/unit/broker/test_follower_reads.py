"""Consumers that read from followers (KIP-392), between brokers of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import until
from tests.unit.broker.test_handlers import call, fetch_of, part, rows_of, session, settled, start
from tests.unit.broker.test_replication import Cluster, append, cluster
from tierlog.broker.fetch.preferred_replicas import RACK_AWARE
from tierlog.broker.fetch.remote_port import NoRemoteReads
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode

VERSION = 12


@pytest.fixture
async def racks(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two replicas, each broker in the rack of its number."""
    async with cluster(tmp_path, 0, replica_selector_class=RACK_AWARE) as made:
        for broker_id in (1, 2):
            made.overrides["broker_rack"] = f"rack-{broker_id}"
            await made.start(broker_id)
        await made.create(min_insync_replicas="2")
        for number in range(3):
            append(made.led, b"%d" % number)
        await until(made.are_alike)
        yield made


def pair(racks: Cluster) -> tuple[Broker, Broker]:
    """The leader and the follower."""
    leader_id = racks.leader_id
    assert leader_id is not None
    return racks.brokers[leader_id], racks.brokers[3 - leader_id]


def follower_of(racks: Cluster) -> Partition:
    (follower,) = racks.followers
    return follower


async def fetched(broker: Broker, rack_id: str = "", version: int = VERSION, **asked: Any) -> Any:
    (row,) = rows_of(await call(broker, fetch_of(part(**asked), rack_id=rack_id, max_wait_ms=100), version))
    return row


def body(row: Any) -> bytes:
    return b"".join(row.records) if isinstance(row.records, list) else bytes(row.records)


async def test_a_consumer_is_sent_to_its_own_rack(racks: Cluster) -> None:
    leader, follower = pair(racks)
    mine, theirs = leader.config.broker_rack, follower.config.broker_rack
    assert mine is not None and theirs is not None
    row = await fetched(leader, theirs)
    assert (row.preferred_read_replica, row.error_code, len(row.records)) == (follower.config.node_id, 0, 0)
    assert (row.high_watermark, row.last_stable_offset, row.log_start_offset) == (3, 3, 0)
    for rack_id in ("", mine, "nowhere"):
        row = await fetched(leader, rack_id)
        assert (row.preferred_read_replica, row.high_watermark) == (-1, 3)
        assert len(row.records) > 0
    there = await fetched(follower, theirs)
    assert bytes(there.records) == bytes(row.records)
    assert (there.preferred_read_replica, there.high_watermark, there.last_stable_offset) == (-1, 3, 3)


async def test_an_incremental_fetch_is_sent_away_too(racks: Cluster) -> None:
    leader, follower = pair(racks)
    rack = follower.config.broker_rack or ""
    first = await call(leader, fetch_of(part(offset=3), session_epoch=0, max_wait_ms=0), VERSION)
    assert [row.preferred_read_replica for row in rows_of(first)] == [-1]
    again = fetch_of(rack_id=rack, session_id=first.session_id, session_epoch=1, max_wait_ms=60_000)
    again.topics = []
    answer = await call(leader, again, VERSION)
    assert [row.preferred_read_replica for row in rows_of(answer)] == [follower.config.node_id]


async def test_who_lacks_the_offset_is_nobodys_replica(racks: Cluster) -> None:
    leader, follower = pair(racks)
    fetcher = follower.followed_brokers.of(leader.config.node_id)
    await fetcher.close()
    rack = follower.config.broker_rack or ""
    append(racks.led, needs_all_acks=False)
    assert (await fetched(leader, rack, offset=3)).preferred_read_replica == follower.config.node_id
    row = await fetched(leader, rack, offset=4)
    assert (row.preferred_read_replica, row.error_code) == (-1, 0)
    assert (await fetched(leader, rack, offset=5)).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    await until(lambda: racks.led.leader is not None and len(racks.led.leader.isr) == 1)
    assert (await fetched(leader, rack, offset=3)).preferred_read_replica == -1, "out of sync"


async def test_a_follower_shows_what_is_committed_and_wakes_who_waits(racks: Cluster) -> None:
    _, follower = pair(racks)
    waiting = start(follower, fetch_of(part(offset=3)), VERSION)
    append(racks.led)
    (row,) = rows_of(await asyncio.wait_for(settled(waiting), PATIENT_S))
    assert (row.error_code, row.high_watermark) == (0, 4)
    assert len(row.records) > 0
    replica = follower_of(racks)
    assert replica.follower is not None
    replica.follower.high_watermark = 2
    cut = await fetched(follower)
    assert cut.high_watermark == cut.last_stable_offset == 2
    assert b"2" not in bytes(cut.records)[-4:]
    nothing = await fetched(follower, offset=3)
    assert (nothing.error_code, len(nothing.records)) == (0, 0), "stored, but not known to be committed"
    beyond = await fetched(follower, offset=5)
    assert beyond.error_code == ErrorCode.OFFSET_OUT_OF_RANGE


async def test_epochs_count_at_followers_and_old_versions_need_the_leader(racks: Cluster) -> None:
    first = racks.leader_id
    assert first is not None
    await racks.stop(first)
    await racks.start(first)
    await until(lambda: racks.leader is not None and len(racks.followers) == 1)
    _, follower = pair(racks)
    epoch = follower_of(racks).leader_epoch
    for asked, code in (
        (epoch, ErrorCode.NONE),
        (epoch - 1, ErrorCode.FENCED_LEADER_EPOCH),
        (epoch + 1, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ):
        assert (await fetched(follower, current_leader_epoch=asked)).error_code == code
    assert (await fetched(follower, version=10)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_without_the_selector_nobody_is_sent_away(tmp_path: Path) -> None:
    async with cluster(tmp_path, 0) as made:
        for broker_id in (1, 2):
            made.overrides["broker_rack"] = f"rack-{broker_id}"
            await made.start(broker_id)
        await made.create(min_insync_replicas="2")
        append(made.led)
        await until(made.are_alike)
        leader, follower = pair(made)
        row = await fetched(leader, follower.config.broker_rack or "")
        assert row.preferred_read_replica == -1
        assert len(row.records) > 0


@asynccontextmanager
async def tiered_racks(tmp_path: Path, **overrides: str) -> AsyncIterator[Cluster]:
    """Two replicas whose first six records are in the object store alone; they are 0 to 7."""
    tiered = {
        "replica_selector_class": RACK_AWARE,
        "remote_log_storage_system_enable": "true",
        "tierlog_object_store": f"dir:{tmp_path}/objects",
        "remote_log_manager_task_interval_ms": "100",
        "log_retention_check_interval_ms": "100",
        "log_initial_task_delay_ms": "0",
    }
    async with cluster(tmp_path, 0, **(tiered | overrides)) as made:
        for broker_id in (1, 2):
            made.overrides["broker_rack"] = f"rack-{broker_id}"
            await made.start(broker_id)
        await made.create(remote_storage_enable="true", segment_bytes="1048576", local_retention_bytes="1")
        for number in range(8):
            append(made.led, b"%d" % number * 700_000)
        replica = follower_of(made)
        await until(lambda: replica.log.local_log_start_offset >= 6 and replica.high_watermark == 8)
        await until(lambda: made.led.log.local_log_start_offset >= 6)
        yield made


async def test_a_follower_reads_what_is_remote(tmp_path: Path) -> None:
    async with tiered_racks(tmp_path) as made:
        leader, follower = pair(made)
        replica = follower_of(made)
        rack = follower.config.broker_rack or ""
        for offset in range(8):
            sent = await fetched(leader, rack, offset=offset)
            assert (sent.error_code, sent.preferred_read_replica) == (0, follower.config.node_id)
            there = await fetched(follower, rack, offset=offset, max_bytes=1)
            here = await fetched(leader, offset=offset, max_bytes=1)
            assert body(there) == body(here), offset
            assert (there.error_code, there.preferred_read_replica, there.high_watermark) == (0, -1, 8)
        assert replica.traffic.remote_bytes_out > 6 * 700_000
        assert follower.tiering is not None and leader.tiering is not None
        assert follower.tiering.counters.total("fetch_requests") >= 6
        assert (len(follower.tiering.views), len(leader.tiering.views)) == (1, 0)


async def test_who_comes_back_with_nothing_is_served_by_the_leader(tmp_path: Path) -> None:
    async with tiered_racks(tmp_path) as made:
        leader, follower = pair(made)
        rack = follower.config.broker_rack or ""
        connection = session()

        async def at_leader(offset: int) -> Any:
            request = fetch_of(part(offset=offset, max_bytes=1), rack_id=rack, max_wait_ms=60_000)
            (row,) = rows_of(await call(leader, request, VERSION, connection))
            return row

        assert (await at_leader(0)).preferred_read_replica == follower.config.node_id
        assert (await at_leader(3)).preferred_read_replica == follower.config.node_id, (
            "it got something there"
        )
        for offset in (3, 4, 5):
            row = await at_leader(offset)
            assert (row.preferred_read_replica, row.error_code) == (-1, 0)
            assert len(body(row)) > 700_000
        assert (await at_leader(7)).preferred_read_replica == follower.config.node_id, "on every disk"
        assert (await fetched(leader, rack)).preferred_read_replica == follower.config.node_id, "another one"


async def test_a_follower_without_an_object_store_leaves_it_to_the_leader(tmp_path: Path) -> None:
    async with tiered_racks(tmp_path) as made:
        leader, follower = pair(made)
        follower.services.remote_reads = NoRemoteReads()
        row = await fetched(follower, follower.config.broker_rack or "")
        assert row.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert len(body(await fetched(leader))) > 700_000
