"""``tierlog cost``: what a cluster costs, told from measured requests and bytes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tierlog.cli.options import DEFAULT_BOOTSTRAP, Format, Output, Timeout

if TYPE_CHECKING:
    from tierlog.admin.cost.asked import Question

EXIT_CROSSED = 3

app = typer.Typer(
    no_args_is_help=True,
    help="What a cluster costs, from measured requests and bytes.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a budget is crossed.",
)


class By(StrEnum):
    """Who pays."""

    TOPIC = "topic"
    PARTITION = "partition"
    PRINCIPAL = "principal"
    GROUP = "group"
    OWNER = "owner"


class ReportFormat(StrEnum):
    """How a report is written."""

    table = "table"
    json = "json"
    yaml = "yaml"
    csv = "csv"
    parquet = "parquet"
    html = "html"


class Provider(StrEnum):
    """Whose price lists can be read."""

    AWS = "aws"
    GCP = "gcp"


class ExportFormat(StrEnum):
    """How rows are written."""

    PARQUET = "parquet"
    CSV = "csv"


Topic = Annotated[str, typer.Argument(metavar="TOPIC")]
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
Budget = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", help="Exit code 3 when a month at this pace costs more."),
]
ReportOutput = Annotated[
    ReportFormat,
    typer.Option("--format", "-o", envvar="TIERLOG_FORMAT", help="csv and parquet hold every single charge."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to write it, instead of stdout.")
]
Owners = Annotated[
    Path | None, typer.Option("--owners", metavar="FILE", help="Rules that name owners of topics (TOML).")
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


@app.command()
def report(
    by: Annotated[By, typer.Option(help="Who pays.")] = By.TOPIC,
    since: Since = "30d",
    until: Until = "now",
    price_book: PriceBook = "s3",
    budget: Budget = None,
    owners: Owners = None,
    rows: Rows = None,
    bootstrap_server: OfCluster = None,
    bucket: Bucket = None,
    format: ReportOutput = ReportFormat.table,
    out: Out = None,
    timeout: Timeout = 30.0,
) -> None:
    """Disk, remote storage, requests, retrieval, traffic between zones; beside it the same data with no tier."""
    from tierlog.admin.cost.asked import report as cost_report
    from tierlog.admin.cost.quantities import amount
    from tierlog.cli.bill.cost_output import complain_of_age, complain_of_rows, write_report

    question = asked(since, until, price_book, rows, bootstrap_server, timeout, bucket)
    answer = cost_report(question, str(by), owners, amount(budget, "--budget"))
    write_report(answer, format, out)
    complain_of_age(answer.value["book"])
    complain_of_rows(question)
    if answer.value["budget"] and answer.value["budget"]["is_crossed"]:
        raise typer.Exit(EXIT_CROSSED)


@app.command()
def whatif(
    topic: Topic,
    retention: Annotated[str | None, typer.Option(metavar="AGE", help="As 90d, or forever.")] = None,
    local_retention: Annotated[str | None, typer.Option(metavar="AGE", help="On disk, as 6h.")] = None,
    segment_bytes: Annotated[str | None, typer.Option(metavar="SIZE", help="As 512MiB.")] = None,
    tiers: Annotated[
        str | None, typer.Option(metavar="LADDER", help="As local:6h,standard:30d,infrequent:1y.")
    ] = None,
    compression: Annotated[
        str | None, typer.Option(metavar="CODEC[:RATIO]", help="As zstd, or zstd:0.6 of what is written now.")
    ] = None,
    rf: Annotated[int | None, typer.Option("--rf", min=1, max=100, help="Replicas.")] = None,
    since: Since = "30d",
    until: Until = "now",
    price_book: PriceBook = "s3",
    rows: Rows = None,
    bootstrap_server: OfCluster = None,
    bucket: Bucket = None,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """What a topic would cost a month with other settings, against what it costs now. Changes nothing."""
    from tierlog.admin.cost.whatif import Wish, what_if
    from tierlog.cli.bill.cost_drawing import draw_whatif
    from tierlog.cli.bill.cost_output import complain_of_age, complain_of_rows
    from tierlog.cli.output import show

    question = asked(since, until, price_book, rows, bootstrap_server, timeout, bucket)
    wish = Wish(retention, local_retention, segment_bytes, tiers, compression, rf)
    told = what_if(question, topic, wish)
    show(told, format, lambda console: draw_whatif(console, told))
    complain_of_age(told["book"])
    complain_of_rows(question)


@app.command()
def replay(
    topic: Topic,
    from_: Annotated[str, typer.Option("--from", metavar="WHEN", help="An age, as 90d, or a time.")],
    to: Annotated[str, typer.Option("--to", metavar="WHEN", help="As --from.")] = "now",
    get_bytes: Annotated[str, typer.Option(metavar="SIZE", help="What one GET reads.")] = "4MiB",
    budget: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Exit code 3 when the replay costs more.")
    ] = None,
    since: Since = "30d",
    until: Until = "now",
    price_book: PriceBook = "s3",
    rows: Rows = None,
    bootstrap_server: OfCluster = None,
    bucket: Bucket = None,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """What reading a time again would cost: GETs and retrieval by class. Reads nothing."""
    from tierlog.admin.cost.quantities import amount
    from tierlog.admin.cost.whatif import replay_cost
    from tierlog.cli.bill.cost_drawing import draw_replay
    from tierlog.cli.bill.cost_output import complain_of_age, complain_of_rows
    from tierlog.cli.output import show

    question = asked(since, until, price_book, rows, bootstrap_server, timeout, bucket)
    told = replay_cost(question, topic, from_, to, get_bytes, amount(budget, "--budget"))
    show(told, format, lambda console: draw_replay(console, told))
    complain_of_age(told["book"])
    complain_of_rows(question)
    if told["budget"] and told["budget"]["is_crossed"]:
        raise typer.Exit(EXIT_CROSSED)


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    focus: Annotated[str, typer.Option(metavar="VERSION", help="Of the specification.")] = "1.2",
    format: Annotated[
        ExportFormat, typer.Option("--format", "-o", help="Parquet or CSV.")
    ] = ExportFormat.PARQUET,
    account: Annotated[str, typer.Option(metavar="ID", help="BillingAccountId.")] = "tierlog",
    since: Since = "30d",
    until: Until = "now",
    price_book: PriceBook = "s3",
    owners: Owners = None,
    rows: Rows = None,
    bootstrap_server: OfCluster = None,
    bucket: Bucket = None,
    timeout: Timeout = 30.0,
) -> None:
    """The bill as FOCUS rows, for whatever reads the bills of clouds: a row for each charge and day."""
    from tierlog.admin.cost.asked import focus_export
    from tierlog.cli.bill.cost_output import complain_of_age, complain_of_rows, write_rows

    question = asked(since, until, price_book, rows, bootstrap_server, timeout, bucket)
    found = focus_export(question, owners, focus, account)
    write_rows(found.rows, str(format), out)
    complain_of_age(found.book)
    complain_of_rows(question)


@app.command("import-prices")
def import_prices(
    provider: Annotated[Provider, typer.Argument(metavar="aws|gcp", help="Whose price list it is.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON as the provider publishes it; several add up."),
    ],
    region: Annotated[str | None, typer.Option(metavar="REGION", help="As the provider writes it.")] = None,
    out: Out = None,
) -> None:
    """Make a price book of a provider's own list: AWS's bulk JSON, or SKUs of Google's billing catalogue."""
    from tierlog.admin.cost.price_books import imported
    from tierlog.cli.bill.cost_output import write_text
    from tierlog.cli.output import complain

    text, missing = imported(str(provider), files, region)
    write_text(text, out)
    for what in missing:
        complain(f"the lists have no price of {what}: it is nothing in this book; name a list that has it")


@app.command()
def books(format: Output = Format.table) -> None:
    """The price books that come along, from when they are and where their figures come from."""
    import time
    from datetime import UTC, datetime

    from tierlog.admin.cost.price_books import shelf
    from tierlog.cli.bill.cost_drawing import draw_books
    from tierlog.cli.output import show

    rows = shelf(datetime.fromtimestamp(time.time(), UTC).date())
    show(rows, format, lambda console: draw_books(console, rows))


def asked(
    since: str,
    until: str,
    price_book: str,
    rows: Path | None,
    bootstrap_server: str | None,
    timeout: float,
    bucket: str | None,
) -> Question:
    """A file of rows, or a bucket, is enough by itself; else there must be a cluster."""
    import time

    from tierlog.admin.cost.asked import Question

    where = bootstrap_server or (DEFAULT_BOOTSTRAP if rows is None and bucket is None else None)
    now_ms = time.time_ns() // 1_000_000
    return Question(since, until, price_book, rows, where, now_ms, timeout, bucket, [])
