"""``tierlog topic``: list, create, describe, alter, delete. Draws the answers of ``topics`` and ``topic_details``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.options import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    Configs,
    DryRun,
    Format,
    Output,
    Timeout,
    Yes,
)

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Topics: list, create, describe, alter, delete.")

Names = Annotated[list[str], typer.Argument(metavar="TOPIC…", help="One or more topics.")]
Internal = Annotated[bool, typer.Option("--exclude-internal", help="Leave out the cluster's own topics.")]
BROKER_DEFAULT = -1


@app.command("list")
def list_(
    matching: Annotated[
        str, typer.Argument(metavar="[REGEX]", help="Only matching names.", show_default=False)
    ] = "",
    exclude_internal: Internal = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """All topics, with what is wrong with them."""
    from tierlog.admin.client import Client
    from tierlog.admin.topics import list_topics
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        rows = list_topics(client, exclude_internal=exclude_internal, matching=matching)

    def draw(console: Console) -> None:
        if not rows:
            output.errors().print("[dim]no topics; make one with[/] [cyan]tierlog topic create NAME[/]")
            return
        made = output.table(
            "TOPIC", ">PARTITIONS", ">REPLICAS", ">UNDER-REPLICATED", ">UNAVAILABLE", "INTERNAL"
        )
        for row in rows:
            made.add_row(
                _dimmed(row["topic"], row["internal"]),
                str(row["partitions"]),
                str(row["replication_factor"]),
                _alarming(row["under_replicated"], "yellow"),
                _alarming(row["unavailable"], "red"),
                "yes" if row["internal"] else "",
            )
        console.print(made)

    output.show(rows, format, draw)


@app.command()
def create(
    topics: Names,
    partitions: Annotated[
        int, typer.Option("--partitions", "-p", help="How many.", show_default="the broker's num.partitions")
    ] = BROKER_DEFAULT,
    replication_factor: Annotated[
        int,
        typer.Option(
            "--replication-factor", "-r", help="Replicas of each.", show_default="the broker's default"
        ),
    ] = BROKER_DEFAULT,
    config: Configs = None,
    if_not_exists: Annotated[bool, typer.Option("--if-not-exists", help="It may be there already.")] = False,
    dry_run: DryRun = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Create topics, all alike."""
    from tierlog.admin.client import Client
    from tierlog.admin.topics import create_topics
    from tierlog.cli import output

    configs = output.pairs(config, "--config")
    with Client(bootstrap_server, timeout) as client:
        rows, failures = create_topics(
            client,
            topics,
            partitions,
            replication_factor,
            configs,
            if_not_exists=if_not_exists,
            dry_run=dry_run,
        )

    def draw(console: Console) -> None:
        from rich.markup import escape

        for row in rows:
            if "topic_id" not in row:
                console.print(f"[yellow]exists[/]   {row['topic']}")
                continue
            verb = "[yellow]would be created[/]" if dry_run else "[green]created[/]"
            console.print(
                f"{verb}  [bold]{row['topic']}[/]  partitions {row['partitions']}"
                f"  replicas {row['replication_factor']}  [dim]{row['topic_id']}[/]"
            )
            for key, value in row["configs"].items():
                console.print(f"         [dim]{key}[/] = {escape(value)}")

    output.show(rows, format, draw)
    _exit_on(failures)


