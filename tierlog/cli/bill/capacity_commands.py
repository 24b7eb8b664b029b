"""``tierlog capacity``: how full disks are and will be, told from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tierlog.admin.cost.question import Question
from tierlog.cli.bill.ledger_options import EXIT_CROSSED, Out, ReportFormat, ReportOutput, asked
from tierlog.cli.option_sets import Command, with_options

if TYPE_CHECKING:
    from tierlog.admin.capacity import Change, Seen

app = typer.Typer(
    no_args_is_help=True,
    help="How full disks are and will be.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a disk is beyond the threshold.",
)

Threshold = Annotated[
    str, typer.Option("--disk-threshold", metavar="PERCENT", help="Exit code 3 when a disk is so full.")
]


class View(NamedTuple):
    """How an answer is shown, and when it is bad."""

    threshold: str
    format: str
    out: Path | None


def view(
    disk_threshold: Threshold = "80%", format: ReportOutput = ReportFormat.table, out: Out = None
) -> View:
    return View(disk_threshold, format, out)


def of_disks(command: Command) -> Command:
    """The options of both commands."""
    return with_options(view)(with_options(asked, since="90d", price_book=...)(command))


@app.command()
@of_disks
def report(question: Question, shown: View) -> None:
    """Local, duplicated and remote bytes, slopes with a band, days until disks are full, days that the store may be away."""
    from tierlog.admin.capacity import AS_IS

    _answer(question, shown, AS_IS)


@app.command()
@of_disks
def whatif(
    question: Question,
    shown: View,
    growth: Annotated[
        float, typer.Option(metavar="FACTOR", min=0.01, max=1000, help="Of what is written.")
    ] = 1.0,
    disk: Annotated[str | None, typer.Option(metavar="SIZE", help="Of each disk, as 4TiB.")] = None,
    brokers: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="The data spread over so many.")
    ] = None,
    local_retention: Annotated[
        str | None, typer.Option(metavar="AGE", help="Of tiered topics on disk, as 6h.")
    ] = None,
) -> None:
    """The same report after a change: more growth, other disks, other brokers, another local retention."""
    from tierlog.admin.capacity import Change
    from tierlog.admin.cost.quantities import size_bytes
    from tierlog.times import duration_ms

    local_ms = None if local_retention is None else duration_ms(local_retention, "--local-retention")
    change = Change(growth, None if disk is None else size_bytes(disk, "--disk"), brokers, local_ms)
    _answer(question, shown, change)


def _answer(question: Question, shown: View, change: Change) -> None:
    from tierlog.admin.capacity import UNSEEN, Known, capacity, filled
    from tierlog.admin.cost.asked import cluster, rows_of
    from tierlog.admin.cost.names import retention_of
    from tierlog.admin.cost.quantities import percent
    from tierlog.admin.cost.written import refuse_inputs
    from tierlog.cli.bill.capacity_drawing import draw_capacity
    from tierlog.cli.bill.cost_output import complain_of_rows, write_rows, write_text, write_value

    refuse_inputs(shown.out, question.rows)
    threshold = percent(shown.threshold, "--disk-threshold")
    _, rows = rows_of(question, UNSEEN)
    watched, filling = filled(rows)
    topics = watched.topics
    with cluster(question) as client:
        retention = retention_of(client, topics)
    told = capacity(filling, threshold, change, Known(question.now_ms, retention, _seen(question, topics)))
    if shown.format == "html":
        from tierlog.admin.cost.html import capacity_page

        write_text(capacity_page(told, watched.days, filling.disks()), shown.out)
    elif shown.format in ("csv", "parquet"):
        write_rows([_flat(disk) for disk in told["disks"]], shown.format, shown.out)
    else:
        write_value(told, shown.format, shown.out, lambda console: draw_capacity(console, told))
    complain_of_rows(question)
    if told["is_crossed"]:
        raise typer.Exit(EXIT_CROSSED)


def _seen(question: Question, topics: set[str]) -> dict[str, Seen]:
    if question.bootstrap is None and question.bucket is None:
        return {}
    import asyncio

    from tierlog.cli.extras import needed

    try:
        from tierlog.replay.seen import seen_topics
    except ModuleNotFoundError as error:
        question.warnings.append(f"times and compression are left out: {needed(error)}")
        return {}
    return asyncio.run(seen_topics(question.bootstrap, question.bucket, topics, question.warnings.append))


def _flat(disk: dict[str, Any]) -> dict[str, Any]:
    days = {
        f"{name}_{level}": disk[name][level]
        for name in ("days_to_threshold", "days_to_full")
        for level in ("p50", "p90")
    }
    return {name: value for name, value in disk.items() if not isinstance(value, (dict, list))} | days
