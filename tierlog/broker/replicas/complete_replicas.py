"""The files, one in each log directory, that name the replicas which are complete even after a power loss.

``replication.proof`` decides which replicas a file names; here the files are read, written and acted on. After a power loss
of all brokers of a partition, an eligible replica that its file names may lead at once (``metadata.control.election``).

Rules:

* One write at a time, off the loop, durable when it returns, for all replicas that have changed since the last: a round a
  second while there are changes, at once where a change of ``flush.mode`` waits for it.
* At a start a name counts only where its log was found undamaged and only once, in a directory whose session file is
  trusted (``session_verdict``): not doubtful, and not older than the last session that the controller knows, as in a
  restored copy. (As there, a copy made and restored within one session cannot be detected.) All other names are removed
  before this process registers.
* Where there is no room to write a file it is removed, which needs none: then it names no replica.

Bound: 40 bytes a replica and file; ``CHANGES_MAX`` replicas a write; those that are not named yet are looked at once a
second, in slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from tierlog.broker.work.background import Background, Kept
from tierlog.errors import DiskFull, StorageError, UserError
from tierlog.log.files.checkpoints import encode_topic_id
from tierlog.log.files.filesystem import REAL, translated
from tierlog.replication.proof import Note, Proof

if TYPE_CHECKING:
    from tierlog.broker.disk.log_dirs import LogDir
    from tierlog.broker.replicas.partition import Partition

FILE_NAME = ".tierlog-whole"
FORMAT_VERSION = 1
ROUND_S = 1.0
SLICE = 500
CHANGES_MAX = 1000

logger = structlog.get_logger()


class KnowsInSync(Protocol):
    """Answers what the metadata says of this broker's replicas; see ``roles``."""

    def is_in_sync(self, partition: Partition) -> bool:
        """Whether the replica is in the ISR, and the controller has handled this process's registration."""


class CompleteReplicas:
    """One per broker. ``on_failed_dir`` is called when a directory's file could not be written."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        background: Background,
        log_dirs: Iterable[LogDir],
        roles: KnowsInSync,
        on_failed_dir: Callable[[LogDir, StorageError], None],
    ) -> None:
        self._loop = loop
        self._background = background
        self._roles = roles
        self._on_failed_dir = on_failed_dir
        # The names in each directory's file: those that are surely there, and those that may be.
        self._named: dict[LogDir, frozenset[str]] = {log_dir: frozenset() for log_dir in log_dirs}
        self._perhaps: dict[LogDir, frozenset[str]] = dict(self._named)
        self._hosted: dict[str, Partition] = {}
        # Replicas of which a file does not say what it should; and names of replicas that have left.
        self._due: set[Partition] = set()
        self._gone: set[str] = set()
        self._task: Kept | None = None
        self._hurry = asyncio.Event()
        self._has_begun = self._is_closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="complete-replicas")

    # -- hosted replicas

    def host(self, partition: Partition, wants_synced: bool) -> None:
        """A log was opened; nothing is proven of it yet."""
        key = key_of(partition)
        note = Note.UNKNOWN if self._may_be_named(key) else Note.ABSENT
        partition.proof = Proof(wants_synced, partition.log.log_end_offset, note)
        partition.flush_acks = partition.proof.counts_synced
        self._hosted[key] = partition
        self._look_at(partition)

    def unhost(self, partition: Partition) -> None:
        self._due.discard(partition)
        key = key_of(partition)
        if self._hosted.pop(key, None) is not None and self._may_be_named(key):
            self._gone.add(key)
            self._wake()

    def configure(self, partition: Partition, wants_synced: bool) -> None:
        """``flush.mode`` as configured; ``os`` takes effect once no file on disk names the replica any more."""
        partition.proof.configure(wants_synced, partition.log.log_end_offset)
        self._take_effect(partition)
        if self._look_at(partition) and not wants_synced:
            self._hurry.set()

    def _take_effect(self, partition: Partition) -> None:
        if partition.flush_acks != partition.proof.counts_synced:
            partition.set_flush_acks(partition.proof.counts_synced)

    def _look_at(self, partition: Partition) -> bool:
        if partition.proof.is_settled:
            self._due.discard(partition)
            return False
        self._due.add(partition)
        self._wake()
        return True

    # -- start and stop

    def adopt(self, trusted: Collection[LogDir], found: Collection[str]) -> None:
        """Keeps the names that still count; called after recovery, before anything is counted. ``trusted``: directories
        that hold what the last session left; ``found``: partitions whose log was found only once. Blocks."""
        for log_dir in self._named:
            before = read_names(log_dir.path)
            kept = set()
            for partition in self._hosted.values():
                key = key_of(partition)
                is_whole = not partition.lossy_reason and str(partition.topic_partition) in found
                is_here = partition.log_dir is log_dir and log_dir in trusted and key in before
                if is_here and is_whole and partition.proof.wants_synced:
                    kept.add(key)
            if log_dir.is_online and kept != before:
                try:
                    _write(log_dir, frozenset(kept))
                except DiskFull:
                    kept.clear()
                except StorageError as error:
                    self._on_failed_dir(log_dir, error)
                    continue
            self._named[log_dir] = self._perhaps[log_dir] = frozenset(kept)
            for key in kept:
                self._hosted[key].proof.on_written(True)
                self._due.discard(self._hosted[key])

    def begin(self) -> None:
        """Roles count from here on, so the files are kept up to date."""
        self._has_begun = True
        if self._due:
            self._wake()

    async def close(self) -> None:
        """Waits for a write that is under way."""
        self._is_closed = True
        self._hurry.set()
        if self._task is not None:
            await self._task.wait()
        self._executor.shutdown()

    # -- rounds

    def _wake(self) -> None:
        if self._has_begun and not self._is_closed and (self._task is None or self._task.is_over):
            self._task = self._background.job("complete replicas", self._run)

    async def _run(self) -> None:
        while not self._is_closed:
            self._hurry.clear()
            if await self._round():
                continue
            if not self._due and not self._gone:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), ROUND_S)

    async def _round(self) -> bool:
        """Writes the files that have to change. Returns whether there is more to do at once."""
        candidates: set[str] = set(islice(self._gone, CHANGES_MAX))
        for number, partition in enumerate(list(self._due)):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if partition.proof.note is not Note.ABSENT or self._belongs(partition):
                candidates.add(key_of(partition))
            if len(candidates) >= CHANGES_MAX:
                break
        is_done = all([await self._write_file(log_dir, candidates) for log_dir in self._named])
        self._gone -= {key for key in candidates if key in self._hosted or not self._may_be_named(key)}
        return is_done and len(candidates) >= CHANGES_MAX

    async def _write_file(self, log_dir: LogDir, candidates: set[str]) -> bool:
        """Decides on the names in the step in which the write begins. False where the file could not be written."""
        perhaps = self._perhaps[log_dir]
        names = (perhaps - candidates) | {key for key in candidates if self._belongs_in(key, log_dir)}
        if not log_dir.is_online or names == self._named[log_dir] == perhaps:
            return log_dir.is_online
        self._perhaps[log_dir] = perhaps | names
        concerned = self._hosted_of((perhaps | names) & candidates)
        for key, partition in concerned.items():
            partition.proof.on_write_begun(key in names)
        is_written = True
        try:
            await self._loop.run_in_executor(self._executor, _write, log_dir, names)
        except DiskFull:
            if perhaps:  # else it was logged before
                logger.warning(
                    "cannot note which replicas are complete: disk full",
                    log_dir=str(log_dir.path),
                )
            concerned |= self._hosted_of(perhaps)
            names, is_written = frozenset(), False
        except StorageError as error:
            self._on_failed_dir(log_dir, error)
            return False
        self._named[log_dir] = self._perhaps[log_dir] = names
        for key, partition in concerned.items():
            # A replica that was opened meanwhile is another one, of which nothing is proven.
            if self._hosted.get(key) is partition:
                self._written(partition)
        return is_written

    def _hosted_of(self, names: Iterable[str]) -> dict[str, Partition]:
        return {key: found for key in names if (found := self._hosted.get(key)) is not None}

    def _belongs(self, partition: Partition) -> bool:
        log = partition.log
        is_in_sync = partition.offline is None and self._roles.is_in_sync(partition)
        return partition.proof.belongs_in_file(is_in_sync, log.recovery_point, log.log_end_offset)

    def _belongs_in(self, key: str, log_dir: LogDir) -> bool:
        partition = self._hosted.get(key)
        return partition is not None and partition.log_dir is log_dir and self._belongs(partition)

    def _may_be_named(self, key: str) -> bool:
        """Whether an online directory's file may name the replica: a failed one is not believed at the next start either."""
        return any(key in names for log_dir, names in self._perhaps.items() if log_dir.is_online)

    def _written(self, partition: Partition) -> None:
        key = key_of(partition)
        if key in self._named[partition.log_dir]:
            partition.proof.on_written(True)
        elif not self._may_be_named(key):
            partition.proof.on_written(False)
        self._take_effect(partition)
        self._look_at(partition)


