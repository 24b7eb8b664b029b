"""Amounts as users give them: money, percents, sizes. Each raises UserError with what to write."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from tierlog.errors import UserError

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGTP]i?B|B)?")
_SIZES = {"B": 1} | {
    f"{letter}{binary}B": (1024 if binary else 1000) ** power
    for power, letter in enumerate("KMGTP", start=1)
    for binary in ("i", "")
}
_MOST = 10**15


def amount(text: str | None, option: str) -> Decimal | None:
    """Money; None for an option that was not given."""
    return None if text is None else _number(text, option, "an amount, as 100 or 99.50")


def percent(text: str, option: str) -> float:
    try:
        value = _number(text.removesuffix("%"), option, "")
    except UserError:
        raise UserError(f"{option} {text}: expected a percentage, as 80%") from None
    if not 0 < value <= 100:
        raise UserError(f"{option} {text}: expected a percentage from 1% to 100%")
    return float(value)


def size_bytes(text: str, option: str) -> int:
    """``512MiB``, ``2TB``, or bytes."""
    found = _SIZE.fullmatch(text)
    value = 0 if found is None else int(Decimal(found[1]) * _SIZES[found[2] or "B"])
    if value < 1:
        raise UserError(f"{option} {text}: expected a size, as 512MiB, 2TiB, or bytes")
    return value


def _number(text: str, option: str, expected: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value < _MOST:
        raise UserError(f"{option} {text}: expected {expected}")
    return value
