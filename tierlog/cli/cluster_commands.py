"""``tierlog cluster``: the brokers of a cluster, and whether one may be restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli import feature_commands
from tierlog.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Format, Output, Timeout

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Brokers, their state and their share of the partitions.")
app.add_typer(feature_commands.app, name="features")

STATES = {"active": "green", "fenced": "yellow", "gone": "red"}


@app.command()
def status(
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP, format: Output = Format.table, timeout: Timeout = 30.0
) -> None:
    """Each broker: where it is, its state, what it leads and holds, and what it leads that lacks replicas."""
    from tierlog.admin.client import Client
    from tierlog.admin.cluster import status_of
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        answer = status_of(client)
    output.show(answer, format, lambda console: draw_status(console, answer))


@app.command("rolling-check")
def rolling_check(
    broker: Annotated[int | None, typer.Option("--broker", metavar="ID", help="Only this one.")] = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """May a broker be restarted now, with every partition led and writable meanwhile? Exit code 1 means no.

    Ask before each broker of a rolling restart; after one has come back, its replicas have to catch up first.
    """
    from tierlog.admin import cluster
    from tierlog.admin.client import Client
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        answer = cluster.rolling_check(client, broker)
    output.show(answer, format, lambda console: draw_check(console, answer))
    if not answer["safe"]:
        raise typer.Exit(1)


@app.command()
def decommission(
    broker: Annotated[int, typer.Argument(metavar="BROKER", help="Its id.")],
    throttle: Annotated[
        int | None, typer.Option("--throttle", metavar="BYTES", min=1, help="Per second, of each broker.")
    ] = None,
    wait_timeout: Annotated[
        float | None,
        typer.Option("--wait-timeout", metavar="SECONDS", help="Leave after so long; call again later."),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Keep the broker: take back what is not done yet.")
    ] = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Take a broker out for good: it gets no new replicas, its partitions move away, it is unregistered once it is stopped.

    May be interrupted and called again at any time. Exit code 1: not done yet.
    """
    from tierlog.admin import decommission as work
    from tierlog.admin.client import Client
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        if undo:
            answer = work.undo(client, broker)
        else:
            answer = work.decommission(client, broker, throttle, wait_timeout, tell)
    output.show(answer, format, lambda console: console.print(sentence(answer)))
    if answer["state"] not in ("unregistered", "kept"):
        raise typer.Exit(1)


def tell(answer: dict[str, Any]) -> None:
    from tierlog.cli import output

    output.errors().print(f"[dim]{sentence(answer)}[/]")


def sentence(answer: dict[str, Any]) -> str:
    """How far a decommission is, as a sentence."""
    from tierlog.cli.output import number, size

    broker = f"broker {answer['broker']}"
    match answer["state"]:
        case "unregistered":
            return f"{broker} is out of the cluster"
        case "drained":
            return f"{broker} holds nothing any more: stop it, and it is unregistered"
        case "kept":
            return f"{broker} stays"
    left = f"{broker}: {number(answer['left'])} partitions left, {number(answer['moving'])} moving"
    eta = "" if answer["eta_s"] is None else f", about {answer['eta_s']:.0f} s to go"
    return f"{left}, at most {size(answer['bytes_left'])}{eta}"


def draw_status(console: Console, answer: dict[str, Any]) -> None:
    from tierlog.cli import output
    from tierlog.cli.output import number

    store = answer["metadata_store"] or "the default beside the logs"
    controller = "none" if answer["controller"] is None else f"broker {answer['controller']}"
    console.print(
        f"[bold]{answer['cluster_id']}[/]  [dim]controller[/] {controller}  [dim]metadata[/] {store}\n"
    )
    made = output.table(
        ">BROKER", "ADDRESS", "RACK", "STATE", ">LEADERS", ">REPLICAS", ">UNDER-REPLICATED", ">OUT OF SYNC"
    )
    for row in answer["brokers"]:
        colour = STATES[row["state"]]
        made.add_row(
            str(row["id"]) + (" *" if row["controller"] else ""),
            f"{row['host']}:{row['port']}" if row["host"] is not None else "–",
            row["rack"] or "–",
            f"[{colour}]{row['state']}[/]",
            *(_count(row[key], key) for key in ("leaders", "replicas", "under_replicated", "out_of_sync")),
        )
    console.print(made)
    console.print(
        f"\n{number(answer['partitions'])} partitions, {number(answer['under_replicated'])} under-replicated, "
        f"{number(answer['without_leader'])} without a leader   [dim]* the controller[/]"
    )


def _count(value: int, key: str) -> str:
    from tierlog.cli.output import number

    is_bad = value and key in ("under_replicated", "out_of_sync")
    return f"[red]{number(value)}[/]" if is_bad else number(value)


def draw_check(console: Console, answer: dict[str, Any]) -> None:
    from tierlog.cli import output
    from tierlog.cli.output import number

    for problem in answer["problems"]:
        console.print(f"[red]●[/] {problem}")
    made = output.table(">BROKER", "RESTART", ">WITHOUT LEADER", ">BELOW MIN ISR", "FOR INSTANCE")
    for row in answer["brokers"]:
        is_safe = row["safe"] and not answer["problems"]
        made.add_row(
            str(row["id"]),
            "[green]yes[/]" if is_safe else "[red]not now[/]",
            number(row["without_leader"]),
            number(row["below_min_isr"]),
            ", ".join(row["examples"]) or "–",
        )
    console.print(made)
