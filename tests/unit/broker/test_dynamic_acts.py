"""A running broker acts on a dynamic broker config, of one broker or of all, as long as it is set: on a topic that was there
before and has no such config of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import running
from tests.unit.broker.test_dynamic_effects import alter
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.config.dynamic import is_dynamic
from tierlog.config.lookup import BROKER
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendResult
from tierlog.log.compaction.run import plan_of
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.batch import BatchHeader, walk
from tierlog.records.records import Record, build_batch

MINUTE_MS = 60_000


def write(
    partition: Partition,
    *,
    key: bytes | None = b"k",
    value_bytes: int = 500,
    age_ms: int = 0,
    producer_id: int = -1,
) -> AppendResult:
    now_ms = wall_clock_ms()
    producer = (
        {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": 0} if producer_id >= 0 else {}
    )
    batch = build_batch([Record(key, bytes(value_bytes), now_ms - age_ms)], **producer)
    return partition.append(memoryview(batch), False, now_ms)


def last_header(partition: Partition) -> BatchHeader:
    place = partition.log.locate(partition.log.log_end_offset - 1, 1 << 20, partition.log.log_end_offset)
    assert place is not None
    return list(walk(partition.log.read(place)))[-1][1]


async def stamps(broker: Broker, partition: Partition) -> bool:
    write(partition, age_ms=MINUTE_MS)
    return last_header(partition).max_timestamp > wall_clock_ms() - MINUTE_MS


def refuses(error: ErrorCode, **record: int | None) -> Callable[[Broker, Partition], Awaitable[bool]]:
    async def act(broker: Broker, partition: Partition) -> bool:
        found = write(partition, **record).error  # type: ignore[arg-type]
        assert found in (ErrorCode.NONE, error)
        return found is error

    return act


async def rolls(broker: Broker, partition: Partition) -> bool:
    before = partition.log.segment_count
    for _ in range(3):
        assert write(partition, value_bytes=500_000).error is ErrorCode.NONE
    return partition.log.segment_count > before


async def rolls_by_index(broker: Broker, partition: Partition) -> bool:
    """A segment keeps the size of index that it was made with."""
    write(partition)
    partition.log.roll(wall_clock_ms())
    return await rolls(broker, partition)


async def rolls_by_age(broker: Broker, partition: Partition) -> bool:
    before = partition.log.segment_count
    write(partition, age_ms=2 * MINUTE_MS)
    write(partition)
    return partition.log.segment_count > before


async def deletes(broker: Broker, partition: Partition) -> bool:
    write(partition, age_ms=2 * MINUTE_MS)
    await broker.housekeeping.retain()
    return partition.log_start_offset == partition.log.log_end_offset


async def unlinks_at_once(broker: Broker, partition: Partition) -> bool:
    now_ms = wall_clock_ms()
    write(partition)
    partition.log.roll(now_ms)
    files = partition.log.delete_segments_below(partition.log.log_end_offset, now_ms)
    return bool(files) and all(each.due_ms <= now_ms for each in files)


async def flushes(broker: Broker, partition: Partition) -> bool:
    write(partition)
    await asyncio.sleep(0.05)
    return partition.log.recovery_point == partition.log.log_end_offset


async def flushes_in_time(broker: Broker, partition: Partition) -> bool:
    write(partition)
    return partition.is_flush_due(wall_clock_ms() + MINUTE_MS)


async def indexes_each(broker: Broker, partition: Partition) -> bool:
    before = partition.log.segments.active.offset_index.count
    for _ in range(4):
        write(partition)
    return partition.log.segments.active.offset_index.count >= before + 3


async def preallocates(broker: Broker, partition: Partition) -> bool:
    write(partition)
    partition.log.roll(wall_clock_ms())
    return partition.log.segments.active.path(".log").stat().st_size > 0


async def forgets_producers(broker: Broker, partition: Partition) -> bool:
    write(partition, producer_id=7)
    await asyncio.sleep(0.01)
    await broker.housekeeping._expire_producers()
    return len(partition.log.producers) == 0


def compacts(*, is_due: bool) -> Callable[[Broker, Partition], Awaitable[bool]]:
    async def act(broker: Broker, partition: Partition) -> bool:
        write(partition, age_ms=MINUTE_MS)
        partition.log.roll(wall_clock_ms())
        plan = plan_of(partition.log, None, partition.high_watermark, wall_clock_ms())
        return (plan is not None and plan.is_due) is is_due

    return act


async def holds_followers_back(broker: Broker, partition: Partition) -> bool:
    return pauses(broker.replicas.quotas.leader.count, broker.replicas.quotas.leader.pause_s)


async def holds_itself_back(broker: Broker, partition: Partition) -> bool:
    return pauses(broker.replicas.quotas.follower.count, broker.replicas.quotas.follower.pause_s)


async def holds_replays_back(broker: Broker, partition: Partition) -> bool:
    rate = broker.replicas.replay_rate
    rate.count(3_000_000, 0.0)
    return rate.pause_s(0.0) > 1


def pauses(count: Callable[[int, float], None], pause_s: Callable[[float], float]) -> bool:
    count(1_000_000, 0.0)
    return pause_s(0.0) > 1


class Act(NamedTuple):
    """``topic``: configs of its own."""

    value: str
    is_seen: Callable[[Broker, Partition], Awaitable[bool]]
    topic: Mapping[str, str] = MappingProxyType({})


COMPACTED = {"cleanup.policy": "compact"}
ACTS = {
    "log.message.timestamp.type": Act("LogAppendTime", stamps),
    "log.message.timestamp.before.max.ms": Act(
        "1000", refuses(ErrorCode.INVALID_TIMESTAMP, age_ms=MINUTE_MS)
    ),
    "log.message.timestamp.after.max.ms": Act(
        "1000", refuses(ErrorCode.INVALID_TIMESTAMP, age_ms=-MINUTE_MS)
    ),
    "message.max.bytes": Act("400", refuses(ErrorCode.MESSAGE_TOO_LARGE)),
    "log.cleanup.policy": Act("compact", refuses(ErrorCode.INVALID_RECORD, key=None)),
    "log.segment.bytes": Act("1048576", rolls),
    "log.index.size.max.bytes": Act("24", rolls_by_index),
    "log.roll.ms": Act("60000", rolls_by_age),
    "log.retention.ms": Act("60000", deletes),
    "log.retention.bytes": Act("0", deletes),
    "log.segment.delete.delay.ms": Act("0", unlinks_at_once),
    "log.flush.interval.messages": Act("1", flushes),
    "log.flush.interval.ms": Act("1000", flushes_in_time),
    "log.index.interval.bytes": Act("0", indexes_each),
    "log.preallocate": Act("true", preallocates, {"segment.bytes": "1048576"}),
    "producer.id.expiration.ms": Act("1", forgets_producers),
    "log.cleaner.min.cleanable.ratio": Act("1.0", compacts(is_due=False), COMPACTED),
    "log.cleaner.min.compaction.lag.ms": Act("3600000", compacts(is_due=False), COMPACTED),
    "log.cleaner.max.compaction.lag.ms": Act(
        "1000", compacts(is_due=True), COMPACTED | {"min.cleanable.dirty.ratio": "1.0"}
    ),
    "leader.replication.throttled.rate": Act("1000", holds_followers_back),
    "follower.replication.throttled.rate": Act("1000", holds_itself_back),
    "tierlog.replay.fetch.max.bytes.per.second": Act("1048576", holds_replays_back),
}
ELSEWHERE = {
    "compression.type": "only producer is taken",
    "log.cleaner.backoff.ms": "test_dynamic_effects",
    "max.connections": "test_dynamic_effects",
    "max.connections.per.ip": "test_dynamic_effects",
    "max.connections.per.ip.overrides": "test_dynamic_effects",
    "remote.log.index.file.cache.total.size.bytes": "test_dynamic_effects",
    "remote.log.manager.copy.max.bytes.per.second": "test_dynamic_effects",
    "remote.log.manager.fetch.max.bytes.per.second": "test_dynamic_effects",
    "cordoned.log.dirs": "test_log_dirs",
    "num.recovery.threads.per.data.dir": "at a start: test_config_effects",
    "log.cleaner.dedupe.buffer.size": "read at each run of the cleaner",
    "remote.fetch.max.wait.ms": "read at each fetch",
    "remote.list.offsets.request.timeout.ms": "read at each request",
    "log.roll.jitter.ms": "by chance; as log.roll.ms",
    "log.cleaner.delete.retention.ms": "a topic's default as the others",
    "log.local.retention.bytes": "a topic's default as the others",
    "log.local.retention.ms": "a topic's default as the others",
    "log.remote.copy.lag.bytes": "a topic's default as the others",
    "log.remote.copy.lag.ms": "a topic's default as the others",
    "tierlog.remote.copy.max.delay.ms": "a topic's default as the others",
    "tierlog.tiers": "a topic's default as the others",
    "tierlog.ledger.flush.interval.ms": "offload/test_ledger",
    "tierlog.ledger.retention.days": "offload/test_ledger",
    "min.insync.replicas": "by the controller",
    "unclean.leader.election.enable": "by the controller",
}


def test_none_is_left_out() -> None:
    assert ACTS.keys() | ELSEWHERE.keys() == {name for name, row in BROKER.items() if is_dynamic(row)}


async def leading(broker: Broker, topic: str) -> Partition:
    async with asyncio.timeout(PATIENT_S):
        while True:
            found = broker.replicas.by_name(topic, 0)
            if isinstance(found, Partition) and found.leader is not None:
                return found
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("is_first_of_all", [True, False])
async def test_they_act_while_they_are_set(tmp_path: Path, is_first_of_all: bool) -> None:
    """Of this broker and of all in turn."""
    entities = cycle(("", "1") if is_first_of_all else ("1", ""))
    async with running(tmp_path, log_cleaner_enable="false") as broker:
        topics = [
            NewTopic(name, 1, 1, configs={"flush.mode": "os", **act.topic}) for name, act in ACTS.items()
        ]
        await broker.services.admin.create_topics(topics)
        for name, act in ACTS.items():
            partition = await leading(broker, name)
            assert not await act.is_seen(broker, partition), f"{name} before"
            entity = next(entities)
            await alter(broker, entity, **{name: act.value})
            async with asyncio.timeout(PATIENT_S):
                while not await act.is_seen(broker, partition):
                    await asyncio.sleep(0.01)
                await alter(broker, entity, **{name: None})
                assert not await act.is_seen(broker, partition), f"{name} after"