def key_of(partition: Partition) -> str:
    """The replica's name in the file, by topic id: a topic that is created anew is another one."""
    return f"{encode_topic_id(partition.topic_id)}-{partition.topic_partition.partition}"


def report_lossy(partitions: Iterable[Partition], emptied: Collection[LogDir]) -> None:
    """Logs each replica that has lost records: operators should know before a consumer does. ``emptied``: directories
    that held replicas and are empty now."""
    for partition in partitions:
        if partition.log_dir in emptied and not partition.lossy_reason:
            partition.lossy_reason = "its log directory is empty, and held it before"
        if partition.lossy_reason:
            logger.error(
                "a replica has lost records",
                partition=str(partition.topic_partition),
                why=partition.lossy_reason,
            )


def _write(log_dir: LogDir, names: frozenset[str]) -> None:
    """Durable when it returns. Raises DiskFull, with no file left, or StorageError."""
    try:
        log_dir.with_room(lambda: write_names(log_dir.path, names))
    except DiskFull:
        _remove(log_dir.path)
        raise


def read_names(log_dir: Path) -> frozenset[str]:
    """Empty without a file, or where its content is invalid. Raises UserError for an unknown version."""
    path = log_dir / FILE_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version, names = fields["format_version"], frozenset(map(str, fields["replicas"]))
    except (OSError, ValueError, TypeError, KeyError):
        return frozenset()
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {version}, this tierlog knows {FORMAT_VERSION}; upgrade tierlog"
        )
    return names


@translated
def write_names(log_dir: Path, names: Collection[str]) -> None:
    """Raises StorageError."""
    fields = {"format_version": FORMAT_VERSION, "replicas": sorted(names)}
    text = json.dumps(fields, separators=(",", ":"))
    REAL.write_file(log_dir / FILE_NAME, text.encode(), durable=True)


@translated
def _remove(log_dir: Path) -> None:
    REAL.unlink_if_there(log_dir / FILE_NAME)
    REAL.sync_path(log_dir)
