"""Metrics of this broker: its partitions, groups, connections and image, as telemetry's rows.

They are read only at a scrape, in slices, over snapshots: nothing here runs between scrapes or changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from tierlog.broker.clock import wall_clock_ms
from tierlog.metadata.image import MetadataImage
from tierlog.telemetry.group_metrics import GroupMetrics, GroupOffset, GroupRow
from tierlog.telemetry.kafka_names import (
    ClusterMetrics,
    ClusterRow,
    PartitionMetrics,
    PartitionRow,
    RemoteRow,
)
from tierlog.telemetry.metrics import Registry, Sample

if TYPE_CHECKING:
    from tierlog.broker.disk.log_dirs import LogDir
    from tierlog.broker.groups.shard_runtime import ShardRuntime
    from tierlog.broker.leading.isr_writer import IsrChangeDriver
    from tierlog.broker.replicas.hosted import Replicas
    from tierlog.broker.replicas.partition import Partition
    from tierlog.broker.work.background import Background
    from tierlog.broker.work.slices import Slices
    from tierlog.metadata.image import MetadataImage


def register_partitions(
    registry: Registry, replicas: Replicas, broker_id: int, image: Callable[[], MetadataImage]
) -> None:
    """Partitions, the cluster, and faults of the replicas here."""
    PartitionMetrics(registry, lambda: map(partition_row, replicas))
    ClusterMetrics(registry, lambda: cluster_row(image(), broker_id))
    registry.value(
        "tierlog_lossy_partitions",
        "gauge",
        "Replicas here that have lost records they once held, found at the start.",
        lambda: replicas.lossy_count,
    )
    registry.value(
        "kafka_server_replicamanager_offlinereplicacount",
        "gauge",
        "Replicas here that serve nothing.",
        lambda: sum(partition.offline is not None for partition in replicas) + len(replicas.unopened),
    )
    registry.value(
        "tierlog_unopened_partitions",
        "gauge",
        "Replicas here whose log could not be opened: offline until the next start.",
        lambda: len(replicas.unopened),
    )


def register_isr_changes(registry: Registry, changes: IsrChangeDriver) -> None:
    """ISR changes of led partitions."""
    for what, help_text, count in (
        ("isrshrinks", "Led partitions whose ISR lost a replica.", lambda: changes.shrink_count),
        ("isrexpands", "Led partitions whose ISR got a replica.", lambda: changes.expand_count),
        (
            "failedisrupdates",
            "Changes of an ISR that the metadata store refused.",
            lambda: changes.failed_count,
        ),
    ):
        registry.value(f"kafka_server_replicamanager_{what}_total", "counter", help_text, count)


def register_log_dirs(registry: Registry, replicas: Replicas) -> None:
    """Log directories: which have failed, and their space."""
    registry.value(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "gauge",
        "Log directories that have failed.",
        lambda: sum(not log_dir.is_online for log_dir in replicas.log_dirs),
    )
    for name, help_text, read in (
        (
            "kafka_log_logmanager_logdirectoryoffline",
            "1 where the log directory has failed.",
            lambda d: int(not d.is_online),
        ),
        ("tierlog_log_dir_usable_bytes", "Free space of a log directory.", lambda d: d.space().usable_bytes),
        (
            "tierlog_log_dir_reserve_reached",
            "1 where produce is refused for want of space.",
            lambda d: int(d.reserve_reached),
        ),
    ):
        registry.source(name, "gauge", help_text, partial(log_dir_samples, replicas, read))


def register_groups(registry: Registry, groups: ShardRuntime, replicas: Replicas) -> None:
    """Groups, their memory, and logs that the cluster does not know."""
    GroupMetrics(registry, lambda: group_rows(groups, replicas))
    registry.value(
        "tierlog_group_members_bytes",
        "gauge",
        "Memory of what the members of groups that are coordinated here sent and were given.",
        lambda: sum(led.shard.held.bytes for led in groups.led() if led.shard is not None),
    )
    registry.value(
        "tierlog_group_records_unreadable_total",
        "counter",
        "Stored group records that were passed over when groups were loaded.",
        lambda: groups.unreadable_count,
    )
    registry.value(
        "tierlog_stray_logs",
        "gauge",
        "Logs that the cluster does not know and that were set aside.",
        lambda: replicas.stray_count,
    )


def register_work(registry: Registry, background: Background, slices: Slices) -> None:
    """Long requests, and background tasks that failed."""
    registry.value(
        "tierlog_long_requests",
        "gauge",
        "Requests that are worked on in slices, or wait for that.",
        lambda: len(slices),
    )
    registry.source(
        "tierlog_background_failures_total",
        "counter",
        "Background tasks of the broker that failed, or ended although they should not: each is a bug.",
        lambda: [Sample("", (("task", kind),), n) for kind, n in background.failures.items()],
    )


def log_dir_samples(replicas: Replicas, read: Callable[[LogDir], int]) -> Iterator[Sample]:
    """One per log directory, named by its path."""
    for log_dir in replicas.log_dirs:
        yield Sample("", (("log_dir", str(log_dir.path)),), read(log_dir))


def partition_row(partition: Partition) -> PartitionRow:
    """One hosted partition, whoever leads it."""
    log, leader, traffic = partition.log, partition.leader, partition.traffic
    topic, index = partition.topic_partition
    return PartitionRow(
        topic=topic,
        partition=index,
        is_leader=leader is not None,
        log_start_offset=partition.log_start_offset,
        local_log_start_offset=log.local_log_start_offset,
        high_watermark=partition.high_watermark,
        log_end_offset=log.log_end_offset,
        size_bytes=log.size_bytes,
        segment_count=log.segment_count,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        messages_in=traffic.messages_in,
        remote_bytes_out=traffic.remote_bytes_out,
        replication_bytes_in=traffic.replication_bytes_in,
        replication_bytes_out=traffic.replication_bytes_out,
        leader=partition.leader_id,
        preferred_leader=partition.replicas[0] if partition.replicas else -1,
        replica_count=len(partition.replicas),
        isr_count=len(leader.isr) if leader is not None else 0,
        min_isr=leader.min_isr if leader is not None else 0,
        remote=remote_row(partition),
    )


def remote_row(partition: Partition) -> RemoteRow | None:
    """None if the partition has no remote part, or its tier head is not read yet."""
    remote = partition.remote
    if remote is None or not remote.is_loaded:
        return None
    waiting = []
    # Usually all sealed segments are copied; the segments are looked through only if not.
    if remote.end_offset < partition.log.active_base_offset:
        waiting = [s for s in partition.log.sealed_segments() if s.end_offset > remote.end_offset]
    retired_bytes, retired_segments = remote.retired_size
    since_ms = remote.exposed_since_ms
    return RemoteRow(
        size_bytes=remote.size_bytes,
        segment_count=remote.segment_count,
        copy_lag_bytes=sum(segment.size_bytes for segment in waiting),
        copy_lag_segments=len(waiting),
        delete_lag_bytes=retired_bytes,
        delete_lag_segments=retired_segments,
        exposed_ms=0 if since_ms is None else max(wall_clock_ms() - since_ms, 0),
    )


def cluster_row(image: MetadataImage, broker_id: int) -> ClusterRow:
    partitions = offline = imbalanced = 0
    for topic in image.topics_by_name.values():
        for state in topic.partitions.values():
            partitions += 1
            offline += state.leader < 0
            imbalanced += state.leader >= 0 and state.leader != state.replicas[0]
    active = sum(broker.is_active for broker in image.brokers.values())
    registered = sum(broker.registration is not None for broker in image.brokers.values())
    return ClusterRow(
        is_controller=image.controller_id == broker_id,
        active_brokers=active,
        fenced_brokers=registered - active,
        topics=len(image.topics_by_name),
        partitions=partitions,
        offline_partitions=offline,
        imbalanced_partitions=imbalanced,
    )


def group_rows(runtime: ShardRuntime, replicas: Replicas) -> Iterator[GroupRow]:
    """Every group whose offsets partition is led here; each is read in one step."""
    for led in runtime.led():
        shard = led.shard
        if shard is None:
            continue
        for group_id in shard.group_ids():
            group = shard.groups.get(group_id)
            committed = shard.offsets.groups.get(group_id, {})
            yield GroupRow(
                group_id,
                group.state.value if group is not None else "Empty",
                len(group.members) if group is not None else 0,
                [
                    GroupOffset(topic, index, offset.offset, high_watermark(replicas, topic, index))
                    for topic, partitions in committed.items()
                    for index, offset in partitions.items()
                ],
            )


def high_watermark(replicas: Replicas, topic: str, partition: int) -> int | None:
    """The high watermark if this broker leads the partition, else None."""
    found = replicas.by_name(topic, partition)
    if isinstance(found, int) or found.leader is None:
        return None
    return found.high_watermark
