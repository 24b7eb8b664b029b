"""The driver of group shards: loading, group commit, parked replies, failures. On a real loop with a log in
memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.patience import PATIENT_S
from tests.unit.coordination.world import subscription
from tierlog.broker.groups.shard_runtime import ShardRuntime, _cached_partition_for
from tierlog.coordination.config import GroupConfig
from tierlog.coordination.decision import Caller
from tierlog.coordination.partitioning import partition_for
from tierlog.errors import ErrorCode, StorageError
from tierlog.records.batch import stamp
from tierlog.records.records import Record, batch_around, encode_record
from tierlog.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)


class MemoryLog:
    """A ``ShardLog`` whose high watermark moves by itself (``replicated``) or by hand."""

    def __init__(self, replicated: bool = True) -> None:
        self.replicated = replicated
        self.batches: list[tuple[int, bytes]] = []
        self.high_watermark = 0
        self.log_end_offset = 0
        self.log_start_offset = 0
        self.refusal: ErrorCode | StorageError | None = None
        self.is_readable = True
        self._callback: Callable[[int], None] = lambda high_watermark: None

    def read(self, offset: int, max_bytes: int) -> tuple[bytes, int]:
        if not self.is_readable:
            raise StorageError("disk gone")
        data, next_offset = b"", offset
        for base, batch in self.batches:
            if base >= offset and len(data) < max_bytes:
                data += batch
                next_offset = base + int.from_bytes(batch[23:27], "big") + 1
        return data, next_offset

    def append(self, records: bytes, count: int) -> int | ErrorCode:
        if isinstance(self.refusal, StorageError):
            raise self.refusal
        if self.refusal is not None:
            return self.refusal
        batch = batch_around(records, count, 5)
        stamp(batch, 0, self.log_end_offset, 0)
        self.batches.append((self.log_end_offset, bytes(batch)))
        self.log_end_offset += count
        if self.replicated:
            self.commit()
        return self.log_end_offset - 1

    def append_pairs(self, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Keys and values, which may be of no event."""
        self.append(b"".join(encode_record(Record(*pair), n, 0) for n, pair in enumerate(pairs)), len(pairs))

    def commit(self, end_offset: int | None = None) -> None:
        self.high_watermark = self.log_end_offset if end_offset is None else end_offset
        self._callback(self.high_watermark)

    def on_high_watermark(self, callback: Callable[[int], None]) -> None:
        self._callback = callback


class Broker:
    """A runtime of one partition, with a clock moved by hand that the loop's timers do not see."""

    def __init__(self, log: MemoryLog, **config: Any) -> None:
        self.now_ms = 1_000_000
        self.log = log
        self.runtime = ShardRuntime(
            asyncio.get_running_loop(), GroupConfig(**config), lambda: 1, lambda: self.now_ms
        )

    async def lead(self) -> Broker:
        self.runtime.lead(0, self.log)
        while self.led.shard is None:
            await asyncio.sleep(0)
        return self

    @property
    def led(self) -> Any:
        return self.runtime.led()[0]

    def commit(self, offset: int, group: str = "g", partition: int = 0) -> Any:
        row = OffsetCommitRequestPartition(partition_index=partition, committed_offset=offset)
        request = OffsetCommitRequest(
            group_id=group, topics=[OffsetCommitRequestTopic(name="t", partitions=[row])]
        )
        return self.runtime.call(
            group,
            lambda shard, ticket, now_ms: shard.decide_offset_commit(ticket, request, Caller(8), now_ms),
            lambda error: error,
        )

    def fetch(self, group: str = "g") -> Any:
        return self.runtime.read(
            group,
            lambda shard: committed.offset if (committed := shard.offsets.of(group, "t", 0)) else -1,
            lambda error: error,
        )

    def join(self, version: int = 3) -> Any:
        request = JoinGroupRequest(
            group_id="g",
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=subscription("t"))],
        )
        caller = Caller(version, "c", "/h", "1")
        return self.runtime.call(
            "g",
            lambda shard, ticket, now_ms: shard.decide_join(ticket, request, caller, now_ms),
            lambda error: JoinGroupResponse(error_code=error),
        )

    def heartbeat(self) -> Any:
        request = HeartbeatRequest(group_id="g", member_id="x")
        return self.runtime.call(
            "g",
            lambda shard, ticket, now_ms: shard.decide_heartbeat(ticket, request, now_ms),
            lambda error: HeartbeatResponse(error_code=error),
        )


