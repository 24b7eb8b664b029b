"""The end of a clean stop: flushes and closes every log, then marks each log directory as cleanly stopped.

A directory that is offline, or in which a step fails, gets no mark: the next start has to recover its logs. Blocks.
"""

from __future__ import annotations

from functools import partial

import structlog

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Offline
from tierlog.errors import StorageError

logger = structlog.get_logger()


def close_clean(replicas: Replicas, broker_epoch: int) -> bool:
    """Returns whether every log directory got its mark."""
    replicas.finish_drops()
    unclean = {log_dir for log_dir in replicas.log_dirs if not log_dir.is_online}
    for partition in replicas:
        if partition.offline is Offline.BUG:
            unclean.add(partition.log_dir)  # a log that a bug has stopped must be recovered
        if partition.offline is None:
            try:
                partition.log_dir.with_room(partial(partition.log.close_clean, sync=False))
            except StorageError as error:
                _cannot_stop_clean(partition.log_dir, error, unclean)
    replicas.gather_checkpoints()
    for log_dir in replicas.log_dirs:
        if log_dir not in unclean:
            try:
                log_dir.sync()
                log_dir.with_room(log_dir.write_checkpoints)
                log_dir.with_room(partial(log_dir.mark_clean, broker_epoch))
            except StorageError as error:
                _cannot_stop_clean(log_dir, error, unclean)
        log_dir.close()
    return not unclean


def _cannot_stop_clean(log_dir: LogDir, error: StorageError, unclean: set[LogDir]) -> None:
    if log_dir not in unclean:
        unclean.add(log_dir)
        logger.error(
            "a log directory cannot be marked as cleanly stopped", log_dir=str(log_dir.path), why=str(error)
        )
