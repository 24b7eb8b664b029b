"""The .properties format, case by case as java.util.Properties reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.config.java_properties import Entry, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", [("a", "b")]),
        ("a:b", [("a", "b")]),
        ("a b", [("a", "b")]),
        ("a\tb", [("a", "b")]),
        ("  a  =  b  ", [("a", "b  ")]),
        ("a : = b", [("a", "= b")]),
        ("a==b", [("a", "=b")]),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("a\\ b=c", [("a b", "c")]),
        ("a\\=b\\:c=d", [("a=b:c", "d")]),
        ("# comment\n! comment\n\n  # comment\na=b", [("a", "b")]),
        ("a=b\\\n   c\nd=e", [("a", "bc"), ("d", "e")]),
        ("a=b\\\\\nc=d", [("a", "b\\"), ("c", "d")]),
        ("a=b\\\n# no comment", [("a", "b# no comment")]),
        ("a=b\\", [("a", "b")]),
        ("a=\\t\\n\\r\\f\\x\\\\", [("a", "\t\n\r\fx\\")]),
        ("a=\\u00e4\\u20AC", [("a", "ä€")]),
        ("ä=ö", [("ä", "ö")]),
        ("a=1\r\nb=2\rc=3", [("a", "1"), ("b", "2"), ("c", "3")]),
        ("a=1\na=2", [("a", "1"), ("a", "2")]),
        ("listeners=PLAINTEXT://:9092", [("listeners", "PLAINTEXT://:9092")]),
    ],
)
def test_forms(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(entry.key, entry.value) for entry in parse(text)] == expected


def test_lines_are_those_where_an_entry_begins() -> None:
    assert parse("# head\n\na=1\\\n2\nb=3") == [Entry("a", "12", 3), Entry("b", "3", 5)]


def test_a_broken_unicode_escape_names_its_line() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse("a=1\nb=\\u00g1")


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_what_is_escaped_comes_back(pairs: dict[str, str]) -> None:
    def escape(text: str) -> str:
        units = text.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))

    text = "\n".join(f"{escape(key)}={escape(value)}" for key, value in pairs.items())
    back = {
        entry.key.encode("utf-16-be", "surrogatepass"): entry.value.encode("utf-16-be", "surrogatepass")
        for entry in parse(text)
    }
    assert back == {
        key.encode("utf-16-be", "surrogatepass"): value.encode("utf-16-be", "surrogatepass")
        for key, value in pairs.items()
    }


@given(st.text(alphabet="ab =:\\#!\n\t\ru0"))
def test_any_text_gives_entries_or_a_value_error(text: str) -> None:
    try:
        entries = parse(text)
    except ValueError:
        return
    assert [entry.line for entry in entries] == sorted(entry.line for entry in entries)
