"""One replica that this broker hosts: its log, its role, and the requests that wait for it.

``Partition`` joins the state machines (``replication.Leader``, ``Follower``) with the log on disk and the parked
requests. ``following`` applies a leader's answer to a follower.
Everything here runs in one step of the loop, without await.

Rules:

* an append is one synchronous step: check the role, append, count it durable (``flush.mode=os``) or ask for a sync
  (``ack``), let the high watermark follow;
* waiting fetches are told through ``Parked.on_progress``: consumers' when the high watermark has moved, followers' when
  the log has finished an append;
* a broken assertion takes this partition offline and nothing else; a failed disk costs the whole log directory
  (``Replicas.fail_dir``).

Invariants: I1 (log start <= local start <= high watermark <= log end), I2 (the high
watermark never goes back on one leader epoch).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import structlog

from tierlog.broker import bugs
from tierlog.broker.replicas.traffic import PartitionTraffic
from tierlog.config.topic import TopicConfig
from tierlog.errors import DiskFull, ErrorCode, StorageError
from tierlog.log.append import NOT_OPENED, AppendOrigin, AppendResult, NotAtOnce, Opened
from tierlog.log.flushing import FlushPlan
from tierlog.log.log import Log
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.follower import Follower
from tierlog.replication.leader import FetchVerdict, Leader
from tierlog.replication.proof import Proof
from tierlog.replication.waiters import OffsetWaiters, Ticket
from tierlog.types import TopicPartition

if TYPE_CHECKING:
    from tierlog.broker.disk.flusher import Flusher, Plan
    from tierlog.broker.disk.log_dirs import LogDir
    from tierlog.broker.replicas.remote_view import RemoteView

logger = structlog.get_logger()


class Parked(Protocol):
    """A fetch that waits for data of this partition."""

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        """About ``new_bytes`` more may be read: committed ones by a consumer, appended ones by a follower. 0: the partition
        changed in another way."""


class ParkedReplica(Parked, Protocol):
    """A follower's fetch that waits for news of this partition."""

    def on_watermark_moved(self, partition: Partition) -> None:
        """Only the high watermark moved: the follower need not be told at once."""

    def on_changed(self, partition: Partition) -> None:
        """The next fetch has to look at the partition; nobody waits for that."""


class Acknowledgement(Ticket, Protocol):
    """A produce that waits until its records are committed."""

    def on_committed(self, number: int, error: ErrorCode) -> None:
        """The batch that was parked under this number."""


class PartitionOwner(Protocol):
    """Whoever hosts the replica. It is told in the step in which something happened."""

    def on_storage_error(self, partition: Partition, error: StorageError) -> None:
        """An I/O error, or a failed sync."""

    def on_cut_synced(self, partition: Partition, cut: int) -> None:
        """Truncation number ``cut`` is on the disk; the recovery point has to be written too."""

    def on_synced(self, partition: Partition) -> None:
        """A sync of a follower's log has ended."""

    def on_writeback_due(self, partition: Partition) -> None:
        """Many bytes were appended that the kernel does not write back yet."""


class Offline(Enum):
    """Why a replica serves nothing."""

    STORAGE = "the disk failed"
    BUG = "an assertion failed"
    DIVERGED = "the leader's log contradicts what was committed"


