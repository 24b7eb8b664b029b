"""Parquet files named by their offsets, each visible whole or not at all: exactly once, whenever the replay is killed.

::

    <topic>/<partition>/<start>-<end>.parquet         records with offsets in [start, end), 20 digits each

A name says that everything of its range is in the file, so the names are the only memory: what they do not cover is written
by the next run. A file goes on where a chunk adjoins it. It is closed when it is large enough, or when
others need its place.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from tierlog.errors import UserError
from tierlog.replay.reading import Chunk
from tierlog.replay.running.state import State
from tierlog.replay.sinks.files import Files
from tierlog.replay.sinks.port import Done, explained, nothing
from tierlog.types import TopicPartition

ROW_GROUP_BYTES = 16 << 20
"""Of one open file; several share it, since what waits is in memory."""
OPEN_FILES_MAX = 4
COMPRESSION = "zstd"
FEW_VALUES = ("topic", "partition", "timestamp_type", "leader_epoch")
ENCODINGS = {
    "offset": "DELTA_BINARY_PACKED",
    "timestamp": "DELTA_BINARY_PACKED",
    "key": "DELTA_LENGTH_BYTE_ARRAY",
    "value": "DELTA_LENGTH_BYTE_ARRAY",
}
"""Smaller, and faster to write, than Parquet's plain encoding."""
NAME = re.compile(r"([A-Za-z0-9._-]+)/(\d+)/(\d{20})-(\d{20})\.parquet")


class ParquetSink:
    """``name``: how messages call the place. ``file_bytes`` 0: as ``files`` has it. ``before_commit`` is called before a
    file gets its name."""

    needs_state = False
    needs_order = ""
    is_kept = True

    def __init__(
        self,
        files: Files,
        schema: pa.Schema,
        name: str,
        file_bytes: int = 0,
        before_commit: Callable[[], None] = nothing,
    ) -> None:
        self._before_commit = before_commit
        self._files = files
        self._schema = schema
        self._name = name
        self._file_bytes = file_bytes or files.file_bytes
        self.row_group_bytes = min(ROW_GROUP_BYTES, self._file_bytes)
        self._open: OrderedDict[tuple[TopicPartition, int], _File] = OrderedDict()
        """By partition and next offset, the one that was written to last at the end: chunks may come in any order."""

    def start(self, state: State, *, is_resumed: bool) -> Done:
        done: Done = {}
        for name in self._files.names():
            match = NAME.fullmatch(name)
            if match is None:
                if not is_resumed:
                    raise UserError(
                        f"{self._name} is not empty: it holds {name}; name another place, or empty this one"
                    )
                continue
            where = TopicPartition(match[1], int(match[2]))
            done.setdefault(where, []).append((int(match[3]), int(match[4])))
        if done and not is_resumed:
            raise UserError(
                f"{self._name} holds a replay already; go on with --resume FILE, or name another place"
            )
        return done

    def write(self, chunk: Chunk) -> None:
        if chunk.start_offset == chunk.next_offset:
            return
        begin, end = (chunk.where, chunk.start_offset), (chunk.where, chunk.next_offset)
        if begin not in self._open:
            if len(self._open) == OPEN_FILES_MAX:
                self._close(next(iter(self._open)))
            with explained(self._name):
                self._open[begin] = _File(self, chunk.start_offset)
        file = self._open[begin]
        with explained(self._name):
            file.add(chunk)
        del self._open[begin]
        self._open[end] = file
        if file.size_bytes >= self._file_bytes:
            self._close(end)

    def settle(self, state: State) -> None:
        """Files settle when they are closed: nothing is to be done, and small files are not made for it."""

    def close(self) -> None:
        for end in list(self._open):
            self._close(end)
        self._files.close()

    def _close(self, end: tuple[TopicPartition, int]) -> None:
        where, file = end[0], self._open[end]
        name = f"{where.topic}/{where.partition}/{file.start_offset:020}-{file.end_offset:020}.parquet"
        with explained(self._name):
            file.finish(name)
        del self._open[end]

    def give_up(self) -> None:
        for file in self._open.values():
            file.give_up()
        self._open.clear()
        self._files.close()

    @property
    def open_count(self) -> int:
        return len(self._open)

    def begin(self) -> tuple[Any, parquet.ParquetWriter]:
        """A file without a name yet, and its writer."""
        handle = self._files.begin()
        names = self._schema.names
        # Of decoded values, each field is a column.
        inside = [path for path in leaves(self._schema) if path.startswith("value.")]
        writer = parquet.ParquetWriter(
            handle.stream,
            self._schema,
            compression=COMPRESSION,
            use_dictionary=[name for name in names if name in FEW_VALUES] + inside,
            write_statistics=[name for name in names if name not in ("key", "value", "headers")] + inside,
            column_encoding={
                name: ENCODINGS[name]
                for name in names
                if name in ENCODINGS and not (inside and name == "value")
            },
        )
        return handle, writer

    def commit(self, handle: Any, name: str) -> None:
        self._before_commit()
        self._files.commit(handle, name)


def leaves(schema: pa.Schema) -> Iterator[str]:
    """The columns of a file, as Parquet names them."""
    for field in schema:
        yield from _leaves(field.name, field.type)


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_map(kind):
        yield from _leaves(f"{path}.key_value.key", kind.key_type)
        yield from _leaves(f"{path}.key_value.value", kind.item_type)
    else:
        yield path


class _File:
    """One file that is being written. ``end_offset`` is exclusive."""

    def __init__(self, sink: ParquetSink, start_offset: int) -> None:
        self._sink = sink
        self.start_offset = self.end_offset = start_offset
        self._handle, self._writer = sink.begin()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0

    @property
    def size_bytes(self) -> int:
        return int(self._handle.stream.tell())

    def add(self, chunk: Chunk) -> None:
        if chunk.batch is not None and chunk.batch.num_rows:
            self._waiting.append(chunk.batch)
            self._waiting_bytes += chunk.batch.nbytes
            if self._waiting_bytes >= self._sink.row_group_bytes // self._sink.open_count:
                self._flush()
        self.end_offset = chunk.next_offset

    def finish(self, name: str) -> None:
        self._flush()
        self._writer.close()
        self._sink.commit(self._handle, name)

    def give_up(self) -> None:
        self._writer.is_open = False  # Else its end would write what is left of the file.
        with suppress(OSError):
            self._handle.stream.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
            self._waiting, self._waiting_bytes = [], 0
