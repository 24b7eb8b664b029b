"""kafka-python: the usual program, unchanged."""

from __future__ import annotations

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from tests.patience import PATIENT_S
from tests.servers.tierlog import BrokerProcess


def test_the_usual_program(broker: BrokerProcess) -> None:
    topic = "kafka-python-usual"
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap, acks="all", compression_type="lz4", retries=5, linger_ms=5
    )
    sent = [producer.send(topic, key=str(n % 7).encode(), value=f"value {n}".encode()) for n in range(2000)]
    producer.flush()
    assert all(future.get(timeout=PATIENT_S).offset >= 0 for future in sent)
    producer.close()

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap,
        group_id="usual",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=10_000,
    )
    got = []
    for record in consumer:
        got.append(record.value)
        if len(got) == 2000:
            break
    assert sorted(got) == sorted(f"value {n}".encode() for n in range(2000))
    consumer.commit()
    committed = consumer.committed(TopicPartition(topic, 0))
    assert committed == 2000
    consumer.close()


def test_admin_creates_describes_and_deletes(broker: BrokerProcess) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics([NewTopic(name="kafka-python-admin", num_partitions=3, replication_factor=1)])
    assert "kafka-python-admin" in admin.list_topics()
    admin.delete_topics(["kafka-python-admin"])
    assert "kafka-python-admin" not in admin.list_topics()
    admin.close()
