"""Carries out what a broker's session decides, as ``broker/cluster/registration.py`` does, on a store that may be away or
slow, or keep its answers to itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.sim.store import LEASE_IS_GONE, LEASE_MS
from tierlog.metadata import keys, records
from tierlog.metadata.records import BrokerRegistration
from tierlog.metadata.session import (
    Call,
    Effect,
    End,
    Grant,
    KeepAlive,
    Look,
    Register,
    Registered,
    Session,
    Stop,
    Timing,
    Waits,
    Write,
)
from tierlog.metadata.transactions import TxnResult

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker

TIMING = Timing(LEASE_MS, heartbeat_interval_ms=20, wait_ms=2 * LEASE_MS + 100, retry_ms=5)


class SimSession:
    """Of one process."""

    def __init__(self, broker: SimBroker, record: BrokerRegistration, *, is_lossy: bool = False) -> None:
        self.broker = broker
        self.world = broker.world
        self.decides = Session(broker.broker_id, replace(record, want_fence=False), TIMING, is_lossy=is_lossy)
        self._boot = broker.boot

    def tick(self) -> bool:
        """What is due; False where nothing is."""
        effects = self.decides.poll(self.world.now_ms)
        for effect in effects:
            self._do(effect)
        return bool(effects)

    def poll(self) -> None:
        """All that is due, until something has to be waited for."""
        while self.tick():
            pass

    def wish(self, **fields: Any) -> None:
        self.decides.wish(replace(self.decides.record, **fields))

    def see_image(self) -> None:
        assert self.broker.feed is not None
        image = self.broker.feed.image
        self.decides.on_image(image.revision, image.brokers.get(self.broker.broker_id))

    def is_as_wished(self) -> bool:
        """What the store itself says."""
        kv = self.world.store.get(keys.registration(self.broker.broker_id))
        if kv is None:
            return False
        found, wished = records.decode_registration(kv.value), self.decides.record
        return found == wished and kv.create_revision == self.decides.broker_epoch

    # -- inside

    def _do(self, effect: Effect) -> None:
        match effect:
            case Registered(broker_epoch, lossless_since):
                self.broker.registered(broker_epoch, lossless_since)
            case Waits():
                self.world.counts["waits for an older session"] += 1
            case Stop(other):
                self.world.checker.fail(
                    f"liveness: broker {self.broker.broker_id} stops itself, for {other.incarnation}"
                )
            case Register() | Write():
                self.world.store.send(self.broker.broker_id, effect.txn, self._answerer(effect))
            case KeepAlive() | Look() | Grant() | End():
                self._ask(effect)

    def _ask(self, effect: KeepAlive | Look | Grant | End) -> None:
        store, broker_id = self.world.store, self.broker.broker_id
        answer = self._answerer(effect)
        if self.world.chance_of_sessions() < self.world.mix.session_trouble:
            # On its way for a while, behind and before others.
            store.send(broker_id, lambda: self._at_store(effect), answer)
        elif store.is_away(broker_id):
            answer(None)
        else:
            answer(self._at_store(effect))

    def _at_store(self, effect: KeepAlive | Look | Grant | End) -> Any:
        store = self.world.store
        match effect:
            case KeepAlive(lease):
                return store.keepalive(lease)
            case Look(registration, clean_stop):
                return store.get(registration), store.get(clean_stop)
            case Grant(ttl_ms):
                return store.grant(ttl_ms)
            case End(lease):
                store.revoke(lease)
                return True

    def _answerer(self, effect: KeepAlive | Call) -> Any:
        def answered(answer: Any) -> None:
            if self.broker.boot == self._boot:
                self._on_answer(effect, answer)

        return answered

    def _on_answer(self, effect: KeepAlive | Call, answer: Any) -> None:
        decides, now_ms = self.decides, self.world.now_ms
        if answer is None:
            decides.on_failed(effect, now_ms)
            return
        match effect:
            case KeepAlive(lease):
                decides.on_kept_alive(lease, answer, now_ms)
            case Look():
                decides.on_looked(*answer, now_ms)
            case Grant():
                decides.on_granted(answer, now_ms)
            case End():
                decides.on_ended(now_ms)
            case Register() | Write():
                assert isinstance(answer, TxnResult)
                if answer.revision == LEASE_IS_GONE:
                    decides.on_failed(effect, now_ms, is_lease_gone=True)
                else:
                    decides.on_answered(effect, answer, now_ms)
        for notice in decides.notices():
            self._do(notice)