async def soon(answer: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(answer, PATIENT_S)


async def ticks(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_commits_of_one_tick_share_a_batch() -> None:
    broker = await Broker(MemoryLog()).lead()
    answers = [broker.commit(offset, group=f"g{offset}") for offset in range(10)]
    assert broker.log.log_end_offset == 0
    responses = await soon(asyncio.gather(*answers))
    assert all(isinstance(response, OffsetCommitResponse) for response in responses)
    assert len(broker.log.batches) == 1
    assert broker.log.log_end_offset == 10


async def test_a_large_tick_is_cut_into_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.broker.groups.shard_runtime.BATCH_BYTES_MAX", 300)
    broker = await Broker(MemoryLog()).lead()
    await soon(asyncio.gather(*[broker.commit(offset, partition=offset) for offset in range(50)]))
    assert len(broker.log.batches) > 5
    assert broker.log.log_end_offset == 50


async def test_nothing_is_answered_before_it_is_committed() -> None:
    log = MemoryLog(replicated=False)
    broker = await Broker(log).lead()
    commit, fetch, heartbeat = broker.commit(7), broker.fetch(), broker.heartbeat()
    await ticks()
    later = broker.fetch()
    assert log.log_end_offset == 1
    assert not any(answer.done() for answer in (commit, fetch, heartbeat, later))
    log.commit()
    assert commit.done()
    assert fetch.result() == later.result() == 7
    assert heartbeat.result().error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert broker.fetch() == 7, "with nothing under way a read is answered at once"
    assert broker.heartbeat().error_code == ErrorCode.UNKNOWN_MEMBER_ID


async def test_replies_are_released_in_the_order_of_the_log() -> None:
    log = MemoryLog(replicated=False)
    broker = await Broker(log).lead()
    first = broker.commit(1)
    await ticks()
    second = broker.commit(2)
    await ticks()
    log.commit(1)
    assert (first.done(), second.done()) == (True, False)
    log.commit(2)
    assert second.done()


async def test_what_is_not_committed_in_time_is_refused() -> None:
    log = MemoryLog(replicated=False)
    broker = await Broker(log).lead()
    commit = broker.commit(1)
    await ticks()
    broker.now_ms += 4_999
    broker.led._on_timer()
    assert not commit.done()
    broker.now_ms += 1
    broker.led._on_timer()
    assert commit.result() == ErrorCode.COORDINATOR_NOT_AVAILABLE
    log.commit()
    assert broker.fetch() == 1, "it may be committed later all the same"


async def test_a_shard_is_loaded_from_its_log() -> None:
    log = MemoryLog()
    broker = await Broker(log).lead()
    for offset in range(20):
        await soon(broker.commit(offset))
    broker.runtime.lead(0, log)
    assert broker.commit(9) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert broker.fetch() == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    while broker.led.shard is None:
        await asyncio.sleep(0)
    assert broker.fetch() == 19


async def test_an_uncommitted_tail_is_loaded_and_not_told_before_it_is_committed() -> None:
    log = MemoryLog(replicated=False)
    broker = await Broker(log).lead()
    broker.commit(5)
    await ticks()
    await broker.lead()
    fetch = broker.fetch()
    assert not fetch.done()
    log.commit()
    assert fetch.result() == 5


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (StorageError("no space"), ErrorCode.COORDINATOR_NOT_AVAILABLE),
    ],
)
async def test_a_failed_append_drops_the_shard_and_loads_it_anew(
    refusal: ErrorCode | StorageError, told: ErrorCode
) -> None:
    broker = await Broker(MemoryLog()).lead()
    await soon(broker.commit(1))
    join = broker.join()
    await ticks()
    broker.log.refusal = refusal
    commit, fetch = broker.commit(2, group="h"), broker.fetch()
    await ticks()
    assert commit.result() == fetch.result() == told
    assert join.result().error_code == told
    assert broker.commit(3, group="h") == told
    broker.log.refusal = None
    broker.led._reload()
    await ticks()
    assert (broker.fetch(), broker.fetch("h")) == (1, -1), "what was not appended is gone"


