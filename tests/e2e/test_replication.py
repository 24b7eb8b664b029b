"""Three brokers of one machine on one metadata store, under an idempotent producer of acks=all: nothing that was
acknowledged is lost, doubled or moved when a leader is killed, and nothing fails when one is stopped."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.patience import PATIENT_S
from tests.servers.tierlog import BrokerProcess

TOPIC = "replicated"
PARTITIONS = 4
BROKERS = (1, 2, 3)


class Cluster:
    def __init__(self, root: Path) -> None:
        self.brokers = {
            node_id: BrokerProcess(
                root / str(node_id),
                {
                    "node.id": str(node_id),
                    "metadata.store": f"sqlite:{root}/shared.db",
                    "remote.log.storage.system.enable": "false",
                },
            )
            for node_id in BROKERS
        }

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    def leaders(self) -> dict[int, int]:
        topic = (
            AdminClient({"bootstrap.servers": self.bootstrap})
            .list_topics(TOPIC, timeout=PATIENT_S)
            .topics[TOPIC]
        )
        return {index: partition.leader for index, partition in topic.partitions.items()}

    def isrs(self) -> dict[int, set[int]]:
        topic = (
            AdminClient({"bootstrap.servers": self.bootstrap})
            .list_topics(TOPIC, timeout=PATIENT_S)
            .topics[TOPIC]
        )
        return {index: set(partition.isrs) for index, partition in topic.partitions.items()}

    def log_bytes(self, node_id: int, partition: int) -> bytes:
        directory = self.brokers[node_id].log_dir / f"{TOPIC}-{partition}"
        return b"".join(path.read_bytes() for path in sorted(directory.glob("*.log")))


def on_client_error(cut_off: threading.Event, error: KafkaError) -> None:
    """Without a reference to the load, so that its producer ends with it."""
    if error.code() == KafkaError._ALL_BROKERS_DOWN:
        cut_off.set()


class Load:
    """A producer in a thread of its own. ``acknowledged``: partition → (offset, value), in that order.

    The offset is None where a batch was sent again, to a broker that had it: a duplicate may be answered without one."""

    def __init__(self, bootstrap: str) -> None:
        self.acknowledged: dict[int, list[tuple[int | None, bytes]]] = defaultdict(list)
        self.errors: list[KafkaError] = []
        self.slowest_s = 0.0
        # No broker is connected, and all answers that came before are told.
        self.cut_off = threading.Event()
        self._stopping = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "retry.backoff.ms": 50,
                "topic.metadata.refresh.interval.ms": 1000,
                "error_cb": partial(on_client_error, self.cut_off),
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert self._producer.flush(30) == 0

    def _run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            for _ in range(5):
                value = b"%08d" % number
                self._producer.produce(
                    TOPIC, value, partition=number % PARTITIONS, on_delivery=self._told(time.monotonic())
                )
                number += 1
            self._producer.poll(0.005)

    def _told(self, began_s: float) -> Callable[[KafkaError | None, Message], None]:
        def told(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.errors.append(error)
                return
            offset, value, partition = message.offset(), message.value(), message.partition()
            assert isinstance(value, bytes) and partition is not None
            self.acknowledged[partition].append((offset, value))
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)

        return told

    @property
    def count(self) -> int:
        return sum(len(found) for found in self.acknowledged.values())

    def goes_on(self, records: int = 300, timeout_s: float = PATIENT_S) -> None:
        wanted = {
            partition: len(self.acknowledged[partition]) + records // PARTITIONS
            for partition in range(PARTITIONS)
        }
        until(lambda: all(len(self.acknowledged[p]) >= n for p, n in wanted.items()), timeout_s)


def until(condition: Callable[[], object], timeout_s: float = PATIENT_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.05)


def consumed(bootstrap: str) -> dict[int, list[tuple[int, bytes]]]:
    """Everything that consumers see."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    found: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    try:
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(TOPIC, p), timeout=PATIENT_S)[1]
            for p in range(PARTITIONS)
        }
        consumer.assign([TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)])
        deadline_s = time.monotonic() + PATIENT_S
        while any(len(found[p]) < end for p, end in ends.items()):
            assert time.monotonic() < deadline_s, "records are missing"
            for message in consumer.consume(500, timeout=1):
                assert message.error() is None
                offset, value, partition = message.offset(), message.value(), message.partition()
                assert offset is not None and value is not None and partition is not None
                found[partition].append((offset, value))
    finally:
        consumer.close()
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        for broker in made.brokers.values():
            broker.start()
        admin = AdminClient({"bootstrap.servers": made.bootstrap})
        until(lambda: len(admin.list_topics(timeout=PATIENT_S).brokers) == len(BROKERS))
        new = NewTopic(TOPIC, PARTITIONS, len(BROKERS), config={"min.insync.replicas": "2"})
        admin.create_topics([new])[TOPIC].result(20)
        yield made
    finally:
        for broker in made.brokers.values():
            broker.kill()


def check(cluster: Cluster, load: Load) -> None:
    """Each acknowledged record once, where it was said to be, and every value in the order in which it was sent."""
    until(lambda: all(isr == set(BROKERS) for isr in cluster.isrs().values()))
    seen = consumed(cluster.bootstrap)
    for partition in range(PARTITIONS):
        at = dict(seen[partition])
        assert [offset for offset, _ in seen[partition]] == list(range(len(at)))
        values = [value for _, value in seen[partition]]
        assert values == sorted(set(values)), "doubled or moved"
        acknowledged = load.acknowledged[partition]
        assert {value for _, value in acknowledged} <= set(values), "lost"
        assert [(o, v) for o, v in acknowledged if o is not None and at.get(o) != v] == [], "moved"

    def are_alike() -> bool:
        logs = [[cluster.log_bytes(node_id, p) for p in range(PARTITIONS)] for node_id in BROKERS]
        return all(log == logs[0] for log in logs)

    until(are_alike)


def test_a_killed_leader_costs_nothing_that_was_acknowledged(cluster: Cluster) -> None:
    with Load(cluster.bootstrap) as load:
        load.goes_on()
        before = cluster.leaders()
        victim = before[0]
        cluster.brokers[victim].kill()
        until(lambda: victim not in cluster.leaders().values())
        load.goes_on()
        assert all(victim not in isr for isr in cluster.isrs().values())
        cluster.brokers[victim].start()
        until(lambda: all(victim in isr for isr in cluster.isrs().values()))
        load.goes_on()
    assert load.errors == []
    check(cluster, load)


def test_brokers_stopped_one_by_one_fail_no_produce(cluster: Cluster) -> None:
    with Load(cluster.bootstrap) as load:
        load.goes_on()
        for node_id in BROKERS:
            assert cluster.brokers[node_id].stop() == 0
            load.goes_on()
            cluster.brokers[node_id].start()
            until(lambda: all(isr == set(BROKERS) for isr in cluster.isrs().values()))
    assert load.errors == []
    check(cluster, load)
