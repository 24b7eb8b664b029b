"""Dead letters in a file: a line of JSON each, with the record's raw value in base64.

On the disk before a sink takes what follows, so a kill loses none; what is read again after it is written again.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.sinks.port import explained

BLOCK_BYTES = 64 << 10


class DeadLetterFile:
    """Made when the first one comes. Raises UserError."""

    def __init__(self, path: Path, *, is_resumed: bool) -> None:
        self._path = path
        if not is_resumed and path.exists() and path.stat().st_size:
            raise UserError(
                f"--dead-letters {path} is there already; name another file, or go on with --resume"
            )
        if is_resumed and path.exists():
            with explained(path):
                _cut_back(path)

    def take(self, dead: pa.RecordBatch) -> None:
        with explained(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                for row in dead.to_pylist():
                    for name in ("key", "value"):
                        data = row.pop(name)
                        row[f"{name}_base64"] = None if data is None else base64.b64encode(data).decode()
                    for header in row["headers"]:
                        data = header.pop("value")
                        header["value_base64"] = None if data is None else base64.b64encode(data).decode()
                    row["timestamp"] = row["timestamp"] and row["timestamp"].isoformat(
                        timespec="milliseconds"
                    )
                    file.write(json.dumps(row).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())


def _cut_back(path: Path) -> None:
    """To whole lines: a kill may have left a part of one, whose record is read again."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - BLOCK_BYTES, 0)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)
