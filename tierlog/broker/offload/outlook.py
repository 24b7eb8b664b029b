"""In which storage classes a partition's remote segments lie, and what its ladder does, as plain values for HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from tiering.forecast import Amount, Forecast
from tierlog.broker.offload.service import Tiering
from tierlog.broker.replicas.partition import Partition
from tierlog.config.tiers import parse_tiers, retention_ms_of

ENTRIES_PER_SLICE = 200


async def outlook(
    service: Tiering, partition: Partition, tiers: str | None, now_ms: int
) -> dict[str, Any] | None:
    """One partition; None without remote storage, or before its head was read. ``tiers``: a ladder to try."""
    found = service.offload.tier_of(partition)
    if found is None or not found.is_loaded:
        return None
    config = partition.config
    ladder = service.work.class_moves.ladder(found, None if tiers is None else parse_tiers(tiers))
    retention_ms = config.retention_ms
    if tiers is not None:
        own_ms = retention_ms_of(parse_tiers(tiers))
        retention_ms = retention_ms if own_ms is None else own_ms
    forecast = Forecast(ladder, retention_ms, now_ms)
    for number, entry in enumerate(found.catalog):
        forecast.add(entry)
        if number % ENTRIES_PER_SLICE == ENTRIES_PER_SLICE - 1:
            await asyncio.sleep(0)
    return {
        "partition": partition.topic_partition.partition,
        "hindered": service.work.class_moves.hindrance,
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
