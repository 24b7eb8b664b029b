"""Dead letters in a file: a line of JSON each, with the record's raw key, value and headers in base64."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.dead.port import is_done
from tierlog.replay.running.state import State
from tierlog.replay.sinks.port import Done, explained
from tierlog.types import TopicPartition


class DeadLines:
    """Made when the first one comes; on the disk before ``take`` returns. Raises UserError."""

    def __init__(self, path: Path, *, is_resumed: bool) -> None:
        self._path = path
        if not is_resumed and path.exists() and path.stat().st_size:
            raise UserError(
                f"--dead-letters {path} is there already; name another file, or go on with --resume"
            )

    def start(self, state: State, done: Done, *, is_resumed: bool) -> None:
        if not is_resumed or not self._path.exists():
            return
        kept = self._path.with_name(self._path.name + ".tmp")
        with explained(self._path), self._path.open("rb") as file, kept.open("wb") as target:
            target.writelines(line for line in file if _belongs(line, done))
            target.flush()
            os.fsync(target.fileno())
        kept.replace(self._path)

    def take(self, dead: pa.RecordBatch) -> None:
        with explained(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.writelines(_line_of(row) for row in dead.to_pylist())
                file.flush()
                os.fsync(file.fileno())

    def settle(self) -> None:
        """They are durable already."""

    def close(self) -> None:
        """No file is open."""


def _line_of(row: dict[str, Any]) -> bytes:
    for each in (row, *row["headers"]):
        for name in {"key", "value"} & each.keys():
            if not isinstance(each[name], str):  # As the names of headers are.
                data = each.pop(name)
                each[f"{name}_base64"] = None if data is None else base64.b64encode(data).decode()
    row["timestamp"] = row["timestamp"] and row["timestamp"].isoformat(timespec="milliseconds")
    return json.dumps(row).encode() + b"\n"


def _belongs(line: bytes, done: Done) -> bool:
    """Whether the sink has what is around its record; not the part of a line that a kill has left."""
    if not line.endswith(b"\n"):
        return False
    row = json.loads(line)
    return is_done(done, TopicPartition(row["topic"], row["partition"]), row["offset"])
