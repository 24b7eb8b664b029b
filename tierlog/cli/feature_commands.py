"""``tierlog cluster features``: the feature levels of a cluster, and raising them after a rolling upgrade."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Format, Output, Timeout

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(invoke_without_command=True, help="Feature levels: what is finalized, and raising it.")


@app.callback()
def show(
    context: typer.Context,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Each feature: its finalized level, and the levels that each broker supports."""
    if context.invoked_subcommand is not None:
        return
    from tierlog.admin.client import Client
    from tierlog.admin.features import features_of
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        answer = features_of(client)
    output.show(answer, format, lambda console: draw_features(console, answer))


@app.command()
def upgrade(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEATURE=LEVEL…]", help="To these levels.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Each feature as far as every broker supports it.")
    ] = False,
    dry_run: DryRun = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Finalize higher levels, once every broker runs the new version. All of them or none.

    An earlier version cannot run in the cluster then; whether a level can be lowered again depends on the feature.
    """
    from tierlog.admin import features
    from tierlog.admin.client import Client
    from tierlog.cli import output

    wishes = parse_wishes(wanted or [], everything)
    with Client(bootstrap_server, timeout) as client:
        answer = features.upgrade(client, wishes, dry_run=dry_run)
    for broker in answer["not_asked"]:
        output.errors().print(
            f"[dim]broker {broker} does not run and was not asked; it needs this version to start[/]"
        )
    output.show(answer, format, lambda console: draw_changes(console, answer))


def parse_wishes(texts: list[str], everything: bool) -> dict[str, int] | None:
    """None for all features. Raises UserError."""
    from tierlog.errors import UserError

    if everything == bool(texts):
        raise UserError(
            "name FEATURE=LEVEL or give --all, one of the two; tierlog cluster features shows what there is"
        )
    if everything:
        return None
    wishes = {}
    for text in texts:
        name, separator, level = text.partition("=")
        if not separator:
            raise UserError(f"{text}: expected FEATURE=LEVEL, such as tierlog.tier.format=2")
        if not level.isdecimal() or not 0 < int(level) < 1 << 15:
            raise UserError(
                f"{name}={level}: a level is a number from 1 on; tierlog cluster features shows them"
            )
        wishes[name] = int(level)
    return wishes


def draw_features(console: Console, answer: dict[str, Any]) -> None:
    from tierlog.cli import output

    made = output.table("FEATURE", ">LEVEL", ">POSSIBLE", "BROKERS SUPPORT", "WHAT IT IS")
    for row in answer["features"]:
        can_rise = row["possible"] > row["level"]
        possible = f"[green]{row['possible']}[/]" if can_rise else str(row["possible"])
        made.add_row(
            row["feature"],
            str(row["level"]),
            possible,
            describe_support(row["brokers"]),
            row["meaning"] or "–",
        )
    if not answer["features"]:
        output.errors().print("[dim]no features: every broker runs a version without them[/]")
        return
    console.print(made)
    for row in answer["features"]:
        if row["possible"] > row["level"]:
            command = f"tierlog cluster features upgrade {row['feature']}={row['possible']}"
            console.print(f"\n[dim]every broker supports more:[/] [cyan]{command}[/]")
        if row["held_up_by"]:
            console.print(f"\n{row['feature']} can rise further once {hold_up(row['held_up_by'])}")


def hold_up(brokers: list[int]) -> str:
    """Which brokers have to be upgraded, as the end of a sentence."""
    who = f"broker {brokers[0]} runs" if len(brokers) == 1 else f"brokers {', '.join(map(str, brokers))} run"
    return f"{who} the newer version too"


def describe_support(brokers: list[dict[str, Any]]) -> str:
    """``1-2``, or ``1-2 at 1, 3; 1 at 2`` where brokers differ."""

    def support(row: dict[str, Any]) -> str:
        if not row["running"]:
            return "not running"
        if row["max"] is None:
            return "unknown"
        return str(row["max"]) if row["min"] == row["max"] else f"{row['min']}-{row['max']}"

    found = [
        (text, [str(row["id"]) for row in rows])
        for text, rows in groupby(sorted(brokers, key=lambda row: (support(row), row["id"])), support)
    ]
    if len(found) == 1:
        return found[0][0]
    return "; ".join(f"{text} at {', '.join(ids)}" for text, ids in found)


def draw_changes(console: Console, answer: dict[str, Any]) -> None:
    if not answer["changes"]:
        reason = f"; more can once {hold_up(answer['held_up_by'])}" if answer["held_up_by"] else ""
        console.print(f"nothing to do: no level can rise{reason}")
    verb = "[yellow]would rise[/]" if answer["dry_run"] else "[green]has risen[/]"
    for change in answer["changes"]:
        console.print(f"{change['feature']} {verb} from level {change['before']} to {change['after']}")
