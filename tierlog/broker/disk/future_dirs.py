"""Replicas that are being moved to another log directory, as the disk records them.

A replica that is to move has a directory ``<topic>-<n>.<hash>-future`` in its target log directory, as in Kafka, from the
moment in which the request is answered until the copy gets the log's own name. This directory is both the request and the
place of the copy: a start finds it and goes on. The topic id in it says whose it is.

Blocks; for a worker thread, or before serving. Raises StorageError. Bound: one per hosted replica.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import structlog

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.errors import StorageError
from tierlog.log.files.checkpoints import read_partition_metadata, write_partition_metadata
from tierlog.log.files.filesystem import REAL, Filesystem, translated
from tierlog.log.files.names import (
    PARTITION_METADATA,
    deleted_directory,
    future_directory,
    parse_future_directory,
)
from tierlog.types import TopicPartition

Key = tuple[bytes, int]

logger = structlog.get_logger()


class Future(NamedTuple):
    """A ``-future`` directory that a start has found."""

    log_dir: LogDir
    directory: Path


def future_path(log_dir: LogDir, topic_partition: TopicPartition) -> Path:
    """The path of a new ``-future`` directory."""
    return log_dir.path / future_directory(topic_partition, uuid.uuid4().hex)


@translated
def create(directory: Path, topic_id: bytes, filesystem: Filesystem = REAL) -> None:
    """Creates the directory; it is on the disk when this returns."""
    filesystem.mkdir(directory)
    write_partition_metadata(directory, topic_id, filesystem)
    for path in (directory / PARTITION_METADATA, directory, directory.parent):
        filesystem.sync_path(path)


@translated
def retire(directory: Path, topic_partition: TopicPartition, filesystem: Filesystem = REAL) -> None:
    """Removes a ``-future`` directory. It is renamed first, so that a crash leaves neither a request to move nor a log."""
    gone = directory.with_name(deleted_directory(topic_partition, uuid.uuid4().hex))
    if filesystem.rename_if_there(directory, gone):
        filesystem.sync_path(directory.parent)
        shutil.rmtree(gone, ignore_errors=True)


def remove_tree(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def found_futures(log_dirs: Iterable[LogDir]) -> dict[Key, Future]:
    """The moves that an earlier run had not finished; of two of one replica, the newer request."""
    found: dict[Key, tuple[int, Future]] = {}
    for log_dir in log_dirs:
        if log_dir.is_online:
            try:
                _look(log_dir, found)
            except StorageError as error:
                logger.error(
                    "replicas that move between log directories cannot be listed",
                    log_dir=str(log_dir.path),
                    why=str(error),
                )
    return {key: future for key, (_, future) in found.items()}


@translated
def _look(log_dir: LogDir, found: dict[Key, tuple[int, Future]]) -> None:
    for directory in sorted(log_dir.path.iterdir()):
        index = parse_future_directory(directory.name)
        if index is None or not directory.is_dir():
            continue
        topic_id = read_partition_metadata(directory)
        if topic_id is None:  # the request was never answered
            shutil.rmtree(directory, ignore_errors=True)
            continue
        wished_ns = (directory / PARTITION_METADATA).stat().st_mtime_ns
        before = found.get((topic_id, index))
        if before is not None and before[0] > wished_ns:
            shutil.rmtree(directory, ignore_errors=True)
            continue
        if before is not None:
            shutil.rmtree(before[1].directory, ignore_errors=True)
        found[topic_id, index] = (wished_ns, Future(log_dir, directory))
