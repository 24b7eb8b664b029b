"""kill -9 of a broker that leads many partitions: how long until all are led elsewhere, and can be written to.

Three real brokers. The victim leads every partition that is counted; the controller is whoever has that lease, which the
victim may be. "Led elsewhere" is what Metadata of both survivors says; "written" is a produce with acks=all to each
partition. Beside them: how long the survivors' loops stood still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import ProcessTree
from tests.scale.figures import Figure
from tests.servers.raw_client import RawClient, one_batch, produce_request
from tests.servers.several import Several, wait_until
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from tierlog.wire.messages.metadata import MetadataResponsePartition
from tierlog.wire.messages.produce import ProduceResponse

VICTIM = 1
TOPIC_PARTITIONS = 100
LEASE_S = 9.0
MARGIN_S = 3.0
MAX_STALL_S = 0.05
DEADLINE_S = 60.0


class Led:
    """The partitions that the victim leads, spread over topics of ``TOPIC_PARTITIONS``."""

    def __init__(self, cluster: Several, partitions: int, replication_factor: int) -> None:
        self.cluster = cluster
        self.count = partitions
        self._replication_factor = replication_factor
        self.topics = {
            f"led-{first // TOPIC_PARTITIONS:03}": min(TOPIC_PARTITIONS, partitions - first)
            for first in range(0, partitions, TOPIC_PARTITIONS)
        }

    def create(self) -> None:
        others = [node_id for node_id in self.cluster.brokers if node_id != VICTIM]
        with RawClient(self.cluster[VICTIM].port, timeout_s=DEADLINE_S) as client:
            for name, count in self.topics.items():
                assignments = [
                    CreatableReplicaAssignment(
                        partition_index=n,
                        broker_ids=[VICTIM, *others[n % 2 :], *others[: n % 2]][: self._replication_factor],
                    )
                    for n in range(count)
                ]
                topic = CreatableTopic(
                    name=name, num_partitions=-1, replication_factor=-1, assignments=assignments
                )
                request = CreateTopicsRequest(topics=[topic], timeout_ms=30_000)
                (answer,) = client.call(request, CreateTopicsResponse).topics
                assert answer.error_code == ErrorCode.NONE, answer.error_message
        for node_id in self.cluster.brokers:
            wait_until(lambda i=node_id: self._is_settled(i), f"broker {node_id} does not see all", 120)  # type: ignore[misc]

    def rows(self, of: int) -> Iterator[tuple[str, MetadataResponsePartition]]:
        """(topic, partition) as that broker sees them."""
        for topic in self.cluster.metadata(of, *self.topics).topics:
            for row in topic.partitions:
                yield topic.name or "", row

    def _is_settled(self, of: int) -> bool:
        found = [row for _, row in self.rows(of)]
        return len(found) == self.count and all(
            row.leader_id == VICTIM and len(row.isr_nodes) == self._replication_factor for row in found
        )

    def leaders(self, of: int) -> dict[tuple[str, int], int]:
        return {(topic, row.partition_index): row.leader_id for topic, row in self.rows(of)}

    def await_led_elsewhere(self, of: int) -> None:
        """As that broker sees it. Topic by topic: to ask for all of them all the time would be a load of its own."""
        for topic, count in self.topics.items():
            wait_until(
                lambda t=topic, n=count: self._is_led_elsewhere(of, t, n),  # type: ignore[misc]
                f"broker {of} does not see {topic} led elsewhere",
                DEADLINE_S,
            )

    def _is_led_elsewhere(self, of: int, topic: str, count: int) -> bool:
        leaders = self.cluster.leaders(of, topic)
        return len(leaders) == count and all(leader not in (-1, VICTIM) for leader in leaders.values())

    def write(self, of: int, batch: bytes) -> None:
        """To every partition, as often as it takes; returns when each has taken it."""
        deadline_s = time.monotonic() + DEADLINE_S
        left = self.leaders(of)
        while left:
            assert time.monotonic() < deadline_s, f"{len(left)} partitions take nothing"
            for leader in sorted(set(left.values()) - {-1}):
                if self.cluster[leader].process is not None:
                    with RawClient(self.cluster[leader].port, timeout_s=DEADLINE_S) as client:
                        self._write_led_by(client, leader, left, batch)
            if left:
                time.sleep(0.05)
                now = self.leaders(of)
                left = {key: now[key] for key in left}

    def _write_led_by(
        self, client: RawClient, leader: int, left: dict[tuple[str, int], int], batch: bytes
    ) -> None:
        for topic in self.topics:
            wanted: dict[int, bytes | None] = {
                n: batch for (name, n), who in left.items() if name == topic and who == leader
            }
            if not wanted:
                continue
            answer = client.call(produce_request(topic, wanted), ProduceResponse, 12)
            for row in answer.responses[0].partition_responses:
                if row.error_code == ErrorCode.NONE:
                    del left[topic, row.index]


def stalls(cluster: Several, node_id: int) -> tuple[float, float]:
    """How often that broker's loop stood still for longer than ``MAX_STALL_S``, and its longest stall, in s."""
    metrics = cluster[node_id].metrics()
    longer = (
        metrics["tierlog_loop_stall_seconds_count"] - metrics['tierlog_loop_stall_seconds_bucket{le="0.05"}']
    )
    return longer, metrics["tierlog_loop_stall_max_seconds"]


