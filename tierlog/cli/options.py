"""Options that every command spells alike. Imported for each start, so it imports only typer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


class Format(StrEnum):
    """How an answer is written to stdout."""

    table = "table"
    json = "json"
    yaml = "yaml"


Http = Annotated[
    str | None,
    typer.Option(
        "--http", metavar="HOST:PORT", help="HTTP address of the broker, where it does not tell it."
    ),
]
Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap-server",
        "-b",
        envvar="TIERLOG_BOOTSTRAP_SERVER",
        metavar="HOST:PORT,…",
        help="Any brokers of the cluster.",
    ),
]
Output = Annotated[
    Format,
    typer.Option(
        "--format", "-o", envvar="TIERLOG_FORMAT", help="Tables for people, JSON or YAML for programs."
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Of each request.")]
Configs = Annotated[
    list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE", help="May be repeated.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
