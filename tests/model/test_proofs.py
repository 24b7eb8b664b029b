"""The controller's worlds of ``test_controller`` and ``test_reassignment``, with power losses of all brokers in which
most logs lose nothing (``flush.mode=ack``), and replicas that say so.

The rule stays: whoever leads cleanly has everything that was ever committed. A replica may call itself whole from when the
image has it in the ISR until its disk really loses something.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from tests.model import test_controller
from tests.model.test_controller import PARTITIONS, TOPIC, WEIGHTS, Broker, World, run
from tests.model.test_reassignment import MovingWorld
from tierlog.metadata.commits import report_log_end
from tierlog.metadata.control import election
from tierlog.metadata.control.log_ends import unsaid_log_ends
from tierlog.metadata.records import NO_LEADER, LogEnd, PartitionState

EXTRA = {"note": 15, "report": 30, "cut": 2.0, "start": 25, "serve": 30, "control": 30, "feed": 80, "stop": 2}
STEPS = 400


class ProvingWorld(World):
    weights_of_actions: ClassVar[dict[str, float]] = {**WEIGHTS, **EXTRA}

    def __init__(self, seed: int) -> None:
        self.noted: set[tuple[int, int]] = set()
        super().__init__(seed)
        self.counts |= {"cuts": 0, "said whole": 0}

    def act(self, action: str) -> None:
        super().act(action)
        broker = self.rng.choice(self.brokers)
        if action == "cut":
            self.counts["cuts"] += 1
            for each in self.brokers:
                if each.is_up:
                    self.lose_power(each)
        elif action == "note" and broker.is_up:
            self.note(broker)
        elif action == "report" and broker.is_up:
            self.report(broker)

    def lose_power(self, broker: Broker) -> None:
        self._lose_data(broker)
        broker.lossless_since = 0
        if self.rng.random() < 0.7:
            self.store_revoke(broker)
        broker.is_up = False

    def store_revoke(self, broker: Broker) -> None:
        test_controller.at_once(self.store.revoke(broker.lease))
        self.check()

    def note(self, broker: Broker) -> None:
        own = broker.feed.image.brokers.get(broker.broker_id)
        if own is None or not own.is_handled or own.broker_epoch != broker.epoch:
            return
        for n in PARTITIONS:
            state = broker.feed.image.partition(TOPIC, n)
            if state is not None and broker.broker_id in state.isr:
                self.noted.add((broker.broker_id, n))

    def report(self, broker: Broker) -> None:
        for _, n, epoch in list(unsaid_log_ends(broker.feed.image, broker.broker_id, broker.epoch)):
            if self.is_whole(broker, n):  # the longest log is another story
                self.counts["said whole"] += 1
                end = LogEnd(broker.epoch, epoch, 0, len(broker.logs[n]), True)
                self.txn(report_log_end(TOPIC, n, broker.broker_id, end))

    def is_whole(self, broker: Broker, n: int) -> bool:
        return (broker.broker_id, n) in self.noted

    def _lose_data(self, broker: Broker) -> None:
        if self.rng.random() < 0.4:
            super()._lose_data(broker)
        if broker.was_lossy:
            self.noted -= {(broker.broker_id, n) for n in PARTITIONS}

    def _check_elected(self, n: int, state: PartitionState) -> None:
        super()._check_elected(n, state)
        ends = self.checker.image.log_ends_of(TOPIC, n)
        said = ends.get(state.leader)
        is_proven = state.leader != NO_LEADER and said is not None and not state.recovering
        self.counts["proven"] = self.counts.get("proven", 0) + is_proven


class MovingProvingWorld(ProvingWorld, MovingWorld):
    weights_of_actions: ClassVar[dict[str, float]] = {**MovingWorld.weights_of_actions, **EXTRA}


WORLDS = [(ProvingWorld, 150), (MovingProvingWorld, 150)]


@pytest.mark.parametrize(("kind", "seeds"), WORLDS)
def test_who_is_whole_has_everything_that_was_committed(kind: type[World], seeds: int) -> None:
    counts = run(range(seeds), STEPS, kind)
    assert counts["cuts"] > seeds, counts
    assert counts["proven"] > seeds / 15, counts
    assert counts["commits"] > 2 * seeds, counts
    assert counts["losses"] > seeds / 10, counts


def _everybody_is_whole(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProvingWorld, "is_whole", lambda self, broker, n: True)


def _whole_is_enough(patch: pytest.MonkeyPatch) -> None:
    """Whoever is whole may lead, eligible or not."""
    original = election._elect_outside_isr

    def anybody(state: PartitionState, *args: Any) -> Any:
        others = tuple(r for r in state.replicas if r not in state.elr)
        return original(state._replace(last_eligible=others), *args)

    patch.setattr(election, "_elect_outside_isr", anybody)


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], int]] = [
    (_everybody_is_whole, 9),
    (_whole_is_enough, 114),
]


@pytest.mark.parametrize(("mutant", "seed"), MUTANTS)
def test_mutants_are_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        run(range(seed, seed + 1), STEPS, ProvingWorld)
        run(range(2000), STEPS, ProvingWorld)
