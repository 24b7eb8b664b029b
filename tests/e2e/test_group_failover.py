"""The broker that coordinates a group is killed while its members read: they go on, from what they have committed.

For each client: one member reads and commits, the coordinator dies, a second member joins at the new coordinator, and both
read what is produced then. Nobody may read again what was committed, nothing may be left out, and in the end everything
that was committed stands.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.patience import PATIENT_S
from tests.servers import kafka
from tests.servers.parents import die_with_parent
from tests.servers.several import Several, wait_until
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "read"
GROUP = "readers"
PARTITIONS = 4
HALF = 400
BEFORE_THE_KILL = 100


class History:
    """What all members did, in the order in which they did it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.committed = dict.fromkeys(range(PARTITIONS), 0)
        self.seen: set[tuple[int, int]] = set()
        self.violations: list[str] = []

    def read(self, partition: int, offset: int) -> None:
        with self._lock:
            self.seen.add((partition, offset))
            if offset < self.committed[partition]:
                self.violations.append(f"{partition}@{offset} was read again, {self.committed} was committed")

    def commit(self, ends: dict[int, int]) -> None:
        with self._lock:
            for partition, end in ends.items():
                if end < self.committed[partition]:
                    self.violations.append(f"{partition} went back to {end} from {self.committed}")
                self.committed[partition] = end


class Member:
    """One consumer of the group, a process of its own, until the block ends."""

    def __init__(self, client: str, bootstrap: str, history: History) -> None:
        if client == "java":
            command = [*kafka.java("broker", classes=[kafka.JARS / "classes"]), "Follow"]
        else:
            command = [sys.executable, "-m", "tests.e2e.group_member", client]
        self.history = history
        self.is_assigned = False
        self._is_ending = False
        self._process = subprocess.Popen(
            [*command, bootstrap, TOPIC, GROUP],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # every client is loud about a broker that is gone
            text=True,
            preexec_fn=die_with_parent,
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Member:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        has_ended = self._process.poll() is not None
        self._process.kill()
        self._process.wait()
        self._thread.join(30)
        assert not has_ended, "it ended by itself"

    def _listen(self) -> None:
        ends: dict[int, int] = {}
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                match line.split():
                    case ["read", partition, offset]:
                        self.history.read(int(partition), int(offset))
                        ends[int(partition)] = int(offset) + 1
                    case ["commit"]:
                        self.history.commit(ends)
                        ends = {}
                    case ["refused", _]:
                        ends = {}  # those records are read again
                    case ["assigned", count]:
                        self.is_assigned = int(count) > 0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Several]:
    overrides = {
        "offsets_topic_num_partitions": "4",
        "group_initial_rebalance_delay_ms": "0",
        "remote_log_storage_system_enable": "false",
    }
    with Several(tmp_path, **overrides) as cluster:
        topic = CreatableTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=3)
        with cluster.client(1) as client:
            request = CreateTopicsRequest(topics=[topic], timeout_ms=10_000)
            (answer,) = client.call(request, CreateTopicsResponse).topics
            assert answer.error_code == ErrorCode.NONE, answer.error_message
        cluster.await_topic(TOPIC, PARTITIONS)
        yield cluster


def bootstrap(cluster: Several) -> str:
    return ",".join(broker.bootstrap for broker in cluster.brokers.values())


def produce_half(cluster: Several) -> None:
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap(cluster), "enable.idempotence": True})
    for n in range(HALF):
        producer.produce(
            TOPIC,
            b"%d" % n,
            partition=n % PARTITIONS,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert failures == []


def coordinator(cluster: Several) -> int:
    """-1 while there is none."""
    of = next(node_id for node_id, broker in cluster.brokers.items() if broker.process is not None)
    with cluster.client(of) as client:
        request = FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
        (found,) = client.call(request, FindCoordinatorResponse).coordinators
        return found.node_id


def committed(cluster: Several) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap(cluster), "group.id": GROUP})
    try:
        asked = [TopicPartition(TOPIC, n) for n in range(PARTITIONS)]
        return {found.partition: found.offset for found in consumer.committed(asked, timeout=PATIENT_S)}
    finally:
        consumer.close()


def goes_on(cluster: Several, client: str) -> None:
    history = History()
    produce_half(cluster)
    with Member(client, bootstrap(cluster), history) as first:
        wait_until(lambda: sum(history.committed.values()) >= BEFORE_THE_KILL, "nothing is read")
        victim = coordinator(cluster)
        cluster[victim].kill()
        with Member(client, bootstrap(cluster), history) as second:
            wait_until(lambda: second.is_assigned, "nobody joins at the new coordinator", 60)
            produce_half(cluster)
            wait_until(lambda: len(history.seen) == 2 * HALF, "not all is read", 60)
            wait_until(lambda: sum(history.committed.values()) == 2 * HALF, "not all is committed", 60)
        assert first.is_assigned
    assert history.violations == []
    assert coordinator(cluster) not in (victim, -1)
    assert committed(cluster) == dict.fromkeys(range(PARTITIONS), 2 * HALF // PARTITIONS)


@pytest.mark.slow
@pytest.mark.parametrize("client", ["kafka-python", "aiokafka"])
def test_a_group_goes_on_when_its_coordinator_dies(cluster: Several, client: str) -> None:
    goes_on(cluster, client)


@pytest.mark.slow
@pytest.mark.java
@pytest.mark.usefixtures("java")
def test_a_java_group_goes_on_when_its_coordinator_dies(cluster: Several) -> None:
    goes_on(cluster, "java")
