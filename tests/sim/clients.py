"""Producers and what they have been told. A produce may be sent again at any time, and old ones may arrive late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.network import CLIENTS
from tierlog.errors import ErrorCode

if TYPE_CHECKING:
    from tests.sim.world import World


class Attempt:
    """One record that a producer wants to have written; sent as often as it takes."""

    __slots__ = (
        "acked_epoch",
        "acked_offset",
        "answering_epoch",
        "needs_all_acks",
        "partition",
        "producer_id",
        "sequence",
        "value",
        "world",
    )

    def __init__(self, world: World, partition: int, value: int, producer_id: int, sequence: int) -> None:
        self.world = world
        self.partition = partition
        self.value = value
        self.producer_id = producer_id
        self.sequence = sequence
        self.needs_all_acks = producer_id >= 0
        self.acked_offset = -1
        # Leader epoch of whoever acknowledged.
        self.acked_epoch = self.answering_epoch = -1

    def answer(self, error: ErrorCode, offset: int) -> None:
        """What the broker says reaches the producer, or not."""
        if not error and self.needs_all_acks and self.world.rng.random() < 0.7:
            self.acked_offset, self.acked_epoch = offset, self.answering_epoch


class Producer:
    """Idempotent, acks=all, one sequence per partition; at most ``max_in_flight`` are not yet acknowledged."""

    def __init__(self, world: World, producer_id: int) -> None:
        self.world = world
        self.producer_id = producer_id
        self.waiting: dict[int, list[Attempt]] = {p: [] for p in world.partitions}
        self.next_sequence = dict.fromkeys(world.partitions, 0)
        self._acked: dict[int, list[Attempt]] = {p: [] for p in world.partitions}

    def acked(self, partition: int) -> list[Attempt]:
        """All that it was told is written."""
        still = [attempt for attempt in self.waiting[partition] if attempt.acked_offset >= 0]
        return self._acked[partition] + still

    def step(self, partition: int) -> None:
        world = self.world
        waiting = self.waiting[partition]
        while waiting and waiting[0].acked_offset >= 0:
            self._acked[partition].append(waiting.pop(0))
        if len(waiting) < world.mix.max_in_flight and (not waiting or world.rng.random() < 0.5):
            world.value += 1
            attempt = Attempt(world, partition, world.value, self.producer_id, self.next_sequence[partition])
            self.next_sequence[partition] += 1
            waiting.append(attempt)
        else:
            attempt = world.rng.choice(waiting)
        send(world, attempt)


def send_unsafe(world: World, partition: int) -> None:
    """acks=1, not idempotent: may be lost, and stirs the logs."""
    world.value += 1
    send(world, Attempt(world, partition, world.value, -1, -1))


def send(world: World, attempt: Attempt) -> None:
    rng, partition = world.rng, attempt.partition
    leader = world.checker.truth[partition].leader
    hosts = [b.broker_id for b in world.brokers.values() if b.is_up and partition in b.replicas]
    if leader not in hosts or rng.random() < 0.3:
        # Old metadata, or any at all: zombies are produced to as well.
        leading = [b for b in hosts if world.brokers[b].replicas[partition].leader is not None]
        if not leading:
            return
        leader = rng.choice(leading)
    target = world.brokers[leader]

    def deliver() -> None:
        if target.is_up and (replica := target.replicas.get(partition)) is not None:
            replica.produce(attempt)

    world.network.send(CLIENTS, leader, deliver)
