"""Each broker of three stopped cleanly and started again, one after the other, under an idempotent producer of acks=all.

Measured from the client: produces that failed, and how long each took from the call to its acknowledgement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from tests.scale.figures import Figure, quantile
from tests.servers.raw_client import RawClient
from tests.servers.several import Several, wait_until
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse

TOPIC = "rolled"
RECORDS_PER_S = 500
TICK_S = 0.01
MAX_P999_S = 2.0
DEADLINE_S = 120.0


class Load:
    """Until the block ends. ``took_s``: of each acknowledged record."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self.took_s: list[float] = []
        self.errors: list[KafkaError] = []
        self._partitions = partitions
        self._stopping = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                # Java's default. librdkafka's own of 10 s would have it stay away from a broker that is back for long.
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE_S)
        assert self._producer.flush(DEADLINE_S) == 0

    def _run(self) -> None:
        number, began_s = 0, time.monotonic()
        while not self._stopping.is_set():
            while number < (time.monotonic() - began_s) * RECORDS_PER_S:
                told = self._told(time.monotonic())
                partition = number % self._partitions
                self._producer.produce(TOPIC, b"x" * 100, partition=partition, on_delivery=told)
                number += 1
            self._producer.poll(TICK_S)

    def _told(self, began_s: float) -> Callable[[KafkaError | None, Message], None]:
        def told(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.errors.append(error)
            else:
                self.took_s.append(time.monotonic() - began_s)

        return told

    def goes_on(self, records: int = RECORDS_PER_S) -> None:
        wanted = len(self.took_s) + records
        wait_until(lambda: len(self.took_s) >= wanted, "nothing is acknowledged", DEADLINE_S)


def rolling(row: str, directory: Path, *, partitions: int) -> Iterator[Figure]:
    overrides = {
        "broker_session_timeout_ms": "9000",
        "broker_heartbeat_interval_ms": "2000",
        "min_insync_replicas": "2",
        "remote_log_storage_system_enable": "false",
    }
    with Several(directory, **overrides) as cluster:
        topic = CreatableTopic(name=TOPIC, num_partitions=partitions, replication_factor=3)
        with RawClient(cluster[1].port, timeout_s=DEADLINE_S) as client:
            request = CreateTopicsRequest(topics=[topic], timeout_ms=30_000)
            (answer,) = client.call(request, CreateTopicsResponse).topics
            assert answer.error_code == ErrorCode.NONE, answer.error_message
        wait_until(lambda: in_sync(cluster, 1, partitions), "not all are in sync", DEADLINE_S)
        bootstrap = ",".join(broker.bootstrap for broker in cluster.brokers.values())
        with Load(bootstrap, partitions) as load:
            load.goes_on()
            before = len(load.took_s)
            for node_id, broker in cluster.brokers.items():
                assert broker.stop() == 0
                load.goes_on()
                broker.start()
                wait_until(
                    lambda i=node_id: in_sync(cluster, i, partitions),  # type: ignore[misc]
                    "not all are in sync again",
                    DEADLINE_S,
                )
                load.goes_on()
        took_s = load.took_s[before:]
        yield Figure(row, "produces", len(took_s))
        yield Figure(row, "failed produces", len(load.errors), 0)
        yield Figure(row, "p50, s", quantile(took_s, 0.5))
        yield Figure(row, "p99.9, s", quantile(took_s, 0.999), MAX_P999_S)
        yield Figure(row, "longest, s", max(took_s))


def in_sync(cluster: Several, of: int, partitions: int) -> bool:
    (found,) = cluster.metadata(of, TOPIC).topics
    return len(found.partitions) == partitions and all(len(row.isr_nodes) == 3 for row in found.partitions)
