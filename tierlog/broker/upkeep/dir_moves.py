"""Moves replicas between the log directories of this broker (AlterReplicaLogDirs, KIP-113).

The log is copied while it is in use. When little is missing, the replica is suspended for a moment, as at a restart: waiting
requests are refused, the rest is copied, the log is opened in its new place, and the replica resumes the role that the same
partition record gives it. It keeps its producer state, epoch lineage and high watermark.

Rules:

* while a log is copied nobody removes or cuts its segments (``log.removals``);
* a leader's move waits until no ISR change is under way, since the new leader object would not know of it;
* after a crash at any point one whole log is there (``dir_swap``);
* a wish (a requested move) is on the disk before the request is answered (``future_dirs``). The next start goes on with it,
  and does not copy again the sealed segments that were copied;
* a move that fails leaves the replica where it was, and ends the wish. If either directory fails, the wish stays on the disk
  for the next start.

Bound: one replica at a time; one wish per replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from tierlog.broker import bugs
from tierlog.broker.disk import future_dirs
from tierlog.broker.disk.dir_copy import DirCopy
from tierlog.broker.disk.future_dirs import Future, Key
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.disk.opening import Opening
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.upkeep.dir_swap import finish, parts_of, reopened
from tierlog.broker.work.background import Background, Kept
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.removals import MOVE
from tierlog.metadata.image import MetadataImage
from tierlog.types import TopicPartition

SMALL_REST_BYTES = 4 * 1024 * 1024
ROUNDS_MAX = 20
WAIT_S = 0.05

P = ParamSpec("P")
R = TypeVar("R")

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """A requested move to ``target``. ``directory``: the future replica's, which the log is copied to."""

    target: LogDir
    directory: Path


@dataclass(frozen=True, slots=True)
class Change:
    """The change that a request makes for one replica: the wish ``old`` is withdrawn, ``new`` begins."""

    key: Key
    topic_partition: TopicPartition
    old: Wish | None
    new: Wish | None


