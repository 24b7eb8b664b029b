"""Logs that the cluster does not know are set aside, and taken back once it knows them again.

A log lies under ``<topic>-<n>``; the topic id in it says whose it is. At a start

* a log of a topic id that the cluster is deleting is removed;
* any other log that is not assigned here is set aside under ``<topic>-<n>.<hash>-stray``, and stays until somebody removes
  it: the metadata store may be an older copy, and the next start may find the right one;
* a log that was set aside and is assigned here now gets its name back, unless another log of the same id has records by
  then: that one was written to since, and people have to look at the two.

Nothing is taken back while a log directory is offline: a newer log of the same replica may lie there.

Blocks; before serving.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from tierlog.broker.disk.log_dirs import LogDir, rename
from tierlog.broker.disk.opening import Found
from tierlog.errors import StorageError
from tierlog.log.files.checkpoints import read_partition_metadata
from tierlog.log.files.names import LOG, parse_partition_directory, parse_stray_directory
from tierlog.log.opening.last_record import last_record
from tierlog.metadata.image import MetadataImage
from tierlog.types import TopicPartition

logger = structlog.get_logger()


class Strays:
    """One start's view of what belongs here. ``kept_count``: logs that are set aside."""

    def __init__(self, image: MetadataImage, node_id: int) -> None:
        self._image = image
        self._node_id = node_id
        self._deleted = {topic.topic_id for topic in image.deleting_topics()}
        self.kept_count = 0

    def belongs(self, directory: Path) -> bool:
        """Whether a log under its own name is assigned here. One whose topic id is missing or unreadable counts as its
        name says; opening it will tell."""
        name = parse_partition_directory(directory.name)
        topic = self._image.topic(name.topic) if name is not None else None
        if name is None or topic is None or not self._is_mine(topic.topic_id, name.partition):
            return False
        try:
            topic_id = read_partition_metadata(directory)
        except StorageError:
            return True
        return topic_id is None or topic_id == topic.topic_id

    def _is_mine(self, topic_id: bytes, index: int) -> bool:
        state = self._image.partition(topic_id, index)
        return state is not None and self._node_id in state.replicas

    def set_aside(self, strangers: Iterable[tuple[LogDir, Path]]) -> None:
        for log_dir, directory in strangers:
            try:
                if read_partition_metadata(directory) in self._deleted:
                    shutil.rmtree(directory, ignore_errors=True)
                    continue
                aside = log_dir.set_aside(directory)
            except StorageError as error:
                logger.error("cannot set a partition aside", directory=str(directory), why=str(error))
                continue
            logger.warning("set aside a stray log: it is not assigned to this broker", directory=str(aside))

    def take_back(self, found: Found, log_dirs: Sequence[LogDir]) -> None:
        """Takes back logs that are assigned here again, and adds them to ``found``."""
        may_take = all(log_dir.is_online for log_dir in log_dirs)
        for log_dir in log_dirs:
            if log_dir.is_online:
                try:
                    for entry in sorted(log_dir.path.iterdir()):
                        index = parse_stray_directory(entry.name)
                        if index is not None and entry.is_dir():
                            self._look_at(found, log_dir, entry, index, may_take)
                except (OSError, StorageError) as error:
                    logger.error(
                        "logs that were set aside cannot be listed", log_dir=str(log_dir.path), why=str(error)
                    )
        if self.kept_count:
            logger.warning(
                "stray logs stay set aside until they are removed, or assigned to this broker again",
                count=self.kept_count,
            )

    def _look_at(self, found: Found, log_dir: LogDir, directory: Path, index: int, may_take: bool) -> None:
        topic_id = read_partition_metadata(directory)
        if topic_id in self._deleted:
            shutil.rmtree(directory, ignore_errors=True)
            return
        topic = self._image.topics_by_id.get(topic_id) if topic_id is not None else None
        if topic is None or not may_take or not self._is_mine(topic.topic_id, index):
            self.kept_count += 1
            return
        name = TopicPartition(topic.name, index)
        place = found.get(str(name))
        if place is not None and not _is_empty_beside(place[1], directory):
            logger.error(
                "a stray log is assigned here again, but another log with records is in its place: it stays set aside",
                directory=str(directory),
            )
            self.kept_count += 1
            return
        if place is not None:
            place[0].discard(place[1])
        back = directory.with_name(str(name))
        rename(directory, back)
        log_dir.heed_note(back, was_aside=True)
        found[str(name)] = (log_dir, back)
        logger.warning("took back a log that had been set aside", directory=str(back))


def _is_empty_beside(directory: Path, stray: Path) -> bool:
    """Whether the log at ``directory`` was never written to: it only took the place of ``stray``, which was set aside."""
    held_bytes = sum(path.stat().st_size for path in directory.glob(f"*{LOG}"))
    return held_bytes == 0 == last_record(directory).end_offset < last_record(stray).end_offset
