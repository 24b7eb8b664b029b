"""Commits to a table of which each offset gets in once, whoever else commits, and whatever is heard of the outcome.

A commit holds only on top of the snapshot that it was made for. What has failed, or what nobody knows of, is judged by the
table as it is then: a snapshot of ours that is there has succeeded, offsets that stand still let it be tried again, and
offsets that moved belong to another writer, who must not be joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tierlog.errors import UserError
from tierlog.replay.iceberg.catalogs import explained
from tierlog.replay.iceberg.data_files import remove
from tierlog.replay.iceberg.offsets import OFFSETS, Refused, as_text, moved, of_text
from tierlog.replay.sinks.port import Done

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.update.snapshot import UpdateSnapshot

ATTEMPTS = 5
STEP = "go on with the same command, what was committed stays"


def offsets_of(table: Table) -> Done:
    """The offsets whose records are all in the table, by the newest snapshot that tells. Raises UserError."""
    from pyiceberg.table.snapshots import ancestors_of

    snapshot = table.current_snapshot()
    if snapshot is None:
        return {}
    for each in ancestors_of(snapshot, table.metadata):
        told = each.summary[OFFSETS] if each.summary is not None else None
        if told:
            return of_text(told)
    # Others have committed, and our snapshots have expired.
    told = table.properties.get(OFFSETS)
    if told:
        return of_text(told)
    raise Refused(f"{name_of(table)} holds records, but nothing says of which offsets: name another table")


def name_of(table: Table) -> str:
    return ".".join(table.name())


def another_writer(table: Table, before: Done, found: Done) -> Refused:
    return Refused(
        f"{name_of(table)} has another writer: {moved(before, found)}; "
        "this one ends, nothing of it is lost or twice: let only one follow"
    )


def append(table: Table, files: Sequence[DataFile], before: Done, after: Done) -> Table:
    """The table, with these files and offsets. Raises Refused if another one has written meanwhile, UserError if the catalog
    does not take it, or does not say: the table has to be asked again then."""

    def made(update: UpdateSnapshot) -> int:
        with update.fast_append() as change:
            for file in files:
                change.append_data_file(file)
            return change.snapshot_id

    for _ in range(ATTEMPTS):
        table, error = _tried(table, after, made)
        if error is None:
            return table
        found = offsets_of(table)
        if found != before:
            remove(table, files)
            raise another_writer(table, before, found)
        _raise_unless_overtaken(table, error)
    remove(table, files)
    raise UserError(f"{name_of(table)}: others commit all the time; {STEP}")


def replace(table: Table, old: Sequence[DataFile], new: Sequence[DataFile]) -> Table:
    """The table, with other files that hold the same records. Raises UserError."""
    from pyiceberg.exceptions import ValidationException

    def made(update: UpdateSnapshot) -> int:
        with update.overwrite() as change:
            for file in old:
                change.delete_data_file(file)
            for file in new:
                change.append_data_file(file)
            return change.snapshot_id

    for _ in range(ATTEMPTS):
        table, error = _tried(table, offsets_of(table), made)
        if error is None:
            return table
        if isinstance(error, ValidationException):
            remove(table, new)
            raise UserError(
                f"{name_of(table)}: files are gone that were to be merged: another compaction was faster"
            )
        _raise_unless_overtaken(table, error)
    remove(table, new)
    raise UserError(f"{name_of(table)}: others commit all the time; {STEP}")


def expire(table: Table, before_ms: int) -> Table:
    """The table without snapshots of before that time; the current one stays. Raises UserError."""
    from pyiceberg.exceptions import CommitFailedException

    for _ in range(ATTEMPTS):
        newest = table.current_snapshot()
        if all(each == newest or each.timestamp_ms >= before_ms for each in table.snapshots()):
            return table
        with explained(name_of(table), STEP):
            try:
                before = datetime.fromtimestamp(before_ms / 1_000, UTC)
                table.maintenance.expire_snapshots().older_than(before).commit()
                return table.refresh()
            except CommitFailedException:
                table = table.refresh()
    raise UserError(f"{name_of(table)}: others commit all the time; {STEP}")


def _tried(table: Table, done: Done, made: Callable[[UpdateSnapshot], int]) -> tuple[Table, Exception | None]:
    """The table as it is then, and why it does not hold the commit. Raises UserError if the table cannot be asked."""
    told = {OFFSETS: as_text(done)}
    snapshot_id = None
    try:
        with table.transaction() as transaction:
            snapshot_id = made(transaction.update_snapshot(snapshot_properties=told))
            transaction.set_properties(told)
        return table, None
    except Exception as error:
        with explained(name_of(table), STEP):
            table = table.refresh()
        is_there = snapshot_id is not None and table.snapshot_by_id(snapshot_id) is not None
        return table, None if is_there else error


def _raise_unless_overtaken(table: Table, error: Exception) -> None:
    """What was only overtaken can be tried again; anything else may still come true."""
    from pyiceberg.exceptions import CommitFailedException

    if not isinstance(error, CommitFailedException):
        with explained(name_of(table), STEP):
            raise error
