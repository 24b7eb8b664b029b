"""Messages between the nodes of the simulation. Each is a closure to run where it arrives.

A seed draws how orderly its network is: in order per connection, or as datagrams that are delayed, repeated and
overtaken at will. Links are cut one direction at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.sim.world import World

MAX_MESSAGES = 60
CLIENTS = 0


class Message(NamedTuple):
    source: int
    target: int
    deliver: Callable[[], None]


class Network:
    def __init__(self, world: World) -> None:
        self.world = world
        self.messages: list[Message] = []
        self.cuts: set[tuple[int, int]] = set()

    def send(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        if len(self.messages) >= MAX_MESSAGES:
            self.messages.pop(0)
        self.messages.append(Message(source, target, deliver))

    def step(self) -> None:
        if not self.messages:
            return
        world = self.world
        rng, mix = world.rng, world.mix
        ready = [i for i, m in enumerate(self.messages) if not world.is_paused(m.target)]
        if not ready:
            return
        index = rng.choice(ready) if rng.random() < mix.reorder else ready[0]
        message = self.messages[index]
        if mix.in_order:
            link = message[:2]
            index = next(i for i in ready if self.messages[i][:2] == link)
            message = self.messages[index]
        del self.messages[index]
        if (message.source, message.target) in self.cuts or rng.random() < mix.drop:
            world.counts["messages lost"] += 1
            return
        message.deliver()
        if not mix.in_order and rng.random() < mix.duplicate:
            self.messages.append(message)

    def cut(self) -> None:
        """One direction, both, or one node from all others."""
        rng, ids = self.world.rng, [CLIENTS, *self.world.brokers]
        a, b = rng.sample(ids, 2)
        kind = rng.random()
        self.cuts.add((a, b))
        if kind < 0.5:
            self.cuts.add((b, a))
        elif kind < 0.7:
            self.cuts |= {(a, other) for other in ids if other != a}

    def settle(self) -> None:
        messages, self.messages = self.messages, []
        for message in messages:
            message.deliver()
