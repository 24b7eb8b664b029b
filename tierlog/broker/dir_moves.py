"""Moves replicas between the log directories of this broker (AlterReplicaLogDirs, KIP-113).

The log is copied while it is in use; when little is missing the replica takes leave for a moment, as it does at a
restart: who waits is turned away, the rest is copied, the log is opened in its new place, and the same record gives it the
same role again. Nothing it knew is lost: producers, lineage and high watermark come along.

Rules:

* while it is copied nobody removes or cuts segments (``being_cleaned``);
* a leader waits until none of its ISR changes is under way, since the next machine would not know of it;
* the copy is on the disk before it gets its name, and the old directory keeps its own until then: after a crash at any
  point one of them is whole, and where there are two the longer one counts (``Replicas.recover``);
* what fails leaves the replica where it was. A move does not outlive the process.

Bound: one replica at a time; one wish per replica.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from tierlog.broker import bugs
from tierlog.broker.dir_copy import DirCopy, Part, sync_directory
from tierlog.broker.log_dirs import FUTURE, LogDir
from tierlog.broker.opening import Opening
from tierlog.broker.partition import Partition
from tierlog.broker.replicas import Replicas
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.filesystem import storage_error
from tierlog.log.log import Log
from tierlog.metadata.image import MetadataImage

SMALL_REST_BYTES = 4 * 1024 * 1024
ROUNDS_MAX = 20
WAIT_S = 0.05

Key = tuple[bytes, int]
P = ParamSpec("P")
R = TypeVar("R")

logger = structlog.get_logger()


class DirMoves:
    """One per broker."""

    def __init__(
        self,
        replicas: Replicas,
        image: Callable[[], MetadataImage],
        loop: asyncio.AbstractEventLoop,
        now_ms: Callable[[], int],
    ) -> None:
        self._replicas = replicas
        self._image = image
        self._loop = loop
        self._now_ms = now_ms
        self._wishes: dict[Key, LogDir] = {}
        self._current: tuple[Key, DirCopy] | None = None
        self._task: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="log dir move")

    def move(self, partition: Partition, target: LogDir) -> None:
        """Begins, or changes its mind; where the replica is already there, nothing is under way any more."""
        key = (partition.topic_id, partition.topic_partition.partition)
        if partition.log_dir is target:
            self._wishes.pop(key, None)
            return
        self._wishes[key] = target
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="log dir moves")

    def future_of(self, partition: Partition) -> tuple[LogDir, int] | None:
        """Where the replica goes, and how many bytes are there already."""
        key = (partition.topic_id, partition.topic_partition.partition)
        target = self._wishes.get(key)
        if target is None:
            return None
        is_current = self._current is not None and self._current[0] == key
        return target, self._current[1].copied_bytes if is_current and self._current is not None else 0

    async def close(self) -> None:
        if self._current is not None:
            self._current[1].is_given_up = True
        if self._task is not None:
            self._wishes.clear()
            await asyncio.wait([self._task])
        self._executor.shutdown()

    async def _run(self) -> None:
        try:
            while self._wishes:
                key, target = next(iter(self._wishes.items()))
                try:
                    await self._move(key, target)
                except Exception as error:
                    bugs.report("a replica was not moved to another log directory", error)
                if self._wishes.get(key) is target:
                    del self._wishes[key]
        finally:
            self._current = self._task = None

    async def _move(self, key: Key, target: LogDir) -> None:
        partition = self._replicas.by_id(*key)
        if isinstance(partition, ErrorCode) or partition.log_dir is target or not target.is_online:
            return
        while partition.being_cleaned:
            await asyncio.sleep(WAIT_S)
        name = str(partition.topic_partition)
        copy = DirCopy(partition.log.directory, target.path / f"{name}{FUTURE}")
        self._current = (key, copy)
        partition.being_cleaned = True
        try:
            await self._in_thread(copy.begin)
            if not await self._copy_most(key, partition, target, copy):
                return
            await self._swap(key, partition, target, copy)
            logger.info("moved to another log directory", partition=name, log_dir=str(target.path))
        except StorageError as error:
            logger.error("cannot move to another log directory", partition=name, why=str(error))
        finally:
            partition.being_cleaned = False
            await self._in_thread(remove_tree, copy.target)

    async def _copy_most(self, key: Key, partition: Partition, target: LogDir, copy: DirCopy) -> bool:
        """Until little is missing and the replica may take leave; False where it is not wanted any more."""
        for round_number in range(ROUNDS_MAX):
            await self._in_thread(copy.copy_parts, parts_of(partition.log))
            while not _is_quiet(partition, self._image()):
                if not self._is_wanted(key, partition, target):
                    return False
                await asyncio.sleep(WAIT_S)
            if not self._is_wanted(key, partition, target):
                return False
            is_last = round_number == ROUNDS_MAX - 1
            if is_last or partition.log.size_bytes - copy.copied_bytes <= SMALL_REST_BYTES:
                return True
        return True

    def _is_wanted(self, key: Key, partition: Partition, target: LogDir) -> bool:
        return (
            self._wishes.get(key) is target
            and self._replicas.by_id(*key) is partition
            and partition.offline is None
            and target.is_online
        )

    async def _swap(self, key: Key, partition: Partition, target: LogDir, copy: DirCopy) -> None:
        """From the step in which the replica takes leave to the one in which it is back."""
        log, source = partition.log, partition.log_dir
        high_watermark, recovery_point = partition.high_watermark, log.recovery_point
        opening = self._opening(key, partition, target)
        self._replicas.suspend(partition)
        try:
            log.close_clean(sync=False)
            opened = await self._in_thread(finish, copy, opening, log, high_watermark)
        except StorageError:
            opening = opening._replace(log_dir=source, directory=copy.source)
            opened = await self._in_thread(reopened, opening, log, recovery_point, high_watermark)
            self._replicas.resume(opening, opened, high_watermark, partition.lossy_reason)
            raise
        try:
            self._replicas.unlink_later([log.delete_directory(self._now_ms())])
        except StorageError as error:
            logger.error("a moved log stays where it was too", directory=str(copy.source), why=str(error))
        if partition.topic_partition in source.cleaner_offsets:
            moved = source.cleaner_offsets.pop(partition.topic_partition)
            target.cleaner_offsets[partition.topic_partition] = moved
        self._replicas.resume(opening, opened, high_watermark, partition.lossy_reason)

    def _opening(self, key: Key, partition: Partition, target: LogDir) -> Opening:
        state = self._image().partition(*key)
        assert state is not None, "a hosted partition is in the image"
        name = partition.topic_partition
        directory = target.path / str(name)
        return Opening(name, key[0], state, partition.config, target, directory, self._now_ms())

    async def _in_thread(self, work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        assert not named
        return await self._loop.run_in_executor(self._executor, work, *arguments)


def _is_quiet(partition: Partition, image: MetadataImage) -> bool:
    """Nothing is under way that the next role would not know of."""
    state = image.partition(partition.topic_id, partition.topic_partition.partition)
    leader = partition.leader
    if state is None or partition.pending_cut:
        return state is None
    if leader is None:
        return True
    return leader.changes.in_flight is None and leader.partition_epoch == state.partition_epoch


def parts_of(log: Log) -> list[Part]:
    """The segments, as they are in this step."""
    return [
        Part(f"{segment.base_offset:020d}", segment.size_bytes, segment.is_sealed) for segment in log.segments
    ]


def finish(copy: DirCopy, opening: Opening, log: Log, high_watermark: int) -> Log:
    """The log in its new place, whole and on the disk. In a thread. Raises StorageError; then nothing of it is left."""
    copy.copy_rest()
    try:
        copy.target.rename(opening.directory)
        sync_directory(opening.directory.parent)
        return opened(opening, log, log.log_end_offset, high_watermark, was_clean=True)
    except OSError as error:
        raise storage_error(error, opening.directory) from error
    except StorageError:
        shutil.rmtree(opening.directory, ignore_errors=True)
        raise


def reopened(opening: Opening, log: Log, recovery_point: int, high_watermark: int) -> Log:
    """Where it was; nothing behind the recovery point is believed unread."""
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
    )


def remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
