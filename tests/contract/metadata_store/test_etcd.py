"""What only etcd has: a server that restarts, compacts, is not to be reached, and loses answers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.etcd import KINDS, Admin, Member, binary, etcd
from tests.servers.grpc_proxy import Cut, GrpcProxy
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.cluster.metadata_store import open_metadata_store
from tierlog.config.broker import BrokerConfig
from tierlog.errors import StoreUnavailable, UnknownOutcome, UserError
from tierlog.metadata import keys, records
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore
from tierlog.metadata.stores.port import Compacted, WatchStream
from tierlog.metadata.transactions import Compare, Put, Txn

OpenStore = Callable[..., AbstractAsyncContextManager[EtcdStore]]


async def put(store: EtcdStore, key: str, value: bytes = b"v", lease: int = 0) -> int:
    return (await store.txn(Txn((), (Put(key, value, lease),)))).revision


async def revisions(watch: WatchStream, count: int, timeout_s: float = PATIENT_S) -> list[int]:
    async with asyncio.timeout(timeout_s):
        return [(await watch.__anext__()).revision for _ in range(count)]


@asynccontextmanager
async def opened(
    *addresses: str, prefix: str = "/t", request_timeout_ms: int = 5000
) -> AsyncIterator[EtcdStore]:
    settings = EtcdSettings(addresses, prefix, request_timeout_ms=request_timeout_ms)
    store = await EtcdStore.open(settings)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=KINDS)
def member(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Member]:
    """A server of the test's own."""
    if binary(request.param) is None:
        pytest.skip(f"this machine has no {request.param} server")
    with etcd(tmp_path, kind=request.param) as (single,):
        yield single


@pytest.fixture
def shared(shared_etcd: Callable[[str], Member]) -> Member:
    return shared_etcd("etcd")


@pytest.fixture
async def proxy(shared: Member) -> AsyncIterator[GrpcProxy]:
    proxy = GrpcProxy(shared.client_port)
    await proxy.start()
    yield proxy
    await proxy.close()


class TestRestart:
    async def test_a_watch_goes_on_where_it_was(self, member: Member) -> None:
        async with opened(member.address) as store:
            first = await put(store, "/a")
            watch = store.watch(["/"], first)
            assert await revisions(watch, 1) == [first]
            is_quick = member.command[0] == binary("etcd")  # newer ones let streams live for five seconds
            for signal_number in (signal.SIGTERM if is_quick else signal.SIGKILL, signal.SIGKILL):
                missed = await put(store, "/a")
                member.end(signal_number)
                member.start()
                member.await_health()
                kv = await store.get("/a")
                assert kv is not None
                assert kv.mod_revision == missed
                after = await put(store, "/a")
                assert after == missed + 1
                assert await revisions(watch, 2) == [missed, after]

    async def test_leases_and_their_keys_survive(self, member: Member) -> None:
        async with opened(member.address) as store:
            lease = await store.grant(60_000)
            await put(store, "/a", lease=lease)
            member.end(signal.SIGKILL)
            member.start()
            member.await_health()
            assert await store.keepalive(lease)
            kv = await store.get("/a")
            assert kv is not None
            assert kv.lease == lease


