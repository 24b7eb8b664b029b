"""``GET /v1/topics/{topic}/tiers[/{ladder}]``: in which classes a topic's remote segments lie, and what a ladder does.

With ``{ladder}`` (a value of ``tierlog.tiers``) the answer is about that ladder instead of the topic's own: it is how a
ladder is tried before it is set. Only partitions that are led here are answered. All bytes are those of objects. One
answer is made at a time: each walks all entries of the topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.replicas.partition import Partition
from tierlog.config.tiers import parse_tiers
from tierlog.telemetry.http import JsonView

if TYPE_CHECKING:
    from tierlog.broker.offload.service import Tiering

PATH = "/v1/topics/{topic}/tiers"


def tiers_views(
    node_id: int,
    hosted: Iterable[Partition],
    tiering: Callable[[], Tiering | None],
    now_ms: Callable[[], int] = wall_clock_ms,
) -> list[JsonView]:
    """The views for the broker's HTTP server."""
    turn = asyncio.Lock()

    async def read(parameters: Mapping[str, str]) -> dict[str, Any] | None:
        from tierlog.broker.offload.outlook import outlook

        service = tiering()
        topic = parameters["topic"]
        mine = [p for p in hosted if p.topic_partition.topic == topic and p.leader is not None]
        if service is None or not mine:
            return None
        tiers = parameters.get("ladder")
        try:
            rungs = None if tiers is None else parse_tiers(tiers)
        except ValueError as error:
            return {"topic": topic, "node_id": node_id, "refused": str(error), "partitions": []}
        rows = []
        async with turn:
            for partition in sorted(mine, key=lambda each: each.topic_partition.partition):
                row = await outlook(service, partition, rungs, now_ms())
                if row is not None:
                    rows.append(row)
        return {"topic": topic, "node_id": node_id, "refused": None, "partitions": rows}

    return [JsonView(PATH, read), JsonView(PATH + "/{ladder}", read)]
