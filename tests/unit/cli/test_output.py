"""Answers as table, JSON and YAML; sizes and KEY=VALUE."""

from __future__ import annotations

import json

import pytest
import yaml
from rich.console import Console

from tierlog.cli.options import Format
from tierlog.cli.output import number, pairs, show, size, table
from tierlog.errors import UserError

VALUE = [{"topic": "żółw", "bytes": 5 << 30, "leader": None}]


def draw(console: Console) -> None:
    made = table("TOPIC", ">BYTES")
    made.add_row("a" * 150, size(5 << 30))
    console.print(made)


def test_programs_get_the_raw_value(capsys: pytest.CaptureFixture[str]) -> None:
    show(VALUE, Format.json, draw)
    assert json.loads(capsys.readouterr().out) == VALUE
    show(VALUE, Format.yaml, draw)
    assert yaml.safe_load(capsys.readouterr().out) == VALUE


def test_a_piped_table_is_whole_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    show(VALUE, Format.table, draw)
    text = capsys.readouterr().out
    assert "a" * 150 in text
    assert "5.0 GiB" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("value_bytes", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 60, "3072.0 PiB"),
    ],
)
def test_size(value_bytes: int | None, text: str) -> None:
    assert size(value_bytes) == text


def test_number() -> None:
    assert number(336776) == "336,776"
    assert number(None) == "–"


def test_pairs() -> None:
    assert pairs(["a=b", " c = d=e ", "f="], "--config") == {"a": "b", "c": "d=e", "f": ""}
    assert pairs(None, "--config") == {}
    for wrong in ("a", "=b"):
        with pytest.raises(UserError, match=rf"--config {wrong}: expected KEY=VALUE"):
            pairs([wrong], "--config")
