"""``tierlog capacity``: how full disks are and will be, told from the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.bill.cost_commands import (
    EXIT_CROSSED,
    Bucket,
    OfCluster,
    Out,
    ReportFormat,
    ReportOutput,
    Rows,
    Since,
    Until,
)
from tierlog.cli.options import Timeout

if TYPE_CHECKING:
    from pathlib import Path

    from tierlog.admin.capacity import Change

app = typer.Typer(
    no_args_is_help=True,
    help="How full disks are and will be.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a disk is beyond the threshold.",
)

Threshold = Annotated[
    str, typer.Option("--disk-threshold", metavar="PERCENT", help="Exit code 3 when a disk is so full.")
]


@app.command()
def report(
    since: Since = "90d",
    until: Until = "now",
    disk_threshold: Threshold = "80%",
    rows: Rows = None,
    bootstrap_server: OfCluster = None,
    bucket: Bucket = None,
    format: ReportOutput = ReportFormat.table,
    out: Out = None,
    timeout: Timeout = 30.0,
) -> None:
    """Local, duplicated and remote bytes, slopes with a band, days until disks are full, days that the store may be away."""
    _answer(since, until, disk_threshold, rows, bootstrap_server, bucket, format, out, timeout, None)


@app.command()
def whatif(
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
    since: Since = "90d",
    until: Until = "now",
    disk_threshold: Threshold = "80%",
    rows: Rows = None,
    bootstrap_server: OfCluster = None,
    bucket: Bucket = None,
    format: ReportOutput = ReportFormat.table,
    out: Out = None,
    timeout: Timeout = 30.0,
) -> None:
    """The same report after a change: more growth, other disks, other brokers, another local retention."""
    from tierlog.admin.capacity import Change
    from tierlog.admin.cost.quantities import FOREVER_MS, age_ms, size_bytes
    from tierlog.errors import UserError

    local_ms = None if local_retention is None else age_ms(local_retention, "--local-retention")
    if local_ms == FOREVER_MS:
        raise UserError("--local-retention forever: no disk is large enough; give an age, as 6h")
    change = Change(growth, None if disk is None else size_bytes(disk, "--disk"), brokers, local_ms)
    _answer(since, until, disk_threshold, rows, bootstrap_server, bucket, format, out, timeout, change)


def _answer(
    since: str,
    until: str,
    disk_threshold: str,
    rows: Path | None,
    bootstrap_server: str | None,
    bucket: str | None,
    format: str,
    out: Path | None,
    timeout: float,
    change: Change | None,
) -> None:
    from tierlog.admin.capacity import AS_IS, capacity
    from tierlog.admin.cost.asked import cluster, rows_of
    from tierlog.admin.cost.names import retention_of
    from tierlog.admin.cost.quantities import percent
    from tierlog.cli.bill.capacity_drawing import draw_capacity
    from tierlog.cli.bill.cost_commands import asked
    from tierlog.cli.bill.cost_output import complain_of_rows, write_rows, write_text, write_value

    threshold = percent(disk_threshold, "--disk-threshold")
    question = asked(since, until, "s3", rows, bootstrap_server, timeout, bucket)
    _, found = rows_of(question)
    with cluster(question) as client:
        retention = retention_of(client, {row.topic for row in found if row.topic})
    told = capacity(found, threshold, AS_IS if change is None else change, retention)
    if format == "html":
        from tierlog.admin.cost.html import capacity_page

        write_text(capacity_page(told, found), out)
    elif format in ("csv", "parquet"):
        write_rows([_flat(disk) for disk in told["disks"]], format, out)
    else:
        write_value(told, format, out, lambda console: draw_capacity(console, told))
    complain_of_rows(question)
    if told["is_crossed"]:
        raise typer.Exit(EXIT_CROSSED)


def _flat(disk: dict[str, Any]) -> dict[str, Any]:
    days = {
        f"{name}_{level}": disk[name][level]
        for name in ("days_to_threshold", "days_to_full")
        for level in ("p50", "p90")
    }
    return {name: value for name, value in disk.items() if not isinstance(value, (dict, list))} | days
