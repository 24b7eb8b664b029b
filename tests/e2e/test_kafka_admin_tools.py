"""Kafka's own command line tools for moving partitions, electing leaders, features and the quorum, on one broker.

The expected words are Apache Kafka's: ``TIERLOG_E2E_PEER=kafka`` runs the same tests against it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers import kafka
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("java")]


def create(cluster: BrokerProcess | KafkaProcess, name: str) -> None:
    address = ("--bootstrap-server", cluster.bootstrap)
    kafka.tool("TopicCommand", *address, "--create", "--topic", name, "--partitions", "2")


def test_reassign_partitions(cluster: BrokerProcess | KafkaProcess, tmp_path: Path) -> None:
    create(cluster, "tools-moved")
    address = ("--bootstrap-server", cluster.bootstrap)
    tool = "reassign.ReassignPartitionsCommand"
    topics = tmp_path / "topics.json"
    topics.write_text(json.dumps({"version": 1, "topics": [{"topic": "tools-moved"}]}))
    out = kafka.tool(
        tool, *address, "--generate", "--topics-to-move-json-file", str(topics), "--broker-list", "1"
    ).out
    proposed = out.split("Proposed partition reassignment configuration")[1].strip()
    assert {p["partition"] for p in json.loads(proposed)["partitions"]} == {0, 1}
    plan = tmp_path / "plan.json"
    plan.write_text(proposed)
    named = (*address, "--reassignment-json-file", str(plan))
    assert "Successfully started" in kafka.tool(tool, *named, "--execute").out
    verified = kafka.tool(tool, *named, "--verify").out
    assert verified.count("is completed.") == 2, verified
    assert "No partition reassignments found." in kafka.tool(tool, *address, "--list").out
    assert "None of the specified partition moves are active." in kafka.tool(tool, *named, "--cancel").out


def test_leader_election(cluster: BrokerProcess | KafkaProcess) -> None:
    create(cluster, "tools-elected")
    address = ("--bootstrap-server", cluster.bootstrap)
    partition = ("--topic", "tools-elected", "--partition", "0")
    for kind in ("preferred", "unclean"):
        out = kafka.tool("LeaderElectionCommand", *address, "--election-type", kind, *partition).out
        assert "Valid replica already elected for partitions tools-elected-0" in out
    kafka.tool("LeaderElectionCommand", *address, "--election-type", "preferred", "--all-topic-partitions")


def test_metadata_quorum(cluster: BrokerProcess | KafkaProcess) -> None:
    address = ("--bootstrap-server", cluster.bootstrap)
    status = kafka.tool("MetadataQuorumCommand", *address, "describe", "--status").out
    assert "LeaderId:               1" in status
    assert '"id": 1' in status
    rows = kafka.tool("MetadataQuorumCommand", *address, "describe", "--replication").out.splitlines()
    assert rows[1].split()[0] == "1"
    assert rows[1].split()[-1] == "Leader"


def test_features(cluster: BrokerProcess | KafkaProcess) -> None:
    address = ("--bootstrap-server", cluster.bootstrap)
    kafka.tool("FeatureCommand", *address, "describe")
    with pytest.raises(AssertionError, match=r"does not support this feature|Unknown feature|not supported"):
        kafka.tool("FeatureCommand", *address, "upgrade", "--feature", "unknown=1")


def test_unregister(cluster: BrokerProcess | KafkaProcess) -> None:
    address = ("--bootstrap-server", cluster.bootstrap)
    with pytest.raises(AssertionError, match="Broker ID 77 is not currently registered"):
        kafka.tool("ClusterTool", "unregister", *address, "--id", "77")


def test_describe_producers(cluster: BrokerProcess | KafkaProcess) -> None:
    kafka.program("Produce", cluster.bootstrap, "tools-producers", "10")
    address = ("--bootstrap-server", cluster.bootstrap)
    out = kafka.tool(
        "TransactionsCommand",
        *address,
        "describe-producers",
        "--topic",
        "tools-producers",
        "--partition",
        "0",
    ).out
    header, *rows = out.splitlines()
    assert header.split()[:2] == ["ProducerId", "ProducerEpoch"]
    assert len(rows) <= 1
