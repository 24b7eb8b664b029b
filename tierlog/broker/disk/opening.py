"""Finds the logs of partitions in the log directories, and opens them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import structlog

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.config.topic import TopicConfig
from tierlog.errors import DiskFull, StorageError
from tierlog.log.files.filesystem import translated
from tierlog.log.files.names import LOG
from tierlog.log.log import Log
from tierlog.log.opening.last_record import last_record
from tierlog.metadata.records import PartitionState
from tierlog.types import TopicPartition

Opened = Log | StorageError | None
# Logs by the name of their directories.
Found = dict[str, tuple[LogDir, Path]]

logger = structlog.get_logger()


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
            was_clean=log_dir.was_clean and name not in log_dir.unclean,
            recovery_point=log_dir.recovery_points.get(name, 0),
            log_start_offset=log_dir.log_starts.get(name, 0),
            high_watermark=log_dir.high_watermarks.get(name, 0),
        )

    def open_log_if_room(self) -> Log | None:
        """None where there is no room for a new, empty log, whose directory is then removed. Raises StorageError."""
        try:
            return self.open_log()
        except DiskFull:
            if any(self.directory.glob(f"*{LOG}")):
                raise
            shutil.rmtree(self.directory, ignore_errors=True)
            return None

    def open_at_start(self) -> Opened:
        """As ``open_log_if_room``, but returns the error of a log that cannot be opened: others can be. Raises DiskFull."""
        try:
            return self.open_log_if_room()
        except DiskFull:
            raise
        except StorageError as error:
            return error


def _all_belong(directory: Path) -> bool:
    return True


def found_directories(
    log_dirs: Sequence[LogDir],
    twins: set[str] | None = None,
    belongs: Callable[[Path], bool] = _all_belong,
    strangers: list[tuple[LogDir, Path]] | None = None,
) -> Found:
    """The logs in the log directories, by name. Loads the checkpoints and removes what an earlier run left half done. Of two
    logs of one name the newer counts, and ``twins`` gets their name; ``strangers`` gets logs that do not belong here. A
    directory that cannot be read is offline from here on."""
    found: Found = {}
    for log_dir in log_dirs:
        if log_dir.is_online:
            try:
                for directory in load(log_dir):
                    if not belongs(directory):
                        if strangers is not None:
                            strangers.append((log_dir, directory))
                        continue
                    if directory.name in found and twins is not None:
                        twins.add(directory.name)
                    _add(found, log_dir, directory)
            except DiskFull:
                raise
            except StorageError as error:
                log_dir.fail(error)
    return {name: place for name, place in found.items() if place[0].is_online}


@translated
def load(log_dir: LogDir) -> list[Path]:
    """Loads the directory's checkpoints; returns the logs in it. Raises StorageError."""
    log_dir.remove_leftovers()
    log_dir.load_checkpoints()
    directories = log_dir.partition_directories()
    for directory in directories:
        log_dir.heed_note(directory)
    return directories


def _add(found: Found, log_dir: LogDir, directory: Path) -> None:
    """Adds a log. Two of one name come from a crash between the last steps of a move, or from a directory that was away for
    some time. If both end alike, the older one is removed; else it is set aside, for people to look at."""
    before = found.get(directory.name)
    if before is None:
        found[directory.name] = (log_dir, directory)
        return
    known, other = last_record(before[1]), last_record(directory)
    old, new = before, (log_dir, directory)
    if not other.is_newer(known):
        old, new = new, old
    found[directory.name] = new
    if known.ends_alike(other):
        old[0].discard(old[1])
        return
    aside = old[0].set_aside(old[1])
    logger.warning("set aside the older log of a replica that was found twice", directory=str(aside))


def may_lie_elsewhere(state: PartitionState, broker_id: int) -> bool:
    """Whether a replica whose log was not found may lie in a directory that cannot be used. An empty log in its place would
    look as if it held all that the replica once acknowledged. Only a replica that is still being added and was never in sync
    may begin anew: whether the missing directory holds a part of it does not matter."""
    counted = (*state.isr, *state.elr)
    return broker_id not in state.adding or broker_id in counted or not counted


def opened(openings: Sequence[Opening], log_dirs: Sequence[LogDir], threads: int) -> Iterator[Opened]:
    """The logs, in order; None for a new one without room, an error for one that cannot be opened. Recovery mostly waits for
    the disk, so several logs are opened at once: ``threads`` per directory."""
    online = [log_dir for log_dir in log_dirs if log_dir.is_online]
    if threads * len(online) == 1 or all(log_dir.was_clean for log_dir in online):
        yield from map(Opening.open_at_start, openings)
        return
    with ThreadPoolExecutor(threads * len(online), thread_name_prefix="recovery") as executor:
        yield from executor.map(Opening.open_at_start, openings)
