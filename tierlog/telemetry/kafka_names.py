"""Traffic, logs and replicas under the names that Kafka's dashboards and alerts use.

Names are those of the JMX exporter's Kafka rules (Strimzi's: ``kafka_server_brokertopicmetrics_bytesin_total``) and of
kafka_exporter (``kafka_topic_partition_current_offset``). The broker gives one ``PartitionRow`` per hosted partition.
The first family reads the rows once per scrape and keeps them for the other families of that scrape, so scrapes run
one at a time (``http`` ensures that).

Rules: counters never go back while the process lives: the counts of a deleted partition (as of its last scrape) stay in
the total of all topics, and the series of a deleted topic ends. Only the leader reports cluster-wide facts about a
partition (replicas, ISR, leader), so that sums over brokers are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from tierlog.telemetry.metrics import Registry, Sample, rendered


class RemoteRow(NamedTuple):
    """The remote part of a led partition; ``copy_lag_*``: sealed data below the tier's copy limit that is not copied
    yet.
    """

    size_bytes: int = 0
    segment_count: int = 0
    copy_lag_bytes: int = 0
    copy_lag_segments: int = 0
    delete_lag_bytes: int = 0
    delete_lag_segments: int = 0
    exposed_ms: int = 0
    """How long the oldest record has been waiting that is not in the object store."""


class PartitionRow(NamedTuple):
    """One hosted partition as it is now. ``replica_count`` to ``min_isr`` matter where ``is_leader``."""

    topic: str
    partition: int
    is_leader: bool
    log_start_offset: int
    local_log_start_offset: int
    high_watermark: int
    log_end_offset: int
    size_bytes: int
    segment_count: int
    bytes_in: int
    bytes_out: int
    messages_in: int
    remote_bytes_out: int = 0
    replication_bytes_in: int = 0
    replication_bytes_out: int = 0
    leader: int = -1
    preferred_leader: int = -1
    replica_count: int = 0
    isr_count: int = 0
    min_isr: int = 0
    remote: RemoteRow | None = None


class ClusterRow(NamedTuple):
    """The facts of the controller's dashboard, from the metadata image."""

    is_controller: bool
    active_brokers: int
    fenced_brokers: int
    topics: int
    partitions: int
    offline_partitions: int
    imbalanced_partitions: int


# Of the counts of ``PartitionTraffic``, in the order of ``_count``.
_TRAFFIC_NAMES = (
    ("bytesin_total", "Bytes produced."),
    ("bytesout_total", "Bytes fetched by consumers, local and remote."),
    ("messagesin_total", "Records produced."),
    ("remotefetchbytes_total", "Bytes of fetches that came from the object store."),
    ("replicationbytesin_total", "Bytes copied from the leaders that are followed."),
    ("replicationbytesout_total", "Bytes sent to followers."),
)

Number = Callable[[PartitionRow], int]

# name, help, value, leaders only
_PARTITION_GAUGES: tuple[tuple[str, str, Number, bool], ...] = (
    ("kafka_topic_partition_oldest_offset", "Log start offset.", lambda row: row.log_start_offset, True),
    ("kafka_topic_partition_leader", "Broker id of the leader.", lambda row: row.leader, True),
    (
        "kafka_topic_partition_leader_is_preferred",
        "1 where the preferred replica leads.",
        lambda row: int(row.leader == row.preferred_leader),
        True,
    ),
    ("kafka_topic_partition_replicas", "Assigned replicas.", lambda row: row.replica_count, True),
    ("kafka_topic_partition_in_sync_replica", "Replicas in the ISR.", lambda row: row.isr_count, True),
    (
        "kafka_topic_partition_under_replicated_partition",
        "1 where the ISR lacks a replica.",
        lambda row: int(row.isr_count < row.replica_count),
        True,
    ),
    (
        "kafka_cluster_partition_underminisr",
        "1 where the ISR is smaller than min.insync.replicas.",
        lambda row: int(row.isr_count < row.min_isr),
        True,
    ),
    (
        "kafka_cluster_partition_atminisr",
        "1 where the ISR is just min.insync.replicas.",
        lambda row: int(row.isr_count == row.min_isr),
        True,
    ),
    ("kafka_log_log_size", "Bytes of the local log.", lambda row: row.size_bytes, False),
    ("kafka_log_log_numlogsegments", "Segments of the local log.", lambda row: row.segment_count, False),
    (
        "kafka_log_log_logstartoffset",
        "First offset, over all tiers.",
        lambda row: row.log_start_offset,
        False,
    ),
    ("kafka_log_log_logendoffset", "Next offset to be written.", lambda row: row.log_end_offset, False),
    (
        "tierlog_remote_copy_lag_ms",
        "How long the oldest record has been waiting that is not in the object store.",
        lambda row: row.remote.exposed_ms if row.remote is not None else 0,
        True,
    ),
    (
        "tierlog_log_local_start_offset",
        "First offset on the local disk.",
        lambda row: row.local_log_start_offset,
        False,
    ),
)

