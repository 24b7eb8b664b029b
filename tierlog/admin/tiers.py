"""In which storage classes a topic lies, what its ladder does, and what that costs, read from the leaders over HTTP.

See ``tierlog.broker.views.tiers`` for what the figures count.
"""

from __future__ import annotations

import urllib.parse
from collections import defaultdict
from typing import Any

from tierlog.admin.client import Client
from tierlog.admin.cost.ladders import ladder_cost
from tierlog.admin.cost.price_books import book_of
from tierlog.admin.storage import base_url, get_json, http_address
from tierlog.admin.topics import existing
from tierlog.errors import UserError

KEYS = {
    "held": ("class",),
    "due": ("from", "to"),
    "waiting": ("from", "to", "why"),
    "later": ("month", "from", "to"),
    "early": ("class",),
}


def tiers_of(
    client: Client, topic: str, tiers: str | None, prices: str, http: str | None, timeout_s: float
) -> dict[str, Any]:
    """The sums over all partitions, with costs. ``tiers``: a ladder to try; None is the topic's own. Raises UserError."""
    book = book_of(prices)
    (found,) = existing(client, [topic])
    leaders = {row.partition_index: row.leader_id for row in found.partitions}
    path = f"/v1/topics/{urllib.parse.quote(topic, safe='')}/tiers"
    if tiers is not None:
        path += "/" + urllib.parse.quote(tiers, safe="")
    rows: dict[int, dict[str, Any]] = {}
    for node_id in sorted({leader for leader in leaders.values() if leader >= 0}):
        url = base_url(http) if http else http_address(client, node_id)
        answer = get_json(url + path, timeout_s)
        if answer is not None and answer["refused"]:
            raise UserError(f"tierlog.tiers={tiers}: {answer['refused']}")
        for row in answer["partitions"] if answer is not None else []:
            rows[row["partition"]] = row
    sums = {name: _summed(rows.values(), name, keys) for name, keys in KEYS.items()}
    return {
        "topic": topic,
        "tiers": tiers,
        "object_store": next((row.get("object_store", "") for row in rows.values()), ""),
        "hindered": next((row["hindered"] for row in rows.values() if row["hindered"]), None),
        "without_answer": sorted(leaders.keys() - rows.keys()),
        **sums,
        "cost": ladder_cost(sums, book),
    }


def _summed(rows: Any, name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    sums: dict[tuple[Any, ...], dict[str, int]] = defaultdict(
        lambda: {"segments": 0, "bytes": 0, "due_ms": 0}
    )
    for row in rows:
        for part in row[name]:
            total = sums[tuple(part[key] for key in keys)]
            total["segments"] += part["segments"]
            total["bytes"] += part["bytes"]
            due_ms = part["due_ms"]
            if due_ms and (not total["due_ms"] or due_ms < total["due_ms"]):
                total["due_ms"] = due_ms
    return [dict(zip(keys, key, strict=True)) | total for key, total in sums.items()]
