"""A broker is replaced: what its partitions hold in the tier is not copied from its peers, only what is newer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Producer

from tests.e2e.test_moves import MOVED_S, moving
from tests.e2e.tiered import HURRY, figure, read, storage, until
from tests.servers.several import Several, wait_until
from tierlog.errors import ErrorCode
from tierlog.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from tierlog.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

TOPIC = "replaced"
SEGMENT_BYTES = 2_000_000
LOCAL_BYTES = 2_000_000
VALUE_BYTES = 20_000
RECORDS = 3_050  # 61 MB
# The bar: with 10 GB in the tier and 200 MB locally at most 15 % of the bytes come from the peers.
SHARE_MAX = 0.15
COPIED = "kafka_server_brokertopicmetrics_replicationbytesin_total"


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    hurry = {name.replace(".", "_"): value for name, value in HURRY.items()}
    with Several(tmp_path, **hurry) as running:
        yield running


def create(several: Several, local_retention_bytes: int) -> None:
    configs = {
        "remote.storage.enable": "true",
        "internal.segment.bytes": str(SEGMENT_BYTES),
        "local.retention.bytes": str(local_retention_bytes),
        "retention.ms": "-1",
        "file.delete.delay.ms": "0",
    }
    topic = CreatableTopic(
        name=TOPIC,
        num_partitions=-1,
        replication_factor=-1,
        assignments=[CreatableReplicaAssignment(partition_index=0, broker_ids=[1, 2])],
        configs=[CreatableTopicConfig(name=name, value=value) for name, value in configs.items()],
    )
    with several.client(1) as client:
        answer = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse)
    assert answer.topics[0].error_code == ErrorCode.NONE, answer.topics[0]
    several.await_topic(TOPIC, 1)


def write(several: Several, count: int) -> None:
    producer = Producer({"bootstrap.servers": several[1].bootstrap, "acks": "all", "linger.ms": 5})
    value = Random(1).randbytes(VALUE_BYTES)
    for number in range(count):
        while True:
            try:
                producer.produce(TOPIC, b"%09d" % number + value[9:], b"%d" % number, partition=0)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def await_copied(several: Several, leader: int) -> int:
    """Until all that is sealed is in the tier; the bytes there."""

    def is_copied() -> bool:
        (row,) = storage(several[leader], TOPIC)
        return bool(row["tiered_end_offset"] == row["active_base_offset"])

    until(is_copied)
    return int(storage(several[leader], TOPIC)[0]["remote"]["bytes"])


def in_sync(several: Several, at: int) -> set[int]:
    (topic,) = several.metadata(at, TOPIC).topics
    return set(topic.partitions[0].isr_nodes)


def copied_bytes(several: Several, node_id: int) -> float:
    return several[node_id].metrics().get(f'{COPIED}{{topic="{TOPIC}"}}', 0.0)


def move_to(several: Several, replicas: list[int]) -> None:
    rows = [ReassignablePartition(partition_index=0, replicas=replicas)]
    request = AlterPartitionReassignmentsRequest(
        topics=[ReassignableTopic(name=TOPIC, partitions=rows)], timeout_ms=10_000
    )
    with several.client(1) as client:
        answer = client.call(request, AlterPartitionReassignmentsResponse)
    assert answer.responses[0].partitions[0].error_code == ErrorCode.NONE
    wait_until(lambda: moving(several, 1) == 0, "the move does not end", MOVED_S)


def test_a_replaced_broker_copies_only_what_is_not_in_the_tier(several: Several) -> None:
    create(several, LOCAL_BYTES)
    write(several, RECORDS)
    remote_bytes = await_copied(several, 1)
    total_bytes = RECORDS * VALUE_BYTES
    assert remote_bytes > 0.9 * total_bytes

    several[2].kill()
    shutil.rmtree(several[2].log_dir)
    several[2].start()
    wait_until(lambda: in_sync(several, 1) == {1, 2}, "the replaced broker is not in sync", MOVED_S)
    again = copied_bytes(several, 2)

    move_to(several, [1, 3])
    elsewhere = copied_bytes(several, 3)
    figure(
        f"{total_bytes:,} bytes; copied by the same broker, emptied: {again:,.0f}; by another: {elsewhere:,.0f}"
    )
    assert 0 < again < SHARE_MAX * total_bytes
    assert 0 < elsewhere < SHARE_MAX * total_bytes

    several[1].stop()
    wait_until(lambda: several.leaders(3, TOPIC) == {0: 3}, "broker 3 does not lead", MOVED_S)
    rows = read(several[3], TOPIC, RECORDS, {0: 0})
    assert [row.offset for row in rows] == list(range(RECORDS))
    assert all(row.value.startswith(b"%09d" % row.offset) for row in rows)


def test_a_new_replica_starts_at_the_tiered_end_though_its_leader_has_more(several: Several) -> None:
    create(several, -1)
    write(several, 500)
    await_copied(several, 1)
    (leader,) = storage(several[1], TOPIC)
    assert leader["local_log_start_offset"] == 0
    move_to(several, [1, 3])
    (row,) = storage(several[3], TOPIC)
    assert row["local_log_start_offset"] == leader["tiered_end_offset"]
    assert row["log_start_offset"] == 0
    assert copied_bytes(several, 3) < 2 * SEGMENT_BYTES
    several[1].stop()
    wait_until(lambda: several.leaders(3, TOPIC) == {0: 3}, "broker 3 does not lead", MOVED_S)
    assert [r.offset for r in read(several[3], TOPIC, 500, {0: 0})] == list(range(500))