_REMOTE_GAUGES: tuple[tuple[str, str, Callable[[RemoteRow], int]], ...] = (
    ("remotelogsizebytes", "Bytes in the object store.", lambda row: row.size_bytes),
    ("remotelogmetadatacount", "Segments in the object store.", lambda row: row.segment_count),
    ("remotecopylagbytes", "Bytes that are ready to be copied.", lambda row: row.copy_lag_bytes),
    ("remotecopylagsegments", "Segments that are ready to be copied.", lambda row: row.copy_lag_segments),
    ("remotedeletelagbytes", "Remote bytes beyond the retention.", lambda row: row.delete_lag_bytes),
    ("remotedeletelagsegments", "Remote segments beyond the retention.", lambda row: row.delete_lag_segments),
)

_REPLICA_GAUGES: tuple[tuple[str, str, Number], ...] = (
    ("partitioncount", "Partitions hosted here.", lambda row: 1),
    ("leadercount", "Partitions led here.", lambda row: row.is_leader),
    (
        "underreplicatedpartitions",
        "Led partitions whose ISR lacks a replica.",
        lambda row: row.is_leader and row.isr_count < row.replica_count,
    ),
    (
        "underminisrpartitioncount",
        "Led partitions whose ISR is below min.insync.replicas.",
        lambda row: row.is_leader and row.isr_count < row.min_isr,
    ),
    (
        "atminisrpartitioncount",
        "Led partitions whose ISR is just min.insync.replicas.",
        lambda row: row.is_leader and row.isr_count == row.min_isr,
    ),
)

_CLUSTER_GAUGES: tuple[tuple[str, str, Callable[[ClusterRow], int]], ...] = (
    ("activecontrollercount", "1 where this broker is the controller.", lambda row: row.is_controller),
    ("activebrokercount", "Brokers that are unfenced.", lambda row: row.active_brokers),
    ("fencedbrokercount", "Brokers that are fenced.", lambda row: row.fenced_brokers),
    ("globaltopiccount", "Topics of the cluster.", lambda row: row.topics),
    ("globalpartitioncount", "Partitions of the cluster.", lambda row: row.partitions),
    ("offlinepartitionscount", "Partitions without a leader.", lambda row: row.offline_partitions),
    (
        "preferredreplicaimbalancecount",
        "Partitions that are not led by their preferred replica.",
        lambda row: row.imbalanced_partitions,
    ),
)


def _labels(row: PartitionRow) -> str:
    return rendered((("topic", row.topic), ("partition", str(row.partition))))


