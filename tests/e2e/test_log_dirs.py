"""Several log directories of one broker: new partitions are spread, and what fails costs its own partitions only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests.e2e.test_moves import partitions
from tests.servers.several import Several, wait_until
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from tierlog.wire.messages.describe_log_dirs import (
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
)

TOPIC = "spread"
PARTITIONS = 4
SOON_S = 15.0


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    made = Several(tmp_path, count=2, remote_log_storage_system_enable="false")
    for broker in made.brokers.values():
        broker.overrides["log.dirs"] = f"{broker.directory}/a,{broker.directory}/b"
    with made:
        create(made)
        yield made


def create(several: Several) -> None:
    topic = CreatableTopic(
        name=TOPIC,
        num_partitions=-1,
        replication_factor=-1,
        assignments=[
            CreatableReplicaAssignment(partition_index=n, broker_ids=[1, 2]) for n in range(PARTITIONS)
        ],
        configs=[CreatableTopicConfig(name="internal.segment.bytes", value="20000")],
    )
    with several.client(1) as client:
        answer = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse)
    assert answer.topics[0].error_code == ErrorCode.NONE
    several.await_topic(TOPIC, PARTITIONS)


def write(several: Several, count: int = 400) -> None:
    """To every partition; all of it is acknowledged by whoever leads at last."""
    errors: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            errors.append(error)

    bootstrap = ",".join(broker.bootstrap for broker in several.brokers.values())
    producer = Producer(
        {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "batch.size": 4000}
    )
    for number in range(count):
        producer.produce(TOPIC, bytes(1000), partition=number % PARTITIONS, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(30) == 0
    assert errors == []


def log_dirs(several: Several, node_id: int) -> dict[str, DescribeLogDirsResult]:
    with several.client(node_id) as client:
        answer = client.call(DescribeLogDirsRequest(topics=None), DescribeLogDirsResponse)
    return {Path(result.log_dir).name: result for result in answer.results}


def indexes(result: DescribeLogDirsResult) -> set[int]:
    return {row.partition_index for topic in result.topics for row in topic.partitions if topic.name == TOPIC}


def leaders(several: Several) -> dict[int, int]:
    return {row.partition_index: row.leader_id for row in partitions(several, 2, TOPIC)}


def in_sync(several: Several) -> dict[int, set[int]]:
    return {row.partition_index: set(row.isr_nodes) for row in partitions(several, 2, TOPIC)}


def test_a_failed_directory_costs_its_partitions_and_no_others(several: Several) -> None:
    dirs = log_dirs(several, 1)
    lost, kept = indexes(dirs["a"]), indexes(dirs["b"])
    assert (len(lost), len(kept)) == (2, 2), "the directory with the fewest gets the next one"
    assert dirs["a"].total_bytes > dirs["a"].usable_bytes > 0
    write(several)
    assert set(leaders(several).values()) == {1}

    # The next segment has nowhere to go: an I/O error that is not for want of room.
    shutil.rmtree(several[1].directory / "a" / f"{TOPIC}-{min(lost)}")
    write(several)
    wait_until(
        lambda: leaders(several) == {**dict.fromkeys(lost, 2), **dict.fromkeys(kept, 1)},
        "leadership does not move",
        SOON_S,
    )
    wait_until(
        lambda: in_sync(several) == {**{n: {2} for n in lost}, **{n: {1, 2} for n in kept}},
        "the failed replicas are still in sync",
        SOON_S,
    )
    told = log_dirs(several, 1)
    assert (told["a"].error_code, indexes(told["a"])) == (ErrorCode.KAFKA_STORAGE_ERROR, set())
    assert (told["b"].error_code, indexes(told["b"])) == (ErrorCode.NONE, kept)
    metrics = several[1].metrics()
    assert metrics["kafka_log_logmanager_offlinelogdirectorycount"] == 1
    assert metrics["kafka_server_replicamanager_offlinereplicacount"] == 2
    assert several[1].is_ready()

    # The directory is well again: one restart, and everything is as it was.
    several[1].stop()
    several[1].start()
    wait_until(
        lambda: set(map(frozenset, in_sync(several).values())) == {frozenset({1, 2})}, "not in sync", SOON_S
    )
    assert several[1].metrics()["kafka_log_logmanager_offlinelogdirectorycount"] == 0
    write(several)


def test_a_log_that_cannot_be_opened_costs_its_partition_only(several: Several) -> None:
    write(several)
    several[1].stop()
    (found,) = several[1].directory.glob(f"*/{TOPIC}-0/partition.metadata")
    well = found.read_text()
    found.write_text("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAZZ\n")
    several[1].start()
    wait_until(
        lambda: in_sync(several) == {0: {2}, 1: {1, 2}, 2: {1, 2}, 3: {1, 2}},
        "others are not in sync",
        SOON_S,
    )
    assert leaders(several)[0] == 2
    assert several[1].metrics()["tierlog_unopened_partitions"] == 1
    write(several)

    several[1].stop()
    found.write_text(well)
    several[1].start()
    wait_until(
        lambda: in_sync(several) == {n: {1, 2} for n in range(PARTITIONS)}, "it is not in sync", SOON_S
    )
