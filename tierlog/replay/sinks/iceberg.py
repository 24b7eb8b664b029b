"""An Iceberg table (pyiceberg): exactly once, whenever the replay is killed.

Each snapshot says which offsets the table holds, with all of their records: data and offsets are committed together or not
at all, so the table is the only memory. Files of a run that was killed before its commit belong to no snapshot; Iceberg's
own removal of orphan files takes them away.

The catalog is found as pyiceberg finds it: ``~/.pyiceberg.yaml``, or ``PYICEBERG_CATALOG__NAME__URI`` and its like.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.iceberg.catalogs import explained, open_catalog
from tierlog.replay.iceberg.commits import append, offsets_of
from tierlog.replay.iceberg.data_files import OpenFiles
from tierlog.replay.iceberg.schema import PROPERTIES, table_schema
from tierlog.replay.iceberg.tables import check_columns
from tierlog.replay.plan import joined
from tierlog.replay.reading import Chunk
from tierlog.replay.running.state import State
from tierlog.replay.sinks.port import Done, nothing

if TYPE_CHECKING:
    from pyiceberg.table import Table

COMMIT_BYTES = 256 << 20
COMMIT_S = 60.0
FORM = "iceberg:CATALOG.NAMESPACE.TABLE"


class IcebergSink:
    """``name``: ``CATALOG.NAMESPACE.TABLE``. ``commit_bytes`` 0: as it is by default. ``before_commit`` is called before
    each snapshot."""

    needs_state = False
    needs_order = ""
    is_kept = True

    def __init__(
        self, name: str, schema: pa.Schema, commit_bytes: int = 0, before_commit: Callable[[], None] = nothing
    ) -> None:
        self._before_commit = before_commit
        self._name = name
        self._schema = schema
        self._commit_bytes = commit_bytes or COMMIT_BYTES
        self._table: Table
        self._files: OpenFiles
        self._committed: Done = {}
        self._done: Done = {}
        self._committed_at_s = time.monotonic()

    def start(self, state: State, *, is_resumed: bool) -> Done:
        self._table = _opened(self._name, self._schema)
        self._files = OpenFiles(self._table)
        self._done, self._committed = offsets_of(self._table), offsets_of(self._table)
        if self._table.current_snapshot() is not None and not is_resumed:
            raise UserError(
                f"the table {self._name} is not empty; go on with --resume FILE, or name another table"
            )
        return offsets_of(self._table)

    def write(self, chunk: Chunk) -> None:
        with self._explained():
            self._files.write(chunk)
        if chunk.start_offset < chunk.next_offset:
            spans = [*self._done.get(chunk.where, []), (chunk.start_offset, chunk.next_offset)]
            self._done[chunk.where] = joined(spans)
        is_due = time.monotonic() - self._committed_at_s >= COMMIT_S
        if self._files.taken_bytes >= self._commit_bytes or is_due:
            self._commit()

    def settle(self, state: State) -> None:
        """Snapshots settle when they are committed: nothing is to be done, and small ones are not made for it."""

    def close(self) -> None:
        self._commit()

    def give_up(self) -> None:
        """What waits was never there."""

    def _commit(self) -> None:
        if self._committed == self._done:
            return
        self._before_commit()
        with self._explained():
            files = self._files.finish()
            self._table = append(self._table, files, self._committed, self._done)
        self._committed = dict(self._done)
        self._committed_at_s = time.monotonic()

    def _explained(self) -> explained:
        return explained(f"iceberg:{self._name}", "go on with --resume, what was committed stays")


def _opened(name: str, schema: pa.Schema) -> Table:
    """The table; made if there is none. Raises UserError."""
    catalog_name, _, identifier = name.partition(".")
    namespace = identifier.rpartition(".")[0]
    if not catalog_name or not namespace or identifier.endswith("."):
        raise UserError(f"--sink iceberg:{name}: expected {FORM}")
    catalog = open_catalog(catalog_name, {})
    from pyiceberg.exceptions import NoSuchTableError

    with explained(f"iceberg:{name}", f"check the catalog {catalog_name}"):
        try:
            table = catalog.load_table(identifier)
        except NoSuchTableError:
            catalog.create_namespace_if_not_exists(namespace)
            return catalog.create_table(identifier, table_schema(schema), properties=PROPERTIES)
    check_columns(table, schema, "name another table, or choose with --columns")
    return table
