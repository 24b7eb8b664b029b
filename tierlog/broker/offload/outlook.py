"""In which storage classes a partition's remote segments lie, and what its ladder does, as plain values for HTTP."""

from __future__ import annotations

from typing import Any

from tiering.forecast import Amount, Forecast
from tierlog.broker.offload.service import Tiering
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.slices import in_slices
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
