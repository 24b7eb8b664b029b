"""A follower's session is told what has news, looks at it in slices, and misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import until
from tests.unit.broker.test_replication import MANY as PARTITIONS
from tests.unit.broker.test_replication import Cluster, append, cluster
from tierlog import kernel
from tierlog.broker.following.fetcher import ReplicaFetcher
from tierlog.broker.leading import follower_fetch as replica_fetches
from tierlog.broker.leading import follower_watch as replica_watch
from tierlog.broker.leading.follower_fetch import FollowerSide
from tierlog.broker.leading.isr_writer import IsrChangeDriver
from tierlog.broker.replicas.partition import Partition
from tierlog.metadata.commits import partition_change
from tierlog.metadata.control.isr import with_isr
from tierlog.wire.messages.fetch import FetchRequest

PATIENT = {"replica_lag_time_max_ms": "60000", "replica_socket_timeout_ms": "60000"}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[FetchRequest]:
    """The requests of all fetchers, from now on."""
    sent: list[FetchRequest] = []
    ask = ReplicaFetcher._next_request

    def count(self: ReplicaFetcher) -> FetchRequest | None:
        request = ask(self)
        if request is not None:
            sent.append(request)
        return request

    monkeypatch.setattr(ReplicaFetcher, "_next_request", count)
    return sent


def are_quiet(brokers: Cluster) -> Callable[[], bool]:
    """Every follower of topic ``many`` stands at the end and was told so."""

    def all_quiet() -> bool:
        followers = [
            follower
            for partition in brokers.led_of_many()
            if partition.leader is not None
            for follower in partition.leader.followers.values()
        ]
        return len(followers) == PARTITIONS and all(each.presence is not None for each in followers)

    return all_quiet


async def test_what_has_much_news_is_looked_at_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "compiled", None)  # which takes more at once
    monkeypatch.setattr(replica_fetches, "LOOK_SLICE", 3)
    slices: list[int] = []
    look_on = FollowerSide._look_on

    def note(self: FollowerSide) -> None:
        before = len(self._unseen)
        look_on(self)
        slices.append(before - len(self._unseen))

    monkeypatch.setattr(FollowerSide, "_look_on", note)
    async with cluster(tmp_path, 2, **PATIENT) as brokers:
        await brokers.create_many(PARTITIONS)
        await until(are_quiet(brokers))
        slices.clear()
        for number in range(1, 4):
            for partition in brokers.led_of_many():
                append(partition)
            await until(lambda n=number: all(p.high_watermark == n for p in brokers.led_of_many()))  # type: ignore[misc]
        assert max(slices) == 3
        await until(are_quiet(brokers))


async def test_many_that_have_no_news_and_cannot_be_quiet_cost_no_more_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is out of the ISR is looked at by every fetch: in slices, but not in a request for each slice."""
    monkeypatch.setattr(replica_fetches, "LOOK_SLICE", 3)
    async with cluster(tmp_path, 2, replica_fetch_wait_max_ms="500") as brokers:
        await brokers.create_many(PARTITIONS)
        for partition in brokers.led_of_many():
            await brokers.brokers[3 - partition.leader_id].followed_brokers.of(partition.leader_id).close()
        for partition in brokers.led_of_many():
            append(partition)
        await until(lambda: all(p.leader and len(p.leader.isr) == 1 for p in brokers.led_of_many()))
        consider = IsrChangeDriver.consider
        monkeypatch.setattr(IsrChangeDriver, "consider", lambda self, partition: None)
        for broker_id in brokers.brokers:
            brokers.brokers[broker_id].followed_brokers.of(3 - broker_id).start()
        hosted = [b.replicas.by_name("many", n) for b in brokers.all() for n in range(PARTITIONS)]
        await until(lambda: all(isinstance(p, Partition) and p.log.log_end_offset == 1 for p in hosted))
        sent = counted(monkeypatch)
        await asyncio.sleep(1.0)
        assert len(sent) < 20
        monkeypatch.setattr(IsrChangeDriver, "consider", consider)
        await until(lambda: all(p.leader and len(p.leader.isr) == 2 for p in brokers.led_of_many()))


async def test_what_moves_without_a_word_is_found_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As retention moves a log start."""
    monkeypatch.setattr(replica_watch, "RECHECKED", 3)
    async with cluster(tmp_path, 2, **PATIENT) as brokers:
        await brokers.create_many(PARTITIONS)
        for partition in brokers.led_of_many():
            for _ in range(2):
                append(partition)
        await until(are_quiet(brokers))
        for partition in brokers.led_of_many():
            partition.log.advance_log_start_offset(1)
        hosted = [b.replicas.by_name("many", n) for b in brokers.all() for n in range(PARTITIONS)]
        await until(lambda: all(isinstance(p, Partition) and p.log_start_offset == 1 for p in hosted))


async def test_who_was_put_out_of_the_isr_while_nothing_happened_comes_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, **PATIENT) as brokers:
        await brokers.create_many(PARTITIONS)
        await until(are_quiet(brokers))
        partition = brokers.led_of_many()[0]
        topic_id, index = partition.topic_id, partition.topic_partition.partition
        leader = brokers.brokers[partition.leader_id]
        state = leader.feed.image.partition(topic_id, index)
        assert state is not None
        change = partition_change(
            topic_id,
            index,
            state,
            with_isr(state, {state.leader}),
            broker_id=state.leader,
            broker_epoch=leader.registration.broker_epoch,
        )
        result = await leader.store.txn(change)
        assert result.ok
        await leader.feed.wait_for_revision(result.revision)
        assert partition.partition_epoch >= result.revision
        await until(lambda: partition.leader is not None and len(partition.leader.isr) == 2)


async def test_a_newer_session_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, **PATIENT) as brokers:
        await brokers.create_many(PARTITIONS)
        await until(are_quiet(brokers))
        led = brokers.led_of_many()
        before = {partition: set(partition.parked_replicas) for partition in led}
        assert {len(watches) for watches in before.values()} == {1}
        for broker_id in brokers.brokers:
            brokers.brokers[broker_id].followed_brokers.of(3 - broker_id).restart()
        await until(lambda: all(p.parked_replicas and set(p.parked_replicas) != before[p] for p in led))
        assert {len(partition.parked_replicas) for partition in led} == {1}
        for partition in led:
            append(partition)
        await until(lambda: all(p.high_watermark == 1 for p in led))
