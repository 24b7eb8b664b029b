"""``tierlog storage``: local, remote and duplicated bytes, three figures that are never mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Format, Output, Timeout

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

app = typer.Typer(no_args_is_help=True, help="Where the bytes are: local disk and object store.")

BAR_CELLS = 50


@app.callback()
def storage() -> None:
    """A group of its own, even with one command."""


@app.command()
def describe(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    http: Annotated[
        str | None,
        typer.Option(
            "--http", metavar="HOST:PORT", help="HTTP address of the broker, where it does not tell it."
        ),
    ] = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Per partition: the five offsets, and segments and bytes local, remote and both.

    "Both" is what the local disk and the object store hold: it is counted in local and in remote.
    """
    from tierlog.cli import output
    from tierlog.cli.client import Client
    from tierlog.cli.storage import storage_of

    with Client(bootstrap_server, timeout) as client:
        answer = storage_of(client, topic, http, timeout)
    output.show(answer, format, lambda console: draw_storage(console, answer))
    if answer["without_answer"]:
        partitions = ", ".join(map(str, answer["without_answer"]))
        output.complain(f"no leader tells about partition {partitions}; see tierlog topic describe {topic}")
        raise typer.Exit(1)


def draw_storage(console: Console, answer: dict[str, Any]) -> None:
    """The table, the sums and a bar."""
    from tierlog.cli import output
    from tierlog.cli.output import number, size

    made = output.table(
        ">PARTITION",
        ">LOG START",
        ">LOCAL START",
        ">TIERED END",
        ">HIGH WATERMARK",
        ">LOG END",
        ">LOCAL",
        ">REMOTE",
        ">BOTH",
    )
    made.show_footer = False
    rows = answer["partitions"]
    for row in rows:
        made.add_row(
            f"[red]{row['partition']} offline[/]" if row["offline"] else str(row["partition"]),
            number(row["log_start_offset"]),
            number(row["local_log_start_offset"]),
            number(row["tiered_end_offset"]),
            number(row["high_watermark"]),
            number(row["log_end_offset"]),
            _amount(row["local"]),
            _amount(row["remote"]),
            _amount(row["both"]),
            end_section=row is rows[-1],
        )
    sums = answer["total"]
    made.add_row(
        "[bold]total[/]",
        "",
        "",
        "",
        "",
        "",
        *(f"[bold]{_amount(sums[side])}[/]" for side in ("local", "remote", "both")),
    )
    console.print(
        f"[bold]{answer['topic']}[/]  [dim]segments / bytes of each side; both = on either side[/]\n"
    )
    console.print(made)
    console.print()
    console.print(bar(sums, min(BAR_CELLS, console.width - 2)))
    console.print(
        f"[green]■[/] local only {size(sums['local']['bytes'] - sums['both']['bytes'])}   "
        f"[yellow]■[/] both {size(sums['both']['bytes'])}   "
        f"[blue]■[/] remote only {size(sums['remote']['bytes'] - sums['both']['bytes'])}   "
        f"[dim]held once[/] {size(sums['held_once_bytes'])}"
    )


def _amount(side: dict[str, int] | None) -> str:
    from tierlog.cli.output import size

    return "–" if side is None else f"[dim]{side['segments']} /[/] {size(side['bytes'])}"


def bar(sums: dict[str, Any], cells: int) -> Text:
    """Remote only, both, local only: old to new, as in the log."""
    from rich.text import Text

    both = sums["both"]["bytes"]
    parts = (
        (sums["remote"]["bytes"] - both, "blue"),
        (both, "yellow"),
        (sums["local"]["bytes"] - both, "green"),
    )
    whole = sum(value for value, _ in parts)
    drawn = Text()
    for value, colour in parts:
        share = round(cells * value / whole) if whole else 0
        drawn.append("█" * (max(share, 1) if value else 0), style=colour)
    return drawn
