"""``tierlog table``: Iceberg tables of topics that keep themselves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from tierlog.cli.options import Format, Output
from tierlog.cli.replay_options import AnyBootstrap, BucketOption, ProgressForm, ProgressOption
from tierlog.cli.table.options import (
    CatalogOption,
    CatalogProperties,
    FileSize,
    Interval,
    Once,
    SkipDeleted,
    TableName,
    TopicName,
    Warehouse,
)

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from rich.console import Console

    from tierlog.replay.iceberg.following import Source

app = typer.Typer(no_args_is_help=True, help="Iceberg tables of topics that keep themselves.")


@app.command()
def create(
    topic: TopicName,
    iceberg: CatalogOption,
    table: TableName = None,
    warehouse: Warehouse = None,
    catalog_property: CatalogProperties = None,
    follow_interval: Interval = "60s",
    once: Once = False,
    file_bytes: FileSize = None,
    bootstrap: AnyBootstrap = None,
    bucket: BucketOption = None,
    progress: ProgressOption = ProgressForm.auto,
) -> None:
    """Make a table of a topic: its history from the very beginning, then what follows.

    Each record is in it once, whatever is killed; tierlog table follow goes on. SIGTERM ends it after a last commit.
    """
    from tierlog.cli.output import complain
    from tierlog.replay.iceberg import running
    from tierlog.replay.iceberg.tables import default_name

    name, source = table or default_name(topic), _source(topic, bootstrap, bucket)
    catalog = _catalog(iceberg, warehouse, catalog_property)
    pace = _pace(follow_interval, once, file_bytes)
    made = running.made(catalog, name, source)
    running.follow(made, source, pace, skips_deleted=False, tell=_telling(progress), complain=complain)


@app.command()
def follow(
    topic: TopicName,
    iceberg: CatalogOption,
    table: TableName = None,
    catalog_property: CatalogProperties = None,
    follow_interval: Interval = "60s",
    once: Once = False,
    skip_deleted: SkipDeleted = False,
    file_bytes: FileSize = None,
    bootstrap: AnyBootstrap = None,
    bucket: BucketOption = None,
    progress: ProgressOption = ProgressForm.auto,
) -> None:
    """Go on with a table: what it lacks, then what follows. One process for each table."""
    from tierlog.cli.output import complain
    from tierlog.replay.iceberg import running

    source = _source(topic, bootstrap, bucket)
    opened = _opened(iceberg, catalog_property, table, topic)
    pace = _pace(follow_interval, once, file_bytes)
    running.follow(
        opened, source, pace, skips_deleted=skip_deleted, tell=_telling(progress), complain=complain
    )


@app.command()
def describe(
    topic: TopicName,
    iceberg: CatalogOption,
    table: TableName = None,
    catalog_property: CatalogProperties = None,
    bootstrap: AnyBootstrap = None,
    bucket: BucketOption = None,
    output: Output = Format.table,
) -> None:
    """How far a table is: per partition the next offset, the topic's end, and the lag in offsets and time."""
    import asyncio

    from tierlog.cli.output import show
    from tierlog.replay.iceberg.described import description

    opened = _opened(iceberg, catalog_property, table, topic)
    now_ms = time.time_ns() // 1_000_000
    value = asyncio.run(description(opened, _source(topic, bootstrap, bucket), now_ms))
    show(value, output, lambda console: _draw(console, value))


def _draw(console: Console, value: dict[str, Any]) -> None:
    from tierlog.cli import output

    console.print(
        f"[bold]{value['table']}[/] of topic {value['topic']}: {output.number(value['records'])} records in "
        f"{output.number(value['files'])} files, {output.size(value['bytes'])}, {value['snapshots']} snapshots\n"
    )
    table = output.table(
        ">partition", ">next offset", ">end offset", ">lag", ">oldest waits", ">deleted unread"
    )
    for row in value["partitions"]:
        table.add_row(
            str(row["partition"]),
            output.number(row["next_offset"]),
            output.number(row["end_offset"]),
            output.number(row["lag_offsets"]),
            "–" if row["lag_ms"] is None else f"{row['lag_ms'] / 1_000:,.1f} s",
            output.number(row["deleted_offsets"]),
        )
    console.print(table)


def _source(topic: str, bootstrap: str | None, bucket: str | None) -> Source:
    from tierlog.cli.options import DEFAULT_BOOTSTRAP
    from tierlog.replay.iceberg.following import Source

    return Source(topic, bootstrap if bootstrap or bucket else DEFAULT_BOOTSTRAP, bucket)


def _catalog(iceberg: str, warehouse: str | None, properties: list[str] | None) -> Catalog:
    from tierlog.cli.output import pairs
    from tierlog.replay.iceberg.catalogs import open_catalog

    given = pairs(properties, "--catalog-property")
    return open_catalog(iceberg, given if warehouse is None else given | {"warehouse": warehouse})


def _opened(iceberg: str, properties: list[str] | None, table: str | None, topic: str) -> Table:
    catalog = _catalog(iceberg, None, properties)
    from tierlog.replay.iceberg.tables import default_name, opened

    return opened(catalog, table or default_name(topic), topic)


def _pace(interval: str, once: bool, file_bytes: str | None) -> Any:
    from tierlog.admin.cost.quantities import size_bytes
    from tierlog.replay.iceberg.running import Pace

    size = 0 if file_bytes is None else size_bytes(file_bytes, "--file-bytes")
    return Pace(_duration_s(interval, "--follow-interval"), once, size)


def _duration_s(text: str, option: str) -> float:
    from tierlog.admin.cost.quantities import age_ms
    from tierlog.errors import UserError

    found = -1 if text == "forever" else age_ms(text, option)
    if found < 0:
        raise UserError(f"{option} {text}: expected a duration, as 30s or 5m")
    return found / 1_000


def _telling(form: ProgressForm) -> Any:
    """Lines on stderr: one for each commit, or as JSON one at the end of each round too."""
    import json
    import sys

    from tierlog.cli.output import errors

    told = [0]

    def line(progress: Any) -> None:
        if form is ProgressForm.json:
            sys.stderr.write(json.dumps(progress._asdict()) + "\n")
            sys.stderr.flush()
        elif form is not ProgressForm.none and progress.commits > told[0]:
            told[0] = progress.commits
            behind = (
                f", {progress.lag_offsets:,} offsets left, most in {progress.behind}"
                if progress.behind
                else ""
            )
            errors().print(f"commit {progress.commits}: {progress.records:,} records so far{behind}")

    return line
