"""What a user asks about cost or capacity. Imported for each start of a command, so it imports nothing heavy."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple


class Question(NamedTuple):
    """``rows``: a file of the ledger's rows; ``bootstrap``: a cluster to ask who is who, and for rows; ``bucket``: URL of
    the bucket with the ledger, where the cluster does not tell it or is not asked. ``warnings``: what could not be read."""

    since: str
    until: str
    price_book: str
    rows: Path | None
    bootstrap: str | None
    now_ms: int
    timeout_s: float
    bucket: str | None
    warnings: list[str]

    @property
    def today(self) -> date:
        return datetime.fromtimestamp(self.now_ms / 1000, UTC).date()
