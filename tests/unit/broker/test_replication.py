"""Replication between brokers of this process, over real sockets, on one shared metadata store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import running, until
from tests.unit.broker.test_handlers import call, record_batch, settled, start
from tests.unit.broker.test_waiters_end import connected
from tests.unit.telemetry.test_metrics import scrape, values
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.disk.flusher import Flusher, Plan
from tierlog.broker.following.apply_reply import take_answer
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendResult
from tierlog.metadata.control.reassignment import Reassignment
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from tierlog.wire.messages.fetch import (
    EpochEndOffset,
    FetchPartition,
    FetchRequest,
    FetchTopic,
    PartitionData,
)
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

QUICK = {
    "replica_lag_time_max_ms": "1000",
    "replica_socket_timeout_ms": "1000",
    "replica_fetch_wait_max_ms": "200",
    "broker_heartbeat_interval_ms": "200",
    "broker_session_timeout_ms": "2000",
}

# Partitions of the topic ``many``, at most.
MANY = 20


class Cluster:
    """Brokers 1 to n; each with a directory of its own, and one store."""

    def __init__(self, root: Path, **overrides: str) -> None:
        self.root = root
        self.overrides = QUICK | {"metadata_store": f"sqlite:{root}/shared.db"} | overrides
        self.brokers: dict[int, Broker] = {}
        self._stacks: dict[int, AsyncExitStack] = {}

    async def start(self, broker_id: int) -> Broker:
        stack = AsyncExitStack()
        broker = await stack.enter_async_context(
            running(self.root / str(broker_id), node_id=str(broker_id), **self.overrides)
        )
        self.brokers[broker_id], self._stacks[broker_id] = broker, stack
        return broker

    async def stop(self, broker_id: int) -> None:
        del self.brokers[broker_id]
        await self._stacks.pop(broker_id).aclose()

    @property
    def controller(self) -> Broker:
        return next(b for b in self.brokers.values() if b.runner.is_controller)

    async def create(self, **configs: str) -> None:
        await until(lambda: all(len(b.feed.image.active_brokers()) == len(self.brokers) for b in self.all()))
        given = {name.replace("_", "."): value for name, value in configs.items()}
        topic = NewTopic("t", 1, len(self.brokers), configs=given)
        (result,) = await self.controller.services.admin.create_topics([topic])
        assert result.error is ErrorCode.NONE, result.message
        await until(lambda: self.leader is not None and len(self.followers) == len(self.brokers) - 1)

    async def create_many(self, partitions: int) -> None:
        """Topic ``many``; its leaders are ``led_of_many``."""
        await self.create()
        topic = NewTopic("many", partitions, 2)
        await self.controller.services.admin.create_topics([topic])
        await until(lambda: len(self.led_of_many()) == partitions)

    def led_of_many(self) -> list[Partition]:
        hosted = [b.replicas.by_name("many", n) for b in self.all() for n in range(MANY)]
        return [p for p in hosted if isinstance(p, Partition) and p.leader is not None]

    def all(self) -> list[Broker]:
        return list(self.brokers.values())

    def hosted(self) -> dict[int, Partition]:
        found = {i: b.replicas.by_name("t", 0) for i, b in self.brokers.items()}
        return {i: p for i, p in found.items() if isinstance(p, Partition)}

    @property
    def leader_id(self) -> int | None:
        return next((i for i, p in self.hosted().items() if p.leader is not None), None)

    @property
    def leader(self) -> Partition | None:
        leader_id = self.leader_id
        return None if leader_id is None else self.hosted()[leader_id]

    @property
    def led(self) -> Partition:
        leader = self.leader
        assert leader is not None
        return leader

    @property
    def followers(self) -> list[Partition]:
        return [p for p in self.hosted().values() if p.follower is not None and p.leader_id >= 0]

    def are_in_sync(self) -> bool:
        leader = self.leader
        return (
            leader is not None and leader.leader is not None and len(leader.leader.isr) == len(self.hosted())
        )

    def are_alike(self) -> bool:
        """The same bytes everywhere, all of them known to be committed."""
        replicas = list(self.hosted().values())
        logs = [log_bytes(p) for p in replicas]
        ends = {p.high_watermark for p in replicas} | {p.log.log_end_offset for p in replicas}
        return len(ends) == 1 and all(log == logs[0] for log in logs)


@asynccontextmanager
async def cluster(root: Path, count: int, **overrides: str) -> AsyncIterator[Cluster]:
    made = Cluster(root, **overrides)
    try:
        for broker_id in range(1, count + 1):
            await made.start(broker_id)
        yield made
    finally:
        for broker_id in list(made.brokers):
            await made.stop(broker_id)


def log_bytes(partition: Partition) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(partition.log.directory.glob("*.log")))


def append(partition: Partition, value: bytes = b"v", *, needs_all_acks: bool = True) -> AppendResult:
    now_ms = wall_clock_ms()
    batch = memoryview(build_batch([Record(b"k", value, now_ms)]))
    return partition.append(batch, needs_all_acks, now_ms)


class Acknowledged:
    def __init__(self) -> None:
        self.answers: list[ErrorCode] = []

    def on_committed(self, number: int, error: ErrorCode) -> None:
        self.answers.append(error)


async def test_a_follower_has_what_its_leader_has(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as brokers:
        await brokers.create(min_insync_replicas="2")
        leader = brokers.led
        waiting = Acknowledged()
        result = append(leader)
        leader.acknowledgements.park(result.last_offset + 1, waiting)
        assert leader.high_watermark == 0, "nothing is committed before the follower has it"
        await until(lambda: waiting.answers)
        assert waiting.answers == [ErrorCode.NONE]
        for number in range(50):
            append(leader, b"%d" % number)
        await until(brokers.are_alike)
        assert leader.high_watermark == 51


@pytest.mark.parametrize("mode", ["os", "ack"])
async def test_three_replicas_and_a_change_of_the_leader(tmp_path: Path, mode: str) -> None:
    async with cluster(tmp_path, 3, flush_mode=mode) as brokers:
        await brokers.create(min_insync_replicas="2")
        for number in range(20):
            append(brokers.led, b"%d" % number)
        await until(brokers.are_alike)
        old_id = brokers.leader_id
        assert old_id is not None
        old_epoch = brokers.led.leader_epoch
        await brokers.stop(old_id)
        await until(lambda: brokers.leader is not None and brokers.led.leader_epoch > old_epoch)
        assert brokers.led.log.log_end_offset == 20
        for number in range(20):
            assert append(brokers.led, b"later %d" % number).error is ErrorCode.NONE
        await until(lambda: brokers.led.high_watermark == 40)
        await brokers.start(old_id)
        await until(lambda: len(brokers.led.leader.isr) == 3 if brokers.led.leader else False)
        await until(brokers.are_alike)


async def test_who_lags_leaves_the_isr_and_comes_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as brokers:
        await brokers.create(min_insync_replicas="2")
        leader = brokers.led
        (follower,) = brokers.followers
        follower_id = next(i for i, p in brokers.hosted().items() if p is follower)
        fetcher = brokers.brokers[follower_id].followed_brokers.of(leader.leader_id)
        await fetcher.close()
        waiting = Acknowledged()
        leader.acknowledgements.park(append(leader).last_offset + 1, waiting)
        await until(lambda: leader.leader is not None and len(leader.leader.isr) == 1)
        assert waiting.answers == [ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND]
        assert append(leader).error is ErrorCode.NOT_ENOUGH_REPLICAS
        assert leader.high_watermark == 0
        registry = brokers.brokers[leader.leader_id].registry
        replicamanager = "kafka_server_replicamanager_"
        found = values(await scrape(registry))
        assert found[(f"{replicamanager}isrshrinks_total", ())] == 1
        assert found[(f"{replicamanager}isrexpands_total", ())] == 0
        for name in ("underreplicatedpartitions", "underminisrpartitioncount"):
            assert found[(replicamanager + name, ())] == 1
        fetcher.start()
        await until(lambda: leader.leader is not None and len(leader.leader.isr) == 2)
        await until(brokers.are_alike)
        assert append(leader).error is ErrorCode.NONE
        found = values(await scrape(registry))
        assert found[(f"{replicamanager}isrexpands_total", ())] == 1
        assert found[(f"{replicamanager}underminisrpartitioncount", ())] == 0
        assert found[(f"{replicamanager}atminisrpartitioncount", ())] == 1


async def test_a_cut_is_on_the_disk_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path, 2) as brokers:
        await brokers.create()
        for number in range(10):
            append(brokers.led, b"%d" % number)
        await until(brokers.are_alike)
        (partition,) = brokers.followers
        follower = partition.follower
        assert follower is not None
        follower.outstanding = None
        fetch = follower.next_fetch(partition.log, partition.durable_end_offset, 2**40)
        assert fetch is not None
        follower.high_watermark = 4
        data = PartitionData(diverging_epoch=EpochEndOffset(epoch=fetch.last_fetched_epoch, end_offset=4))
        take_answer(partition, fetch, data, 0, wall_clock_ms())
        assert partition.log.log_end_offset == 4
        assert partition.pending_cut
        synced: list[tuple[int, bool]] = []
        told = partition.owner.on_synced

        def on_synced(which: Partition) -> None:
            synced.append((which.log.recovery_point, bool(which.pending_cut)))
            assert which.log.log_end_offset == 4, "nothing came before the sync"
            told(which)

        monkeypatch.setattr(partition.owner, "on_synced", on_synced)
        await until(lambda: synced and not synced[-1][1])
        assert synced[-1] == (4, False)
        await until(brokers.are_alike)


async def test_many_partitions_share_a_session(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as brokers:
        await brokers.create_many(MANY)
        for partition in brokers.led_of_many():
            append(partition)
        async with asyncio.timeout(PATIENT_S):
            await until(lambda: all(p.high_watermark == 1 for p in brokers.led_of_many()))


async def test_a_slow_disk_of_a_follower_costs_its_own_time_and_no_parked_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the disk is out of the session; the requests meanwhile must not park until it would be due."""
    parked = {
        "replica_fetch_wait_max_ms": "60000",
        "replica_lag_time_max_ms": "120000",
        "replica_socket_timeout_ms": "120000",
    }
    async with cluster(tmp_path, 2, flush_mode="ack", **parked) as brokers:
        await brokers.create_many(6)
        # Wakes the fetches that were parked before the last partition was followed.
        for partition in brokers.led_of_many():
            append(partition)
        await until(lambda: all(p.high_watermark == 1 for p in brokers.led_of_many()))
        slowed = brokers.led_of_many()[0]
        sync = Flusher._sync

        def slow(self: Flusher, root: str, plans: Sequence[Plan]) -> None:
            time.sleep(0.05)
            sync(self, root, plans)

        monkeypatch.setattr(Flusher, "_sync", slow)
        for number in range(2, 7):
            append(slowed)
            async with asyncio.timeout(30):
                await until(lambda n=number: slowed.high_watermark == n)  # type: ignore[misc]


