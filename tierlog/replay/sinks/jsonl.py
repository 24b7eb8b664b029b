"""One JSON object per line, to a file or to stdout. Bytes that are no UTF-8 stand as base64 under ``<column>_base64``.

A file is cut back to what the state says when a replay goes on, so each record is in it once.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tierlog.errors import UserError
from tierlog.replay.reading import Chunk
from tierlog.replay.running.state import State
from tierlog.replay.sinks.json_text import lines_of
from tierlog.replay.sinks.port import Done, explained


class JsonlSink:
    """``path`` None: stdout."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.needs_state = self.is_kept = path is not None
        self.needs_order = "" if path is None else "the file to resume from says one offset of a partition"
        self._file: BinaryIO = sys.stdout.buffer
        self._reached: list[Chunk] = []

    def start(self, state: State, *, is_resumed: bool) -> Done:
        path = self._path
        if path is None:
            if is_resumed:
                raise UserError(
                    "lines on stdout cannot be resumed; write them to a file with --sink jsonl:FILE"
                )
            return {}
        with explained(path):
            if not is_resumed and path.exists() and path.stat().st_size:
                raise UserError(f"{path} is there already; go on with --resume FILE, or name another file")
            path.parent.mkdir(parents=True, exist_ok=True)
            is_there = is_resumed and path.exists()
            self._file = path.open("r+b" if is_there else "wb")
            if is_there:
                if self._file.seek(0, os.SEEK_END) < state.written_bytes:
                    self._file.close()
                    raise UserError(
                        f"{path} is shorter than it was; begin anew with another file, without --resume"
                    )
                self._file.truncate(state.written_bytes)
                self._file.seek(state.written_bytes)
        return state.done_ranges()

    def write(self, chunk: Chunk) -> None:
        with explained(self._path or "stdout"):
            if chunk.batch is not None:
                self._file.write(lines_of(chunk.batch))
        self._reached = [each for each in self._reached if each.where != chunk.where]
        self._reached.append(chunk._replace(batch=None))

    def settle(self, state: State) -> None:
        with explained(self._path or "stdout"):
            self._file.flush()
            if self._path is not None:
                os.fsync(self._file.fileno())
                state.written_bytes = self._file.tell()
        for chunk in self._reached:
            state.reached(chunk.where, chunk.next_offset)

    def close(self) -> None:
        with explained(self._path or "stdout"):
            self._file.flush()
            if self._path is not None:
                os.fsync(self._file.fileno())
                self._file.close()

    def give_up(self) -> None:
        if self._file is not sys.stdout.buffer:
            with suppress(OSError):
                self._file.close()
