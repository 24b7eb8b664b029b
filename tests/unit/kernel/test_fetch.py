"""Fetches in the kernel and by the handler alone: two brokers that are asked the same answer, remember and wait the same.

``TIERLOG_KERNEL_INPUTS``: how many steps.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.fetch_rounds import (
    OPENS,
    Peer,
    fetch_frame,
    follower_request,
    named,
)
from tests.unit.kernel.fetch_sides import FOLLOWERS, NOW_MS, Side, both_sides, retold
from tests.unit.kernel.fetch_steps import Steps, joined
from tierlog import kernel
from tierlog.broker.fetch.consumer_fetch import ConsumerSide
from tierlog.broker.leading.follower_fetch import FollowerSide
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.log import Log
from tierlog.records.records import Record, build_batch
from tierlog.types import AbortedTransaction
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.fetch import FetchRequest, FetchTopic
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")

FEW_LOOKS = 50
STEPS = int(os.environ.get("TIERLOG_KERNEL_INPUTS", "2000")) // 4


def learn_sessions(steps: Steps, side: Side) -> None:
    """The fetchers learn from their answers in which session they are."""
    if steps.reading[1] == 1:
        steps.reading = (max(side.broker.services.fetch_sessions.table, default=0), 1)
    for asking in steps.asking.values():
        watch = side.broker.services.watches.table.get(asking.broker_id)
        if asking.session[1] <= 1 and watch is not None:
            asking.session = (watch.session.session_id, watch.session.epoch)


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[type, int]]:
    """How often the twin looks, by whom it serves and the ``id`` of its broker's services."""
    looks: Counter[tuple[type, int]] = Counter()

    def counts(look: Callable[..., None]) -> Callable[..., None]:
        def looks_too(self: Any, *args: Any) -> None:
            looks[type(self), id(self._parts)] += 1
            look(self, *args)

        return looks_too

    for side in (FollowerSide, ConsumerSide):
        for name in ("read", "read_again"):
            monkeypatch.setattr(side, name, counts(getattr(side, name)))
    return looks


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_same_from_both(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = counted_looks(monkeypatch)
    async with both_sides(tmp_path) as (ours, theirs):
        steps = Steps(Random(seed), ours)
        for number in range(STEPS):
            step = steps.next()
            for side in (ours, theirs):
                step(side)
                if number % 3:
                    side.settle()
            assert ours.written() == [retold(ours, theirs, each) for each in theirs.written()], number
            assert ours.state() == theirs.state(), number
            learn_sessions(steps, ours)
        for kind, share in ((FollowerSide, 0.7), (ConsumerSide, 0.8)):
            own, twins = looks[kind, id(ours.broker.services)], looks[kind, id(theirs.broker.services)]
            # A few steps say little of how many the kernel takes.
            assert twins < FEW_LOOKS or 0 < own < share * twins, (kind, own, twins)


def produced(side: Side, value: bytes, acks: int = 1) -> bytes:
    row = PartitionProduceData(index=0, records=build_batch([Record(b"k", value, NOW_MS)]))
    request = ProduceRequest(
        acks=acks, timeout_ms=60_000, topic_data=[TopicProduceData(name="t", partition_data=[row])]
    )
    return b"".join(encode_request(0, 9, 5, "p", encode(request, 9)))


def begun(side: Side) -> Peer:
    """The connection of a follower that has named all partitions and was answered."""
    peer = side.followers[FOLLOWERS[0]]
    topics = joined([named(partition, 0) for partition in side.partitions])
    peer.send(fetch_frame(17, follower_request(FOLLOWERS[0], (0, OPENS), topics)))
    side.loop.pass_time(0.6)
    side.settle()
    side.written()
    return peer


async def test_frames_of_one_read_are_answered_in_their_order(tmp_path: Path) -> None:
    async with both_sides(tmp_path) as sides:
        found = []
        for side in sides:
            peer = begun(side)
            fetches = [
                fetch_frame(
                    17,
                    follower_request(FOLLOWERS[0], (1, epoch), [named(side.partitions[0], at)]),
                    90 + epoch,
                )
                for epoch, at in ((1, 0), (2, 1), (3, 2), (4, 3))
            ]
            one, two, three = (produced(side, value) for value in (b"one", b"two", b"three"))
            peer.send(one + fetches[0] + two + three + fetches[1] + fetches[2] + fetches[3] + one)
            side.settle()
            assert peer.connection.has_pending
            side.loop.pass_time(0.6)
            side.settle()
            found.append((retold(sides[0], side, peer.taken()), side.state()))
        assert found[0] == found[1]


async def test_a_parked_fetch_leaves_the_place_of_its_session_to_a_newer_one(tmp_path: Path) -> None:
    async with both_sides(tmp_path) as (side, _):
        peer, watches = begun(side), side.broker.services.watches
        peer.send(fetch_frame(17, follower_request(FOLLOWERS[0], (1, 1), [named(side.partitions[0], 0)])))
        assert watches.table[FOLLOWERS[0]].fetch is watches.table[FOLLOWERS[0]].parked
        newer = side.peer()
        newer.send(
            fetch_frame(17, follower_request(FOLLOWERS[0], (0, OPENS), [named(side.partitions[0], 0)]))
        )
        assert watches.table[FOLLOWERS[0]].session.session_id == 2
        side.loop.pass_time(0.6)
        side.settle()
        answer = peer.taken()
        assert int.from_bytes(answer[13:15], "big") == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        assert watches.table[FOLLOWERS[0]].session.session_id == 2
        side.producer.send(produced(side, b"one"))
        side.settle()
        newer.send(fetch_frame(17, follower_request(FOLLOWERS[0], (2, 1), [])))
        assert b"one" in newer.taken()


@pytest.mark.parametrize("parks", [False, True])
async def test_what_the_kernel_cannot_read_is_read_by_the_twin(
    tmp_path: Path, parks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the position that the fetch has proved, at once and after its wait."""
    failures: list[str] = []

    def fails_once(*_: Any) -> Any:
        failures.append("")
        monkeypatch.undo()
        raise StorageError("a disk that fails once")

    async with both_sides(tmp_path) as sides:
        found = []
        for side in sides:
            peer = begun(side)
            side.producer.send(produced(side, b"one"))
            if parks:
                side.settle()
                request = follower_request(FOLLOWERS[0], (1, 1), [named(side.partitions[0], 1)])
                peer.send(fetch_frame(17, request))
                side.producer.send(produced(side, b"two"))
            if side is sides[0]:
                monkeypatch.setattr(Log, "read_nowait", fails_once)
            if parks:
                side.settle()
            else:
                request = follower_request(FOLLOWERS[0], (1, 1), [named(side.partitions[0], 0)])
                peer.send(fetch_frame(17, request))
            assert b"two" in b"".join(peer.written) if parks else b"one" in b"".join(peer.written)
            found.append((retold(sides[0], side, peer.taken()), side.state()))
        assert failures
        assert found[0] == found[1]


def opened(side: Side) -> Peer:
    """The connection of a consumer that has opened a session with one partition, from its first offset."""
    peer = side.reader
    request = FetchRequest(max_wait_ms=0, topics=[consumed(side, 0)], session_epoch=OPENS)
    peer.send(fetch_frame(17, request))
    side.settle()
    side.written()
    return peer


def consumed(side: Side, offset: int) -> FetchTopic:
    asked = named(side.partitions[0], offset)
    asked.partitions[0].last_fetched_epoch = -1
    return asked


async def test_a_parked_fetch_of_a_session_that_has_ended_is_told_so(tmp_path: Path) -> None:
    async with both_sides(tmp_path) as (side, _):
        peer = opened(side)
        peer.send(fetch_frame(17, FetchRequest(max_wait_ms=100, min_bytes=1, session_id=1, session_epoch=1)))
        assert peer.connection.parked is not None
        assert peer.connection.has_pending
        side.consumer.send(fetch_frame(17, FetchRequest(session_id=1, session_epoch=-1)))
        side.settle()
        answer = peer.taken()
        assert int.from_bytes(answer[13:15], "big") == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        assert not any(partition.parked for partition in side.partitions)


@pytest.mark.parametrize("session_id", [0, 1])
async def test_aborted_transactions_are_told_by_the_twin(
    tmp_path: Path, session_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both_sides(tmp_path) as sides:
        found = []
        for side in sides:
            monkeypatch.setattr(Log, "aborted_transactions", lambda *_: [AbortedTransaction(9, 0, 0, 0)])
            peer = opened(side)
            side.producer.send(produced(side, b"one"))
            leader = side.partitions[0].leader
            assert leader is not None
            leader.high_watermark = 1
            request = FetchRequest(
                max_wait_ms=0,
                isolation_level=1,
                session_id=session_id,
                session_epoch=1 if session_id else -1,
                topics=[consumed(side, 0)],
            )
            peer.send(fetch_frame(17, request))
            side.settle()
            found.append((retold(sides[0], side, peer.taken()), side.state()))
        assert b"one" in found[0][0]
        assert found[0] == found[1]
