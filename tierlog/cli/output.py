"""Answers on stdout as a table, JSON or YAML; everything else on stderr.

A command makes one plain value (dicts, lists, numbers, strings) and a function that draws it. Programs get the value,
with raw numbers; people get the drawing, with readable sizes. Colours appear only when stdout is a terminal; when it is
not, tables are as wide as they need to be, so that no cell is cut.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from tierlog.cli.options import Format

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PIPED_WIDTH = 400
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def show(value: Any, output: Format, draw: Callable[[Console], None]) -> None:
    """Writes the answer of a command."""
    if output is Format.json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    elif output is Format.yaml:
        import yaml

        yaml.safe_dump(value, sys.stdout, sort_keys=False, allow_unicode=True)
    else:
        draw(console())


def console(stream: TextIO | None = None) -> Console:
    """For ``stream``, or stdout."""
    from rich.console import Console

    out = stream or sys.stdout
    width = None if out.isatty() else PIPED_WIDTH
    return Console(file=out, highlight=False, soft_wrap=False, width=width)


def errors() -> Console:
    """For stderr."""
    return console(sys.stderr)


def complain(text: str) -> None:
    """One line on stderr, in the form of the last line that ``tierlog.cli.app`` writes."""
    from rich.markup import escape

    errors().print(f"[bold red]tierlog:[/] {escape(text)}", soft_wrap=True)


def table(*headings: str, title: str | None = None) -> Table:
    """A light table; a heading that starts with ``>`` marks a column of numbers."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold cyan",
        pad_edge=False,
        show_edge=False,
    )
    for heading in headings:
        is_number = heading.startswith(">")
        made.add_column(
            heading.removeprefix(">"),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    return made


def width_of(drawing: RenderableType, console: Console) -> int:
    """The width in cells when nothing is cut or folded."""
    return console.measure(drawing, options=console.options.update_width(PIPED_WIDTH)).maximum


def size(value_bytes: int | None) -> str:
    """``1.5 MiB``; a dash for an unknown value."""
    if value_bytes is None:
        return "–"
    value = float(value_bytes)
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            return f"{value_bytes} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes everything")


def store_of(answer: dict[str, Any]) -> str:
    """What is said of a topic's own object store; empty where it has none."""
    from rich.markup import escape

    url = answer.get("object_store", "")
    return f"\n[dim]object store[/] {escape(url)}" if url else ""


def number(value: int | None) -> str:
    """``336,776``; a dash for an unknown value."""
    return "–" if value is None else f"{value:,}"


def cents(amount: str) -> str:
    """Money as reports hold it, rounded to the cent: ``1,234.57``."""
    from decimal import ROUND_HALF_EVEN, Decimal

    return f"{Decimal(amount).quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}"


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """``["k=v"]`` as a dict. Raises UserError."""
    from tierlog.errors import UserError

    found = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            # The text after the name may be a secret.
            name = re.match(r"=.*|[\w.-]*", text)
            raise UserError(f"{option} {name[0] if name else ''}: expected KEY=VALUE")
        found[key.strip()] = value.strip()
    return found
