"""All that HTTP shows beside metrics and health."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tierlog.broker.replicas.partition import Partition
from tierlog.broker.views.ledger import ledger_view
from tierlog.broker.views.retention import retention_view
from tierlog.broker.views.storage import storage_view
from tierlog.broker.views.tiers import tiers_views
from tierlog.telemetry.http import JsonView

if TYPE_CHECKING:
    from tierlog.broker.offload.service import Tiering


def json_views(
    node_id: int,
    hosted: Iterable[Partition],
    tiering: Callable[[], Tiering | None],
    now_ms: Callable[[], int],
) -> list[JsonView]:
    """``now_ms``: the time that retention goes by."""
    return [
        storage_view(node_id, hosted, now_ms),
        *tiers_views(node_id, hosted, tiering, now_ms),
        retention_view(node_id, hosted, tiering, now_ms),
        ledger_view(tiering),
    ]
