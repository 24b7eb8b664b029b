"""The aborted transactions whose marker lies in a segment: Kafka's ``.txnindex``.

34 bytes per entry: version 0, producer id, first offset, last offset (of the marker, inclusive), last stable offset.
The file exists only once there is an entry. Entries are few and are kept in memory.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from struct import Struct

from tierlog.log.files.filesystem import Filesystem
from tierlog.types import AbortedTransaction

ENTRY = Struct(">hqqqq")
VERSION = 0


class TransactionIndex:
    __slots__ = ("_written_count", "entries", "filesystem", "path")

    def __init__(self, filesystem: Filesystem, path: Path) -> None:
        self.filesystem = filesystem
        self.path = path
        self.entries: list[AbortedTransaction] = []
        self._written_count = 0

    def load(self) -> None:
        """Raises ValueError when the file is not whole entries of version 0. An absent file is an empty index."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        if len(data) % ENTRY.size:
            raise ValueError(f"{self.path.name}: {len(data)} bytes")
        rows = list(ENTRY.iter_unpack(data))
        if any(row[0] != VERSION for row in rows):
            raise ValueError(f"{self.path.name}: unknown version")
        self.entries = [AbortedTransaction(*row[1:]) for row in rows]
        self._written_count = len(rows)

    def append(self, aborted: AbortedTransaction) -> None:
        """The marker is already in the log, so a full disk must not fail here; ``write_out`` reports it."""
        self.entries.append(aborted)
        with suppress(OSError):
            self.write_out()

    def write_out(self) -> None:
        fresh = self.entries[self._written_count :]
        if fresh:
            data = b"".join(ENTRY.pack(VERSION, *entry) for entry in fresh)
            self.filesystem.append_to(self.path, data, self._written_count * ENTRY.size)
            self._written_count = len(self.entries)

    def reset(self) -> None:
        self.entries = []
        self._written_count = 0
        self.filesystem.unlink_if_there(self.path)

    def truncate_to(self, offset: int) -> None:
        """Keep only transactions whose marker is below ``offset``; markers are in offset order."""
        kept = [entry for entry in self.entries if entry.last_offset < offset]
        if len(kept) != len(self.entries):
            if self._written_count > len(kept):
                self.filesystem.truncate_path(self.path, len(kept) * ENTRY.size)
                self._written_count = len(kept)
            self.entries = kept
