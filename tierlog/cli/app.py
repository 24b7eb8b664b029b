"""The tree of commands. Modules of commands import what they need when they run, so that each starts fast."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tierlog.cli import (
    cluster_commands,
    reassign_commands,
    storage_commands,
    tier_commands,
    topic_commands,
)
from tierlog.cli.bill import capacity_commands, cost_commands, ledger_commands
from tierlog.cli.extras import needed
from tierlog.cli.history import replay_commands, sql_commands
from tierlog.cli.table import commands as table
from tierlog.errors import TierlogError, UserError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_PROCESSES = 256

app = typer.Typer(
    name="tierlog",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A log cluster that speaks the Kafka protocol and tiers sealed segments to an object store.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 over a budget. Answers go to stdout, everything else to stderr.",
)
app.add_typer(topic_commands.app, name="topic")
app.add_typer(storage_commands.app, name="storage")
app.add_typer(tier_commands.app, name="tier")
app.add_typer(cost_commands.app, name="cost")
app.add_typer(capacity_commands.app, name="capacity")
app.add_typer(ledger_commands.app, name="ledger")
app.add_typer(cluster_commands.app, name="cluster")
app.add_typer(reassign_commands.app, name="reassign")
app.add_typer(table.app, name="table")
app.command(rich_help_panel="Read")(replay_commands.replay)
app.command(rich_help_panel="Read")(sql_commands.sql)

Override = Annotated[
    list[str] | None,
    typer.Option("--override", metavar="KEY=VALUE", help="A broker property; may be repeated."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from tierlog import kernel

        typer.echo(f"tierlog {version('tierlog')}, {kernel.name()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Nothing of its own: see the commands."""


@app.command(rich_help_panel="Run")
def up(
    data: Annotated[Path | None, typer.Option(help="Where everything is kept.", show_default="data")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Kafka protocol port.", show_default="9092")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of /metrics and health; -1 for none.", show_default="9464")
    ] = None,
    brokers: Annotated[
        int, typer.Option("--brokers", min=1, max=MAX_PROCESSES, help="So many, on ports that follow.")
    ] = 1,
    override: Override = None,
) -> None:
    """Start a broker, or several, on embedded defaults: SQLite metadata and a directory as object store.

    Options win over the environment (KAFKA_…), the environment over the defaults.
    """
    from tierlog.cli.broker import embedded, run_broker

    config = embedded(data, host, port, http_port, override or [])
    if brokers == 1:
        run_broker(config, greet=True)
        return
    from tierlog.cli.supervisor import members, run_brokers

    given = {"--data": data, "--host": host, "--port": port, "--http-port": http_port}
    arguments = ["up", *(f"{name}={value}" for name, value in given.items() if value is not None)]
    run_brokers(arguments + overriding(override), members(config, brokers, "--brokers"))


@app.command(rich_help_panel="Run")
def broker(
    config: Annotated[Path | None, typer.Option(help="server.properties, with Kafka's own names.")] = None,
    processes: Annotated[
        int,
        typer.Option(
            "--processes", min=1, max=MAX_PROCESSES, help="So many brokers: node.id and ports count on."
        ),
    ] = 1,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Look at the object store first, as tierlog storage doctor does; errors end it."
        ),
    ] = False,
    override: Override = None,
) -> None:
    """Run one broker from a server.properties until SIGTERM, or one for each core of the machine."""
    from tierlog.cli.broker import configured, run_broker

    loaded = configured(config, override or [])
    if check:
        from tierlog.cli.doctor import check_before_start

        check_before_start(loaded)
    if processes == 1:
        run_broker(loaded)
        return
    from tierlog.cli.supervisor import members, run_brokers

    arguments = ["broker", *([] if config is None else [f"--config={config}"])]
    run_brokers(arguments + overriding(override), members(loaded, processes, "--processes"))


def overriding(overrides: list[str] | None) -> list[str]:
    """The options as they were given."""
    return [part for text in overrides or [] for part in ("--override", text)]


def run() -> None:
    """Failures are one line on stderr (one for each mistake in a config) and exit code 1; wrong usage is exit code 2."""
    from tierlog.config.problems import WrongConfig

    try:
        _run_flushed()
    except WrongConfig as error:
        _fail(*error.lines)
    except UserError as error:
        _fail(str(error))
    except TierlogError as error:
        _fail(f"{type(error).__name__}: {error}")
    except ModuleNotFoundError as error:
        _fail(needed(error))
    except BrokenPipeError:
        # The reader of the pipe has ended (``| head``); nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"the output cannot be written: {error.strerror}; make room, or name another place")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _run_flushed() -> None:
    """What is still to be written to stdout fails here, and not when nobody can tell any more."""
    try:
        app(standalone_mode=True)
    finally:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()


def _fail(*lines: str) -> None:
    for line in lines:
        typer.secho("tierlog: ", err=True, fg="red", bold=True, nl=False)
        typer.echo(" ".join(line.split()), err=True)
    sys.exit(EXIT_FAILED)
