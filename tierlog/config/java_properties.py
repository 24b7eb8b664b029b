"""The text of a Java ``.properties`` file as entries with their line numbers.

Rules of java.util.Properties: ``#`` and ``!`` begin a comment line; key and value are separated by ``=``,
``:`` or white space; an odd number of backslashes at the end of a line continues it, and white space that
begins the next line is dropped; ``\\t \\n \\r \\f \\uHHHH`` are escapes, before any other character a
backslash is dropped. White space at the end of a value belongs to it. Files are read as UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class Entry(NamedTuple):
    """``line`` counts from 1 and is where the entry begins."""

    key: str
    value: str
    line: int


def parse(text: str) -> list[Entry]:
    """Entries in the order of the file, repeated keys included. Raises ValueError on a broken ``\\u``
    escape.
    """
    return [_entry(logical, line) for logical, line in _logical_lines(text)]


def _logical_lines(text: str) -> Iterator[tuple[str, int]]:
    lines = iter(enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1))
    for number, line in lines:
        line = line.lstrip(_BLANK)
        if not line or line[0] in "#!":
            continue
        while _is_continued(line):
            line = line[:-1] + next(lines, (0, ""))[1].lstrip(_BLANK)
        yield line, number


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _entry(line: str, number: int) -> Entry:
    end = 0
    while end < len(line) and line[end] not in _BLANK + "=:":
        end += 2 if line[end] == "\\" else 1
    rest = line[end:].lstrip(_BLANK)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANK)
    try:
        return Entry(_unescape(line[:end]), _unescape(rest), number)
    except ValueError:
        raise ValueError(f"line {number}: \\u is not followed by four hexadecimal digits") from None


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\" and position < len(text):
            char = text[position]
            position += 1
            if char == "u":
                digits = text[position : position + 4]
                if len(digits) != 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                    raise ValueError(digits)
                char = chr(int(digits, 16))
                position += 4
            else:
                char = _ESCAPES.get(char, char)
        elif char == "\\":
            break
        out.append(char)
    return "".join(out)
