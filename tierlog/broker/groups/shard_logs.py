"""``__consumer_offsets`` partitions as the coordinator's shards see them: append, read, high watermark.

Observes the replicas: a partition of the offsets topic gets a shard when this broker begins to lead it, and
loses the shard when this broker ceases to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendOrigin
from tierlog.metadata.internal_topics import OFFSETS_TOPIC
from tierlog.records.batch import walk
from tierlog.records.records import batch_around
from tierlog.types import Buffer

if TYPE_CHECKING:
    from tierlog.broker.groups.shard_runtime import ShardRuntime


class PartitionShardLog:
    """One leadership of one partition; see ``shard_log.ShardLog``."""

    def __init__(self, partition: Partition, now_ms: Callable[[], int]) -> None:
        self._partition = partition
        self._now_ms = now_ms
        self._leader_epoch = partition.leader_epoch
        self._callback: Callable[[int], None] = lambda high_watermark: None

    @property
    def log_start_offset(self) -> int:
        return self._partition.log_start_offset

    @property
    def log_end_offset(self) -> int:
        return self._partition.log.log_end_offset

    @property
    def high_watermark(self) -> int:
        return self._partition.high_watermark

    def read(self, offset: int, max_bytes: int) -> tuple[Buffer, int]:
        log = self._partition.log
        found = log.locate(offset, max_bytes, log.log_end_offset)
        if found is None or found.size_bytes == 0:
            return b"", log.log_end_offset
        batches = log.read(found)
        end_offset = offset
        for _, header in walk(batches, 0, len(batches)):
            end_offset = header.last_offset + 1
        return batches, end_offset

    def append(self, records: bytes, count: int) -> int | ErrorCode:
        partition = self._partition
        if partition.leader_epoch != self._leader_epoch:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        now_ms = self._now_ms()
        batch = batch_around(records, count, now_ms)
        result = partition.append(memoryview(batch), True, now_ms, AppendOrigin.COORDINATOR)
        return result.error or result.last_offset

    def on_high_watermark(self, callback: Callable[[int], None]) -> None:
        self._callback = callback
        self._partition.parked[id(self)] = self

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        """Passes the high watermark on; this object stays parked at the partition while the shard lives."""
        self._callback(partition.high_watermark)

    def close(self) -> None:
        self._partition.parked.pop(id(self), None)


class GroupShards:
    """Starts and ends shards as leadership of the offsets topic comes and goes."""

    def __init__(self, runtime: ShardRuntime, now_ms: Callable[[], int]) -> None:
        self._runtime = runtime
        self._now_ms = now_ms
        self._logs: dict[int, PartitionShardLog] = {}

    def on_lead(self, partition: Partition) -> None:
        topic, index = partition.topic_partition
        if topic == OFFSETS_TOPIC:
            log = self._logs[index] = PartitionShardLog(partition, self._now_ms)
            self._runtime.lead(index, log)

    def on_resign(self, partition: Partition) -> None:
        topic, index = partition.topic_partition
        if topic == OFFSETS_TOPIC and index in self._logs:
            self._logs.pop(index).close()
            self._runtime.resign(index)

    def on_reconfigured(self, partition: Partition) -> None:
        """Nothing of a shard depends on the topic's config."""
