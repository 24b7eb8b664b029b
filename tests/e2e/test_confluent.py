"""confluent-kafka: librdkafka as most Python services have it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.patience import PATIENT_S
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess

Cluster = BrokerProcess | KafkaProcess
TIMEOUT_S = PATIENT_S


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture(scope="module")
def producer(cluster: Cluster) -> Iterator[Producer]:
    config = {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "acks": "all"}
    running = Producer(config | {"compression.type": "zstd", "linger.ms": 5})
    yield running
    assert running.flush(TIMEOUT_S) == 0


def create(admin: AdminClient, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config or {})
    admin.create_topics([new])[topic].result(TIMEOUT_S)


def consumer(cluster: Cluster, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )


def read(reader: Consumer, count: int) -> list[tuple[int, int, bytes]]:
    """``count`` records as (partition, offset, value), or what came within the time."""
    rows: list[tuple[int, int, bytes]] = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(rows) < count and time.monotonic() < deadline:
        for message in reader.consume(count - len(rows), 0.5):
            assert message.error() is None, message.error()
            rows.append((message.partition(), message.offset(), message.value()))
    return rows


def test_idempotent_producer_and_group_consumer(
    cluster: Cluster, admin: AdminClient, producer: Producer
) -> None:
    topic = "confluent-usual"
    create(admin, topic, 3)
    acknowledged: list[tuple[int, int, bytes]] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        assert error is None, error
        acknowledged.append((message.partition(), message.offset(), message.value()))  # type: ignore[attr-defined]

    for n in range(2000):
        producer.produce(topic, key=str(n % 11), value=f"value {n}", on_delivery=delivered)
    assert producer.flush(TIMEOUT_S) == 0

    reader = consumer(cluster, "confluent-group")
    reader.subscribe([topic])
    rows = read(reader, 2000)
    assert sorted(rows) == sorted(acknowledged)
    for partition in range(3):
        offsets = [offset for at, offset, _ in rows if at == partition]
        assert offsets == list(range(len(offsets)))
    reader.commit(asynchronous=False)
    committed = reader.committed([TopicPartition(topic, partition) for partition in range(3)], TIMEOUT_S)
    assert sum(each.offset for each in committed) == 2000
    reader.close()


def test_two_members_share_the_partitions_and_one_inherits_them(
    cluster: Cluster, admin: AdminClient, producer: Producer
) -> None:
    topic = "confluent-rebalance"
    create(admin, topic, 4)
    first, second = consumer(cluster, "confluent-shared"), consumer(cluster, "confluent-shared")
    first.subscribe([topic])
    second.subscribe([topic])
    deadline = time.monotonic() + TIMEOUT_S
    while not (len(first.assignment()) == len(second.assignment()) == 2):
        assert time.monotonic() < deadline, (first.assignment(), second.assignment())
        first.poll(0.1)
        second.poll(0.1)
    second.close()
    while len(first.assignment()) != 4:
        assert time.monotonic() < deadline, first.assignment()
        first.poll(0.1)
    first.close()


def test_watermarks_offsets_for_times_and_seek(
    cluster: Cluster, admin: AdminClient, producer: Producer
) -> None:
    topic = "confluent-offsets"
    create(admin, topic, 1)
    for n in range(100):
        producer.produce(topic, value=f"{n}", partition=0, timestamp=1_700_000_000_000 + n)
    producer.flush(TIMEOUT_S)
    reader = consumer(cluster, "confluent-offsets-group")
    partition = TopicPartition(topic, 0)
    assert reader.get_watermark_offsets(partition, TIMEOUT_S) == (0, 100)
    found = reader.offsets_for_times([TopicPartition(topic, 0, 1_700_000_000_042)], TIMEOUT_S)
    assert found[0].offset == 42
    reader.assign([TopicPartition(topic, 0, 90)])
    assert [value for _, _, value in read(reader, 10)] == [f"{n}".encode() for n in range(90, 100)]
    reader.close()
    latest = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(TIMEOUT_S)
    assert latest.offset == 100


def test_admin(cluster: Cluster, admin: AdminClient, producer: Producer) -> None:
    topic = "confluent-admin"
    create(admin, topic, 1, {"retention.ms": "-1"})
    with pytest.raises(KafkaException) as raised:
        create(admin, topic, 1)
    assert raised.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    admin.create_partitions([NewPartitions(topic, 2)])[topic].result(TIMEOUT_S)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    resource.add_incremental_config(
        ConfigEntry("segment.bytes", "2097152", incremental_operation=AlterConfigOpType.SET)
    )
    admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)
    asked = ConfigResource(ResourceType.TOPIC, topic)
    config = admin.describe_configs([asked])[asked].result(TIMEOUT_S)
    assert (config["segment.bytes"].value, config["retention.ms"].value) == ("2097152", "-1")
    for n in range(5):
        producer.produce(topic, value=f"{n}", partition=1)
    producer.flush(TIMEOUT_S)
    before = TopicPartition(topic, 1, 3)
    assert admin.delete_records([before])[before].result(TIMEOUT_S).low_watermark == 3
    assert len(admin.list_topics(topic, TIMEOUT_S).topics[topic].partitions) == 2
    assert topic in admin.list_topics(timeout=TIMEOUT_S).topics
    admin.delete_topics([topic])[topic].result(TIMEOUT_S)


def test_groups_through_the_admin_client(cluster: Cluster, admin: AdminClient, producer: Producer) -> None:
    topic, group = "confluent-groups", "confluent-managed"
    create(admin, topic, 1)
    producer.produce(topic, value="x", partition=0)
    producer.flush(TIMEOUT_S)
    reader = consumer(cluster, group)
    reader.subscribe([topic])
    assert len(read(reader, 1)) == 1
    reader.commit(asynchronous=False)
    described = admin.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    assert (described.state.name, len(described.members)) == ("STABLE", 1)
    with pytest.raises(KafkaException) as raised:
        admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)
    assert raised.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    reader.close()
    listed = admin.list_consumer_groups().result(TIMEOUT_S)
    assert group in {each.group_id for each in listed.valid}
    asked = ConsumerGroupTopicPartitions(group)
    offsets = admin.list_consumer_group_offsets([asked])[group].result(TIMEOUT_S)
    assert [each.offset for each in offsets.topic_partitions] == [1]
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])
    admin.alter_consumer_group_offsets([moved])[group].result(TIMEOUT_S)
    again = admin.list_consumer_group_offsets([asked])[group].result(TIMEOUT_S)
    assert [each.offset for each in again.topic_partitions] == [0]
    admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)


def test_a_record_that_is_too_large_is_refused(cluster: Cluster, admin: AdminClient) -> None:
    topic = "confluent-too-large"
    create(admin, topic, 1, {"max.message.bytes": "20000"})
    errors: list[int] = []
    sender = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all"})
    for size in (10_000, 30_000):  # One after the other: together they would be one batch.
        sender.produce(topic, value=b"x" * size, on_delivery=lambda e, _: errors.append(e.code() if e else 0))
        assert sender.flush(TIMEOUT_S) == 0
    assert errors == [0, KafkaError.MSG_SIZE_TOO_LARGE]
