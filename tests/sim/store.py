"""The metadata store of the simulation: the production memory store behind delays and lost outcomes.

A transaction travels, is applied at some time, and its answer travels back. The sender may give up at any time
(``UnknownOutcome``); the transaction is applied all the same, before or after, or never. Brokers for whom the store is away
get no answer, and learn nothing new.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.unit.metadata.cluster import at_once
from tierlog.metadata import keys
from tierlog.metadata.image import ImageDelta, MetadataImage
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.stores.port import Compacted, LeaseNotFound
from tierlog.metadata.transactions import KeyValue, Txn, TxnResult

if TYPE_CHECKING:
    from tests.sim.world import World

MAX_CALLS = 40
LEASE_MS = 200

# The result, or None for an unknown outcome.
OnAnswer = Callable[[Any], None]
# The revision in an answer that refuses a transaction because its lease is gone.
LEASE_IS_GONE = 0


class Call:
    __slots__ = ("broker_id", "is_applied", "on_answer", "operation", "result")

    def __init__(self, broker_id: int, operation: Txn | Callable[[], Any], on_answer: OnAnswer) -> None:
        self.broker_id = broker_id
        self.operation = operation
        self.on_answer: OnAnswer | None = on_answer
        self.is_applied = False
        self.result: Any = None


class Feed:
    """One process's image: whole at first, then behind the store as far as chance has it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.image = self._load()
        self._watch = store.watch([keys.ROOT], self.image.revision + 1)

    def _load(self) -> MetadataImage:
        image = MetadataImage()
        page = at_once(self.store.range(keys.ROOT))
        image.load(page.kvs)
        image.finish_load(page.revision)
        return image

    def catch_up(self, revisions: int) -> list[ImageDelta]:
        deltas = []
        while revisions and self.image.revision < self.store.revision:
            revisions -= 1
            try:
                deltas.append(self.image.apply(at_once(self._watch.__anext__())))
            except Compacted:
                self._watch.close()
                deltas.append(self.image.replace(self._load()))
                self._watch = self.store.watch([keys.ROOT], self.image.revision + 1)
        return deltas

    def close(self) -> None:
        self._watch.close()


class SimStore:
    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = MemoryStore(lambda: world.now_ms, history_revisions=10**6)
        self.calls: list[Call] = []
        # Brokers that do not reach it, and until when.
        self.away_until_ms: dict[int, int] = {}
        self._anew_at_ms = 0

    def is_away(self, broker_id: int) -> bool:
        return self.away_until_ms.get(broker_id, 0) > self.world.now_ms

    @property
    def revision(self) -> int:
        return self.memory.revision

    def now(self, txn: Txn) -> TxnResult:
        """Applied on the spot: for what stands outside of chance."""
        result = at_once(self.memory.txn(txn))
        self.world.checker.on_store_changed()
        return result

    def get(self, key: str) -> KeyValue | None:
        return at_once(self.memory.get(key))

    def send(self, broker_id: int, operation: Txn | Callable[[], Any], on_answer: OnAnswer) -> None:
        if len(self.calls) >= MAX_CALLS:
            self._give_up(self.calls.pop(0))
        self.calls.append(Call(broker_id, operation, on_answer))

    # -- chance

    def step(self) -> None:
        """One call goes one step on."""
        rng, calls = self.world.rng, self.calls
        if not calls:
            return
        index = rng.randrange(len(calls)) if rng.random() < self.world.mix.reorder else 0
        call = calls[index]
        if not call.is_applied:
            if self.is_away(call.broker_id) or rng.random() < self.world.mix.store_loss:
                calls.pop(index)
                self._give_up(call)
                return
            self._apply(call)
            if rng.random() < 0.5:
                return
        calls.pop(index)
        self._tell(call)

    def lose_outcome(self) -> None:
        """The sender of some call gives up; the call itself goes on."""
        waiting = [call for call in self.calls if call.on_answer is not None]
        if waiting:
            self._give_up(self.world.rng.choice(waiting))

    def settle(self) -> None:
        """Everything under way arrives."""
        while self.calls:
            call = self.calls.pop(0)
            if not call.is_applied:
                self._apply(call)
            self._tell(call)

    def _apply(self, call: Call) -> None:
        call.is_applied = True
        before = self.revision
        if isinstance(call.operation, Txn):
            try:
                call.result = at_once(self.memory.txn(call.operation))
            except LeaseNotFound:
                call.result = TxnResult(False, LEASE_IS_GONE)
        else:
            call.result = call.operation()
        if call.on_answer is None and self.revision > before:
            self.world.counts["applied after giving up"] += 1
        self.world.checker.on_store_changed()

    def _tell(self, call: Call) -> None:
        if self.is_away(call.broker_id):
            self._give_up(call)
        if call.on_answer is not None:
            call.on_answer(call.result)
            call.on_answer = None

    def _give_up(self, call: Call) -> None:
        if call.on_answer is not None:
            self.world.counts["unknown outcomes"] += 1
            on_answer, call.on_answer = call.on_answer, None
            on_answer(None)

    # -- leases

    def keepalive(self, lease: int) -> bool:
        return at_once(self.memory.keepalive(lease))

    def grant(self, ttl_ms: int) -> int:
        return at_once(self.memory.grant(ttl_ms))

    def revoke(self, lease: int) -> None:
        at_once(self.memory.revoke(lease))
        self.world.checker.on_store_changed()

    def begin_leases_anew(self) -> None:
        """As etcd does with a new leader; not so often that one which nobody renews could live on."""
        if self.world.now_ms < self._anew_at_ms:
            return
        self._anew_at_ms = self.world.now_ms + 2 * LEASE_MS
        for lease in tuple(self.memory._leases):
            self.keepalive(lease)

    def expire(self) -> None:
        before = self.revision
        self.memory.expire()
        if self.revision > before:
            self.world.counts["leases expired"] += 1
            self.world.checker.on_store_changed()
