"""A consumer's watch against the walk over all of its session: both name the same partitions, in the same order."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tierlog.broker.fetch import consumer_watch
from tierlog.broker.fetch.consumer_watch import ConsumerWatch
from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.sessions import FetchedPartition, FetchSessions
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic

ID = bytes(range(16))
PARTITIONS = 6
VERSION = 13
numbers = st.integers(0, PARTITIONS - 1)
some = st.sets(numbers)


class Hosted(SimpleNamespace):
    """Compared by identity, as partitions are."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class World(RuleBasedStateMachine):
    """Partitions are what a watch sees of them. ``unreported``: changes that only the check in turn can find."""

    def __init__(self) -> None:
        super().__init__()
        self.hosted: list[Any] = [
            Hosted(parked={}, changes=0, log=SimpleNamespace(log_start_offset=0)) for _ in range(PARTITIONS)
        ]
        self.cache = FetchSessions(10, lambda: 7)
        opened = self.cache.resolve(self.request(0, set(range(PARTITIONS)), set()), VERSION, 0.0)
        assert opened.session is not None
        self.session = opened.session
        self.watch = self.watched()
        self.unreported: set[int] = set()
        self.looked_at: dict[FetchedPartition, PartitionRead] | None = None
        self.woken: list[int] | None = None
        self.deaf: set[int] = set()
        self.is_awake = False
        self.look(PARTITIONS)
        self.answer(set(), set())

    def watched(self) -> ConsumerWatch:
        watch = ConsumerWatch.of(self.session)
        assert watch is not None
        return watch

    def request(self, epoch: int, named: set[int], forgotten: set[int]) -> FetchRequest:
        rows = [FetchPartition(partition=n, partition_max_bytes=100) for n in sorted(named)]
        return FetchRequest(
            session_id=7 if epoch else 0,
            session_epoch=epoch,
            topics=[FetchTopic(topic_id=ID, partitions=rows)] if rows else [],
            forgotten_topics_data=[ForgottenTopic(topic_id=ID, partitions=sorted(forgotten))]
            if forgotten
            else [],
        )

    # -- a fetch: named, looked at, parked, answered

    @precondition(lambda self: self.looked_at is None)
    @rule(named=some, forgotten=some, rechecked=st.sampled_from([1, PARTITIONS]))
    def ask(self, named: set[int], forgotten: set[int], rechecked: int) -> None:
        if len(self.session.partitions) <= len(forgotten):
            forgotten = set()
        context = self.cache.resolve(self.request(self.session.epoch, named, forgotten - named), VERSION, 0.0)
        assert context.session is self.session
        assert self.watched() is self.watch
        self.look(rechecked)

    def look(self, rechecked: int) -> None:
        walked = [asked for asked in self.session.partitions.values() if not asked.is_quiet]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(consumer_watch, "RECHECKED", rechecked)
            found = self.watch.take()
        reported = [each for each in walked if each in found or each.partition not in self.unreported]
        assert found == reported
        self.unreported.difference_update(asked.partition for asked in found)
        self.looked_at = {}
        for asked in found:
            self.read(asked)

    def read(self, asked: FetchedPartition) -> None:
        assert self.looked_at is not None
        asked.quiet_at = None
        read = self.looked_at[asked] = PartitionRead(asked)
        read.partition = self.hosted[asked.partition]
        read.changes = read.partition.changes
        read.log_start_offset = read.partition.log.log_start_offset
        read.high_watermark = 0

    @precondition(lambda self: self.looked_at is not None and self.woken is None)
    @rule()
    def park(self) -> None:
        assert self.looked_at is not None
        self.woken = []
        self.deaf.clear()
        self.is_awake = False
        missed = any(
            not asked.is_quiet and asked not in self.looked_at and asked.partition not in self.unreported
            for asked in self.session.partitions.values()
        )
        self.watch.park(self, self.looked_at)
        assert self.is_awake or not missed

    def on_progress(self, partition: Any, new_bytes: int) -> None:
        assert self.woken is not None
        self.woken.append(self.hosted.index(partition))

    def wake(self) -> None:
        self.is_awake = True

    @precondition(lambda self: self.looked_at is not None)
    @rule(with_data=some, refused=some)
    def answer(self, with_data: set[int], refused: set[int]) -> None:
        assert self.looked_at is not None
        if self.woken is not None:
            self.watch.unpark(self)
            assert [asked.partition for asked in self.watch.fresh] == list(dict.fromkeys(self.woken))
            self.woken = None
            for asked in self.watch.fresh:
                self.read(asked)
        for asked, read in self.looked_at.items():
            has_data = asked.partition in with_data
            asked.sent_log_start_offset = read.log_start_offset
            if asked.partition in refused:
                read.partition = None
            elif has_data and self.session.partitions.get(asked.key) is asked:
                self.session.put_last(asked)
            elif not has_data:
                read.remember_quiet()
            self.watch.answered(read)
        self.looked_at = None

    # -- what happens to partitions

    @rule(number=numbers, new_bytes=st.sampled_from([0, 100]))
    def changes(self, number: int, new_bytes: int) -> None:
        partition = self.hosted[number]
        partition.changes += 1
        heard = len(self.woken or ())
        for waiting in list(partition.parked.values()):
            waiting.on_progress(partition, new_bytes)
        is_due = (ID, number) in self.session.partitions and number not in self.deaf and not self.is_awake
        if self.woken is not None and is_due:
            assert len(self.woken) == heard + 1
        if new_bytes == 0:
            self.deaf.add(number)

    @rule(number=numbers)
    def log_start_moves(self, number: int) -> None:
        self.hosted[number].log.log_start_offset += 1
        self.unreported.add(number)

    @rule(number=numbers)
    def changes_in_silence(self, number: int) -> None:
        self.hosted[number].changes += 1
        self.unreported.add(number)

    @invariant()
    def each_is_stirred_or_watched(self) -> None:
        stirred = self.session.stirred
        assert stirred is not None
        for asked in self.session.partitions.values():
            quiet_at = asked.quiet_at
            assert asked in stirred or (quiet_at is not None and id(self.watch) in quiet_at.parked)
            assert asked.is_quiet or asked in stirred or asked.partition in self.unreported
        registered = [partition for partition in self.hosted if id(self.watch) in partition.parked]
        assert set(registered) == set(self.watch._at)
        assert set(self.watch._at.values()) <= set(self.session.partitions.values())

    def teardown(self) -> None:
        self.woken = None
        self.watch.unpark(self)
        self.cache.resolve(FetchRequest(session_id=7, session_epoch=-1), VERSION, 0.0)
        assert not any(partition.parked for partition in self.hosted)
        assert self.session.watch is None


TestConsumerWatch = World.TestCase
TestConsumerWatch.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def test_what_is_not_reported_is_found_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_watch, "RECHECKED", 2)
    world = World()
    assert world.watch.take() == []
    for partition in world.hosted:
        partition.log.log_start_offset += 1
    found = [len(world.watch.take()) for _ in range(PARTITIONS)]
    assert found[-1] == PARTITIONS
    assert max(after - before for before, after in pairwise([0, *found])) == 2
