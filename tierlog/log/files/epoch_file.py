"""The file ``leader-epoch-checkpoint`` of one log. It is written when the lineage has changed since the last write.

Epochs that the file lacks stand in the headers of the active segment: a roll writes the file, and every recovery reads the
active segment. So a full disk may delay the write, except where a start would trust the file without reading headers.
"""

from __future__ import annotations

from pathlib import Path

from tierlog.log.files.filesystem import Filesystem, is_no_space
from tierlog.log.leader_epochs import CHECKPOINT_FILE_NAME, EpochLineage


class EpochFile:
    """``text``: the content on disk, "" where that cannot be relied on."""

    __slots__ = ("_filesystem", "_text", "path")

    def __init__(self, filesystem: Filesystem, directory: Path, text: str) -> None:
        self.path = directory / CHECKPOINT_FILE_NAME
        self._filesystem = filesystem
        self._text = text

    def write(self, epochs: EpochLineage, *, may_wait: bool) -> bool:
        """Write the file if the lineage has changed. True when it was written. Raises OSError; a lack of space only
        where the write must not wait (``may_wait``)."""
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
