"""Why each segment of a topic is still there, and until when, read from the leaders over HTTP.

See ``tierlog.broker.views.retention`` for the rows.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from tierlog.admin.client import Client
from tierlog.admin.storage import base_url, get_json, http_address
from tierlog.admin.topics import existing
from tierlog.errors import UserError


def retention_of(
    client: Client, topic: str, partition: int | None, http: str | None, timeout_s: float
) -> dict[str, Any]:
    """One entry per partition, from its leader; ``partition``: of this one alone. ``http``: the only broker to ask. Raises
    UserError."""
    (found,) = existing(client, [topic])
    leaders = {row.partition_index: row.leader_id for row in found.partitions}
    if partition is not None:
        if partition not in leaders:
            raise UserError(f"{topic} has no partition {partition}; it has {len(leaders)}, counted from 0")
        leaders = {partition: leaders[partition]}
    urls = {
        node: base_url(http) if http else http_address(client, node)
        for node in sorted({leader for leader in leaders.values() if leader >= 0})
    }
    rows = []
    for index, leader in sorted(leaders.items()):
        path = f"/v1/topics/{urllib.parse.quote(topic, safe='')}/retention/{index}"
        answer = get_json(urls[leader] + path, timeout_s) if leader in urls else None
        if answer is not None:
            rows.append(answer)
    told = {row["partition"] for row in rows}
    return {
        "topic": topic,
        "object_store": next((row.get("object_store", "") for row in rows), ""),
        "partitions": rows,
        "without_answer": sorted(leaders.keys() - told),
    }
