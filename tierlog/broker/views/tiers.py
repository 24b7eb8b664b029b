"""``GET /v1/topics/{topic}/tiers[/{ladder}]``: in which classes a topic's remote segments lie, and what a ladder does.

With ``{ladder}`` (a value of ``tierlog.tiers``) the answer is about that ladder instead of the topic's own: it is how a
ladder is tried before it is set. Only partitions that are led here are answered. All bytes are those of objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.replicas.partition import Partition
from tierlog.config.tiers import parse_tiers, retention_ms_of
from tierlog.telemetry.http import JsonView

if TYPE_CHECKING:
    from tiering.forecast import Amount, Forecast
    from tierlog.broker.offload.service import Tiering

PATH = "/v1/topics/{topic}/tiers"
ENTRIES_PER_SLICE = 200


def tiers_views(
    node_id: int,
    hosted: Iterable[Partition],
    tiering: Callable[[], Tiering | None],
    now_ms: Callable[[], int] = wall_clock_ms,
) -> list[JsonView]:
    """The views for the broker's HTTP server."""

    async def read(parameters: Mapping[str, str]) -> dict[str, Any] | None:
        service = tiering()
        topic = parameters["topic"]
        mine = [p for p in hosted if p.topic_partition.topic == topic and p.leader is not None]
        if service is None or not mine:
            return None
        tiers = parameters.get("ladder")
        try:
            parse_tiers(tiers or "")
        except ValueError as error:
            return {"topic": topic, "node_id": node_id, "refused": str(error), "partitions": []}
        rows = []
        for partition in sorted(mine, key=lambda each: each.topic_partition.partition):
            row = await tiers_row(partition, service, tiers, now_ms())
            if row is not None:
                rows.append(row)
        return {"topic": topic, "node_id": node_id, "refused": None, "partitions": rows}

    return [JsonView(PATH, read), JsonView(PATH + "/{ladder}", read)]


async def tiers_row(
    partition: Partition, service: Tiering, tiers: str | None, now_ms: int
) -> dict[str, Any] | None:
    """One partition; None without remote storage, or before its head was read."""
    from tiering.forecast import Forecast

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
