"""``--where``: an expression over the columns, to what Arrow evaluates.

``partition = 3 and timestamp >= '2026-05-01' and (key = 'AF' or value like '%late%')``. Comparisons of a column with a
number, a string, a time (a string beside ``timestamp``) or null (``is null``), joined by and, or, not and parentheses. Keys
and values are compared as bytes of UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tierlog.errors import UserError
from tierlog.replay.decode.schema import SCHEMA
from tierlog.times import in_utc

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>\w+)|(?P<sign><=|>=|!=|<>|==|[=<>()]))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_COLUMNS = [name for name in SCHEMA.names if name != "headers"]
DEPTH_MAX = 50


class Where(NamedTuple):
    """``expression``: for ``RecordBatch.filter``."""

    expression: Any
    columns: frozenset[str]


def where_of(text: str) -> Where:
    """Raises UserError."""
    parser = _Parser(text)
    expression = parser.either()
    parser.end()
    return Where(expression, frozenset(parser.columns))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self.columns: set[str] = set()

    def either(self) -> Any:
        found = self._both()
        while self._takes("or"):
            found = found | self._both()
        return found

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise self._wrong("expected and, or, or the end")

    def _both(self) -> Any:
        found = self._one()
        while self._takes("and"):
            found = found & self._one()
        return found

    def _one(self) -> Any:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong("too deep")
        try:
            if self._takes("not"):
                return ~self._one()
            if self._takes("("):
                found = self.either()
                if not self._takes(")"):
                    raise self._wrong("expected )")
                return found
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Any:
        before = self._at
        name = self._next()
        if name not in _COLUMNS:
            self._at = before
            raise self._wrong(f"expected a column of {', '.join(_COLUMNS)}")
        self.columns.add(name)
        column = pc.field(name)
        if self._takes("is"):
            is_not = self._takes("not")
            if not self._takes("null"):
                raise self._wrong("expected null")
            return ~column.is_null() if is_not else column.is_null()
        if self._takes("like"):
            return pc.match_like(
                column.cast(pa.string()) if name == "topic" else column, self._value("topic")
            )
        before = self._at
        sign = self._next()
        if sign not in _COMPARISONS:
            self._at = before
            raise self._wrong("expected a comparison")
        left = column.cast(pa.string()) if name == "topic" else column
        return _COMPARISONS[sign](left, pc.scalar(self._value(name)))

    def _value(self, name: str) -> Any:
        before = self._at
        token = self._next()
        kind = SCHEMA.field(name).type
        try:
            if token.startswith("'"):
                text = token[1:-1].replace("''", "'")
                if name == "timestamp":
                    return pa.scalar(in_utc(datetime.fromisoformat(text)), type=kind)
                if name in ("key", "value"):
                    return pa.scalar(text.encode(), type=kind)
                if name == "topic":
                    return text
            elif re.fullmatch(r"-?\d+(\.\d+)?", token) and name not in ("topic", "key", "value"):
                return pa.scalar(int(token), type=kind)
        except (ValueError, OverflowError, pa.ArrowInvalid):
            pass
        self._at = before
        raise self._wrong(f"expected a value for {name}, such as 7 or 'text'")

    def _takes(self, word: str) -> bool:
        match = _TOKEN.match(self._text, self._at)
        if match is not None and match[0].strip().lower() == word:
            self._at = match.end()
            return True
        return False

    def _next(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._wrong("expected more" if not self._text[self._at :].strip() else "not understood")
        self._at = match.end()
        return match[0].strip()

    def _wrong(self, what: str) -> UserError:
        rest = self._text[self._at :].strip()
        return UserError(f"--where: {what} at {rest[:30]!r}" if rest else f"--where: {what} at its end")
