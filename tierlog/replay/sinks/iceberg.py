"""An Iceberg table (pyiceberg): exactly once, whenever the replay is killed.

Each snapshot says in its property ``tierlog.offsets`` which offsets the table holds, with all of their records: data and
offsets are committed together or not at all, so the table is the only memory. Files of a run that was killed before its
commit belong to no snapshot; Iceberg's own removal of orphan files takes them away.

The catalog is found as pyiceberg finds it: ``~/.pyiceberg.yaml``, or ``PYICEBERG_CATALOG__NAME__URI`` and its like.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.plan import joined
from tierlog.replay.reading import Chunk
from tierlog.replay.sinks.port import Done
from tierlog.replay.state import State
from tierlog.types import TopicPartition

OFFSETS = "tierlog.offsets"
BUFFER_BYTES = 32 << 20
"""Of records in memory, until they are a data file."""
COMMIT_BYTES = 256 << 20
COMMIT_S = 60.0
# A commit that meets another one must fail: the other one may hold the same offsets.
_PROPERTIES = {"commit.retry.num-retries": "0", "write.parquet.compression-codec": "zstd"}
FORM = "iceberg:CATALOG.NAMESPACE.TABLE"


class IcebergSink:
    """``name``: ``CATALOG.NAMESPACE.TABLE``. ``commit_bytes`` 0: as it is by default."""

    needs_state = False
    needs_order = ""
    is_kept = True

    def __init__(self, name: str, schema: pa.Schema, commit_bytes: int = 0) -> None:
        self._name = name
        self._schema = table_schema(schema)
        self._commit_bytes = commit_bytes or COMMIT_BYTES
        self._buffer_bytes = min(BUFFER_BYTES, self._commit_bytes)
        self._table: Any = None
        self._done: Done = {}
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._files: list[Any] = []
        self._file_bytes = 0
        self._committed_at_s = time.monotonic()

    def start(self, state: State, *, is_resumed: bool) -> Done:
        self._table = _opened(self._name, self._schema)
        self._done = offsets_of(self._table)
        if self._table.current_snapshot() is not None and not is_resumed:
            raise UserError(
                f"the table {self._name} is not empty; go on with --resume FILE, or name another table"
            )
        return dict(self._done)

    def write(self, chunk: Chunk) -> None:
        if chunk.batch is not None and chunk.batch.num_rows:
            table = pa.Table.from_batches([chunk.batch]).cast(self._schema)
            self._waiting.append(table)
            self._waiting_bytes += table.nbytes
        if chunk.start_offset < chunk.next_offset:
            spans = [*self._done.get(chunk.where, []), (chunk.start_offset, chunk.next_offset)]
            self._done[chunk.where] = joined(spans)
        if self._waiting_bytes >= self._buffer_bytes:
            self._flush()
        is_due = time.monotonic() - self._committed_at_s >= COMMIT_S
        if self._file_bytes >= self._commit_bytes or is_due:
            self._commit()

    def settle(self, state: State) -> None:
        """Snapshots settle when they are committed: nothing is to be done, and small ones are not made for it."""

    def close(self) -> None:
        self._commit()

    def give_up(self) -> None:
        """What waits was never there."""

    def _flush(self) -> None:
        from pyiceberg.io.pyarrow import _dataframe_to_data_files

        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        with _explained(self._name):
            self._files += _dataframe_to_data_files(self._table.metadata, table, self._table.io)
        self._file_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0

    def _commit(self) -> None:
        self._flush()
        if offsets_of(self._table) == self._done:
            return
        told = {f"{where.topic}/{where.partition}": spans for where, spans in self._done.items()}
        with _explained(self._name), self._table.transaction() as transaction:
            update = transaction.update_snapshot(snapshot_properties={OFFSETS: json.dumps(told)})
            with update.fast_append() as append:
                for file in self._files:
                    append.append_data_file(file)
        self._files, self._file_bytes = [], 0
        self._committed_at_s = time.monotonic()


def table_schema(schema: pa.Schema) -> pa.Schema:
    """As Iceberg has it: microseconds, no dictionaries, no small integers."""
    return pa.schema([pa.field(field.name, _type_of(field.type)) for field in schema])


def offsets_of(table: Any) -> Done:
    """The offsets whose records are all in the table. Raises UserError."""
    snapshot = table.current_snapshot()
    told = snapshot.summary.additional_properties.get(OFFSETS) if snapshot is not None else None
    if told is None:
        return {}
    try:
        found: Done = {}
        for name, spans in json.loads(told).items():
            topic, _, partition = name.rpartition("/")
            found[TopicPartition(topic, int(partition))] = [(int(start), int(end)) for start, end in spans]
        return found
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"the table's property {OFFSETS} is damaged: replay into another table") from None


def _opened(name: str, schema: pa.Schema) -> Any:
    """The table; made if there is none. Raises UserError."""
    try:
        from pyiceberg.catalog import load_catalog
    except ImportError:
        raise UserError("Iceberg needs pyiceberg: pip install 'tierlog[iceberg]'") from None
    from pyiceberg.exceptions import NoSuchTableError

    catalog_name, _, identifier = name.partition(".")
    namespace = identifier.rpartition(".")[0]
    if not catalog_name or not namespace or identifier.endswith("."):
        raise UserError(f"--sink iceberg:{name}: expected {FORM}")
    with _explained(name, f"check the catalog {catalog_name} in ~/.pyiceberg.yaml or PYICEBERG_CATALOG__… "):
        catalog = load_catalog(catalog_name)
        try:
            table = catalog.load_table(identifier)
        except NoSuchTableError:
            catalog.create_namespace_if_not_exists(namespace)
            return catalog.create_table(identifier, schema, properties=_PROPERTIES)
        found = table.schema().as_arrow()
    if found.names != schema.names:
        raise UserError(
            f"the table {name} has the columns {', '.join(found.names)}, the replay has {', '.join(schema.names)}; "
            "name another table, or choose with --columns"
        )
    return table


class _explained:
    """Errors of catalog and storage as UserError, with the next step."""

    def __init__(self, name: str, step: str = "go on with --resume, what was committed stays") -> None:
        self._name = name
        self._step = step

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, UserError):
            return
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"iceberg:{self._name}: {told}; {self._step.strip()}") from error


def _type_of(type_: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_struct(type_):
        return pa.struct([pa.field(field.name, _type_of(field.type)) for field in type_])
    if types.is_list(type_):
        return pa.list_(_type_of(type_.value_type))
    if types.is_map(type_):
        return pa.map_(_type_of(type_.key_type), _type_of(type_.item_type))
    if types.is_dictionary(type_):
        return pa.string()
    if types.is_timestamp(type_):
        return pa.timestamp("us", tz=type_.tz)
    if types.is_time(type_):
        return pa.time64("us")
    if types.is_uint64(type_):
        return pa.decimal128(20, 0)
    if types.is_uint32(type_):
        return pa.int64()
    return pa.int32() if types.is_integer(type_) and type_.bit_width < 32 else type_
