"""Moving partitions as an operator does: a plan in Kafka's file format, a throttle that holds, progress, and a way back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.test_cli import Answer, tierlog
from tests.patience import PATIENT_S, slowness
from tests.servers import kafka
from tests.servers.several import Several, wait_until
from tierlog.admin.client import Client
from tierlog.admin.cluster import one_config
from tierlog.admin.throttles import FOLLOWERS, LEADERS, RATES
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

TOPIC = "moved"
PARTITIONS = 2
TOTAL_BYTES = 12_000_000
THROTTLE = 2_000_000
FETCH_BYTES = 1_048_576
COPIED = f'kafka_server_brokertopicmetrics_replicationbytesin_total{{topic="{TOPIC}"}}'


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    with Several(tmp_path, remote_log_storage_system_enable="false") as running:
        create(running)
        write(running)
        yield running


def create(several: Several, brokers: Sequence[int] = (1, 2)) -> None:
    assignments = [
        CreatableReplicaAssignment(partition_index=n, broker_ids=list(brokers)) for n in range(PARTITIONS)
    ]
    topic = CreatableTopic(name=TOPIC, num_partitions=-1, replication_factor=-1, assignments=assignments)
    with several.client(1) as client:
        answer = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse)
    assert answer.topics[0].error_code == ErrorCode.NONE
    several.await_topic(TOPIC, PARTITIONS)


def write(several: Several) -> None:
    producer = Producer({"bootstrap.servers": several[1].bootstrap, "acks": "all", "linger.ms": 5})
    value = Random(1).randbytes(10_000)
    for number in range(TOTAL_BYTES // len(value)):
        producer.produce(TOPIC, value, partition=number % PARTITIONS)
        producer.poll(0)
    assert producer.flush(30) == 0


def replicas(several: Several) -> set[tuple[int, ...]]:
    (topic,) = several.metadata(1, TOPIC).topics
    return {tuple(row.replica_nodes) for row in topic.partitions}


def configs(several: Several) -> list[Any]:
    """All that throttles, as it is set."""
    with Client(several[1].bootstrap) as client:
        topics = [one_config(client, [(2, TOPIC)], name).get(TOPIC) for name in (LEADERS, FOLLOWERS)]
        brokers = [one_config(client.node(b), [(4, str(b))], RATES[0]).get(str(b)) for b in several.brokers]
    return [*topics, *brokers]


def reassign(several: Several, *arguments: str) -> Answer:
    return tierlog("reassign", *arguments, "-o", "json", bootstrap=several[2].bootstrap)


def test_a_throttled_move_with_progress(several: Several, tmp_path: Path) -> None:
    throttle = int(THROTTLE / slowness())
    file = str(tmp_path / "plan.json")
    proposed = reassign(several, "plan", "-t", TOPIC, "--brokers", "2,3", "--out", file)
    assert proposed.code == 0, proposed.err
    assert [sorted(row["replicas"]) for row in proposed.json["plan"]["partitions"]] == [[2, 3]] * PARTITIONS

    before = several[3].metrics().get(COPIED, 0.0)
    began_s = time.monotonic()
    begun = reassign(several, "execute", file, "--throttle", str(throttle))
    assert (begun.code, begun.json["begun"], begun.json["failures"]) == (0, PARTITIONS, {}), begun.err
    assert configs(several)[2:] == [str(throttle)] * 3

    seen = reassign(several, "status", file)
    while seen.json["bytes_per_second"] is None and seen.json["moving"]:  # nothing came between its looks
        seen = reassign(several, "status", file)
    assert seen.json["moving"] == PARTITIONS
    assert 0 < seen.json["bytes_left"] < TOTAL_BYTES
    # A second's worth at once, and a fetch of each leader that is under way: the two looks are a second or more apart.
    assert seen.json["bytes_per_second"] < 2 * throttle + 2 * FETCH_BYTES
    assert seen.json["eta_s"] > 0
    copied, passed_s = several[3].metrics()[COPIED] - before, time.monotonic() - began_s
    assert copied < throttle * (passed_s + 1) + 2 * FETCH_BYTES

    wait_until(lambda: not tool_lists(several), "the move does not end", TOTAL_BYTES / throttle + PATIENT_S)
    assert time.monotonic() - began_s > TOTAL_BYTES / throttle - 2.5
    done = reassign(several, "status", file)
    assert (done.code, done.json["done"], done.json["moving"]) == (0, PARTITIONS, 0)
    assert configs(several) == ["", "", None, None, None]
    assert {tuple(sorted(found)) for found in replicas(several)} == {(2, 3)}

    back = tmp_path / "back.json"
    back.write_text(json.dumps(begun.json["rollback"]))
    returned = reassign(several, "execute", str(back), "--wait", "--wait-timeout", str(int(PATIENT_S)))
    assert (returned.code, returned.json["status"]["done"]) == (0, PARTITIONS), returned.err
    assert replicas(several) == {(1, 2)}


def tool_lists(several: Several) -> int:
    return int(reassign(several, "status").json["moving"])


def test_a_cancelled_move_leaves_what_was_and_no_throttle(several: Several, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    rows = [{"topic": TOPIC, "partition": n, "replicas": [3, 1]} for n in range(PARTITIONS)]
    plan.write_text(json.dumps({"version": 1, "partitions": rows}))
    assert reassign(several, "execute", str(plan), "--throttle", "100000").code == 0
    assert tool_lists(several) == PARTITIONS
    cancelled = reassign(several, "cancel", str(plan))
    assert (cancelled.code, len(cancelled.json["cancelled"])) == (0, PARTITIONS), cancelled.err
    wait_until(lambda: replicas(several) <= {(1, 2), (2, 1)}, "the old replicas are not back", 10)
    assert configs(several) == ["", "", None, None, None]
    assert reassign(several, "status", str(plan)).code == 1


def test_mistakes_are_said(several: Several, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"partitions":[{"topic":"moved","partition":7,"replicas":[1]}]}')
    unknown = reassign(several, "execute", str(plan))
    assert (unknown.code, unknown.out) == (1, "")
    assert "there is no partition moved-7" in unknown.err
    plan.write_text('{"partitions":[{"topic":"moved","partition":0,"replicas":[1,9]}]}')
    nobody = reassign(several, "execute", str(plan))
    assert nobody.code == 1
    assert "no such broker" in nobody.json["failures"]["moved-0"]
    assert "broker 9 is not active" in reassign(several, "plan", "--brokers", "1,9").err


@pytest.mark.java
@pytest.mark.usefixtures("java")
def test_kafkas_own_tool_moves_with_a_throttle(several: Several, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    rows = [{"topic": TOPIC, "partition": n, "replicas": [2, 3]} for n in range(PARTITIONS)]
    plan.write_text(json.dumps({"version": 1, "partitions": rows}))
    tool = "reassign.ReassignPartitionsCommand"
    named = ("--bootstrap-server", several[1].bootstrap, "--reassignment-json-file", str(plan))
    started = kafka.tool(tool, *named, "--execute", "--throttle", "4000000").out
    assert "Successfully started" in started, started
    assert "4000000" in configs(several)
    wait_until(lambda: tool_lists(several) == 0, "the move does not end", PATIENT_S)
    verified = kafka.tool(tool, *named, "--verify").out
    assert verified.count("is completed.") == PARTITIONS, verified
    assert "Clearing broker-level throttles" in verified
    assert configs(several) == ["", "", None, None, None]
    assert {tuple(sorted(found)) for found in replicas(several)} == {(2, 3)}
