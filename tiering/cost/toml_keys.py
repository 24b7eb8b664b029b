"""Keys of a parsed TOML document, each taken once and checked; mistakes are collected, a line each: file, key, remedy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from tiering.cost.currencies import CURRENCIES

_NOTHING = Decimal(0)
_MOST = Decimal(10**9)
"""No price and no volume is larger: exact sums have room for all digits."""
_DAY = date(1970, 1, 1)


class Keys:
    """One table of the document; tables within it share its list of mistakes."""

    def __init__(
        self, table: dict[str, Any], where: str, path: str = "", mistakes: list[str] | None = None
    ) -> None:
        self._table = table
        self._where = where
        self._path = path
        self._taken: set[str] = set()
        self._inner: list[Keys] = []
        self.mistakes: list[str] = [] if mistakes is None else mistakes

    def wrong(self, key: str, what: str, remedy: str) -> None:
        self.mistakes.append(f"{self._where}: {self._path}{key}: {what}; {remedy}")

    def finish(self) -> None:
        """What nobody has taken is a mistake."""
        for key in self._table:
            if key not in self._taken:
                self.wrong(key, "is not a key here", f"there are {', '.join(sorted(self._taken))}")
        for inner in self._inner:
            inner.finish()

    def _take(self, key: str) -> Any:
        self._taken.add(key)
        return self._table.get(key)

    def text(self, key: str, among: Iterable[str] = ()) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not value.strip():
            self.wrong(key, "is missing" if value is None else "is no text", f'write {key} = "…"')
            return ""
        if among and value not in among:
            self.wrong(key, f"{value!r} is unknown", f"write one of {', '.join(among)}")
        return value.strip()

    def text_or(self, key: str, default: str) -> str:
        return self.text(key) if key in self._table else default

    def currency(self, key: str) -> str:
        value = self.text(key)
        if value and value not in CURRENCIES:
            self.wrong(key, f"{value!r} is no currency", 'write three letters of ISO 4217, as "USD"')
        return value

    def day(self, key: str) -> date:
        value = self._take(key)
        if type(value) is date:
            return value
        self.wrong(key, "is missing" if value is None else f"{value} is no day", "write it as 2026-05-15")
        return _DAY

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self._take(key)
        if value is None:
            return default
        if type(value) is not int or not low <= value <= high:
            self.wrong(key, f"{value} is not within {low} and {high}", "write a whole number")
            return default
        return value

    def optional(self, key: str) -> Decimal | None:
        return None if self._take(key) is None else self.decimal(key)

    def decimal(
        self,
        key: str,
        default: Decimal | None = None,
        *,
        low: Decimal = _NOTHING,
        high: Decimal = _MOST,
    ) -> Decimal:
        """A number from ``low`` to ``high``. ``default`` None: it must be there."""
        value = self._take(key)
        if value is None and default is not None:
            return default
        is_number = type(value) in (int, Decimal) and Decimal(value).is_finite()
        if not is_number:
            self.wrong(key, "is missing" if value is None else f"{value} is no number", f"write {key} = 0.01")
            return low
        number = Decimal(value)
        if not low <= number <= high:
            self.wrong(key, f"{value} is out of range", f"write a number from {low} to {high}")
            return low
        return number

    def texts(self, key: str) -> list[str]:
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self.wrong(key, "is no list of texts", f'write {key} = ["…"]')
            return []
        return value

    def is_list(self, key: str) -> bool:
        return isinstance(self._table.get(key), list)

    def parts(self, key: str) -> list[Keys]:
        """The tables of a list."""
        return [
            self._within(part, f"{key}[{number}]") for number, part in enumerate(self._take(key), start=1)
        ]

    def table(self, key: str) -> Keys:
        """Empty where it is not there."""
        value = self._take(key)
        return self._within({} if value is None else value, key)

    def tables(self, key: str, among: Iterable[str]) -> dict[str, Keys]:
        """The tables within a table, by name."""
        outer = self.table(key)
        return {name: outer.table(name) for name in outer.known(among)}

    def known(self, among: Iterable[str]) -> list[str]:
        """Those of these keys that are there; ``finish`` complains of others."""
        known = list(among)
        self._taken.update(known)
        return [name for name in known if name in self._table]

    def _within(self, value: Any, key: str) -> Keys:
        if not isinstance(value, dict):
            self.wrong(key, "is no table", f"write [{self._path}{key}]")
            value = {}
        inner = Keys(value, self._where, f"{self._path}{key}.", self.mistakes)
        self._inner.append(inner)
        return inner
