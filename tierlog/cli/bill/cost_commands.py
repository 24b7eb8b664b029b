"""``tierlog cost``: what a cluster costs, told from measured requests and bytes."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiering.cost.payers import By
from tierlog.admin.cost.question import Question
from tierlog.cli.bill.ledger_options import EXIT_CROSSED, Out, ReportFormat, ReportOutput, asked
from tierlog.cli.option_sets import with_options
from tierlog.cli.options import Format, Output

if TYPE_CHECKING:
    from rich.console import Console

    from tierlog.admin.cost.whatif import Planned, Range

app = typer.Typer(
    no_args_is_help=True,
    help="What a cluster costs, from measured requests and bytes.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a budget is crossed.",
)


class Provider(StrEnum):
    """Whose price lists can be read."""

    AWS = "aws"
    GCP = "gcp"


class ExportFormat(StrEnum):
    """How rows are written."""

    PARQUET = "parquet"
    CSV = "csv"


Topic = Annotated[str, typer.Argument(metavar="TOPIC")]
Owners = Annotated[
    Path | None, typer.Option("--owners", metavar="FILE", help="Rules that name owners of topics (TOML).")
]


@app.command()
@with_options(asked)
def report(
    question: Question,
    by: Annotated[By, typer.Option(help="Who pays.")] = By.TOPIC,
    budget: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Exit code 3 when a month at this pace costs more.")
    ] = None,
    owners: Owners = None,
    format: ReportOutput = ReportFormat.table,
    out: Out = None,
) -> None:
    """Disk, remote storage, requests, retrieval, traffic between zones; beside it the same data with no tier."""
    from tierlog.admin.cost.asked import report as cost_report
    from tierlog.admin.cost.quantities import amount
    from tierlog.admin.cost.written import refuse_inputs
    from tierlog.cli.bill.cost_output import write_report

    refuse_inputs(out, question.rows, question.price_book, owners)
    is_single = format in (ReportFormat.csv, ReportFormat.parquet)
    answer = cost_report(question, str(by), owners, amount(budget, "--budget"), is_single)
    write_report(answer, format, out)
    _end(question, answer.value)


@app.command()
@with_options(asked)
def whatif(
    question: Question,
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
    format: Output = Format.table,
) -> None:
    """What a topic would cost a month with other settings, against what it costs now. Changes nothing."""
    from tierlog.admin.cost.whatif import Wish, what_if
    from tierlog.cli.bill.cost_drawing import draw_whatif

    wish = Wish(retention, local_retention, segment_bytes, tiers, compression, rf)
    told = what_if(question, topic, wish)
    _tell(question, told, format, draw_whatif)


@app.command()
@with_options(asked)
def replay(
    question: Question,
    topic: Topic,
    from_: Annotated[str, typer.Option("--from", metavar="WHEN", help="An age, as 90d, or a time.")],
    to: Annotated[str, typer.Option("--to", metavar="WHEN", help="As --from.")] = "now",
    get_bytes: Annotated[str, typer.Option(metavar="SIZE", help="What one GET reads.")] = "4MiB",
    budget: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Exit code 3 when the replay costs more.")
    ] = None,
    format: Output = Format.table,
) -> None:
    """What reading a time again would cost: GETs and retrieval by class. Reads no record.

    Told from the segments that hold it, where a cluster or a bucket can be asked, else from the ledger's means.
    """
    from tierlog.admin.cost.quantities import amount
    from tierlog.admin.cost.whatif import range_of, replay_cost
    from tierlog.cli.bill.cost_drawing import draw_replay

    limit, wanted = amount(budget, "--budget"), range_of(question, topic, from_, to, get_bytes)
    told = replay_cost(question, wanted, _planned(question, wanted), limit)
    _tell(question, told, format, draw_replay)


@app.command()
@with_options(asked)
def export(
    question: Question,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    focus: Annotated[str, typer.Option(metavar="VERSION", help="Of the specification.")] = "1.2",
    format: Annotated[
        ExportFormat, typer.Option("--format", "-o", help="Parquet or CSV.")
    ] = ExportFormat.PARQUET,
    account: Annotated[str, typer.Option(metavar="ID", help="BillingAccountId.")] = "tierlog",
    owners: Owners = None,
) -> None:
    """The bill as FOCUS rows, for whatever reads the bills of clouds: a row for each charge and day."""
    from tierlog.admin.cost.asked import focus_export
    from tierlog.admin.cost.written import refuse_inputs
    from tierlog.cli.bill.cost_output import complain_of_age, complain_of_rows, write_rows

    refuse_inputs(out, question.rows, question.price_book, owners)
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
    from tierlog.admin.cost.written import refuse_inputs
    from tierlog.cli.bill.cost_output import write_text
    from tierlog.cli.output import complain

    refuse_inputs(out, *files)
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


def _planned(question: Question, wanted: Range) -> Planned | None:
    """None where no catalog can be asked."""
    if question.bootstrap is None and question.bucket is None:
        return None
    import asyncio

    from tierlog.cli.extras import needed
    from tierlog.errors import UserError

    try:
        from tierlog.replay.amounts import planned_amounts
    except ModuleNotFoundError as error:
        question.warnings.append(f"told from means: {needed(error)}")
        return None
    try:
        return asyncio.run(planned_amounts(question.bootstrap, question.bucket, *wanted))
    except UserError as error:
        if question.rows is None:
            raise
        question.warnings.append(f"told from means: {error}")
        return None


def _tell(
    question: Question, told: dict[str, Any], format: Format, draw: Callable[[Console, dict[str, Any]], None]
) -> None:
    from tierlog.cli.output import show

    show(told, format, lambda console: draw(console, told))
    _end(question, told)


def _end(question: Question, told: dict[str, Any]) -> None:
    """What is wrong with the answer, and the exit code of a crossed budget."""
    from tierlog.cli.bill.cost_output import complain_of_age, complain_of_rows

    complain_of_age(told["book"])
    complain_of_rows(question)
    if (budget := told.get("budget")) and budget["is_crossed"]:
        raise typer.Exit(EXIT_CROSSED)
