"""Several log directories of one broker: new partitions are spread, and what fails costs its own partitions only."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from tests.e2e.test_cli import tierlog
from tests.e2e.test_moves import partitions
from tests.patience import PATIENT_S
from tests.servers.several import Several, wait_until
from tierlog.errors import ErrorCode
from tierlog.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopic,
)
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


def arrived(result: DescribeLogDirsResult) -> set[int]:
    """Without those that are on their way."""
    return {
        row.partition_index for topic in result.topics for row in topic.partitions if not row.is_future_key
    }


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
    )
    wait_until(
        lambda: in_sync(several) == {**{n: {2} for n in lost}, **{n: {1, 2} for n in kept}},
        "the failed replicas are still in sync",
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
    wait_until(lambda: set(map(frozenset, in_sync(several).values())) == {frozenset({1, 2})}, "not in sync")
    assert several[1].metrics()["kafka_log_logmanager_offlinelogdirectorycount"] == 0

    # It fails once more: what has moved away meanwhile is none of its partitions any more.
    assert move(several, 1, several[1].directory / "b", {max(lost)}) == {ErrorCode.NONE}
    wait_until(lambda: indexes(log_dirs(several, 1)["a"]) == {min(lost)}, "it does not move")
    shutil.rmtree(several[1].directory / "a" / f"{TOPIC}-{min(lost)}")
    write(several)
    wait_until(
        lambda: in_sync(several) == {n: {2} if n == min(lost) else {1, 2} for n in range(PARTITIONS)},
        "not just that one is out of sync",
    )


def places(several: Several, node_id: int) -> tuple[set[int], set[int]]:
    """The partitions in directory a, and in b."""
    found = log_dirs(several, node_id)
    return indexes(found["a"]), indexes(found["b"])


def move(several: Several, node_id: int, path: Path, wanted: set[int]) -> set[int]:
    topics = [AlterReplicaLogDirTopic(name=TOPIC, partitions=sorted(wanted))]
    request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=str(path), topics=topics)])
    # While a log changes places its replica is not available: a client asks again.
    deadline_s = time.monotonic() + PATIENT_S
    while True:
        with several.client(node_id) as client:
            answer = client.call(request, AlterReplicaLogDirsResponse)
        codes = {row.error_code for result in answer.results for row in result.partitions}
        if ErrorCode.REPLICA_NOT_AVAILABLE not in codes or time.monotonic() > deadline_s:
            return codes
        time.sleep(0.02)


def end_offsets(several: Several) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": several[2].bootstrap, "group.id": "reader"})
    ends = {
        n: consumer.get_watermark_offsets(TopicPartition(TOPIC, n), timeout=PATIENT_S)[1]
        for n in range(PARTITIONS)
    }
    consumer.close()
    return ends


def test_replicas_move_between_directories_under_load(several: Several) -> None:
    write(several)
    here = indexes(log_dirs(several, 1)["a"])
    for node_id in (1, 2):  # leaders, then followers
        target = several[node_id].directory / "b"
        mine = indexes(log_dirs(several, node_id)["a"])
        assert move(several, node_id, target, mine) == {ErrorCode.NONE}
        write(several)
        # The last one is in neither for a moment, while its log changes places.
        wait_until(
            lambda i=node_id: places(several, i) == (set(), set(range(PARTITIONS))),  # type: ignore[misc]
            "they do not move",
        )
    write(several)
    wait_until(lambda: in_sync(several) == {n: {1, 2} for n in range(PARTITIONS)}, "not in sync")
    assert set(end_offsets(several).values()) == {4 * 400 // PARTITIONS}, "every record once"
    assert move(several, 1, several[1].directory / "c", here) == {ErrorCode.LOG_DIR_NOT_FOUND}

    plan = several[1].directory / "plan.json"
    named = [
        {
            "topic": TOPIC,
            "partition": 0,
            "replicas": [1, 2],
            "log_dirs": [str(several[1].directory / "a"), "any"],
        }
    ]
    plan.write_text(json.dumps({"version": 1, "partitions": named}))
    asked = tierlog("reassign", "execute", str(plan), "-o", "json", bootstrap=several[1].bootstrap)
    assert (asked.code, asked.json["failures"]) == (0, {}), asked.err
    wait_until(lambda: indexes(log_dirs(several, 1)["a"]) == {0}, "the plan's directory is not taken")
    assert move(several, 1, several[1].directory / "b", {0}) == {ErrorCode.NONE}
    # Between the directories it is in neither.
    wait_until(lambda: 0 in indexes(log_dirs(several, 1)["b"]), "it does not come back")

    for node_id in (1, 2):
        several[node_id].kill()
        several[node_id].start()
    wait_until(lambda: in_sync(several) == {n: {1, 2} for n in range(PARTITIONS)}, "not in sync")
    assert indexes(log_dirs(several, 1)["b"]) == set(range(PARTITIONS))
    assert set(end_offsets(several).values()) == {4 * 400 // PARTITIONS}

    def are_alike() -> bool:
        logs = [
            [
                b"".join(
                    p.read_bytes()
                    for p in sorted((several[i].directory / "b" / f"{TOPIC}-{n}").glob("*.log"))
                )
            ]
            for i in (1, 2)
            for n in range(PARTITIONS)
        ]
        return logs[:PARTITIONS] == logs[PARTITIONS:]

    wait_until(are_alike, "the replicas differ")


def test_moves_between_directories_outlive_the_process(several: Several) -> None:
    write(several, 1200)
    for node_id, end in ((1, several[1].kill), (2, several[2].stop)):
        here = several[node_id].directory
        assert move(several, node_id, here / "b", indexes(log_dirs(several, node_id)["a"])) == {
            ErrorCode.NONE
        }
        end()
        assert [path for path in (here / "b").iterdir() if path.name.endswith("-future")], (
            "nothing is left to do"
        )
        several[node_id].start()
        wait_until(
            lambda i=node_id: arrived(log_dirs(several, i)["b"]) == set(range(PARTITIONS)),  # type: ignore[misc]
            "they are not moved",
        )
        assert not [path for path in here.glob(f"?/{TOPIC}-*") if path.name.endswith(("-future", "-stray"))]
        wait_until(lambda: in_sync(several) == {n: {1, 2} for n in range(PARTITIONS)}, "not in sync")
    write(several)
    assert set(end_offsets(several).values()) == {1600 // PARTITIONS}, "every record once"


def test_a_log_that_cannot_be_opened_costs_its_partition_only(several: Several) -> None:
    write(several)
    several[1].stop()
    (found,) = several[1].directory.glob(f"*/{TOPIC}-0/partition.metadata")
    well = found.read_text()
    found.write_text("version: 0\ntopic_id: garbled\n")
    several[1].start()
    wait_until(
        lambda: in_sync(several) == {0: {2}, 1: {1, 2}, 2: {1, 2}, 3: {1, 2}},
        "others are not in sync",
    )
    assert leaders(several)[0] == 2
    assert several[1].metrics()["tierlog_unopened_partitions"] == 1
    write(several)

    several[1].stop()
    found.write_text(well)
    several[1].start()
    wait_until(lambda: in_sync(several) == {n: {1, 2} for n in range(PARTITIONS)}, "it is not in sync")


def test_a_directory_that_cannot_be_used_at_the_start_costs_its_partitions_only(several: Several) -> None:
    write(several)
    dirs = log_dirs(several, 1)
    lost, kept = indexes(dirs["a"]), indexes(dirs["b"])
    several[1].kill()
    path, away = several[1].directory / "a", several[1].directory / "away"
    path.rename(away)
    path.write_text("a file in its place")
    several[1].start()

    def only_kept_ones_are_in_sync() -> bool:
        return in_sync(several) == {**{n: {2} for n in lost}, **{n: {1, 2} for n in kept}}

    wait_until(only_kept_ones_are_in_sync, "not just those of the other directory are in sync")
    assert {leaders(several)[n] for n in lost} == {2}
    rows = partitions(several, 2, TOPIC)
    assert {row.partition_index: row.offline_replicas for row in rows} == {
        n: [1] if n in lost else [] for n in range(PARTITIONS)
    }
    told = log_dirs(several, 1)
    assert (told["a"].error_code, indexes(told["a"])) == (ErrorCode.KAFKA_STORAGE_ERROR, set())
    assert (told["b"].error_code, indexes(told["b"])) == (ErrorCode.NONE, kept), "nothing began anew in there"
    metrics = several[1].metrics()
    assert metrics["kafka_log_logmanager_offlinelogdirectorycount"] == 1
    assert metrics["tierlog_unopened_partitions"] == 2
    assert metrics["kafka_server_replicamanager_offlinereplicacount"] == 2
    assert "log directory failed" in several[1].log.read_text()
    write(several)

    # Its uuid can be read this time, and some of the rest cannot; again it makes no difference.
    several[1].stop()
    path.unlink()
    away.rename(path)
    checkpoint = path / "replication-offset-checkpoint"
    checkpoint.unlink(missing_ok=True)
    checkpoint.mkdir()
    several[1].start()
    wait_until(only_kept_ones_are_in_sync, "not just those of the other directory are in sync")

    several[1].stop()
    checkpoint.rmdir()
    several[1].start()
    wait_until(lambda: in_sync(several) == {n: {1, 2} for n in range(PARTITIONS)}, "not in sync")
    assert several[1].metrics()["kafka_server_replicamanager_offlinereplicacount"] == 0
    assert indexes(log_dirs(several, 1)["a"]) == lost
    assert set(end_offsets(several).values()) == {2 * 400 // PARTITIONS}, "every record once"

    several[1].stop()
    for name in "ab":
        (several[1].directory / name).rename(several[1].directory / f"{name}-away")
        (several[1].directory / name).touch()
    with pytest.raises(
        RuntimeError, match=r"log.dirs: cannot use .*a \(File exists\), .*b \(File exists\); mend"
    ):
        several[1].start()
