"""``tierlog tier``: in which storage classes a topic lies, and what a ladder will do before it is set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tierlog.cli.option_sets import with_options
from tierlog.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Format, Http, Output, Timeout

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Storage classes by age: tierlog.tiers.")

Topic = Annotated[str, typer.Argument(metavar="TOPIC")]
Prices = Annotated[
    str,
    typer.Option(
        "--prices",
        "--price-book",
        metavar="s3|gcs|BOOK",
        help="Whose list prices to take: a price book or a file.",
    ),
]


class Asked(NamedTuple):
    """Of whom, and how it is told."""

    prices: str
    http: str | None
    bootstrap: str
    format: Format
    timeout_s: float


def asked(
    prices: Prices = "s3",
    http: Http = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> Asked:
    return Asked(prices, http, bootstrap_server, format, timeout)


@app.command()
@with_options(asked)
def status(ask: Asked, topic: Topic) -> None:
    """What lies in which class, what is due to move, what waits and why."""
    _answer(ask, topic, None, draw_status)


@app.command()
@with_options(asked)
def plan(
    ask: Asked,
    topic: Topic,
    tiers: Annotated[
        str | None,
        typer.Option(
            metavar="LADDER", help="A ladder to try, as standard:30d,infrequent:1y; else the topic's own."
        ),
    ] = None,
) -> None:
    """What a ladder will do with the segments that are there: moves, requests, cost. Changes nothing.

    It covers the coming year, as if nothing new arrived.
    """
    _answer(ask, topic, tiers, draw_plan)


def _answer(ask: Asked, topic: str, tiers: str | None, draw: Any) -> None:
    from tierlog.admin.client import Client
    from tierlog.admin.tiers import tiers_of
    from tierlog.cli import output

    with Client(ask.bootstrap, ask.timeout_s) as client:
        answer = tiers_of(client, topic, tiers, ask.prices, ask.http, ask.timeout_s)
    output.show(answer, ask.format, lambda console: draw(console, answer))
    if answer["without_answer"]:
        partitions = ", ".join(map(str, answer["without_answer"]))
        output.complain(
            f"no leader tells about partition {partitions}: it has no remote storage, or is not led; "
            f"see tierlog topic describe {topic}"
        )
        raise typer.Exit(1)


def draw_status(console: Console, answer: dict[str, Any]) -> None:
    from tierlog.cli import output
    from tierlog.cli.output import size

    console.print(
        f"[bold]{answer['topic']}[/]  [dim]objects in the bucket, footers counted[/]{output.store_of(answer)}\n"
    )
    made = output.table("CLASS", ">SEGMENTS", ">BYTES")
    for row in answer["held"]:
        made.add_row(row["class"], output.number(row["segments"]), size(row["bytes"]))
    console.print(made)
    if answer["due"] or answer["waiting"]:
        console.print()
        made = output.table("FROM", "TO", ">SEGMENTS", ">BYTES", "WHEN")
        for row in answer["due"]:
            made.add_row(
                row["from"], row["to"], output.number(row["segments"]), size(row["bytes"]), "[green]now[/]"
            )
        for row in answer["waiting"]:
            when = f"{row['why']}{_first(row['due_ms'])}"
            made.add_row(row["from"], row["to"], output.number(row["segments"]), size(row["bytes"]), when)
        console.print(made)
    _draw_end(console, answer)


def draw_plan(console: Console, answer: dict[str, Any]) -> None:
    from tierlog.cli import output
    from tierlog.cli.output import size

    ladder = answer["tiers"] if answer["tiers"] is not None else "its own tierlog.tiers"
    console.print(
        f"[bold]{answer['topic']}[/]  [dim]{ladder}; the coming year, as if nothing new arrived[/]"
        f"{output.store_of(answer)}\n"
    )
    made = output.table("WHEN", "FROM", "TO", ">SEGMENTS", ">BYTES")
    for row in answer["due"]:
        made.add_row("now", row["from"], row["to"], output.number(row["segments"]), size(row["bytes"]))
    for row in sorted(answer["later"], key=lambda row: (row["month"], row["from"], row["to"])):
        when = f"month {row['month'] + 1}"
        made.add_row(when, row["from"], row["to"], output.number(row["segments"]), size(row["bytes"]))
    for row in answer["waiting"]:
        made.add_row(
            f"[yellow]stays: {row['why']}[/]",
            row["from"],
            row["to"],
            output.number(row["segments"]),
            size(row["bytes"]),
        )
    console.print(made)
    cost = answer["cost"]
    console.print(
        f"\n{output.number(cost['copies'])} copies within the store, {output.number(cost['requests'])} requests in all, "
        f"{output.cents(cost['moves'])} {cost['currency']} once; storage {output.cents(cost['month_before'])} → "
        f"{output.cents(cost['month_after'])} a month  [dim](price book {cost['price_book']} of {cost['as_of']})[/]"
    )
    for row in answer["early"]:
        console.print(
            f"[yellow]{output.number(row['segments'])} segments ({size(row['bytes'])}) will be deleted by retention "
            f"before the minimum time of {row['class']} is over[/]: that time is billed all the same"
        )
    _draw_end(console, answer)


def _draw_end(console: Console, answer: dict[str, Any]) -> None:
    if answer["hindered"]:
        console.print(f"\n[red]Nothing moves: {answer['hindered']}[/]")


def _first(due_ms: int) -> str:
    return f", until {time.strftime('%Y-%m-%d', time.gmtime(due_ms / 1_000))}" if due_ms else ""
