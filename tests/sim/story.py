"""What directed scenarios are told with: a world without chance, and verbs that deliver everything at once, except what a
story holds back."""

from __future__ import annotations

from tests.sim.broker import SimBroker
from tests.sim.clients import Attempt
from tests.sim.mix import Mix
from tests.sim.network import Message
from tests.sim.replica import SimReplica
from tests.sim.store import Call
from tests.sim.world import World


def quiet(**fields: object) -> Mix:
    plain: dict[str, object] = {
        "broker_count": 3,
        "partition_count": 1,
        "replica_count": 3,
        "min_isr": 2,
        "flush_acks": False,
        "weights": {"net": 1.0},
        "reorder": 0.0,
        "in_order": True,
        "drop": 0.0,
        "duplicate": 0.0,
        "store_loss": 0.0,
        "lag_time_max_ms": 10**9,
        "max_in_flight": 1,
    }
    return Mix(**{**plain, **fields})  # type: ignore[arg-type]


class Story:
    def __init__(self, **fields: object) -> None:
        self.world = World(0, quiet(**fields), is_tracing=True)
        for bucket in self.world.buckets.values():
            bucket.faults = 0

    def broker(self, b: int) -> SimBroker:
        return self.world.brokers[b]

    def replica(self, b: int) -> SimReplica:
        return self.world.brokers[b].replicas[0]

    def produce(self, b: int, count: int = 1) -> None:
        """acks=1, at broker ``b``."""
        for _ in range(count):
            self.world.value += 1
            self.replica(b).produce(Attempt(self.world, 0, self.world.value, -1, -1))

    def deliver(self) -> None:
        while self.world.network.messages:
            self.world.network.settle()

    def send_fetch(self, b: int) -> None:
        """Without any backoff."""
        self.world.now_ms += 1
        replica = self.replica(b)
        replica.break_connection()
        if replica.follower is not None:
            replica.follower.retry_ms = 0
        replica.send_fetch()

    def fetch(self, *brokers: int, rounds: int = 2) -> None:
        """Each fetches and is answered, so often that the leader knows and they know that it knows."""
        for _ in range(rounds):
            for b in brokers:
                self.send_fetch(b)
                self.deliver()
        self.keep_alive()

    def keep_alive(self) -> None:
        for broker in self.world.brokers.values():
            broker.keep_alive()

    def fetch_up(self, *brokers: int) -> None:
        self.fetch(*brokers, rounds=8)

    def hold_messages(self) -> list[Message]:
        held, self.world.network.messages = self.world.network.messages, []
        return held

    def hold_calls(self) -> list[Call]:
        held, self.world.store.calls = self.world.store.calls, []
        return held

    def release(self, calls: list[Call]) -> None:
        self.world.store.calls += calls
        self.world.store.settle()

    def metadata(self, *brokers: int, rounds: int = 1) -> None:
        """The named ones (all without names) see all of the store and do what it asks of them."""
        for _ in range(rounds):
            for b in brokers or tuple(self.world.brokers):
                broker = self.broker(b)
                if broker.is_up:
                    broker.catch_up(1000)
                    broker.serve()
                    broker.control()
                    self.world.store.settle()

    def see(self, *brokers: int) -> None:
        for b in brokers:
            self.broker(b).catch_up(1000)

    def expire(self, b: int) -> None:
        self.world.expire_lease(self.broker(b))

    def shrink(self, b: int) -> None:
        self.world.now_ms += 1
        self.replica(b).change_isr(0)
        self.world.store.settle()


def lose_and_return(s: Story, b: int = 3, control: int = 1) -> None:
    assert s.world.checker.may_lose_data(s.broker(b))
    replica = s.replica(b)
    replica.log.synced_end_offset = 0
    s.broker(b).end("power loss")
    replica.log.truncate_to(0)
    s.world.store.revoke(s.broker(b).lease)
    s.broker(b).start()
    for _ in range(4):
        s.metadata(b)
        s.metadata(control)
