"""All partitions that this broker hosts, kept as the metadata image says.

Rules:

* a partition's log is opened when the image first assigns it here, and dropped when its topic is deleted;
* a partition's role is what its record says (``roles``); a replica that is no longer assigned here is dropped;
* observers (coordinator shards, offload) are told synchronously, in the order in which they subscribed.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from tierlog.broker.disk.log_dirs import LogDir, require_one
from tierlog.broker.disk.opening import Found, Opening, found_directories, may_lie_elsewhere, opened
from tierlog.broker.disk.strays import Strays
from tierlog.broker.replicas.complete_replicas import CompleteReplicas, report_lossy
from tierlog.broker.replicas.log_changes import LogChanges
from tierlog.broker.replicas.long_lived import LongLived
from tierlog.broker.replicas.partition import Offline, Partition
from tierlog.broker.replicas.replication_quotas import ReplicationQuotas, is_listed
from tierlog.broker.replicas.roles import ReplicaRoles, RolesOwner
from tierlog.broker.work.background import Background
from tierlog.broker.work.byte_rate import ByteRate
from tierlog.config.broker import BrokerConfig
from tierlog.config.topic import TopicConfig
from tierlog.config.topic_configs import effective_topic_config
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.log import Log
from tierlog.log.segment import UnlinkLater
from tierlog.metadata.image import ImageDelta, MetadataImage, TopicImage
from tierlog.metadata.records import PartitionState
from tierlog.metadata.rules import current_config
from tierlog.types import TopicPartition

if TYPE_CHECKING:
    from tierlog.broker.disk.flusher import Flusher

logger = structlog.get_logger()


class ReplicasOwner(RolesOwner, Protocol):
    """The rest of the broker, as the hosted replicas see it: what they tell and ask; see broker.owner."""

    def on_cut_synced(self, partition: Partition, cut: int) -> None: ...

    def on_synced(self, partition: Partition) -> None: ...

    def on_writeback_due(self, partition: Partition) -> None: ...

    def on_dir_failed(self, log_dir: LogDir) -> None:
        """The log directory is offline, and all replicas in it."""

    def on_unopened(self) -> None:
        """The log of a replica that was just assigned here could not be opened."""

    async def commit_log_start(self, partition: Partition, offset: int) -> ErrorCode:
        """Commits a new log start of a partition with remote storage."""


class Replicas:
    """The hosted partitions by name and by topic id."""

    def __init__(
        self,
        config: BrokerConfig,
        image: Callable[[], MetadataImage],
        log_dirs: Sequence[LogDir],
        flusher: Flusher,
        loop: asyncio.AbstractEventLoop,
        now_ms: Callable[[], int],
        background: Background,
        owner: ReplicasOwner,
    ) -> None:
        self._owner = owner
        self._static_config = config
        self.config = current_config(config, image())
        self._config_followers: list[Callable[[BrokerConfig], None]] = []
        self.log_dirs = list(log_dirs)
        self.quotas = ReplicationQuotas()
        self.replay_rate = ByteRate()
        self._set_rates()
        self.roles = ReplicaRoles(config.node_id, image, loop, owner)
        self.observers = self.roles.observers
        self.complete_replicas = CompleteReplicas(loop, background, log_dirs, self.roles, self.fail_dir)
        self._image = image
        self._flusher = flusher
        self._now_ms = now_ms
        self._by_name: dict[tuple[str, int], Partition] = {}
        self._by_id: dict[tuple[bytes, int], Partition] = {}
        self._dirs: dict[Partition, LogDir] = {}
        self._hosted_in: Counter[LogDir] = Counter()
        self._found: dict[str, tuple[LogDir, Path]] = {}
        # Names of the logs that were found only once in the log directories at the start.
        self.found_names: Set[str] = frozenset()
        self._unlink: list[UnlinkLater] = []
        self._changes = LogChanges(loop, self._open_now, self._drop_now)
        self.long_lived = LongLived()
        # Partitions that wait for room on the disk to be opened.
        self._without_room: dict[tuple[bytes, int], tuple[str, PartitionState]] = {}
        self.stray_count = 0
        # Replicas whose log could not be opened: offline until the next start.
        self.unopened: dict[tuple[bytes, int], TopicPartition] = {}
        # Replicas that are between two log directories.
        self.suspended: set[tuple[bytes, int]] = set()

    def follow_config(self, follow: Callable[[BrokerConfig], None]) -> None:
        """Calls ``follow`` with the config, dynamic parts included, now and whenever these change."""
        self._config_followers.append(follow)
        follow(self.config)

    # -- look-up

    def by_name(self, topic: str, partition: int) -> Partition | ErrorCode:
        found = self._by_name.get((topic, partition))
        if found is not None:
            return found
        image = self._image().topic(topic)
        return self._missing(image, partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def by_id(self, topic_id: bytes, partition: int) -> Partition | ErrorCode:
        found = self._by_id.get((topic_id, partition))
        if found is not None:
            return found
        image = self._image().topics_by_id.get(topic_id)
        return self._missing(image, partition, ErrorCode.UNKNOWN_TOPIC_ID)

    def _missing(self, topic: TopicImage | None, partition: int, unknown: ErrorCode) -> ErrorCode:
        if topic is None:
            return unknown
        if (topic.topic_id, partition) in self.unopened:
            return ErrorCode.KAFKA_STORAGE_ERROR
        if partition in topic.partitions:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    @property
    def tables(self) -> tuple[dict[tuple[str, int], Partition], dict[tuple[bytes, int], Partition]]:
        """The hosted partitions by name and by topic id, as they are at any time: for the kernel, which only looks."""
        return self._by_name, self._by_id

    def __iter__(self) -> Iterator[Partition]:
        return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def in_log_dir(self, log_dir: LogDir) -> list[Partition]:
        return [partition for partition in self if self._dirs[partition] is log_dir]

    # -- start

    def recover(self, *, has_lost_dirs: bool = False) -> None:
        """Opens the logs of all that the image assigns here, and sets stray logs aside. Blocks; before serving. Raises
        UserError where no log directory can be used. ``has_lost_dirs``: a log directory of the last session is no longer in
        ``log.dirs``."""
        # Names of logs that lie in two log directories.
        twins: set[str] = set()
        self._found = self._found_logs(twins)
        names = self.found_names
        self.found_names = names - twins
        openings = list(self._openings())
        threads = self.config.num_recovery_threads_per_data_dir
        for opening, log in zip(openings, opened(openings, self.log_dirs, threads), strict=True):
            state = opening.state
            if log is None:
                self._wait_for_room(*opening.topic_partition, opening.topic_id, state)
            elif isinstance(log, StorageError):
                self._cannot_open(opening.topic_partition, opening.topic_id, log)
            else:
                is_missing = str(opening.topic_partition) not in names
                if has_lost_dirs and is_missing and self.config.node_id in (*state.isr, *state.elr):
                    log.lossy_reason = "its log directory is not among log.dirs any more"
                self._host(opening, log)
        broker = self._image().brokers.get(self.config.node_id)
        was_here = broker is not None and broker.state is not None
        report_lossy(self, {log_dir for log_dir in self.log_dirs if was_here and log_dir.is_new})

    def _found_logs(self, twins: set[str]) -> Found:
        """The logs of all that is assigned here. Sets others aside, and takes back those that are assigned here again."""
        strangers: list[tuple[LogDir, Path]] = []
        strays = Strays(self._image(), self.config.node_id)
        found = found_directories(self.log_dirs, twins, strays.belongs, strangers)
        require_one(self.log_dirs)
        strays.set_aside(strangers)
        self.found_names = set(found)
        strays.take_back(found, self.log_dirs)
        self.stray_count = strays.kept_count
        return found

    def _openings(self) -> Iterator[Opening]:
        """For all that is assigned here; a replica that may lie in an unusable directory stays unopened."""
        all_usable = all(log_dir.is_online for log_dir in self.log_dirs)
        node_id = self.config.node_id
        for topic in self._image().topics_by_name.values():
            for index, state in sorted(topic.partitions.items()):
                if node_id not in state.replicas:
                    continue
                name = TopicPartition(topic.name, index)
                if not all_usable and str(name) not in self._found and may_lie_elsewhere(state, node_id):
                    self.unopened[topic.topic_id, index] = name
                else:
                    yield self._opening_of(topic.name, topic.topic_id, index, state)
        if self.unopened:
            logger.error(
                "replicas are offline: they may lie in a log directory that cannot be used",
                count=len(self.unopened),
                first=str(next(iter(self.unopened.values()))),
            )

    @property
    def lossy_count(self) -> int:
        """Hosted partitions that were found lossy at this start."""
        return sum(bool(partition.lossy_reason) for partition in self)

    def _cannot_open(self, topic_partition: TopicPartition, topic_id: bytes, error: StorageError) -> None:
        """Leaves the files as they are, for people to look at; the replica is offline until the broker starts again."""
        logger.error("cannot open a partition", partition=str(topic_partition), why=str(error))
        self.unopened[topic_id, topic_partition.partition] = topic_partition

    def _open(self, topic: str, topic_id: bytes, index: int, state: PartitionState) -> None:
        opening = self._opening_of(topic, topic_id, index, state)
        log = opening.open_log_if_room()
        if log is None:
            self._wait_for_room(topic, index, topic_id, state)
        else:
            self._host(opening, log)
            self._apply_state(topic, topic_id, index, state)

    def _wait_for_room(self, topic: str, index: int, topic_id: bytes, state: PartitionState) -> None:
        if not self._without_room:
            logger.error("new partitions wait for room on the disk", first=f"{topic}-{index}")
        self._without_room[topic_id, index] = (topic, state)

    def _opening_of(self, topic: str, topic_id: bytes, index: int, state: PartitionState) -> Opening:
        topic_partition = TopicPartition(topic, index)
        log_dir, directory = self._found.pop(str(topic_partition), (None, None))
        if log_dir is None or directory is None:
            log_dir = self._dir_of_new()
            directory = log_dir.path / str(topic_partition)
        overrides = self._image().configs_of_topic(topic)
        config = effective_topic_config(overrides, self.config, len(state.replicas))
        return Opening(topic_partition, topic_id, state, config, log_dir, directory, self._now_ms())

    def _dir_of_new(self) -> LogDir:
        """The directory with the fewest partitions; a full or cordoned one only where there is no other."""
        count, online = self._hosted_in, [log_dir for log_dir in self.log_dirs if log_dir.is_online]
        return min(online, key=lambda d: (d.reserve_reached, self.is_cordoned(d), count[d]))

    def is_cordoned(self, log_dir: LogDir) -> bool:
        """Whether the directory is to get no new partitions (KIP-1066)."""
        cordoned = self.config.cordoned_log_dirs
        return "*" in cordoned or str(log_dir.path) in cordoned

    def _host(self, opening: Opening, log: Log) -> Partition:
        topic_partition, topic_id, state, config, log_dir, _, _ = opening
        partition = Partition(topic_partition, topic_id, log, log_dir, self._flusher, self)
        partition.replicas = state.replicas
        self.complete_replicas.host(partition, config.flush_mode == "ack")
        self._set_throttles(partition, config)
        partition.writeback_bytes = self.config.tierlog_writeback_bytes
        self._by_name[topic_partition] = partition
        self._by_id[topic_id, topic_partition.partition] = partition
        self._dirs[partition] = log_dir
        self._hosted_in[log_dir] += 1
        return partition

    # -- following the image

    def apply(self, delta: ImageDelta) -> None:
        """One change of the image."""
        for deleted in delta.topics_deleted:
            for index in deleted.partitions:
                self._changes.forget(deleted.topic_id, index)
                self._without_room.pop((deleted.topic_id, index), None)
                self.unopened.pop((deleted.topic_id, index), None)
                found = self._by_name.get((deleted.name, index))
                if found is not None and found.topic_id == deleted.topic_id:
                    self._drop(found)
        for change in delta.partitions_changed:
            if change.new is not None:
                self._apply_state(change.topic_name, change.topic_id, change.partition, change.new)
        if self.config.node_id in delta.brokers_changed:
            self.roles.refresh(self)
        names = {change.name for change in delta.configs_changed if change.resource_type == "topic"}
        if any(change.resource_type == "broker" for change in delta.configs_changed):
            self.config = current_config(self._static_config, self._image())
            self._set_rates()
            for follow in self._config_followers:
                follow(self.config)
            names = {partition.topic_partition.topic for partition in self}
        if names:
            self._reconfigure(names)
        self.long_lived.grew(len(delta.partitions_changed))

    def _open_now(self, topic: str, topic_id: bytes, index: int, state: PartitionState) -> None:
        try:
            self._open(topic, topic_id, index, state)
        except StorageError as error:
            self._cannot_open(TopicPartition(topic, index), topic_id, error)
            self._owner.on_unopened()
        self.long_lived.grew(1)

    def open_waiting(self) -> None:
        """There may be room again: opens the partitions that wait for it."""
        waiting, self._without_room = self._without_room, {}
        for (topic_id, index), (topic, state) in waiting.items():
            self._apply_state(topic, topic_id, index, state)

    async def settled(self) -> None:
        """Returns once no log waits to be opened or dropped. Partitions without room, and ``unopened`` ones, stay closed."""
        await self._changes.settled()

    def _apply_state(self, topic: str, topic_id: bytes, index: int, state: PartitionState) -> None:
        partition = self._by_id.get((topic_id, index))
        is_assigned = self.config.node_id in state.replicas
        if partition is not None:
            if is_assigned:
                self.roles.apply(partition, state)
            else:
                self._drop(partition)
        elif is_assigned:
            if (topic_id, index) not in self.unopened and (topic_id, index) not in self.suspended:
                self._changes.open(topic, topic_id, index, state)
        else:
            self.unopened.pop((topic_id, index), None)
            self._changes.forget(topic_id, index)
            self._without_room.pop((topic_id, index), None)

    def _reconfigure(self, topics: set[str]) -> None:
        for partition in self:
            topic = partition.topic_partition.topic
            if topic not in topics:
                continue
            overrides = self._image().configs_of_topic(topic)
            config = effective_topic_config(overrides, self.config, len(partition.replicas))
            partition.config = config
            partition.log.reconfigure(config)
            self._set_throttles(partition, config)
            self.complete_replicas.configure(partition, config.flush_mode == "ack")
            for observer in self.observers:
                observer.on_reconfigured(partition)

    def _set_rates(self) -> None:
        self.quotas.leader.set_rate(self.config.leader_replication_throttled_rate)
        self.quotas.follower.set_rate(self.config.follower_replication_throttled_rate)
        self.replay_rate.set_rate(self.config.tierlog_replay_fetch_max_bytes_per_second)

    def _set_throttles(self, partition: Partition, config: TopicConfig) -> None:
        replica = (partition.topic_partition.partition, self.config.node_id)
        partition.leader_throttled = is_listed(config.leader_replication_throttled_replicas, *replica)
        partition.follower_throttled = is_listed(config.follower_replication_throttled_replicas, *replica)

    def _unhost(self, partition: Partition) -> None:
        self.roles.leave(partition)
        self.complete_replicas.unhost(partition)
        del self._by_name[partition.topic_partition]
        self._by_id.pop((partition.topic_id, partition.topic_partition.partition), None)
        self._hosted_in[self._dirs.pop(partition)] -= 1

    def suspend(self, partition: Partition) -> None:
        """Stops hosting the partition until ``resume``: its log is about to be opened in another place."""
        self.suspended.add((partition.topic_id, partition.topic_partition.partition))
        self._unhost(partition)

    def resume(self, opening: Opening, log: Log, high_watermark: int, lossy_reason: str) -> None:
        """Hosts the partition again, as the image says by now."""
        name, topic_id = opening.topic_partition, opening.topic_id
        self.suspended.discard((topic_id, name.partition))
        state = self._image().partition(topic_id, name.partition)
        if state is None or self.config.node_id not in state.replicas:
            self.unlink_later([log.delete_directory(self._now_ms())])
            return
        opening.log_dir.high_watermarks[name] = high_watermark
        overrides = self._image().configs_of_topic(name.topic)
        config = effective_topic_config(overrides, self.config, len(state.replicas))
        log.reconfigure(config)
        partition = self._host(opening._replace(config=config), log)
        partition.lossy_reason = lossy_reason
        self.roles.apply(partition, state)

    def _drop(self, partition: Partition) -> None:
        self._unhost(partition)
        self._changes.drop(partition)

    def finish_drops(self) -> None:
        """Finishes all drops; for a stop. Blocks."""
        self._changes.drop_all()

    def _drop_now(self, partition: Partition) -> None:
        try:
            self.unlink_later([partition.log.delete_directory(self._now_ms())])
        except StorageError as error:
            self.fail_dir(partition.log_dir, error)

    # -- log start

    async def advance_log_start(self, partition: Partition, offset: int) -> ErrorCode:
        """Moves the log start to ``offset``, which must not exceed the high watermark. With remote storage, commits the new
        start to the tier first."""
        if offset <= partition.log_start_offset:
            return ErrorCode.NONE
        if partition.remote is not None:
            error = await self._owner.commit_log_start(partition, offset)
            if error:
                return error
        try:
            partition.log.advance_log_start_offset(offset)
        except StorageError as error:
            self.on_storage_error(partition, error)
            return ErrorCode.KAFKA_STORAGE_ERROR
        partition.on_log_start_moved()
        return ErrorCode.NONE

    # -- files

    def unlink_later(self, paths: Sequence[UnlinkLater]) -> None:
        self._unlink.extend(paths)

    def due_unlinks(self, now_ms: int) -> list[Path]:
        """Paths whose delay is over; the caller removes them, off the loop."""
        due = [entry.path for entry in self._unlink if entry.due_ms <= now_ms]
        self._unlink = [entry for entry in self._unlink if entry.due_ms > now_ms]
        return due

    def hurry_unlinks(self) -> None:
        """Space is needed: unlinks that wait for their delay are due at once."""
        self._unlink = [UnlinkLater(entry.path, 0) for entry in self._unlink]

    def gather_checkpoints(self) -> None:
        """Notes the offsets that ``write_checkpoints`` writes."""
        for log_dir in self.log_dirs:
            hosted = self.in_log_dir(log_dir)
            log_dir.recovery_points = {p.topic_partition: p.log.recovery_point for p in hosted}
            log_dir.log_starts = {p.topic_partition: p.log_start_offset for p in hosted}
            log_dir.high_watermarks = {p.topic_partition: p.high_watermark for p in hosted}

    def write_checkpoints(self) -> dict[LogDir, StorageError]:
        """Writes recovery points, log starts and high watermarks of every directory. Blocks. Where that fails the old ones
        stand, which costs the next start some time; returns those directories with their errors."""
        failures: dict[LogDir, StorageError] = {}
        for log_dir in self.log_dirs:
            if log_dir.is_online:
                try:
                    log_dir.with_room(log_dir.write_checkpoints)
                except StorageError as error:
                    failures[log_dir] = error
        return failures

    # -- as owner of its partitions

    def on_cut_synced(self, partition: Partition, cut: int) -> None:
        self._owner.on_cut_synced(partition, cut)

    def on_writeback_due(self, partition: Partition) -> None:
        self._owner.on_writeback_due(partition)

    def on_synced(self, partition: Partition) -> None:
        self._owner.on_synced(partition)

    def on_storage_error(self, partition: Partition, error: StorageError) -> None:
        """An I/O error or a failed sync: everything in that log directory goes offline (KIP-112)."""
        log_dir = self._dirs.get(partition)
        if log_dir is not None:
            self.fail_dir(log_dir, error)

    def fail_dir(self, log_dir: LogDir, error: StorageError) -> None:
        """Everything in it goes offline, and the controller is told."""
        if not log_dir.is_online:
            return
        log_dir.fail(error)
        for hosted in self.in_log_dir(log_dir):
            hosted.take_offline(Offline.STORAGE, error)
        self._owner.on_dir_failed(log_dir)


def remove(paths: Sequence[Path]) -> None:
    """Removes files and directories; what is gone already is fine. For a worker thread."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
