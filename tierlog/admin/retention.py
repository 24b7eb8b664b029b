"""Why each segment of a topic is still there, and until when, read from the leaders over HTTP.

See ``tierlog.broker.views.retention`` for the rows.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from tierlog.admin.client import Client
from tierlog.admin.storage import base_url, get_json, http_address
from tierlog.admin.topics import existing


def retention_of(client: Client, topic: str, http: str | None, timeout_s: float) -> dict[str, Any]:
    """One entry per partition, from its leader. ``http``: the only broker to ask. Raises UserError."""
    (found,) = existing(client, [topic])
    leaders = {row.partition_index: row.leader_id for row in found.partitions}
    rows: dict[int, dict[str, Any]] = {}
    for node_id in sorted({leader for leader in leaders.values() if leader >= 0}):
        url = base_url(http) if http else http_address(client, node_id)
        answer = get_json(f"{url}/v1/topics/{urllib.parse.quote(topic, safe='')}/retention", timeout_s)
        for row in answer["partitions"] if answer is not None else []:
            rows[row["partition"]] = row
    return {
        "topic": topic,
        "partitions": [rows[partition] for partition in sorted(rows)],
        "without_answer": sorted(leaders.keys() - rows.keys()),
    }
