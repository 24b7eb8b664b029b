"""Partition, group and tier metrics: names, totals that never go back, cost of a scrape."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable

from tests.unit.telemetry.test_metrics import scrape, values
from tierlog.telemetry.exposition import render
from tierlog.telemetry.group_metrics import GroupMetrics, GroupOffset, GroupRow
from tierlog.telemetry.kafka_names import (
    ClusterMetrics,
    ClusterRow,
    PartitionMetrics,
    PartitionRow,
    RemoteRow,
    register_connections,
)
from tierlog.telemetry.metrics import Registry
from tierlog.telemetry.tier_counters import TierCounters

TRAFFIC = "kafka_server_brokertopicmetrics_"


def row(topic: str = "t", partition: int = 0, *, bytes_in: int = 0, is_leader: bool = True) -> PartitionRow:
    return PartitionRow(
        topic=topic,
        partition=partition,
        is_leader=is_leader,
        log_start_offset=5,
        local_log_start_offset=50,
        high_watermark=90,
        log_end_offset=100,
        size_bytes=1000,
        segment_count=3,
        bytes_in=bytes_in,
        bytes_out=2,
        messages_in=bytes_in,
        leader=1,
        preferred_leader=2,
        replica_count=3,
        isr_count=2,
        min_isr=2,
        remote=RemoteRow(size_bytes=700, segment_count=2, copy_lag_bytes=10, copy_lag_segments=1),
    )


async def test_partition_names() -> None:
    registry = Registry()
    PartitionMetrics(registry, lambda: [row(), row(partition=1, is_leader=False), row("u")])
    found = values(await scrape(registry))
    labels = (("topic", "t"), ("partition", "0"))
    assert found[("kafka_topic_partition_current_offset", labels)] == 90
    assert found[("kafka_topic_partition_oldest_offset", labels)] == 5
    assert found[("kafka_topic_partition_in_sync_replica", labels)] == 2
    assert found[("kafka_topic_partition_under_replicated_partition", labels)] == 1
    assert found[("kafka_topic_partition_leader_is_preferred", labels)] == 0
    assert found[("kafka_cluster_partition_atminisr", labels)] == 1
    assert found[("kafka_cluster_partition_underminisr", labels)] == 0
    assert found[("kafka_log_log_size", labels)] == 1000
    assert found[("kafka_log_log_logendoffset", labels)] == 100
    assert found[("tierlog_log_local_start_offset", labels)] == 50
    follower = (("topic", "t"), ("partition", "1"))
    assert found[("kafka_log_log_numlogsegments", follower)] == 3
    assert ("kafka_topic_partition_current_offset", follower) not in found
    assert found[("kafka_server_replicamanager_partitioncount", ())] == 3
    assert found[("kafka_server_replicamanager_leadercount", ())] == 2
    assert found[("kafka_server_replicamanager_underreplicatedpartitions", ())] == 2
    assert found[(TRAFFIC + "remotelogsizebytes", ())] == 1400
    assert found[(TRAFFIC + "remotecopylagsegments", (("topic", "t"),))] == 1


async def test_traffic_totals_never_go_back() -> None:
    registry = Registry()
    rows: list[PartitionRow] = [row(bytes_in=10), row(partition=1, bytes_in=5), row("u", bytes_in=1)]
    PartitionMetrics(registry, lambda: rows)
    name = TRAFFIC + "bytesin_total"

    async def now() -> dict[str, float]:
        return {
            dict(labels).get("topic", ""): value
            for (metric, labels), value in values(await scrape(registry)).items()
            if metric == name
        }

    assert await now() == {"": 16, "t": 15, "u": 1}
    rows[:] = [row(bytes_in=12), row("u", bytes_in=1)]
    assert await now() == {"": 18, "t": 17, "u": 1}
    rows[:] = [row(bytes_in=12)]
    assert await now() == {"": 18, "t": 17}
    rows[:] = [row(bytes_in=3)]  # deleted and created anew
    assert await now() == {"": 21, "t": 20}


async def test_cluster_and_connections() -> None:
    registry = Registry()
    ClusterMetrics(registry, lambda: ClusterRow(True, 3, 1, 10, 60, 2, 4))
    register_connections(registry, lambda: [("PLAINTEXT", 7)])
    found = values(await scrape(registry))
    prefix = "kafka_controller_kafkacontroller_"
    assert found[(prefix + "activecontrollercount", ())] == 1
    assert found[(prefix + "offlinepartitionscount", ())] == 2
    assert found[(prefix + "globalpartitioncount", ())] == 60
    assert found[("kafka_brokers", ())] == 3
    labels = (("listener", "PLAINTEXT"), ("networkProcessor", "0"))
    assert found[("kafka_server_socket_server_metrics_connection_count", labels)] == 7


async def test_groups() -> None:
    registry = Registry()
    offsets = [GroupOffset("t", 0, 90, 100), GroupOffset("t", 1, 5, 4), GroupOffset("u", 0, 3, None)]
    GroupMetrics(registry, lambda: [GroupRow("g", "Stable", 2, offsets), GroupRow("h", "Empty", 0, [])])
    found = values(await scrape(registry))
    group = ("consumergroup", "g")
    assert found[("kafka_consumergroup_members", (group,))] == 2
    assert found[("kafka_consumergroup_lag", (group, ("topic", "t"), ("partition", "0")))] == 10
    assert found[("kafka_consumergroup_lag", (group, ("topic", "t"), ("partition", "1")))] == 0
    assert ("kafka_consumergroup_lag", (group, ("topic", "u"), ("partition", "0"))) not in found
    assert found[("kafka_consumergroup_current_offset", (group, ("topic", "u"), ("partition", "0")))] == 3
    assert found[("kafka_consumergroup_lag_sum", (group, ("topic", "t")))] == 10
    numgroups = "kafka_coordinator_group_groupmetadatamanager_numgroups"
    assert found[(numgroups, ())] == 2
    assert found[(numgroups, (("state", "Empty"),))] == 1


async def test_tier_counters() -> None:
    registry = Registry()
    counters = TierCounters(registry)
    name = TRAFFIC + "remotecopybytes_total"
    first, second = counters.bind("t"), counters.bind("t")
    assert first is second
    first.copy_bytes += 10
    counters.bind("u").copy_bytes += 5
    found = values(await scrape(registry))
    assert (found[(name, (("topic", "t"),))], found[(name, ())]) == (10, 15)
    counters.release("t")
    assert (name, (("topic", "t"),)) in values(await scrape(registry))
    counters.release("t")
    found = values(await scrape(registry))
    assert (name, (("topic", "t"),)) not in found
    assert found[(name, ())] == 15
    assert counters.bind("t").copy_bytes == 0


async def test_a_thousand_partitions_are_many_short_slices() -> None:
    registry = Registry()

    def read() -> Iterable[PartitionRow]:
        return (row(f"topic-{n // 10}", n % 10, bytes_in=n) for n in range(1000))

    PartitionMetrics(registry, read)
    slices = []
    gc.collect()
    gc.disable()  # a collection of what the test runner holds is not the scrape's
    try:
        cpu_s = time.thread_time()
        async for chunk in render(registry, clock=time.thread_time):
            # Processor time, not wall time: other processes of a busy machine do not count.
            now_s = time.thread_time()
            slices.append(now_s - cpu_s)
            cpu_s = now_s
            assert chunk
    finally:
        gc.enable()
    assert max(slices) < 0.01
    assert len(slices) > 3
