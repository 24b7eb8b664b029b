"""Where a replay begins and ends, as a person says it: an offset, a time, a duration ago, the earliest record, the end."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from tierlog.errors import UserError
from tierlog.times import TIMES, time_of

EARLIEST_WORDS = ("earliest", "beginning", "start")
END_WORDS = ("end", "latest", "now")


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
    """A whole number is an offset. Raises UserError that names the option."""
    text = given.isoformat() if isinstance(given, datetime) else str(given).strip()
    if text.isdecimal():
        return Bound(Kind.OFFSET, int(text))
    if text.lower() in EARLIEST_WORDS:
        return EARLIEST
    if text.lower() in END_WORDS:
        return END
    found = time_of(text, now_ms)
    if found is None:
        raise UserError(f"{option} {text}: expected an offset, earliest, end, {TIMES}")
    return Bound(Kind.TIME, found)
