"""Reads a ledger from its bucket, hour by hour; needs no broker.

Bound: in memory are the rows of one broker and hour, the objects that these come from as they are in the bucket, and
``GETS_AT_ONCE`` more of them, whatever the number of brokers and hours. What is damaged, foreign or of a later version is
left out, and ``warn`` is told one line that names it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from itertools import groupby, islice

from tiering.errors import CorruptObject, NotFound, UnsupportedFormat
from tiering.keys import CLUSTER_MARKER, marked_cluster
from tiering.ledger.book import added_up, hour_of
from tiering.ledger.names import LedgerName, before_hour, key_of, ledger_prefix, parse_name
from tiering.ledger.parquet import LedgerFile
from tiering.ledger.rows import HOUR_MS, LedgerRow
from tiering.objects.port import LIST_LIMIT_MAX, ObjectStore
from tiering.tasks import begin

GETS_AT_ONCE = 16
Warn = Callable[[str], None]
Unwritten = tuple[LedgerName, bytes]
"""What a broker told of an object that it has yet to write, in the object's own form."""


async def cluster_of(store: ObjectStore) -> str:
    """The cluster whose bucket this is. Raises ``NotFound``, ``ForeignBucket``, ``UnsupportedFormat``."""
    _, marker = await store.get(CLUSTER_MARKER)
    return marked_cluster(bytes(marker))


async def names_between(
    store: ObjectStore, cluster_id: str, since_ms: int, until_ms: int
) -> list[LedgerName]:
    """The objects of the hours that [``since_ms``, ``until_ms``) touches, in order."""
    prefix, start_after = ledger_prefix(cluster_id), before_hour(cluster_id, since_ms)
    found: list[LedgerName] = []
    while True:
        page = await store.list(prefix, start_after=start_after)
        for info in page:
            name = parse_name(cluster_id, info.key)
            if name is not None and name.hour_ms >= until_ms:
                return found
            if name is not None:
                found.append(name)
        if len(page) < LIST_LIMIT_MAX:
            return found
        start_after = page[-1].key


async def read_hours(
    store: ObjectStore,
    cluster_id: str,
    since_ms: int,
    until_ms: int,
    warn: Warn,
    unwritten: Sequence[Unwritten] = (),
    without: Collection[str] = (),
) -> AsyncGenerator[list[LedgerRow]]:
    """The rows of each hour and broker that has any, oldest hour first. An hour counts where it begins in [``since_ms``,
    ``until_ms``). ``unwritten``: pieces that brokers told themselves; where the bucket has one of them by now, that object
    is not counted too. ``without``: columns that are not asked for."""
    since_ms = hour_of(since_ms + HOUR_MS - 1)
    told = {name: data for name, data in unwritten if since_ms <= name.hour_ms < until_ms}
    listed = set(await names_between(store, cluster_id, since_ms, until_ms)) if until_ms > since_ms else set()
    names = sorted(listed | told.keys())
    ahead = deque[asyncio.Future[LedgerFile | None]]()
    to_ask = iter(names)
    try:
        for _, of_broker in groupby(names, key=lambda name: (name.hour_ms, name.broker_id)):
            files: list[LedgerFile] = []
            for _ in of_broker:
                ahead += [
                    begin(_opened(store, cluster_id, name, told.get(name), warn))
                    for name in islice(to_ask, GETS_AT_ONCE - len(ahead))
                ]
                if (file := await ahead.popleft()) is not None:
                    files.append(file)
            rows = _added_up(files, without, warn)
            if rows:
                yield rows
    finally:
        for each in ahead:
            each.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


async def _opened(
    store: ObjectStore, cluster_id: str, name: LedgerName, data: bytes | None, warn: Warn
) -> LedgerFile | None:
    """``data``: what a broker told of it."""
    key = key_of(cluster_id, name)
    try:
        if data is None:
            data = bytes((await store.get(key))[1])
        return LedgerFile(data, key, name)
    except NotFound:
        return None  # its time was over since it was listed
    except (CorruptObject, UnsupportedFormat) as error:
        warn(f"left out: {error}")
        return None


def _added_up(files: list[LedgerFile], without: Collection[str], warn: Warn) -> list[LedgerRow]:
    """Of one hour and broker; rows of one file are not alike."""
    if len(files) == 1:
        return _rows_of(files[0], without, warn)
    files.sort(key=lambda file: file.written_ms)
    return added_up(_rows_of(file, without, warn) for file in files)


def _rows_of(file: LedgerFile, without: Collection[str], warn: Warn) -> list[LedgerRow]:
    try:
        return file.rows(without)
    except CorruptObject as error:
        warn(f"left out: {error}")
        return []
