"""The options of commands that answer from the ledger's rows. Imported for each start, so it imports nothing heavy."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tierlog.admin.cost.question import Question
from tierlog.cli.options import DEFAULT_BOOTSTRAP, Timeout

EXIT_CROSSED = 3


class ReportFormat(StrEnum):
    """How a report is written."""

    table = "table"
    json = "json"
    yaml = "yaml"
    csv = "csv"
    parquet = "parquet"
    html = "html"


Rows = Annotated[
    Path | None,
    typer.Option(
        "--rows", metavar="FILE", help="Rows of the ledger, JSON lines or Parquet, with no cluster."
    ),
]
Since = Annotated[str, typer.Option(metavar="WHEN", help="An age, as 30d, or a time, as 2026-11-01.")]
Until = Annotated[str, typer.Option(metavar="WHEN", help="As --since; its hour does not count.")]
PriceBook = Annotated[
    str,
    typer.Option("--price-book", metavar="FILE|NAME", help="Prices: a TOML file, or one that comes along."),
]
ReportOutput = Annotated[
    ReportFormat,
    typer.Option("--format", "-o", envvar="TIERLOG_FORMAT", help="csv and parquet hold every single charge."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to write it, instead of stdout.")
]
OfCluster = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-server",
        "-b",
        envvar="TIERLOG_BOOTSTRAP_SERVER",
        metavar="HOST:PORT,…",
        help="Any brokers.",
    ),
]
Bucket = Annotated[
    str | None,
    typer.Option("--bucket", metavar="URL", help="Where the ledger lies, as tierlog.object.store names it."),
]


def asked(
    since: Since = "30d",
    until: Until = "now",
    price_book: PriceBook = "s3",
    rows: Rows = None,
    bootstrap_server: OfCluster = None,
    bucket: Bucket = None,
    timeout: Timeout = 30.0,
) -> Question:
    """A file of rows, or a bucket, is enough by itself; else there must be a cluster."""
    where = bootstrap_server or (DEFAULT_BOOTSTRAP if rows is None and bucket is None else None)
    now_ms = time.time_ns() // 1_000_000
    return Question(since, until, price_book, rows, where, now_ms, timeout, bucket, [])
