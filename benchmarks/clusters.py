"""Clusters of three brokers on this machine, with the verbs of one broker's ``Side``.

tierlog: three processes on one SQLite store. Kafka: three combined brokers and controllers (KRaft). A cluster costs what
its three process trees cost together. Clients are given the first broker's address and find the others by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ProcessTree
from benchmarks.sides import AGAINST, KAFKA, TIERLOG, Side
from benchmarks.wire import METADATA_VERSION, Refused, connect, exchange
from tests.servers.kafka import KafkaProcess
from tests.servers.several import Several
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

BROKERS = 3
# Three JVMs beside three brokers and a client have to fit the machine.
KAFKA_HEAP = "768M"
_TIMEOUT_S = 90.0


@dataclass
class ClusterSide(Side):
    """``process`` is the first of ``processes``."""

    replication_factor: int = BROKERS
    processes: Sequence[BrokerProcess | KafkaProcess] = field(default_factory=tuple)

    @property
    def tree(self) -> ProcessTree:
        return ProcessTree(*(each.process.pid for each in self.processes if each.process is not None))

    def start(self) -> None:
        """All at once: a quorum of controllers needs the others to start."""
        for each in self.processes:
            each.launch()
        for each in self.processes:
            if isinstance(each, KafkaProcess):
                each.await_started()
            else:
                each.await_ready()
        self.await_leaders([])

    def stop(self) -> None:
        for each in self.processes:
            each.kill()

    def await_leaders(self, topics: Sequence[str]) -> None:
        """Until every broker knows all the others, and each topic with all replicas in sync."""
        deadline = time.monotonic() + _TIMEOUT_S
        for each in self.processes:
            while not _all_in_sync(each.bootstrap, topics):
                if time.monotonic() > deadline:
                    raise Refused(f"{self.name}: {each.bootstrap} does not see {topics} in sync")
                time.sleep(0.05)


def _all_in_sync(bootstrap: str, topics: Iterable[str]) -> bool:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=name) for name in topics], allow_auto_topic_creation=False
    )
    try:
        with connect(bootstrap) as connection:
            answer = exchange(connection, request, METADATA_VERSION, MetadataResponse)
    except OSError:
        return False
    return len(answer.brokers) == BROKERS and all(
        not topic.error_code
        and topic.partitions
        and all(row.leader_id >= 0 and len(row.isr_nodes) == BROKERS for row in topic.partitions)
        for topic in answer.topics
    )


def tierlog_cluster(directory: Path, name: str = TIERLOG, checkout: Path | None = None) -> ClusterSide:
    several = Several(
        directory,
        BROKERS,
        broker_session_timeout_ms="9000",
        broker_heartbeat_interval_ms="2000",
        min_insync_replicas="2",
    )
    processes = list(several.brokers.values())
    for each in processes:
        each.checkout = checkout
    return ClusterSide(name, processes[0], processes=processes)


def kafka_cluster(directory: Path) -> ClusterSide:
    if AGAINST is not None:
        return tierlog_cluster(directory, KAFKA, AGAINST)
    processes = [KafkaProcess(directory / f"broker-{n}", heap=KAFKA_HEAP) for n in range(1, BROKERS + 1)]
    voters = ",".join(f"{n}@127.0.0.1:{each.controller_port}" for n, each in enumerate(processes, 1))
    for n, each in enumerate(processes, 1):
        each.directory.mkdir(parents=True, exist_ok=True)
        each.overrides = {
            "node.id": str(n),
            "controller.quorum.voters": voters,
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": str(BROKERS),
            "transaction.state.log.replication.factor": str(BROKERS),
            "share.coordinator.state.topic.replication.factor": str(BROKERS),
        }
    return ClusterSide(KAFKA, processes[0], processes=processes)
