"""The controller against brokers that die, lie behind, lose data and come back: what was committed is never
led away.

A seeded world over the real store, image, reconciler and commits. Each of two controllers and three brokers
sees the store through an image of its own that lags at will. Logs are lists of numbers; a record is
committed when every in-sync replica has it while the ISR is at least ``min_isr``. Data is lost only within
the promise of KIP-966: by one broker at a time, and not where a single replica held it. The mutants below
break one rule each and must be caught.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from tests.unit.metadata.cluster import Feed, at_once, topic_id
from tierlog.metadata import keys, records
from tierlog.metadata.commits import joining_from_image, leave_clean_stop, partition_change, register
from tierlog.metadata.control import controller, election
from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.records import (
    NO_LEADER,
    BrokerRegistration,
    ControllerLease,
    PartitionState,
    TopicRecord,
)
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.stores.port import LeaseNotFound
from tierlog.metadata.transactions import Compare, Put, Txn, TxnResult

BROKERS = (1, 2, 3)
PARTITIONS = (0, 1)
TOPIC = topic_id(1)
LEASE_MS = 30
WEIGHTS = {
    "feed": 30,
    "control": 20,
    "produce": 20,
    "isr": 10,
    "start": 10,
    "stop": 5,
    "serve": 10,
    "time": 2,
    "min_isr": 0.3,
}


@dataclass
class Broker:
    broker_id: int
    feed: Feed
    is_up: bool = False
    epoch: int = 0
    lease: int = 0
    lossless_since: int = 0
    was_lossy: bool = False
    logs: dict[int, list[int]] = field(default_factory=lambda: {n: [] for n in PARTITIONS})


class World:
    weights_of_actions: ClassVar[dict[str, float]] = WEIGHTS
    replicas: tuple[int, ...] = BROKERS

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        # Swarm: each seed has its own mix, some faults are switched off altogether.
        self.weights = {
            name: w * self.rng.choice((0.3, 1, 1, 3)) for name, w in self.weights_of_actions.items()
        }
        for name in ("time", "min_isr"):
            self.weights[name] *= self.rng.random() < 0.6
        self.now_ms = 0
        self.store = MemoryStore(lambda: self.now_ms, history_revisions=10**6)
        self.rules = TopicRules()
        self.brokers = [Broker(i, Feed(self.store)) for i in BROKERS]
        self.controllers = [Feed(self.store) for _ in range(2)]
        self.committed: dict[int, list[int]] = {n: [] for n in PARTITIONS}
        self.elected_at = dict.fromkeys(PARTITIONS, 0)
        self.thin = dict.fromkeys(PARTITIONS, False)
        self.lossy: set[int] = set()
        self.counts = {"elections": 0, "commits": 0, "losses": 0, "isr changes": 0}
        self.checker = Feed(self.store)
        state = PartitionState(NO_LEADER, 0, (), self.replicas, 2, elr=self.replicas)
        puts = [Put(keys.partition(TOPIC, n), records.encode_partition(state)) for n in PARTITIONS]
        self.txn(
            Txn((), (*puts, Put(keys.topic(TOPIC), records.encode_topic(TopicRecord("t", len(PARTITIONS))))))
        )
        name = records.encode_topic_name(keys.format_topic_id(TOPIC))
        configs = records.encode_configs({"min.insync.replicas": "2"})
        self.txn(Txn((), (Put(keys.topic_name("t"), name), Put(keys.topic_config("t"), configs))))

        self._warm_up()

    def _warm_up(self) -> None:
        """All brokers serve, every ISR is full: chance has a healthy cluster to break."""
        for broker in self.brokers:
            self.start(broker)
        partitions = self.checker.image.topics_by_id[TOPIC].partitions
        while any(len(partitions[n].isr) < len(self.replicas) for n in PARTITIONS):
            for feed in (self.controllers[0], *(b.feed for b in self.brokers)):
                feed.catch_up()
            self.control(self.controllers[0])
            for broker in self.brokers:
                broker.feed.catch_up()
                self.ask_to_serve(broker)
                self.change_isr(broker, only_expand=True)

    # -- the store, and what must hold after each of its revisions

    def txn(self, txn: Txn) -> TxnResult:
        result = at_once(self.store.txn(txn))
        self.check()
        return result

    def check(self) -> None:
        for delta in self.checker.catch_up(1) if self.checker.image.revision < self.store.revision else []:
            for change in delta.partitions_changed:
                old, new = change.old, change.new
                assert new is not None
                new.check()
                if old is not None and old.leader != new.leader:
                    assert new.leader_epoch > old.leader_epoch, "a new leader without a new epoch"
                    self.elected_at[change.partition] = delta.revision
                    self.counts["elections"] += 1
                    self._check_elected(change.partition, new)
                n = change.partition
                self.thin[n] = new.min_isr == 1 or (self.thin[n] and len(new.isr) < 2)
            self._check_brokers()
            self.check()

    def _check_elected(self, n: int, state: PartitionState) -> None:
        if state.leader != NO_LEADER and not state.recovering:
            # The reason for all of this: whoever leads has everything that was ever committed.
            leader = self.brokers[state.leader - 1]
            log = leader.logs[n]
            # One that lost data and is still thought to run will not serve: it registers first.
            assert leader.was_lossy or log[: len(self.committed[n])] == self.committed[n], (
                "a leader without committed records"
            )

    def _check_brokers(self) -> None:
        image = self.checker.image
        for broker in image.brokers.values():
            if not broker.is_handled:
                continue
            for n in PARTITIONS:
                state = image.partition(TOPIC, n)
                if state is not None and state.leader == broker.broker_id:
                    assert self.elected_at[n] > broker.broker_epoch, (
                        "leadership resumed from before registration"
                    )

    # -- brokers

    def start(self, broker: Broker) -> None:
        lease = at_once(self.store.grant(LEASE_MS))
        record = BrokerRegistration("i", (), lossless_since=broker.lossless_since)
        marker = at_once(self.store.get(keys.clean_stop(broker.broker_id)))
        txn, record = register(broker.broker_id, record, lease, marker)
        result = self.txn(txn)
        if result.ok:
            broker.is_up, broker.epoch, broker.lease = True, result.revision, lease
            broker.lossless_since = record.lossless_since or result.revision
            broker.was_lossy = False
            broker.feed.catch_up()

    def stop(self, broker: Broker) -> None:
        kind = self.rng.choice(["clean", "process", "power", "power"])
        if kind == "clean":
            self.txn(leave_clean_stop(broker.broker_id, broker.epoch, (), broker.lossless_since))
        if kind == "power":
            self._lose_data(broker)
        if kind == "power" or (kind == "clean" and self.rng.random() < 0.5):
            broker.lossless_since = 0  # another boot: it knows nothing by itself
        if kind == "clean" or self.rng.random() < 0.7:  # else the lease outlives its holder
            at_once(self.store.revoke(broker.lease))
            self.check()
        broker.is_up = False

    def _lose_data(self, broker: Broker) -> None:
        image = self.checker.image
        states = [image.partition(TOPIC, n) for n in PARTITIONS]
        self.lossy = {
            b for b in self.lossy
            if not all(
                s is not None and (b not in s.replicas or (b in s.isr and len(s.isr) >= s.min_isr)) for s in states
            )
        }  # fmt: skip
        if self.lossy - {broker.broker_id} or any(self.thin.values()):
            return
        self.lossy.add(broker.broker_id)
        self.counts["losses"] += 1
        broker.was_lossy = True
        for log in broker.logs.values():
            del log[self.rng.randint(0, len(log)) :]

    def ask_to_serve(self, broker: Broker) -> None:
        image = broker.feed.image.brokers.get(broker.broker_id)
        if image is not None and image.is_handled and image.broker_epoch == broker.epoch:
            key = keys.registration(broker.broker_id)
            assert image.registration is not None
            record = replace(image.registration, want_fence=False)
            put = Put(key, records.encode_registration(record), broker.lease)
            try:
                self.txn(Txn((Compare(key, "create", broker.epoch),), (put,)))
            except LeaseNotFound:
                broker.is_up = False  # it will register again, with all its data

    def led(self, broker: Broker) -> Iterator[tuple[int, PartitionState]]:
        """What the broker may serve as a leader, by its own image."""
        own = broker.feed.image.brokers.get(broker.broker_id)
        if own is None or not own.is_active or own.broker_epoch != broker.epoch:
            return
        for n in PARTITIONS:
            state = broker.feed.image.partition(TOPIC, n)
            if state is not None and state.leader == broker.broker_id:
                yield n, state

    def produce(self, broker: Broker) -> None:
        """Zombies are the replication model's business: here a leader commits while the store agrees with
        it."""
        for n, state in self.led(broker):
            if state != self.checker.image.partition(TOPIC, n):
                continue
            log = broker.logs[n]
            log.append(self.rng.getrandbits(40))
            members = [self.brokers[r - 1] for r in state.isr]
            if len(members) < state.min_isr or not all(self._may_fetch(m) for m in members):
                continue
            for member in members:
                member.logs[n][:] = log
            self.committed[n] = list(log)
            self.counts["commits"] += 1

    def _may_fetch(self, follower: Broker) -> bool:
        """Only fetches of the incarnation that the cluster knows are counted."""
        known = self.checker.image.brokers.get(follower.broker_id)
        return (
            follower.is_up and known is not None and known.is_handled and known.broker_epoch == follower.epoch
        )

    def change_isr(self, broker: Broker, *, only_expand: bool = False) -> None:
        for n, state in self.led(broker):
            others = [b for b in sorted(state.replicas) if b != broker.broker_id]
            if not others:
                continue
            follower = self.brokers[self.rng.choice(others) - 1]
            if follower.broker_id in state.isr:
                if only_expand:
                    continue
                new, joining = with_isr(state, set(state.isr) - {follower.broker_id}), {}
            else:
                guard = joining_from_image(broker.feed.image, follower.broker_id, follower.epoch)
                if guard is None or not follower.is_up or state != self.checker.image.partition(TOPIC, n):
                    continue
                follower.logs[n][:] = broker.logs[n]
                new, joining = with_isr(state, {*state.isr, follower.broker_id}), {follower.broker_id: guard}
            txn = partition_change(
                TOPIC, n, state, new, broker_id=broker.broker_id, broker_epoch=broker.epoch, joining=joining
            )
            self.counts["isr changes"] += self.txn(txn).ok

    # -- controllers

    def control(self, feed: Feed) -> None:
        image = feed.image
        if image.controller is None:
            up = [b for b in self.brokers if b.is_up]
            if up:
                lease = at_once(self.store.grant(LEASE_MS))
                value = records.encode_controller(ControllerLease(up[0].broker_id, up[0].epoch))
                result = self.txn(
                    Txn((Compare(keys.CONTROLLER, "mod", 0),), (Put(keys.CONTROLLER, value, lease),))
                )
                feed.catch_up(result.revision - image.revision)
            return
        last = 0
        for txn in controller.reconcile(image, self.rules):
            if txn is not None and self.rng.random() < 0.9:
                last = max(last, self.txn(controller.guarded(txn, image.controller_token)).revision)
            if self.rng.random() < 0.1:
                feed.catch_up(1)  # the scan is suspended, the image goes on
        while image.revision < last:  # the driver waits for what it did
            feed.catch_up(1)

    # -- chance

    def step(self) -> None:
        rng = self.rng
        broker = rng.choice(self.brokers)
        action = rng.choices(tuple(self.weights), tuple(self.weights.values()))[0]
        if action == "feed":
            rng.choice([*self.controllers, *(b.feed for b in self.brokers if b.is_up)]).catch_up(
                rng.randint(1, 20)
            )
        elif action == "control":
            self.control(rng.choice(self.controllers))
        elif action == "time":
            self.now_ms += rng.randint(1, 10)
            self.store.expire()
            self.check()
        elif action == "min_isr":
            configs = records.encode_configs({"min.insync.replicas": rng.choice("12")})
            self.txn(Txn((), (Put(keys.topic_config("t"), configs),)))
        elif action == "start" and not broker.is_up:
            self.start(broker)
        elif broker.is_up:
            {
                "produce": self.produce,
                "isr": self.change_isr,
                "stop": self.stop,
                "serve": self.ask_to_serve,
            }.get(action, lambda b: None)(broker)
        self.act(action)
        for b in self.brokers:
            if b.is_up and rng.random() < 0.9:
                at_once(self.store.keepalive(b.lease))

    def act(self, action: str) -> None:
        """What a world does beside what this one does."""


def run(seeds: range, steps: int = 250, kind: type[World] = World) -> dict[str, int]:
    total: dict[str, int] = {}
    for seed in seeds:
        world = kind(seed)
        for _ in range(steps):
            world.step()
        for name, count in world.counts.items():
            total[name] = total.get(name, 0) + count
    return total


def test_committed_records_are_never_led_away() -> None:
    counts = run(range(200))
    assert counts["elections"] > 500, counts
    assert counts["commits"] > 600, counts
    assert counts["losses"] > 150, counts
    assert counts["isr changes"] > 700, counts


def _believes_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(election, "is_lossless", lambda broker: True)


def _acknowledges_before_the_partitions(patch: pytest.MonkeyPatch) -> None:
    def hasty(image, rules):  # type: ignore[no-untyped-def]
        yield from tuple(controller.broker_changes(image))
        yield from controller.partition_changes(image, rules, election.gather_facts(image))

    patch.setattr(controller, "reconcile", hasty)
    patch.setattr(controller, "_check_unused", lambda *args: None)


def _elects_whoever_was_there(patch: pytest.MonkeyPatch) -> None:
    real = controller._partition_txn

    def unguarded(*args):  # type: ignore[no-untyped-def]
        txn = real(*args)
        return replace(txn, compares=txn.compares[:1])

    patch.setattr(controller, "_partition_txn", unguarded)


def _trusts_an_old_clean_stop(patch: pytest.MonkeyPatch) -> None:
    """The marker survives the registration that it vouched for."""

    real = register

    def keeps_the_marker(*args):  # type: ignore[no-untyped-def]
        txn, record = real(*args)
        return replace(txn, then=txn.then[:1]), record

    patch.setattr("tests.model.test_controller.register", keeps_the_marker)


def _elects_any_replica(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(controller, "unclean_leader_election", lambda *args: True)
    real = election._elect_outside_isr

    def anyone(*args):  # type: ignore[no-untyped-def]
        new, leader = real(*args)
        return new._replace(recovering=False), leader

    patch.setattr(election, "_elect_outside_isr", anyone)


def _keeps_the_elr_when_min_isr_is_lowered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(election, "_with_min_isr", lambda state, min_isr: state._replace(min_isr=min_isr))
    patch.setattr(PartitionState, "check", lambda self: None)


# Each with a seed that catches it; when the world changes, the search below finds another.
MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], int]] = [
    (_believes_everybody, 13),
    (_acknowledges_before_the_partitions, 4),
    (_elects_whoever_was_there, 2153),
    (_trusts_an_old_clean_stop, 817),
    (_elects_any_replica, 4),
    (_keeps_the_elr_when_min_isr_is_lowered, 425),
]


@pytest.mark.parametrize(("mutant", "seed"), MUTANTS)
def test_mutants_are_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        run(range(seed, seed + 1))
        run(range(3000))
