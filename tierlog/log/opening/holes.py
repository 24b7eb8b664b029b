"""Which gaps between two segments of a log are legal, whatever its cleanup policy is now.

Within one file every gap is legal: a file is written from front to end, so a crash never makes two whole batches adjoin
that were not written so. Between two files a power loss may have taken the end of the first. Compaction leaves such gaps
as well, and a follower copies them; the log's file ``legal-holes-checkpoint`` says up to where: two lines, a format version
and an exclusive offset. Below the recovery point everything was on the disk, and gaps are not checked.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tierlog.log.files.filesystem import Filesystem

FILE_NAME = "legal-holes-checkpoint"
_VERSION = 0


class LegalHoles:
    """A segment whose base offset is at or below ``end_offset`` may leave a gap to the segment before it."""

    __slots__ = ("_filesystem", "end_offset", "path")

    def __init__(self, filesystem: Filesystem, directory: Path) -> None:
        self._filesystem = filesystem
        self.path = directory / FILE_NAME
        self.end_offset = _read(self.path)

    def extend(self, end_offset: int, *, durable: bool) -> bool:
        """Call before a gap is made. True when the file was written. Raises OSError."""
        return end_offset > self.end_offset and self._write(end_offset, durable)

    def cut(self, end_offset: int) -> bool:
        """The log was truncated to ``end_offset``: later writes have no legal gap yet. Raises OSError."""
        return end_offset < self.end_offset and self._write(end_offset, durable=False)

    def _write(self, end_offset: int, durable: bool) -> bool:
        self._filesystem.write_file(self.path, f"{_VERSION}\n{end_offset}\n".encode(), durable=durable)
        self.end_offset = end_offset
        return True


def _read(path: Path) -> int:
    """0 when there is no file, or a power loss left it unreadable: then no gap was synced either."""
    with suppress(FileNotFoundError, ValueError):
        text = path.read_text()
        version, offset, end = text.split("\n")
        if int(version) == _VERSION and not end:
            return int(offset)
    return 0
