"""What becomes of a partition's remote segments (class, ladder, retention), as plain values for HTTP."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tiering.objects.classes import StorageClass
from tiering.outlook.fates import RemoteFate, remote_fates
from tiering.outlook.forecast import Amount, Forecast
from tierlog.broker.offload.service import Tiering
from tierlog.broker.offload.sources import facts_of
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.slices import in_slices
from tierlog.config.places import without_query
from tierlog.config.tiers import Rung, retention_ms_of


async def outlook(
    service: Tiering, partition: Partition, rungs: tuple[Rung, ...] | None, now_ms: int
) -> dict[str, Any] | None:
    """One partition; None without remote storage, or before its head was read. ``rungs``: a ladder to try."""
    found = service.offload.tier_of(partition)
    if found is None or not found.is_loaded:
        return None
    config = partition.config
    ladder = service.work.class_moves.ladder(found, rungs)
    own_ms = None if rungs is None else retention_ms_of(rungs)
    forecast = Forecast(ladder, config.retention_ms if own_ms is None else own_ms, now_ms)
    async for entry in in_slices(found.catalog):
        forecast.add(entry)
    return {
        "partition": partition.topic_partition.partition,
        "hindered": service.work.class_moves.hindrance(found),
        "object_store": without_query(found.store),
        "next_pass_ms": found.next_ladder_ms,
        **_sums(forecast),
    }


def _sums(forecast: Forecast) -> dict[str, Any]:
    return {
        "held": [{"class": c.label, **_amount(a)} for c, a in sorted(forecast.held.items())],
        "due": [
            {"from": a.label, "to": b.label, **_amount(amount)}
            for (a, b), amount in sorted(forecast.due.items())
        ],
        "waiting": [
            {"from": a.label, "to": b.label, "why": why.value, **_amount(amount)}
            for (a, b, why), amount in sorted(forecast.waiting.items(), key=lambda row: row[0][:2])
        ],
        "later": [
            {"month": month, "from": a.label, "to": b.label, **_amount(amount)}
            for (month, a, b), amount in sorted(forecast.later.items())
        ],
        "early": [{"class": c.label, **_amount(a)} for c, a in sorted(forecast.early.items())],
    }


def _amount(amount: Amount) -> dict[str, int]:
    return {"segments": amount.segments, "bytes": amount.bytes, "due_ms": amount.due_ms}


async def remote_rows(
    service: Tiering, partition: Partition, now_ms: int, rows_max: int
) -> tuple[list[dict[str, Any]], int] | None:
    """What retention and the ladder do with each of a partition's objects, the oldest ``rows_max`` of them, and how many
    more there are; None as ``outlook``."""
    found = service.offload.tier_of(partition)
    if found is None or not found.is_loaded:
        return None
    ladder, facts = service.work.class_moves.ladder(found), facts_of(found, now_ms)
    count = len(found.catalog) + found.catalog.retired_size()[1]
    fates = islice(remote_fates(facts, service.work.policy(found), ladder, now_ms), rows_max)
    rows = [_remote_row(fate, now_ms) async for fate in in_slices(fates)]
    return rows, max(count - rows_max, 0)


def _remote_row(fate: RemoteFate, now_ms: int) -> dict[str, Any]:
    entry, move = fate.entry, fate.move
    return {
        "where": "remote",
        "base_offset": entry.base_offset,
        "end_offset": entry.end_offset,
        "bytes": entry.data_bytes,
        "newest_ms": entry.retention_timestamp_ms(now_ms),
        "class": StorageClass(entry.storage_class).label,
        "verdict": fate.verdict,
        "rule": fate.rule,
        "due_ms": fate.due_ms,
        "move": None if move is None else {"to": move.to.label, "why": move.why, "due_ms": move.due_ms},
    }
