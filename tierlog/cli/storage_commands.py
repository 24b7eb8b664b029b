"""``tierlog storage``: local, remote and duplicated bytes, three figures that are never mixed; and the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Format, Http, Output, Timeout

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

app = typer.Typer(no_args_is_help=True, help="Where the bytes are: local disk and object store.")

BAR_CELLS = 50
SIDES = ("local", "remote", "both")
SIZES = (">LOCAL", ">REMOTE", ">BOTH")
OFFSETS = (
    ("log_start_offset", ">LOG START"),
    ("local_log_start_offset", ">LOCAL START"),
    ("tiered_end_offset", ">TIERED END"),
    ("high_watermark", ">HIGH WATERMARK"),
    ("log_end_offset", ">LOG END"),
)


@app.command()
def describe(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    http: Http = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Per partition: the five offsets, and segments and bytes local, remote and both.

    "Both" is what the local disk and the object store hold: it is counted in local and in remote.
    """
    from tierlog.admin.client import Client
    from tierlog.admin.storage import storage_of
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        answer = storage_of(client, topic, http, timeout)
    output.show(answer, format, lambda console: draw_storage(console, answer))
    _complain_of_missing(answer)


@app.command("explain-retention")
def explain_retention(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    partition: Annotated[
        int | None, typer.Option("--partition", "-p", min=0, help="Of this one alone.", show_default="all")
    ] = None,
    http: Http = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Per segment, local and remote: which rule keeps, moves or removes it, and when. Changes nothing."""
    from tierlog.admin.client import Client
    from tierlog.admin.retention import retention_of
    from tierlog.cli import output
    from tierlog.cli.retention import draw_retention

    with Client(bootstrap_server, timeout) as client:
        answer = retention_of(client, topic, partition, http, timeout)
    output.show(answer, format, lambda console: draw_retention(console, answer))
    _complain_of_missing(answer)


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Option(help="server.properties; its store, cluster and ladder are looked at.")
    ] = None,
    object_store: Annotated[
        str | None,
        typer.Option("--object-store", metavar="URL", help="Another store, or one without a config."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", metavar="KEY=VALUE", help="A broker property; may be repeated."),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(
            "--topic", metavar="TOPIC", help="The store of its own that this topic has: asks a broker."
        ),
    ] = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """What is wrong with the object store, each with its remedy. Needs no broker, but with --topic.

    Exit codes: 0 all is well, 1 warnings (it costs money, or could not be checked), 2 errors (data would be lost, unreadable
    or unprotected, or nothing works). Objects that are written for a try are removed again.
    """
    from tierlog.cli.doctor import doctor as looked_at

    if topic is not None:
        object_store = _store_of(topic, object_store, bootstrap_server, timeout)
    raise typer.Exit(looked_at(config, override or [], object_store, format))


def _store_of(topic: str, also: str | None, bootstrap_server: str, timeout: float) -> str:
    """URL of the topic's own store. Raises UserError."""
    from tierlog.admin.client import Client
    from tierlog.admin.topic_details import own_store
    from tierlog.errors import UserError

    if also is not None:
        raise UserError("--topic and --object-store name two stores: leave one of them out")
    with Client(bootstrap_server, timeout) as client:
        return own_store(client, topic)


def _complain_of_missing(answer: dict[str, Any]) -> None:
    from tierlog.cli import output

    if answer["without_answer"]:
        partitions = ", ".join(map(str, answer["without_answer"]))
        output.complain(
            f"no leader tells about partition {partitions}; see tierlog topic describe {answer['topic']}"
        )
        raise typer.Exit(1)


def draw_storage(console: Console, answer: dict[str, Any]) -> None:
    """The table (in two pieces where the terminal is narrow), the sums and a bar."""
    from tierlog.cli import output
    from tierlog.cli.output import size

    rows, sums = answer["partitions"], answer["total"]
    console.print(
        f"[bold]{answer['topic']}[/]  [dim]bytes / segments; both = on this disk and in the object store[/]"
        f"{output.store_of(answer)}\n"
    )
    whole = _table(rows, sums, ("offsets", "sizes"))
    fits = output.width_of(whole, console) <= console.width
    for made in [whole] if fits else [_table(rows, sums, (piece,)) for piece in ("offsets", "sizes")]:
        console.print(made)
        console.print()
    console.print(bar(sums, min(BAR_CELLS, console.width - 2)))
    both = sums["both"]["bytes"]
    console.print(
        f"[blue]■[/] remote only {size(sums['remote']['bytes'] - both)}   [yellow]■[/] both {size(both)}   "
        f"[green]■[/] local only {size(sums['local']['bytes'] - both)}   "
        f"[dim]held once[/] {size(sums['held_once_bytes'])}"
    )
    for row in rows:
        if aside := row.get("set_aside", {}).get("files"):
            console.print(
                f"[red]partition {row['partition']}: damaged bytes were set aside in {aside} .corrupt files[/] "
                f"({size(row['set_aside']['bytes'])}); their records cannot be read"
            )
        if future := sum(row.get("future_dated", {}).values()):
            console.print(
                f"[yellow]partition {row['partition']}: {future} segments have timestamps in the future[/]; "
                "retention by time takes when they were rolled or copied"
            )


def _table(rows: list[dict[str, Any]], sums: dict[str, Any], piece: tuple[str, ...]) -> Table:
    from tierlog.cli import output

    with_offsets, with_sizes = "offsets" in piece, "sizes" in piece
    headings = [heading for _, heading in OFFSETS] if with_offsets else []
    made = output.table(">PARTITION", *headings, *(SIZES if with_sizes else ()))
    for row in rows:
        cells = [output.number(row[key]) for key, _ in OFFSETS] if with_offsets else []
        cells += [_amount(row[side]) for side in SIDES] if with_sizes else []
        partition = str(row["partition"])
        made.add_row(
            f"[red]{partition} offline: {row['offline']}[/]" if row["offline"] else partition, *cells
        )
    if with_sizes:
        made.add_section()
        blank = [""] * len(headings)
        made.add_row("[bold]total[/]", *blank, *(f"[bold]{_amount(sums[side])}[/]" for side in SIDES))
    return made


def _amount(side: dict[str, int] | None) -> str:
    from tierlog.cli.output import size

    return "–" if side is None else f"{size(side['bytes'])} [dim]/{side['segments']:>4}[/]"


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
