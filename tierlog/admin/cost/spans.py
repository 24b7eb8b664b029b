"""The whole hours between two times as users give them, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from tierlog.errors import UserError
from tierlog.times import time_ms

HOUR_MS = 3_600_000


def span_ms(since: str, until: str, now_ms: int) -> tuple[int, int]:
    """Half-open, in whole hours: the hour that ``until`` lies in is the first that does not count. Raises UserError."""
    since_ms, until_ms = time_ms(since, "--since", now_ms), time_ms(until, "--until", now_ms)
    since_ms, until_ms = -(-since_ms // HOUR_MS) * HOUR_MS, until_ms // HOUR_MS * HOUR_MS
    if until == "now":
        until_ms += HOUR_MS
    if since_ms > max(now_ms, until_ms):
        raise UserError(f"--since {since} is in the future; name an age, as 30d, or a time that is over")
    if since_ms >= until_ms:
        raise UserError(f"--since {since} is not before --until {until} by a whole hour")
    return since_ms, until_ms


def iso(time_ms: int) -> str:
    """``2026-11-01T06:00:00Z``"""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
