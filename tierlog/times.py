"""Durations and times as people write them: ``90d``, ``24h ago``, ``2026-11-01T06:00``. All options that take one ask here.

A time without a zone is UTC; a year has 365 days. Nothing here knows a clock: now comes in.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tierlog.errors import UserError

UNITS_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
    "y": 365 * 86_400_000,
}
FOREVER_MS = -1
DURATION_MS_MAX = 2**62 - 1
TIMES = "a time, as 2026-11-01 or 2026-11-01T06:00, or a duration ago, as 7d or 12h"
_DURATION = re.compile(rf"([0-9]{{1,12}})(?:\.([0-9]{{1,6}}))? ?({'|'.join(UNITS_MS)})")
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, which is the calendar's."""


def duration_of(text: str) -> int | None:
    """In ms, at most ``DURATION_MS_MAX``; None where the text is no duration."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        return None
    whole, fraction, unit = found.groups(default="")
    millionths = int(whole + fraction.ljust(6, "0"))
    return min(millionths * UNITS_MS[unit] // 10**6, DURATION_MS_MAX)


def duration_ms(text: str, option: str, *, least_ms: int = 1, endless: str = "") -> int:
    """``FOREVER_MS`` for the word ``endless``, if there is one. Raises UserError that names the option."""
    if endless and text == endless:
        return FOREVER_MS
    found = duration_of(text)
    if found is None or found < least_ms:
        raise UserError(
            f"{option} {text}: expected a duration, as 30s, 6h or 90d{endless and f', or {endless}'}"
        )
    return found


def time_of(text: str, now_ms: int) -> int | None:
    """In ms since 1970, not before; None where the text is neither a time nor a duration ago."""
    if (ago_ms := duration_of(text.strip().removesuffix(" ago"))) is not None:
        return max(now_ms - ago_ms, 0)
    try:
        found = in_utc(datetime.fromisoformat(text.strip()))
    except ValueError:
        return None
    return min(max(round(found.timestamp() * 1_000), 0), _LAST_MS)


def time_ms(text: str, option: str, now_ms: int) -> int:
    """``now`` too. Raises UserError that names the option."""
    found = now_ms if text == "now" else time_of(text, now_ms)
    if found is None:
        raise UserError(f"{option} {text}: expected {TIMES}, or now")
    return found


def in_utc(time: datetime) -> datetime:
    """With a zone: its own, or UTC."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
