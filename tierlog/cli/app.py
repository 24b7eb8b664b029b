"""The tree of commands. Modules of commands are imported when one of them runs, so that each starts fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tierlog.errors import UserError

app = typer.Typer(
    name="tierlog",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="A log cluster that speaks the Kafka protocol and tiers sealed segments to an object store.",
)

Override = Annotated[list[str], typer.Option("--override", help="A property as KEY=VALUE; may be repeated.")]


@app.command()
def broker(
    config: Annotated[Path | None, typer.Option(help="server.properties, with Kafka's own names.")] = None,
    override: Override = [],  # noqa: B006
) -> None:
    """Runs one broker until SIGTERM."""
    from tierlog.cli.broker import configured, run_broker

    run_broker(configured(config, override))


@app.command()
def up(
    data: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("data"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Kafka protocol port.")] = 9092,
    http_port: Annotated[int, typer.Option(help="Port of /metrics, /healthz, /readyz; -1 for none.")] = 9464,
    override: Override = [],  # noqa: B006
) -> None:
    """Runs one broker on embedded defaults: SQLite metadata and a directory as object store."""
    from tierlog.cli.broker import embedded, run_broker

    run_broker(embedded(data.absolute(), host, port, http_port, override))


def run() -> None:
    """Errors of the user are one line on stderr and exit code 1."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        typer.secho(f"tierlog: {error}", err=True, fg="red")
        sys.exit(1)
