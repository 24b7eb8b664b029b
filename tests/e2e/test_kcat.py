"""kcat: the plumber's client, on an old librdkafka with the lowest versions that are still asked for."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.patience import PATIENT_S
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess

pytestmark = pytest.mark.kcat

Cluster = BrokerProcess | KafkaProcess


def run(kcat: str, cluster: Cluster, *args: str, stdin: str = "") -> str:
    command = [kcat, "-q", "-b", cluster.bootstrap, *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENT_S)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_produces_and_consumes_with_every_codec(kcat: str, cluster: Cluster, codec: str) -> None:
    topic = f"kcat-{codec}"
    lines = [f"k{n % 3}:value {n} {'x' * 50}" for n in range(500)]
    run(kcat, cluster, "-P", "-t", topic, "-K:", "-z", codec, "-X", "acks=all", stdin="\n".join(lines))
    out = run(kcat, cluster, "-C", "-t", topic, "-o", "beginning", "-e", "-f", "%k:%s\n")
    assert sorted(out.splitlines()) == sorted(lines)


def test_headers_null_values_and_timestamps(kcat: str, cluster: Cluster) -> None:
    topic = "kcat-shapes"
    run(kcat, cluster, "-P", "-t", topic, "-p", "0", "-K:", "-Z", "-H", "a=1", "-H", "b", stdin="key:\n")
    row = json.loads(run(kcat, cluster, "-C", "-t", topic, "-o", "beginning", "-e", "-J"))
    assert (row["key"], row["payload"], row["offset"], row["tstype"]) == ("key", None, 0, "create")
    assert row["headers"] == ["a", "1", "b", None]
    assert row["ts"] > 1_700_000_000_000


def test_offsets_by_position_and_by_time(kcat: str, cluster: Cluster) -> None:
    topic = "kcat-offsets"
    run(kcat, cluster, "-P", "-t", topic, "-p", "0", stdin="\n".join(str(n) for n in range(20)))
    read = ("-C", "-t", topic, "-p", "0", "-e", "-f", "%s ")
    assert run(kcat, cluster, *read, "-o", "15").split() == ["15", "16", "17", "18", "19"]
    assert run(kcat, cluster, *read, "-o", "-3").split() == ["17", "18", "19"]
    assert run(kcat, cluster, *read, "-o", "s@1700000000000", "-c", "1").split() == ["0"]
    assert run(kcat, cluster, "-Q", "-t", f"{topic}:0:-1").strip() == f"{topic} [0] offset 20"


def test_metadata_lists_brokers_and_partitions(kcat: str, cluster: Cluster) -> None:
    run(kcat, cluster, "-P", "-t", "kcat-listed", "-p", "0", stdin="x\n")
    listing = json.loads(run(kcat, cluster, "-L", "-J"))
    assert [broker["name"] for broker in listing["brokers"]] == [cluster.bootstrap]
    topics = {topic["topic"]: topic["partitions"] for topic in listing["topics"]}
    assert topics["kcat-listed"][0]["isrs"] == [{"id": 1}]


def test_balanced_consumer_resumes_where_the_group_stood(kcat: str, cluster: Cluster) -> None:
    topic = "kcat-group"
    group = ("-G", "kcat-readers", "-X", "auto.offset.reset=earliest", "-e", "-f", "%s ")
    run(kcat, cluster, "-P", "-t", topic, stdin="a\nb\nc\n")
    assert sorted(run(kcat, cluster, *group, topic).split()) == ["a", "b", "c"]
    run(kcat, cluster, "-P", "-t", topic, stdin="d\n")
    assert run(kcat, cluster, *group, topic).split() == ["d"]


def test_idempotent_producer(kcat: str, cluster: Cluster) -> None:
    topic = "kcat-idempotent"
    text = "\n".join(f"{n}" for n in range(300))
    run(kcat, cluster, "-P", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", stdin=text)
    out = run(kcat, cluster, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-f", "%s\n")
    assert out.splitlines() == text.splitlines()
