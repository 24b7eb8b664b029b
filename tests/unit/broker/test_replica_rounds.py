"""What replication costs: how often leader and follower talk, what a fetch looks at, how replies leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import until
from tests.unit.broker.test_handlers import record_batch
from tests.unit.broker.test_replication import append, cluster
from tierlog import kernel
from tierlog.broker.disk.flusher import Flusher, Plan
from tierlog.broker.following.fetcher import ReplicaFetcher
from tierlog.broker.leading import follower_fetch as replica_fetches
from tierlog.broker.network.socket_writer import SocketWriter
from tierlog.broker.replicas.partition import Partition
from tierlog.metadata.control.topics import NewTopic
from tierlog.replication import fetch_schedule
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.leader import FetchVerdict
from tierlog.replication.progress import FollowerProgress
from tierlog.types import Buffer
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.fetch import FetchRequest
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

# Nobody is put out of the ISR while a test looks at something else.
PATIENT = {"replica_lag_time_max_ms": "60000", "replica_socket_timeout_ms": "60000"}
MANY = 20


async def test_a_watermark_travels_with_the_next_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_fetches, "WATERMARK_DELAY_S", 3600.0)
    async with cluster(tmp_path, 3, replica_fetch_wait_max_ms="60000", **PATIENT) as brokers:
        await brokers.create(min_insync_replicas="2")
        leader = brokers.brokers[brokers.led.leader_id]
        roles, watches = leader.replicas.roles, leader.services.watches

        def both_are_parked() -> bool:
            """And no round is due that would tell them of a new leader."""
            parked = [watch.fetch is not None for watch in watches]
            return parked == [True, True] and not roles._to_wake

        await until(lambda: len(brokers.led.parked_replicas) == 2 and both_are_parked())
        append(brokers.led)
        await until(lambda: brokers.led.high_watermark == 1)
        await until(both_are_parked)
        assert {p.high_watermark for p in brokers.followers} == {0}, "a round for a watermark alone"
        append(brokers.led)
        await until(lambda: {p.high_watermark for p in brokers.followers} == {1})


async def test_a_watermark_is_told_soon_where_no_records_follow(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, replica_fetch_wait_max_ms="60000", **PATIENT) as brokers:
        await brokers.create(min_insync_replicas="2")
        for number in range(3):
            append(brokers.led, b"%d" % number)
            await until(brokers.are_alike)
            assert {p.high_watermark for p in brokers.followers} == {number + 1}


async def test_what_one_fetch_commits_leaves_in_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path, 2, **PATIENT) as brokers:
        await brokers.create(min_insync_replicas="2")
        led = brokers.led
        assert led.leader is not None
        leader, follower = brokers.brokers[led.leader_id], brokers.brokers[3 - led.leader_id]
        await follower.followed_brokers.of(led.leader_id).close()  # the test fetches in its place
        row = PartitionProduceData(index=0, records=record_batch())
        data = TopicProduceData(name="t", topic_id=led.topic_id, partition_data=[row])
        request = ProduceRequest(acks=-1, timeout_ms=60_000, topic_data=[data])
        frames = [b"".join(encode_request(0, 13, number, "test", encode(request, 13))) for number in range(5)]
        written: list[int] = []
        write = SocketWriter.write

        def count(self: SocketWriter, buffers: list[Buffer]) -> None:
            written.append(len(buffers))
            write(self, buffers)

        reader, writer = await asyncio.open_connection("127.0.0.1", leader.endpoints[0].port)
        writer.write(b"".join(frames))
        await until(lambda: led.log.log_end_offset == 5)
        monkeypatch.setattr(SocketWriter, "write", count)
        progress = led.leader.followers[follower.config.node_id]
        fetch = FollowerFetch(
            follower.config.node_id, progress.broker_epoch, led.leader_epoch, 5, led.leader_epoch, 0
        )
        assert led.serve_follower(fetch, 0).watermark_moved
        for number in range(5):
            size = int.from_bytes(await reader.readexactly(4), "big")
            answer = await reader.readexactly(size)
            assert int.from_bytes(answer[:4], "big") == number
        assert len(written) == 1
        writer.close()
        await writer.wait_closed()


async def test_a_fetch_looks_at_what_has_changed_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "compiled", None)  # which does it in one call
    async with cluster(tmp_path, 2, **PATIENT) as brokers:
        await brokers.create(min_insync_replicas="2")
        await brokers.controller.services.admin.create_topics([NewTopic("many", MANY, 2)])
        served: list[Partition] = []
        serve = Partition.serve_follower

        def note(self: Partition, fetch: FollowerFetch, now_ms: int) -> FetchVerdict:
            served.append(self)
            return serve(self, fetch, now_ms)

        monkeypatch.setattr(Partition, "serve_follower", note)

        def progress() -> list[FollowerProgress]:
            """Of the one follower of each partition that is led anywhere."""
            hosted = [b.replicas.by_name("many", n) for b in brokers.all() for n in range(MANY)]
            leaders = [p.leader for p in [*hosted, brokers.led] if isinstance(p, Partition) and p.leader]
            return [each.followers.get(3 - each.broker_id, FollowerProgress()) for each in leaders]

        append(brokers.led)
        await until(lambda: [each.presence is None for each in progress()] == [False] * (MANY + 1))
        served.clear()
        # Its session goes on to count for each of them.
        await until(lambda: all(each.caught_up_ms > each.last_caught_up_ms for each in progress()))
        assert not served
        append(brokers.led, b"news")
        await until(brokers.are_alike)
        assert set(served) == {brokers.led}


async def test_many_that_wait_for_the_disk_cost_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a request may name: what is left over for the next one waits for the disk as well."""
    monkeypatch.setattr(fetch_schedule, "MAX_NAMED", 3)
    async with cluster(tmp_path, 2, flush_mode="ack", **PATIENT) as brokers:
        await brokers.create_many(MANY)
        for partition in brokers.led_of_many():
            append(partition)
        await until(lambda: all(p.high_watermark == 1 for p in brokers.led_of_many()))
        sync, is_slow = Flusher._sync, threading.Event()
        sent: list[FetchRequest] = []
        ask = ReplicaFetcher._next_request

        def slow(self: Flusher, root: str, plans: Sequence[Plan]) -> None:
            if is_slow.is_set():
                time.sleep(0.4)
            sync(self, root, plans)

        def count(self: ReplicaFetcher) -> FetchRequest | None:
            request = ask(self)
            if request is not None:
                sent.append(request)
            return request

        monkeypatch.setattr(Flusher, "_sync", slow)
        monkeypatch.setattr(ReplicaFetcher, "_next_request", count)
        is_slow.set()
        for partition in brokers.led_of_many():
            append(partition)
        await until(lambda: all(p.high_watermark == 2 for p in brokers.led_of_many()))
        # The wait doubles from 5 ms on: for the leaders' disks and the followers', on both brokers.
        assert len(sent) < 200
