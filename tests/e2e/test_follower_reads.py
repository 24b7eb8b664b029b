"""Three brokers in a rack each: consumers that name their rack read from the replica there (KIP-392), remote records too,
and lose nothing when it dies, or its leader, or when retention removes what they have not read yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.e2e.tiered import HURRY, TIERED, alter, figure, storage
from tests.servers import kafka
from tests.servers.several import Several, wait_until
from tierlog.broker.fetch.preferred_replicas import RACK_AWARE
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

TOPIC = "near"
COUNT = 500
VALUE_BYTES = 1000


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    hurry = {name.replace(".", "_"): value for name, value in HURRY.items()}
    made = Several(tmp_path_factory.mktemp("racks"), replica_selector_class=RACK_AWARE, **hurry)
    for node_id, broker in made.brokers.items():
        broker.overrides = {**broker.overrides, "broker.rack": f"rack-{node_id}"}
    with made as running:
        create(running, TOPIC, [1, 2, 3])
        produce(running, 0)
        yield running


def create(several: Several, topic: str, brokers: list[int], **configs: str) -> None:
    """One partition, first led by the first of ``brokers``."""
    assignment = CreatableReplicaAssignment(partition_index=0, broker_ids=brokers)
    given = [
        CreatableTopicConfig(name=name.replace("_", "."), value=value) for name, value in configs.items()
    ]
    new = CreatableTopic(
        name=topic, num_partitions=-1, replication_factor=-1, assignments=[assignment], configs=given
    )
    with several.client(1) as client:
        answer = client.call(CreateTopicsRequest(topics=[new], timeout_ms=10_000), CreateTopicsResponse)
    assert answer.topics[0].error_code == ErrorCode.NONE, answer.topics[0].error_message
    several.await_topic(topic, 1)


def create_remote(several: Several, topic: str, brokers: list[int]) -> int:
    """A topic of ``COUNT`` records that are in the object store alone, but for the last. The offset from which on they are
    on some disk."""
    create(several, topic, brokers, **{name.replace(".", "_"): value for name, value in TIERED.items()})
    produce(several, 0, topic)

    def local_starts() -> list[int]:
        return [storage(broker, topic)[0]["local_log_start_offset"] for broker in several.brokers.values()]

    wait_until(lambda: min(local_starts()) > COUNT * 3 // 4, "the disks still hold the records")
    return min(local_starts())


def produce(several: Several, first: int, topic: str = TOPIC) -> None:
    producer = Producer({"bootstrap.servers": several[1].bootstrap, "acks": "all", "batch.size": 20_000})
    for number in range(first, first + COUNT):
        producer.produce(topic, b"%06d" % number + b"." * VALUE_BYTES, partition=0)
    assert producer.flush(20) == 0


def consumer_in(rack: str, several: Several, topic: str, **configs: str | int) -> Consumer:
    """Reads the topic from its start."""
    given = {name.replace("_", "."): value for name, value in configs.items()}
    consumer = Consumer(
        {
            "bootstrap.servers": several[1].bootstrap,
            "group.id": "near",
            "client.rack": rack,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **given,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    return consumer


def read_bytes(several: Several, topic: str = TOPIC, what: str = "bytesout") -> dict[int, float]:
    """What each broker has sent to consumers of the topic; ``remotefetchbytes``: from the object store."""
    name = f'kafka_server_brokertopicmetrics_{what}_total{{topic="{topic}"}}'
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
    consumer = consumer_in("rack-2", several, TOPIC)
    try:
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


# So that a consumer has not read all before anything happens.
SLOW = {"fetch_message_max_bytes": 20_000, "queued_max_messages_kbytes": 30}


def test_remote_records_come_from_the_rack_too(several: Several) -> None:
    local_start = create_remote(several, "far", [1, 2, 3])
    consumer = consumer_in("rack-2", several, "far")
    try:
        assert consume(consumer, COUNT) == list(range(COUNT))
    finally:
        consumer.close()
    remote = read_bytes(several, "far", "remotefetchbytes")
    assert remote[2] >= local_start * VALUE_BYTES
    assert remote[1] == remote[3] == 0
    sent = read_bytes(several, "far")
    assert (sent[1], sent[3]) == (0, 0)
    figure(f"{remote[2]:.0f} bytes of the object store by the rack's broker, {remote[1]:.0f} by the leader")


@pytest.mark.java
@pytest.mark.usefixtures("java")
def test_the_java_consumer_reads_remote_records_in_its_rack(several: Several) -> None:
    local_start = create_remote(several, "far-java", [1, 2, 3])
    out = kafka.tool(
        "consumer.ConsoleConsumer",
        *("--bootstrap-server", several[1].bootstrap, "--topic", "far-java", "--partition", "0"),
        *("--offset", "earliest", "--max-messages", str(COUNT), "--command-property", "client.rack=rack-3"),
    ).out
    assert [int(line[:6]) for line in out.splitlines() if line[:6].isdigit()] == list(range(COUNT))
    remote = read_bytes(several, "far-java", "remotefetchbytes")
    assert remote[3] >= local_start * VALUE_BYTES
    assert remote[1] == remote[2] == 0


def test_the_leader_dies_and_the_rack_goes_on_with_remote_records(several: Several) -> None:
    create_remote(several, "far-led", [1, 3, 2])
    consumer = consumer_in("rack-2", several, "far-led", bootstrap_servers=several[2].bootstrap, **SLOW)
    try:
        assert consume(consumer, COUNT // 5) == list(range(COUNT // 5))
        several[1].kill()
        assert consume(consumer, COUNT * 4 // 5) == list(range(COUNT // 5, COUNT))
        remote = read_bytes(several, "far-led", "remotefetchbytes")
        assert remote[2] > COUNT // 2 * VALUE_BYTES
        assert remote[3] < COUNT // 5 * VALUE_BYTES, "at most until it has heard of its new follower"
    finally:
        consumer.close()
        if several[1].process is None:
            several[1].start()
        wait_until(
            lambda: isr(several, "far-led") == isr(several) == {1, 2, 3}, "the leader does not come back"
        )


def test_retention_removes_what_a_consumer_in_the_rack_has_not_read(several: Several) -> None:
    create_remote(several, "far-kept", [1, 2, 3])
    consumer = consumer_in("rack-2", several, "far-kept", **SLOW)
    try:
        found = consume(consumer, COUNT // 5)
        alter(several[1], "far-kept", retention_bytes="200000")
        starts = lambda: [storage(b, "far-kept")[0]["log_start_offset"] for b in several.brokers.values()]  # noqa: E731
        wait_until(lambda: min(starts()) > COUNT // 2, "nothing is removed")
        while found[-1] < COUNT - 1:
            found += consume(consumer, 1)
        assert found == sorted(set(found)), "each once, in order"
        assert found[-(COUNT - max(starts())) :] == list(range(max(starts()), COUNT))
        assert len(found) < COUNT, "the rest was removed"
        assert read_bytes(several, "far-kept", "remotefetchbytes")[1] == 0
    finally:
        consumer.close()


def isr(several: Several, name: str = TOPIC) -> set[int]:
    (topic,) = several.metadata(1, name).topics
    return set(topic.partitions[0].isr_nodes)
