"""Reads a ledger from its bucket, hour by hour; needs no broker.

Bound: the objects of one hour, and those that are fetched together with them (``GETS_AT_ONCE``), are in memory at a time.
What is damaged, foreign or of a later version is left out, and ``warn`` is told one line that names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from itertools import groupby

from tiering.errors import CorruptObject, NotFound, UnsupportedFormat
from tiering.keys import CLUSTER_MARKER, marked_cluster
from tiering.ledger.book import added_up, hour_of
from tiering.ledger.names import LedgerName, before_hour, key_of, ledger_prefix, parse_name
from tiering.ledger.parquet import LedgerObject, decode_ledger
from tiering.ledger.rows import HOUR_MS, LedgerRow
from tiering.objects.port import LIST_LIMIT_MAX, ObjectStore

GETS_AT_ONCE = 16
Warn = Callable[[str], None]
Written = tuple[LedgerName, LedgerObject]


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
    unwritten: Sequence[Written] = (),
) -> AsyncIterator[list[LedgerRow]]:
    """The rows of each hour that has any, oldest hour first, those of all brokers together. An hour counts where it begins
    in [``since_ms``, ``until_ms``). ``unwritten``: pieces that brokers told themselves; where the bucket has one of them by
    now, that object is not counted too."""
    since_ms = hour_of(since_ms + HOUR_MS - 1)
    told = {written[0] for written in unwritten if since_ms <= written[0].hour_ms < until_ms}
    listed = set(await names_between(store, cluster_id, since_ms, until_ms)) if until_ms > since_ms else set()
    names = sorted(listed - told)
    extra = [written for written in unwritten if written[0] in told]
    pending: list[Written] = []
    for first in range(0, len(names), GETS_AT_ONCE):
        some = names[first : first + GETS_AT_ONCE]
        pending += [
            written
            for written in await asyncio.gather(*(_read(store, cluster_id, name, warn) for name in some))
            if written is not None
        ]
        last_ms = some[-1].hour_ms  # there may be more of it
        whole = [written for written in [*pending, *extra] if written[0].hour_ms < last_ms]
        pending, extra = _of_hour(pending, last_ms), _of_hour(extra, last_ms)
        for rows in _by_hour(whole):
            yield rows
    for rows in _by_hour([*pending, *extra]):
        yield rows


def _of_hour(pieces: Sequence[Written], hour_ms: int) -> list[Written]:
    return [written for written in pieces if written[0].hour_ms >= hour_ms]


async def _read(store: ObjectStore, cluster_id: str, name: LedgerName, warn: Warn) -> Written | None:
    key = key_of(cluster_id, name)
    try:
        _, data = await store.get(key)
        return name, decode_ledger(bytes(data), key, name)
    except NotFound:
        return None  # its time was over since it was listed
    except (CorruptObject, UnsupportedFormat) as error:
        warn(f"left out: {error}")
        return None


def _by_hour(pieces: Collection[Written]) -> list[list[LedgerRow]]:
    def hour(written: Written) -> int:
        return written[0].hour_ms

    def broker(written: Written) -> tuple[int, int, str]:
        name, held = written
        return name.broker_id, held.written_ms, name.uuid

    found = []
    for _, of_hour in groupby(sorted(pieces, key=hour), key=hour):
        rows: list[LedgerRow] = []
        for _, mine in groupby(sorted(of_hour, key=broker), key=lambda written: written[0].broker_id):
            rows += added_up([held.rows for _, held in mine])
        found.append(rows)
    return found