class Partition:
    """A hosted replica. Its role is ``leader`` or ``follower``; both are None before the first role and after ``resign``."""

    __slots__ = (
        "_bytes_since_watermark",
        "_carried_high_watermark",
        "_cut_count",
        "acknowledgements",
        "changes",
        "config",
        "flush_acks",
        "flusher",
        "follower",
        "follower_throttled",
        "last_flush_ms",
        "leader",
        "leader_epoch",
        "leader_id",
        "leader_throttled",
        "log",
        "log_dir",
        "log_start_waiters",
        "lossy_reason",
        "offline",
        "owner",
        "parked",
        "parked_replicas",
        "partition_epoch",
        "pending_cut",
        "proof",
        "remote",
        "replicas",
        "tiered_end_offset",
        "topic_id",
        "topic_partition",
        "traffic",
        "writeback_bytes",
    )

    def __init__(
        self,
        topic_partition: TopicPartition,
        topic_id: bytes,
        log: Log,
        log_dir: LogDir,
        flusher: Flusher,
        owner: PartitionOwner,
    ) -> None:
        self.owner = owner
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.log = log
        self.log_dir = log_dir
        self.flusher = flusher
        self.config: TopicConfig = log.config
        # Whether only synced records count as this replica's. ``proof`` decides; see complete_replicas.
        self.flush_acks = False
        self.proof = Proof(False, log.log_end_offset)
        # Whether this replica counts towards the broker's throttled rates; see replication_quotas.
        self.leader_throttled = self.follower_throttled = False
        self.leader: Leader | None = None
        self.follower: Follower | None = None
        # Number of the last truncation while it is not synced, else 0. Nothing is fetched meanwhile.
        self.pending_cut = 0
        self._cut_count = 0
        # The high watermark, carried from role to role; the first role gets it from the last checkpoint.
        self._carried_high_watermark = log_dir.high_watermarks.get(topic_partition, 0)
        self.leader_id = -1
        self.leader_epoch = -1
        self.partition_epoch = -1
        self.replicas: tuple[int, ...] = ()
        self.offline: Offline | None = None
        # Why this replica has lost records, as this start found; "" where it has not.
        self.lossy_reason = log.lossy_reason
        self.acknowledgements: OffsetWaiters[Acknowledgement] = OffsetWaiters()
        self.parked: dict[int, Parked] = {}
        # Fetches of followers, which are told of each append as well.
        self.parked_replicas: dict[int, ParkedReplica] = {}
        # Called at each fetch of a follower, since it carries the follower's log start offset.
        self.log_start_waiters: dict[int, Callable[[], None]] = {}
        # Grows when the high watermark, the ISR or the role changes, or the replica goes offline. Appends and moves of the
        # log start do not count.
        self.changes = 0
        self.traffic = PartitionTraffic()
        # The remote part of this partition, for offload and remote reads; None without remote storage.
        self.remote: RemoteView | None = None
        # The tiered end (exclusive) as this follower has read it; None before that.
        self.tiered_end_offset: int | None = None
        self.writeback_bytes = 2**63 - 1
        self.last_flush_ms = 0
        self._bytes_since_watermark = 0

    # -- offsets

    @property
    def log_start_offset(self) -> int:
        return self.log.log_start_offset

    @property
    def high_watermark(self) -> int:
        """Exclusive end of what this replica knows to be committed."""
        leader = self.leader
        if leader is not None:
            return leader.high_watermark
        if self.follower is not None:
            return self.follower.high_watermark
        log = self.log
        # What is gone from this disk was committed, and is deleted or tiered.
        return min(max(self._carried_high_watermark, log.local_log_start_offset), log.log_end_offset)

    @property
    def durable_end_offset(self) -> int:
        """Exclusive. With ``flush_acks`` the end of the synced records, else the log end offset."""
        return self.log.recovery_point if self.flush_acks else self.log.log_end_offset

    @property
    def last_stable_offset(self) -> int:
        """Exclusive end of what read_committed consumers may read."""
        high_watermark = self.high_watermark
        unstable = self.log.first_unstable_offset
        return high_watermark if unstable is None else min(unstable, high_watermark)

    # -- role

    def lead(self, leader: Leader, partition_epoch: int) -> None:
        """Takes the leadership of ``leader.leader_epoch``; requests that waited on an older epoch are turned away."""
        assert leader.leader_epoch > self.leader_epoch, "I5: leader epochs only grow"
        self._turn_away(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.leader, self.follower = leader, None
        self.leader_id, self.leader_epoch = leader.broker_id, leader.leader_epoch
        self.partition_epoch = partition_epoch
        if self.flush_acks and leader.durable_end_offset < self.log.log_end_offset:
            self.flusher.request(self)

    def follow(self, follower: Follower, partition_epoch: int) -> None:
        """Another broker leads, or nobody (-1)."""
        self.resign(follower.leader_id, follower.leader_epoch, partition_epoch)
        self.follower = follower

    def resign(self, leader_id: int, leader_epoch: int, partition_epoch: int) -> None:
        """Leaves its role; the next partition record gives it another."""
        self._carried_high_watermark = self.high_watermark
        self.tiered_end_offset = None
        self.leader = self.follower = None
        self.leader_id, self.leader_epoch, self.partition_epoch = leader_id, leader_epoch, partition_epoch
        self._turn_away(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def take_offline(self, reason: Offline, error: BaseException) -> None:
        if self.offline is None:
            self.offline = reason
            if reason is Offline.BUG:
                bugs.report("partition offline", error, partition=str(self.topic_partition))
            else:
                logger.error("partition offline", partition=str(self.topic_partition), why=str(error))
            self._turn_away(ErrorCode.KAFKA_STORAGE_ERROR)

    def storage_failed(self, error: StorageError) -> None:
        """An I/O error or a failed sync here costs the whole log directory."""
        self.owner.on_storage_error(self, error)

    def _turn_away(self, error: ErrorCode) -> None:
        self.changes += 1
        for _, waiting, number in self.acknowledgements.drain():
            waiting.on_committed(number, error)
        for fetch in [*self.parked.values(), *self.parked_replicas.values()]:
            fetch.on_progress(self, 0)

    def check_leadership(self, current_leader_epoch: int) -> ErrorCode:
        """KIP-320: whether a request that knows ``current_leader_epoch`` (-1: none) may be served here."""
        if self.offline is not None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:
            if current_leader_epoch < self.leader_epoch:
                return ErrorCode.FENCED_LEADER_EPOCH
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        return ErrorCode.NONE if self.leader is not None else ErrorCode.NOT_LEADER_OR_FOLLOWER

    def check_replica(self, current_leader_epoch: int) -> ErrorCode:
        """As ``check_leadership``, for requests that may read from a follower too (KIP-392)."""
        error = self.check_leadership(current_leader_epoch)
        if error is ErrorCode.NOT_LEADER_OR_FOLLOWER and self.follower is not None:
            return ErrorCode.NONE
        return error

    # -- append

    def append(
        self,
        records: memoryview,
        needs_all_acks: bool,
        now_ms: int,
        origin: AppendOrigin = AppendOrigin.CLIENT,
        opened: Opened = NOT_OPENED,
    ) -> AppendResult:
        """Appends whole batches as leader; ``records`` is stamped in place. Raises NotAtOnce where ``opened`` says so."""
        leader = self.leader
        if leader is None or self.offline is not None:
            return AppendResult(self.check_leadership(-1))
        if needs_all_acks and not leader.accepts_all_acks:
            return AppendResult(ErrorCode.NOT_ENOUGH_REPLICAS)
        if origin is AppendOrigin.CLIENT and self.log_dir.reserve_reached:
            return AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, error_message="The disk reserve is reached.")
        log = self.log
        before = log.log_end_offset
        try:
            result = log.append_as_leader(records, leader.leader_epoch, now_ms, origin, opened)
        except NotAtOnce:
            raise
        except DiskFull:
            if self.log_dir.on_disk_full() and origin is not AppendOrigin.CLIENT:
                return self.append(records, needs_all_acks, now_ms, origin)  # this is what the reserve is for
            return AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, error_message="The disk is full.")
        except StorageError as error:
            self.storage_failed(error)
            return AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, error_message="The log directory failed.")
        except Exception as error:
            return self.append_failed(error)
        appended = log.log_end_offset - before
        return (self.note_appended(appended, len(records)) if appended else None) or result

    def note_appended(self, appended: int, size_bytes: int) -> AppendResult | None:
        """Counts what the log has taken, and tells everyone who waits for it. Returns the refusal of a bug."""
        try:
            self._on_appended(appended, size_bytes)
        except Exception as error:
            self.take_offline(Offline.BUG, error)
            return AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, error_message="The partition is offline.")
        return None

    def append_failed(self, error: Exception) -> AppendResult:
        """A bug: refuses the request where the log is unchanged, else takes the partition offline."""
        if self.log.is_broken or isinstance(error, AssertionError):
            self.take_offline(Offline.BUG, error)
            return AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, error_message="The partition is offline.")
        bugs.report("append refused", error, partition=str(self.topic_partition))
        return AppendResult(
            ErrorCode.UNKNOWN_SERVER_ERROR, error_message="The broker has a bug; see its log."
        )

    def _on_appended(self, appended: int, size_bytes: int) -> None:
        """Tells everyone who waits for appends; the log has the records already."""
        log = self.log
        self.traffic.messages_in += appended
        self.traffic.bytes_in += size_bytes
        self._bytes_since_watermark += size_bytes
        if self.flush_acks:
            self.flusher.request(self)
        else:
            self.on_durable(log.log_end_offset)
            unsynced = log.log_end_offset - log.recovery_point
            if unsynced >= self.config.flush_messages or log.snapshots.pending:
                self.flusher.request(self)
        if self.parked_replicas:
            for fetch in list(self.parked_replicas.values()):
                fetch.on_progress(self, size_bytes)
        if log.bytes_since_writeback >= self.writeback_bytes:
            self.owner.on_writeback_due(self)

    def on_durable(self, end_offset: int) -> None:
        """The leader's own log counts up to ``end_offset`` (exclusive): releases what waited for it."""
        leader = self.leader
        if leader is None or not leader.on_durable(end_offset):
            return
        self.release_committed()

    def release_committed(self) -> None:
        """The high watermark moved: answers produces, wakes fetches."""
        leader = self.leader
        assert leader is not None
        self._note_watermark(leader.high_watermark)
        if self.acknowledgements:
            for _, waiting, number in self.acknowledgements.release(leader.high_watermark):
                waiting.on_committed(number, ErrorCode.NONE)
        self._wake_readers()
        for fetch in list(self.parked_replicas.values()):
            fetch.on_watermark_moved(self)

    def _note_watermark(self, high_watermark: int) -> None:
        self.changes += 1
        if self.log.producers.first_unstable_offset is not None:
            self.log.producers.advance_high_watermark(high_watermark)

    def _wake_readers(self) -> None:
        new_bytes, self._bytes_since_watermark = self._bytes_since_watermark, 0
        if self.parked:
            for fetch in list(self.parked.values()):
                fetch.on_progress(self, new_bytes)

    # -- replication, as leader

    def serve_follower(self, fetch: FollowerFetch, now_ms: int) -> FetchVerdict:
        """Counts what a follower's fetch proves, and tells whether it may be answered; ``now_ms`` is monotonic time."""
        leader = self.leader
        assert leader is not None
        verdict = leader.on_follower_fetch(fetch, self.log, now_ms)
        if self.log_start_waiters:
            for wake in self.log_start_waiters.values():
                wake()
        if verdict.watermark_moved:
            self.release_committed()
        return verdict

    def on_log_start_moved(self) -> None:
        """Tells followers that wait here for news at once."""
        for fetch in list(self.parked_replicas.values()):
            fetch.on_progress(self, 0)

    def on_isr_changed(self, watermark_moved: bool) -> None:
        """The ISR or the maximal ISR changed: waiting acks=all produces may be committed now, or cannot be any more."""
        leader = self.leader
        if leader is None:
            return
        self.changes += 1  # a follower that left the ISR has to be looked at
        for fetch in list(self.parked_replicas.values()):
            fetch.on_changed(self)
        if watermark_moved:
            self.release_committed()
        if self.acknowledgements and not leader.accepts_all_acks:
            for _, waiting, number in self.acknowledgements.drain():
                waiting.on_committed(number, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)

    # -- replication, as follower

    def on_copied(self, size_bytes: int) -> None:
        """Records of the leader were appended; readers here wait until they are known to be committed."""
        self._bytes_since_watermark += size_bytes
        self.traffic.replication_bytes_in += size_bytes

    def on_watermark_learnt(self) -> None:
        """The leader's answer moved the high watermark: wakes readers here."""
        assert self.follower is not None
        self._note_watermark(self.follower.high_watermark)
        self._wake_readers()

    # -- flush (Flushable)

    def set_flush_acks(self, flush_acks: bool) -> None:
        """Sets the flush mode that counts from here on."""
        self.flush_acks = flush_acks
        if not flush_acks:
            self.on_durable(self.log.log_end_offset)
        elif self.log.recovery_point < self.log.log_end_offset:
            self.flusher.request(self)

    def is_flush_due(self, now_ms: int) -> bool:
        """Whether bytes have waited for the disk for ``flush.ms``. To be asked every second or so."""
        if self.log.recovery_point >= self.log.log_end_offset:
            self.last_flush_ms = now_ms
            return False
        return now_ms - self.last_flush_ms >= self.config.flush_ms

    def sync_cut(self) -> None:
        """The log was truncated, or begun anew: nothing is fetched before that is on the disk."""
        self._cut_count += 1
        self.pending_cut = self._cut_count
        self.flusher.request(self)

    def cut_is_durable(self, cut: int) -> None:
        """The truncated log, and a recovery point at or below its end, are on the disk."""
        if cut == self.pending_cut:
            self.pending_cut = 0
            if self.follower is not None:
                self.owner.on_synced(self)

    @property
    def flush_root(self) -> str:
        return str(self.log_dir.path)

    def begin_flush(self) -> FlushPlan | None:
        if self.offline is not None:
            return None
        try:
            return self.log.flush_plan()
        except StorageError as error:
            self.storage_failed(error)
            return None

    def end_flush(self, plan: Plan) -> None:
        assert isinstance(plan, FlushPlan)
        if not self.log.mark_flushed(plan):
            # The log was truncated meanwhile: other records may stand now where the plan's were.
            self.flusher.request(self)
            return
        if self.pending_cut:
            self.owner.on_cut_synced(self, self.pending_cut)
        if self.flush_acks:
            self.on_durable(min(plan.end_offset, self.log.log_end_offset))
        if self.follower is not None:
            self.owner.on_synced(self)

    def fail_flush(self, error: StorageError) -> None:
        self.storage_failed(error)
