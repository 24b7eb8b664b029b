"""Feature levels while brokers of several versions come and go: nobody is unfenced who does not know a level (M13).

A seeded world over the real store, image, reconciler and decisions. Two controllers see the store through images that lag
at will; their transactions may be applied late, or never, without their learning of it. A broker that starts is of this
version or of another one, and never looks at the levels itself: that is a second line of defence. The mutants below break
one rule each and must be caught.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest

from tests.unit.metadata.cluster import Feed, at_once
from tierlog.metadata.commits import register
from tierlog.metadata.control import controller
from tierlog.metadata.control import features as control_features
from tierlog.metadata.control.features import FeatureUpdate, UpgradeType, decide_feature_updates
from tierlog.metadata.features import Feature, FinalizedLevels, Range
from tierlog.metadata.records import BrokerRegistration, ControllerLease
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.stores.port import LeaseNotFound
from tierlog.metadata.transactions import Txn

BROKERS = (1, 2, 3)
TABLE = {"f": Feature(Range(1, 3), "", may_fall=True), "g": Feature(Range(1, 2), "", may_fall=False)}
VERSIONS: tuple[dict[str, Range], ...] = (
    {},
    {"f": Range(1, 2)},
    {"f": Range(1, 3), "g": Range(1, 2)},
    {"f": Range(2, 3), "g": Range(1, 2)},
)
STEPS = 300
SEEDS = 100


@dataclass
class Controller:
    """On one of the brokers. ``revision``: its image is not to be decided on before it has come so far."""

    broker_id: int
    feed: Feed
    revision: int = 0

    @property
    def is_current(self) -> bool:
        return self.feed.image.revision >= self.revision


@dataclass
class World:
    seed: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.store = MemoryStore(lambda: 0, history_revisions=10**6)
        self.checker = Feed(self.store)
        self.leases: dict[int, int] = {}
        self.controllers = [Controller(b, Feed(self.store)) for b in BROKERS[:2]]
        self.late: list[Txn] = []
        for broker_id in BROKERS:
            self.start(broker_id)
        for _ in range(6):
            self.control(self.controllers[0], is_certain=True)
            self.controllers[0].feed.catch_up()
        assert all(b.is_active for b in self.checker.image.brokers.values())

    # -- the store

    def txn(self, txn: Txn) -> int | None:
        """The revision; None where it was refused."""
        try:
            result = at_once(self.store.txn(txn))
        except LeaseNotFound:
            return None
        self.check()
        return result.revision if result.ok else None

    def check(self) -> None:
        self.checker.catch_up()
        levels = self.checker.image.features
        for broker in self.checker.image.brokers.values():
            if broker.is_active:
                assert broker.registration is not None
                assert levels.first_gap(broker.registration.features) is None, f"M13: {broker} at {levels}"

    # -- actions

    def step(self) -> None:
        rng = self.rng
        match rng.choices(("feed", "control", "update", "restart", "late"), (30, 30, 12, 6, 6))[0]:
            case "feed":
                rng.choice(self.controllers).feed.catch_up(rng.choice((1, 2, 50)))
            case "control":
                self.control(rng.choice(self.controllers))
            case "update":
                self.update(rng.choice(self.controllers))
            case "restart":
                self.start(rng.choice(BROKERS))
            case "late" if self.late:
                self.counts["late"] += self.txn(self.late.pop(rng.randrange(len(self.late)))) is not None

    def start(self, broker_id: int) -> None:
        """Its last session ends, with its role if it was the controller."""
        if broker_id in self.leases:
            at_once(self.store.revoke(self.leases[broker_id]))
            self.check()
            if self.rng.random() < 0.3:
                del self.leases[broker_id]
                return
        lease = self.leases[broker_id] = at_once(self.store.grant(1000))
        is_first = broker_id not in self.checker.image.brokers
        features = VERSIONS[2] if is_first else self.rng.choices(VERSIONS, (1, 3, 3, 3))[0]
        record = BrokerRegistration(str(self.store.revision), (), want_fence=False, features=features)
        assert self.txn(register(broker_id, record, lease, None)[0]) is not None

    def control(self, one: Controller, *, is_certain: bool = False) -> None:
        image = one.feed.image
        broker = self.checker.image.brokers[one.broker_id]
        if not one.is_current or one.broker_id not in self.leases:
            return
        if image.controller is None:
            txn = controller.acquire(one.broker_id, broker.broker_epoch, self.leases[one.broker_id])
            one.revision = self.txn(txn) or self.store.revision
        elif image.controller == ControllerLease(one.broker_id, broker.broker_epoch):
            txns = [txn for txn in controller.reconcile(image, TopicRules()) if txn is not None]
            self.carry_out(one, txns, is_certain)

    def update(self, one: Controller) -> None:
        image = one.feed.image
        if not one.is_current or image.controller is None or image.controller.broker_id != one.broker_id:
            return
        kind = self.rng.choice((UpgradeType.UPGRADE, UpgradeType.UPGRADE, UpgradeType.UNSAFE_DOWNGRADE))
        wishes = [FeatureUpdate(self.rng.choice("fg"), self.rng.randint(1, 3), kind)]
        decision = decide_feature_updates(image, wishes, table=TABLE)
        self.counts["finalized" if decision.txns else "not"] += 1
        self.carry_out(one, decision.txns)

    def carry_out(self, one: Controller, txns: Any, is_certain: bool = False) -> None:
        """Each is applied, or its outcome is unknown; then the image has to come up to the store before the next."""
        token = one.feed.image.controller_token
        for txn in txns:
            if is_certain or self.rng.random() < 0.7:
                self.txn(controller.guarded(txn, token))
            else:
                self.late.append(controller.guarded(txn, token))
        if txns:
            one.revision = self.store.revision


def run(seed: int) -> World:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    return world


def test_nobody_is_unfenced_below_a_level() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        counts += run(seed).counts
    assert counts["finalized"] > SEEDS and counts["not"] > SEEDS and counts["late"] > SEEDS, counts


@contextmanager
def whoever_asks_is_unfenced() -> Iterator[None]:
    original = controller._desired_broker_state
    with patch.object(controller, "_desired_broker_state", lambda b, levels: original(b, FinalizedLevels())):
        yield


@contextmanager
def brokers_are_not_asked() -> Iterator[None]:
    with patch.object(control_features, "_missing_at", lambda *args: None):
        yield


@contextmanager
def registrations_are_not_compared() -> Iterator[None]:
    original = control_features._guards
    with patch.object(control_features, "_guards", lambda image: original(image)[:1]):
        yield


@pytest.mark.parametrize(
    "mutant",
    [
        whoever_asks_is_unfenced,
        brokers_are_not_asked,
        registrations_are_not_compared,
    ],
)
def test_mutants_are_caught(mutant: Any) -> None:
    with mutant(), pytest.raises(AssertionError, match="M13"):
        for seed in range(10 * SEEDS):
            run(seed)
