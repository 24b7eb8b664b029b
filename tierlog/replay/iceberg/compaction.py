"""Small files of a table become large ones: read row group by row group, written anew, and exchanged in one snapshot, which
keeps the offsets.

So many files are merged between two commits as make up ``COMMIT_BYTES``. A kill leaves the table as it was, and files that
no snapshot names (``leftovers``); the next run finds what is still small.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as parquet

from tierlog.errors import UserError
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.iceberg.catalogs import explained
from tierlog.replay.iceberg.commits import STEP, name_of, replace
from tierlog.replay.iceberg.data_files import DataFileWriter, remove
from tierlog.replay.iceberg.merging import Piece, merges
from tierlog.replay.iceberg.offsets import Refused
from tierlog.replay.iceberg.schema import FILE_BYTES
from tierlog.replay.iceberg.tables import TOPIC, check_columns
from tierlog.types import TopicPartition

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

COMMIT_BYTES = 1 << 30
READ_BYTES = 8 << 20
"""Of rows that are in memory at once, beside the row group that is being written."""


class Compacted(NamedTuple):
    """What has been committed so far, and what is left."""

    merged_files: int
    new_files: int
    bytes: int
    left_files: int


class Compaction:
    """Of the table as it is now. ``plan`` first. Raises UserError."""

    def __init__(self, table: Table, file_bytes: int = 0, *, is_thrifty: bool = False) -> None:
        self.table = table
        self._file_bytes = file_bytes or FILE_BYTES
        check_columns(table, SCHEMA, "what was written with other columns is not merged")
        with explained(name_of(table), STEP):
            self._files = {file.file_path: file for file in live_files(table)}
        pieces = [piece for file in self._files.values() if (piece := _piece(table, file)) is not None]
        self._merges = merges(pieces, self._file_bytes, is_thrifty=is_thrifty)

    @property
    def plan(self) -> Compacted:
        files = [piece for group in self._merges for piece in group]
        return Compacted(len(files), len(self._merges), sum(piece.size_bytes for piece in files), len(files))

    def run(self, stop: threading.Event, tell: Callable[[Compacted], None]) -> Compacted:
        """Until all is merged, or after the commit that ``stop`` comes into."""
        done, left = Compacted(0, 0, 0, self.plan.left_files), list(self._merges)
        while left and not stop.is_set():
            old: list[DataFile] = []
            new: list[DataFile] = []
            try:
                while left and not stop.is_set() and sum(f.file_size_in_bytes for f in old) < COMMIT_BYTES:
                    group = [self._files[piece.path] for piece in left.pop(0)]
                    new.append(self._merged(group))
                    old += group
            except BaseException:
                remove(self.table, new)
                raise
            if old:
                self.table = replace(self.table, old, new)
                sizes = sum(file.file_size_in_bytes for file in old)
                done = Compacted(
                    done.merged_files + len(old),
                    done.new_files + len(new),
                    done.bytes + sizes,
                    done.left_files - len(old),
                )
                tell(done)
        return done

    def _merged(self, group: list[DataFile]) -> DataFile:
        """One file with the records of them all."""
        first = _piece(self.table, group[0])
        assert first is not None
        where = TopicPartition(self.table.properties.get(TOPIC, "records"), first.partition)
        with explained(name_of(self.table), STEP):
            writer = DataFileWriter(self.table, where, first.start)
            for file in group:
                for batch in self._rows(file):
                    writer.add(batch)
            made = writer.finish()
        expected = sum(file.record_count for file in group)
        if made.record_count != expected:
            remove(self.table, [made])
            raise UserError(
                f"{name_of(self.table)}: files of {expected} records gave {made.record_count}; nothing was changed"
            )
        return made

    def _rows(self, file: DataFile) -> Iterator[pa.RecordBatch]:
        names = self.table.schema().column_names
        top = [name for name in names if "." not in name]
        rows = max(1, READ_BYTES * file.record_count // max(self._raw_bytes(file), 1))
        with self.table.io.new_input(file.file_path).open() as stream:
            opened = parquet.ParquetFile(stream, pre_buffer=False)
            yield from opened.iter_batches(batch_size=min(rows, max(file.record_count, 1)), columns=top)

    def _raw_bytes(self, file: DataFile) -> int:
        """In memory, roughly."""
        with self.table.io.new_input(file.file_path).open() as stream:
            metadata = parquet.ParquetFile(stream).metadata
            return sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))


def live_files(table: Table) -> list[DataFile]:
    """Those of the current snapshot. Raises Refused if it also holds deletes of single rows."""
    from pyiceberg.manifest import ManifestContent

    snapshot = table.current_snapshot()
    found: list[DataFile] = []
    for manifest in snapshot.manifests(table.io) if snapshot is not None else []:
        if manifest.content != ManifestContent.DATA:
            raise Refused(
                f"{name_of(table)} has deletes of single rows: merge it with the tool that deleted them"
            )
        found += [entry.data_file for entry in manifest.fetch_manifest_entry(table.io)]
    return found


def _piece(table: Table, file: DataFile) -> Piece | None:
    """None for a file that holds several partitions, or does not say."""
    low, high = (_bounds(table, bounds) for bounds in (file.lower_bounds, file.upper_bounds))
    if low is None or high is None or low[0] != high[0]:
        return None
    return Piece(low[0], low[1], high[1] + 1, file.file_size_in_bytes, file.file_path)


def _bounds(table: Table, bounds: dict[int, bytes] | None) -> tuple[int, int] | None:
    """Of partition and offset."""
    from pyiceberg.conversions import from_bytes
    from pyiceberg.types import IntegerType, LongType

    schema = table.schema()
    one = (bounds or {}).get(schema.find_field("partition").field_id)
    other = (bounds or {}).get(schema.find_field("offset").field_id)
    if one is None or other is None:
        return None
    return int(from_bytes(IntegerType(), one)), int(from_bytes(LongType(), other))
