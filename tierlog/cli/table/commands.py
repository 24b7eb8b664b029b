"""``tierlog table``: Iceberg tables of topics that keep themselves."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import typer

from tierlog.cli.history.replay_options import AnyBootstrap, BucketOption, ProgressForm, ProgressOption
from tierlog.cli.memory import give_back
from tierlog.cli.options import DryRun, Format, Output, Yes
from tierlog.cli.table.options import (
    CatalogOption,
    CatalogProperties,
    CompactInterval,
    ExpireSnapshots,
    FileSize,
    Interval,
    Namespace,
    Once,
    Purge,
    RemoveLeftovers,
    SkipDeleted,
    SnapshotAge,
    TableName,
    TopicName,
    Warehouse,
)

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from rich.console import Console

    from tierlog.replay.iceberg.following import Progress, Source, Told
    from tierlog.replay.iceberg.running import Pace

app = typer.Typer(no_args_is_help=True, help="Iceberg tables of topics that keep themselves.")


@app.command()
def create(
    topic: TopicName,
    iceberg: CatalogOption,
    table: TableName = None,
    warehouse: Warehouse = None,
    catalog_property: CatalogProperties = None,
    follow_interval: Interval = "60s",
    compact_interval: CompactInterval = "1h",
    expire_snapshots: SnapshotAge = "5d",
    once: Once = False,
    file_bytes: FileSize = None,
    bootstrap: AnyBootstrap = None,
    bucket: BucketOption = None,
    progress: ProgressOption = ProgressForm.auto,
) -> None:
    """Make a table of a topic: its history from the very beginning, then what follows.

    Each record is in it once, whatever is killed; tierlog table follow goes on. SIGTERM ends it after a last commit.
    """
    give_back()
    from tierlog.cli.output import complain
    from tierlog.replay.iceberg import running
    from tierlog.replay.iceberg.tables import default_name

    name, source = table or default_name(topic), _source(topic, bootstrap, bucket)
    catalog = _catalog(iceberg, warehouse, catalog_property)
    pace = _pace(follow_interval, compact_interval, expire_snapshots, once, file_bytes)
    made = running.made(catalog, name, source)
    running.follow(made, source, pace, skips_deleted=False, tell=_telling(progress), complain=complain)


@app.command()
def follow(
    topic: TopicName,
    iceberg: CatalogOption,
    table: TableName = None,
    catalog_property: CatalogProperties = None,
    follow_interval: Interval = "60s",
    compact_interval: CompactInterval = "1h",
    expire_snapshots: SnapshotAge = "5d",
    once: Once = False,
    skip_deleted: SkipDeleted = False,
    file_bytes: FileSize = None,
    bootstrap: AnyBootstrap = None,
    bucket: BucketOption = None,
    progress: ProgressOption = ProgressForm.auto,
) -> None:
    """Go on with a table: what it lacks, then what follows. One process for each table."""
    give_back()
    from tierlog.cli.output import complain
    from tierlog.replay.iceberg import running

    source = _source(topic, bootstrap, bucket)
    opened = _opened(iceberg, catalog_property, table, topic)
    pace = _pace(follow_interval, compact_interval, expire_snapshots, once, file_bytes)
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


@app.command(name="list")
def list_(
    iceberg: CatalogOption,
    catalog_property: CatalogProperties = None,
    namespace: Namespace = "tierlog",
    output: Output = Format.table,
) -> None:
    """Tables that were made here, and of which topics they are."""
    from tierlog.cli import output as drawing

    catalog = _catalog(iceberg, None, catalog_property)
    from tierlog.replay.iceberg.described import summary
    from tierlog.replay.iceberg.tables import of_topics

    rows = [summary(each) for each in of_topics(catalog, namespace)]

    def draw(console: Console) -> None:
        table = drawing.table("table", "topic", ">records", ">files", ">size", ">snapshots")
        for row in rows:
            counts = (drawing.number(row["records"]), drawing.number(row["files"]))
            table.add_row(
                row["table"], row["topic"], *counts, drawing.size(row["bytes"]), str(row["snapshots"])
            )
        console.print(table)

    drawing.show(rows, output, draw)


@app.command()
def compact(
    topic: TopicName,
    iceberg: CatalogOption,
    table: TableName = None,
    catalog_property: CatalogProperties = None,
    file_bytes: FileSize = None,
    expire_snapshots: ExpireSnapshots = None,
    remove_leftovers: RemoveLeftovers = None,
    dry_run: DryRun = False,
    output: Output = Format.table,
) -> None:
    """Merge small files of a partition into large ones, also beside a running follower.

    A kill leaves the table as it was. Time travel still reads the small files, until their snapshots expire.
    """
    give_back()
    from tierlog.cli.output import show
    from tierlog.times import duration_ms

    opened = _opened(iceberg, catalog_property, table, topic)
    asked = {
        "expire": None if expire_snapshots is None else duration_ms(expire_snapshots, "--expire-snapshots"),
        "remove": None if remove_leftovers is None else duration_ms(remove_leftovers, "--remove-leftovers"),
    }
    value = _compacted(opened, _size_bytes(file_bytes), asked, dry_run)
    show(value, output, lambda console: _draw_compacted(console, value))


def _compacted(table: Table, file_bytes: int, asked: dict[str, int | None], is_dry: bool) -> dict[str, Any]:
    from tierlog.errors import UserError
    from tierlog.replay.iceberg import running
    from tierlog.replay.iceberg.commits import expire, name_of
    from tierlog.replay.iceberg.compaction import Compaction
    from tierlog.replay.iceberg.leftovers import LEAST_AGE_MS, leftovers, remove_leftovers
    from tierlog.replay.iceberg.tables import refreshed

    now_ms = time.time_ns() // 1_000_000
    if asked["remove"] is not None and asked["remove"] < LEAST_AGE_MS:
        raise UserError(
            "--remove-leftovers: 1h at least, for a follower may be about to commit younger files"
        )
    done = (
        Compaction(table, file_bytes).plan if is_dry else running.compact(table, file_bytes, lambda _: None)
    )
    table = refreshed(table)
    snapshots = len(table.snapshots())
    if asked["expire"] is not None and not is_dry:
        table = expire(table, now_ms - asked["expire"])
    found = leftovers(table, now_ms - (asked["remove"] or LEAST_AGE_MS))
    if asked["remove"] is not None and not is_dry:
        remove_leftovers(table, found)
    return {
        "table": name_of(table),
        "is_dry_run": is_dry,
        "merged_files": done.merged_files,
        "new_files": done.new_files,
        "merged_bytes": done.bytes,
        "expired_snapshots": snapshots - len(table.snapshots()),
        "leftover_files": len(found),
        "leftover_bytes": sum(each.size_bytes for each in found),
        "are_leftovers_removed": asked["remove"] is not None and not is_dry,
    }


def _draw_compacted(console: Console, value: dict[str, Any]) -> None:
    from tierlog.cli import output

    would = "would be merged" if value["is_dry_run"] else "merged"
    console.print(
        f"[bold]{value['table']}[/]: {output.number(value['merged_files'])} files, "
        f"{output.size(value['merged_bytes'])}, {would} into {output.number(value['new_files'])}"
    )
    if value["expired_snapshots"]:
        console.print(f"{output.number(value['expired_snapshots'])} snapshots expired")
    if value["leftover_files"]:
        step = "removed" if value["are_leftovers_removed"] else "--remove-leftovers 24h deletes old ones"
        console.print(
            f"{output.number(value['leftover_files'])} files, {output.size(value['leftover_bytes'])}, "
            f"that no snapshot names: {step}"
        )


@app.command()
def drop(
    topic: TopicName,
    iceberg: CatalogOption,
    table: TableName = None,
    catalog_property: CatalogProperties = None,
    purge: Purge = False,
    yes: Yes = False,
) -> None:
    """Take a table out of its catalog. The topic stays as it is."""
    from tierlog.replay.iceberg.tables import default_name, dropped, opened

    name = table or default_name(topic)
    catalog = _catalog(iceberg, None, catalog_property)
    found = opened(catalog, name, topic)
    what = "with all of its files" if purge else f"and leave its files in {found.location()}"
    if yes or typer.confirm(f"Drop {name} {what}?", err=True):
        dropped(catalog, name, purges=purge)


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


def _pace(interval: str, compacting: str, expiring: str, once: bool, file_bytes: str | None) -> Pace:
    from tierlog.replay.iceberg.running import Pace
    from tierlog.times import duration_ms

    return Pace(
        interval_s=duration_ms(interval, "--follow-interval") / 1_000,
        compact_interval_s=(_ms_or_never(compacting, "--compact-interval") or math.inf) / 1_000,
        expire_ms=_ms_or_never(expiring, "--expire-snapshots"),
        is_once=once,
        file_bytes=_size_bytes(file_bytes),
    )


def _ms_or_never(text: str, option: str) -> int | None:
    from tierlog.times import FOREVER_MS, duration_ms

    found = duration_ms(text, option, endless="never")
    return None if found == FOREVER_MS else found


def _size_bytes(text: str | None) -> int:
    """0 for none."""
    from tierlog.admin.cost.quantities import size_bytes

    return 0 if text is None else size_bytes(text, "--file-bytes")


def _telling(form: ProgressForm) -> Told:
    """Lines on stderr: one for each commit, or as JSON one at the end of each round too."""
    import json
    import sys

    from tierlog.cli.output import errors

    told = [0]

    def line(progress: Progress) -> None:
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