async def test_a_follower_that_is_behind_begins_at_the_tiered_end(tmp_path: Path) -> None:
    tiered = {
        "remote_log_storage_system_enable": "true",
        "tierlog_object_store": f"dir:{tmp_path}/objects",
        "remote_log_manager_task_interval_ms": "100",
        "log_retention_check_interval_ms": "100",
        "log_initial_task_delay_ms": "0",
    }
    async with cluster(tmp_path, 2, **tiered) as brokers:
        await brokers.create(remote_storage_enable="true", segment_bytes="1048576", local_retention_bytes="1")
        leader = brokers.led
        (follower,) = brokers.followers
        follower_id = next(i for i, p in brokers.hosted().items() if p is follower)
        fetcher = brokers.brokers[follower_id].followed_brokers.of(leader.leader_id)
        await fetcher.close()
        for number in range(8):
            append(leader, b"%d" % number * 700_000)
        await until(lambda: leader.log.local_log_start_offset >= 6)
        tiered_end = leader.log.local_log_start_offset
        fetcher.start()
        await until(lambda: follower.high_watermark == follower.log.log_end_offset == 8)
        assert follower.log.segments.first.base_offset >= tiered_end, (
            "nothing tiered was copied between brokers"
        )
        assert follower.log_start_offset == leader.log_start_offset == 0
        assert follower.log.epochs.entries == leader.log.epochs.entries
        await until(lambda: leader.leader is not None and len(leader.leader.isr) == 2)
        for number in range(4):
            append(leader, b"%d" % number * 700_000)
        await until(lambda: follower.log.local_log_start_offset >= 10)


