"""``tierlog sql``: a SELECT over topics, answered from bucket and brokers."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.history.replay_options import AnyBootstrap, BucketOption, MaxCost, NoLedger
from tierlog.cli.options import DryRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from tierlog.sql.connection import TopicRead

ROWS_AT_ONCE = 10_000


class RowFormat(StrEnum):
    """How rows are written to stdout; ``csv`` and ``jsonl`` as they come, so that any number fits."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    yaml = "yaml"
    csv = "csv"


def sql(
    statement: Annotated[
        str,
        typer.Argument(metavar="SELECT", help='Topics are tables; quote names that are SQL words: "offset".'),
    ],
    bootstrap: AnyBootstrap = None,
    bucket: BucketOption = None,
    disorder: Annotated[
        str | None,
        typer.Option(
            metavar="1h",
            help="By how much a record may be older than one before it: for upper bounds on timestamp.",
            show_default="as the segments show",
        ),
    ] = None,
    max_cost: MaxCost = None,
    no_ledger: NoLedger = False,
    dry_run: DryRun = False,
    output: Annotated[
        RowFormat, typer.Option("--format", "-o", envvar="TIERLOG_FORMAT", help="Of the rows, on stdout.")
    ] = RowFormat.table,
) -> None:
    """Ask topics with SQL (DuckDB). Bounds on partition, "offset" and timestamp limit what is read.

    Says first, on stderr, what of each topic is read and what that costs. Columns: topic, partition, "offset", timestamp,
    timestamp_type, key, value, headers, leader_epoch; keys and values are bytes: decode(value) makes text of them.
    """
    from tierlog.cli.options import DEFAULT_BOOTSTRAP, Format
    from tierlog.cli.output import errors, show
    from tierlog.errors import UserError
    from tierlog.sql.connection import connect
    from tierlog.times import duration_ms

    where = bootstrap if bootstrap or bucket else DEFAULT_BOOTSTRAP
    is_counted = not (no_ledger or dry_run)
    disorder_ms = None if disorder is None else duration_ms(disorder, "--disorder", least_ms=0)
    with connect(where, bucket, disorder_ms=disorder_ms, ledger=is_counted) as database:
        reads = database.reads(statement)
        plans = [_told(read) for read in reads]
        cost = sum(plan["price_usd"] or 0.0 for plan in plans)
        if max_cost is not None and cost > max_cost:
            raise UserError(
                f"the statement costs ${cost:,.2f}, more than --max-cost {max_cost:,.2f}: "
                'bound timestamp, partition or "offset" of the topic'
            )
        if dry_run:
            is_known = output.value in {each.value for each in Format}
            show(
                plans, Format(output.value) if is_known else Format.json, lambda console: _say(console, plans)
            )
            return
        _say(errors(), plans)
        answer = database.query(statement, reads)
        _write([str(each[0]) for each in answer.description or ()], _rows(answer), output)


def _told(read: TopicRead) -> dict[str, Any]:
    """What of a topic is read, before it is."""
    from tierlog.replay.plan import SegmentRead
    from tierlog.replay.price import price_of

    plan = read.plan
    return {
        "topic": read.topic,
        "is_bounded": read.is_bounded,
        "columns": read.columns,
        "offsets": plan.offsets,
        "segments": sum(isinstance(each, SegmentRead) for part in plan.partitions for each in part.reads),
        "remote_bytes": plan.remote_bytes,
        "local_bytes": plan.local_bytes,
        "gets": plan.gets,
        "price_usd": price_of(plan),
    }


def _say(console: Console, plans: list[dict[str, Any]]) -> None:
    for plan in plans:
        console.print(_sentence(plan), soft_wrap=True)


def _sentence(plan: dict[str, Any]) -> str:
    from rich.markup import escape

    from tierlog.cli import output

    price = plan["price_usd"]
    whole = (
        ""
        if plan["is_bounded"]
        else "[yellow]the whole topic, as nothing bounds timestamp, partition or offset:[/] "
    )
    cost = "" if price is None else f", about ${price:,.4f} by list price"
    return (
        f"[bold]{escape(plan['topic'])}[/]: reads {whole}{output.number(plan['offsets'])} offsets, "
        f"{output.size(plan['remote_bytes'])} of {output.number(plan['segments'])} segments in the bucket in "
        f"{output.number(plan['gets'])} GETs, {output.size(plan['local_bytes'])} from brokers{cost}"
    )


def _rows(answer: Any) -> Iterator[tuple[Any, ...]]:
    import duckdb

    from tierlog.errors import UserError

    while True:
        try:
            rows = answer.fetchmany(ROWS_AT_ONCE)
        except duckdb.Error as error:
            raise UserError(" ".join(str(error).split())) from error
        if not rows:
            return
        yield from rows


def _write(names: list[str], rows: Iterator[tuple[Any, ...]], form: RowFormat) -> None:
    import csv
    import json
    import sys

    from tierlog.cli import output
    from tierlog.cli.options import Format

    match form:
        case RowFormat.csv:
            writer = csv.writer(sys.stdout)
            writer.writerow(names)
            writer.writerows([_plain(cell) for cell in row] for row in rows)
        case RowFormat.jsonl:
            for row in rows:
                value = dict(zip(names, map(_plain, row), strict=True))
                sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        case _:
            found = [dict(zip(names, map(_plain, row), strict=True)) for row in rows]
            output.show(found, Format(form.value), lambda console: console.print(_drawn(names, found)))


def _drawn(names: list[str], rows: list[dict[str, Any]]) -> Any:
    from rich.markup import escape

    from tierlog.cli import output

    table = output.table(*map(escape, names))
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row.values()))
    return table


def _plain(cell: Any) -> Any:
    """As JSON knows it: bytes as text where they are, else as hexadecimal digits behind ``0x``."""
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return "0x" + cell.hex()
    if isinstance(cell, dict):
        return {str(key): _plain(value) for key, value in cell.items()}
    if isinstance(cell, list):
        return [_plain(each) for each in cell]
    if cell is None or isinstance(cell, (bool, int, float, str)):
        return cell
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
