"""Draws what ``tierlog storage explain-retention`` was told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_COLOUR_OF = {"removed": "red", "deleted": "red", "rolled": "yellow", "held": "yellow", "kept": "green"}


def draw_retention(console: Console, answer: dict[str, Any]) -> None:
    from rich.markup import escape

    from tierlog.cli import output
    from tierlog.cli.output import size

    console.print(
        f"[bold]{answer['topic']}[/]  [dim]each segment, here and in the object store: which rule, and when[/]"
        f"{output.store_of(answer)}\n"
    )
    for partition in answer["partitions"]:
        made = output.table(">OFFSETS", "WHERE", ">BYTES", "NEWEST", "VERDICT", "RULE", "WHEN")
        for row in partition["segments"]:
            colour = _COLOUR_OF[row["verdict"]]
            move = row["move"]
            rule = escape(row["rule"]) + (f"\n{_moved(move)}" if move else "")
            made.add_row(
                f"{row['base_offset']:,}–{row['end_offset']:,}",
                row["class"] or row["where"],
                size(row["bytes"]),
                _day(row["newest_ms"]),
                f"[{colour}]{row['verdict']}[/]",
                rule,
                _when(row["due_ms"]) + (f"\n{_when(move['due_ms'])}" if move else ""),
            )
        console.print(f"partition {partition['partition']}")
        console.print(made)
        if partition["left_out"]:
            console.print(f"[dim]{output.number(partition['left_out'])} newer segments are left out[/]")
        if not partition["is_remote_known"]:
            console.print("[yellow]what is in the object store is not known yet: its head is being read[/]")
        console.print()


def _moved(move: dict[str, Any]) -> str:
    why = f" [yellow]({move['why']})[/]" if move["why"] else ""
    return f"[dim]moves to[/] {move['to']}{why}"


def _when(due_ms: int) -> str:
    if due_ms < 0:
        return "–"
    return _day(due_ms) if due_ms else "now"


def _day(at_ms: int) -> str:
    """In UTC; what no calendar of ours has as a number of years."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at_ms / 1_000))
    except (OverflowError, ValueError, OSError):
        return f"in {at_ms / (365 * 86_400_000):,.0f} years"
