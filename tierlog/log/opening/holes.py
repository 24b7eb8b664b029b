"""Which gaps between two segments of a log are right, whatever its cleanup policy is by now.

Within one file every gap is right: a file is written from its front to its end, so that no crash leaves two whole batches
side by side that were not written so. Between two files a power loss may have taken the end of the first. Compaction leaves
such gaps as well, and a follower copies them; how far it did stands in the file ``legal-holes-checkpoint`` of the log: two
lines, a format version and an exclusive offset. Below the recovery point everything was on the disk, and nobody asks.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tierlog.log.files.filesystem import Filesystem

FILE_NAME = "legal-holes-checkpoint"
_VERSION = 0


class LegalHoles:
    """Segments that begin at or below ``end_offset`` may begin behind the end of the one before."""

    __slots__ = ("_filesystem", "end_offset", "path")

    def __init__(self, filesystem: Filesystem, directory: Path) -> None:
        self._filesystem = filesystem
        self.path = directory / FILE_NAME
        self.end_offset = _read(self.path)

    def extend(self, end_offset: int, *, durable: bool) -> bool:
        """Before a gap comes into being. Whether there was something to write. Raises OSError."""
        return end_offset > self.end_offset and self._write(end_offset, durable)

    def cut(self, end_offset: int) -> bool:
        """The log ends there: what is written from now on has no gap of before. Raises OSError."""
        return end_offset < self.end_offset and self._write(end_offset, durable=False)

    def _write(self, end_offset: int, durable: bool) -> bool:
        self._filesystem.write_file(self.path, f"{_VERSION}\n{end_offset}\n".encode(), durable=durable)
        self.end_offset = end_offset
        return True


def _read(path: Path) -> int:
    """0 without a file, or where a power loss left none that can be read: then no gap was synced either."""
    with suppress(FileNotFoundError, ValueError):
        text = path.read_text()
        version, offset, end = text.split("\n")
        if int(version) == _VERSION and not end:
            return int(offset)
    return 0
