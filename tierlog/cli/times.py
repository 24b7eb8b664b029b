"""Times on the command line: ``24h`` ago, a date, or a moment in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tierlog.errors import UserError

_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_AGO = re.compile(r"(\d{1,9})([smhdw])")


def parse_time(text: str, now_ms: int, option: str) -> int:
    """Milliseconds since 1970. Raises UserError."""
    if text == "now":
        return now_ms
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(now_ms - int(ago[1]) * _UNIT_MS[ago[2]], 0)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{option} {text}: expected a time ago as 24h or 30d, or a date as 2026-11-30 or 2026-11-30T13:00 (UTC)"
        ) from None
    return max(int(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1_000), 0)
