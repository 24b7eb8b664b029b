"""Names of the ledger's objects, as ``docs/ledger.md`` has them. Pure.

They sort by hour, so that the objects between two times come from one listing, oldest first.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from tiering.ledger.rows import HOUR_MS

_NAME = re.compile(r"(\d{4})/(\d\d)/(\d\d)/(\d\d)-(-1|\d{1,10})-([0-9a-f]{32})\.parquet")


class LedgerName(NamedTuple):
    """One object: the rows of ``hour_ms``, or of a part of it, by one broker, or by programs beside them (``NO_BROKER``)."""

    hour_ms: int
    broker_id: int
    uuid: str


def ledger_prefix(cluster_id: str) -> str:
    """Where the whole ledger of a cluster is; ends in ``/``."""
    return f"meta/{cluster_id}/ledger/"


def key_of(cluster_id: str, name: LedgerName) -> str:
    return f"{before_hour(cluster_id, name.hour_ms)}-{name.broker_id}-{name.uuid}.parquet"


def before_hour(cluster_id: str, time_ms: int) -> str:
    """Sorts before all objects of the hour that ``time_ms`` lies in, and behind all earlier ones."""
    hour = datetime.fromtimestamp(time_ms // 1_000, UTC)
    return f"{ledger_prefix(cluster_id)}{hour:%Y/%m/%d/%H}"


def parse_name(cluster_id: str, key: str) -> LedgerName | None:
    """The object of this cluster's ledger that the key names, or None."""
    prefix = ledger_prefix(cluster_id)
    match = _NAME.fullmatch(key[len(prefix) :]) if key.startswith(prefix) else None
    if match is None:
        return None
    try:
        hour = datetime(int(match[1]), int(match[2]), int(match[3]), int(match[4]), tzinfo=UTC)
    except ValueError:
        return None
    return LedgerName(int(hour.timestamp()) * 1_000 // HOUR_MS * HOUR_MS, int(match[5]), match[6])
