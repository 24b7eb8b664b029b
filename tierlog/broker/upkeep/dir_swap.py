"""The last step of a move between log directories: the copy becomes the log. Blocks; for a worker thread.

The copy is complete and synced before it gets the log's name, and the old directory keeps its name until then. So after a
crash at any point one of them is complete. If both are there, they are alike, or the old one lacks what was not synced
(``opening.found_directories``).
"""

from __future__ import annotations

from contextlib import suppress

from tierlog.broker.disk.dir_copy import DirCopy, Part
from tierlog.broker.disk.opening import Opening
from tierlog.errors import StorageError
from tierlog.log.files.filesystem import storage_error
from tierlog.log.log import Log


def parts_of(log: Log) -> list[Part]:
    """The log's segments, as they are in this step."""
    return [
        Part(f"{segment.base_offset:020d}", segment.size_bytes, segment.is_sealed) for segment in log.segments
    ]


def finish(copy: DirCopy, opening: Opening, log: Log, high_watermark: int) -> Log:
    """Opens the log in its new place, complete and synced. Raises StorageError; then no directory there has its name."""
    copy.copy_rest()
    filesystem, directory = copy.filesystem, opening.directory
    try:
        filesystem.rename(copy.target, directory)
        filesystem.sync_path(directory.parent)
        return opened(opening, log, log.log_end_offset, high_watermark, was_clean=True)
    except (OSError, StorageError) as error:
        with suppress(OSError):
            filesystem.rename_if_there(directory, copy.target)
        if isinstance(error, OSError):
            raise storage_error(error, directory) from error
        raise


def reopened(opening: Opening, log: Log, recovery_point: int, high_watermark: int) -> Log:
    """Opens the log in its old place; everything behind the recovery point is verified."""
    return opened(opening, log, recovery_point, high_watermark, was_clean=False)


def opened(opening: Opening, log: Log, recovery_point: int, high_watermark: int, *, was_clean: bool) -> Log:
    return Log.open(
        opening.directory,
        opening.topic_partition,
        opening.topic_id,
        opening.config,
        now_ms=opening.now_ms,
        was_clean=was_clean,
        recovery_point=recovery_point,
        log_start_offset=log.log_start_offset,
        high_watermark=high_watermark,
        filesystem=log.filesystem,
    )
