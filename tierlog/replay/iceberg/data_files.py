"""Data files of a table, written in streams: some row groups in memory, whatever the file's size.

::

    <data>/<topic>-<partition>-<first offset>-<random>.parquet

A file holds records of one partition in order of their offsets, so its least and largest values tell readers whether to open
it. It is in the table once a commit names it; one that no snapshot names is left over from a run that was killed.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as parquet

from tierlog.replay.iceberg.schema import FILE_BYTES, UNBOUNDED
from tierlog.replay.reading import Chunk
from tierlog.types import TopicPartition

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

ROW_GROUP_BYTES = 8 << 20
OPEN_FILES_MAX = 4
WAITING_BYTES_MAX = 16 << 20
"""Of rows in memory, of all open files together."""
NAME = r"[A-Za-z0-9._-]+-\d{5,}-\d{20}-[0-9a-f]{32}\.parquet"
# Others of Parquet's encodings are smaller, but some engines do not read them.
_FEW_VALUES = ("topic", "partition", "timestamp_type", "leader_epoch")


class DataFileWriter:
    """One file. Raises what storage raises."""

    def __init__(self, table: Table, where: TopicPartition, first_offset: int) -> None:
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        self._table = table
        name = f"{where.topic}-{where.partition:05}-{first_offset:020}-{uuid.uuid4().hex}.parquet"
        self.path = table.location_provider().new_data_location(name)
        self._schema = schema_to_pyarrow(table.schema(), include_field_ids=True)
        self._output = table.io.new_output(self.path)
        self._stream: Any = self._output.create()
        names = self._schema.names
        self._writer = parquet.ParquetWriter(
            self._stream,
            self._schema,
            compression=table.properties.get("write.parquet.compression-codec", "zstd"),
            use_dictionary=[name for name in names if name in _FEW_VALUES],
            write_statistics=[name for name in names if name not in UNBOUNDED],
        )
        self._waiting: list[pa.Table] = []
        self.waiting_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Of what is written; the last row group waits in memory."""
        return int(self._stream.tell())

    def add(self, batch: pa.RecordBatch) -> None:
        """In order of offsets, with the table's columns."""
        self._waiting.append(pa.Table.from_batches([batch]).cast(self._schema))
        self.waiting_bytes += batch.nbytes
        if self.waiting_bytes >= ROW_GROUP_BYTES:
            self.flush()

    def finish(self) -> DataFile:
        """The file as a commit names it."""
        from pyiceberg.io.pyarrow import (
            compute_statistics_plan,
            data_file_statistics_from_parquet_metadata,
            parquet_path_to_id_mapping,
        )
        from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
        from pyiceberg.typedef import Record

        self.flush()
        self._writer.close()
        self._stream.close()
        schema = self._table.schema()
        statistics = data_file_statistics_from_parquet_metadata(
            self._writer.writer.metadata,
            compute_statistics_plan(schema, self._table.properties),
            parquet_path_to_id_mapping(schema),
        )
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self.path,
            file_format=FileFormat.PARQUET,
            partition=Record(),
            file_size_in_bytes=len(self._output),
            sort_order_id=None,
            spec_id=self._table.metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def flush(self) -> None:
        """What waits becomes a row group."""
        if self._waiting:
            rows = pa.concat_tables(self._waiting)
            self._writer.write_table(rows, row_group_size=rows.num_rows)
            self._waiting, self.waiting_bytes = [], 0


class OpenFiles:
    """The files of the next commit: one open for each of the partitions that were last written to."""

    def __init__(self, table: Table, file_bytes: int = 0) -> None:
        self._table = table
        self._file_bytes = file_bytes or FILE_BYTES
        self._open: OrderedDict[TopicPartition, DataFileWriter] = OrderedDict()
        self._whole: list[DataFile] = []
        self.taken_bytes = 0
        """In memory, since the last commit."""

    def write(self, chunk: Chunk) -> None:
        if chunk.batch is None or not chunk.batch.num_rows:
            return
        file = self._open.get(chunk.where)
        if file is None:
            if len(self._open) == OPEN_FILES_MAX:
                self._finish(next(iter(self._open)))
            file = self._open[chunk.where] = DataFileWriter(self._table, chunk.where, chunk.start_offset)
        self._open.move_to_end(chunk.where)
        file.add(chunk.batch)
        self.taken_bytes += chunk.batch.nbytes
        if sum(each.waiting_bytes for each in self._open.values()) >= WAITING_BYTES_MAX:
            max(self._open.values(), key=lambda each: each.waiting_bytes).flush()
        if file.size_bytes >= self._file_bytes:
            self._finish(chunk.where)

    def finish(self) -> list[DataFile]:
        """All files, whole; the next commit begins with none."""
        for where in list(self._open):
            self._finish(where)
        whole, self._whole, self.taken_bytes = self._whole, [], 0
        return whole

    def _finish(self, where: TopicPartition) -> None:
        self._whole.append(self._open.pop(where).finish())


def remove(table: Table, files: Sequence[DataFile]) -> None:
    """Files that no commit names, and none will. Storage that fails leaves them over."""
    for file in files:
        try:
            table.io.delete(file.file_path)
        except OSError:
            continue
