"""The controller's world of ``test_controller``, with partitions that move: begun, changed and cancelled at any moment.

The rule is the same: whoever leads cleanly has everything that was ever committed. And nobody leads otherwise: a
sole replica may lead marked ``recovering`` only where some broker really lost data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest

from tests.model.test_controller import BROKERS, PARTITIONS, TOPIC, WEIGHTS, Broker, World, run
from tierlog.metadata.control import controller, election, reassignment
from tierlog.metadata.control.election import with_replicas
from tierlog.metadata.control.leadership import balance_changes
from tierlog.metadata.control.reassignment import Reassignment, decide_reassignments, target_of
from tierlog.metadata.records import NO_LEADER, PartitionState


class MovingWorld(World):
    weights_of_actions: ClassVar[dict[str, float]] = {**WEIGHTS, "isr": 40, "move": 5, "balance": 1}
    replicas = (1, 2)

    def __init__(self, seed: int) -> None:
        self.has_lost: set[int] = set()
        super().__init__(seed)
        self.counts |= {"moves": 0, "completed": 0, "cancelled": 0, "refused": 0}

    def change_isr(self, broker: Broker, *, only_expand: bool = False) -> None:
        super().change_isr(broker, only_expand=only_expand or self.rng.random() < 0.8)

    def act(self, action: str) -> None:
        feed = self.rng.choice(self.controllers)
        image = feed.image
        if image.controller is None or image.topic("t") is None:
            return
        if action == "move":
            self._move(image.controller_token, self.rng.choice(PARTITIONS), feed.image)
        elif action == "balance":
            for txn in balance_changes(image, self.rules):
                self.txn(controller.guarded(txn, image.controller_token))

    def _move(self, token: int, partition: int, image: controller.MetadataImage) -> None:
        target: Sequence[int] | None = self.rng.sample(BROKERS, self.rng.choice((1, 2, 2, 2, 3)))
        if self.rng.random() < 0.3:
            target = None
        wish = Reassignment("t", partition, None if target is None else tuple(target))
        (decision,) = decide_reassignments(image, self.rules, [wish])
        self.counts["refused"] += bool(decision.result.error)
        for txn in decision.txns:
            if self.txn(controller.guarded(txn, token)).ok:
                self.counts["cancelled" if target is None else "moves"] += 1

    def _lose_data(self, broker: Broker) -> None:
        super()._lose_data(broker)
        if broker.was_lossy:
            self.has_lost.add(broker.broker_id)

    def _check_elected(self, n: int, state: PartitionState) -> None:
        super()._check_elected(n, state)
        if state.recovering and state.leader not in (NO_LEADER, *self.has_lost):
            log, committed = self.brokers[state.leader - 1].logs[n], self.committed[n]
            assert log[: len(committed)] == committed, "led without committed records by one who lost nothing"

    def check(self) -> None:
        old = [self.checker.image.partition(TOPIC, n) for n in PARTITIONS]
        super().check()
        for n, before in zip(PARTITIONS, old, strict=True):
            after = self.checker.image.partition(TOPIC, n)
            if before is not None and after is not None and before.removing and not after.removing:
                self.counts["completed"] = self.counts.get("completed", 0) + (
                    target_of(before) == after.replicas
                )


def test_moves_lose_nothing() -> None:
    counts = run(range(150), kind=MovingWorld)
    assert counts["moves"] > 300, counts
    assert counts["completed"] > 10, counts
    assert counts["cancelled"] > 30, counts
    assert counts["refused"] > 30, counts
    assert counts["elections"] > 500, counts
    assert counts["commits"] > 200, counts
    assert counts["losses"] > 30, counts


def _does_not_wait_for_the_target(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(election, "_target_is_in_sync", lambda state: True)


def _counts_the_new_as_in_sync(patch: pytest.MonkeyPatch) -> None:
    def trusting(state, replicas, adding, removing):  # type: ignore[no-untyped-def]
        return with_replicas(state, replicas, adding, removing)._replace(isr=tuple(replicas), elr=())

    patch.setattr(reassignment, "with_replicas", trusting)


@pytest.mark.parametrize("mutant", [_does_not_wait_for_the_target, _counts_the_new_as_in_sync])
def test_mutants_are_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        run(range(300), kind=MovingWorld)
