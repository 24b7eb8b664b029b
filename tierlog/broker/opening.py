"""What it takes to open the log of one partition."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tierlog.broker.log_dirs import LogDir
from tierlog.config.topic import TopicConfig
from tierlog.errors import DiskFull, StorageError
from tierlog.log.log import Log
from tierlog.log.names import LOG
from tierlog.metadata.records import PartitionState
from tierlog.types import TopicPartition


class Opening(NamedTuple):
    """A log to be opened; ``open_log`` touches nothing but its directory, so that a thread may do it."""

    topic_partition: TopicPartition
    topic_id: bytes
    state: PartitionState
    config: TopicConfig
    log_dir: LogDir
    directory: Path
    now_ms: int

    def open_log(self) -> Log:
        """Raises StorageError."""
        name, log_dir = self.topic_partition, self.log_dir
        return Log.open(
            self.directory,
            name,
            self.topic_id,
            self.config,
            now_ms=self.now_ms,
            was_clean=log_dir.was_clean,
            recovery_point=log_dir.recovery_points.get(name, 0),
            log_start_offset=log_dir.log_starts.get(name, 0),
            high_watermark=log_dir.high_watermarks.get(name, 0),
        )

    def open_log_if_room(self) -> Log | None:
        """None where a log that holds nothing yet finds no room: nothing is left of it. Raises StorageError."""
        try:
            return self.open_log()
        except DiskFull:
            if any(self.directory.glob(f"*{LOG}")):
                raise
            shutil.rmtree(self.directory, ignore_errors=True)
            return None

    def open_at_start(self) -> Log | StorageError | None:
        """As ``open_log_if_room``; a log that cannot be opened is told, since the others can. Raises DiskFull."""
        try:
            return self.open_log_if_room()
        except DiskFull:
            raise
        except StorageError as error:
            return error


def found_directories(
    log_dirs: Iterable[LogDir], twins: set[str] | None = None
) -> dict[str, tuple[LogDir, Path]]:
    """What lies in the log directories, by name; their checkpoints are loaded, and what an earlier run left half done goes.
    A crash between the last steps of a move leaves two of a name: the longer one has everything, unless that crash was a
    power loss. Into ``twins`` go their names."""
    found: dict[str, tuple[LogDir, Path]] = {}
    for log_dir in log_dirs:
        log_dir.remove_leftovers()
        log_dir.load_checkpoints()
        for directory in log_dir.partition_directories():
            before = found.get(directory.name)
            if before is not None and twins is not None:
                twins.add(directory.name)
            if before is not None and before[0].bytes_in(before[1]) >= log_dir.bytes_in(directory):
                log_dir.set_aside(directory)
                continue
            if before is not None:
                before[0].set_aside(before[1])
            found[directory.name] = (log_dir, directory)
    return found
