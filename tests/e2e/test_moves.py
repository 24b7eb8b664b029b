"""Three brokers: partitions move between them under load, and nothing that was acknowledged is lost, doubled or moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.e2e.test_replication import PARTITIONS, TOPIC, Load
from tests.patience import PATIENT_S
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
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from tierlog.wire.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from tierlog.wire.messages.metadata import MetadataResponsePartition

MOVED_S = 15.0
OFFSETS = "__consumer_offsets"


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    with Several(tmp_path, remote_log_storage_system_enable="false") as running:
        yield running


def create(several: Several, replicas: list[int]) -> None:
    assignments = [
        CreatableReplicaAssignment(partition_index=n, broker_ids=replicas) for n in range(PARTITIONS)
    ]
    topic = CreatableTopic(name=TOPIC, num_partitions=-1, replication_factor=-1, assignments=assignments)
    with several.client(1) as client:
        answer = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse)
    assert answer.topics[0].error_code == ErrorCode.NONE
    several.await_topic(TOPIC, PARTITIONS)


def move(several: Several, at: int, replicas: list[int] | None) -> set[int]:
    rows = [ReassignablePartition(partition_index=n, replicas=replicas) for n in range(PARTITIONS)]
    request = AlterPartitionReassignmentsRequest(
        topics=[ReassignableTopic(name=TOPIC, partitions=rows)], timeout_ms=10_000
    )
    with several.client(at) as client:
        answer = client.call(request, AlterPartitionReassignmentsResponse)
    assert answer.error_code == ErrorCode.NONE, answer
    return {row.error_code for topic in answer.responses for row in topic.partitions}


def moving(several: Several, at: int) -> int:
    with several.client(at) as client:
        answer = client.call(
            ListPartitionReassignmentsRequest(topics=None), ListPartitionReassignmentsResponse
        )
    return sum(len(topic.partitions) for topic in answer.topics)


def partitions(several: Several, at: int, topic: str = TOPIC) -> list[MetadataResponsePartition]:
    (found,) = several.metadata(at, topic).topics
    return sorted(found.partitions, key=lambda row: row.partition_index)


def consumed(several: Several) -> dict[int, list[tuple[int, bytes]]]:
    consumer = Consumer(
        {"bootstrap.servers": several[1].bootstrap, "group.id": "moves", "auto.offset.reset": "earliest"}
    )
    found: dict[int, list[tuple[int, bytes]]] = {n: [] for n in range(PARTITIONS)}
    try:
        ends = {
            n: consumer.get_watermark_offsets(TopicPartition(TOPIC, n), timeout=PATIENT_S)[1]
            for n in range(PARTITIONS)
        }
        consumer.assign([TopicPartition(TOPIC, n, 0) for n in range(PARTITIONS)])
        while any(len(found[n]) < ends[n] for n in range(PARTITIONS)):
            message = consumer.poll(10)
            assert message is not None and message.error() is None, message
            partition, offset, value = message.partition(), message.offset(), message.value()
            assert partition is not None and offset is not None and isinstance(value, bytes)
            found[partition].append((offset, value))
    finally:
        consumer.close()
    return found


def test_partitions_move_under_load(several: Several) -> None:
    create(several, [1, 2])
    everywhere = ",".join(broker.bootstrap for broker in several.brokers.values())
    with Load(everywhere) as load:
        wait_until(lambda: load.count > 200, "nothing is acknowledged", 10)
        for at, replicas in ((2, [3, 1]), (3, [2, 3]), (1, [1, 2, 3])):
            assert move(several, at, replicas) == {ErrorCode.NONE}
            wait_until(lambda at=at: moving(several, at) == 0, "the move does not end", MOVED_S)  # type: ignore[misc]
            for row in partitions(several, at):
                assert list(row.replica_nodes) == replicas
                assert set(row.isr_nodes) == set(replicas)
                assert row.leader_id in replicas
        with several.client(2) as client:
            answer = client.call(
                ElectLeadersRequest(election_type=0, topic_partitions=None, timeout_ms=10_000),
                ElectLeadersResponse,
            )
        assert answer.error_code == ErrorCode.NONE
        assert {row.leader_id for row in partitions(several, several.metadata(1).controller_id)} == {1}
        seen = load.count
        wait_until(lambda: load.count > seen + 200, "it does not go on", 10)
    assert load.errors == []
    found = consumed(several)
    for n in range(PARTITIONS):
        assert [value for _, value in found[n]] == sorted(value for _, value in load.acknowledged[n]), (
            f"partition {n}"
        )


def test_a_cancelled_move_leaves_what_was(several: Several) -> None:
    create(several, [1, 2])
    assert move(several, 1, None) == {ErrorCode.NO_REASSIGNMENT_IN_PROGRESS}
    several[3].kill()
    assert move(several, 2, [3, 2]) == {ErrorCode.NONE}
    wait_until(lambda: moving(several, 1) == PARTITIONS, "no move is under way", 5)
    assert move(several, 2, None) == {ErrorCode.NONE}
    wait_until(lambda: moving(several, 2) == 0, "the moves are still under way", 5)
    assert {tuple(row.replica_nodes) for row in partitions(several, 2)} <= {(1, 2), (2, 1)}


def test_the_offsets_topic_grows_as_brokers_join(tmp_path: Path) -> None:
    several = Several(
        tmp_path,
        remote_log_storage_system_enable="false",
        offsets_topic_num_partitions="3",
        offsets_topic_replication_factor="3",
    )
    try:
        several[1].start()
        with several.client(1) as client:
            request = FindCoordinatorRequest(coordinator_keys=["g"])
            wait_until(
                lambda: not client.call(request, FindCoordinatorResponse).coordinators[0].error_code,
                "no coordinator",
                10,
            )
        assert [list(row.replica_nodes) for row in partitions(several, 1, OFFSETS)] == [[1]] * 3
        several[2].start()
        several[3].start()
        wait_until(
            lambda: all(len(row.isr_nodes) == 3 for row in partitions(several, 1, OFFSETS)),
            "the offsets topic has not three replicas",
            MOVED_S,
        )
        assert {row.replica_nodes[0] for row in partitions(several, 1, OFFSETS)} == {1, 2, 3}
    finally:
        several.kill()
