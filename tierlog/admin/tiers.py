"""In which storage classes a topic lies, what its ladder does, and what that costs, read from the leaders over HTTP.

See ``tierlog.broker.views.tiers`` for what the figures count.
"""

from __future__ import annotations

import urllib.parse
from collections import defaultdict
from typing import Any

from tierlog.admin.client import Client
from tierlog.admin.prices import AS_OF, monthly_cost, move_cost, prices_of
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
MOVES_PER_COMMIT = 16
REQUESTS_PER_COMMIT = 3  # A page, a page index, a copy of the head.
REQUESTS_PER_MOVE = {"s3": 3, "gcs": 2}  # A look before it, the copy, and at S3 a look after it.


def tiers_of(
    client: Client, topic: str, tiers: str | None, provider: str, http: str | None, timeout_s: float
) -> dict[str, Any]:
    """The sums over all partitions, with costs. ``tiers``: a ladder to try; None is the topic's own. Raises UserError."""
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
        "cost": _cost(sums, provider),
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


def _cost(sums: dict[str, list[dict[str, Any]]], provider: str) -> dict[str, Any]:
    """US dollars by list price. ``requests``: those that the moves take, commits included."""
    prices = prices_of(provider)
    moves = [*sums["due"], *sums["later"]]
    copies = sum(row["segments"] for row in moves)
    after = defaultdict(int, {row["class"]: row["bytes"] for row in sums["held"]})
    for row in moves:
        after[row["from"]] -= row["bytes"]
        after[row["to"]] += row["bytes"]
    return {
        "provider": provider,
        "as_of": AS_OF,
        "copies": copies,
        "requests": REQUESTS_PER_MOVE[provider] * copies
        + REQUESTS_PER_COMMIT * -(-copies // MOVES_PER_COMMIT),
        "moves_usd": sum(move_cost(prices, row) for row in moves),
        "month_before_usd": sum(monthly_cost(prices, row["class"], row["bytes"]) for row in sums["held"]),
        "month_after_usd": sum(monthly_cost(prices, name, held) for name, held in after.items()),
    }
