"""The text of a Java ``.properties`` file as entries with their line numbers.

Rules of java.util.Properties: ``#`` and ``!`` begin a comment line; key and value are separated by ``=``,
``:`` or white space; an odd number of backslashes at the end of a line continues it, and white space that
begins the next line is dropped; ``\\t \\n \\r \\f \\uHHHH`` are escapes, before any other character a
backslash is dropped. White space at the end of a value belongs to it.

Java reads ISO 8859-1. Here a line is UTF-8, which is what editors write today, or ISO 8859-1 where it cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


class Entry(NamedTuple):
    """``line`` counts from 1 and is where the entry begins. ``problem`` says why there is no value."""

    key: str
    value: str
    line: int
    problem: str | None = None


def decode(data: bytes) -> str:
    """The text of a file, with line feeds. Raises ValueError for data that is no text file."""
    if data.startswith(_UTF16_MARKS):
        raise ValueError("UTF-16; save it as UTF-8")
    return "\n".join(_decoded(line) for line in _LINE_ENDS.split(data.removeprefix(_UTF8_MARK)))


def read(text: str) -> list[Entry]:
    """Entries in the order of the file, repeated keys included, and those that cannot be read."""
    return [_entry(logical, number) for logical, number in _logical_lines(text)]


def parse(text: str) -> list[Entry]:
    """As ``read``; raises ValueError for the first entry that cannot be read."""
    entries = read(text)
    for entry in entries:
        if entry.problem is not None:
            raise ValueError(f"line {entry.line}: {entry.problem}")
    return entries


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("iso-8859-1")


def _logical_lines(text: str) -> Iterator[tuple[str, int]]:
    lines = iter(enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1))
    for number, line in lines:
        line = line.lstrip(_BLANK)
        if not line or line[0] in "#!":
            continue
        while _is_continued(line):
            line = line[:-1] + next(lines, (0, ""))[1].lstrip(_BLANK)
        if line:
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
        key = _unescape(line[:end])
    except ValueError as error:
        return Entry("", "", number, str(error))
    try:
        return Entry(key, _unescape(rest), number)
    except ValueError as error:
        return Entry(key, "", number, str(error))


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
                    raise ValueError("\\u is not followed by four hexadecimal digits")
                char = chr(int(digits, 16))
                position += 4
            else:
                char = _ESCAPES.get(char, char)
        elif char == "\\":
            break
        out.append(char)
    return "".join(out)
