"""The file ``leader-epoch-checkpoint`` of one log: written when the lineage has changed since.

What the file lacks stands in the headers of the active segment: a roll writes it, and every recovery reads the active
segment. So a full disk may make it wait, except where a start would trust it without reading headers.
"""

from __future__ import annotations

from pathlib import Path

from tierlog.log.files.filesystem import Filesystem, is_no_space
from tierlog.log.leader_epochs import CHECKPOINT_FILE_NAME, EpochLineage


class EpochFile:
    """``text``: as it is on disk, "" where that cannot be relied on."""

    __slots__ = ("_filesystem", "_text", "path")

    def __init__(self, filesystem: Filesystem, directory: Path, text: str) -> None:
        self.path = directory / CHECKPOINT_FILE_NAME
        self._filesystem = filesystem
        self._text = text

    def write(self, epochs: EpochLineage, *, may_wait: bool) -> bool:
        """Whether it was written: there was something new, and room. Raises OSError, for want of room unless
        ``may_wait``."""
        text = epochs.encode()
        if text == self._text:
            return False
        try:
            self._filesystem.write_file(self.path, text.encode(), durable=False)
        except OSError as error:
            if may_wait and is_no_space(error):
                return False
            raise
        self._text = text
        return True
