"""The rows of the ledger: from the bucket, and from the brokers what no object tells yet.

Brokers are asked first. Their answers name the objects that their rows will be in, and those are left out of the bucket,
which is read afterwards: so nothing is counted twice, and nothing is missed that is written meanwhile. What could not be
read is named in ``warnings``, and the other rows are told all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from tiering.errors import NotFound, TieringError
from tiering.ledger.columns import Columns
from tiering.ledger.names import parse_name
from tiering.ledger.parquet import encode_ledger
from tiering.ledger.reader import Unwritten, cluster_of, read_hours
from tiering.ledger.rows import Kind, LedgerRow
from tiering.objects.opening import open_store
from tierlog.admin.client import Client
from tierlog.admin.cluster import describe_cluster, one_config
from tierlog.admin.storage import BROKER, get_json, http_address
from tierlog.config.places import without_query
from tierlog.config.secrets import HIDDEN
from tierlog.errors import UserError

OBJECT_STORE = "tierlog.object.store"
ROWS_MAX = 1_000_000
"""So many rows take half a gigabyte or so."""


class Ledger(NamedTuple):
    """Where the rows come from. ``cluster_id`` is empty where the bucket has to tell it."""

    url: str
    cluster_id: str
    unwritten: list[Unwritten]
    warnings: list[str]


def of_bucket(url: str) -> Ledger:
    """What is in the bucket, without any broker."""
    return Ledger(url, "", [], [])


def of_cluster(client: Client, bucket: str | None, timeout_s: float) -> Ledger:
    """What the brokers and their bucket have; ``bucket``: its URL, where the brokers do not tell it."""
    brokers = sorted(broker.broker_id for broker in describe_cluster(client).brokers)
    url = bucket or ""
    unwritten: list[Unwritten] = []
    warnings: list[str] = []
    cluster_id = ""
    for broker_id in brokers:
        try:
            url = url or _store_of(client, broker_id)
            answer = get_json(f"{http_address(client, broker_id)}/v1/ledger", timeout_s)
        except UserError as error:
            warnings.append(f"what broker {broker_id} has not written yet is left out: {error}")
            continue
        if answer is None:
            warnings.append(f"broker {broker_id} keeps no ledger (tierlog.ledger.enable)")
            continue
        cluster_id = answer["cluster_id"]
        unwritten += _told(answer)
    if not url:
        raise UserError(f"no broker tells its {OBJECT_STORE}: name the bucket with --bucket URL")
    return Ledger(url, cluster_id, unwritten, warnings)


def rows_of(ledger: Ledger, since_ms: int, until_ms: int) -> list[LedgerRow]:
    """The rows of the hours that begin in [``since_ms``, ``until_ms``), oldest first. Raises UserError."""
    rows: list[LedgerRow] = []
    for of_hour in hours_of(ledger, since_ms, until_ms):
        rows += of_hour
        if len(rows) > ROWS_MAX:
            raise UserError(f"more than {ROWS_MAX:,} rows: ask for a shorter time with --since and --until")
    return rows


def hours_of(
    ledger: Ledger, since_ms: int, until_ms: int, without: Collection[str] = ()
) -> Iterator[list[LedgerRow]]:
    """As ``rows_of``, broker by broker of each hour, for what needs not hold all of them. ``without``: columns that are not
    asked for."""
    hours = _each_hour(ledger, since_ms, until_ms, without)

    async def following() -> list[LedgerRow] | None:
        return await anext(hours, None)

    with asyncio.Runner() as runner:
        try:
            while (rows := runner.run(following())) is not None:
                yield rows
        finally:
            runner.run(hours.aclose())


async def _each_hour(
    ledger: Ledger, since_ms: int, until_ms: int, without: Collection[str]
) -> AsyncGenerator[list[LedgerRow], None]:
    shown = without_query(ledger.url)
    try:
        store = open_store(ledger.url, writes=False)
    except TieringError as error:
        raise UserError(f"{shown}: {error}") from error
    try:
        cluster_id = ledger.cluster_id or await cluster_of(store)
        warn, unwritten = ledger.warnings.append, ledger.unwritten
        hours = read_hours(store, cluster_id, since_ms, until_ms, warn, unwritten, without)
        async with aclosing(hours):
            async for rows in hours:
                yield rows
    except NotFound as error:
        raise UserError(f"{shown}: no cluster has claimed this bucket; name it with its prefix") from error
    except TieringError as error:
        raise UserError(f"{shown}: cannot read the ledger: {error}") from error
    finally:
        await store.close()


def _store_of(client: Client, broker_id: int) -> str:
    told = one_config(client.node(broker_id), [(BROKER, str(broker_id))], OBJECT_STORE)
    url = told.get(str(broker_id)) or ""
    if HIDDEN in url:
        raise UserError(f"its {OBJECT_STORE} holds secrets; name the bucket with --bucket URL")
    return url


def _told(answer: dict[str, Any]) -> list[Unwritten]:
    """The pieces of one broker, as its objects will be, which takes a fiftieth of the memory; columns and kinds that are
    not known here are skipped."""
    found: list[Unwritten] = []
    kinds = {kind.value: kind for kind in Kind}
    known = [(at, name) for at, name in enumerate(answer["columns"]) if name in LedgerRow._fields]
    for piece in answer["pieces"]:
        name = parse_name(answer["cluster_id"], piece["key"])
        if name is None:
            continue
        columns = Columns()
        for values in piece["rows"]:
            if (row := _row(values, known, kinds)) is not None:
                columns.add(row)
        found.append((name, encode_ledger(*columns.message(piece["since_ms"], piece["until_ms"]))[1]))
    return found


def _row(values: Sequence[Any], known: list[tuple[int, str]], kinds: dict[str, Kind]) -> LedgerRow | None:
    told = {name: values[at] for at, name in known}
    kind = kinds.get(told["kind"])
    return None if kind is None else LedgerRow(**told | {"kind": kind})
