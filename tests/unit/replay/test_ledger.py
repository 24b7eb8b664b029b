"""What replays have asked of a bucket, as its ledger tells it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import tierlog.replay
from tests.replay_bucket import CLUSTER, BucketMaker, Shape
from tiering.ledger.reader import read_hours
from tiering.ledger.rows import HOUR_MS, LedgerRow
from tiering.objects.opening import open_store
from tierlog.replay.ledger import Caller, Place, ReplayLedger
from tierlog.replay.resolve import Origin


def bucket_at(path: Path) -> BucketMaker:
    made = BucketMaker(path)
    made.fill("flights", 0, 3, 400, Shape(100, 40))
    return made


async def rows_of(url: str) -> list[LedgerRow]:
    store, now_ms = open_store(url, writes=False), time.time_ns() // 1_000_000
    found = [
        row
        async for rows in read_hours(store, CLUSTER, 0, now_ms + 2 * HOUR_MS, lambda line: None)
        for row in rows
    ]
    await store.close()
    return found


async def test_each_request_is_in_it(tmp_path: Path) -> None:
    """Two replays of one hour are added up."""
    made = bucket_at(tmp_path / "bucket")
    for _ in range(2):
        async for _ in tierlog.replay.stream("flights", bucket=made.url):
            pass
    rows = await rows_of(made.url)
    assert {(row.broker_id, row.client_id) for row in rows} == {(-1, "tierlog-replay")}
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        counts[row.cause, row.operation, row.topic] += row.requests
    assert counts["replay", "get", "flights"] == 2 * (3 + 1 + 1)  # segments, the topic's record, the head
    assert counts["ledger", "put", ""] == 2
    (segments,) = (row for row in rows if row.operation == "get" and row.partition == 0)
    size = sum(path.stat().st_size for path in made.segment_paths())
    assert segments.received_bytes >= 2 * size and segments.storage_class == "standard"


async def test_none_is_in_it_if_so_wished(tmp_path: Path) -> None:
    made = bucket_at(tmp_path / "bucket")
    async for _ in tierlog.replay.stream("flights", bucket=made.url, ledger=False):
        pass
    assert await rows_of(made.url) == []


async def test_what_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    made = bucket_at(tmp_path / "bucket")
    (made.root / "meta" / CLUSTER / "ledger").write_text("in the way")
    told: list[str] = []
    origin = Origin(None, made.url, caller=Caller("me", tell=told.append))
    await origin.start()
    await origin.close()
    (line,) = told
    assert line.startswith("the requests of this replay are not in the ledger: ") and "\n" not in line


async def test_an_hour_that_ends(tmp_path: Path) -> None:
    """Each hour has its object; what the bucket did not take waits for the next one."""
    made = bucket_at(tmp_path / "bucket")
    now_ms = time.time_ns() // HOUR_MS // 1_000_000 * HOUR_MS - HOUR_MS + 1_000
    is_there = False

    async def place() -> Place | None:
        return Place(made.url if is_there else f"dir://{tmp_path}/away", CLUSTER)

    ledger = ReplayLedger(Caller("me"), place, lambda: now_ms)
    store = ledger.counted(open_store(made.url, stats=ledger.stats, writes=False))
    ask: Callable[[], Awaitable[object]] = lambda: store.get("meta/cluster.json")  # noqa: E731
    await ask()
    now_ms += HOUR_MS
    assert await ledger.write() != ""
    is_there = True
    await ask()
    await ask()
    assert await ledger.write() == ""
    rows = [row for row in await rows_of(made.url) if row.operation == "get"]
    hour_ms = now_ms // HOUR_MS * HOUR_MS
    assert [(row.hour_ms, row.requests) for row in rows] == [(hour_ms - HOUR_MS, 1), (hour_ms, 2)]
    await store.close()