async def test_who_is_elected_without_proof_begins_behind_the_tier(tmp_path: Path) -> None:
    """It lacks records that are tiered: those were committed, and their offsets are not given away a second time."""
    async with cluster(
        tmp_path,
        2,
        remote_log_storage_system_enable="true",
        tierlog_object_store=f"dir:{tmp_path}/bucket",
        remote_log_manager_task_interval_ms="200",
    ) as brokers:
        await brokers.create(
            remote_storage_enable="true",
            segment_bytes="1048576",
            unclean_leader_election_enable="true",
        )
        leader, leader_id = brokers.led, brokers.leader_id
        assert leader_id is not None
        (follower,) = brokers.followers
        append(leader, b"both have this")
        await until(brokers.are_alike)
        follower_id = next(i for i, p in brokers.hosted().items() if p is follower)
        await brokers.brokers[follower_id].followed_brokers.of(leader_id).close()
        for number in range(8):
            append(leader, b"%d" % number * 700_000)
        await until(lambda: leader.leader is not None and leader.leader.isr == {leader_id})
        await until(lambda: leader.remote is not None and leader.remote.end_offset >= 6)
        assert follower.log.log_end_offset == 1
        await brokers.stop(leader_id)
        await until(lambda: follower.leader is not None)
        tiered_end = follower.log.local_log_start_offset
        assert follower.high_watermark == follower.log.log_end_offset == tiered_end >= 6
        assert follower.log_start_offset == 0, "what is tiered is there to be read"
        assert append(follower).base_offset == tiered_end
        await brokers.start(leader_id)
        await until(brokers.are_in_sync)
        assert {p.log.log_end_offset for p in brokers.hosted().values()} == {tiered_end + 1}


