"""Where a topic's bytes are, read from the leaders of its partitions over HTTP.

A broker publishes its HTTP address in its config ``tierlog.http.listeners``, which any client may read, so only the
bootstrap address must be known. See ``tierlog.broker.views.storage`` for what the figures count.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tierlog.admin.client import Client
from tierlog.admin.errors import check
from tierlog.admin.topics import existing
from tierlog.config.listeners import parse_http
from tierlog.errors import UserError
from tierlog.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)

BROKER = 4  # resource type of DescribeConfigs
HTTP_LISTENERS = "tierlog.http.listeners"
ANY_HOST = ("", "0.0.0.0", "::")
SIDES = ("local", "remote", "both")


def storage_of(client: Client, topic: str, http: str | None, timeout_s: float) -> dict[str, Any]:
    """One row per partition, from its leader, and the sums. ``http``: the only broker to ask."""
    (found,) = existing(client, [topic])
    leaders = {row.partition_index: row.leader_id for row in found.partitions}
    rows: dict[int, dict[str, Any]] = {}
    for node_id in sorted({leader for leader in leaders.values() if leader >= 0}):
        url = base_url(http) if http else http_address(client, node_id)
        answer = get_json(f"{url}/v1/topics/{urllib.parse.quote(topic)}/storage", timeout_s)
        for row in answer["partitions"] if answer is not None else []:
            if row["is_leader"]:
                rows[row["partition"]] = {**row, "leader": answer["node_id"]}
    missing = sorted(leaders.keys() - rows.keys())
    return {
        "topic": topic,
        "object_store": next(
            (row["remote"].get("object_store", "") for row in rows.values() if row["remote"]), ""
        ),
        "partitions": [rows[partition] for partition in sorted(rows)],
        "without_answer": missing,
        "total": total(list(rows.values())),
    }


def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums; ``held_once_bytes`` counts bytes once that are both local and remote."""
    sums: dict[str, Any] = {
        side: {
            unit: sum(row[side][unit] for row in rows if row[side] is not None)
            for unit in ("segments", "bytes")
        }
        for side in SIDES
    }
    sums["held_once_bytes"] = sums["local"]["bytes"] + sums["remote"]["bytes"] - sums["both"]["bytes"]
    return sums


def http_address(client: Client, node_id: int) -> str:
    """``http://host:port`` of this broker. Raises UserError when it has none."""
    connection = client.node(node_id)
    answer = connection.request(
        DescribeConfigsRequest(
            resources=[
                DescribeConfigsResource(
                    resource_type=BROKER, resource_name=str(node_id), configuration_keys=[HTTP_LISTENERS]
                )
            ]
        ),
        DescribeConfigsResponse,
    )
    value = ""
    for result in answer.results:
        check(result.error_code, f"broker {node_id}", result.error_message)
        value = next((c.value or "" for c in result.configs if c.name == HTTP_LISTENERS), "")
    listeners = parse_http([text for text in value.split(",") if text])
    if not listeners or not listeners[0].port:
        raise UserError(
            f"broker {node_id} at {connection.address} does not say where it serves HTTP "
            f"(set {HTTP_LISTENERS}=HTTP://HOST:PORT there, or name it with --http HOST:PORT)"
        )
    host = listeners[0].host
    if host in ANY_HOST:
        host = connection.address.rpartition(":")[0]
    return f"http://{f'[{host}]' if ':' in host else host}:{listeners[0].port}"


def base_url(http: str) -> str:
    return http.rstrip("/") if "://" in http else f"http://{http}"


def get_json(url: str, timeout_s: float) -> Any:
    """The value at ``url``; None for a 404. Raises UserError."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise UserError(f"{url} answers {error.code}: see the log of the broker") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot read {url}: {getattr(reason, 'strerror', None) or reason}; "
            "name the HTTP address of a broker with --http HOST:PORT"
        ) from error