class DirMoves:
    """One per broker. ``on_moved`` is awaited after each move, and writes the new place into the checkpoints."""

    def __init__(
        self,
        replicas: Replicas,
        image: Callable[[], MetadataImage],
        loop: asyncio.AbstractEventLoop,
        now_ms: Callable[[], int],
        on_moved: Callable[[], Awaitable[None]],
        background: Background,
    ) -> None:
        self._replicas = replicas
        self._image = image
        self._loop = loop
        self._now_ms = now_ms
        self._on_moved = on_moved
        self._wishes: dict[Key, Wish] = {}
        self._current: tuple[Key, DirCopy] | None = None
        self._background = background
        self._task: Kept | None = None
        self._is_closing = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="log dir move")
        # A thread of its own, so that a request does not wait for a copy.
        self._marker = ThreadPoolExecutor(1, thread_name_prefix="log dir wish")

    def resume(self, found: Mapping[Key, Future]) -> None:
        """Takes up the wishes that an earlier run left on the disk; copies whose replica is gone are removed."""
        for key, (log_dir, directory) in found.items():
            partition = self._replicas.by_id(*key)
            if not isinstance(partition, ErrorCode) and partition.log_dir is not log_dir:
                self._wishes[key] = Wish(log_dir, directory)
            elif key not in self._replicas.unopened:
                self._marker.submit(future_dirs.remove_tree, directory)
        self._begin()

    async def move(self, wanted: Sequence[tuple[Partition, LogDir]]) -> dict[TopicPartition, StorageError]:
        """Requests these moves, in place of earlier wishes for the same replicas; a replica that is already in its target
        directory only loses its wish. Returns, once all of it is on the disk, the wishes that could not be written there."""
        changes = [change for change in map(self._change, wanted) if change is not None]
        if not changes:
            return {}
        failures = await self._loop.run_in_executor(self._marker, mark, changes)
        for change in changes:
            error = failures.get(change.topic_partition)
            if error is not None and self._wishes.get(change.key) is change.new:
                self._wishes.pop(change.key, None)
        self._begin()
        return failures

    def _change(self, wanted: tuple[Partition, LogDir]) -> Change | None:
        partition, target = wanted
        name = partition.topic_partition
        key = (partition.topic_id, name.partition)
        old, new = self._wishes.get(key), None
        if old is not None and old.target is target:
            return None
        if partition.log_dir is not target:
            new = self._wishes[key] = Wish(target, future_dirs.future_path(target, name))
        elif old is not None:
            del self._wishes[key]
        if old is not None and self._current is not None and self._current[0] == key:
            self._current[1].is_given_up = True
        return Change(key, name, old, new) if old is not None or new is not None else None

    def future_of(self, partition: Partition) -> tuple[LogDir, int] | None:
        """The directory that the replica is moving to, and how many bytes are copied; None without a move."""
        key = (partition.topic_id, partition.topic_partition.partition)
        wish = self._wishes.get(key)
        if wish is None:
            return None
        is_current = self._current is not None and self._current[0] == key
        return wish.target, self._current[1].copied_bytes if is_current and self._current is not None else 0

    async def close(self) -> None:
        """Stops; the wishes stay on the disk."""
        self._is_closing = True
        if self._current is not None:
            self._current[1].is_given_up = True
        if self._task is not None:
            self._wishes.clear()
            await self._task.wait()
        self._executor.shutdown()
        self._marker.shutdown()

    def _begin(self) -> None:
        if self._wishes and (self._task is None or self._task.is_over) and not self._is_closing:
            self._task = self._background.job("log dir moves", self._run)

    async def _run(self) -> None:
        try:
            while self._wishes:
                key, wish = next(iter(self._wishes.items()))
                try:
                    await self._move(key, wish)
                except Exception as error:
                    bugs.report("a replica was not moved to another log directory", error)
                if self._wishes.get(key) is wish:
                    del self._wishes[key]
        finally:
            self._current = None

    async def _move(self, key: Key, wish: Wish) -> None:
        partition, target = self._replicas.by_id(*key), wish.target
        if isinstance(partition, ErrorCode) or partition.log_dir is target:
            await self._forget(key, wish)
            return
        while partition.log.removals.are_held:
            await asyncio.sleep(WAIT_S)
        name = str(partition.topic_partition)
        copy = DirCopy(partition.log.directory, wish.directory)
        self._current = (key, copy)
        try:
            with partition.log.removals.hold(MOVE):
                # In the thread that writes wishes, so after this wish was written.
                await self._loop.run_in_executor(self._marker, copy.begin)
                if await self._copy_most(key, partition, wish, copy):
                    await self._swap(key, partition, target, copy)
                    logger.info("moved to another log directory", partition=name, log_dir=str(target.path))
                    await self._on_moved()
        except StorageError as error:
            # If the topic was deleted meanwhile, its files are gone.
            is_hosted = not isinstance(self._replicas.by_id(*key), ErrorCode)
            if is_hosted and not copy.is_given_up:
                logger.error("cannot move to another log directory", partition=name, why=str(error))
        finally:
            self._current = None
            await self._forget(key, wish)

    async def _forget(self, key: Key, wish: Wish) -> None:
        """Removes the wish and its copy from the disk, unless a stop or a failed directory ended the move."""
        partition = self._replicas.by_id(*key)
        is_offline = not isinstance(partition, ErrorCode) and partition.offline is not None
        if not (
            self._is_closing or is_offline or key in self._replicas.unopened or not wish.target.is_online
        ):
            await self._in_thread(future_dirs.remove_tree, wish.directory)

    async def _copy_most(self, key: Key, partition: Partition, wish: Wish, copy: DirCopy) -> bool:
        """Copies until little is missing and the replica may be suspended; False if the move is no longer wanted."""
        for round_number in range(ROUNDS_MAX):
            await self._in_thread(copy.copy_parts, parts_of(partition.log))
            while not _is_quiet(partition, self._image()):
                if not self._is_wanted(key, partition, wish):
                    return False
                await asyncio.sleep(WAIT_S)
            if not self._is_wanted(key, partition, wish):
                return False
            is_last = round_number == ROUNDS_MAX - 1
            if is_last or partition.log.size_bytes - copy.copied_bytes <= SMALL_REST_BYTES:
                return True
        return True

    def _is_wanted(self, key: Key, partition: Partition, wish: Wish) -> bool:
        return (
            self._wishes.get(key) is wish
            and self._replicas.by_id(*key) is partition
            and partition.offline is None
            and wish.target.is_online
        )

    async def _swap(self, key: Key, partition: Partition, target: LogDir, copy: DirCopy) -> None:
        """Suspends the replica, finishes the copy, and resumes the replica in its new place, or on failure in the old."""
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
            logger.error(
                "the old copy of a moved log cannot be removed", directory=str(copy.source), why=str(error)
            )
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
    """Whether neither a cut nor an ISR change is under way: a resumed replica would not know of it."""
    state = image.partition(partition.topic_id, partition.topic_partition.partition)
    leader = partition.leader
    if state is None or partition.pending_cut:
        return state is None
    if leader is None:
        return True
    return leader.changes.in_flight is None and leader.partition_epoch == state.partition_epoch


def mark(changes: Sequence[Change]) -> dict[TopicPartition, StorageError]:
    """Writes the new wishes to the disk, then withdraws the old ones; returns the failures. Runs in a thread."""
    failures: dict[TopicPartition, StorageError] = {}
    for change in changes:
        try:
            if change.new is not None:
                future_dirs.create(change.new.directory, change.key[0])
            if change.old is not None:
                future_dirs.retire(change.old.directory, change.topic_partition)
        except StorageError as error:
            failures[change.topic_partition] = error
            logger.error(
                "cannot note a move to another log directory",
                partition=str(change.topic_partition),
                why=str(error),
            )
    return failures