@app.command()
def describe(
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC]…", help="All where none is named.")
    ] = None,
    all_configs: Annotated[
        bool, typer.Option("--all-configs", help="Those left at their default too.")
    ] = False,
    exclude_internal: Internal = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Partitions with leader, ISR and offsets, and the configs that differ from the defaults."""
    from tierlog.admin.client import Client
    from tierlog.admin.topic_details import describe_topics
    from tierlog.cli import output

    with Client(bootstrap_server, timeout) as client:
        described = describe_topics(
            client, topics or None, exclude_internal=exclude_internal, all_configs=all_configs
        )

    def draw(console: Console) -> None:
        for number, topic in enumerate(described):
            if number:
                console.print()
            _draw_topic(console, topic, all_configs)

    output.show(described, format, draw)


def _draw_topic(console: Console, topic: dict[str, Any], all_configs: bool) -> None:
    from rich.markup import escape

    from tierlog.cli import output

    count = len(topic["partitions"])
    console.print(
        f"[bold]{topic['topic']}[/]  [dim]id[/] {topic['topic_id']}  [dim]partitions[/] {count}"
        f"  [dim]replicas[/] {topic['replication_factor']}"
        + ("  [dim]internal[/]" if topic["internal"] else "")
    )
    if topic["configs"]:
        console.print()
        made = output.table("CONFIG", "VALUE", *(["SET BY"] if all_configs else []))
        for name, config in topic["configs"].items():
            value = "" if config["value"] is None else escape(config["value"])
            made.add_row(name, value, *([config["source"]] if all_configs else []))
        console.print(made)
    console.print()
    made = output.table(">PARTITION", ">LEADER", ">EPOCH", "REPLICAS", "ISR", "OFFLINE", ">START", ">END")
    for row in topic["partitions"]:
        lagging = len(row["isr"]) < len(row["replicas"])
        made.add_row(
            str(row["partition"]),
            "[red]none[/]" if row["leader"] is None else str(row["leader"]),
            str(row["leader_epoch"]),
            _ids(row["replicas"]),
            f"[yellow]{_ids(row['isr'])}[/]" if lagging else _ids(row["isr"]),
            f"[red]{_ids(row['offline'])}[/]" if row["offline"] else "",
            output.number(row["start_offset"]),
            output.number(row["end_offset"]),
        )
    console.print(made)


@app.command()
def alter(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    config: Configs = None,
    delete_config: Annotated[
        list[str] | None,
        typer.Option("--delete-config", metavar="KEY", help="Back to the default; may be repeated."),
    ] = None,
    partitions: Annotated[
        int | None, typer.Option("--partitions", "-p", help="Grow to so many.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Set configs, take them back, add partitions; shows before and after."""
    from tierlog.admin.client import Client
    from tierlog.admin.topic_details import alter_topic
    from tierlog.cli import output

    configs = output.pairs(config, "--config")
    if not configs and not delete_config and partitions is None:
        raise typer.BadParameter("nothing to alter: give --config, --delete-config or --partitions")
    with Client(bootstrap_server, timeout) as client:
        altered = alter_topic(client, topic, configs, delete_config or [], partitions, dry_run=dry_run)

    def draw(console: Console) -> None:
        made = output.table("CONFIG", "BEFORE", "AFTER")
        for change in altered["changes"]:
            made.add_row(
                change["config"], f"[dim]{_text(change['before'])}[/]", f"[bold]{_text(change['after'])}[/]"
            )
        console.print(made)
        if dry_run:
            output.errors().print("[yellow]nothing was changed (--dry-run)[/]")

    output.show(altered, format, draw)


@app.command()
def delete(
    topics: Names,
    yes: Yes = False,
    if_exists: Annotated[bool, typer.Option("--if-exists", help="They may be gone already.")] = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Delete topics with all their data, local and remote."""
    from tierlog.admin.client import Client
    from tierlog.admin.topics import delete_topics
    from tierlog.cli import output
    from tierlog.errors import UserError

    if not yes:
        if not sys.stdin.isatty():
            raise UserError("this deletes data and nobody can be asked here: say --yes")
        typer.confirm(f"Delete {', '.join(topics)} with all data, local and remote?", abort=True, err=True)
    with Client(bootstrap_server, timeout) as client:
        rows, failures = delete_topics(client, topics, if_exists=if_exists)

    def draw(console: Console) -> None:
        for row in rows:
            verb = "[green]deleted[/]" if row["deleted"] else "[yellow]was not there[/]"
            console.print(f"{verb}  [bold]{row['topic']}[/]")

    output.show(rows, format, draw)
    _exit_on(failures)


def _exit_on(failures: list[str]) -> None:
    """One failed item fails the command, after the answer for the others."""
    from tierlog.cli import output

    for failure in failures:
        output.complain(failure)
    if failures:
        raise typer.Exit(1)


def _text(value: str | None) -> str:
    from rich.markup import escape

    return "none" if value is None else escape(value)


def _ids(ids: list[int]) -> str:
    return ",".join(map(str, ids))


def _alarming(count: int, colour: str) -> str:
    return f"[{colour}]{count}[/]" if count else "0"


def _dimmed(text: str, condition: bool) -> str:
    return f"[dim]{text}[/]" if condition else text
