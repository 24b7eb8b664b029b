"""Where a replay begins and ends, as a person says it: an offset, a time, a duration ago, the earliest record, the end."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from tierlog.errors import UserError

EARLIEST_WORDS = ("earliest", "beginning", "start")
END_WORDS = ("end", "latest", "now")
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
FORMS = "an offset, a time such as 2026-05-01T12:00:00Z, a duration ago such as 7d, earliest, or end"


class Kind(Enum):
    EARLIEST = "earliest"
    END = "end"
    OFFSET = "offset"
    TIME = "time"


class Bound(NamedTuple):
    """``value`` is an offset or a time in ms; 0 of the other kinds."""

    kind: Kind
    value: int = 0

    def __str__(self) -> str:
        if self.kind is Kind.TIME:
            return datetime.fromtimestamp(self.value / 1_000, UTC).isoformat(timespec="milliseconds")
        return str(self.value) if self.kind is Kind.OFFSET else self.kind.value


EARLIEST, END = Bound(Kind.EARLIEST), Bound(Kind.END)


def bound_of(given: str | int | datetime, option: str, now_ms: int) -> Bound:
    """A whole number is an offset; a time without a zone is UTC. Raises UserError that names the option."""
    if isinstance(given, datetime):
        return Bound(Kind.TIME, _ms(given))
    text = str(given).strip()
    if text.isdecimal():
        return Bound(Kind.OFFSET, int(text))
    if text.lower() in EARLIEST_WORDS:
        return EARLIEST
    if text.lower() in END_WORDS:
        return END
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return Bound(Kind.TIME, now_ms - int(float(ago[1]) * _UNIT_MS[ago[2]]))
    try:
        return Bound(Kind.TIME, _ms(datetime.fromisoformat(text)))
    except ValueError:
        raise UserError(f"{option} {text}: expected {FORMS}") from None


def _ms(time: datetime) -> int:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000)
