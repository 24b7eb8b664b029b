"""``tierlog reassign …``: options and drawings. The work is in ``reassign`` and ``reassign_plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Format, Output, Timeout

if TYPE_CHECKING:
    from rich.console import Console

    from tierlog.metadata.control.reassignment_plan import Move

app = typer.Typer(no_args_is_help=True, help="Moves of partitions between brokers, with Kafka's plan files.")

STATES = {"done": "green", "moving": "yellow", "elsewhere": "red"}
MAX_ROWS = 50

PlanFile = Annotated[
    Path, typer.Argument(metavar="PLAN", help="As plan or kafka-reassign-partitions.sh wrote it; - is stdin.")
]
MaybePlanFile = Annotated[
    Path | None, typer.Argument(metavar="PLAN", help="Only what it names; - is stdin.", show_default="all")
]
Throttle = Annotated[
    int | None,
    typer.Option("--throttle", metavar="BYTES", min=1, help="Per second, of each broker; lifted at the end."),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is done, and lift the throttle.")]
WaitTime = Annotated[float | None, typer.Option("--wait-timeout", metavar="SECONDS", help="With --wait.")]


@app.command()
def plan(
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", "-t", metavar="TOPIC", help="May be repeated.", show_default="all"),
    ] = None,
    brokers: Annotated[
        str | None,
        typer.Option("--brokers", metavar="ID,ID,…", help="Who is to hold them.", show_default="all active"),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option("--balance/--no-balance", help="Even out, or only leave brokers that are not named."),
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Writes the plan for execute.")
    ] = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Propose who should hold what, with as few moves as that takes. Nothing is changed."""
    from tierlog.admin import reassign
    from tierlog.admin.client import Client
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        answer = reassign.plan(client, topic, broker_ids(brokers), balance=balance)
    if out is not None:
        write_plan(out, answer["plan"])
    output.show(answer, format, lambda console: draw_plan(console, answer))