async def test_a_partition_moves_to_another_broker(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as brokers:
        await brokers.create()
        for number in range(30):
            append(brokers.led, b"%d" % number)
        await until(brokers.are_alike)
        await brokers.start(3)
        await until(lambda: all(len(b.feed.image.active_brokers()) == 3 for b in brokers.all()))
        admin = brokers.controller.services.admin
        (result,) = await admin.reassign_partitions([Reassignment("t", 0, (3,))])
        assert result.error is ErrorCode.NONE
        await until(lambda: set(brokers.hosted()) == {3} and brokers.leader_id == 3)
        assert brokers.led.log.log_end_offset == brokers.led.high_watermark == 30
        assert append(brokers.led).error is ErrorCode.NONE
        await until(lambda: brokers.led.high_watermark == 31)


async def test_who_waits_is_told_who_leads_now(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, replica_lag_time_max_ms="60000") as brokers:
        await brokers.create(min_insync_replicas="2")
        old_id = brokers.leader_id
        assert old_id is not None
        old, new = brokers.brokers[old_id], brokers.brokers[3 - old_id]
        topic_id, epoch = brokers.led.topic_id, brokers.led.leader_epoch
        row = PartitionProduceData(index=0, records=record_batch())
        data = TopicProduceData(name="t", topic_id=topic_id, partition_data=[row])
        asked = FetchPartition(
            partition=0, fetch_offset=0, partition_max_bytes=1 << 20, current_leader_epoch=epoch
        )
        fetching = start(
            old,
            FetchRequest(
                topics=[FetchTopic(topic_id=topic_id, partitions=[asked])],
                max_wait_ms=60_000,
                min_bytes=1,
                session_epoch=-1,
            ),
        )
        await new.followed_brokers.of(old_id).close()  # so that nothing is committed any more
        requests = [
            (version, start(old, ProduceRequest(acks=-1, timeout_ms=60_000, topic_data=[data]), version))
            for version in (9, 10, 12, 13)
        ]
        assert not fetching.done() and not any(waiting.has_ended for _, waiting in requests)
        await old.registration.prepare_stop(5.0)
        endpoint = new.endpoints[0]
        for version, waiting in requests:
            answer = await asyncio.wait_for(settled(waiting), PATIENT_S)
            (entry,) = answer.responses[0].partition_responses
            assert entry.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
            told = entry.current_leader.leader_id, entry.current_leader.leader_epoch
            assert told == ((-1, -1) if version < 10 else (3 - old_id, epoch + 1))
            nodes = [(node.node_id, node.host, node.port) for node in answer.node_endpoints]
            assert nodes == ([] if version < 10 else [(3 - old_id, endpoint.host, endpoint.port)])
        answer = await asyncio.wait_for(settled(fetching), PATIENT_S)
        (found,) = answer.responses[0].partitions
        assert found.error_code == ErrorCode.FENCED_LEADER_EPOCH
        assert (found.current_leader.leader_id, found.current_leader.leader_epoch) == (3 - old_id, epoch + 1)
        assert [node.port for node in answer.node_endpoints] == [endpoint.port]


def delete_to(offset: int, timeout_ms: int = 60_000) -> DeleteRecordsRequest:
    rows = [DeleteRecordsPartition(partition_index=0, offset=offset)]
    return DeleteRecordsRequest(topics=[DeleteRecordsTopic(name="t", partitions=rows)], timeout_ms=timeout_ms)


async def test_records_are_deleted_once_every_living_replica_has_let_them_go(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as brokers:
        await brokers.create()
        for number in range(10):
            append(brokers.led, b"%d" % number)
        await until(brokers.are_alike)
        leader_id = brokers.leader_id
        assert leader_id is not None
        leader, other = brokers.brokers[leader_id], brokers.brokers[3 - leader_id]
        (follower,) = brokers.followers
        (row,) = (await call(leader, delete_to(4))).topics[0].partitions
        assert (row.error_code, row.low_watermark) == (0, 4)
        assert follower.log_start_offset == 4

        fetcher = other.followed_brokers.of(leader_id)
        await fetcher.close()
        (row,) = (await call(leader, delete_to(6, timeout_ms=0))).topics[0].partitions
        assert (row.error_code, row.low_watermark) == (ErrorCode.REQUEST_TIMED_OUT, 4)
        assert brokers.led.log_start_offset == 6, "it is deleted all the same"
        waiting = asyncio.ensure_future(start(leader, delete_to(7)))
        await until(lambda: brokers.led.log_start_waiters)
        fetcher.start()
        (row,) = (await asyncio.wait_for(waiting, PATIENT_S)).topics[0].partitions
        assert (row.error_code, row.low_watermark, follower.log_start_offset) == (0, 7, 7)
        assert not brokers.led.log_start_waiters

        await fetcher.close()
        waiting = asyncio.ensure_future(start(leader, delete_to(8)))
        await until(lambda: brokers.led.log_start_waiters)
        await brokers.stop(3 - leader_id)
        (row,) = (await asyncio.wait_for(waiting, PATIENT_S)).topics[0].partitions
        assert (row.error_code, row.low_watermark) == (0, 8), "who is gone is not waited for"


async def test_a_wait_for_followers_ends_with_its_client(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as brokers:
        await brokers.create()
        append(brokers.led, b"a")
        await until(brokers.are_alike)
        leader_id = brokers.leader_id
        assert leader_id is not None
        leader, other = brokers.brokers[leader_id], brokers.brokers[3 - leader_id]
        await other.followed_brokers.of(leader_id).close()
        for _ in range(3):
            async with connected(leader) as peer:
                peer.send(delete_to(1, timeout_ms=2**31 - 1), 2)
                await until(lambda: brokers.led.log_start_waiters)
            await until(lambda: not brokers.led.log_start_waiters)
