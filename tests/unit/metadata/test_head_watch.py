"""Tier heads, as the metadata feed tells of them."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

from tests.patience import PATIENT_S
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.metadata import keys
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.transactions import Delete, Put, Txn


async def test_heads_are_told_and_so_is_a_gap() -> None:
    store = MemoryStore(lambda: time.monotonic_ns() // 1_000_000)
    feed = MetadataFeed(store)
    await feed.start()
    told: list[tuple[str, bytes | None, int] | None] = []
    watcher = SimpleNamespace(on_head=lambda *head: told.append(head), on_gap=lambda: told.append(None))
    feed.watch_heads(watcher)
    key = keys.tier_head(bytes(16), 3)
    put = (await store.txn(Txn((), (Put(key, b"head"), Put(keys.SYNC, b""))))).revision
    deleted = (await store.txn(Txn((), (Delete(key),)))).revision
    await asyncio.wait_for(feed.wait_for_revision(deleted), PATIENT_S)
    assert told == [(key, b"head", put), (key, None, deleted)]
    # Stop it by hand, so that it is far behind when the history goes.
    assert feed._task is not None
    await feed._task.stop()
    newest = (await store.txn(Txn((), (Put(key, b"unseen"),)))).revision
    store.compact()
    feed._task = feed._background.forever("metadata feed", feed._follow)
    await asyncio.wait_for(feed.wait_for_revision(newest), PATIENT_S)
    assert told[2:] == [None]
    await feed.close()
    await store.close()
