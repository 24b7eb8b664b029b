"""aiokafka: the asyncio client, with the lowest non-flexible versions of every API."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from tests.patience import PATIENT_S
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess

Cluster = BrokerProcess | KafkaProcess
TIMEOUT_S = PATIENT_S


async def create(cluster: Cluster, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()


def reader(cluster: Cluster, group: str | None, *topics: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=cluster.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_the_usual_program(cluster: Cluster, codec: str | None) -> None:
    topic = f"aiokafka-{codec}"
    await create(cluster, topic, 2)
    async with AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap, acks="all", enable_idempotence=True, compression_type=codec
    ) as producer:
        sent = [
            await producer.send(topic, f"value {n}".encode(), key=str(n % 5).encode(), timestamp_ms=n + 1)
            for n in range(1000)
        ]
        acknowledged = {(done.partition, done.offset) for done in await asyncio.gather(*sent)}
    async with reader(cluster, f"aiokafka-group-{codec}", topic) as consumer:
        rows = [await asyncio.wait_for(consumer.getone(), TIMEOUT_S) for _ in range(1000)]
        await consumer.commit()
        partitions = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        assert sum([await consumer.committed(each) for each in partitions]) == 1000
    assert {(row.partition, row.offset) for row in rows} == acknowledged
    assert sorted(row.timestamp for row in rows) == list(range(1, 1001))


async def test_seek_and_offsets(cluster: Cluster) -> None:
    topic = "aiokafka-offsets"
    await create(cluster, topic, 1)
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all") as producer:
        for n in range(50):
            await producer.send_and_wait(topic, str(n).encode(), timestamp_ms=1000 + n)
    async with reader(cluster, None) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        assert await consumer.beginning_offsets([partition]) == {partition: 0}
        assert await consumer.end_offsets([partition]) == {partition: 50}
        found = await consumer.offsets_for_times({partition: 1030})
        assert found[partition].offset == 30
        consumer.seek(partition, 45)
        rows = [(await asyncio.wait_for(consumer.getone(), TIMEOUT_S)).value for _ in range(5)]
        assert rows == [b"45", b"46", b"47", b"48", b"49"]


async def test_a_member_that_leaves_hands_its_partitions_over(cluster: Cluster) -> None:
    topic, group = "aiokafka-rebalance", "aiokafka-shared"
    await create(cluster, topic, 2)
    first, second = reader(cluster, group, topic), reader(cluster, group, topic)
    await asyncio.gather(first.start(), second.start())
    async with asyncio.timeout(TIMEOUT_S):
        while not (len(first.assignment()) == len(second.assignment()) == 1):
            await asyncio.gather(first.getmany(timeout_ms=50), second.getmany(timeout_ms=50))
        await second.stop()
        while len(first.assignment()) != 2:
            await first.getmany(timeout_ms=50)
    await first.stop()


async def test_admin(cluster: Cluster) -> None:
    topic = "aiokafka-admin"
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"retention.ms": "-1"})])
        assert topic in await admin.list_topics()
        await admin.create_partitions({topic: NewPartitions(3)})
        (described,) = await admin.describe_topics([topic])
        assert len(described["partitions"]) == 3
        assert (await admin.describe_cluster())["cluster_id"]
        await admin.delete_topics([topic])
        assert topic not in await admin.list_topics()
    finally:
        await admin.close()