class PartitionMetrics:
    """Registers every family that is computed from ``PartitionRow``; ``read`` may be a generator over a
    snapshot.
    """

    def __init__(self, registry: Registry, read: Callable[[], Iterable[PartitionRow]]) -> None:
        self._read = read
        self._rows: list[PartitionRow] = []
        self._labels: list[str] = []
        # Counts at the last scrape, by partition; totals since the start, by topic and over all.
        self._last: dict[tuple[str, int], tuple[int, ...]] = {}
        self._topics: dict[str, list[int]] = {}
        self._all = [0] * len(_TRAFFIC_NAMES)
        # Registered first: it reads the rows that the other families use.
        registry.source(
            "kafka_topic_partition_current_offset",
            "gauge",
            "High watermark: the offset after the last readable record.",
            self._collect,
        )
        for name, help_text, number, leaders_only in _PARTITION_GAUGES:
            registry.source(name, "gauge", help_text, partial(self._gauge, number, leaders_only))
        prefix = "kafka_server_brokertopicmetrics_"
        for index, (name, help_text) in enumerate(_TRAFFIC_NAMES):
            registry.source(prefix + name, "counter", help_text, partial(self._traffic, index))
        for name, help_text, of_remote in _REMOTE_GAUGES:
            registry.source(prefix + name, "gauge", help_text, partial(self._remote, of_remote))
        for name, help_text, number in _REPLICA_GAUGES:
            registry.source(
                "kafka_server_replicamanager_" + name, "gauge", help_text, partial(self._sum, number)
            )

    def _collect(self) -> Iterator[Sample]:
        rows: list[PartitionRow] = []
        labels: list[str] = []
        last: dict[tuple[str, int], tuple[int, ...]] = {}
        for row in self._read():
            rows.append(row)
            labels.append(_labels(row))
            key = (row.topic, row.partition)
            last[key] = self._count(row, self._last.get(key))
            if row.is_leader:
                yield Sample("", labels[-1], row.high_watermark)
        hosted = {row.topic for row in rows}
        self._topics = {topic: counts for topic, counts in self._topics.items() if topic in hosted}
        self._rows, self._labels, self._last = rows, labels, last

    def _count(self, row: PartitionRow, before: tuple[int, ...] | None) -> tuple[int, ...]:
        now = (
            row.bytes_in,
            row.bytes_out,
            row.messages_in,
            row.remote_bytes_out,
            row.replication_bytes_in,
            row.replication_bytes_out,
        )
        if now == before:
            return now
        topic = self._topics.get(row.topic)
        if topic is None:
            topic = self._topics[row.topic] = [0] * len(_TRAFFIC_NAMES)
        for index, value in enumerate(now):
            # A new partition of the same name counts from zero.
            grown = value - before[index] if before is not None and value >= before[index] else value
            topic[index] += grown
            self._all[index] += grown
        return now

    def _gauge(self, number: Number, leaders_only: bool) -> Iterator[Sample]:
        for row, labels in zip(self._rows, self._labels, strict=True):
            if row.is_leader or not leaders_only:
                yield Sample("", labels, number(row))

    def _remote(self, number: Callable[[RemoteRow], int]) -> Iterator[Sample]:
        by_topic: dict[str, int] = {}
        for row in self._rows:
            if row.remote is not None and row.is_leader:
                by_topic[row.topic] = by_topic.get(row.topic, 0) + number(row.remote)
        yield Sample("", (), sum(by_topic.values()))
        for topic, value in by_topic.items():
            yield Sample("", (("topic", topic),), value)

    def _traffic(self, index: int) -> Iterator[Sample]:
        yield Sample("", (), self._all[index])
        for topic, counts in list(self._topics.items()):
            yield Sample("", (("topic", topic),), counts[index])

    def _sum(self, number: Number) -> Iterator[Sample]:
        yield Sample("", (), sum(number(row) for row in self._rows))


class ClusterMetrics:
    """The controller's gauges and kafka_exporter's ``kafka_brokers``; ``read`` is called once per scrape."""

    def __init__(self, registry: Registry, read: Callable[[], ClusterRow]) -> None:
        self._read = read
        self._row: ClusterRow | None = None
        # Registered first: it reads the row that the other families use.
        registry.value("kafka_brokers", "gauge", "Unfenced brokers of the cluster.", self._collect)
        prefix = "kafka_controller_kafkacontroller_"
        for name, help_text, number in _CLUSTER_GAUGES:
            registry.value(prefix + name, "gauge", help_text, partial(self._of, number))

    def _collect(self) -> int:
        self._row = self._read()
        return self._row.active_brokers

    def _of(self, number: Callable[[ClusterRow], int]) -> int:
        assert self._row is not None
        return int(number(self._row))


def register_connections(registry: Registry, read: Callable[[], Iterable[tuple[str, int]]]) -> None:
    """``read`` gives (listener, open connections)."""

    def samples() -> Iterator[Sample]:
        for listener, count in read():
            yield Sample("", (("listener", listener), ("networkProcessor", "0")), count)

    registry.source(
        "kafka_server_socket_server_metrics_connection_count", "gauge", "Open connections.", samples
    )
