"""Dead letters as Parquet files, each visible whole or not at all.

::

    <topic>/<partition>/<first>-<end>-<random>.parquet         some of those with offsets in [first, end), in their order

A file is written when the sink is about to keep what is around them, or when ``WAITING_BYTES`` wait in memory. A replay that
is resumed writes anew, or takes away, those files that tell of records which the sink has not got.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from tierlog.errors import UserError
from tierlog.replay.running.state import State
from tierlog.replay.sinks.files import DirectoryFiles
from tierlog.replay.sinks.port import Done, explained
from tierlog.types import TopicPartition

WAITING_BYTES = 16 << 20
NAME = re.compile(r"([A-Za-z0-9._-]+)/(\d+)/\d{20}-\d{20}-[0-9a-f]{8}\.parquet")


class DeadParquet:
    """Raises UserError."""

    def __init__(self, root: Path, *, is_resumed: bool) -> None:
        self._root = root
        self._files = DirectoryFiles(root)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        if not is_resumed and (names := self._files.names()):
            self._files.close()
            raise UserError(
                f"--dead-letters parquet:{root} is not empty: it holds {names[0]}; name another place, "
                "or go on with --resume"
            )

    def start(self, state: State, done: Done, *, is_resumed: bool) -> None:
        for name in self._files.names():
            match = NAME.fullmatch(name)
            if match is None:
                continue
            path = self._root / name
            with explained(path):
                found = parquet.ParquetFile(path).read()
                rows = _inside(found, done.get(TopicPartition(match[1], int(match[2])), []))
                if not rows.num_rows:
                    path.unlink()
                elif rows.num_rows < found.num_rows:
                    self._write(rows, name)

    def take(self, dead: pa.RecordBatch) -> None:
        self._waiting.append(dead)
        self._waiting_bytes += dead.nbytes
        if self._waiting_bytes >= WAITING_BYTES:
            self.settle()

    def settle(self) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting).unify_dictionaries()
        places = table.select(["topic", "partition"]).group_by(["topic", "partition"]).aggregate([])
        for place in places.to_pylist():
            topic, partition = place["topic"], place["partition"]
            chosen = (pc.field("topic") == topic) & (pc.field("partition") == partition)
            rows = table.filter(chosen).sort_by("offset")
            first, last = rows["offset"][0].as_py(), rows["offset"][-1].as_py()
            name = f"{topic}/{partition}/{first:020}-{last + 1:020}-{uuid.uuid4().hex[:8]}.parquet"
            self._write(rows, name)
        self._waiting, self._waiting_bytes = [], 0

    def close(self) -> None:
        self._files.close()

    def _write(self, rows: pa.Table, name: str) -> None:
        handle = self._files.begin()
        with explained(self._root / name):
            parquet.write_table(rows, handle.stream, compression="zstd")
        self._files.commit(handle, name)


def _inside(rows: pa.Table, spans: list[tuple[int, int]]) -> pa.Table:
    offsets = rows["offset"].to_numpy()
    chosen = np.zeros(len(offsets), np.bool_)
    for start, end in spans:
        chosen |= (offsets >= start) & (offsets < end)
    return rows.filter(pa.array(chosen))
