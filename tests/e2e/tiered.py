"""What the tests of the remote tier share: a broker in a hurry, topics with small segments, and ways to look at both.

Segments are sealed by size, copied within half a second and dropped locally at the next retention check, so that a
test need only write and wait.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tests.patience import PATIENT_S
from tests.servers.tierlog import BrokerProcess

TIMEOUT_S = PATIENT_S
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
HURRY = {
    "remote.log.manager.task.interval.ms": "300",
    "log.retention.check.interval.ms": "500",
    "tierlog.remote.delete.grace.ms": "200",
}
TIERED = {
    "remote.storage.enable": "true",
    "internal.segment.bytes": "100000",
    "local.retention.bytes": "1",
    "retention.ms": "-1",
    "file.delete.delay.ms": "0",
}


class Row(NamedTuple):
    """One record as it was acknowledged, or as it was read."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp: int


def hurried(directory: Path, env: Mapping[str, str] | None = None, **overrides: str) -> BrokerProcess:
    """A broker that is not started yet; overrides with ``_`` for ``.``."""
    given = {name.replace("_", "."): value for name, value in overrides.items()}
    return BrokerProcess(directory, HURRY | given, dict(env or {}))


def until(condition: Callable[[], object], timeout_s: float = TIMEOUT_S, every_s: float = 0.05) -> None:
    """Waits for what the broker does by itself; fails with the condition's name."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(every_s)


def figure(text: str) -> None:
    """A measured figure, for whoever runs with ``-rP``."""
    sys.stdout.write(text + "\n")


def get(broker: BrokerProcess, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}{path}", timeout=PATIENT_S) as reply:
        found: dict[str, Any] = json.load(reply)
        return found


def storage(broker: BrokerProcess, topic: str) -> list[dict[str, Any]]:
    """Where each partition's bytes are; ordered by partition."""
    rows: list[dict[str, Any]] = get(broker, f"/v1/topics/{topic}/storage")["partitions"]
    return rows


def admin(broker: BrokerProcess) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def create(broker: BrokerProcess, topic: str, partitions: int = 1, **configs: str) -> None:
    """A tiered topic; configs with ``_`` for ``.``."""
    given = TIERED | {name.replace("_", "."): value for name, value in configs.items()}
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=given)
    client = admin(broker)  # it must outlive the answer
    client.create_topics([new])[topic].result(TIMEOUT_S)


def alter(broker: BrokerProcess, topic: str, **configs: str) -> None:
    """Sets topic configs, ``_`` for ``.``; raises KafkaException."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    for name, value in configs.items():
        entry = ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        resource.add_incremental_config(entry)
    client = admin(broker)
    client.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)


def alter_broker(broker: BrokerProcess, name: str, value: str) -> None:
    """Sets a config of the broker while it runs; raises KafkaException."""
    resource = ConfigResource(ResourceType.BROKER, "1")
    resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))
    client = admin(broker)
    client.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)


def delete(broker: BrokerProcess, topic: str) -> None:
    client = admin(broker)
    client.delete_topics([topic])[topic].result(TIMEOUT_S)


def delete_records(broker: BrokerProcess, topic: str, offset: int, partition: int = 0) -> int:
    """The low watermark after it."""
    client = admin(broker)
    before = TopicPartition(topic, partition, offset)
    return int(client.delete_records([before])[before].result(TIMEOUT_S).low_watermark)


def topic_id(broker: BrokerProcess, topic: str) -> str:
    """As Kafka prints it, and as it stands in the keys of objects."""
    client = admin(broker)
    described = client.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    return str(described.topic_id).replace("+", "-").replace("/", "_")  # librdkafka's alphabet is another


def objects(broker: BrokerProcess, id_text: str) -> set[str]:
    """Segment objects of one topic in the directory store, whose emptied folders go while they are listed."""
    while True:
        try:
            found = list(broker.objects.glob(f"*/*/{id_text}/*/*.seg"))
        except FileNotFoundError:
            continue
        return {str(path.relative_to(broker.objects)) for path in found}


def metadata_keys(broker: BrokerProcess, part: str) -> list[str]:
    """Keys of the metadata store that contain ``part``."""
    with closing(sqlite3.connect(f"file:{broker.directory / 'metadata.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT k FROM kv WHERE instr(k, ?) ORDER BY k", (part,)).fetchall()
    return [str(key) for (key,) in rows]


def produce(
    broker: BrokerProcess,
    topic: str,
    count: int,
    *,
    partitions: int = 1,
    codec: str = "none",
    value_bytes: int = 1000,
    seed: int = 1,
    timestamps: Iterable[int] | None = None,
) -> list[Row]:
    """``count`` records round robin over the partitions, in batches of about 20 kB; what was acknowledged."""
    rows: list[Row] = []
    rng = random.Random(seed)

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        rows.append(row_of(message))

    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "enable.idempotence": True,
            "compression.type": codec,
            "batch.size": 20_000,
            "linger.ms": 2,
        }
    )
    given = iter(timestamps) if timestamps is not None else None
    for n in range(count):
        # Half of it compresses.
        value = rng.randbytes(value_bytes // 2) + b"%d" % n * (value_bytes // 2 // len(b"%d" % n))
        timestamp = next(given) if given is not None else 0
        producer.produce(
            topic, value, b"%d" % n, partition=n % partitions, timestamp=timestamp, on_delivery=delivered
        )
        if n % 500 == 0:
            producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0
    assert len(rows) == count
    return sorted(rows)


def row_of(message: Message) -> Row:
    error, partition, offset, key = message.error(), message.partition(), message.offset(), message.key()
    assert error is None, error
    assert partition is not None
    assert offset is not None
    assert isinstance(key, bytes)
    value = message.value()
    return Row(partition, offset, key, bytes(value or b""), message.timestamp()[1])


def consumer(broker: BrokerProcess, **configs: str | int | bool) -> Consumer:
    given = {name.replace("_", "."): value for name, value in configs.items()}
    return Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "tier",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            **given,
        }
    )


def read(
    broker: BrokerProcess, topic: str, count: int, starts: Mapping[int, int], **configs: str | int | bool
) -> list[Row]:
    """``count`` records from these offsets on, by a consumer of its own."""
    reader = consumer(broker, **configs)
    reader.assign([TopicPartition(topic, partition, offset) for partition, offset in starts.items()])
    rows: list[Row] = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(rows) < count:
        assert time.monotonic() < deadline, f"{len(rows)} of {count} records within {TIMEOUT_S} s"
        rows += map(row_of, reader.consume(min(count - len(rows), 1000), 0.5))
    reader.close()
    return sorted(rows)


def is_tiered(broker: BrokerProcess, topic: str) -> bool:
    """All that is sealed is in the object store and nowhere else."""
    rows = storage(broker, topic)
    return all(
        row["tiered_end_offset"] == row["active_base_offset"] == row["local_log_start_offset"] for row in rows
    )


def await_tiered(broker: BrokerProcess, topic: str) -> list[dict[str, Any]]:
    until(lambda: is_tiered(broker, topic))
    return storage(broker, topic)