def cpu_s(cluster: Several, node_id: int) -> float:
    process = cluster[node_id].process
    assert process is not None
    return ProcessTree(process.pid).cpu_s()


def failover(
    row: str,
    directory: Path,
    *,
    partitions: int,
    replication_factor: int,
    metadata_store: str | None = None,
    lease_s: float = LEASE_S,
) -> Iterator[Figure]:
    overrides = {
        "broker_session_timeout_ms": str(int(lease_s * 1000)),
        "broker_heartbeat_interval_ms": str(int(lease_s * 1000 / 4.5)),
        "min_insync_replicas": "2" if replication_factor == 3 else "1",
        "remote_log_storage_system_enable": "false",
    }
    with Several(directory, metadata_store=metadata_store, **overrides) as cluster:
        led = Led(cluster, partitions, replication_factor)
        began_s = time.monotonic()
        led.create()
        yield Figure(row, "create the topics, s", time.monotonic() - began_s)
        led.write(2, one_batch(b"before"))
        survivors = [node_id for node_id in cluster.brokers if node_id != VICTIM]
        before = {node_id: stalls(cluster, node_id) for node_id in survivors}
        before_s = sum(cpu_s(cluster, node_id) for node_id in survivors)
        killed_s = time.monotonic()
        cluster[VICTIM].kill()
        for node_id in survivors:
            led.await_led_elsewhere(node_id)
        yield Figure(row, "all led elsewhere, s", time.monotonic() - killed_s, lease_s + MARGIN_S)
        used_s = sum(cpu_s(cluster, node_id) for node_id in survivors) - before_s
        yield Figure(row, "CPU of the survivors for that, s", used_s)
        led.write(survivors[0], one_batch(b"after"))
        yield Figure(row, "all written to, s", time.monotonic() - killed_s, lease_s + MARGIN_S)
        after = {node_id: stalls(cluster, node_id) for node_id in survivors}
        count = sum(after[i][0] - before[i][0] for i in survivors)
        yield Figure(row, "stalls over 50 ms of the survivors", count, 0)
        yield Figure(row, "longest stall since the start, ms", 1000 * max(s for _, s in after.values()))
        computed_s = max(cluster[i].metrics()["tierlog_loop_computed_max_seconds"] for i in survivors)
        yield Figure(row, "longest that one computed, ms", 1000 * computed_s)
        killed_s = time.monotonic()
        cluster[VICTIM].start()
        yield Figure(row, "the victim is back, s", time.monotonic() - killed_s)
        wait_until(
            lambda: all(len(r.isr_nodes) == replication_factor for _, r in led.rows(2)),
            "the victim is not in sync again",
            DEADLINE_S,
        )
        yield Figure(row, "in sync everywhere, s", time.monotonic() - killed_s)
