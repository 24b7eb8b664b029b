"""One partition's local log: the interface for the rest of the broker. Synchronous; knows no loop, no replica, no tier.

Rules

* An append is one step: check, stamp, write, index, remember. It succeeds as a whole, or it raises and leaves
  everything as it was, whatever fails after the write (``writing``).
* Offsets: ``log_start_offset`` <= ``local_log_start_offset`` <= ``log_end_offset`` (I1, exclusive end).
* ``recovery_point`` (exclusive): everything below it is known to be on the disk. Only truncation moves it back.
* The epoch lineage is written at roll, flush and close, not at each election, because it can be rebuilt from batch
  headers. So a flush on a full disk may leave it out; a clean stop may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tierlog.config.topic import TopicConfig
from tierlog.errors import ErrorCode, StorageError
from tierlog.log import reading, timestamps
from tierlog.log.append import (
    NOT_OPENED,
    AppendOrigin,
    AppendResult,
    AppendRules,
    Opened,
    prepare_leader_append,
    refused,
    replicated_batches,
)
from tierlog.log.cutting import cut_back, drop_everything, drop_prefix
from tierlog.log.files.checkpoints import read_partition_metadata, write_partition_metadata
from tierlog.log.files.epoch_file import EpochFile
from tierlog.log.files.filesystem import REAL, Filesystem, storage_error, translated
from tierlog.log.files.names import PARTITION_METADATA, SNAPSHOT, deleted_directory, segment_file
from tierlog.log.flushing import FlushPlan, Unsynced, WritebackPlan
from tierlog.log.leader_epochs import EpochLineage
from tierlog.log.opening.loading import Loader
from tierlog.log.positions import BatchPositions
from tierlog.log.producers.cuts import Replay, producers_after_cut
from tierlog.log.producers.snapshots import (
    LoadedSnapshot,
    SnapshotWrites,
    no_producers,
    remove_snapshots_above,
    write_snapshot,
)
from tierlog.log.reading import Slice
from tierlog.log.removals import COMPACTION, REPAIR, Removals
from tierlog.log.replacement import CleanedSegment, swap_in
from tierlog.log.segment import SealedSegment, Segment, UnlinkLater
from tierlog.log.timestamps import Question, TimestampedOffset
from tierlog.log.writing import write
from tierlog.records.batch import InvalidBatch
from tierlog.types import NO_TIMESTAMP, AbortedTransaction, EpochEntry, TopicPartition


class Log:
    """Attributes without underscore may be read freely and are written only here.

    ``log_start_offset``: inclusive, the first offset that may be read; retention and DeleteRecords move it up.
    ``log_end_offset``: exclusive, the next offset to append; appends move it up, truncation moves it back.
    """

    __slots__ = (  # the kernel reads and writes them where they lie
        "__weakref__", "_epoch_file", "_holes", "_positions", "_unsynced", "_writeback_position", "bytes_since_writeback",
        "config", "directory", "epochs", "filesystem", "is_broken", "log_end_offset", "log_start_offset", "lossy_reason",
        "producers", "recovery_point", "removals", "replay", "rules", "segments", "snapshots", "topic_id",
        "topic_partition",
    )  # fmt: skip

    read_nowait = staticmethod(reading.read_nowait)
    read = staticmethod(reading.read)

    def __init__(
        self,
        filesystem: Filesystem,
        directory: Path,
        topic_partition: TopicPartition,
        topic_id: bytes,
        config: TopicConfig,
        loader: Loader,
        was_clean: bool,
        recovery_point: int,
        high_watermark: int,
    ) -> None:
        loaded = loader.load(was_clean, recovery_point)
        self.filesystem = filesystem
        self.directory = directory
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.segments = loaded.segments
        self.epochs = loaded.epochs
        self.producers = loaded.producers
        self.log_end_offset = loaded.log_end_offset
        self.log_start_offset = loader.log_start_offset
        self.recovery_point = min(recovery_point, self.log_end_offset)
        self.bytes_since_writeback = 0
        flushed_or_seen = max(recovery_point, high_watermark)
        self.lossy_reason = loaded.damage or (
            f"the log ends at {self.log_end_offset} and has held {flushed_or_seen}"
            if self.log_end_offset < flushed_or_seen
            else ""
        )
        self.is_broken = False  # an append could not be undone: see ``writing``
        self._positions = BatchPositions()
        self._writeback_position = self.segments.active.size_bytes
        self._unsynced = Unsynced(filesystem)
        self._unsynced.add_paths(directory / PARTITION_METADATA, directory, directory.parent)
        for segment in self.segments.sealed():
            if segment.end_offset > self.recovery_point:
                self._unsynced.add_segment(segment)
        self._epoch_file = EpochFile(filesystem, directory, loaded.epochs_text)
        self._holes = loaded.holes
        self.removals = Removals()
        self.snapshots = SnapshotWrites(filesystem, directory)
        self.replay: Replay | None = None  # producer state for a coming truncation
        self.reconfigure(config)
        if not config.remote_storage_enable:
            self.log_start_offset = max(self.log_start_offset, self.segments.first.base_offset)
        self.epochs.truncate_from_start(self.log_start_offset)
        self._write_epochs(may_wait=True)

    @classmethod
    @translated
    def open(
        cls,
        directory: Path,
        topic_partition: TopicPartition,
        topic_id: bytes,
        config: TopicConfig,
        *,
        now_ms: int,
        was_clean: bool,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        high_watermark: int = 0,
        filesystem: Filesystem = REAL,
    ) -> Log:
        """Open the log in ``directory`` (its name is the caller's business), creating what is absent.

        The offsets are those of the log dir's checkpoints. Raises StorageError, also for a directory of another topic id."""
        if not directory.is_dir():
            filesystem.mkdir(directory)
        present = read_partition_metadata(directory)
        if present is None:
            write_partition_metadata(directory, topic_id, filesystem)
        elif present != topic_id:
            raise StorageError(f"{directory} belongs to another topic id")
        loader = Loader(filesystem, directory, config, now_ms, log_start_offset)
        return cls(
            filesystem,
            directory,
            topic_partition,
            topic_id,
            config,
            loader,
            was_clean,
            recovery_point,
            high_watermark,
        )

    def reconfigure(self, config: TopicConfig) -> None:
        self.config = config
        self.rules = AppendRules(config)
        self.segments.active.index_interval_bytes = config.index_interval_bytes

    @property
    def local_log_start_offset(self) -> int:
        return max(self.log_start_offset, self.segments.first.base_offset)

    @property
    def size_bytes(self) -> int:
        """Total size of the local ``.log`` files."""
        return self.segments.size_bytes

    @property
    def segment_count(self) -> int:
        return len(self.segments)

    @property
    def active_base_offset(self) -> int:
        return self.segments.active.base_offset

    @property
    def is_lossy(self) -> bool:
        """The replica has lost records that it once held, so it must not be trusted as a leader by itself."""
        return bool(self.lossy_reason)

    # -- append

    def append_as_leader(
        self,
        records: memoryview,
        leader_epoch: int,
        now_ms: int,
        origin: AppendOrigin = AppendOrigin.CLIENT,
        opened: Opened = NOT_OPENED,
    ) -> AppendResult:
        """Assign offsets and append. ``records`` is writable and is stamped in place.

        A refusal is returned, not raised. Raises DiskFull or StorageError, and NotAtOnce where ``opened`` says so; nothing
        is changed then."""
        rules, base_offset = self.rules, self.log_end_offset
        prepared = prepare_leader_append(
            records, rules, self.producers, base_offset, leader_epoch, now_ms, origin, opened
        )
        if isinstance(prepared, AppendResult):
            return prepared._replace(log_start_offset=self.log_start_offset)
        write(self, prepared, now_ms)
        time_ms = now_ms if rules.is_log_append_time else NO_TIMESTAMP
        last_offset = self.log_end_offset - 1
        return AppendResult(ErrorCode.NONE, base_offset, last_offset, time_ms, self.log_start_offset)

    def append_as_follower(self, records: memoryview, now_ms: int) -> AppendResult:
        """Append a leader's batches as they are; a batch that is cut off at the end is left out."""
        try:
            prepared = replicated_batches(records, self.log_end_offset, self.epochs)
        except InvalidBatch as refusal:
            return refused(refusal)._replace(log_start_offset=self.log_start_offset)
        if not prepared.headers:
            return AppendResult(ErrorCode.NONE, log_start_offset=self.log_start_offset)
        write(self, prepared, now_ms)
        base_offset, last_offset = prepared.headers[0].base_offset, self.log_end_offset - 1
        return AppendResult(ErrorCode.NONE, base_offset, last_offset, log_start_offset=self.log_start_offset)

    # -- read

    def locate(
        self, fetch_offset: int, max_bytes: int, end_offset: int, min_one_batch: bool = True
    ) -> Slice | None:
        """Whole batches of one segment from ``[fetch_offset, end_offset)``, at most ``max_bytes``; with ``min_one_batch``
        the first one even when it is larger. None when there are none; a slice of 0 bytes when none fits.

        ``fetch_offset`` must lie in ``[local_log_start_offset, log_end_offset]``. Raises StorageError."""
        end_offset = min(end_offset, self.log_end_offset)
        if fetch_offset >= end_offset:
            return None
        try:
            return reading.locate(
                self.segments, self._positions, fetch_offset, max_bytes, end_offset, min_one_batch
            )
        except OSError as error:
            raise storage_error(error, self.directory) from error

    def aborted_transactions(self, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """For a read_committed reader: the aborted transactions that overlap ``[start_offset, end_offset)``, wherever their
        markers lie."""
        return reading.aborted_transactions(self.segments, start_offset, end_offset)

    def time_question(self, timestamp: int) -> Question:
        """``offset_for_timestamp`` in steps that may run in a thread."""
        return timestamps.first_at_or_after(self.segments, timestamp, self.local_log_start_offset)

    def max_timestamp_question(self) -> Question:
        return timestamps.largest(self.segments, self.local_log_start_offset)

    @translated
    def offset_for_timestamp(self, timestamp: int) -> TimestampedOffset | None:
        """The first local record whose timestamp is at least ``timestamp``. Opens one batch. Raises InvalidBatch when
        that batch cannot be opened."""
        return timestamps.answered(self.time_question(timestamp))

    @translated
    def max_timestamp(self) -> TimestampedOffset | None:
        """The first local record that has the largest timestamp, among those at or above the log start."""
        return timestamps.answered(self.max_timestamp_question())

    # -- epochs and producers

    @property
    def latest_epoch(self) -> int:
        return self.epochs.latest_epoch

    @property
    def first_unstable_offset(self) -> int | None:
        return self.producers.first_unstable_offset

    def assign_epoch(self, leader_epoch: int) -> None:
        """The leader of ``leader_epoch`` will write from the log end on."""
        self.epochs.assign(leader_epoch, self.log_end_offset)

    def end_offset_for_epoch(self, leader_epoch: int) -> tuple[int, int]:
        """``(epoch, end offset)`` as OffsetForLeaderEpoch answers, ``(-1, -1)`` when unknown."""
        return self.epochs.end_offset_for(leader_epoch, self.log_end_offset)

    def _write_epochs(self, *, may_wait: bool = False) -> None:
        if self._epoch_file.write(self.epochs, may_wait=may_wait):
            self._unsynced.add_paths(self._epoch_file.path, self.directory)

    # -- segments

    @translated
    def roll(self, now_ms: int) -> None:
        """Seal the active segment unless it is empty. Raises DiskFull or StorageError; the active segment then stays."""
        self._roll(self.log_end_offset, now_ms)

    @translated
    def roll_if_due(self, now_ms: int) -> bool:
        """Roll by ``segment.ms`` on the wall clock, also without appends, so that retention and the tier reach the last
        records of a quiet partition."""
        active = self.segments.active
        if active.size_bytes == 0:
            return False
        active.created_ms = min(active.created_ms, now_ms)  # A clock that was ahead, and was set back.
        if now_ms - active.created_ms <= self.config.segment_ms - active.roll_jitter_ms:
            return False
        self._roll(self.log_end_offset, now_ms)
        return True

    def _roll(self, base_offset: int, now_ms: int) -> None:
        old = self.segments.active
        if old.size_bytes == 0 and old.base_offset == base_offset:
            return
        fresh = self._new_segment(base_offset, now_ms)
        try:
            if base_offset > self.log_end_offset and self._holes.extend(base_offset, durable=False):
                self._unsynced.add_paths(self._holes.path)
            snapshot = self.snapshots.write(self.producers, base_offset)
            self._write_epochs()
            old.seal()
        except BaseException:
            fresh.unlink()
            raise
        self.segments.add(fresh)
        self._writeback_position = self.bytes_since_writeback = 0
        self._unsynced.add_paths(self.directory, snapshot)
        if old.size_bytes:
            self._unsynced.add_segment(old)
            self.segments.note_read(old)
        else:
            self.segments.remove(old)
            old.unlink()

    def _new_segment(self, base_offset: int, now_ms: int) -> Segment:
        segment = Segment.create(self.filesystem, self.directory, base_offset, self.config, now_ms)
        segment.spread_roll(str(self.topic_partition), self.config)
        return segment

    def sealed_segments(self) -> list[SealedSegment]:
        return [segment.describe() for segment in self.segments.sealed()]

    @translated
    def delete_segments_below(self, offset: int, now_ms: int) -> list[UnlinkLater]:
        """Remove the sealed segments that end at or below ``offset`` from the log. Their files are renamed now and unlinked
        when due. The local log start moves up, and without remote storage the log start too."""
        self.removals.check()
        due_ms = now_ms + self.config.file_delete_delay_ms
        removed, paths = drop_prefix(self.segments, offset)
        self._unsynced.keep_only(self.segments)
        if removed and not self.config.remote_storage_enable:
            self.advance_log_start_offset(self.segments.first.base_offset)
        return [UnlinkLater(path, due_ms) for path in paths]

    def advance_log_start_offset(self, offset: int) -> bool:
        """Delete the records below ``offset`` (at most the high watermark) for readers; the files go later."""
        if offset <= self.log_start_offset:
            return False
        assert offset <= self.log_end_offset, (offset, self.log_end_offset)
        self.log_start_offset = offset
        self.producers.advance_log_start(offset)
        self.epochs.truncate_from_start(offset)
        return True

    @translated
    def truncate_to(self, offset: int, now_ms: int) -> bool:
        """End the log at ``offset``, or at the start of the batch that holds it. False when it already ended there."""
        if offset >= self.log_end_offset:
            return False
        self.removals.check()
        if offset <= self.segments.first.base_offset:
            self.truncate_fully_and_start_at(offset, now_ms, self.epochs.entries)
            return True
        self._positions.clear()
        cut_back(self.filesystem, self.segments, offset)
        end_offset = self.segments.active.end_offset
        self._ended_anew(end_offset)
        self.producers = producers_after_cut(self, end_offset, now_ms)
        self.replay = None
        return True

    @translated
    def truncate_fully_and_start_at(
        self,
        offset: int,
        now_ms: int,
        lineage: Iterable[EpochEntry] = (),
        snapshot: LoadedSnapshot | None = None,
        set_aside: bool = False,
    ) -> None:
        """Empty the log; it then starts and ends at ``offset``, with the given epoch lineage and producers of the records
        before ``offset``. ``set_aside``: keep the old files in a sub-directory."""
        self.removals.check()
        snapshot = snapshot or no_producers(offset)
        self._positions.clear()
        aside = f"set-aside-{now_ms}" if set_aside else None
        drop_everything(self.filesystem, self.directory, self.segments, aside)
        self.segments.add(self._new_segment(offset, now_ms))
        self.filesystem.write_file(
            segment_file(self.directory, offset, SNAPSHOT), snapshot.data, durable=False
        )
        self.producers = snapshot.producers
        self.replay = None
        self.epochs = EpochLineage(lineage)
        self.log_start_offset = (
            min(self.log_start_offset, offset) if self.config.remote_storage_enable else offset
        )
        self._ended_anew(offset)

    def _ended_anew(self, end_offset: int) -> None:
        self.log_end_offset = end_offset
        self.log_start_offset = min(self.log_start_offset, end_offset)
        self.recovery_point = min(self.recovery_point, end_offset)
        self.epochs.truncate_from_end(end_offset)
        self._write_epochs()
        if self._holes.cut(end_offset):
            self._unsynced.add_paths(self._holes.path)
        self._unsynced.outdate_plans()
        self._unsynced.keep_only(self.segments)
        self._unsynced.add_paths(self.directory)
        self._writeback_position = self.bytes_since_writeback = 0
        self.snapshots.cancel()
        remove_snapshots_above(self.filesystem, self.directory, end_offset)

    @translated
    def replace_segments(self, cleaned: Sequence[CleanedSegment], now_ms: int) -> list[UnlinkLater]:
        """Swap in compacted segments for the sealed ones that they name; readers of the old ones go on undisturbed.

        Raises StorageError; the next open undoes or completes what was begun."""
        self.removals.check(COMPACTION, REPAIR)
        due_ms = now_ms + self.config.file_delete_delay_ms
        self._positions.clear()
        last_base = max(base for new in cleaned for base in new.old_base_offsets)
        self._holes.extend(self.segments.floor(last_base).end_offset, durable=True)
        paths = swap_in(self.filesystem, self.directory, self.segments, cleaned, self.config, now_ms)
        self._unsynced.keep_only(self.segments)
        return [UnlinkLater(path, due_ms) for path in paths]

    # -- durability

    @translated
    def flush_plan(self) -> FlushPlan | None:
        """A plan that makes everything up to the log end durable; None when it already is. Run it in a thread, then call
        ``mark_flushed``."""
        if self.recovery_point == self.log_end_offset and self._unsynced.is_empty:
            return None
        self._write_epochs(may_wait=True)
        return self._unsynced.plan(self.log_end_offset, self.segments.active, self.snapshots.due())

    def mark_flushed(self, plan: FlushPlan) -> bool:
        """``plan`` has run without an error. False when the log was truncated since the plan was made: it proves nothing."""
        if is_current := self._unsynced.forget(plan):
            self.recovery_point = max(self.recovery_point, plan.end_offset)
        return is_current

    def flush(self) -> None:
        """Plan, run and mark at once. Blocking; for stops and tests."""
        if (plan := self.flush_plan()) is not None:
            plan.run()
            self.mark_flushed(plan)

    def writeback_plan(self) -> WritebackPlan | None:
        """The bytes appended to the active segment since the last plan; ``bytes_since_writeback`` says when to ask."""
        active = self.segments.active
        position, self._writeback_position = self._writeback_position, active.size_bytes
        self.bytes_since_writeback, size_bytes = 0, active.size_bytes - position
        return WritebackPlan(active.descriptor, position, size_bytes) if size_bytes > 0 else None

    @translated
    def close_clean(self, *, sync: bool = True) -> None:
        """Flush everything and write a producer snapshot at the log end. The next start then scans nothing, once the caller
        has written the checkpoints (recovery point = log end) and the clean shutdown mark. With ``sync=False`` the caller
        syncs the whole file system before that: one journal commit for all logs."""
        self._write_epochs()
        active = self.segments.active
        active.seal()
        self._unsynced.add_segment(active)
        self._unsynced.add_paths(
            write_snapshot(self.filesystem, self.directory, self.producers, self.log_end_offset)
        )
        self._unsynced.add_paths(self.directory)
        if (plan := self.flush_plan()) is not None:
            if sync:
                plan.run()
            self.mark_flushed(plan)
        self.close_abruptly()

    def close_abruptly(self) -> None:
        for segment in self.segments:
            segment.release()

    @translated
    def delete_directory(self, now_ms: int) -> UnlinkLater:
        """Topic deletion: rename the directory as Kafka does; the caller may remove it as a whole when due."""
        self.close_abruptly()
        name = deleted_directory(self.topic_partition, f"{now_ms:016x}{self.topic_id.hex()[:16]}")
        target = self.directory.with_name(name)
        self.filesystem.rename(self.directory, target)
        return UnlinkLater(target, now_ms + self.config.file_delete_delay_ms)
