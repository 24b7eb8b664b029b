"""The .properties format, case by case as java.util.Properties reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.config.java_properties import Entry, decode, parse, read


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
        ("\\\na=b", [("a", "b")]),
        ("\\\n\na=b", [("a", "b")]),
        ("a=b\\\n\nc=d", [("a", "b"), ("c", "d")]),
        ("\\\n# x", [("#", "x")]),
        ("# comment\\\na=b", [("a", "b")]),
        ("=b", [("", "b")]),
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


def test_what_cannot_be_read_does_not_hide_the_rest() -> None:
    entries = read("a=\\u12\nb=1\n\\uxxxx=2")
    assert [(entry.key, entry.line, entry.problem is None) for entry in entries] == [
        ("a", 1, False),
        ("b", 2, True),
        ("", 3, False),
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"# caf\xe9\nbroker.rack=z\xfcrich", {"broker.rack": "z\u00fcrich"}),
        ("# caf\u00e9\nbroker.rack=z\u00fcrich".encode(), {"broker.rack": "z\u00fcrich"}),
        (b"# caf\xe9\nbroker.rack=" + "z\u00fc".encode(), {"broker.rack": "z\u00fc"}),
        (b"\xef\xbb\xbfnode.id=1", {"node.id": "1"}),
        (b"a=\xff\xfe\r\nb=\\u20ac\rc=3", {"a": "\u00ff\u00fe", "b": "\u20ac", "c": "3"}),
        (b"\x80\x81=\x00", {"\x80\x81": "\x00"}),
    ],
)
def test_a_line_is_utf8_or_latin1(data: bytes, expected: dict[str, str]) -> None:
    assert {entry.key: entry.value for entry in parse(decode(data))} == expected


def test_any_byte_can_stand_in_a_file() -> None:
    for byte in range(256):
        decode(b"# " + bytes([byte]) + b"\nnode.id=1")
    with pytest.raises(ValueError, match="UTF-16"):
        decode("node.id=1".encode("utf-16"))