class TestCompaction:
    async def test_a_watch_that_was_cut_off_learns_that_it_missed_something(
        self, shared: Member, proxy: GrpcProxy
    ) -> None:
        async with (
            opened(proxy.address, prefix="/cut") as behind,
            opened(shared.address, prefix="/cut") as other,
        ):
            first = await put(behind, "/a")
            watch = behind.watch(["/"], first)
            assert await revisions(watch, 1) == [first]
            proxy.refuse()
            last = [await put(other, "/a") for _ in range(5)][-1]
            async with Admin(shared) as admin:
                await admin.compact(last)
            await proxy.start()
            with pytest.raises(Compacted) as caught:
                await revisions(watch, 1)
            assert caught.value.min_revision == last + 1
            resumed = behind.watch(["/"], last + 1)
            new = await put(other, "/a")
            assert await revisions(resumed, 1) == [new]

    async def test_deletions_of_the_compacted_revision_itself_are_not_missed_in_silence(
        self, shared: Member
    ) -> None:
        """Some versions of etcd forget a deletion that the compacted revision did, and let it be watched."""
        async with opened(shared.address, prefix="/edge") as store, Admin(shared) as admin:
            await put(store, "/a")
            edge = await put(store, "/b")
            await admin.compact(edge)
            with pytest.raises(Compacted):
                await revisions(store.watch(["/"], edge), 1)
            with pytest.raises(Compacted) as caught:
                await store.range("/", edge - 1)
            assert caught.value.min_revision == edge + 1
            assert len((await store.range("/", edge)).kvs) == 2

    async def test_the_image_is_reloaded(self, shared: Member, proxy: GrpcProxy) -> None:
        async with (
            opened(proxy.address, prefix="/feed") as store,
            opened(shared.address, prefix="/feed") as other,
        ):
            feed = MetadataFeed(store)
            await feed.start()
            proxy.refuse()
            await other.txn(Txn((), (Put(keys.CLUSTER, records.encode_cluster_id("behind")),)))
            last = await put(other, "/nothing")
            async with Admin(shared) as admin:
                await admin.compact(last)
            await proxy.start()
            async with asyncio.timeout(PATIENT_S):
                await feed.wait_for_revision(last)
            assert feed.image.cluster_id == "behind"
            await feed.close()

    async def test_a_watch_far_behind_gets_everything(
        self, shared: Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A backlog of more than etcd puts into one answer, and more than is queued."""
        monkeypatch.setattr("tierlog.metadata.stores.watching.MAX_QUEUED_BATCHES", 50)
        async with opened(shared.address, prefix="/far") as store:
            first = await put(store, "/a/0")
            for _ in range(30):
                await asyncio.gather(*(put(store, f"/a/{n}", b"x" * 1000) for n in range(100)))
            watch = store.watch(["/a/"], first)
            assert await revisions(watch, 3001) == list(range(first, first + 3001))


class TestOutcomes:
    async def test_a_lost_answer_is_told_and_nothing_is_sent_twice(self, proxy: GrpcProxy) -> None:
        async with opened(proxy.address, prefix="/lost") as store:
            await put(store, "/n", b"0")
            for cut, expected in ((Cut.AFTER, b"1"), (Cut.BEFORE, b"1"), (Cut.AFTER, b"2")):
                kv = await store.get("/n")
                assert kv is not None
                proxy.cut_next(b"/lost/n", cut)
                more = str(int(kv.value) + 1).encode()
                with pytest.raises(UnknownOutcome, match="UNAVAILABLE"):
                    await store.txn(Txn((Compare("/n", "mod", kv.mod_revision),), (Put("/n", more),)))
                kv = await store.get("/n")
                assert kv is not None
                assert kv.value == expected
            assert proxy.cuts == 3

    async def test_reads_and_leases_are_asked_again(self, proxy: GrpcProxy) -> None:
        async with opened(proxy.address, prefix="/again") as store:
            await put(store, "/a", b"1")
            for cut in Cut:
                proxy.cut_next(b"/again/a", cut)
                kv = await store.get("/a")
                assert kv is not None
            lease = await store.grant(60_000)
            for ask in (store.keepalive, store.keepalive, store.revoke, store.revoke):
                proxy.drop_all()
                assert await ask(lease) in (True, None)
            assert proxy.cuts == 2

    async def test_no_connection_means_nothing_was_done(self, shared: Member, proxy: GrpcProxy) -> None:
        async with opened(proxy.address, prefix="/none", request_timeout_ms=600) as store:
            before = await put(store, "/a")
            proxy.refuse()
            with pytest.raises(StoreUnavailable):
                await store.get("/a")
            for ask in (put(store, "/a"), store.grant(1000)):
                with pytest.raises(StoreUnavailable, match=f"{proxy.address}.*refused") as caught:
                    await ask
                assert not isinstance(caught.value, UnknownOutcome)
            await proxy.start()
            kv = await store.get("/a")
            assert kv is not None
            assert kv.mod_revision == before

    async def test_no_answer_in_time(self, member: Member) -> None:
        async with opened(member.address, request_timeout_ms=300) as store:
            await put(store, "/a")
            member.pause()
            with pytest.raises(UnknownOutcome, match="DEADLINE_EXCEEDED"):
                await put(store, "/a")
            with pytest.raises(StoreUnavailable) as caught:
                await store.get("/a")
            assert not isinstance(caught.value, UnknownOutcome)
            watch = store.watch(["/"], 1)
            with pytest.raises(StoreUnavailable):
                await revisions(watch, 1)
            member.resume()
            await put(store, "/a")

    async def test_a_request_beyond_the_largest_is_a_bug_and_told(self, shared: Member) -> None:
        async with opened(shared.address, prefix="/large") as store:
            with pytest.raises(AssertionError, match="too large"):
                await put(store, "/a", bytes(2_000_000))
            await put(store, "/a", bytes(1_000_000))


class TestLeases:
    async def test_a_lease_lives_as_long_as_it_is_kept_alive(self, shared: Member) -> None:
        async with opened(shared.address, prefix="/leases") as store:
            lease = await store.grant(1000)
            revision = await put(store, "/a", lease=lease)
            watch = store.watch(["/a"], revision + 1)
            for _ in range(6):
                await asyncio.sleep(0.25)
                assert await store.keepalive(lease)
            assert await store.get("/a") is not None
            started_s = time.monotonic()
            async with asyncio.timeout(PATIENT_S):
                batch = await watch.__anext__()
            assert [event.kv for event in batch.events] == [None]
            assert time.monotonic() - started_s > 0.7
            assert not await store.keepalive(lease)


class TestOpening:
    async def test_an_etcd_that_is_not_there_is_told_in_one_line(self) -> None:
        (port,) = free_ports(1)
        settings = EtcdSettings((f"127.0.0.1:{port}",), start_timeout_ms=300, request_timeout_ms=200)
        with pytest.raises(UserError) as caught:
            await EtcdStore.open(settings)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith("metadata.store: given up after 0.3 s: ")
        assert f"127.0.0.1:{port}" in message
        assert "Connection refused" in message

    async def test_it_is_waited_for(self, shared: Member, proxy: GrpcProxy) -> None:
        proxy.refuse()
        settings = EtcdSettings((proxy.address,), start_timeout_ms=20_000, request_timeout_ms=200)
        opening = asyncio.create_task(EtcdStore.open(settings))
        await asyncio.sleep(0.5)
        assert not opening.done()
        await proxy.start()
        store = await opening
        await store.close()

    async def test_from_a_config(self, shared: Member) -> None:
        config = BrokerConfig(metadata_store=f"etcd://{shared.address}", tierlog_etcd_prefix="/configured")
        store = await open_metadata_store(config)
        revision = (await store.txn(Txn((), (Put("/a", b"1"),)))).revision
        async with opened(shared.address, prefix="") as everything:
            kv = await everything.get("/configured/a")
        assert kv is not None
        assert kv.mod_revision == revision
        await store.close()

    async def test_clusters_under_other_prefixes_see_nothing_of_it(self, shared: Member) -> None:
        async with opened(shared.address, prefix="/one") as one, opened(shared.address, prefix="/two") as two:
            start = await put(one, "/a")
            watch = two.watch(["/"], start)
            await put(one, "/a")
            mine = await put(two, "/a")
            assert await revisions(watch, 1) == [mine]
            assert [kv.mod_revision for kv in (await two.range("/")).kvs] == [mine]

    async def test_closing_finishes_what_was_asked(self, shared: Member) -> None:
        async with opened(shared.address, prefix="/closing") as store:
            watch = store.watch(["/"], await put(store, "/first") + 1000)
            waiting = asyncio.ensure_future(watch.__anext__())
            asked = [asyncio.create_task(put(store, f"/{n}")) for n in range(500)]
            await asyncio.sleep(0)
        assert len({task.result() for task in asked}) == 500
        with pytest.raises(StopAsyncIteration):
            await waiting
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.get("/0")


async def test_children_start_while_etcd_is_asked(shared: Member) -> None:
    """gRPC's handlers around a fork would end some of them."""
    async with opened(shared.address, prefix="/fork") as store:

        async def ask() -> None:
            while True:
                await put(store, "/a")

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        for _ in range(60):
            await asyncio.sleep(0.002)
            child = await asyncio.to_thread(subprocess.run, ["true"], preexec_fn=die_with_parent)
            assert child.returncode == 0
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_how_fast(shared: Member) -> None:
    """Far from what it reaches, but far from what would be too slow as well."""
    async with opened(shared.address, prefix="/fast") as store:
        puts = [Put(f"/p/{n:06}", b"x" * 250) for n in range(24_000)]
        txns = [Txn((), tuple(puts[i : i + 120])) for i in range(0, len(puts), 120)]
        started_s = time.monotonic()
        results = await asyncio.gather(*(store.txn(txn) for txn in txns))
        assert len(puts) / (time.monotonic() - started_s) > 3000
        watch = store.watch(["/w"], results[-1].revision + 1)
        await asyncio.sleep(0.2)
        delays_s = []
        for _ in range(100):
            arrival = asyncio.ensure_future(watch.__anext__())
            started_s = time.monotonic()
            await put(store, "/w")
            await arrival
            delays_s.append(time.monotonic() - started_s)
        assert sorted(delays_s)[50] < 0.1
