"""Pages through the real worker process: Parquet that others can read, and that comes back unchanged."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys

import pytest

from tests.unit.tiering.heads import entry, head_of, name
from tests.unit.tiering.segments import KEYS
from tiering.catalog import Catalog, EntryColumns
from tiering.errors import CorruptObject, NotFound, UnsupportedFormat
from tiering.head_codec import encode_head
from tiering.manifest import Manifests, ManifestWorker, Table
from tiering.model import TierHead
from tiering.objects.memory import MemoryStore
from tiering.pages import PAGE_ENTRIES_MAX, Pages, move_to_page


async def test_pages_come_back_and_the_worker_ends_when_idle() -> None:
    store, worker = MemoryStore(), ManifestWorker(idle_s=0.0)
    manifests = Manifests(store, worker)
    head, pages = head_of(48), Pages()
    for turn in range(3):
        move = move_to_page(head, pages, 40, name(2 * turn + 1), name(2 * turn + 2))
        await manifests.write(KEYS, move)
        head = head.with_page(move.index_ref, 40, move.replaced, 100)
        pages = move.pages
        assert await manifests.load(KEYS, head) == pages
        for _ in range(40):
            head = head.with_committed(entry(head.end, head.end + 10, timestamp=-1))
    assert len(pages.rows) == 1
    assert len(Catalog(head, pages.columns)) == 168
    await worker.close()
    assert not worker.is_running

    import pyarrow.parquet as pq

    _, data = await store.get(KEYS.page(pages.rows[0].name))
    table = pq.read_table(io.BytesIO(data))
    assert table.column("key").to_pylist() == [KEYS.segment(e) for e in pages.columns]
    assert table.column("base_offset").to_pylist() == [e.base_offset for e in pages.columns]
    assert table.schema.metadata[b"tierlog.format_version"] == b"2"


async def test_close_leaves_no_process_that_was_idle() -> None:
    worker = ManifestWorker(idle_s=0.0)
    await worker.encode(Table({}, bytes(16)), {}, {})
    process = worker._process
    assert process is not None
    while worker.is_running:
        await asyncio.sleep(0)
    await worker.close()
    assert process.returncode == 0


async def test_a_lost_or_damaged_page_costs_its_own_range() -> None:
    store, worker = MemoryStore(), ManifestWorker()
    manifests = Manifests(store, worker)
    head, pages = head_of(60), Pages()
    for number in (1, 3):
        move = move_to_page(head, pages, 40, name(number), name(number + 1), 40)
        pages = move.pages
        await manifests.write(KEYS, move)
        head = head.with_page(move.index_ref, 40, move.replaced, 0)
        for at in range(head.end, head.end + 400, 10):
            head = head.with_committed(entry(at, at + 10))
    whole = await manifests.load(KEYS, head)
    first, second = whole.rows
    assert (first.end_offset, second.end_offset) == (400, 800)
    for row, neighbour in ((first, 450), (second, 350)):
        key = KEYS.page(row.name)
        _, data = await store.get(key)
        broken = bytes(data[:100]) + bytes(50) + bytes(data[150:])
        for is_gone in (False, True):
            await (store.delete([key]) if is_gone else store.put(key, broken, size_bytes=len(broken)))
            pages = await manifests.load(KEYS, head)
            assert pages.lost == (row,)
            catalog = Catalog(head, pages.columns)
            found = catalog.find(row.base_offset + 15)
            assert found is not None
            assert found.is_lost_page
            assert (found.base_offset, found.end_offset) == (row.base_offset, row.end_offset)
            assert catalog.data_bytes == Catalog(head, whole.columns).data_bytes
            healthy = catalog.find(neighbour)
            assert healthy == Catalog(head, whole.columns).find(neighbour)
            assert catalog.references(row.base_offset + 10, b"?" * 16), "it may be named"
            assert not catalog.references(neighbour - neighbour % 10, b"?" * 16)
        await store.put(key, data, size_bytes=len(data))
    assert head.page_index is not None
    await store.delete([KEYS.page_index(head.page_index.name)])
    pages = await manifests.load(KEYS, head)
    assert [(row.base_offset, row.end_offset) for row in pages.lost] == [(0, 800)]
    assert (await manifests.load(KEYS, head.with_start(900, 1).with_retired_removed(800, 2))).lost == ()
    await worker.close()


async def test_a_lost_page_is_neither_merged_nor_forgotten() -> None:
    store, worker = MemoryStore(), ManifestWorker()
    manifests = Manifests(store, worker)
    move = move_to_page(head_of(60), Pages(), 40, name(1), name(2))
    await manifests.write(KEYS, move)
    head = head_of(60).with_page(move.index_ref, 40, (), 0)
    for lost in (KEYS.page(name(1)), KEYS.page_index(name(2))):
        await store.delete([lost])
        pages = await manifests.load(KEYS, head)
        (row,) = pages.lost
        second = move_to_page(head, pages, 10, name(3), name(4))
        assert [each.end_offset for each in second.pages.rows] == [400, 500]
        assert second.pages.lost == (row,)
        await manifests.write(KEYS, second)
        later = head.with_page(second.index_ref, 10, second.replaced, 0)
        again = await manifests.load(KEYS, later)
        assert [each.end_offset for each in again.rows] == [400, 500]
        assert [each.end_offset for each in again.lost] == [400]
    await worker.close()


async def test_an_unknown_version_and_a_missing_column_are_refused() -> None:
    worker = ManifestWorker()
    table = Table({"a": EntryColumns.of([entry(0, 1)]).column("base_offset")}, bytes(16))
    newer = await worker.encode(table, {}, {"format_version": "3"})
    with pytest.raises(UnsupportedFormat, match=r"^k: format_version 3; this release knows 1 to 2$"):
        await worker.decode(newer, ["a"], "k")
    featured = await worker.encode(table, {}, {"format_version": "2", "features": "4"})
    with pytest.raises(UnsupportedFormat, match=r"^k: uses features 0x4 of a newer release; upgrade"):
        await worker.decode(featured, ["a"], "k")
    ours = await worker.encode(table, {}, {"format_version": "2"})
    with pytest.raises(CorruptObject, match="no column b"):
        await worker.decode(ours, ["a", "b"], "k")
    for junk in (
        b"junk",
        await worker.encode(table, {}, {}),
        await worker.encode(table, {}, {"format_version": "x"}),
    ):
        with pytest.raises(CorruptObject):
            await worker.decode(junk, ["a"], "k")
    assert await worker.decode(ours, ["a"], "k", ["b"]) == table
    await worker.close()


async def test_a_killed_worker_is_replaced() -> None:
    worker = ManifestWorker()
    table = Table({"a": EntryColumns.of([entry(0, 1)]).column("base_offset")}, bytes(16))
    data = await worker.encode(table, {}, {"format_version": "1"})
    assert worker._process is not None
    os.kill(worker._process.pid, 9)
    assert await worker.decode(data, ["a"], "k") == table
    await worker.close()


async def test_head_copies() -> None:
    manifests = Manifests(MemoryStore(), ManifestWorker())
    with pytest.raises(NotFound):
        await manifests.get_head(KEYS)
    for head in (TierHead.empty(), head_of(3)):
        await manifests.put_head(KEYS, head)
        assert await manifests.get_head(KEYS) == head


async def test_a_head_copy_that_arrives_late_takes_nobody_back() -> None:
    store = MemoryStore()
    manifests = Manifests(store, ManifestWorker())
    old, new = head_of(2), head_of(5)
    data = encode_head(old)
    await store.put(KEYS.unordered_head_copy, data, size_bytes=len(data))
    assert await manifests.get_head(KEYS) == old, "what an earlier release wrote"
    await manifests.put_head(KEYS, new)
    assert await manifests.get_head(KEYS) == new
    await manifests.put_head(KEYS, old)
    assert await manifests.get_head(KEYS) == new
    await store.put(KEYS.page(name(1)), b"x", size_bytes=1)
    await store.put(f"{KEYS.meta_prefix}header", b"x", size_bytes=1)
    assert await manifests.get_head(KEYS) == new


def test_the_broker_side_never_imports_pyarrow() -> None:
    code = "import sys, tiering.manifest, tiering.reading.reader, tiering.copying.mover; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_is_bounded() -> None:
    assert PAGE_ENTRIES_MAX <= 1024
