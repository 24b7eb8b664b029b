"""The contract of the metadata store, the same for every backend."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.metadata_store.harness import Harness
from tests.patience import PATIENT_S
from tierlog.errors import UnknownOutcome
from tierlog.metadata import keys, records
from tierlog.metadata.commits import found_cluster
from tierlog.metadata.features import highest_levels
from tierlog.metadata.stores.port import Compacted, LeaseNotFound, MetadataStore, WatchStream
from tierlog.metadata.transactions import (
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    Put,
    Txn,
    TxnResult,
    WatchBatch,
)


async def put(store: MetadataStore, key: str, value: bytes = b"v", lease: int = 0) -> int:
    return (await store.txn(Txn((), (Put(key, value, lease),)))).revision


async def head(store: MetadataStore) -> int:
    return (await store.txn(Txn())).revision


async def next_batch(watch: WatchStream) -> WatchBatch:
    async with asyncio.timeout(PATIENT_S):
        return await watch.__anext__()


class TestTransactions:
    async def test_create_modify_delete_and_create_again(self, store: MetadataStore) -> None:
        created = await put(store, "/a", b"1")
        modified = await put(store, "/a", b"2")
        assert modified == created + 1
        assert await store.get("/a") == KeyValue("/a", b"2", created, modified)
        deleted = (await store.txn(Txn((), (Delete("/a"),)))).revision
        assert deleted == modified + 1
        assert await store.get("/a") is None
        again = await put(store, "/a", b"3")
        assert await store.get("/a") == KeyValue("/a", b"3", again, again)

    async def test_a_transaction_that_writes_nothing_takes_no_revision(self, store: MetadataStore) -> None:
        before = await put(store, "/a")
        assert (await store.txn(Txn((), (Delete("/absent"),)))).revision == before
        assert (await store.txn(Txn((), (), ()))).revision == before

    async def test_all_writes_of_a_transaction_share_its_revision(self, store: MetadataStore) -> None:
        result = await store.txn(Txn((), (Put("/a", b"1"), Put("/b", b"2"))))
        assert [(await store.get(k)) for k in ("/a", "/b")] == [
            KeyValue("/a", b"1", result.revision, result.revision),
            KeyValue("/b", b"2", result.revision, result.revision),
        ]

    @pytest.mark.parametrize("field", ["mod", "create"])
    async def test_compare(self, store: MetadataStore, field: str) -> None:
        created = await put(store, "/a")
        modified = await put(store, "/a")
        right = modified if field == "mod" else created
        for revision, expected in ((right, True), (right + 5, False), (0, False)):
            compare = Compare("/a", field, revision)  # type: ignore[arg-type]
            assert (await store.txn(Txn((compare,)))).ok is expected
        assert (await store.txn(Txn((Compare("/absent", field, 0),)))).ok  # type: ignore[arg-type]

    async def test_failed_comparison_does_the_other_branch(self, store: MetadataStore) -> None:
        await put(store, "/a", b"1")
        txn = Txn((Compare("/a", "mod", 0),), (Put("/a", b"2"),), (Get("/a"), Get("/absent")))
        result = await store.txn(txn)
        assert not result.ok
        assert result.gets == (await store.get("/a"), None)
        assert result.gets[0] is not None
        assert result.gets[0].value == b"1"

    async def test_nested_transactions_fail_alone(self, store: MetadataStore) -> None:
        await put(store, "/taken")
        nested = [
            Txn((Compare(key, "mod", 0),), (Put(key, b"mine"),), (Get(key),))
            for key in ("/x", "/taken", "/y")
        ]
        result = await store.txn(Txn((), tuple(nested)))
        assert [r.ok for r in result.nested] == [True, False, True]
        assert result.nested[1].gets[0] == await store.get("/taken")
        x, y = await store.get("/x"), await store.get("/y")
        assert x is not None
        assert y is not None
        assert x.mod_revision == y.mod_revision == result.revision

    async def test_outer_comparison_guards_nested_ones(self, store: MetadataStore) -> None:
        result = await store.txn(Txn((Compare("/ctl", "create", 7),), (Txn((), (Put("/x", b""),)),)))
        assert result == TxnResult(False, result.revision)
        assert await store.get("/x") is None

    async def test_comparisons_see_the_state_before(self, store: MetadataStore) -> None:
        result = await store.txn(
            Txn((), (Put("/a", b"1"), Txn((Compare("/a", "mod", 0),), (Put("/b", b"2"),))))
        )
        assert result.nested[0].ok

    async def test_reads_see_the_state_before_wherever_they_stand(self, store: MetadataStore) -> None:
        before = await put(store, "/a", b"old")
        await put(store, "/b", b"old")
        both = (Get("/a"), Get("/b"), Get("/new"))
        txn = Txn(
            (),
            (
                Put("/a", b"1"),
                Txn((), (Put("/b", b"2"), *both)),
                Get("/a"),
                Txn((Compare("/a", "mod", 0),), (), both),
                Delete("/absent"),
                Get("/b"),
                Put("/new", b"3"),
            ),
        )
        result = await store.txn(txn)
        old_a, old_b = KeyValue("/a", b"old", before, before), KeyValue("/b", b"old", before + 1, before + 1)
        assert result.gets == (old_a, old_b)
        assert [(r.ok, r.gets) for r in result.nested] == [
            (True, (old_a, old_b, None)),
            (False, (old_a, old_b, None)),
        ]
        page = await store.range("/")
        assert [kv.value for kv in page.kvs] == [b"1", b"2", b"3"]
        assert {kv.mod_revision for kv in page.kvs} == {result.revision}

    async def test_the_widest_transactions(self, store: MetadataStore) -> None:
        """As the controller writes them: its own guard around one guarded write for each partition."""
        guard = Compare("/ctl", "create", await put(store, "/ctl"))
        nested = tuple(
            Txn((Compare(f"/p/{n}", "mod", 0),), (Put(f"/p/{n}", b""),), (Get(f"/p/{n}"),)) for n in range(64)
        )
        for ok in (True, False):
            result = await store.txn(Txn((guard,), nested))
            assert [r.ok for r in result.nested] == [ok] * 64
        flat = Txn(
            tuple(Compare(f"/q/{n}", "mod", 0) for n in range(128)),
            tuple(Put(f"/q/{n}", b"") for n in range(128)),
        )
        assert (await store.txn(flat)).ok

    async def test_malformed_transactions_are_the_callers_bug(self, store: MetadataStore) -> None:
        twice = Txn((), (Put("/a", b""), Txn((), (Put("/a", b""),))))
        deep = Txn((), (Txn((), (Txn((), ()),)),))
        wide = Txn((), tuple(Put(f"/{n}", b"") for n in range(129)))
        compares = tuple(Compare(f"/{n}", "mod", 0) for n in range(65))
        doubtful = Txn(compares, (Txn(compares[:64]),))
        for txn in (twice, deep, wide, doubtful):
            with pytest.raises(AssertionError):
                await store.txn(txn)
        await put(store, "/a")  # and the store goes on

    async def test_of_many_racing_creations_one_wins(self, store: MetadataStore) -> None:
        attempts = [
            store.txn(Txn((Compare("/race", "mod", 0),), (Put("/race", str(n).encode()),))) for n in range(50)
        ]
        results = await asyncio.gather(*attempts)
        winners = [n for n, result in enumerate(results) if result.ok]
        assert len(winners) == 1
        kv = await store.get("/race")
        assert kv is not None
        assert kv.value == str(winners[0]).encode()

    async def test_racing_increments_lose_none(self, store: MetadataStore) -> None:
        async def increment() -> None:
            while True:
                kv = await store.get("/n")
                value, revision = (0, 0) if kv is None else (int(kv.value), kv.mod_revision)
                txn = Txn((Compare("/n", "mod", revision),), (Put("/n", str(value + 1).encode()),))
                if (await store.txn(txn)).ok:
                    return

        await asyncio.gather(*(increment() for _ in range(10)))
        kv = await store.get("/n")
        assert kv is not None
        assert kv.value == b"10"

    @pytest.mark.parametrize("applied", [True, False])
    async def test_unknown_outcome(self, harness: Harness, applied: bool) -> None:
        store = harness.store
        before = await put(store, "/a", b"1")
        watch = store.watch(["/"], before + 1)
        harness.lose_next_outcome(applied=applied)
        with pytest.raises(UnknownOutcome):
            await put(store, "/a", b"2")
        kv = await store.get("/a")
        assert kv is not None
        assert kv.value == (b"2" if applied else b"1")
        after = await put(store, "/a", b"3")
        assert after == before + (2 if applied else 1)
        seen = [await next_batch(watch) for _ in range(after - before)]
        assert [b.revision for b in seen] == list(range(before + 1, after + 1))


class TestRange:
    async def test_prefix_order_and_paging(self, store: MetadataStore) -> None:
        names = sorted(f"/p/{n}" for n in range(25))
        for name in reversed(names):
            await put(store, name)
        await put(store, "/o/other")
        await put(store, "/q")
        found: list[str] = []
        cursor: str | None = None
        revision: int | None = None
        while True:
            page = await store.range("/p/", revision, limit=10, cursor=cursor)
            revision = page.revision
            found += [kv.key for kv in page.kvs]
            assert len(page.kvs) <= 10
            if page.cursor is None:
                break
            cursor = page.cursor
        assert found == names

    async def test_paging_at_a_pinned_revision_sees_no_later_change(self, store: MetadataStore) -> None:
        for n in range(9):
            await put(store, f"/p/{n}", b"old")
        await store.txn(Txn((), (Delete("/p/4"),)))
        pinned = await put(store, "/p/4", b"old")
        first = await store.range("/p/", limit=3)
        assert first.revision == pinned
        await store.txn(Txn((), (Delete("/p/5"), Put("/p/6", b"new"), Put("/p/55", b"new"))))
        await put(store, "/p/5", b"again")
        await put(store, "/p/0", b"new")
        rest: list[KeyValue] = []
        cursor = first.cursor
        while cursor is not None:
            page = await store.range("/p/", pinned, limit=3, cursor=cursor)
            rest += page.kvs
            cursor = page.cursor
        kvs = first.kvs + rest
        assert [kv.key for kv in kvs] == [f"/p/{n}" for n in range(9)]
        assert {kv.value for kv in kvs} == {b"old"}
        assert all(kv.mod_revision <= pinned for kv in kvs)

    async def test_a_compacted_revision_is_refused(self, harness: Harness) -> None:
        pinned = await put(harness.store, "/a")
        await put(harness.store, "/a")
        await harness.compact()
        await put(harness.store, "/a")
        with pytest.raises(Compacted):
            await harness.store.range("/", pinned)

    async def test_two_and_a_half_megabytes_of_keys(self, store: MetadataStore) -> None:
        keys = [f"/p/{n:06}" for n in range(10_000)]
        txns = (
            Txn((), tuple(Put(key, key.encode() * 25) for key in keys[i : i + 100]))
            for i in range(0, len(keys), 100)
        )
        await asyncio.gather(*(store.txn(txn) for txn in txns))
        found: list[KeyValue] = []
        page = await store.range("/p/")
        found += page.kvs
        while page.cursor is not None:
            page = await store.range("/p/", page.revision, cursor=page.cursor)
            found += page.kvs
        assert [kv.key for kv in found] == keys
        assert all(kv.value == kv.key.encode() * 25 for kv in found)

    async def test_a_hundred_thousand_keys_at_one_revision_while_others_are_written(
        self, store: MetadataStore
    ) -> None:
        names = [f"/p/{n:06}" for n in range(100_000)]
        puts = [Put(name, b"x" * 250) for name in names]
        txns = [Txn((), tuple(puts[i : i + 120])) for i in range(0, len(puts), 120)]
        for i in range(0, len(txns), 16):
            results = await asyncio.gather(*(store.txn(txn) for txn in txns[i : i + 16]))
        pinned = max(result.revision for result in results)
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await store.range("/p/", pinned, cursor=cursor)
            found += [kv.key for kv in page.kvs]
            assert all(kv.mod_revision <= pinned for kv in page.kvs)
            cursor = page.cursor
            if cursor is None:
                break
            if len(found) % 20_000 == 0:
                await store.txn(Txn((), (Put(cursor + "1", b"new"), Delete(cursor))))
        assert found == names


class TestWatch:
    async def test_order_atomicity_and_prefixes(self, store: MetadataStore) -> None:
        start = await head(store)
        watch = store.watch(["/a/", "/b/"], start + 1)
        one = (await store.txn(Txn((), (Put("/b/1", b"1"), Put("/c", b"no"), Put("/a/1", b"2"))))).revision
        await put(store, "/c")
        two = (await store.txn(Txn((), (Delete("/a/1"),)))).revision
        three = await put(store, "/a/1", b"3")
        assert await next_batch(watch) == WatchBatch(
            one,
            (
                Event("/b/1", KeyValue("/b/1", b"1", one, one)),
                Event("/a/1", KeyValue("/a/1", b"2", one, one)),
            ),
        )
        assert await next_batch(watch) == WatchBatch(two, (Event("/a/1", None),))
        assert await next_batch(watch) == WatchBatch(
            three, (Event("/a/1", KeyValue("/a/1", b"3", three, three)),)
        )

    async def test_resume_from_any_kept_revision(self, store: MetadataStore) -> None:
        revisions = [await put(store, "/a", str(n).encode()) for n in range(10)]
        for first in (0, 4, 9):
            watch = store.watch(["/"], revisions[first])
            seen = [(await next_batch(watch)).revision for _ in revisions[first:]]
            assert seen == revisions[first:]
            watch.close()

    async def test_started_while_writes_go_on_misses_and_repeats_nothing(self, store: MetadataStore) -> None:
        start = await head(store)
        writes = [asyncio.create_task(put(store, "/a", str(n).encode())) for n in range(60)]
        seen: list[int] = []
        watches = []
        for n in range(60):
            if n % 20 == 0:
                watches.append(store.watch(["/"], start + 1))
            await writes[n]
        for watch in watches:
            seen = [(await next_batch(watch)).revision for _ in range(60)]
            assert seen == list(range(start + 1, start + 61))

    async def test_future_revision_waits_for_it(self, store: MetadataStore) -> None:
        start = await head(store)
        watch = store.watch(["/"], start + 3)
        for _ in range(3):
            await put(store, "/a")
        assert (await next_batch(watch)).revision == start + 3

    async def test_compacted(self, harness: Harness) -> None:
        await put(harness.store, "/a")
        first = await put(harness.store, "/a")
        await harness.compact()
        await put(harness.store, "/a")
        watch = harness.store.watch(["/"], first)
        with pytest.raises(Compacted) as caught:
            await next_batch(watch)
        resumed = harness.store.watch(["/"], caught.value.min_revision)
        last = await head(harness.store)
        while (await next_batch(resumed)).revision < last:
            pass

    async def test_slow_consumer_gets_everything(
        self, store: MetadataStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tierlog.metadata.stores.watching.MAX_QUEUED_BATCHES", 5)
        start = await put(store, "/a")
        watch = store.watch(["/a"], start)
        assert (await next_batch(watch)).revision == start
        for _ in range(30):
            await put(store, "/a")
        assert [(await next_batch(watch)).revision for _ in range(30)] == list(range(start + 1, start + 31))

    async def test_close_ends_the_iteration(self, store: MetadataStore) -> None:
        watch = store.watch(["/"], await head(store) + 1)
        waiting = asyncio.create_task(watch.__anext__())
        await asyncio.sleep(0)
        watch.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


class TestLeases:
    async def test_expiry_deletes_all_keys_in_one_revision(self, harness: Harness) -> None:
        store = harness.store
        lease = await store.grant(1000)
        await put(store, "/a", lease=lease)
        last = await put(store, "/b", lease=lease)
        await put(store, "/c")
        watch = store.watch(["/"], last + 2)
        await harness.advance(999)
        assert await store.get("/a") is not None
        await harness.advance(1)
        batch = await next_batch(watch)
        assert batch.events == (Event("/a", None), Event("/b", None))
        assert await store.get("/c") is not None
        assert not await store.keepalive(lease)

    async def test_keepalive_extends(self, harness: Harness) -> None:
        lease = await harness.store.grant(1000)
        await put(harness.store, "/a", lease=lease)
        for _ in range(5):
            await harness.advance(900)
            assert await harness.store.keepalive(lease)
        assert await harness.store.get("/a") is not None

    async def test_keepalive_and_expiry_never_both_win(self, harness: Harness) -> None:
        store = harness.store
        for elapsed_ms in (999, 1000, 1001):
            lease = await store.grant(1000)
            await put(store, "/a", lease=lease)
            advanced, kept = await asyncio.gather(harness.advance(elapsed_ms), store.keepalive(lease))
            assert advanced is None
            assert (await store.get("/a") is not None) is kept

    async def test_dead_lease_refuses_keys_and_the_transaction_does_nothing(self, harness: Harness) -> None:
        store = harness.store
        lease = await store.grant(1000)
        await harness.advance(1000)
        with pytest.raises(LeaseNotFound):
            await store.txn(Txn((), (Put("/free", b""), Put("/a", b"", lease))))
        assert await store.get("/free") is None

    async def test_revoke(self, store: MetadataStore) -> None:
        lease = await store.grant(60_000)
        await put(store, "/a", lease=lease)
        await store.revoke(lease)
        assert await store.get("/a") is None
        assert not await store.keepalive(lease)
        await store.revoke(lease)

    async def test_put_moves_a_key_between_leases(self, harness: Harness) -> None:
        store = harness.store
        short, long = await store.grant(1000), await store.grant(5000)
        await put(store, "/moved", lease=short)
        await put(store, "/freed", lease=short)
        await put(store, "/moved", lease=long)
        await put(store, "/freed")
        await harness.advance(1000)
        assert await store.get("/moved") is not None
        await harness.advance(4000)
        assert await store.get("/moved") is None
        assert await store.get("/freed") is not None

    async def test_ids_are_not_reused(self, harness: Harness) -> None:
        old = await harness.store.grant(1000)
        await harness.advance(1000)
        assert await harness.store.grant(1000) != old


class TestNewClusters:
    async def test_one_founds_the_cluster_and_its_levels(self, store: MetadataStore) -> None:
        names = ("a" * 22, "b" * 22)
        results = await asyncio.gather(*(store.txn(found_cluster(name)) for name in names))
        assert sorted(result.ok for result in results) == [False, True]
        cluster, levels = await store.get(keys.CLUSTER), await store.get(keys.FEATURES)
        assert cluster is not None and levels is not None
        assert cluster.create_revision == levels.create_revision == levels.mod_revision
        (won,) = (name for name, result in zip(names, results, strict=True) if result.ok)
        assert records.decode_cluster_id(cluster.value) == won
        assert records.decode_features(levels.value) == highest_levels()
        (lost,) = (result for result in results if not result.ok)
        assert lost.gets == (cluster,)

    async def test_a_cluster_without_levels_gets_none_by_being_found(self, store: MetadataStore) -> None:
        await put(store, keys.CLUSTER, records.encode_cluster_id("a" * 22))
        assert not (await store.txn(found_cluster("b" * 22))).ok
        assert await store.get(keys.FEATURES) is None
