"""Feature levels of a cluster, as plain values: what is finalized, what each broker supports, and raising the levels.

Works with any Kafka cluster; what a level means is known of tierlog's own features alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tierlog.admin.client import Client, Connection
from tierlog.admin.cluster import broker_rows, describe_cluster, partitions_of
from tierlog.admin.errors import check
from tierlog.errors import UserError
from tierlog.metadata.features import FEATURES
from tierlog.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tierlog.wire.messages.update_features import (
    FeatureUpdateKey,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

SHOW = "tierlog cluster features shows what there is"
# What Kafka puts before the reason.
_PREAMBLE = "The update failed for all features since the following feature had an error: "


def features_of(client: Client) -> dict[str, Any]:
    """The content of ``cluster features``. ``possible``: the highest level that all running brokers support; ``held_up_by``:
    those that support less than others do. ``brokers``: the range of each, both ends inclusive; null for a broker that does
    not run, or names no such feature."""
    asked: dict[int, ApiVersionsResponse | None] = {}
    for broker in broker_rows(describe_cluster(client), partitions_of(client)):
        is_active = broker.state == "active"
        asked[broker.broker_id] = versions_of(client.node(broker.broker_id)) if is_active else None
    answers = [answer for answer in asked.values() if answer is not None]
    if not answers:
        raise UserError("no broker of the cluster is active: tierlog cluster status shows what is wrong")
    names = sorted({row.name for answer in answers for row in answer.supported_features})
    # The newest last; one of an earlier version names fewer features.
    answers.sort(key=lambda answer: answer.finalized_features_epoch)
    levels = {row.name: row.max_version_level for answer in answers for row in answer.finalized_features}
    return {
        "epoch": answers[-1].finalized_features_epoch,
        "features": [feature_row(name, levels.get(name, 0), asked) for name in names],
    }


def versions_of(broker: Connection) -> ApiVersionsResponse:
    request = ApiVersionsRequest(client_software_name="tierlog", client_software_version="0")
    answer = broker.request(request, ApiVersionsResponse)
    check(answer.error_code, broker.address)
    return answer


def feature_row(name: str, level: int, asked: Mapping[int, ApiVersionsResponse | None]) -> dict[str, Any]:
    brokers = []
    for broker_id, answer in asked.items():
        rows = [] if answer is None else [row for row in answer.supported_features if row.name == name]
        low, high = (rows[0].min_version, rows[0].max_version) if rows else (None, None)
        brokers.append({"id": broker_id, "running": answer is not None, "min": low, "max": high})
    # One that runs and does not name the feature knows nothing of it.
    running = {row["id"]: level if row["max"] is None else row["max"] for row in brokers if row["running"]}
    held_up_by = [broker_id for broker_id, high in running.items() if high < max(running.values())]
    known = FEATURES.get(name)
    meaning = None if known is None else f"level {known.levels.max_level}: {known.meaning}"
    return {
        "feature": name,
        "level": level,
        "possible": min(running.values()),
        "held_up_by": held_up_by,
        "meaning": meaning,
        "brokers": brokers,
    }


def upgrade(client: Client, wishes: Mapping[str, int] | None, *, dry_run: bool = False) -> dict[str, Any]:
    """Raises levels, all or none; None: each as far as all brokers support it. ``changes``: what has changed, or would.
    ``not_asked``: brokers that do not run, and so had no say; ``held_up_by``: see ``features_of``. Raises UserError."""
    found = features_of(client)["features"]
    before = {row["feature"]: row["level"] for row in found}
    if wishes is None:
        wishes = {row["feature"]: row["possible"] for row in found if row["possible"] > row["level"]}
    for name, level in wishes.items():
        _check_wish(name, level, before)
    updates = {name: level for name, level in wishes.items() if level != before[name]}
    if updates:
        _update(client, updates, dry_run)
    return {
        "dry_run": dry_run,
        "changes": [
            {"feature": name, "before": before[name], "after": level} for name, level in updates.items()
        ],
        "held_up_by": sorted({broker_id for row in found for broker_id in row["held_up_by"]}),
        "not_asked": [row["id"] for row in found[0]["brokers"] if not row["running"]] if found else [],
    }


def _check_wish(name: str, level: int, before: Mapping[str, int]) -> None:
    if name not in before:
        raise UserError(f"there is no feature {name}; {_hint(name, list(before))}")
    if level < before[name]:
        raise UserError(f"{name}={level}: it is at level {before[name]}, and upgrade lowers nothing; {SHOW}")


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else SHOW


def _update(client: Client, updates: Mapping[str, int], dry_run: bool) -> None:
    rows = [FeatureUpdateKey(feature=name, max_version_level=level) for name, level in updates.items()]
    request = UpdateFeaturesRequest(timeout_ms=client.timeout_ms, feature_updates=rows, validate_only=dry_run)
    answer = client.request(request, UpdateFeaturesResponse)
    message = (answer.error_message or "").removeprefix(_PREAMBLE)
    check(answer.error_code, "nothing was changed", message)
    for row in answer.results:
        check(row.error_code, row.feature, row.error_message)
