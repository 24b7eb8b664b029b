"""Spans of time as users give them: ``30d`` ago, a day, or a day and a time, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tierlog.errors import UserError

HOUR_MS = 3_600_000
_UNITS_MS = {
    "s": 1_000,
    "m": 60_000,
    "h": HOUR_MS,
    "d": 24 * HOUR_MS,
    "w": 7 * 24 * HOUR_MS,
    "y": 365 * 24 * HOUR_MS,
}
_AGE = re.compile(r"(\d{1,9})([smhdwy])")


def moment_ms(text: str, now_ms: int, option: str) -> int:
    """Raises UserError."""
    if text == "now":
        return now_ms
    if (age := _AGE.fullmatch(text)) is not None:
        return max(now_ms - int(age[1]) * _UNITS_MS[age[2]], 0)
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{option} {text}: expected an age, as 30d or 12h, or a time, as 2026-11-01 or 2026-11-01T06:00"
        ) from None
    if told.tzinfo is None:
        told = told.replace(tzinfo=UTC)
    return max(int(told.timestamp() * 1000), 0)


def span_ms(since: str, until: str, now_ms: int) -> tuple[int, int]:
    """Half-open, in whole hours: the hour that ``until`` lies in is the first that does not count. Raises UserError."""
    since_ms, until_ms = moment_ms(since, now_ms, "--since"), moment_ms(until, now_ms, "--until")
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
