"""A broker stays in the cluster, or comes back by itself, whatever the store does: the driver and the machine together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tierlog.broker.cluster import metadata_feed
from tierlog.broker.cluster import registration as module
from tierlog.broker.cluster.controller_runner import ControllerRunner
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.cluster.registration import BrokerDescription, Registration
from tierlog.errors import StoreUnavailable, UnknownOutcome, UserError
from tierlog.metadata import keys, records
from tierlog.metadata.records import BrokerRegistration
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.stores.port import Compacted, LeaseNotFound
from tierlog.metadata.transactions import Delete, KeyValue, Put, Txn, TxnResult

KEY = keys.registration(1)


class FaultyStore(MemoryStore):
    """``fault(method, subject)`` may raise, or wait, before; ``after`` likewise when it has been done."""

    def __init__(self) -> None:
        super().__init__(lambda: time.monotonic_ns() // 1_000_000)
        self.calls: Counter[str] = Counter()
        self.fault: Callable[[str, object], Any] = lambda method, subject: None
        self.after: Callable[[str, object], Any] = lambda method, subject: None

    async def _call(self, method: str, subject: object, call: Any) -> Any:
        self.calls[method] += 1
        for hook in (self.fault, None, self.after):
            if hook is None:
                result = await call
                continue
            try:
                waits = hook(method, subject)
                if waits is not None:
                    await waits
            except BaseException:
                call.close()
                raise
        return result

    async def get(self, key: str) -> KeyValue | None:
        found: KeyValue | None = await self._call("get", key, super().get(key))
        return found

    async def txn(self, txn: Txn) -> TxnResult:
        result: TxnResult = await self._call("txn", txn, super().txn(txn))
        return result

    async def grant(self, ttl_ms: int) -> int:
        lease: int = await self._call("grant", ttl_ms, super().grant(ttl_ms))
        return lease

    async def keepalive(self, lease: int) -> bool:
        is_alive: bool = await self._call("keepalive", lease, super().keepalive(lease))
        return is_alive

    async def revoke(self, lease: int) -> None:
        await self._call("revoke", lease, super().revoke(lease))


def writes_registration(subject: object) -> BrokerRegistration | None:
    """What a transaction writes into the registration."""
    for op in subject.then if isinstance(subject, Txn) else ():
        if isinstance(op, Put) and op.key == KEY:
            return records.decode_registration(op.value)
    return None


class Node:
    def __init__(self, store: FaultyStore, **fields: Any) -> None:
        self.store = store
        self.feed = MetadataFeed(store)
        self.stopped: list[UserError] = []
        options = {"session_timeout_ms": 1000, "heartbeat_interval_ms": 100, **fields}
        self.registration = Registration(
            store, self.feed, BrokerDescription(1, ()), **options, on_replaced=self.stopped.append
        )
        self.runner = ControllerRunner(store, self.feed, self.registration, TopicRules(replication_factor=1))

    async def start(self, *, controls: bool = True) -> Node:
        await self.feed.start()
        await self.registration.start()
        if controls:
            self.runner.start()
            await self.registration.activate()
        return self

    async def back(self, than: int) -> None:
        """In the cluster, with a newer epoch, as it was."""
        await until(lambda: self.registration.broker_epoch > than and self.registration.is_active)

    async def stored(self) -> BrokerRegistration:
        kv = await MemoryStore.get(self.store, KEY)
        assert kv is not None
        return records.decode_registration(kv.value)

    async def stop(self) -> None:
        self.store.fault = self.store.after = lambda method, subject: None
        await self.runner.close()
        await self.registration.close(clean=True)
        await self.feed.close()


async def until(condition: Callable[[], bool], timeout_s: float = PATIENT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def store() -> AsyncIterator[FaultyStore]:
    store = FaultyStore()
    yield store
    await store.close()


@pytest.fixture
async def node(store: FaultyStore) -> AsyncIterator[Node]:
    node = await Node(store).start()
    yield node
    await node.stop()


def once(error: Exception, method: str, is_meant: Callable[[object], object]) -> Callable[[str, object], Any]:
    left = [error]

    def fault(called: str, subject: object) -> None:
        if left and called == method and is_meant(subject):
            raise left.pop()

    return fault


async def test_a_new_lease_is_kept_alive_while_no_controller_deals_with_it(store: FaultyStore) -> None:
    node = await Node(store).start(controls=False)
    await store.revoke(node.registration.lease)
    first = node.registration.broker_epoch
    await until(lambda: node.registration.broker_epoch > first)
    second, kept = node.registration.broker_epoch, store.calls["keepalive"]
    await until(lambda: store.calls["keepalive"] > kept + 15)  # longer than the session
    assert node.registration.broker_epoch == second
    node.runner.start()
    await node.registration.activate()
    await node.stop()


@pytest.mark.parametrize("error", [UnknownOutcome("lost"), StoreUnavailable("away"), LeaseNotFound("gone")])
async def test_a_wish_that_failed_once_is_asked_again(node: Node, error: Exception) -> None:
    def asks_to_serve(subject: object) -> bool:
        written = writes_registration(subject)
        return written is not None and not written.want_fence

    before = node.registration.broker_epoch
    node.store.fault = once(error, "txn", asks_to_serve)
    await node.store.revoke(node.registration.lease)
    await node.back(before)
    assert not (await node.stored()).want_fence
    assert not node.stopped


async def test_an_older_wish_that_comes_late_does_not_stay(node: Node) -> None:
    before = await node.stored()
    await node.registration.report_cordoned_dirs(("d1",))
    kv = await node.store.get(KEY)
    assert kv is not None
    await node.store.txn(Txn((), (Put(KEY, records.encode_registration(before), kv.lease),)))
    async with asyncio.timeout(PATIENT_S):
        while (await node.stored()).cordoned_dirs != ("d1",):
            await asyncio.sleep(0.005)
    assert node.registration.broker_epoch == kv.create_revision


@pytest.mark.parametrize("looks_that_fail", [0, 1, 5])
async def test_a_registration_whose_answer_was_lost_is_its_own(node: Node, looks_that_fail: int) -> None:
    before = node.registration.broker_epoch
    lost = once(UnknownOutcome("lost"), "txn", writes_registration)
    left = [looks_that_fail]

    def after(method: str, subject: object) -> None:
        lost(method, subject)
        if method == "get" and left[0]:
            left[0] -= 1
            raise StoreUnavailable("away")

    node.store.after = after
    await node.store.revoke(node.registration.lease)
    await node.back(before)
    kv = await node.store.get(KEY)
    assert kv is not None
    assert (kv.create_revision, kv.lease) == (node.registration.broker_epoch, node.registration.lease)
    assert not node.stopped


async def test_a_wish_whose_lease_is_gone_leads_to_a_new_registration(node: Node) -> None:
    before = node.registration.broker_epoch
    node.store.fault = once(LeaseNotFound("gone"), "txn", writes_registration)
    await node.store.revoke(node.registration.lease)
    await node.registration.report_offline_dirs(("d9",))
    await node.back(before)
    assert (await node.stored()).offline_dirs == ("d9",)


@pytest.mark.parametrize("method", ["get", "grant", "keepalive", "txn"])
async def test_an_outage_of_one_call_is_survived(node: Node, method: str) -> None:
    """First for longer than the session, then not any more."""
    before = node.registration.broker_epoch
    failures: Counter[str] = Counter()

    def fault(called: str, subject: object) -> None:
        if called == method and failures[called] < 8 and (called != "txn" or writes_registration(subject)):
            failures[called] += 1
            raise StoreUnavailable("away")

    node.store.fault = fault
    if method != "keepalive":
        await node.store.revoke(node.registration.lease)
        await node.back(before)
    await until(lambda: failures[method] == 8)
    await until(lambda: node.registration.is_active)
    kept = node.store.calls["keepalive"]
    await until(lambda: node.store.calls["keepalive"] > kept + 3)
    assert node.registration.is_active


async def test_a_call_that_is_never_answered_holds_up_neither_keepalive_nor_stop(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.2)

    def fault(called: str, subject: object) -> Any:
        return asyncio.Event().wait() if called in ("txn", "revoke") else None

    node.store.fault = fault
    wish = asyncio.create_task(node.registration.report_cordoned_dirs(("d1",)))
    kept = node.store.calls["keepalive"]
    await until(lambda: node.store.calls["keepalive"] > kept + 15)
    assert node.registration.is_active
    async with asyncio.timeout(PATIENT_S):
        await node.registration.close(clean=True)
    wish.cancel()


async def test_a_start_waits_for_the_store(store: FaultyStore) -> None:
    left = [6]

    def fault(called: str, subject: object) -> None:
        if left[0]:
            left[0] -= 1
            raise StoreUnavailable("away")

    node = Node(store)
    await node.feed.start()
    store.fault = fault
    await node.registration.start()
    assert node.registration.broker_epoch and not left[0]
    await node.stop()


async def test_a_stop_while_the_store_is_away_is_over_soon(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.2)

    def fault(called: str, subject: object) -> None:
        raise StoreUnavailable("away")

    node.store.fault = fault
    async with asyncio.timeout(PATIENT_S):
        assert not await node.registration.prepare_stop(600)
        await node.registration.close(clean=True)


async def test_a_clean_stop_whose_answer_was_lost_is_said_again(store: FaultyStore) -> None:
    node = await Node(store).start()
    store.lose_next_outcome(applied=False)
    await node.registration.close(clean=True)
    assert await store.get(keys.clean_stop(1)) is not None
    assert await store.get(KEY) is None
    await node.runner.close()
    await node.feed.close()


async def test_a_registration_that_somebody_removed_is_made_again(node: Node) -> None:
    before = node.registration.broker_epoch
    await node.store.txn(Txn((), (Delete(KEY),)))  # the lease lives on
    await node.back(before)


async def test_a_watch_that_has_gone_silent_is_replaced(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error, no event: a connection of which one half is dead."""
    monkeypatch.setattr(metadata_feed, "LAG_CHECK_S", 0.05)
    await node.feed.close()
    await node.registration.close(clean=True)
    await node.runner.close()
    node = await Node(node.store).start()
    (watch,) = (w for w in node.store._watches if w._prefixes == (keys.ROOT,))
    monkeypatch.setattr(watch, "live", lambda batch: None)
    result = await node.store.txn(Txn((), (Put(keys.SYNC, b""),)))
    await until(lambda: node.feed.image.revision >= result.revision)
    await node.store.revoke(node.registration.lease)
    await node.back(node.registration.broker_epoch)
    await node.stop()


async def test_a_feed_waits_for_the_store(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [Compacted(1), StoreUnavailable("away"), StoreUnavailable("away")]
    ranged = store.range

    async def away(*args: Any) -> Any:
        if errors:
            raise errors.pop()
        return await ranged(*args)

    monkeypatch.setattr(store, "range", away)
    node = await Node(store).start()
    assert not errors and node.feed.is_current
    await node.stop()


async def test_what_a_newer_version_wrote_ends_the_start_with_a_line(store: FaultyStore) -> None:
    await store.txn(Txn((), (Put(KEY, b'{"v":99}'),)))
    node = Node(store)
    with pytest.raises(UserError, match="format version 99"):
        await node.start()
    await node.registration.close(clean=False)
    await node.feed.close()
