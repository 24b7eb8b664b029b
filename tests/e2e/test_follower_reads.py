"""Three brokers in a rack each: consumers that name their rack read from the replica there (KIP-392), and lose nothing
when it dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.servers import kafka
from tests.servers.several import Several, wait_until
from tierlog.broker.fetch.preferred_replicas import RACK_AWARE
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

TOPIC = "near"
COUNT = 500
VALUE_BYTES = 1000


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    made = Several(
        tmp_path_factory.mktemp("racks"),
        remote_log_storage_system_enable="false",
        replica_selector_class=RACK_AWARE,
    )
    for node_id, broker in made.brokers.items():
        broker.overrides = {**broker.overrides, "broker.rack": f"rack-{node_id}"}
    with made as running:
        assignment = CreatableReplicaAssignment(partition_index=0, broker_ids=[1, 2, 3])
        topic = CreatableTopic(name=TOPIC, num_partitions=-1, replication_factor=-1, assignments=[assignment])
        with running.client(1) as client:
            answer = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse)
        assert answer.topics[0].error_code == ErrorCode.NONE
        running.await_topic(TOPIC, 1)
        produce(running, 0)
        yield running


def produce(several: Several, first: int) -> None:
    producer = Producer({"bootstrap.servers": several[1].bootstrap, "acks": "all"})
    for number in range(first, first + COUNT):
        producer.produce(TOPIC, b"%06d" % number + b"." * VALUE_BYTES, partition=0)
    assert producer.flush(20) == 0


def read_bytes(several: Several) -> dict[int, float]:
    """What each broker has sent to consumers of the topic."""
    name = f'kafka_server_brokertopicmetrics_bytesout_total{{topic="{TOPIC}"}}'
    return {i: b.metrics().get(name, 0.0) for i, b in several.brokers.items() if b.process is not None}


def consume(consumer: Consumer, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        message = consumer.poll(20)
        assert message is not None and message.error() is None, message
        value = message.value()
        assert isinstance(value, bytes)
        found.append(int(value[:6]))
    return found


@pytest.mark.java
@pytest.mark.usefixtures("java")
def test_the_java_consumer_reads_in_its_rack(several: Several) -> None:
    before = read_bytes(several)
    out = kafka.tool(
        "consumer.ConsoleConsumer",
        *("--bootstrap-server", several[1].bootstrap, "--topic", TOPIC, "--partition", "0"),
        *("--offset", "earliest", "--max-messages", str(COUNT), "--command-property", "client.rack=rack-3"),
    ).out
    assert [int(line[:6]) for line in out.splitlines() if line[:6].isdigit()] == list(range(COUNT))
    after = read_bytes(several)
    assert after[3] - before[3] >= COUNT * VALUE_BYTES
    assert after[1] == before[1]


def test_librdkafka_reads_in_its_rack_and_goes_on_at_the_leader_when_that_dies(several: Several) -> None:
    before = read_bytes(several)
    consumer = Consumer(
        {
            "bootstrap.servers": several[1].bootstrap,
            "group.id": "near",
            "client.rack": "rack-2",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        assert consume(consumer, COUNT) == list(range(COUNT))
        after = read_bytes(several)
        assert after[2] - before[2] >= COUNT * VALUE_BYTES
        assert after[1] == before[1]
        several[2].kill()
        produce(several, COUNT)
        assert consume(consumer, COUNT) == list(range(COUNT, 2 * COUNT))
        several[2].start()
        wait_until(lambda: isr(several) == {1, 2, 3}, "the killed broker does not come back")
    finally:
        consumer.close()


def isr(several: Several) -> set[int]:
    (topic,) = several.metadata(1, TOPIC).topics
    return set(topic.partitions[0].isr_nodes)