@app.command()
def execute(
    plan: PlanFile,
    throttle: Throttle = None,
    wait: Wait = False,
    wait_timeout: WaitTime = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Begin the moves of a plan. The answer holds the plan that brings back what was. Exit code 1 where one cannot begin."""
    from tierlog.admin import reassign
    from tierlog.admin.client import Client
    from tierlog.cli import output

    moves = read_plan(plan)
    with Client(bootstrap_server, timeout) as client:
        answer = reassign.execute(client, moves, throttle)
        if wait:
            begun = [move for move in moves if move.name not in answer["failures"]]
            answer["status"] = reassign.wait(client, begun, wait_timeout, tell)
            if throttle is not None and answer["status"]["moving"] == 0:
                reassign.unthrottle(client, {move.topic for move in moves})
    output.show(answer, format, lambda console: draw_begun(console, answer))
    if answer["failures"] or (wait and answer["status"]["done"] < answer["begun"]):
        raise typer.Exit(1)


@app.command()
def status(
    plan: MaybePlanFile = None,
    keep_throttle: Annotated[
        bool, typer.Option("--keep-throttle", help="Do not lift it where the plan is done.")
    ] = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """How far a plan is, or all that moves; bytes left are at most that many, since what is tiered is not copied.

    Where the plan is done, its throttles are lifted. Exit code 1: something of the plan is elsewhere and not on its way.
    """
    from tierlog.admin import reassign
    from tierlog.admin.client import Client
    from tierlog.cli import output

    moves = None if plan is None else read_plan(plan)
    with Client(bootstrap_server, timeout) as client:
        answer = reassign.status(client, moves)
        if moves is not None and answer["moving"] == 0 and not keep_throttle:
            reassign.unthrottle(client, {move.topic for move in moves})
    output.show(answer, format, lambda console: draw_status(console, answer))
    if answer["elsewhere"]:
        raise typer.Exit(1)


@app.command()
def cancel(
    plan: MaybePlanFile = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Take back what is under way, and its throttles: the replicas from before stay, new ones go."""
    from tierlog.admin import reassign
    from tierlog.admin.client import Client
    from tierlog.cli import output

    moves = None if plan is None else read_plan(plan)
    with Client(bootstrap_server, timeout) as client:
        answer = reassign.cancel(client, moves)
    output.show(answer, format, lambda console: draw_cancelled(console, answer))
    if answer["failures"]:
        raise typer.Exit(1)


# -- files and ids


def read_plan(path: Path) -> list[Move]:
    import sys

    from tierlog.errors import UserError
    from tierlog.metadata.control.reassignment_plan import parse_plan

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return parse_plan(text, str(path))


def write_plan(path: Path, value: dict[str, Any]) -> None:
    import json

    from tierlog.errors import UserError

    try:
        path.write_text(json.dumps(value) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def broker_ids(text: str | None) -> list[int] | None:
    from tierlog.errors import UserError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"--brokers {text}: expected broker ids separated by commas")
    return [int(part) for part in parts]


# -- drawings


def tell(progress: dict[str, Any]) -> None:
    """One line on stderr while somebody waits."""
    from tierlog.cli import output

    output.errors().print(f"[dim]{summary(progress)}[/]")


def summary(progress: dict[str, Any]) -> str:
    from tierlog.cli.output import number, size

    text = f"{number(progress['moving'])} moving, {number(progress['done'])} done"
    if progress["moving"]:
        text += f", at most {size(progress['bytes_left'])} left"
        if progress["bytes_per_second"]:
            text += f" at {size(progress['bytes_per_second'])}/s"
        if progress["eta_s"] is not None:
            text += f", about {progress['eta_s']:.0f} s to go"
    return text


def _replicas(ids: list[int]) -> str:
    return ",".join(map(str, ids))


def draw_plan(console: Console, answer: dict[str, Any]) -> None:
    from tierlog.cli import output
    from tierlog.cli.output import number

    rows = list(zip(answer["current"]["partitions"], answer["plan"]["partitions"], strict=True))
    if not rows:
        console.print("Nothing to move.")
        return
    made = output.table("TOPIC", ">PARTITION", "NOW", "PLAN")
    for now, then in rows[:MAX_ROWS]:
        made.add_row(
            now["topic"], number(now["partition"]), _replicas(now["replicas"]), _replicas(then["replicas"])
        )
    console.print(made)
    more = len(rows) - MAX_ROWS
    console.print(f"\n{number(len(rows))} partitions{f', {more} more not shown' if more > 0 else ''}")


def draw_begun(console: Console, answer: dict[str, Any]) -> None:
    from rich.markup import escape

    for name, why in answer["failures"].items():
        console.print(f"[red]●[/] {escape(name)}: {escape(why)}")
    console.print(f"{answer['begun']} partitions begin to move")
    if "status" in answer:
        console.print(summary(answer["status"]))


def draw_status(console: Console, answer: dict[str, Any]) -> None:
    from tierlog.cli import output
    from tierlog.cli.output import number, size

    rows = [row for row in answer["partitions"] if row["state"] != "done"]
    if rows:
        made = output.table("TOPIC", ">PARTITION", "STATE", "REPLICAS", "TARGET", ">COPIED", ">AT MOST LEFT")
        for row in rows[:MAX_ROWS]:
            made.add_row(
                row["topic"],
                number(row["partition"]),
                f"[{STATES[row['state']]}]{row['state']}[/]",
                _replicas(row["replicas"]),
                _replicas(row["target"]),
                size(row["bytes_copied"]),
                size(row["bytes_left"]),
            )
        console.print(made)
        console.print()
    console.print(summary(answer))


def draw_cancelled(console: Console, answer: dict[str, Any]) -> None:
    from rich.markup import escape

    for name, why in answer["failures"].items():
        console.print(f"[red]●[/] {escape(name)}: {escape(why)}")
    console.print(f"{len(answer['cancelled'])} moves cancelled")