async def test_the_pause_before_a_reload_grows_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.broker.groups.shard_runtime.RELOAD_PAUSE_MIN_MS", 1)
    broker = await Broker(MemoryLog()).lead()
    broker.log.refusal = ErrorCode.NOT_ENOUGH_REPLICAS
    for _ in range(3):
        while broker.led.shard is None:
            await asyncio.sleep(0.001)
        await soon(broker.commit(1))
    assert broker.led._reload_pause_ms == 4
    broker.log.refusal = None
    while broker.led.shard is None:
        await asyncio.sleep(0.001)
    await soon(broker.commit(1))
    assert broker.led._reload_pause_ms == 0


async def test_an_unreadable_log_is_tried_again() -> None:
    log = MemoryLog()
    broker = await Broker(log).lead()
    await soon(broker.commit(1))
    log.is_readable = False
    broker.runtime.lead(0, log)
    await ticks()
    assert broker.commit(1) == ErrorCode.COORDINATOR_NOT_AVAILABLE
    log.is_readable = True
    broker.led._reload()
    await ticks()
    assert broker.fetch() == 1


async def test_resigning_sends_everybody_away() -> None:
    broker = await Broker(MemoryLog(replicated=False)).lead()
    commit, join = broker.commit(1), broker.join()
    await ticks()
    broker.runtime.resign(0)
    assert commit.result() == ErrorCode.NOT_COORDINATOR
    assert join.result().error_code == ErrorCode.NOT_COORDINATOR
    assert broker.fetch() == ErrorCode.NOT_COORDINATOR
    broker.log.commit()
    broker.runtime.resign(0)
    broker.runtime.close()


async def test_resigning_while_loading() -> None:
    broker = Broker(MemoryLog())
    broker.runtime.lead(0, broker.log)
    broker.runtime.resign(0)
    await ticks()
    assert broker.runtime.led() == []


async def test_timers_of_the_shard_are_kept() -> None:
    broker = await Broker(MemoryLog(), group_initial_rebalance_delay_ms=20).lead()
    join = broker.join()
    await asyncio.sleep(0)
    broker.now_ms += 20
    response = await soon(join)
    assert response.generation_id == 1


async def test_a_client_that_went_away_harms_nobody() -> None:
    broker = await Broker(MemoryLog(replicated=False)).lead()
    commit = broker.commit(1)
    commit.cancel()
    await ticks()
    broker.log.commit()
    assert broker.fetch() == 1


async def test_a_broken_shard_is_given_up() -> None:
    broker = await Broker(MemoryLog()).lead()
    await soon(broker.commit(1))

    def broken(*_: Any) -> Any:
        raise AssertionError("a bug")

    with capture_logs() as logs:
        assert broker.runtime.call("g", broken, lambda error: error) == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert [(line["log_level"], line["partition"]) for line in logs] == [("error", broker.led.partition)]
    broker.led._reload()
    await ticks()
    assert broker.fetch() == 1


async def test_the_number_of_waiting_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.broker.groups.shard_runtime.TICKETS_MAX", 3)
    broker = await Broker(MemoryLog(replicated=False)).lead()
    for offset in range(3):
        broker.commit(offset)
    assert broker.commit(4) == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert broker.fetch() == ErrorCode.COORDINATOR_NOT_AVAILABLE


async def test_long_names_are_not_cached() -> None:
    runtime = ShardRuntime(asyncio.get_running_loop(), GroupConfig(), lambda: 50)
    before = _cached_partition_for.cache_info().currsize
    for number in range(100):
        name = f"{number:05}" * 2000
        assert runtime.partition_of(name) == partition_for(name, 50)
    assert _cached_partition_for.cache_info().currsize == before


async def test_no_topic_no_coordinator() -> None:
    runtime = ShardRuntime(asyncio.get_running_loop(), GroupConfig(), lambda: 0)
    assert runtime.read("g", lambda shard: shard, lambda error: error) == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert runtime.partition_of("g") is None
    runtime = ShardRuntime(asyncio.get_running_loop(), GroupConfig(), lambda: 50)
    assert runtime.partition_of("g") == 3
    assert runtime.read("g", lambda shard: shard, lambda error: error) == ErrorCode.NOT_COORDINATOR


async def test_positions_go_with_deleted_topics() -> None:
    broker = await Broker(MemoryLog()).lead()
    await soon(broker.commit(1))
    broker.runtime.topics_deleted(frozenset({"t"}))
    await ticks()
    assert broker.fetch() == -1
    assert broker.log.log_end_offset == 2
