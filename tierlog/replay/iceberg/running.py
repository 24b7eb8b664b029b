"""The process that keeps a table: rounds until it is told to end. What may pass by itself is said, and tried again."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tierlog.errors import UserError
from tierlog.replay.iceberg.commits import expire
from tierlog.replay.iceberg.compaction import Compacted, Compaction
from tierlog.replay.iceberg.following import Follower, Source, Told
from tierlog.replay.iceberg.offsets import Refused
from tierlog.replay.iceberg.tables import created, refreshed
from tierlog.replay.ledger import UNCOUNTED
from tierlog.replay.resolve import Origin

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

Complain = Callable[[str], None]


class Pace(NamedTuple):
    """``file_bytes`` 0: as it is by default."""

    interval_s: float
    compact_interval_s: float
    """How often small files are merged, and snapshots expire; infinite: never."""
    expire_ms: int | None
    """So old snapshots expire; None: none does."""
    is_once: bool
    file_bytes: int = 0


def made(catalog: Catalog, name: str, source: Source) -> Table:
    """An empty table for the topic. Raises UserError."""

    async def topic_id() -> bytes:
        origin = Origin(source.bootstrap, source.bucket, caller=UNCOUNTED)
        try:
            await origin.start()
            return await origin.topic_id(source.topic)
        finally:
            await origin.close()

    return created(catalog, name, source.topic, asyncio.run(topic_id()))


def follow(
    table: Table, source: Source, pace: Pace, *, skips_deleted: bool, tell: Told, complain: Complain
) -> None:
    """Until SIGTERM or SIGINT, which let a last commit be made. Raises UserError for what the first round meets, and later
    for what only a person can decide."""
    follower = Follower(table, source, skips_deleted=skips_deleted, file_bytes=pace.file_bytes, tell=tell)
    asyncio.run(_counted(follower, pace, complain))


def compact(table: Table, file_bytes: int, tell: Callable[[Compacted], None]) -> Compacted:
    """Merges small files, until SIGTERM or SIGINT. Raises UserError."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return Compaction(table, file_bytes).run(stop, tell)


async def _counted(follower: Follower, pace: Pace, complain: Complain) -> None:
    try:
        await _rounds(follower, pace, complain)
    finally:
        await follower.collected.write()


async def _rounds(follower: Follower, pace: Pace, complain: Complain) -> None:
    stop, stop_merging = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        stop_merging.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    is_first, merge_due_s = True, loop.time() + pace.compact_interval_s
    while not stop.is_set():
        due_s = loop.time() + pace.interval_s
        try:
            await follower.round(stop)
        except Refused:
            raise
        except UserError as error:
            if is_first or pace.is_once:
                raise
            complain(f"{error}; tried again in {pace.interval_s:g} s")
        is_first = False
        await follower.collected.write_if_due()
        if pace.is_once:
            return
        if loop.time() >= merge_due_s and not stop.is_set():
            merge_due_s = loop.time() + pace.compact_interval_s
            await asyncio.to_thread(_tidy, follower.table, pace, stop_merging, complain)
        await _waited(stop, due_s - loop.time())


def _tidy(table: Table, pace: Pace, stop: threading.Event, complain: Complain) -> None:
    """The table is whole without it: what fails is said."""
    try:
        table = refreshed(table)
        Compaction(table, pace.file_bytes, is_thrifty=True).run(stop, lambda _: None)
        if pace.expire_ms is not None and not stop.is_set():
            expire(refreshed(table), time.time_ns() // 1_000_000 - pace.expire_ms)
    except UserError as error:
        complain(f"merging small files: {error}")


async def _waited(stop: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(timeout_s, 0)):
            await stop.wait()
